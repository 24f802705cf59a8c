package sink_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// idsOf are those of the lines of a text, which all have to be whole records.
func idsOf(t *testing.T, text []byte) []string {
	t.Helper()
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Errorf("the last line has no end: %q", text)
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		var r struct {
			Log, ID string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Log == "" || r.ID == "" {
			t.Errorf("line %q: log %q, id %q, error %v", line, r.Log, r.ID, err)
		}
		ids = append(ids, r.ID)
	}
	return ids
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEachRecordIsOneLineOfTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	s := open(t, sink.Config{File: &sink.File{Path: path}}, options(nil))
	send(t, s, nastyEntries(t)...)
	send(t, s, decision(t, "4", "web", ""))
	text := read(t, path)
	if diff := cmp.Diff([]string{"1", "2", "3", "4"}, idsOf(t, text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if bytes.ContainsAny(text, "\x1b\x7f\r\u2028\u202e\u009b") {
		t.Errorf("a terminal would obey %q", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}

func TestATornLineIsNotJoinedByTheNext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte("{\"log\":\"decisions\",\"id\":\"1\"}\n{\"log\":\"deci"), 0o600); err != nil {
		t.Fatal(err)
	}
	send(t, open(t, sink.Config{File: &sink.File{Path: path}}, options(nil)), decision(t, "2", "web", ""))
	lines := strings.Split(string(read(t, path)), "\n")
	if len(lines) != 4 || lines[1] != `{"log":"deci` || !strings.HasPrefix(lines[2], `{"log":"decisions","id":"2"`) {
		t.Errorf("lines %q", lines)
	}
}

func TestAFileThatIsFullIsPutAside(t *testing.T) {
	t.Parallel()
	for _, compressed := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "compressed"}[compressed], func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "audit.jsonl")
			other := path + "-notes" // of somebody else
			if err := os.WriteFile(other, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			now, keep := when, 2
			o := options(nil)
			o.Now = func() time.Time { now = now.Add(time.Second); return now }
			s := open(t, sink.Config{File: &sink.File{Path: path, MaxSize: 4096, Keep: &keep, Compress: compressed}}, o)
			for i := range 40 {
				send(t, s, decision(t, string(rune('A'+i)), "web", ""))
			}
			full, err := filepath.Glob(path + "-2*")
			if err != nil || len(full) != 2 {
				t.Fatalf("full files %v, error %v", full, err)
			}
			slices.Sort(full)
			var ids []string
			for _, name := range append(full, path) {
				text := read(t, name)
				if name != path && compressed {
					unzip, err := gzip.NewReader(bytes.NewReader(text))
					if err != nil {
						t.Fatal(err)
					}
					if text, err = io.ReadAll(unzip); err != nil {
						t.Fatal(err)
					}
				}
				if len(text) > 4096+1024 {
					t.Errorf("%s has %d bytes", name, len(text))
				}
				ids = append(ids, idsOf(t, text)...)
			}
			if len(ids) < 5 || !slices.IsSorted(ids) || ids[len(ids)-1] != string(rune('A'+39)) {
				t.Errorf("ids %q", ids)
			}
			for i := 1; i < len(ids); i++ {
				if ids[i][0] != ids[i-1][0]+1 {
					t.Errorf("between %q and %q something is missing, or there twice", ids[i-1], ids[i])
				}
			}
			if left, _ := os.ReadDir(dir); len(left) != 4 {
				t.Errorf("files %v", left)
			}
		})
	}
}

