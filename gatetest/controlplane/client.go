package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
)

// responseBound is more than any answer that a test should ask for.
const responseBound = 64 << 20

// Kubeconfig returns the path of a kubeconfig of an administrator, a member of
// the group system:masters.
func (c *ControlPlane) Kubeconfig() string { return c.path("admin.kubeconfig") }

// Dir returns the folder of state and logs: etcd.log, kube-apiserver.log and so on.
func (c *ControlPlane) Dir() string { return c.dir }

// AuditLog returns the path of the API server's audit log: a line of JSON for
// each request about pods, at level Metadata, with the audit annotations of the
// admission webhooks.
func (c *ControlPlane) AuditLog() string { return c.path("audit.log") }

// URL returns the address of the API server, without a slash at its end.
func (c *ControlPlane) URL() string { return c.url }

// Client returns a client that trusts the API server and is an administrator.
func (c *ControlPlane) Client() *http.Client { return c.client }

// Kubectl runs kubectl as an administrator and returns what it printed. A
// failure is an *exec.ExitError, and stderr says why. The caller's own
// kubeconfig and preferences are not read; plugins are found along PATH.
func (c *ControlPlane) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"kubectl"}, args...)...)
	// By environment and not by flags, which must not precede a plugin's name.
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+c.Kubeconfig(),
		"KUBECACHEDIR="+c.path("kubectl-cache"),
		"KUBERC=off",
	)
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errs.String(), fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), nil
}

// Do sends a request to the API server as an administrator. The path begins
// with a slash and may have a query. The body is sent as JSON: []byte and
// [json.RawMessage] as they are, nil not at all, and other values encoded. A
// status that says failure is not an error of Do.
func (c *ControlPlane) Do(ctx context.Context, method, path string, body any) (status int, response []byte, err error) {
	return c.do(ctx, method, path, "application/json", body)
}

func (c *ControlPlane) do(ctx context.Context, method, path, contentType string, body any) (status int, response []byte, err error) {
	fail := func(err error) (int, []byte, error) {
		return 0, nil, fmt.Errorf("asking the API server to %s %q: %w", method, path, err)
	}
	content, err := encode(body)
	if err != nil {
		return fail(err)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(content))
	if err != nil {
		return fail(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = answer.Body.Close() }()
	response, err = io.ReadAll(io.LimitReader(answer.Body, responseBound+1))
	if err != nil {
		return fail(err)
	}
	if len(response) > responseBound {
		return fail(fmt.Errorf("the answer has more than %d bytes", responseBound))
	}
	return answer.StatusCode, response, nil
}

func encode(body any) ([]byte, error) {
	switch body := body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return body, nil
	case json.RawMessage:
		return body, nil
	default:
		return json.Marshal(body)
	}
}
