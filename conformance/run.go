package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrBaseline is wrapped by the error of a run that ended because the gate does
// not admit the good image or does not deny the bad one.
var ErrBaseline = errors.New("the gate does not do what the profile says, and so nothing could be proven")

// Options say which gate to try, and how.
type Options struct {
	// URL is the webhook: https://HOST[:PORT]/PATH.
	URL string
	// Roots has the CA that the gate's certificate is verified against; nil is the
	// machine's own.
	Roots *x509.CertPool
	// ServerName is the name in the certificate, if it is not the URL's host.
	ServerName string
	// Certificate is the API server's, for gates that ask for one.
	Certificate *tls.Certificate
	Profile     Profile
	// Registry is the hostile registry; nil skips the cases that need it.
	Registry *Registry
	// Only has the classes ("B3") and cases ("B3/init-containers") to run; none is all.
	Only []string
	// Parallel is how many cases run at once. Default 4.
	Parallel int
	// CaseTimeout bounds one case. Default 2 minutes.
	CaseTimeout time.Duration
	// HangUp is how long the gate may keep a connection open whose request never
	// ends. Default 35 seconds: an API server waits 30 at most.
	HangUp time.Duration
	// DryRun marks every review as a dry run, which a gate may treat differently.
	DryRun bool
}

// Run tries the cases on a gate. The error is for runs that prove nothing; that
// cases fail is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	profile, err := o.Profile.complete()
	if err != nil {
		return nil, err
	}
	cases, err := selected(o.Only)
	if err != nil {
		return nil, err
	}
	c, err := newClient(o, time.Duration(profile.Timeout))
	if err != nil {
		return nil, err
	}
	defer c.close()
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.CaseTimeout <= 0 {
		o.CaseTimeout = 2 * time.Minute
	}
	if o.HangUp <= 0 {
		o.HangUp = 35 * time.Second
	}
	r := &runner{Options: o, world: world{profile: profile, client: c, registry: o.Registry, dryRun: o.DryRun, hangUp: o.HangUp}}
	started := time.Now()
	if err := r.baseline(ctx); err != nil {
		return nil, err
	}
	results, err := r.all(ctx, cases)
	if err != nil {
		return nil, err
	}
	return newReport(o.URL, started, time.Since(started), r.world.profile.Versions, results), nil
}

// selected returns the cases of classes and ids.
func selected(only []string) ([]Case, error) {
	all := Cases()
	if len(only) == 0 {
		return all, nil
	}
	for _, name := range only {
		if !slices.ContainsFunc(all, func(c Case) bool { return c.ID == name || c.Class() == name }) {
			return nil, fmt.Errorf("there is no class or case %q", name)
		}
	}
	return slices.DeleteFunc(all, func(c Case) bool { return !slices.Contains(only, c.ID) && !slices.Contains(only, c.Class()) }), nil
}

type runner struct {
	Options
	world world
}

// baseline finds out whether the gate knows the profile's images, which versions it
// speaks, and whether the registry is covered by its policy.
func (r *runner) baseline(ctx context.Context) error {
	w := &r.world
	w.c = Case{ID: "baseline"}
	ask := func(version, image string) exchange {
		b := w.podOf(image).UID(newUID())
		if version == v1beta1 {
			b.V1Beta1()
		}
		return w.client.post(ctx, []byte(w.text(b)), nil)
	}
	if len(w.profile.Versions) == 0 {
		w.profile.Versions = []string{v1}
		if e := ask(v1beta1, w.good()); e.problem == nil && e.response.Allowed {
			w.profile.Versions = append(w.profile.Versions, v1beta1)
		}
	}
	for _, version := range w.profile.Versions {
		if err := allowed().check(w, ask(version, w.good())); err != nil {
			return fmt.Errorf("%w: the good image %s is to be allowed, and was not (%s): %w", ErrBaseline, w.good(), version, err)
		}
		if err := answered().check(w, ask(version, w.bad())); err != nil {
			return fmt.Errorf("%w: the bad image %s is to be denied, and was not (%s): %w", ErrBaseline, w.bad(), version, err)
		}
	}
	return r.registryBaseline(ctx, ask)
}

// registryBaseline takes the registry away if it would prove nothing.
func (r *runner) registryBaseline(ctx context.Context, ask func(version, image string) exchange) error {
	w := &r.world
	if w.registry == nil {
		return nil
	}
	w.registry.findOriginal(ctx, w.good())
	repository := w.registry.serve("baseline", plain())
	if e := ask(v1, repository+"@"+w.registry.bad.digest); e.problem == nil && e.response.Allowed {
		w.registry = nil
	}
	return ctx.Err()
}

// all runs cases: those that may at the same time, then the others one by one.
func (r *runner) all(ctx context.Context, cases []Case) ([]Result, error) {
	results := make([]Result, len(cases))
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(r.Parallel)
	for i, c := range cases {
		if c.alone {
			continue
		}
		group.Go(func() error {
			results[i] = r.one(running, c)
			return running.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("trying the gate: %w", err)
	}
	for i, c := range cases {
		if !c.alone {
			continue
		}
		results[i] = r.one(ctx, c)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("trying the gate: %w", err)
		}
	}
	return results, nil
}

func (r *runner) one(ctx context.Context, c Case) Result {
	w := r.world
	w.c = c
	result := Result{ID: c.ID, Class: c.Class(), Title: c.Title, Outcome: Pass}
	start := time.Now()
	if missing := w.missing(); len(missing) > 0 {
		result.Outcome, result.Details = Skip, []string{"needs " + strings.Join(missing, ", and ")}
	} else {
		limited, cancel := context.WithTimeout(ctx, r.CaseTimeout)
		t := &trial{world: &w}
		t.run(limited)
		cancel()
		result.Details = t.notes
		if len(t.failures) > 0 {
			result.Outcome, result.Details = Fail, t.failures
		}
	}
	result.Duration = time.Since(start).Seconds()
	return result
}

// missing returns what the case needs and the profile does not give.
func (w *world) missing() []string {
	var list []string
	for _, n := range w.c.needs {
		if !n.met(w) {
			list = append(list, n.text)
		}
	}
	return list
}

// withoutSecrets returns a URL without the password in it.
func withoutSecrets(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}
