// Package clusterca keeps the certificates of a Gatehouse that runs in a cluster, in
// objects of that cluster, and has its webhooks be asked.
//
//	Secret NAME-ca            the authority, with its keys: what counts
//	ConfigMap NAME-ca         ca.crt: the roots that clients are to trust
//	Secret NAME-gate-tls      serving certificates, which pods mount: the gate's,
//	Secret NAME-server-tls    the metadata service's,
//	Secret NAME-mutate-tls    and that of the webhook that pins tags
//	ValidatingWebhookConfiguration NAME, MutatingWebhookConfiguration NAME-mutate
//
// When there are new roots and new certificates is for package ownca to say. Here is the
// order in which they reach the cluster: the Secret first, which of two controllers that
// change it at once only one can; then the roots in the ConfigMap and in the webhook
// configurations; and certificates by a new root only when all of those have it. An old
// root stays until nobody serves what it has issued: a kubelet takes a minute or two.
//
// Every object is read before the Secret of the authority and written in that version
// only. So who has read an authority that is not the last one cannot write it over what
// follows from the last one.
//
// # Arming
//
// A webhook configuration is installed without webhooks, and so matches nothing, with
// those that it is to have in an annotation. They are put in force with the roots once the
// webhook answers a review at the address that is given there under exactly those roots;
// whenever what is in force is another, in the same way. What is in force is never taken
// back.
package clusterca

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/internal/ownca"
)

const (
	// idleInterval is how often everything is looked at though nobody has told of a
	// change, and busyInterval how often while something could not be done.
	idleInterval = 30 * time.Second
	busyInterval = 2 * time.Second
	// passTimeout bounds one look.
	passTimeout = time.Minute

	leafLife        = 90 * 24 * time.Hour
	leafRenewBefore = 30 * 24 * time.Hour
	// settleTime is how long pods may take to serve a certificate that is in their
	// Secret: a kubelet looks each minute or so.
	settleTime = 10 * time.Minute
)

// An Issuer is who issues the certificates.
type Issuer string

// The issuers.
const (
	// Own is the authority of this package.
	Own Issuer = "own"
	// CertManager is cert-manager, which writes the Secrets of serving certificates with
	// the roots beside them; webhooks are armed with those.
	CertManager Issuer = "cert-manager"
)

// Options say what to keep. Client, Namespace, Name, Issuer and Logger are required.
type Options struct {
	Client          *kube.Client
	Namespace, Name string
	Issuer          Issuer
	// Hosts are more names and addresses for the certificates of each [Part].
	Hosts map[Part][]string
	// Lives are how long things live; the zero Lives are [DefaultLives]. Settle is how
	// long a pod may take to serve what is in its Secret, default 10m.
	Lives  ownca.Lives
	Settle time.Duration
	// Now is time.Now if it is nil.
	Now    func() time.Time
	Logger *slog.Logger
}

// DefaultLives are how long roots and certificates live in a cluster.
func DefaultLives() ownca.Lives {
	lives := ownca.DefaultLives()
	lives.Leaf, lives.RenewLeaf, lives.Alone = leafLife, leafRenewBefore, settleTime
	return lives
}

// A Part is what has a serving certificate.
type Part string

// The parts.
const (
	Gate   Part = "gate"
	Server Part = "server"
	Mutate Part = "mutate"
)

// Parts are all of them.
func Parts() []Part { return []Part{Gate, Server, Mutate} }

// A Keeper keeps the certificates of one installation.
type Keeper struct {
	Options
	wake chan struct{}
	said map[string]string // the last error of each thing, which is said once

	mu       sync.Mutex
	status   Status
	accepted map[string]string // the version of each configuration that was written last
}

// A Status is what a look has found.
type Status struct {
	// Root is when the root that issues ends, and Certificates when each certificate
	// does; zero if there is none.
	Root         time.Time
	Certificates map[Part]time.Time
	// Roots is how many roots clients are to trust.
	Roots int
	// Armed says of each webhook configuration that is there whether it is as it ought to be.
	Armed map[string]bool
}

