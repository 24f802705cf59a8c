package imageverifier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

type local bool

func (l local) DecidePull(context.Context, admission.Pull, time.Time) (decide.Decision, error) {
	if l {
		return decide.Decision{Allowed: true, Verdict: decide.ALLOW}, nil
	}
	return decide.Decision{}, nil
}

// verifier returns one that has no gate, and a copy of some age; what it records goes to
// the slice.
func verifier(t *testing.T, config string, answer Local, age time.Duration, recorded *[]decide.Decision) *Verifier {
	t.Helper()
	c, err := parseConfig([]byte("copy: {config: gate.yaml}\n" + config))
	if err != nil {
		t.Fatal(err)
	}
	return &Verifier{
		Config: c, Now: func() time.Time { return now }, Log: t.Logf,
		OpenCopy: func(context.Context, string) (Local, time.Time, error) {
			if answer == nil {
				return nil, time.Time{}, errors.New("the disk is gone")
			}
			return answer, now.Add(-age), nil
		},
		Record: func(_ admission.Pull, d *decide.Decision, _ string) error {
			if recorded == nil {
				return errors.New("no space left")
			}
			*recorded = append(*recorded, *d)
			return nil
		},
	}
}

func TestACopyCountsWhileItIsYoung(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer Local
		age    time.Duration
		ok     bool
		reason string
	}{
		"young":                 {local(true), time.Hour, true, "by the copy"},
		"young, and it denies":  {local(false), time.Hour, false, "by the copy"},
		"old":                   {local(true), 25 * time.Hour, false, "24h0m0s old"},
		"of a clock far ahead":  {local(true), -2 * time.Hour, false, "the copy is of"},
		"a copy that is broken": {nil, 0, false, "the disk is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			var recorded []decide.Decision
			j := verifier(t, "", tc.answer, tc.age, &recorded).Verify(t.Context(), admission.Pull{Name: "reg.test/x"})
			if j.OK != tc.ok || !strings.Contains(j.Reason, tc.reason) || len(recorded) != 1 || recorded[0].Allowed != tc.ok {
				t.Errorf("%+v, recorded %+v", j, recorded)
			}
		})
	}
}

func TestBreakGlassAtTheNode(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "break-glass")
	text := "# emergencies\nreg.test/x:1 OPS-7\nsha256:aa the image of the mail\nreg.test/why:1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("breakGlassFile: %q\n", file)
	var recorded []decide.Decision
	v := verifier(t, config, local(false), 0, &recorded)
	for name, tc := range map[string]struct {
		pull admission.Pull
		ok   bool
	}{
		"by name":       {admission.Pull{Name: "reg.test/x:1"}, true},
		"by digest":     {admission.Pull{Name: "reg.test/y:1", Digest: "sha256:aa"}, true},
		"another":       {admission.Pull{Name: "reg.test/x:2"}, false},
		"a comment":     {admission.Pull{Name: "#"}, false},
		"with no why":   {admission.Pull{Name: "reg.test/why:1"}, false},
		"without names": {admission.Pull{}, false},
	} {
		if j := v.Verify(t.Context(), tc.pull); j.OK != tc.ok {
			t.Errorf("%s: %+v", name, j)
		}
	}
	glass := 0
	for _, d := range recorded {
		if d.Override == decide.BreakGlass && d.Justification != "" {
			glass++
		}
	}
	if glass != 2 {
		t.Errorf("recorded %+v", recorded)
	}
	t.Run("what cannot be recorded is not let in", func(t *testing.T) {
		if j := verifier(t, config, local(false), 0, nil).Verify(t.Context(), admission.Pull{Name: "reg.test/x:1"}); j.OK || !strings.Contains(j.Reason, "recorded") {
			t.Errorf("%+v", j)
		}
	})
	t.Run("a file that others can write", func(t *testing.T) {
		if err := os.Chmod(file, 0o622); err != nil {
			t.Fatal(err)
		}
		if j := v.Verify(t.Context(), admission.Pull{Name: "reg.test/x:1"}); j.OK {
			t.Errorf("%+v", j)
		}
	})
}

func TestReadInput(t *testing.T) {
	t.Parallel()
	const d = "sha256:aa"
	for name, tc := range map[string]struct {
		mediaType, text string
		want            string // in the error, or else the namespace and pod
		bad             bool
	}{
		"a descriptor":               {descriptorType, `{"mediaType":"x","digest":"sha256:aa","size":1}`, "/", false},
		"one of another image":       {descriptorType, `{"digest":"sha256:bb"}`, "about digest", true},
		"one of no image":            {descriptorType, `{}`, "about digest", true},
		"no JSON":                    {descriptorType, `{`, "standard input", true},
		"too much":                   {descriptorType, strings.Repeat(" ", maxInput+1), "more than", true},
		"what is run, and for which": {inputType, `{"operation":"run","descriptor":{"digest":"sha256:aa"},"annotations":{"io.kubernetes.cri.sandbox-namespace":"kube-system","io.kubernetes.cri.sandbox-name":"etcd"}}`, "kube-system/etcd", false},
		"run, of another image":      {inputType, `{"descriptor":{"digest":"sha256:bb"}}`, "about digest", true},
		"a type of another day":      {"application/vnd.other+json", `whatever`, "/", false},
	} {
		p := admission.Pull{Digest: d}
		err := ReadInput(strings.NewReader(tc.text), tc.mediaType, &p)
		if tc.bad {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v", name, err)
			}
		} else if got := p.Namespace + "/" + p.Pod; err != nil || got != tc.want {
			t.Errorf("%s: %v %q", name, err, got)
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                                             "give gates",
		"gates: [{url: 'http://127.0.0.1:1'}]":                         "https://HOST:PORT",
		"gates: [{url: 'https://u:p@h:1'}]":                            "https://HOST:PORT",
		"copy: {config: x, maxAge: 0s}":                                "maxAge",
		"copy: {config: x}\nonUnavailable: x":                          "onUnavailable",
		"copy: {config: x}\nunknownNamespace: any":                     "unknownNamespace",
		"copy: {config: x}\nexempt: ['a*b']":                           "exempt",
		"copy: {config: x}\nTimeout: 3s":                               "Timeout",
		"copy: {config: x}\n---\na: b":                                 "more than one",
		"gates: [" + strings.Repeat("{url: 'https://h:1'},", 11) + "]": "11 gates",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}
