// Package tags gets manifests off mutable names: it decides which references need a
// digest, asks registries for it, and writes the reference that has it. Where images
// stand in manifests, and how a text is changed in nothing else, is package manifest.
//
//	style := tags.Style{}
//	if style.Needs(ref) {
//		pinned, err := style.Pin(ref, digest) // shop/web:1.4@sha256:…
//	}
//
// The tag stays where it is, for people and for the next update: what runs is the
// digest, and Kubernetes does not look at a tag beside one.
package tags

import (
	"fmt"

	"github.com/gatehouse-dev/gatehouse/image"
)

// A Style says which references are pinned, and how that is written. The zero Style
// pins what has no digest, and keeps tags.
type Style struct {
	// DropTag writes NAME@DIGEST in place of NAME:TAG@DIGEST.
	DropTag bool
	// Update resolves the tag of NAME:TAG@DIGEST anew, too. A reference without a tag
	// is never changed once it has a digest.
	Update bool
}

// Needs reports whether a reference has to be resolved.
func (s Style) Needs(ref image.Reference) bool {
	return ref.Digest().IsZero() || (s.Update && ref.Tag() != "")
}

// Unpinned returns the reference whose tag is to be resolved: without a digest, which
// a resolver would take for the answer.
func Unpinned(ref image.Reference) (image.Reference, error) {
	if ref.Digest().IsZero() {
		return ref, nil
	}
	text := ref.Name()
	if tag := ref.Tag(); tag != "" {
		text += ":" + string(tag)
	}
	return image.Parse(text)
}

// Pin returns the reference to d by the name that ref has, as it is written there:
// a short name stays short. Two references that differ in their text only, by tag or
// by name, stay different.
func (s Style) Pin(ref image.Reference, d image.Digest) (image.Reference, error) {
	if d.IsZero() {
		return image.Reference{}, fmt.Errorf("pinning %q: there is no digest", ref)
	}
	text := ref.Name()
	if tag := ref.Tag(); tag != "" && !s.DropTag {
		text += ":" + string(tag)
	}
	return image.Parse(text + "@" + d.String())
}
