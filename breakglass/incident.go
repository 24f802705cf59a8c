package breakglass

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// maxPeople bounds who is named in an incident, and maxReasons the reasons that are; all
	// are counted.
	maxPeople  = 20
	maxReasons = 10
	// maxPolicyText bounds what policy would have said.
	maxPolicyText = 2048
	maxText       = 1024
	// maxHistory bounds what is kept of who looked; the first entries stay.
	maxHistory = 50
)

// A State of an incident.
type State string

// The states. An incident that is open calls somebody, and calls louder until it is
// acknowledged.
const (
	StateOpen         State = "open"
	StateAcknowledged State = "acknowledged"
	StateResolved     State = "resolved"
)

// A Kind says what an incident is about.
type Kind string

// The kinds.
const (
	// Glass is what was let in against policy.
	Glass Kind = "breakGlass"
	// Receiver is a way to people that fails. Its workload is Receiver/NAME.
	Receiver Kind = "receiver"
)

// An Incident is what was let in against policy: one workload with one image, however many
// pods that are. Or it is another matter, of which Kind tells.
type Incident struct {
	ID    string `json:"id"`
	Kind  Kind   `json:"kind"`
	State State  `json:"state"`

	Cluster        string   `json:"cluster,omitempty"`
	Namespace      string   `json:"namespace"`
	Workload       Workload `json:"workload"`
	ServiceAccount string   `json:"serviceAccount,omitempty"`
	// Image is as it was written last, and Digest its digest, "" of a tag.
	Image  string `json:"image"`
	Digest string `json:"digest,omitempty"`

	// Uses is how often glass was broken for it, of pods and of the templates that they
	// come of, and Pods how often for a pod.
	Uses  int64     `json:"uses"`
	Pods  int64     `json:"pods"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// People are who broke glass and Reasons what they said, the first of them; "" is
	// somebody who is not known.
	People  []Person `json:"people"`
	Reasons []Reason `json:"reasons,omitempty"`
	Marker  string   `json:"marker"`
	// Permits are by what they could.
	Permits []string `json:"permits"`
	// Policy and Rule did not allow it, and Verdict and Said are what they said.
	Policy  string `json:"policy,omitempty"`
	Version string `json:"policyVersion,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Verdict string `json:"verdict"`
	Said    string `json:"said"`
	// Gates are those in other places that have let it in, the first of them.
	Gates []string `json:"gates,omitempty"`
	// Record is the audit record of the first use, and LastRecord of the last, which ends
	// at Logged in the log.
	Record     string         `json:"record,omitempty"`
	LastRecord string         `json:"lastRecord,omitempty"`
	Logged     audit.Position `json:"logged,omitzero"`

	// Escalations is how often nobody had looked in time, and NextEscalation when that is
	// looked at again.
	Escalations    int       `json:"escalations"`
	NextEscalation time.Time `json:"nextEscalation,omitzero"`
	// Before is the incident of the same workload and image that was resolved before.
	Before  string  `json:"before,omitempty"`
	History []Entry `json:"history"`

	// Untold are the events that the pager has not taken yet, and Called is set when it has
	// taken one for which somebody has to come.
	Untold []Event `json:"untold,omitempty"`
	Called bool    `json:"called,omitempty"`

	// Standing is how it stands at a service elsewhere, as far as was heard; nil if nothing
	// was. It is not kept.
	Standing *Standing `json:"-"`
}

// A Standing is how an incident stands at a service that was told of its uses.
type Standing struct {
	// State is empty if the service has no such incident.
	State State
	// Told says that the service has somebody to tell, and has queued all there was.
	Told bool
	// Who put it into that state, and Text is what was said.
	Who, Text string
	Time      time.Time
	// At is how far the service had the records of this log, and Heard when it said so.
	At    audit.Position
	Heard time.Time
}

// A Person broke glass.
type Person struct {
	Name  string    `json:"name"`
	Uses  int64     `json:"uses"`
	First time.Time `json:"first"`
}

