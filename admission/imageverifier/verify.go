// Package imageverifier is a node's door: containerd runs it for each image that it is
// about to pull, and it asks a gate, or decides by the copy that a gate has left on the
// node's disk. So static pods and pulls that no API server knows of obey the same policy.
//
// The contract is that of containerd's bindir image verifiers: flags -name, -digest,
// -stdin-media-type and -operation, a descriptor on standard input, the reason on
// standard output, and status 0 for an image that may be pulled. Whatever goes wrong is
// another status.
package imageverifier

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// maxInput bounds what containerd writes: a descriptor, and some annotations.
	maxInput = 1 << 20
	// maxAnswer bounds what a gate answers.
	maxAnswer = 1 << 20
	// maxBreakGlass bounds the file of images that are pulled against policy.
	maxBreakGlass = 1 << 20

	descriptorType = "application/vnd.oci.descriptor.v1+json"
	inputType      = "application/vnd.containerd.image-verifier.input.v1+json"

	// The annotations by which containerd says for which pod an image is run.
	namespaceKey = "io.kubernetes.cri.sandbox-namespace"
	podKey       = "io.kubernetes.cri.sandbox-name"
)

// A Local decides without a gate.
type Local interface {
	// DecidePull judges by a copy that was finished at Written.
	DecidePull(ctx context.Context, p admission.Pull, now time.Time) (decide.Decision, error)
}

// A Verifier judges what a node is about to pull.
type Verifier struct {
	Config
	// OpenCopy reads the copy that the configuration names, and returns when it was finished.
	OpenCopy func(ctx context.Context, config string) (Local, time.Time, error)
	// Record keeps what was decided without a gate, and what was said of it, if there is a
	// place for it.
	Record func(p admission.Pull, d *decide.Decision, said string) error
	Now    func() time.Time
	// Log is told what people may want to know and containerd has no place for.
	Log func(format string, args ...any)
}

// A Judgement is what containerd is told.
type Judgement struct {
	OK     bool
	Reason string
}

// Verify judges a pull. It always comes to a judgement.
func (v *Verifier) Verify(ctx context.Context, p admission.Pull) Judgement {
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	p.Node, p.Strict = v.Node, v.UnknownNamespace == Nowhere
	if why, ok := v.exempt(p.Name); ok {
		return Judgement{true, why}
	}
	var away []string
	for _, g := range v.Gates {
		answer, err := ask(ctx, g, p)
		if err == nil {
			return v.unlessBroken(p, Judgement{answer.Allowed, answer.Reason}, nil)
		}
		away = append(away, fmt.Sprintf("%s: %v", g.URL, err))
	}
	d, err := v.byCopy(ctx, p)
	if err == nil {
		answer := admission.AnswerPull(d)
		return v.unlessBroken(p, Judgement{answer.Allowed, "by the copy on this node, since no gate answered: " + answer.Reason}, &d)
	}
	away = append(away, err.Error())
	j := Judgement{v.OnUnavailable == Allow, "nobody could judge the image: " + strings.Join(away, "; ")}
	if j.OK {
		v.Log("onUnavailable: allow lets in %q: %s", p.Name, j.Reason)
	}
	return v.unlessBroken(p, j, &decide.Decision{Verdict: decide.INDETERMINATE, Allowed: j.OK})
}

// exempt reports whether a pattern lets the image in unseen.
func (v *Verifier) exempt(name string) (why string, ok bool) {
	for _, text := range v.Exempt {
		if p, err := image.ParseBinauthzPattern(text); err == nil && p.Match(name) {
			return "exempt on this node by the pattern " + text, true
		}
	}
	return "", false
}

// unlessBroken lets in what somebody at the node has let in, and records what no gate has.
func (v *Verifier) unlessBroken(p admission.Pull, j Judgement, d *decide.Decision) Judgement {
	if !j.OK {
		why, err := v.broken(p)
		if err != nil {
			v.Log("reading %s: %v", v.BreakGlassFile, err)
		}
		if why != "" {
			said := j.Reason
			j = Judgement{true, "break-glass on this node: " + why}
			if d == nil {
				d = &decide.Decision{}
			}
			d.Allowed, d.Override, d.Justification = true, decide.BreakGlass, why
			v.Log("break-glass on this node lets in %q (%s): %s; policy said: %s", p.Name, p.Digest, why, said)
			if err := v.Record(p, d, said); err != nil {
				return Judgement{false, "break-glass must be recorded before it counts, and that failed: " + err.Error()}
			}
			return j
		}
	}
	if d == nil {
		return j
	}
	if err := v.Record(p, d, j.Reason); err != nil {
		v.Log("recording what was decided about %q: %v", p.Name, err)
	}
	return j
}

