package index

import (
	"strings"
	"sync"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
)

// maxTags bounds the tags remembered, about 200 bytes each. Beyond it any one is
// forgotten: a hint that is missing costs a sentence in a message.
const maxTags = 1 << 17

// tagHints remembers which digest was last built as which tag.
type tagHints struct {
	mu     sync.RWMutex
	byName map[string]built
}

type built struct {
	digest image.Digest
	at     time.Time
}

// learn reads the artifacts of a BUILD occurrence: their names, such as
// "reg.example/app:1.4", and their checksum. An artifact counts only if it is
// what the occurrence is about.
func (t *tagHints) learn(o *grafeas.Occurrence) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil {
		return
	}
	for _, artifact := range o.GetBuild().GetProvenance().GetBuiltArtifacts() {
		sum := artifact.GetChecksum()
		if !strings.Contains(sum, ":") {
			sum = "sha256:" + sum
		}
		if sum != ref.Digest().String() {
			continue
		}
		for _, name := range artifact.GetNames() {
			if tag, err := image.Parse(name); err == nil && tag.Tag() != "" {
				t.remember(tag, built{ref.Digest(), o.GetCreateTime().AsTime()})
			}
		}
	}
}

func (t *tagHints) remember(tag image.Reference, b built) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = make(map[string]built)
	}
	if old, ok := t.byName[key(tag)]; ok && old.at.After(b.at) {
		return
	}
	if len(t.byName) >= maxTags {
		for name := range t.byName {
			delete(t.byName, name)
			break
		}
	}
	t.byName[key(tag)] = b
}

// builtAs returns the digests that builds last recorded under the tags. Anyone who
// may record builds can say so: it helps a person to find the digest, and is never
// evidence.
func (t *tagHints) builtAs(refs []image.Reference) map[string]image.Digest {
	var built map[string]image.Digest
	for _, ref := range refs {
		if !ref.Digest().IsZero() {
			continue
		}
		if d, ok := t.lookup(ref); ok {
			if built == nil {
				built = make(map[string]image.Digest)
			}
			built[ref.String()] = d
		}
	}
	return built
}

func (t *tagHints) lookup(ref image.Reference) (image.Digest, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	b, ok := t.byName[key(ref)]
	return b.digest, ok
}

// key spells a tagged reference one way; no tag means latest, as for every client.
func key(ref image.Reference) string {
	tag := ref.Tag()
	if tag == "" {
		tag = "latest"
	}
	return ref.Repository() + ":" + string(tag)
}
