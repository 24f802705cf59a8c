package index

import "sync/atomic"

// An Outcome is what came of the examination of one occurrence.
type Outcome uint8

// The outcomes. All but Verified refuse something; of an occurrence of which one signature
// counts and another does not, both are counted.
const (
	Verified     Outcome = iota
	Unreadable           // nothing could be verified, whoever signed it
	UnknownKey           // no key that is trusted is named
	BadSignature         // a key that is trusted is named, and has not signed this
	WrongContent         // it is signed, and says something else
	outcomes
)

var outcomeNames = [outcomes]string{"verified", "unreadable", "unknown_key", "bad_signature", "wrong_content"}

// String returns the name of the outcome, such as "unknown_key".
func (o Outcome) String() string { return outcomeNames[min(o, outcomes-1)] }

// Outcomes returns all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Verified, Unreadable, UnknownKey, BadSignature, WrongContent}
}

var refusals = [...]Outcome{unreadable: Unreadable, unknownKey: UnknownKey, notVerified: BadSignature, otherwise: WrongContent}

// examined counts the outcomes, of what was stored and of what the feed has brought.
type examined struct{ stored, fed [outcomes]atomic.Uint64 }

func (e *examined) count(found []statement, from origin) {
	counts := &e.stored
	if from == fromFeed {
		counts = &e.fed
	}
	verified := false
	for i := range found {
		c := found[i].common.Value()
		if c.kind == rejection {
			counts[refusals[c.rank]].Add(1)
		} else {
			verified = true
		}
	}
	if verified {
		counts[Verified].Add(1)
	}
}

// Examined returns how many occurrences had the outcome since the index was made: of those
// that the feed has brought, or else of those that were stored before, each as often as it
// was read.
func (x *Index) Examined(o Outcome, feed bool) uint64 {
	if feed {
		return x.examined.fed[o].Load()
	}
	return x.examined.stored[o].Load()
}
