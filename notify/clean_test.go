package notify_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/notify"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                            "plain",
		"  two\r\nlines\t\v ":              "two lines",
		"a\u2028b\u2029c\u0085d":           "a b c d",
		"\x1b[31mred\x1b[0m\a":             "\ufffd[31mred\ufffd[0m\ufffd",
		"\u202edesrever\u2066\u200f":       "\ufffddesrever\ufffd\ufffd",
		"nul\x00 del\x7f csi\u009b31m":     "nul\ufffd del\ufffd csi\ufffd31m",
		"bad \xff utf-8":                   "bad \ufffd utf-8",
		"zero\u200bwidth\ufeff":            "zero\ufffdwidth\ufffd",
		strings.Repeat("é", 100):           strings.Repeat("é", 23) + "…",
		strings.Repeat(" ", 1000) + "late": "",
	} {
		if got := notify.Line(in, 50); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("a\nb", 10)
	f.Add(strings.Repeat("\xff\u202e", 50), 40)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 4 || limit > 10_000 {
			return
		}
		got := notify.Line(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) && r != utf8.RuneError }) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestWhatStrangersWroteIsCleaned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})})
		stop := running(t, o)
		m := message("k")
		m.Title = "glass\nSubject: x\x1b[2J"
		m.Labels = []notify.Field{{Name: "namespace", Value: "a\r\nb"}, {Name: "empty"}}
		m.Fields = []notify.Field{{Name: "wh\no", Value: "eve\u202e"}, {Name: "empty", Value: "\n"}, {Name: "long", Value: strings.Repeat("x", 5000)}}
		for range 100 {
			m.Fields = append(m.Fields, notify.Field{Name: "f", Value: "v"})
		}
		m.Links = []notify.Link{
			{Text: "a\nb", URL: "https://console.example/i/1"}, {URL: "http://x.example/?a=b"}, {URL: "javascript:alert(1)"}, {URL: "https://u:p@x.example"},
			{URL: "https://x.example/|evil>"}, {URL: "https://x.example/a b"}, {URL: "https://x.example/\u202e"}, {URL: "/relative"},
		}
		enqueue(t, o, m)
		after(time.Minute)
		stop()
		got := r.taken()[0].Messages[0]
		if got.Title != "glass Subject: x\ufffd[2J" {
			t.Errorf("title %q", got.Title)
		}
		if diff := cmp.Diff([]notify.Field{{Name: "namespace", Value: "a b"}}, got.Labels); diff != "" {
			t.Error(diff)
		}
		if got.Fields[0] != (notify.Field{Name: "wh o", Value: "eve\ufffd"}) || len(got.Fields[1].Value) > 1500 || len(got.Fields) != 24 || got.Fields[23].Value != "79 further fields" {
			t.Errorf("%d fields: %q", len(got.Fields), got.Fields)
		}
		want := []notify.Link{{Text: "a b", URL: "https://console.example/i/1"}, {Text: "x.example", URL: "http://x.example/?a=b"}}
		if diff := cmp.Diff(want, got.Links); diff != "" {
			t.Error(diff)
		}
	})
}
