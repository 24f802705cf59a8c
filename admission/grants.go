package admission

import (
	"sync"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// maxGranted bounds the digests remembered, some hundred bytes each. Beyond it any
	// one is forgotten: it is then as if the rule had never allowed it.
	maxGranted = 1 << 16
	// maxGrants bounds what is remembered of one digest: by which rules, and under
	// which spellings.
	maxGrants = 8
)

// grants remember what rules allowed by evidence, for those that bridge an outage.
// They are facts for the decision; what they are worth it decides.
type grants struct {
	mu       sync.Mutex
	byDigest map[image.Digest][]evidence.Allowed
}

func newGrants() *grants { return &grants{byDigest: make(map[image.Digest][]evidence.Allowed)} }

// keep remembers the latest grant of each rule for each spelling of an image.
func (g *grants) keep(list []decide.Grant) {
	if len(list) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, grant := range list {
		old, known := g.byDigest[grant.Digest]
		if !known && len(g.byDigest) >= maxGranted {
			for d := range g.byDigest {
				delete(g.byDigest, d)
				break
			}
		}
		kept := []evidence.Allowed{grant.Allowed} // readers may hold the old slice
		for _, a := range old {
			if (a.Rule != grant.Allowed.Rule || a.Image != grant.Allowed.Image) && len(kept) < maxGrants {
				kept = append(kept, a)
			}
		}
		g.byDigest[grant.Digest] = kept
	}
}

// remind adds what is remembered to the facts about images that are unavailable.
func (g *grants) remind(facts *evidence.Facts) {
	for d, img := range facts.Images {
		if img.State != evidence.Unavailable {
			continue
		}
		g.mu.Lock()
		img.Allowed = g.byDigest[d]
		g.mu.Unlock()
		facts.Images[d] = img
	}
}