func TestAFileThatIsOldIsPutAside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	now := when
	o := options(nil)
	o.Now = func() time.Time { return now }
	c := sink.Config{File: &sink.File{Path: path, MaxAge: time.Hour}}
	s := open(t, c, o)
	send(t, s, decision(t, "1", "web", ""))
	now = when.Add(59 * time.Minute)
	send(t, s, decision(t, "2", "web", ""))
	now = when.Add(61 * time.Minute)
	send(t, open(t, c, o), decision(t, "3", "web", "")) // as after a restart: its age is that of its first record
	if diff := cmp.Diff([]string{"3"}, idsOf(t, read(t, path))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFileThatIsRenamedIsBegunAnew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	s := open(t, sink.Config{File: &sink.File{Path: path}}, options(nil))
	send(t, s, decision(t, "1", "web", ""))
	if err := os.Rename(path, path+".1"); err != nil { // as logrotate does
		t.Fatal(err)
	}
	send(t, s, decision(t, "2", "web", ""))
	if diff := cmp.Diff([][]string{{"1"}, {"2"}}, [][]string{idsOf(t, read(t, path+".1")), idsOf(t, read(t, path))}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFileThatCannotBeWrittenIsAnErrorUntilItCan(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, "audit.jsonl")
	s := open(t, sink.Config{File: &sink.File{Path: path}}, options(nil))
	if err := s.Send(t.Context(), nastyEntries(t)); err == nil {
		t.Fatal("a file in no folder was written")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	send(t, s, decision(t, "1", "web", ""))
	if diff := cmp.Diff([]string{"1"}, idsOf(t, read(t, path))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStandardOutputGetsLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := open(t, sink.Config{File: &sink.File{Path: "-"}}, options(&out))
	send(t, s, decision(t, "1", "web", ""), decision(t, "2", "web", ""))
	if diff := cmp.Diff([]string{"1", "2"}, idsOf(t, out.Bytes())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhoDoesNotReadStandardOutputHoldsUpNobody(t *testing.T) {
	t.Parallel()
	in, out := io.Pipe()
	s := open(t, sink.Config{File: &sink.File{Path: "-"}}, options(out))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ctx, nastyEntries(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	got := make(chan []byte)
	go func() {
		text, _ := io.ReadAll(in)
		got <- text
	}()
	send(t, s, decision(t, "4", "web", ""))
	_ = out.Close()
	if diff := cmp.Diff([]string{"1", "2", "3", "4"}, idsOf(t, <-got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// An entry of Cloud Logging as far as filters in Google's documentation ask for it.
type googleEntry struct {
	InsertID string
	LogName  string
	Resource struct{ Type string }
	Severity string
	Labels   map[string]string
	Proto    struct {
		Method   string            `json:"methodName"`
		Name     string            `json:"resourceName"`
		Caller   map[string]string `json:"authenticationInfo"`
		Response struct{ Status, Reason, Message string }
	} `json:"protoPayload"`
}

func TestGoogleQueriesFindWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := open(t, sink.Config{File: &sink.File{Path: "-", Format: sink.Google}}, options(&out))
	send(t, s, decision(t, "denied", "a", ""), decision(t, "dry", "b", decide.DryRun), decision(t, "broken", "c", decide.BreakGlass), decision(t, "open", "d", decide.FailOpen))
	const webhook = "imagepolicywebhook.image-policy.k8s.io/"
	found := map[string][]string{}
	for line := range strings.Lines(out.String()) {
		var e googleEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Resource.Type != "k8s_cluster" || !strings.Contains(e.LogName, "cloudaudit.googleapis.com%2Factivity") || e.Proto.Method != "io.k8s.core.v1.pods.create" ||
			e.Proto.Caller["principalEmail"] != "alice" || !strings.HasPrefix(e.Proto.Name, "core/v1/namespaces/shop/pods/") {
			t.Errorf("no query finds %s", line)
		}
		for query, is := range map[string]bool{
			"dry run":     e.Labels[webhook+"dry-run"] == "true",
			"break-glass": e.Labels[webhook+"break-glass"] == "true",
			"failed open": e.Labels[webhook+"failed-open"] == "true" && e.Labels["image-policy.k8s.io/failed-open"] == "true",
			"denied":      e.Proto.Response.Status == "Failure" && e.Proto.Response.Reason == "VIOLATES_POLICY",
			"overridden": e.Labels[webhook+"overridden-verification-result"] ==
				"'registry.example/web:1' : Image registry.example/web:1 denied by attestor projects/shop/attestors/qa: No attestations found\n",
		} {
			if is {
				found[query] = append(found[query], e.InsertID)
			}
		}
	}
	if diff := cmp.Diff(map[string][]string{
		"dry run": {"dry"}, "break-glass": {"broken"}, "failed open": {"open"}, "denied": {"denied"}, "overridden": {"dry", "broken", "open"},
	}, found); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, out.String())
	}
}

func TestGoogleLinesStayLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := open(t, sink.Config{File: &sink.File{Path: "-", Format: sink.Google}}, options(&out))
	send(t, s, nastyEntries(t)[:1]...)
	if n := strings.Count(out.String(), "\n"); n != 1 || strings.ContainsAny(out.String(), "\x1b\x7f\r\u2028\u202e\u009b") {
		t.Errorf("%d lines: %q", n, out.String())
	}
	if !json.Valid(out.Bytes()) {
		t.Errorf("no JSON: %s", out.String())
	}
}
