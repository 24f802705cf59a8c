package grafeasclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

const (
	// maxAnswer bounds one answer, in bytes: a page of occurrences.
	maxAnswer = maxReceived
	// maxSaid bounds what is told of an answer that is an error.
	maxSaid = 500
	// answerTime bounds one call whose context has no end.
	answerTime = 60 * time.Second
)

// REST is a client of the REST API of Grafeas. It is safe for concurrent use.
type REST struct {
	base *url.URL // ends with the version
	beta bool
	http *http.Client
}

// NewREST returns a client of the API at the URL that hostname and version are when put
// together, as Voucher does: http://grafeas:8080/ and v1beta1/. It is v1beta1 unless the
// URL ends with v1.
func NewREST(hostname, version string) (*REST, error) {
	if hostname == "" {
		return nil, errors.New("grafeasos.hostname is not set: want a URL, such as http://grafeas:8080/")
	}
	u, err := url.Parse(strings.TrimSuffix(hostname, "/") + "/" + strings.Trim(version, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("grafeasos.hostname and version: want together a URL, such as http://grafeas:8080/ and v1beta1/")
	}
	return &REST{base: u, beta: path.Base(u.Path) != "v1", http: &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes the connections that nobody uses.
func (r *REST) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// CreateNote creates a note.
func (r *REST) CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest, _ ...grpc.CallOption) (*grafeas.Note, error) {
	var body proto.Message = req.GetNote()
	if r.beta {
		body = v1beta1.NoteTo(req.GetNote())
	}
	return r.note(ctx, http.MethodPost, req.GetParent()+"/notes", url.Values{"note_id": {req.GetNoteId()}}, body)
}

// GetNote returns a note.
func (r *REST) GetNote(ctx context.Context, req *grafeas.GetNoteRequest, _ ...grpc.CallOption) (*grafeas.Note, error) {
	return r.note(ctx, http.MethodGet, req.GetName(), nil, nil)
}

func (r *REST) note(ctx context.Context, method, at string, query url.Values, body proto.Message) (*grafeas.Note, error) {
	if r.beta {
		var n beta.Note
		err := r.call(ctx, method, at, query, body, &n)
		return v1beta1.NoteFrom(&n), err
	}
	var n grafeas.Note
	err := r.call(ctx, method, at, query, body, &n)
	return &n, err
}

// CreateOccurrence creates an occurrence.
func (r *REST) CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest, _ ...grpc.CallOption) (*grafeas.Occurrence, error) {
	at := req.GetParent() + "/occurrences"
	if r.beta {
		var o beta.Occurrence
		err := r.call(ctx, http.MethodPost, at, nil, v1beta1.OccurrenceTo(req.GetOccurrence()), &o)
		return v1beta1.OccurrenceFrom(&o), err
	}
	var o grafeas.Occurrence
	err := r.call(ctx, http.MethodPost, at, nil, req.GetOccurrence(), &o)
	return &o, err
}

// ListOccurrences lists occurrences of a project.
func (r *REST) ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListOccurrencesResponse, error) {
	occurrences, next, err := r.list(ctx, req.GetParent()+"/occurrences", req.GetFilter(), req.GetPageToken(), req.GetPageSize())
	return &grafeas.ListOccurrencesResponse{Occurrences: occurrences, NextPageToken: next}, err
}

// ListNoteOccurrences lists occurrences of a note.
func (r *REST) ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListNoteOccurrencesResponse, error) {
	occurrences, next, err := r.list(ctx, req.GetName()+"/occurrences", req.GetFilter(), req.GetPageToken(), req.GetPageSize())
	return &grafeas.ListNoteOccurrencesResponse{Occurrences: occurrences, NextPageToken: next}, err
}

