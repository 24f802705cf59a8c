package sink_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// nasty is what a stranger might put into a name, to become another record.
const nasty = "x\"]\\\n<13>1 - evil - - - -\r\x1b[31m{\"log\":\"decisions\"}\u2028\u202e\u009b\x7f\xff]='é𝒳"

var when = time.Date(2026, 11, 30, 10, 11, 12, 131415000, time.UTC)

func options(out io.Writer) sink.Options {
	return sink.Options{
		Place:  sink.Place{Project: "shop", Cluster: "us-east1-b.prod", Host: "gate-1.example"},
		Stdout: out, Now: func() time.Time { return when }, Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t testing.TB, c sink.Config, o sink.Options) deliver.Sink {
	t.Helper()
	if c.Name == "" {
		c.Name = "it"
	}
	if err := sink.Validate([]sink.Config{c}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func send(t testing.TB, s deliver.Sink, entries ...deliver.Entry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Send(ctx, entries); err != nil {
		t.Fatal(err)
	}
}

func entryOf(t testing.TB, log deliver.Log, record any) deliver.Entry {
	t.Helper()
	line, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	e, err := deliver.Parse(log, line)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// decision is a record about a pod, denied unless override says what let it in.
func decision(t testing.TB, id, name string, override decide.Override) deliver.Entry {
	t.Helper()
	d := decide.Decision{
		Verdict: decide.DENY, Summary: "not attested", Allowed: override != "", Override: override, Time: when,
		Deciding: decide.Deciding{Policy: "shop", Rule: "default", PolicyVersion: "abc"},
		Images: []decide.ImageDecision{{Image: "registry.example/web:1", Verdict: decide.DENY, Reasons: []decide.Reason{{
			Verdict: decide.DENY, Code: decide.CodeNotAttested, Attestor: "projects/shop/attestors/qa",
			Message: "Image registry.example/web:1 denied by attestor projects/shop/attestors/qa: No attestations found",
		}}}},
	}
	if override == decide.BreakGlass {
		d.BreakGlass = "label image-policy.k8s.io/break-glass"
	}
	return entryOf(t, deliver.Decisions, audit.Record{
		ID: id, Time: when, Event: "admission", Operation: "CREATE", Resource: "pods", Namespace: "shop", Name: name, User: "alice", Decision: &d,
	})
}

func nastyEntries(t testing.TB) []deliver.Entry {
	t.Helper()
	e := decision(t, "1", nasty, decide.BreakGlass)
	r := *e.Decision
	r.User, r.Namespace, r.Resource, r.Operation, r.Error = nasty, nasty, nasty, nasty, nasty
	r.Decision.Summary, r.Decision.BreakGlass, r.Decision.Images[0].Image, r.Decision.Images[0].Reasons[0].Message = nasty, nasty, nasty, nasty
	return []deliver.Entry{
		entryOf(t, deliver.Decisions, r),
		entryOf(t, deliver.Calls, audit.Call{ID: "2", Time: when, Method: nasty, Caller: nasty, Resource: nasty, Code: nasty, Error: nasty, Origin: nasty}),
		entryOf(t, deliver.Runs, audit.Run{ID: "3", Time: when, Method: nasty, Caller: nasty, Image: nasty, Name: nasty, Error: nasty, Origin: nasty}),
	}
}

func TestWhatIsWrongWithAConfigurationIsSaid(t *testing.T) {
	t.Parallel()
	file := &sink.File{Path: "/x"}
	for want, c := range map[string]sink.Config{
		"exactly one of":                {},
		"want 1 to 40":                  {Name: "No", File: file},
		"want some of":                  {Records: []deliver.Log{"all"}, File: file},
		"want ALLOW, DENY":              {Verdicts: []string{"deny"}, File: file},
		"namespaces":                    {Namespaces: []string{"["}, File: file},
		"select decisions":              {OnlyBreakGlass: true, Records: []deliver.Log{deliver.Calls}, File: file},
		`want "beginning"`:              {From: "yesterday", File: file},
		"timeout":                       {Timeout: time.Hour, File: file},
		`want "gatehouse" or "google"`:  {File: &sink.File{Path: "/x", Format: "gcp"}},
		"has decisions only":            {Records: []deliver.Log{deliver.Runs}, File: &sink.File{Path: "/x", Format: sink.Google}},
		"standard output is no file":    {File: &sink.File{Path: "-", Compress: true}},
		"where to":                      {File: &sink.File{}},
		"maxSize":                       {File: &sink.File{Path: "/x", MaxSize: 1}},
		"want https://":                 {OTLP: &sink.OTLP{Endpoint: "collector:4317"}},
		"insecureHTTP":                  {OTLP: &sink.OTLP{Endpoint: "http://collector:4317"}},
		"password":                      {OTLP: &sink.OTLP{Endpoint: "https://a:b@collector:4317"}},
		"has no path":                   {OTLP: &sink.OTLP{Endpoint: "https://collector/v1/logs"}},
		"protocol":                      {OTLP: &sink.OTLP{Endpoint: "https://collector", Protocol: "http/json"}},
		"give both":                     {OTLP: &sink.OTLP{Endpoint: "https://collector", TLS: sink.TLS{CertFile: "/x"}}},
		"want HOST:PORT":                {Syslog: &sink.Syslog{Address: "siem"}},
		"facility":                      {Syslog: &sink.Syslog{Address: "siem:514", Facility: "local8"}},
		"has no TLS":                    {Syslog: &sink.Syslog{Address: "siem:514", Transport: "udp", TLS: sink.TLS{CAFile: "/x"}}},
		"visible ASCII":                 {Syslog: &sink.Syslog{Address: "siem:514", Hostname: "a b"}},
		"ENTERPRISENUMBER":              {Syslog: &sink.Syslog{Address: "siem:514", SDID: "x]y@1"}},
		"want 480":                      {Syslog: &sink.Syslog{Address: "siem:514", MaxSize: 100}},
		"want \"tls\", \"tcp\" or \"ud": {Syslog: &sink.Syslog{Address: "siem:514", Transport: "unix"}},
		"perMinute":                     {KubernetesEvents: &sink.KubernetesEvents{PerMinute: -1}},
	} {
		if c.Name == "" {
			c.Name = "it"
		}
		if err := sink.Validate([]sink.Config{c}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "audit.sinks") {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	good := sink.Config{Name: "it", File: file}
	if err := sink.Validate([]sink.Config{good, good}); err == nil || !strings.Contains(err.Error(), "two called") {
		t.Errorf("two sinks of one name: %v", err)
	}
	if err := sink.Validate([]sink.Config{good}); err != nil {
		t.Error(err)
	}
}

func TestSinksOfDecisionsGetNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []sink.Config{
		{File: &sink.File{Path: "/x", Format: sink.Google}}, {KubernetesEvents: &sink.KubernetesEvents{}}, {OnlyBreakGlass: true, File: &sink.File{Path: "/x"}},
	} {
		if f := c.Filter(); f.Takes(deliver.Calls) || f.Takes(deliver.Runs) || !f.Takes(deliver.Decisions) {
			t.Errorf("%+v takes others than decisions", c)
		}
	}
}
