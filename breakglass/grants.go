package breakglass

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxGrants bounds the grants that are looked at, and keptGrants how long one that has
	// ended is kept, to say so.
	maxGrants  = 2000
	keptGrants = 7 * 24 * time.Hour
)

// Grants are those that were verified when they arrived. They are safe for concurrent use.
type Grants struct {
	mu       sync.RWMutex
	grantors []Grantor
	needed   int
	maxLife  time.Duration
	texts    map[string][]byte // by their source
	verified map[string]*verifiedGrant
	refused  map[string]error
}

type verifiedGrant struct {
	Grant
	// Signers are who has signed it.
	Signers []string
	covers  func(image string) bool // nil: all
}

// NewGrants returns Grants without any.
func NewGrants() *Grants {
	return &Grants{texts: map[string][]byte{}, verified: map[string]*verifiedGrant{}, refused: map[string]error{}}
}

// Trust says whose signatures count, of how many a grant needs, and how long one may be
// for; 0 is [MaxGrantLife]. What is there is verified anew.
func (gs *Grants) Trust(grantors []Grantor, needed int, maxLife time.Duration) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.grantors, gs.needed, gs.maxLife = grantors, needed, cmp.Or(maxLife, MaxGrantLife)
	for source, text := range gs.texts {
		_ = gs.verify(source, text) // States tells what is wrong
	}
}

// Put verifies the text of a grant, and keeps it by its source, such as a document's name.
// The error says why it does not count.
func (gs *Grants) Put(source string, text []byte, now time.Time) error {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if len(gs.texts) >= maxGrants && gs.texts[source] == nil {
		gs.sweep(now)
		if len(gs.texts) >= maxGrants {
			return fmt.Errorf("there are %d grants, and no more are looked at", maxGrants)
		}
	}
	if len(text) > MaxGrantBytes {
		text = text[:MaxGrantBytes+1] // which is refused
	}
	gs.texts[source] = slices.Clone(text)
	return gs.verify(source, text)
}

// Remove forgets a grant.
func (gs *Grants) Remove(source string) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	gs.remove(source)
}

func (gs *Grants) remove(source string) {
	delete(gs.texts, source)
	delete(gs.verified, source)
	delete(gs.refused, source)
}

// Sources returns the sources of all, whether they count or not.
func (gs *Grants) Sources() []string {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	return slices.Sorted(maps.Keys(gs.texts))
}

func (gs *Grants) verify(source string, text []byte) error {
	delete(gs.verified, source)
	delete(gs.refused, source)
	v, err := gs.read(text)
	if err != nil {
		gs.refused[source] = err
		return err
	}
	gs.verified[source] = v
	return nil
}

func (gs *Grants) read(text []byte) (*verifiedGrant, error) {
	s, err := ParseSignedGrant(text)
	if err != nil {
		return nil, err
	}
	g, names, err := s.Verify(gs.grantors, gs.needed)
	if err != nil {
		return nil, err
	}
	if life := g.Ends.Sub(g.Begins); life > cmp.Or(gs.maxLife, MaxGrantLife) {
		return nil, fmt.Errorf("grant %s is for %s, and may be for %s", g.ID, life, gs.maxLife)
	}
	v := &verifiedGrant{Grant: g, Signers: names}
	if g.Image != "" {
		if v.covers, err = imageScope(g.Image); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// sweep forgets what ended long ago, and what never counted.
func (gs *Grants) sweep(now time.Time) {
	for source := range gs.texts {
		if v := gs.verified[source]; v == nil || now.Sub(v.Ends) > keptGrants {
			gs.remove(source)
		}
	}
}

// fits reports whether the grant is about what is asked, at whatever time. Several grants
// are not added up: one has to cover all images.
func (v *verifiedGrant) fits(s Scope) bool {
	switch {
	case v.Cluster != anywhere && v.Cluster != s.Cluster, v.Namespace != anywhere && v.Namespace != s.Namespace,
		v.Workload != "" && v.Workload != s.Workload.String():
		return false
	}
	return v.covers == nil || !slices.ContainsFunc(s.Images, func(text string) bool { return !v.covers(text) })
}

// Covering returns a grant that covers all that is asked, or nil, and why there is none.
func (gs *Grants) Covering(s Scope, now time.Time) (g *verifiedGrant, why string) {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	var ended, later *verifiedGrant
	for _, v := range gs.verified {
		switch {
		case !v.fits(s):
		case now.Before(v.Begins):
			if later == nil || v.Begins.Before(later.Begins) {
				later = v
			}
		case !now.Before(v.Ends):
			if ended == nil || v.Ends.After(ended.Ends) {
				ended = v
			}
		case g == nil || v.Ends.After(g.Ends) || v.Ends.Equal(g.Ends) && v.ID < g.ID:
			g = v
		}
	}
	const ask = "; ask for one with gatehouse breakglass grant"
	switch {
	case g != nil:
		return g, ""
	case ended != nil:
		return nil, fmt.Sprintf("grant %s of %s ended at %s%s", ended.ID, strings.Join(ended.Signers, " and "), ended.Ends.UTC().Format(time.RFC3339), ask)
	case later != nil:
		return nil, fmt.Sprintf("grant %s of %s begins at %s", later.ID, strings.Join(later.Signers, " and "), later.Begins.UTC().Format(time.RFC3339))
	}
	return nil, fmt.Sprintf("no grant covers %s in namespace %q%s", s.Workload, s.Namespace, ask)
}

// A GrantState is a grant, and whether it counts.
type GrantState struct {
	Source  string   `json:"source"`
	Grant   *Grant   `json:"grant,omitempty"`
	Signers []string `json:"signers,omitempty"`
	// State is "in force", "ended", "begins later" or "refused", of which Error says why.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// States returns all grants by their sources.
func (gs *Grants) States(now time.Time) []GrantState {
	gs.mu.RLock()
	defer gs.mu.RUnlock()
	var all []GrantState
	for _, source := range slices.Sorted(maps.Keys(gs.texts)) {
		s := GrantState{Source: source, State: "refused"}
		if v := gs.verified[source]; v == nil {
			s.Error = gs.refused[source].Error()
		} else {
			g := v.Grant
			s.Grant, s.Signers = &g, v.Signers
			switch {
			case now.Before(v.Begins):
				s.State = "begins later"
			case !now.Before(v.Ends):
				s.State = "ended"
			default:
				s.State = "in force"
			}
		}
		all = append(all, s)
	}
	return all
}