// New returns a Keeper, which has asked nobody yet.
func New(o Options) *Keeper {
	if o.Lives == (ownca.Lives{}) {
		o.Lives = DefaultLives()
	}
	if o.Settle == 0 {
		o.Settle = settleTime
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keeper{Options: o, wake: make(chan struct{}, 1), said: make(map[string]string), accepted: make(map[string]string)}
}

// Status returns what the last look has found.
func (k *Keeper) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// Run keeps everything as it ought to be until ctx ends. What cannot be done is said once,
// and tried again.
func (k *Keeper) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	for _, r := range k.resources() {
		following.Go(func() {
			k.Client.Follow(ctx, kube.Follower{
				Resource: r, Set: func(kube.Object) { k.poke() }, Gone: func(kube.Key) { k.poke() },
				Failed: func(err error) { k.Logger.Debug("following what the certificates are in", "error", err) },
			})
		})
	}
	for {
		wait := idleInterval
		if !k.look(ctx) {
			wait = busyInterval
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-time.After(min(wait, k.Lives.RenewLeaf/4+time.Millisecond)):
		}
	}
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default: // woken already
	}
}

// look does what is due, again if another has changed something meanwhile, and reports
// whether nothing is left to do.
func (k *Keeper) look(ctx context.Context) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	const most = 10
	for range most {
		p := &pass{Keeper: k, ctx: ctx, now: k.Now()}
		again := p.run()
		if ctx.Err() != nil {
			return false
		}
		if again {
			continue
		}
		k.mu.Lock()
		k.status = p.status
		k.mu.Unlock()
		return !p.failed
	}
	return false
}

// say logs what became of something, once.
func (k *Keeper) say(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch last := k.said[what]; {
	case text != "" && text != last:
		k.Logger.Error(what+" cannot be looked after; trying again", "error", err)
	case text == "" && last != "":
		k.Logger.Info(what + " can be looked after again")
	}
	k.said[what] = text
}

// A pass is one look.
type pass struct {
	*Keeper
	ctx    context.Context
	now    time.Time
	failed bool
	status Status

	bundleMap object // the ConfigMap
	leaves    map[Part]object
	hooks     []*hook
	authority object
	kept      ownca.Kept
	roots     []byte // that clients are to trust, as PEM
}

// run reports whether to begin again, since something has been changed meanwhile.
func (p *pass) run() (again bool) {
	p.status = Status{Certificates: make(map[Part]time.Time), Armed: make(map[string]bool)}
	if err := p.read(); err != nil {
		p.complain("the certificates", err)
		return false
	}
	p.complain("the certificates", nil)
	steps := []struct {
		what string
		do   func() error
	}{
		{"the certificate authority", p.keepAuthority},
		{"the roots for clients", p.keepBundle},
		{"the webhook configurations", p.keepHooks},
		{"the serving certificates", p.keepLeaves},
	}
	if p.Issuer == CertManager {
		steps = steps[2:3]
	}
	for n, step := range steps {
		err := step.do()
		if kube.Conflict(err) {
			return true
		}
		p.complain(step.what, err)
		if err != nil && n == 0 && p.Issuer == Own {
			return false // there is nothing to go on with
		}
	}
	return false
}

func (p *pass) complain(what string, err error) {
	p.failed = p.failed || err != nil
	p.say(what, err)
}

// read reads everything, the authority last.
func (p *pass) read() (err error) {
	if p.hooks, err = p.readHooks(); err != nil {
		return err
	}
	p.leaves = make(map[Part]object)
	for _, part := range Parts() {
		if p.leaves[part], err = p.secret(p.leafName(part)); err != nil {
			return err
		}
	}
	if p.Issuer == CertManager {
		return nil
	}
	if p.bundleMap, err = p.configMap(p.Name + "-ca"); err != nil {
		return err
	}
	p.authority, err = p.secret(p.Name + "-ca")
	return err
}

