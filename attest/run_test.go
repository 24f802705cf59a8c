package attest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// amd64 and arm64 are the images of the index that digest is.
const (
	amd64 = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	arm64 = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// indexRegistry has one index of two images.
type indexRegistry struct {
	check.Registry // for what nobody asks here
	mu             sync.Mutex
	reads          []string
}

func (r *indexRegistry) Configs(_ context.Context, ref image.Reference, wanted ...resolve.Platform) ([]resolve.Config, error) {
	r.mu.Lock()
	r.reads = append(r.reads, ref.Digest().String())
	r.mu.Unlock()
	var all []resolve.Config
	for text, arch := range map[string]string{amd64: "amd64", arm64: "arm64"} {
		d, err := image.ParseDigest(text)
		if err != nil {
			return nil, err
		}
		p := resolve.Platform{OS: "linux", Architecture: arch}
		if ref.Digest().String() != digest && ref.Digest() != d || len(wanted) > 0 && !slices.Contains(wanted, p) {
			continue
		}
		all = append(all, resolve.Config{Manifest: d, Platform: p, User: "app"})
	}
	slices.SortFunc(all, func(a, b resolve.Config) int {
		return strings.Compare(a.Platform.Architecture, b.Platform.Architecture)
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("reading %q: %w", ref, resolve.ErrNoPlatform)
	}
	return all, nil
}

// onDigests passes on some digests, and says which it looked at.
func onDigests(name string, passing ...string) check.Check {
	return check.Check{Name: name, Run: func(_ context.Context, in *check.Input) (check.Result, error) {
		if slices.Contains(passing, in.Image.Digest().String()) {
			return check.Pass(), nil
		}
		return check.Fail("not %.10s", in.Image.Digest()), nil
	}}
}

// onIndex returns an authority over a store and the index, which signs for its checks.
func onIndex(t *testing.T, store *attesttest.Store, checks ...check.Check) func(*attest.Options) {
	t.Helper()
	return func(o *attest.Options) {
		o.Registry, o.Checks, o.Groups = &indexRegistry{}, checks, map[string][]string{}
		o.Signers = map[string]signature.Signer{}
		for _, c := range checks {
			o.Signers[c.Name] = pkixSigner(t)
			o.Groups["all"] = append(o.Groups["all"], c.Name)
		}
	}
}

func attested(store *attesttest.Store) []string {
	var all []string
	for _, o := range store.Occurrences() {
		if o.GetKind() == grafeas.NoteKind_ATTESTATION {
			_, d, _ := strings.Cut(o.GetResourceUri(), "@")
			all = append(all, o.GetNoteName()+" "+d)
		}
	}
	slices.Sort(all)
	return all
}

func TestEveryPlatformOfAnIndexIsCheckedAndAttested(t *testing.T) {
	t.Parallel()
	const ref = app + "@" + digest
	const note = "projects/p/notes/user "
	index, a, b := note+digest, note+amd64, note+arm64
	for about, row := range map[string]struct {
		check  check.Check
		change func(*attest.Options)
		want   attest.Response
		filed  []string
	}{
		"all pass": {onDigests("user", amd64, arm64), nil,
			attest.Response{Image: ref, Success: true, Results: []attest.Result{{Name: "user", Success: true, Attested: true}}}, []string{index, a, b}},
		"one does not": {onDigests("user", amd64, digest), nil,
			attest.Response{Image: ref, Results: []attest.Result{{Name: "user", Error: "linux/arm64: not sha256:bbb"}}}, nil},
		"none does": {onDigests("user"), nil,
			attest.Response{Image: ref, Results: []attest.Result{{Name: "user", Error: "linux/amd64: not sha256:aaa; linux/arm64: not sha256:bbb"}}}, nil},
		"one that is not wanted does not": {onDigests("user", amd64), func(o *attest.Options) { o.Platforms = []resolve.Platform{{OS: "linux", Architecture: "amd64"}} },
			attest.Response{Image: ref, Success: true, Results: []attest.Result{{Name: "user", Success: true, Attested: true}}}, []string{index, a}},
		"one that is wanted is not there": {onDigests("user", amd64, arm64, digest), func(o *attest.Options) { o.Platforms = []resolve.Platform{{OS: "linux", Architecture: "s390x"}} },
			attest.Response{Image: ref, Results: []attest.Result{{Name: "user", Error: `reading "` + ref + `": no image for the platform`}}}, nil},
		"a dry run attests none": {onDigests("user", amd64, arm64), func(o *attest.Options) { o.DryRun = true },
			attest.Response{Image: ref, Success: true, Results: []attest.Result{{Name: "user", Success: true}}}, nil},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			authority := newAuthority(t, store, func(o *attest.Options) {
				onIndex(t, store, row.check)(o)
				if row.change != nil {
					row.change(o)
				}
			})
			got := checkImage(t, authority, ref, "all")
			if diff := cmp.Diff(row.want, got, cmpopts.IgnoreFields(attest.Result{}, "Details")); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
			slices.Sort(row.filed)
			if diff := cmp.Diff(row.filed, attested(store)); diff != "" {
				t.Errorf("attestations (-want +got):\n%s", diff)
			}
			for _, d := range []string{digest, amd64, arm64} {
				want := slices.Contains(row.filed, note+d)
				if v := verifyImage(t, authority, app+"@"+d, "user"); v.Success != want {
					t.Errorf("verifying %.10s: %+v, want %v", d, v, want)
				}
			}
		})
	}
}

