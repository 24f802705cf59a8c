package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/gatetest/containerd"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A node is a machine with containerd and this image verifier.
type node struct {
	t              *testing.T
	dir, verifiers string
	config         string
	env            []string
}

func newNode(t *testing.T, config string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir()}
	n.verifiers, n.config = filepath.Join(n.dir, "bin"), filepath.Join(n.dir, "image-verifier.yaml")
	if err := os.Mkdir(n.verifiers, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.Args[0], filepath.Join(n.verifiers, verifierName)); err != nil {
		t.Fatal(err)
	}
	n.configure(config)
	n.env = []string{mainVariable + "=1", verifierConfigEnv + "=" + n.config}
	return n
}

func (n *node) configure(text string) {
	n.t.Helper()
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// attestImage signs an image that is in a registry.
func (c *cluster) attestImage(repository string, digest image.Digest) {
	c.t.Helper()
	payload := signature.NewPayload(repository, digest, signature.TypeBinauthz)
	sig, err := c.signer.Sign(c.t.Context(), payload)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"resourceUri": "https://" + repository + "@" + digest.String(), "noteName": "projects/default/notes/vetted",
		"attestation": map[string]any{"serializedPayload": payload, "signatures": []any{map[string]any{"signature": sig, "publicKeyId": c.signer.KeyID()}}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.do("POST", "occurrences", string(body))
}

// pushed pushes an image and returns its digest.
func pushed(t *testing.T, ref, label string) image.Digest {
	t.Helper()
	img, err := registry.Image(registry.ImageOptions{Labels: map[string]string{"of": label}})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	d, err := image.ParseDigest(hash.String())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestContainerdPullsWhatPolicyLetsIn is a node with the real containerd.
func TestContainerdPullsWhatPolicyLetsIn(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts containerd")
	}
	if os.Getuid() != 0 {
		t.Skip("containerd has to be root")
	}
	t.Parallel()
	reg := registry.New(t)
	repository := reg.Host() + "/shop/web"
	good := pushed(t, repository+":good", "good")
	pushed(t, repository+":bad", "bad")
	c := startCluster(t)
	c.attestImage(repository, good)
	gate := c.gate("node")
	gateConfig := filepath.Join(c.dir, "node.yaml")
	if err := os.WriteFile(gateConfig, fmt.Appendf(nil, "role: admission\ndata: %s\nadmission: {feed: {server: %q}}\n", filepath.Join(c.dir, "node"), "http://"+c.server.Metadata), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("gates: [{url: %q, caFile: %q}]\ncopy: {config: %q}\nauditDir: %q\nbreakGlassFile: %q\n",
		"https://"+gate.Admission, gate.CA, gateConfig, filepath.Join(c.dir, "audit"), filepath.Join(c.dir, "break-glass"))
	n := newNode(t, config)
	daemon := containerd.Start(t, containerd.Options{Verifiers: n.verifiers, Env: n.env})
	pulls := func(tag string, want bool, reason string) {
		t.Helper()
		said, err := daemon.Pull(t.Context(), repository+":"+tag)
		if (err == nil) != want || !strings.Contains(said, reason) {
			t.Errorf("pulling %s: %v\n%s", tag, err, said)
		}
	}
	pulls("good", true, "")
	pulls("bad", false, "No attestations found")

	// The gate goes, and its copy stays.
	waitForCopy(t, filepath.Join(c.dir, "node"))
	gate.kill()
	pushed(t, repository+":worse", "worse")
	pulls("worse", false, "by the copy on this node")
	second := pushed(t, reg.Host()+"/shop/again:1", "good") // the digest that is attested, in another place
	if second != good {
		t.Fatalf("%s is not %s", second, good)
	}
	if said, err := daemon.Pull(t.Context(), reg.Host()+"/shop/again:1"); err != nil {
		t.Errorf("attested, by the copy: %v\n%s", err, said)
	}

	// Somebody at the node lets it in.
	if err := os.WriteFile(filepath.Join(c.dir, "break-glass"), []byte(repository+":worse OPS-7, the gate is down\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pulls("worse", true, "")
	var out strings.Builder
	if code := run(t.Context(), []string{"audit", "--data", c.dir, "--output", "json"}, nil, &out, &out); code != exitYes {
		t.Fatalf("audit: %d %s", code, out.String())
	}
	if text := out.String(); strings.Count(text, `"event":"pull"`) != 3 || strings.Count(text, "OPS-7, the gate is down") != 1 {
		t.Errorf("recorded:\n%s", text)
	}
}

// waitForCopy returns when a gate has written its copy.
func waitForCopy(t *testing.T, data string) {
	t.Helper()
	late, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(data, "gate", "evidence.generation")); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the gate writes no copy")
		}
	}
}

// TestVerifiersJudgeByTheContract runs the verifier by containerd's own code.
func TestVerifiersJudgeByTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds containerd")
	}
	t.Parallel()
	program, err := containerd.Build(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	c := startCluster(t)
	gate := c.gate("node")
	c.attest("good")
	gates := fmt.Sprintf("gates: [{url: %q, caFile: %q}]\n", "https://"+gate.Admission, gate.CA)
	away := "gates: [{url: 'https://127.0.0.1:1'}]\n"
	digest := func(name string) string { return image.DigestOf([]byte(name)).String() }
	for what, tc := range map[string]struct {
		config, name, digest string
		ok                   bool
		reason               string
	}{
		"attested":                        {gates, "reg.test/app:1", digest("good"), true, "allowed by policy"},
		"not attested":                    {gates, "reg.test/app:2", digest("bad"), false, "No attestations found"},
		"a name that is none":             {gates, "UPPER/:", digest("good"), false, "name of the image"},
		"a digest that is none":           {gates, "reg.test/app:1", "sha256:12", false, "digest"},
		"the sandbox image":               {away, "registry.k8s.io/pause:3.10", digest("pause"), true, "exempt"},
		"not a name that begins like it":  {away, "registry.k8s.io/pause-evil:1", digest("pause"), false, "nobody could judge"},
		"nobody answers":                  {away, "reg.test/app:1", digest("good"), false, "nobody could judge"},
		"nobody answers, and that is ok":  {away + "onUnavailable: allow\n", "reg.test/app:1", digest("good"), true, "nobody could judge"},
		"the second gate answers":         {"gates: [{url: 'https://127.0.0.1:1'}, " + strings.TrimPrefix(gates, "gates: ["), "reg.test/app:1", digest("good"), true, "allowed by policy"},
		"a CA that is another":            {fmt.Sprintf("gates: [{url: %q}]\n", "https://"+gate.Admission), "reg.test/app:1", digest("good"), false, "nobody could judge"},
		"a configuration that is none":    {"gates: 7", "reg.test/app:1", digest("good"), false, "configuration"},
		"a field that is not known":       {gates + "fallback: allow\n", "reg.test/app:1", digest("good"), false, "fallback"},
		"a configuration without a gate":  {"node: n1\n", "reg.test/app:1", digest("good"), false, "give gates"},
		"a copy that nobody has left":     {away + fmt.Sprintf("copy: {config: %q}\n", writeFile(t, "role: admission\ndata: /nowhere\n")), "reg.test/app:1", digest("good"), false, "no copy"},
		"the configuration of no gate":    {away + fmt.Sprintf("copy: {config: %q}\n", writeFile(t, "data: /nowhere\n")), "reg.test/app:1", digest("good"), false, "role"},
		"a wildcard that would cover all": {gates + "exempt: ['**']\n", "reg.test/app:2", digest("bad"), false, ""},
	} {
		t.Run(what, func(t *testing.T) {
			n := newNode(t, tc.config)
			j, err := containerd.Verify(t.Context(), program, n.verifiers, tc.name, tc.digest, n.env...)
			if err != nil || j.OK != tc.ok || !strings.Contains(j.Reason, tc.reason) {
				t.Errorf("%v %+v", err, j)
			}
		})
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