// keepAuthority has the authority be as it ought to be.
func (p *pass) keepAuthority() (err error) {
	old, err := ownca.ReadKept(p.authority.Data[keysKey], p.Lives)
	if err != nil {
		return fmt.Errorf("%w; delete the Secret %s/%s to have another one made", err, p.Namespace, p.authority.Metadata.Name)
	}
	settled := p.settled(old)
	next, changed, err := old.Next(p.now, settled)
	if err != nil {
		return err
	}
	before := p.authority.Data[beforeKey]
	switch {
	case len(p.authority.Data[keysKey]) == 0:
		// Gates go on to serve what a lost authority has issued until they have another.
		before = p.trusted()
	case settled:
		before = nil
	}
	p.kept, p.roots = next, join(next.Bundle(), before)
	if !changed && len(before) == len(p.authority.Data[beforeKey]) {
		return nil
	}
	text, err := next.Text()
	if err != nil {
		return err
	}
	data := map[string][]byte{keysKey: text, bundleKey: p.roots, beforeKey: before}
	if err := p.writeSecret(p.authority, data, nil, "Opaque"); err != nil {
		return err
	}
	for _, r := range next.Roots(p.now) {
		p.Logger.Info("the certificate authority has changed", "root", r.Fingerprint, "state", r.State, "issues", r.Issues, "ends", r.Ends)
	}
	return nil
}

// settled says that every certificate is of the root that issues, and has been for long
// enough for pods to serve it.
func (p *pass) settled(k ownca.Kept) bool {
	for part, leaf := range p.leaves {
		hosts := p.hostsOf(part)
		if len(hosts) == 0 {
			continue
		}
		at, err := time.Parse(time.RFC3339, leaf.Metadata.Annotations[issuedKey])
		v := k.Judge(leaf.Data[certKey], leaf.Data[keyKey], hosts, p.now)
		if err != nil || !v.Usable || v.Due != "" || p.now.Before(at.Add(p.Settle)) {
			return false
		}
	}
	return true
}

func (p *pass) keepBundle() error {
	p.status.Roots = len(p.kept.Roots(p.now))
	if issuer := p.kept.Issuer(p.now); issuer != nil {
		p.status.Root = issuer.NotAfter
	}
	if string(p.roots) == p.bundleMap.Text[bundleKey] {
		return nil
	}
	return p.writeConfigMap(p.bundleMap, map[string]string{bundleKey: string(p.roots)})
}

// keepLeaves issues what is due. A certificate by a new root waits until everybody who
// is to trust it can; unless the one there is is of no use anyway.
func (p *pass) keepLeaves() error {
	var errs []error
	waiting := false
	for _, part := range Parts() {
		hosts := p.hostsOf(part)
		if len(hosts) == 0 {
			continue
		}
		leaf := p.leaves[part]
		v := p.kept.Judge(leaf.Data[certKey], leaf.Data[keyKey], hosts, p.now)
		p.status.Certificates[part] = v.Ends
		switch {
		case v.Due == "":
			continue
		case v.Usable && !p.everybodyTrusts():
			waiting = true
			continue
		}
		made, err := p.kept.Issue(hosts, p.now)
		if err == nil {
			err = p.writeSecret(leaf, map[string][]byte{certKey: made.Certificate, keyKey: made.Key, bundleKey: p.roots},
				map[string]string{issuedKey: p.now.UTC().Format(time.RFC3339)}, "kubernetes.io/tls")
		}
		if kube.Conflict(err) {
			return err
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.status.Certificates[part] = made.Ends
		p.Logger.Info("issued a serving certificate", "secret", p.leafName(part), "why", v.Due, "until", made.Ends)
	}
	if waiting {
		errs = append(errs, errors.New("a certificate by the new root waits until all webhook configurations have that root"))
	}
	return errors.Join(errs...)
}

// hostsOf are the names and addresses that a certificate is for; none if there is no such
// part here.
func (p *pass) hostsOf(part Part) []string {
	hosts := slices.Clone(p.Hosts[part])
	service := p.Name
	switch part {
	case Gate, Mutate:
		h := p.hookOf(part)
		if part == Mutate && h == nil && len(hosts) == 0 {
			return nil
		}
		if part == Mutate {
			service += "-mutate"
		}
		if h != nil {
			for _, e := range h.entries {
				if u, err := url.Parse(e.address); err == nil && u.Hostname() != "" {
					hosts = append(hosts, u.Hostname())
				}
			}
		}
	case Server:
		service += "-server"
	}
	name := service + "." + p.Namespace
	hosts = append(hosts, name+".svc", name+".svc.cluster.local", name)
	for n, h := range hosts {
		if net.ParseIP(h) == nil {
			hosts[n] = strings.ToLower(h)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func (k *Keeper) leafName(part Part) string { return k.Name + "-" + string(part) + "-tls" }
