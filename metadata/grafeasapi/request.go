package grafeasapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// parameters are the query parameters that would change an answer unnoticed if
// the gateway, which ignores unknown ones, did not know them by their case.
var parameters = [...]string{
	"filter", "pageSize", "page_size", "pageToken", "page_token",
	"noteId", "note_id", "updateMask", "update_mask",
}

// refusal is an error with an HTTP status that its code does not imply.
func refusal(httpStatus int, code codes.Code, format string, args ...any) error {
	return &runtime.HTTPStatusError{HTTPStatus: httpStatus, Err: status.Errorf(code, format, args...)}
}

// takeBody reads the request's body, bounded in size and time, puts it back to
// be read from memory, and checks the parameters in it and in the query.
func (h *rest) takeBody(w http.ResponseWriter, r *http.Request) error {
	if err := checkParameters(r.URL.RawQuery); err != nil {
		return err
	}
	for _, encoding := range r.Header.Values("Content-Encoding") {
		if encoding != "" && !strings.EqualFold(encoding, "identity") {
			return refusal(http.StatusUnsupportedMediaType, codes.InvalidArgument,
				"the request's body has content encoding %q; send it uncompressed", encoding)
		}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	raw, err := h.readBody(w, r)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	// The gateway takes a form's fields for parameters. Some clients call JSON a
	// form, since curl does so by itself.
	isForm := strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/x-www-form-urlencoded")
	if isForm && !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return checkParameters(string(raw))
	}
	return nil
}

// readBody reads the body until the context's deadline. When that passes the
// connection is left with its deadline, so that the server closes it.
func (h *rest) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	deadline, _ := r.Context().Deadline()
	raw, err := bounded.ReadBody(w, r, int64(h.opts.MaxRequestBytes), deadline)
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return nil, refusal(http.StatusRequestEntityTooLarge, codes.ResourceExhausted,
			"the request's body is too large; split it, or raise the server's limit of %d bytes", limit.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return nil, refusal(http.StatusRequestTimeout, codes.DeadlineExceeded,
			"the request's body did not arrive within %v", h.opts.Timeout)
	case err != nil:
		return nil, status.Errorf(codes.InvalidArgument, "reading the request's body: %v", err)
	}
	return raw, nil
}

// checkParameters refuses a parameter that is a known one but for its case. A
// query that does not parse is the gateway's to refuse.
func checkParameters(query string) error {
	given, _ := url.ParseQuery(query) // what of it parses
	for name := range given {
		if known := misspelt(name); known != "" {
			return status.Errorf(codes.InvalidArgument, "there is no parameter %q; write %q", name, known)
		}
	}
	return nil
}

// misspelt returns the parameter that name is in another case, or "".
func misspelt(name string) (known string) {
	for _, p := range parameters {
		if name == p {
			return ""
		}
		if strings.EqualFold(name, p) {
			known = p
		}
	}
	return known
}

// methodsOf returns the methods that a path takes, if it is one of the API's.
func methodsOf(path string) []string {
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		switch path[i:] {
		case ":vulnerabilitySummary":
			return []string{http.MethodGet}
		case ":batchCreate", ":setIamPolicy", ":getIamPolicy", ":testIamPermissions":
			return []string{http.MethodPost}
		}
	}
	_, resource, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/") // without the version
	segments := strings.Split(resource, "/")
	switch {
	case len(segments) == 1: // projects
		return []string{http.MethodGet, http.MethodPost}
	case len(segments) == 2: // projects/P
		return []string{http.MethodGet, http.MethodDelete}
	}
	if segments = segments[2:]; len(segments) > 2 && segments[0] == "locations" {
		segments = segments[2:]
	}
	switch len(segments) {
	case 1:
		return []string{http.MethodGet, http.MethodPost}
	case 2:
		return []string{http.MethodGet, http.MethodPatch, http.MethodDelete}
	}
	return []string{http.MethodGet}
}
