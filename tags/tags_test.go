package tags_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/tags"
)

const (
	oldDigest = "sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	newDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func parse(t testing.TB, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestStyles(t *testing.T) {
	t.Parallel()
	d, err := image.ParseDigest(newDigest)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		ref                   string
		needs, update         bool
		pinned, withoutTheTag string
	}{
		{"nginx", true, true, "nginx@" + newDigest, "nginx@" + newDigest},
		{"nginx:1.27", true, true, "nginx:1.27@" + newDigest, "nginx@" + newDigest},
		{"docker.io/library/nginx:1", true, true, "docker.io/library/nginx:1@" + newDigest, "docker.io/library/nginx@" + newDigest},
		{"GCR.io:443/p/a:v1", true, true, "GCR.io:443/p/a:v1@" + newDigest, "GCR.io:443/p/a@" + newDigest},
		{"a:1@" + oldDigest, false, true, "a:1@" + newDigest, "a@" + newDigest},
		{"a@" + oldDigest, false, false, "a@" + newDigest, "a@" + newDigest},
	} {
		ref := parse(t, row.ref)
		if got := (tags.Style{}).Needs(ref); got != row.needs {
			t.Errorf("%s needs a digest: %v", ref, got)
		}
		if got := (tags.Style{Update: true}).Needs(ref); got != row.update {
			t.Errorf("%s needs an update: %v", ref, got)
		}
		if got, err := (tags.Style{}).Pin(ref, d); err != nil || got.String() != row.pinned {
			t.Errorf("%s is pinned as %s %v, want %s", ref, got, err, row.pinned)
		}
		if got, err := (tags.Style{DropTag: true}).Pin(ref, d); err != nil || got.String() != row.withoutTheTag {
			t.Errorf("%s is pinned as %s %v, want %s", ref, got, err, row.withoutTheTag)
		}
		if got, err := tags.Unpinned(ref); err != nil || got.String() != strings.TrimSuffix(row.ref, "@"+oldDigest) {
			t.Errorf("%s is %s %v without its digest", ref, got, err)
		}
	}
	if _, err := (tags.Style{}).Pin(parse(t, "a:1"), image.Digest{}); err == nil {
		t.Error("a reference was pinned to no digest")
	}
}

func TestResolveAsksOnce(t *testing.T) {
	t.Parallel()
	var refs []image.Reference
	for _, text := range []string{
		"nginx", "nginx:latest", "docker.io/library/nginx", "index.docker.io/nginx:latest", "nginx:1", "a:1@" + oldDigest, "a:1", "bad:1", "GCR.io/p/a:1", "gcr.io/p/a:1",
	} {
		refs = append(refs, parse(t, text))
	}
	var mu sync.Mutex
	asked := map[string]int{}
	source := tags.SourceFunc(func(ctx context.Context, ref image.Reference) (image.Digest, error) {
		mu.Lock()
		defer mu.Unlock()
		asked[ref.String()]++
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a tag has no deadline")
		}
		if ref.String() == "bad:1" {
			return image.Digest{}, errors.New("no such tag")
		}
		return image.DigestOf([]byte(ref.Repository() + string(ref.Tag()))), nil
	})
	var progress []string
	answers := tags.Resolve(t.Context(), source, refs, tags.Limits{Parallel: 1, Each: time.Minute}, func(done, of int) { progress = append(progress, fmt.Sprint(done, "/", of)) })
	if diff := cmp.Diff(map[string]int{"nginx": 1, "nginx:1": 1, "a:1": 1, "bad:1": 1, "GCR.io/p/a:1": 1}, asked); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"1/5", "2/5", "3/5", "4/5", "5/5"}, progress); diff != "" {
		t.Error(diff)
	}
	for _, ref := range refs {
		d, ok, err := answers.Digest(ref)
		if bad := ref.String() == "bad:1"; !ok || bad != (err != nil) || bad != d.IsZero() {
			t.Errorf("%s: %v %v %v", ref, d, ok, err)
		}
	}
	first, _, _ := answers.Digest(refs[0])
	if same, _, _ := answers.Digest(refs[3]); same != first {
		t.Error("two spellings of one tag have different digests")
	}
	if _, ok, _ := answers.Digest(parse(t, "nginx:2")); ok {
		t.Error("a tag is there that was not asked for")
	}
	if _, ok, _ := (tags.Answers{}).Digest(refs[0]); ok {
		t.Error("the zero Answers has an answer")
	}
}

func TestResolveIsBoundedAndCanBeCancelled(t *testing.T) {
	t.Parallel()
	const parallel = 3
	ctx, cancel := context.WithCancel(t.Context())
	var refs []image.Reference
	for n := range 20 {
		refs = append(refs, parse(t, fmt.Sprintf("a:%d", n)))
	}
	running := make(chan struct{}, parallel)
	var calls sync.WaitGroup
	calls.Add(parallel)
	go func() {
		calls.Wait() // as many as may be are under way
		cancel()
	}()
	var mu sync.Mutex
	n := 0
	answers := tags.Resolve(ctx, tags.SourceFunc(func(ctx context.Context, _ image.Reference) (image.Digest, error) {
		select {
		case running <- struct{}{}:
		default:
			t.Error("more at a time than are allowed")
		}
		mu.Lock()
		n++
		mu.Unlock()
		calls.Done()
		<-ctx.Done()
		<-running
		return image.Digest{}, ctx.Err()
	}), refs, tags.Limits{Parallel: parallel}, nil)
	if n != parallel {
		t.Errorf("%d were asked for after the end", n-parallel)
	}
	for _, ref := range refs {
		if _, _, err := answers.Digest(ref); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