// What is said of the digest of an index holds for what that commits to.
func TestWhereAnIndexIsFromIsWhereItsImagesAreFrom(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		passing []string
		want    bool
	}{
		"said of the index": {[]string{digest}, true}, "said of each image": {[]string{amd64, arm64}, true},
		"said of one image": {[]string{amd64}, false}, "said of nothing": {nil, false},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			got := checkImage(t, newAuthority(t, store, onIndex(t, store, onDigests("provenance", row.passing...))), app+"@"+digest, "all")
			if got.Success != row.want || len(attested(store)) > 0 != row.want || row.want && len(attested(store)) != 3 {
				t.Errorf("got %+v, attested %v", got, attested(store))
			}
		})
	}
}

func TestAScanOfAnIndexIsOneOfItsImagesAndOnlyTheirsIsBetter(t *testing.T) {
	t.Parallel()
	uri := func(d string) string { return "https://" + app + "@" + d }
	discovery := func(note, d string) *grafeas.Occurrence {
		return &grafeas.Occurrence{NoteName: note, ResourceUri: uri(d), Kind: grafeas.NoteKind_DISCOVERY}
	}
	found := func(note, d string) *grafeas.Occurrence {
		return &grafeas.Occurrence{NoteName: note, ResourceUri: uri(d), Kind: grafeas.NoteKind_VULNERABILITY}
	}
	store := &attesttest.Store{}
	store.Add("p", discovery("index", digest), discovery("own", arm64), found("CVE-index", digest), found("CVE-own", arm64))
	var mu sync.Mutex
	seen := map[string]string{}
	look := check.Check{Name: "scan", Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		text := ""
		for _, kind := range []grafeas.NoteKind{grafeas.NoteKind_DISCOVERY, grafeas.NoteKind_VULNERABILITY} {
			all, err := in.Metadata.Occurrences(ctx, in.Image, kind)
			if err != nil {
				return check.Result{}, err
			}
			for _, o := range all {
				text += o.GetNoteName() + " "
			}
		}
		mu.Lock()
		defer mu.Unlock()
		seen[in.Image.Digest().String()] = text
		return check.Pass(), nil
	}}
	checkImage(t, newAuthority(t, store, onIndex(t, store, look)), app+"@"+digest, "all")
	want := map[string]string{amd64: "index CVE-index ", arm64: "own CVE-own CVE-index "}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("what the check sees (-want +got):\n%s", diff)
	}
}