// A Reason was given for it.
type Reason struct {
	Text   string `json:"text,omitempty"`
	Ticket string `json:"ticket,omitempty"`
}

// An Entry of an incident's history.
type Entry struct {
	Time time.Time `json:"time"`
	What EventKind `json:"what"`
	Who  string    `json:"who,omitempty"`
	Text string    `json:"text,omitempty"`
}

// An EventKind says what happened to an incident.
type EventKind string

// The kinds of events.
const (
	EventOpened       EventKind = "opened"
	EventReopened     EventKind = "reopened"
	EventEscalated    EventKind = "escalated"
	EventAcknowledged EventKind = "acknowledged"
	EventResolved     EventKind = "resolved"
	// EventClosed is one that nobody had to resolve: the image is allowed now, or gone.
	EventClosed EventKind = "closed"
)

// An Event is told to the pager.
type Event struct {
	// ID is the same whenever the event is told again.
	ID   string    `json:"id"`
	Kind EventKind `json:"kind"`
	Time time.Time `json:"time"`
	Who  string    `json:"who,omitempty"`
	Text string    `json:"text,omitempty"`
	// At is how far the audit log had been read.
	At audit.Position `json:"at,omitzero"`
}

// Calls reports whether somebody has to come.
func (k EventKind) Calls() bool { return k == EventOpened || k == EventReopened || k == EventEscalated }

// Key names the incident to pagers: "breakglass/" and its id, or "pager/" and the name of
// the receiver that it is about.
func (i *Incident) Key() string {
	if i.Kind == Receiver {
		return "pager/" + i.Workload.Name
	}
	return "breakglass/" + i.ID
}

// Clone returns a copy.
func (i *Incident) Clone() Incident {
	c := *i
	c.People, c.Reasons, c.Permits = slices.Clone(i.People), slices.Clone(i.Reasons), slices.Clone(i.Permits)
	c.History, c.Untold, c.Gates = slices.Clone(i.History), slices.Clone(i.Untold), slices.Clone(i.Gates)
	return c
}

// closed reports whether it is over.
func (i *Incident) closed() bool { return i.State == StateResolved }

// A Key tells incidents apart. It is the same wherever the uses are counted.
type Key [16]byte

func keyOf(cluster, namespace string, w Workload, what string) Key {
	h := sha256.New()
	for _, s := range []string{cluster, namespace, w.Kind, w.Name, what} {
		_, _ = h.Write([]byte(s)) // a hash never fails
		_, _ = h.Write([]byte{0})
	}
	return Key(h.Sum(nil)[:16])
}

// Same is the same for all incidents of a workload with an image.
func (i *Incident) Same() Key {
	if i.Kind == Receiver {
		return keyOf("", string(Receiver), i.Workload, "")
	}
	what := i.Digest
	if what == "" {
		what = i.Image
	}
	return keyOf(i.Cluster, i.Namespace, i.Workload, what)
}

// A use is glass that was broken for one image.
type use struct {
	record *audit.Record
	image  *decide.ImageDecision
}

// usesOf returns what a record tells of glass that was broken: a use for each image that
// policy did not allow, each once.
func usesOf(r *audit.Record) []use {
	if r.Decision == nil || r.Decision.Override != decide.BreakGlass {
		return nil
	}
	var all []use
	for n := range r.Decision.Images {
		img := &r.Decision.Images[n]
		if img.Verdict == decide.ALLOW || slices.ContainsFunc(all, func(u use) bool { return u.what() == sameImage(img) }) {
			continue
		}
		all = append(all, use{r, img})
	}
	if len(all) == 0 { // the record was too large to be kept whole
		all = append(all, use{r, &decide.ImageDecision{Image: "(not recorded)"}})
	}
	return all
}

func sameImage(img *decide.ImageDecision) string {
	if img.Digest != (image.Digest{}) {
		return img.Digest.String()
	}
	return img.Image
}

func (u use) what() string { return sameImage(u.image) }