// list reads a page. Servers that do not know filters, or not this one, are asked
// without: whoever lists compares what comes back in any case.
func (r *REST) list(ctx context.Context, at, filter, token string, size int32) ([]*grafeas.Occurrence, string, error) {
	query := url.Values{"filter": {filter}, "page_size": {strconv.Itoa(int(size))}}
	if token != "" {
		query.Set("page_token", token)
	}
	occurrences, next, err := r.page(ctx, at, query)
	if code := status.Code(err); filter != "" && (code == codes.InvalidArgument || code == codes.Unimplemented) {
		query.Del("filter")
		return r.page(ctx, at, query)
	}
	return occurrences, next, err
}

func (r *REST) page(ctx context.Context, at string, query url.Values) ([]*grafeas.Occurrence, string, error) {
	if !r.beta {
		var page grafeas.ListOccurrencesResponse
		err := r.call(ctx, http.MethodGet, at, query, nil, &page)
		return page.GetOccurrences(), page.GetNextPageToken(), err
	}
	var page beta.ListOccurrencesResponse
	if err := r.call(ctx, http.MethodGet, at, query, nil, &page); err != nil {
		return nil, "", err
	}
	occurrences := make([]*grafeas.Occurrence, 0, len(page.GetOccurrences()))
	for _, o := range page.GetOccurrences() {
		occurrences = append(occurrences, v1beta1.OccurrenceFrom(o))
	}
	return occurrences, page.GetNextPageToken(), nil
}

// call asks the server. Its errors are those of gRPC.
func (r *REST) call(ctx context.Context, method, at string, query url.Values, body, into proto.Message) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerTime)
		defer cancel()
	}
	var content io.Reader
	if body != nil {
		text, err := protojson.Marshal(body)
		if err != nil {
			return status.Errorf(codes.Internal, "encoding what is sent to the metadata server: %v", err)
		}
		content = bytes.NewReader(text)
	}
	u := r.base.JoinPath(at)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return status.Errorf(codes.Internal, "asking the metadata server: %v", err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return unreachable(ctx, u, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return unreachable(ctx, u, err)
	case len(text) > maxAnswer:
		return status.Errorf(codes.ResourceExhausted, "the metadata server at %s answers more than %d bytes", u.Host, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return refused(u, resp.StatusCode, text)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, into); err != nil {
		return status.Errorf(codes.Internal, "the answer of the metadata server at %s is not Grafeas: %v", u.Host, err)
	}
	return nil
}

func unreachable(ctx context.Context, u *url.URL, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the rest has been said
	}
	code := codes.Unavailable
	if ctx.Err() != nil {
		code = status.FromContextError(ctx.Err()).Code()
	}
	return status.Errorf(code, "the metadata server at %s does not answer: %v", u.Host, err)
}

// refused reads an error, in the form of Google's services or that of gRPC's gateway.
func refused(u *url.URL, httpStatus int, text []byte) error {
	var google struct {
		Error struct {
			Message string `json:"message"`
			Status  string `json:"status"`
		} `json:"error"`
	}
	var gateway struct {
		Message string     `json:"message"`
		Code    codes.Code `json:"code"`
	}
	code, said := codeOf(httpStatus), strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " ")
	switch {
	case json.Unmarshal(text, &google) == nil && google.Error.Message != "":
		said = google.Error.Message
		_ = code.UnmarshalJSON([]byte(strconv.Quote(google.Error.Status))) // stays what it is
	case json.Unmarshal(text, &gateway) == nil && gateway.Message != "":
		said = gateway.Message
		if gateway.Code != codes.OK {
			code = gateway.Code
		}
	}
	if len(said) > maxSaid {
		said = said[:maxSaid] + "…"
	}
	return status.Error(code, fmt.Sprintf("the metadata server at %s answered %d: %s", u.Host, httpStatus, said))
}

// codeOf is the code that gRPC's gateway makes this status from.
func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.AlreadyExists
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codes.Unavailable
	case http.StatusInternalServerError:
		return codes.Internal
	}
	return codes.Unknown
}
