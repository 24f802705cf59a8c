package evidence

import (
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

// HintState says what there is of rollout hints about an image. The zero HintState is
// HintsUnread, which never allows.
type HintState int

// The states. Withdrawn means that the hint with the highest number was deleted, and
// none has taken its place; Elsewhere that hints permit other digests in the path of
// the image; Hinted that there is one, which may have ended or be a revocation.
const (
	HintsUnread HintState = iota
	Unhinted
	Withdrawn
	Elsewhere
	Hinted
)

// A Hint is what verified rollout hints under one note say of an image, as it is
// written: the one that counts for the narrowest name that fits.
type Hint struct {
	Note  string // projects/P/notes/N
	State HintState
	// Name is what the hint is about, such as "reg/app:v1.*", and Sequence its number.
	Name     string
	Sequence uint64
	// Digest is the one that is meant to run, from From until Until, unless Revoked.
	Digest      image.Digest
	From, Until time.Time
	Revoked     bool
	Occurrence  string
}