func TestTheReportTellsPlatformsEvidenceAndAttestations(t *testing.T) {
	t.Parallel()
	store := &attesttest.Store{}
	store.Add("p", &grafeas.Occurrence{NoteName: "projects/p/notes/b", ResourceUri: "https://" + app + "@" + amd64, Kind: grafeas.NoteKind_BUILD,
		Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{Provenance: &grafeas.BuildProvenance{Creator: "ci"}}}})
	look := check.Check{Name: "look", Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		if _, err := in.Registry.Configs(ctx, in.Image); err != nil {
			return check.Result{}, err
		}
		_, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_BUILD)
		return check.Pass(), err
	}}
	var registry *indexRegistry
	authority := newAuthority(t, store, func(o *attest.Options) {
		onIndex(t, store, look)(o)
		registry = o.Registry.(*indexRegistry)
	})
	var events []string
	report, err := authority.Run(t.Context(), attest.Request{Image: mustParse(t, app+"@"+digest), Name: "all", Progress: func(e attest.Event) {
		events = append(events, fmt.Sprintf("%s %s %s %s", e.Type, e.Check, e.Platform, e.Verdict))
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := report.Results[0]
	if len(c.Platforms) != 2 || len(c.Attestations) != 3 || !c.Attested || len(report.Platforms) != 2 {
		t.Fatalf("report: %+v", report)
	}
	want := []attest.Evidence{
		{Kind: "configuration", Name: amd64, Text: `linux/amd64, user "app"`},
		{Kind: "BUILD", Name: "projects/p/occurrences/1", Note: "projects/p/notes/b", Text: "ci"},
	}
	if diff := cmp.Diff(want, c.Platforms[0].Evidence); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
	for _, at := range c.Attestations {
		if at.Signature == "" || at.KeyID == "" || at.Note != "projects/p/notes/look" || !strings.Contains(string(at.Payload), at.Digest) || at.Existed {
			t.Errorf("attestation: %+v", at)
		}
	}
	if diff := cmp.Diff([]string{digest}, registry.reads); diff != "" {
		t.Errorf("the registry is asked more than once (-want +got):\n%s", diff)
	}
	slices.Sort(events[2:])
	if diff := cmp.Diff([]string{
		"platforms  linux/amd64 ", "platforms  linux/arm64 ", "attested look  ", "attested look linux/amd64 ", "attested look linux/arm64 ",
		"checked look linux/amd64 PASS", "checked look linux/arm64 PASS", "started look linux/amd64 ", "started look linux/arm64 ",
	}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// hung answers nothing, whatever its caller does.
type hung struct {
	check.Registry // for what nobody asks here
	release        chan struct{}
}

func (h hung) Configs(context.Context, image.Reference, ...resolve.Platform) ([]resolve.Config, error) {
	<-h.release
	return nil, errors.New("too late")
}

func TestB12_ARegistryThatHangsEndsWithinTheDeadlineAndIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := hung{release: make(chan struct{})}
		defer close(h.release)
		look := check.Check{Name: "look", Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
			_, err := in.Registry.Configs(ctx, in.Image)
			return check.Pass(), err
		}}
		authority := newAuthority(t, &attesttest.Store{}, func(o *attest.Options) {
			o.Registry, o.Checks, o.Groups = h, []check.Check{look, passing("good")}, map[string][]string{"all": {"look", "good"}}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		got, err := authority.Check(ctx, mustParse(t, app+"@"+digest), "all")
		if err != nil || time.Since(start) > 20*time.Second {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		if got.Results[0].Success || !strings.Contains(got.Results[0].Error, "registry.example") || !got.Results[1].Success {
			t.Errorf("got %+v", got)
		}
	})
}

func TestB4_APanicWhileAttestingIsAnErrorOfThatAttestation(t *testing.T) {
	t.Parallel()
	store := &attesttest.Store{Fail: func(_ context.Context, method string) error {
		if method == "CreateOccurrence" {
			panic("made for a test")
		}
		return nil
	}}
	got := checkImage(t, newAuthority(t, store, signing("good", pkixSigner(t))), app+"@"+digest, "all")
	if r := got.Results[1]; !r.Success || r.Attested || !strings.Contains(r.Error, "a bug in Gatehouse") {
		t.Errorf("got %+v", got)
	}
}

// records are what a recorder was told.
type records struct {
	mu   sync.Mutex
	list []attest.RunRecord
}

func (r *records) RecordRun(_ context.Context, run attest.RunRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, run)
}

func TestB18_EveryRequestIsRecordedWithWhoMadeIt(t *testing.T) {
	t.Parallel()
	told := &records{}
	authority := newAuthority(t, &attesttest.Store{}, func(o *attest.Options) {
		signing("good", pkixSigner(t))(o)
		o.Recorder = told
	})
	req := attest.Request{Image: mustParse(t, app+"@"+digest), Name: "all", Caller: attest.Caller{Name: "ci", Address: "192.0.2.1"}}
	if _, err := authority.Run(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.VerifyFor(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.Name = "nope"
	if _, err := authority.Run(t.Context(), req); err == nil {
		t.Fatal("no error")
	}
	if len(told.list) != 3 {
		t.Fatalf("%d records", len(told.list))
	}
	run, verify, refused := told.list[0], told.list[1], told.list[2]
	if run.Method != attest.MethodCheck || run.Request.Caller.Name != "ci" || len(run.Report.Results[1].Attestations) != 1 {
		t.Errorf("a check: %+v", run)
	}
	if verify.Method != attest.MethodVerify || verify.Response == nil || verify.Request.Caller.Address != "192.0.2.1" {
		t.Errorf("a verification: %+v", verify)
	}
	if refused.Err == nil || refused.Report != nil {
		t.Errorf("a refusal: %+v", refused)
	}
}

// TestAnImageOfAnIndexIsToldOfIt, so that what is said of the index counts, and a change
// there is news.
func TestAnImageOfAnIndexIsToldOfIt(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	told := map[string]string{}
	store := &attesttest.Store{}
	a := newAuthority(t, store, onIndex(t, store, check.Check{Name: "asks", Run: func(_ context.Context, in *check.Input) (check.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		told[in.Image.Digest().String()] = in.Index.Digest().String()
		return check.Pass(), nil
	}}))
	checkImage(t, a, app+"@"+digest, "all")
	if len(told) < 2 {
		t.Fatalf("asked of %v", told)
	}
	for image, index := range told {
		if image == digest {
			t.Errorf("the index itself was asked of, as of an image: %v", told)
		}
		if index != digest {
			t.Errorf("image %s was told of index %q", image, index)
		}
	}
}
