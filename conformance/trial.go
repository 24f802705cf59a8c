package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
)

// maxDetails bounds what is told of one case.
const maxDetails = 20

// A world is what a case is tried in.
type world struct {
	profile  Profile
	client   *client
	registry *Registry // nil without one
	dryRun   bool
	// hangUp is how long a connection that never ends its request may stay open.
	hangUp time.Duration
	c      Case
}

// exampleWorld is for telling what a case sends.
func exampleWorld(c Case) *world {
	const hex = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	return &world{c: c, profile: Profile{
		Good: ProfileImage{"registry.example/good@sha256:" + hex, "registry.example/good:1"}, Bad: ProfileImage{"registry.example/bad@sha256:" + strings.Repeat("0b", 32), "registry.example/bad:1"},
		Namespace: "default", FailurePolicy: failClosed, Versions: []string{v1}, Kinds: kindNames(),
		Exempt: ProfileExemptions{"registry.example/exempt:1", "exempt"}, BreakGlass: ProfileBreakGlass{Label: "break-glass", Value: "true"},
		Denied: []ProfileDenied{{"B11", "IMAGE", "each image of class B11 in the profile:"}, {"B12", "IMAGE", "each image of class B12 in the profile:"}},
	}}
}

func (w *world) good() string { return w.profile.Good.Image }
func (w *world) bad() string  { return w.profile.Bad.Image }

func (w *world) goodName() string   { name, _, _ := strings.Cut(w.good(), "@"); return untagged(name) }
func (w *world) goodDigest() string { _, digest, _ := strings.Cut(w.good(), "@"); return digest }
func (w *world) badDigest() string  { _, digest, _ := strings.Cut(w.bad(), "@"); return digest }

// untagged cuts the tag off NAME:TAG, and leaves HOST:PORT/NAME.
func untagged(name string) string {
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		return name[:i]
	}
	return name
}

// strangeDigest is the digest of something that nobody has ever seen.
func (w *world) strangeDigest() string {
	return image.DigestOf([]byte("gatehouse conformance " + w.c.ID + newUID())).String()
}

// name is that of the objects of a case, which do not exist.
func (w *world) name() string {
	return "conformance-" + strings.ToLower(strings.ReplaceAll(w.c.ID, "/", "-"))
}

// pod begins a review that creates a pod.
func (w *world) pod() *review.Builder { return review.Pod(w.profile.Namespace, w.name()) }

// podOf is pod with containers c0, c1, … of these images.
func (w *world) podOf(images ...string) *review.Builder { return withImages(w.pod(), images...) }

func withImages(b *review.Builder, images ...string) *review.Builder {
	for i, img := range images {
		b.Image(fmt.Sprintf("c%d", i), img)
	}
	return b
}

// text writes a review down as it is sent.
func (w *world) text(b *review.Builder) string {
	if w.dryRun {
		b.DryRun()
	}
	return string(b.Review())
}

// A trial is one run of a case, and what was found.
type trial struct {
	*world
	mu       sync.Mutex
	failures []string
	notes    []string
	// troubled is set when the gate did not answer something, which must not be
	// taken for a denial by a gate that is gone.
	troubled bool
}

func (t *trial) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if line := fmt.Sprintf(format, args...); len(t.failures) < maxDetails && !slices.Contains(t.failures, line) {
		t.failures = append(t.failures, line)
	}
}

func (t *trial) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if line := fmt.Sprintf(format, args...); len(t.notes) < maxDetails && !slices.Contains(t.notes, line) {
		t.notes = append(t.notes, line)
	}
}

// ask sends a review under an id of its own and judges the answer.
func (t *trial) ask(ctx context.Context, what string, b *review.Builder, want want) exchange {
	if !slices.Contains(t.profile.Versions, v1) { // what an API server would send such a gate
		b = b.V1Beta1()
	}
	return t.probe(ctx, probe{what: what, review: b.UID(newUID()), want: want})
}

// probe sends a review as it is and judges the answer.
func (t *trial) probe(ctx context.Context, p probe) exchange {
	text := t.text(p.review)
	if p.edit != nil {
		text = p.edit(text)
	}
	return t.judge(p.what, p.want, t.client.post(ctx, []byte(text), nil))
}

// judge records what is wrong with an answer.
func (t *trial) judge(what string, want want, e exchange) exchange {
	t.mu.Lock()
	t.troubled = t.troubled || e.problem != nil
	t.mu.Unlock()
	if e.unreached {
		t.fail("%s: %v", what, e.problem)
		return e
	}
	if err := want.check(t.world, e); err != nil {
		t.fail("%s: %v", what, err)
	} else if e.problem != nil && want.text != refused().text {
		t.note("%s: no verdict, and so no admission: %v", what, e.problem)
	}
	return e
}

// alive demands that the gate still admits the good image.
func (t *trial) alive(ctx context.Context) {
	t.ask(ctx, "afterwards the good image", t.podOf(t.good()), allowed())
}

// run tries the case.
func (t *trial) run(ctx context.Context) {
	if t.c.try != nil {
		t.c.try(ctx, t)
	} else {
		t.runProbes(ctx)
	}
	t.mu.Lock()
	troubled := t.troubled
	t.mu.Unlock()
	if troubled {
		t.alive(ctx)
	}
	if err := ctx.Err(); err != nil {
		t.fail("not finished in time: %v", context.Cause(ctx))
	}
}

func (t *trial) runProbes(ctx context.Context) {
	for _, version := range t.profile.Versions {
		for _, p := range t.c.probes(t.world) {
			if version == v1beta1 {
				p.review.V1Beta1()
				p.what += " (v1beta1)"
			}
			p.review.UID(newUID())
			t.probe(ctx, p)
		}
	}
}