func (u use) workload() Workload {
	if b := u.record.BreakGlass; b != nil && b.Kind != "" {
		return Workload{b.Kind, b.Name}
	}
	return Workload{u.record.Resource, u.record.Name}
}

func (u use) key() Key {
	return keyOf(u.record.Cluster, u.record.Namespace, u.workload(), u.what())
}

// incident begins one with its first use, which is not counted yet.
func (u use) incident() *Incident {
	r, d := u.record, u.record.Decision
	i := &Incident{
		Kind: Glass, State: StateOpen, Cluster: r.Cluster, Namespace: r.Namespace, Workload: u.workload(),
		First: r.Time.UTC(), Record: r.ID, Marker: d.BreakGlass, Policy: d.Policy, Version: d.PolicyVersion, Rule: cut(d.Rule, maxText),
	}
	if !u.image.Digest.IsZero() {
		i.Digest = u.image.Digest.String()
	}
	if r.BreakGlass != nil {
		i.ServiceAccount = r.BreakGlass.ServiceAccount
	}
	return i
}

// incidentID is the same wherever the uses are counted, as long as the same incident came
// before it.
func incidentID(k Key, before string) string {
	sum := sha256.Sum256(append(k[:], before...))
	return hex.EncodeToString(sum[:8])
}

// add counts a use. It returns whether somebody used it whom it did not know.
func (i *Incident) add(u use) (stranger bool) {
	r, d := u.record, u.record.Decision
	i.Uses++
	if r.Resource == "pods" || strings.HasPrefix(r.Resource, "pods/") {
		i.Pods++
	}
	i.Last, i.LastRecord, i.Image = r.Time.UTC(), r.ID, u.image.Image
	i.Verdict, i.Said = u.image.Verdict.String(), said(u.image)
	if o := r.Origin; o != nil && !slices.Contains(i.Gates, o.Gate) && len(i.Gates) < maxReasons {
		i.Gates = append(i.Gates, o.Gate)
	}
	by, ticket, permit := r.User, "", string(Open)
	if b := r.BreakGlass; b != nil {
		by, ticket, permit = b.By, b.Ticket, b.Permit
	}
	if !slices.Contains(i.Permits, permit) && len(i.Permits) < maxReasons {
		i.Permits = append(i.Permits, cut(permit, maxText))
	}
	if reason := (Reason{cut(d.Justification, maxText), cut(ticket, maxTicket)}); reason != (Reason{}) && !slices.Contains(i.Reasons, reason) && len(i.Reasons) < maxReasons {
		i.Reasons = append(i.Reasons, reason)
	}
	return i.usedBy(cut(by, maxUsername), r.Time.UTC())
}

func (i *Incident) usedBy(by string, at time.Time) (stranger bool) {
	n := slices.IndexFunc(i.People, func(p Person) bool { return p.Name == by })
	if n < 0 && len(i.People) >= maxPeople {
		return false // so many have called already
	}
	if n < 0 {
		i.People, n, stranger = append(i.People, Person{Name: by, First: at}), len(i.People), len(i.People) > 0
	}
	i.People[n].Uses++
	return stranger
}

// said is what policy says of an image.
func said(img *decide.ImageDecision) string {
	var b strings.Builder
	for _, r := range img.Reasons {
		if r.Verdict == decide.ALLOW {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.Message)
		if b.Len() > maxPolicyText {
			break
		}
	}
	return cut(b.String(), maxPolicyText)
}

// note adds an event to the history and to what is to be told.
func (i *Incident) note(e Event) {
	e.ID = i.ID + "/" + e.Time.UTC().Format(time.RFC3339Nano) + "/" + string(e.Kind)
	i.Untold = append(i.Untold, e)
	entry := Entry{Time: e.Time, What: e.Kind, Who: e.Who, Text: e.Text}
	if len(i.History) >= maxHistory {
		i.History[maxHistory-1] = entry
		return
	}
	i.History = append(i.History, entry)
}