// broken returns why somebody has let in the image on this node; "" if nobody has.
func (v *Verifier) broken(p admission.Pull) (why string, err error) {
	if v.BreakGlassFile == "" {
		return "", nil
	}
	info, err := os.Stat(v.BreakGlassFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return "", fmt.Errorf("it has mode %#o, so that others than its owner can write it: chmod 644", mode)
	}
	text, err := bounded.ReadFile(v.BreakGlassFile, maxBreakGlass)
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		what, reason, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if strings.HasPrefix(what, "#") || what != p.Name && what != p.Digest {
			continue
		}
		if reason = strings.TrimSpace(reason); reason == "" {
			return "", fmt.Errorf("the line of %s gives no reason: write one behind it", what)
		}
		return reason, nil
	}
	return "", nil
}

// byCopy decides by the copy on this node's disk.
func (v *Verifier) byCopy(ctx context.Context, p admission.Pull) (decide.Decision, error) {
	if v.Copy.Config == "" {
		return decide.Decision{}, errors.New("no copy is configured")
	}
	local, written, err := v.OpenCopy(ctx, v.Copy.Config)
	if err != nil {
		return decide.Decision{}, err
	}
	now := v.Now()
	const leeway = time.Hour // of clocks
	if age := now.Sub(written); age > v.Copy.MaxAge || age < -leeway {
		return decide.Decision{}, fmt.Errorf("the copy is of %s, and may be %s old", written.UTC().Format(time.RFC3339), v.Copy.MaxAge)
	}
	return local.DecidePull(ctx, p, now)
}

// ask asks a gate.
func ask(ctx context.Context, g Gate, p admission.Pull) (admission.PullAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: g.ServerName}
	if g.CAFile != "" {
		pem, err := bounded.ReadFile(g.CAFile, maxAnswer)
		if err != nil {
			return admission.PullAnswer{}, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return admission.PullAnswer{}, fmt.Errorf("%s has no certificate", g.CAFile)
		}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true} // no proxy: it is near
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	body, err := json.Marshal(p)
	if err != nil {
		return admission.PullAnswer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(g.URL, "/")+"/image-pull?timeout="+g.Timeout.String(), bytes.NewReader(body))
	if err != nil {
		return admission.PullAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return admission.PullAnswer{}, err
	}
	defer func() { _ = res.Body.Close() }() // read already
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return admission.PullAnswer{}, err
	}
	if res.StatusCode != http.StatusOK {
		return admission.PullAnswer{}, fmt.Errorf("it answers %s: %.200q", res.Status, text)
	}
	var answer admission.PullAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return admission.PullAnswer{}, fmt.Errorf("its answer is not understood: %w", err)
	}
	if answer.Reason == "" {
		return admission.PullAnswer{}, errors.New("its answer has no reason, and so is none of a gate's")
	}
	return answer, nil
}

// ReadInput understands what containerd writes on standard input of a media type, and
// notes in p for which pod the image is. A type that is not known tells nothing more.
func ReadInput(r io.Reader, mediaType string, p *admission.Pull) error {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return fmt.Errorf("reading standard input: %w", err)
	}
	if len(text) > maxInput {
		return fmt.Errorf("standard input has more than %d bytes", maxInput)
	}
	type descriptor struct {
		Digest string `json:"digest"`
	}
	var in struct {
		descriptor
		Descriptor  *descriptor       `json:"descriptor"`
		Annotations map[string]string `json:"annotations"`
	}
	said := &in.descriptor
	if mediaType != descriptorType && mediaType != inputType {
		return nil
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return fmt.Errorf("standard input is no %s: %w", mediaType, err)
	}
	if mediaType == inputType {
		p.Namespace, p.Pod = in.Annotations[namespaceKey], in.Annotations[podKey]
		if said = in.Descriptor; said == nil {
			return nil // it was said on the command line
		}
	}
	if said.Digest != p.Digest {
		return fmt.Errorf("standard input is about digest %.100q, and -digest about %.100q", said.Digest, p.Digest)
	}
	return nil
}
