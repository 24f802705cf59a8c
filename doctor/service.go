package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// cutLast cuts at the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	at := strings.LastIndex(s, separator)
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+len(separator):], true
}

const (
	fetchTimeout = 10 * time.Second
	// maxFetched bounds metrics and documents that are read.
	maxFetched = 16 << 20
)

func (p *patient) noService() []Finding {
	if p.Service != "" {
		return nil
	}
	return skipped("give --metadata URL, with --token-file and --ca-file", "no metadata service is named")
}

// fetch reads a URL.
func (p *patient) fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxFetched))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &answered{resp.StatusCode, oneLine(string(text))}
	}
	return text, err
}

// answered is an answer that is none.
type answered struct {
	code int
	text string
}

func (a *answered) Error() string { return fmt.Sprintf("it answers %d: %s", a.code, a.text) }

func (p *patient) serviceClock(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Service+"/v1/projects/"+p.Project+"/policy", nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := p.HTTP.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = resp.Body.Close() }() // whatever it answers
	there, _ := http.ParseTime(resp.Header.Get("Date"))
	return there, nil
}

func checkMetadata(ctx context.Context, p *patient) []Finding {
	if f := p.noService(); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	_, err := adminclient.New(p.Service, p.HTTP).Get(ctx, "projects/"+p.Project+"/policy")
	var verification *tls.CertificateVerificationError
	switch {
	case err == nil:
		return []Finding{ok("the metadata service %s answers, and tells the policy of project %s", p.Service, p.Project)}
	case errors.As(err, &verification):
		return []Finding{problem("give --ca-file the roots that it is issued by: kubectl get configmap "+p.Name+"-ca -n "+p.Namespace+" -o 'jsonpath={.data.ca\\.crt}'",
			"the metadata service %s serves a certificate that cannot be verified: %v", p.Service, verification.Err)}
	case adminclient.StatusOf(err) == "UNAUTHENTICATED":
		return []Finding{problem("kubectl create token ACCOUNT -n "+p.Namespace+" --audience gatehouse > token, and --token-file token; or what else the section identity of its configuration accepts",
			"the metadata service %s does not know who asks: %v", p.Service, err)}
	case adminclient.StatusOf(err) == "PERMISSION_DENIED":
		return []Finding{problem("add the rule that it names to identity.rules", "the metadata service %s knows who asks, and does not tell: %v", p.Service, err)}
	case adminclient.StatusOf(err) != "":
		return []Finding{problem("name another project with --project", "the metadata service %s: %v", p.Service, err)}
	}
	return []Finding{problem("see that it runs, and that this is its address: kubectl get statefulset,endpointslices -n "+p.Namespace, "the metadata service %s does not answer: %v", p.Service, err)}
}

// checkAttestors looks at the policy that is stored, with the attestors beside it.
func checkAttestors(ctx context.Context, p *patient) []Finding {
	if f := p.noService(); f != nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	client := adminclient.New(p.Service, p.HTTP)
	policy, err := client.Get(ctx, "projects/"+p.Project+"/policy")
	if err != nil {
		return skipped("", "the policy could not be read (see metadata)")
	}
	attestors, err := client.List(ctx, "projects/"+p.Project+"/attestors", "attestors")
	if err != nil {
		return []Finding{unknown("give whoever asks the role binaryauthorization.attestorsViewer", "the attestors of project %s could not be read: %v", p.Project, err)}
	}
	texts := make([]string, len(attestors))
	var found []Finding
	for n, a := range attestors {
		texts[n] = string(a)
		if f := p.note(ctx, a); f != nil {
			found = append(found, *f)
		}
	}
	files := []bundle.File{{Name: "policy", Data: policy}, {Name: "attestors", Data: []byte(`{"attestors":[` + strings.Join(texts, ",") + `]}`)}}
	var more []Finding
	for _, d := range bundle.Lint(files, p.Now()) {
		mend := "gatehouse policy push, or an attestor with keys: docs/policy-api.md"
		if d.Severity == document.Error {
			more = append(more, problem(mend, "%s", d.Message))
		} else {
			more = append(more, warning(mend, "%s", d.Message))
		}
	}
	slices.SortStableFunc(more, func(a, b Finding) int { return strings.Compare(string(a.Result), string(b.Result)) })
	if found = append(found, more...); len(found) == 0 {
		found = append(found, ok("%s, with keys and notes, fit the policy of project %s", counted(len(attestors), "attestor"), p.Project))
	}
	return found
}

// note says that the note of an attestor is not there.
func (p *patient) note(ctx context.Context, attestor []byte) *Finding {
	var a struct {
		Name                 string
		UserOwnedGrafeasNote struct{ NoteReference string }
	}
	if err := decodeJSON(attestor, &a); err != nil {
		f := problem("", "an attestor could not be read: %v", err)
		return &f
	}
	note := a.UserOwnedGrafeasNote.NoteReference
	if note == "" {
		f := problem("give it userOwnedGrafeasNote.noteReference", "attestor %s has no note: nothing can attest in its name", a.Name)
		return &f
	}
	_, err := p.fetch(ctx, p.HTTP, p.Service+"/v1/"+note)
	var no *answered
	switch {
	case errors.As(err, &no) && no.code == http.StatusNotFound:
		collection, id, _ := cutLast(note, "/")
		f := warning("nothing, if its attestor makes it when it first attests; else: curl -d '{\"attestation\":{\"hint\":{\"humanReadableName\":\""+id+"\"}}}' "+p.Service+"/v1/"+collection+"?noteId="+id,
			"the note %s of attestor %s is not there: nobody has attested in its name yet", note, a.Name)
		return &f
	case err != nil:
		f := unknown("", "the note %s of attestor %s could not be read: %v", note, a.Name, err)
		return &f
	}
	return nil
}

// Less than so many bytes is little, and less than more bytes if it is little of the disk.
const (
	fewBytes, fewOfMany       = 2 << 30, 10 << 30
	tooFewBytes, tooFewOfMany = 200 << 20, 1 << 30
	fewShare, tooFewShare     = 10, 2 // per cent
)

func checkStore(_ context.Context, p *patient) []Finding {
	if p.Data == "" {
		return skipped("run it beside the server with --data DIR, or --config FILE", "no data folder is named")
	}
	free, size, err := room(p.Data)
	if err != nil {
		return []Finding{unknown("", "the room of %s could not be read: %v", p.Data, err)}
	}
	share := 100.0
	if size > 0 {
		share = 100 * float64(free) / float64(size)
	}
	text := fmt.Sprintf("%s has %.1f GiB free, %.0f %%", p.Data, float64(free)/(1<<30), share)
	mend := "make the volume larger, or move old audit logs away (DATA/audit, DATA/audit-api)"
	switch {
	case free < tooFewBytes || free < tooFewOfMany && share < tooFewShare:
		return []Finding{problem(mend, "%s: soon nothing can be written, and nobody can attest", text)}
	case free < fewBytes || free < fewOfMany && share < fewShare:
		return []Finding{warning(mend, "%s", text)}
	}
	return []Finding{ok("%s", text)}
}
