package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// hints are the rollout hints under the notes that are followed.
type hints struct {
	mu      sync.RWMutex
	cluster string
	// notes tell what is meant to run, next are being read to take their place.
	notes, next map[string]*noteHints
	// stored are those of a copy, until it is said which notes are followed.
	stored map[string]copiedHints
	// carried are those that come another way than by the feed, by their names.
	carried map[string]*grafeas.Occurrence
}

// noteHints are those under one note that keys have signed.
type noteHints struct {
	keys []*signature.PublicKey
	set  *hint.Set
	// told are the occurrences that the feed has told of while they are being read.
	told map[string]bool
}

// SetHints sets under which notes rollout hints are kept, by whose keys, and for which
// cluster, LOCATION.NAME. It returns when those that are stored have been read; when it
// fails, what was kept before stays, and it must be called again.
//
// A note that has other keys than before is read anew, and which numbers its hints had
// reached is forgotten: a key that is not trusted any more may have signed the highest.
func (x *Index) SetHints(ctx context.Context, cluster string, trust Trust) error {
	x.setting.Lock()
	defer x.setting.Unlock()
	return x.hints.follow(ctx, cluster, trust, x.source, x.memo)
}

// CarryHints takes in rollout hints that come another way than by the feed, such as in
// objects of a cluster, as occurrences with names of their own. They count by the same keys
// and numbers. Those that it was given before and are not among them are gone.
func (x *Index) CarryHints(carried []*grafeas.Occurrence) {
	x.setting.Lock()
	defer x.setting.Unlock()
	x.hints.carry(carried, x.memo)
}

func (h *hints) carry(carried []*grafeas.Occurrence, memo *signature.Memo) {
	before, now := h.carried, make(map[string]*grafeas.Occurrence, len(carried))
	for _, o := range carried {
		now[o.GetName()] = o
		if had := before[o.GetName()]; had == nil || !proto.Equal(had, o) {
			h.apply(o, metadata.Created, memo)
		}
	}
	for name, o := range before {
		if now[name] == nil {
			h.apply(o, metadata.Deleted, memo)
		}
	}
	h.carried = now
}

// carryAgain puts what is carried into notes that were read anew.
func (h *hints) carryAgain(memo *signature.Memo) {
	for _, name := range slices.Sorted(maps.Keys(h.carried)) {
		h.apply(h.carried[name], metadata.Created, memo)
	}
}

// HintNotes returns the notes under which hints are kept, in their order.
func (x *Index) HintNotes() []string {
	x.hints.mu.RLock()
	defer x.hints.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.hints.notes))
}

// ResolveHint returns what rollout hints under any of the notes say is meant to run as a
// reference. Notes that disagree resolve nothing.
func (x *Index) ResolveHint(r image.Reference, now time.Time) hint.Resolution {
	x.hints.mu.RLock()
	defer x.hints.mu.RUnlock()
	res := hint.Resolution{Why: "no rollout hint is about it"}
	for _, name := range slices.Sorted(maps.Keys(x.hints.notes)) {
		switch found := x.hints.notes[name].set.Resolve(r, x.hints.cluster, now); {
		case found.Standing == hint.Unhinted:
		case res.Standing == hint.Unhinted:
			res = found
		case found.Digest != res.Digest:
			return hint.Resolution{Finding: found.Finding, Why: "rollout hints of different signers disagree about it"}
		}
	}
	return res
}

func (h *hints) follow(ctx context.Context, cluster string, trust Trust, source Source, memo *signature.Memo) error {
	fresh := make(map[string]*noteHints)
	for note, keys := range trust {
		h.mu.RLock()
		have, stored := h.notes[note], h.stored[note]
		h.mu.RUnlock()
		switch {
		case have != nil && sameKeys(have.keys, keys):
			fresh[note] = have
			continue
		case have == nil && stored.signedBy(keys):
			n := &noteHints{keys: keys, set: new(hint.Set)}
			n.set.Restore(stored.entries)
			h.mu.Lock() // it follows from here on, as the copy did to here
			h.put(note, n)
			h.mu.Unlock()
			fresh[note] = n
			continue
		}
		n, err := h.read(ctx, note, &noteHints{keys: keys, set: new(hint.Set)}, source, memo)
		if err != nil {
			return err
		}
		fresh[note] = n
	}
	h.mu.Lock()
	h.cluster, h.notes, h.stored = cluster, fresh, nil
	h.mu.Unlock()
	h.carryAgain(memo)
	return nil
}

func (h *hints) put(note string, n *noteHints) {
	if h.notes == nil {
		h.notes = make(map[string]*noteHints)
	}
	h.notes[note] = n
}

// readAnew reads what there is of all notes, after the feed has begun anew. The numbers
// that hints had reached stay: a store that was set back brings no old one back.
func (h *hints) readAnew(ctx context.Context, source Source, memo *signature.Memo) error {
	h.mu.RLock()
	notes := maps.Clone(h.notes)
	h.mu.RUnlock()
	for note, have := range notes {
		n := &noteHints{keys: have.keys, set: new(hint.Set)}
		n.set.Restore(have.set.Numbers())
		n, err := h.read(ctx, note, n, source, memo)
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.put(note, n)
		h.mu.Unlock()
	}
	h.carryAgain(memo)
	return nil
}

// read fills n with what is stored under a note, while the feed goes on.
func (h *hints) read(ctx context.Context, note string, n *noteHints, source Source, memo *signature.Memo) (*noteHints, error) {
	n.told = make(map[string]bool)
	h.mu.Lock()
	if h.next == nil {
		h.next = make(map[string]*noteHints)
	}
	h.next[note] = n
	h.mu.Unlock()
	_, err := source.NoteOccurrences(ctx, note, func(o *grafeas.Occurrence) error {
		found, ok := readHint(o, n.keys, memo)
		h.mu.Lock()
		defer h.mu.Unlock()
		if ok && !n.told[o.GetName()] && !n.set.Put(o.GetName(), found) {
			return fmt.Errorf("there are more than %d hints", hint.MaxHints)
		}
		return nil
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.next, note)
	n.told = nil
	if err != nil {
		return nil, fmt.Errorf("reading rollout hints of note %q: %w", note, err)
	}
	return n, nil
}

// apply applies a change.
func (h *hints) apply(o *grafeas.Occurrence, op metadata.Op, memo *signature.Memo) {
	if o.GetKind() != grafeas.NoteKind_ATTESTATION {
		return
	}
	h.mu.RLock()
	now, next := h.notes[o.GetNoteName()], h.next[o.GetNoteName()]
	h.mu.RUnlock()
	for _, n := range []*noteHints{now, next} {
		if n == nil {
			continue
		}
		found, ok := hint.Hint{}, false
		if op != metadata.Deleted {
			found, ok = readHint(o, n.keys, memo)
		}
		h.mu.Lock()
		if n.told != nil {
			n.told[o.GetName()] = true
		}
		if ok {
			n.set.Put(o.GetName(), found)
		} else {
			n.set.Remove(o.GetName())
		}
		h.mu.Unlock()
	}
}

// readHint returns the hint that one of the keys has signed, if one has.
func readHint(o *grafeas.Occurrence, keys []*signature.PublicKey, memo *signature.Memo) (hint.Hint, bool) {
	att, tries := o.GetAttestation(), 0
	for i, s := range att.GetSignatures() {
		if i == maxSignatures {
			break
		}
		for _, k := range keys {
			if !k.Matches(s.GetPublicKeyId()) {
				continue
			}
			if tries++; tries > maxTries {
				return hint.Hint{}, false
			}
			signed, err := memo.Verify(k, att.GetSerializedPayload(), s.GetSignature())
			if err != nil {
				continue
			}
			if h, err := hint.Parse(signed, o.GetCreateTime().AsTime()); err == nil {
				return h, true
			}
		}
	}
	return hint.Hint{}, false
}

// about returns what hints say of references, by their texts; nil if no note is followed.
func (h *hints) about(refs []image.Reference) map[string][]evidence.Hint {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if len(h.notes) == 0 {
		return nil
	}
	all := make(map[string][]evidence.Hint, len(refs))
	for _, r := range refs {
		if _, twice := all[r.String()]; twice {
			continue
		}
		for note, n := range h.notes {
			all[r.String()] = append(all[r.String()], hintFact(note, n.set.About(r, h.cluster)))
		}
	}
	return all
}

func hintFact(note string, f hint.Finding) evidence.Hint {
	fact := evidence.Hint{Note: note, State: evidence.Unhinted}
	if f.Standing == hint.Unhinted {
		return fact
	}
	fact.Name, fact.Sequence = f.Name.String(), f.Sequence
	switch f.Standing {
	case hint.Elsewhere:
		fact.State = evidence.Elsewhere
	case hint.Stands:
		fact.State = evidence.Hinted
		fact.Digest, fact.From, fact.Until, fact.Revoked, fact.Occurrence = f.Hint.Digest, f.Hint.IssuedAt, f.Hint.ExpiresAt, f.Hint.Revoked, f.As
	default:
		fact.State = evidence.Withdrawn
	}
	return fact
}

// copiedHints are those of a note in a copy.
type copiedHints struct {
	note    string
	keys    []keyName
	entries []hint.Entry
}

// signedBy reports whether the copy was made while just these keys were trusted.
func (c copiedHints) signedBy(keys []*signature.PublicKey) bool {
	if c.note == "" || len(keys) != len(c.keys) {
		return false
	}
	for i, k := range keys {
		if c.keys[i] != (keyName{k.ID(), k.Fingerprint()}) {
			return false
		}
	}
	return true
}

// copied returns what a copy is made of.
func (h *hints) copied() []copiedHints {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var all []copiedHints
	for _, note := range slices.Sorted(maps.Keys(h.notes)) {
		n := h.notes[note]
		c := copiedHints{note: note, entries: n.set.Entries()}
		for _, k := range n.keys {
			c.keys = append(c.keys, keyName{k.ID(), k.Fingerprint()})
		}
		all = append(all, c)
	}
	return all
}

func (w *copyWriter) hints(all []copiedHints) {
	w.uvarint(uint64(len(all)))
	for _, c := range all {
		w.text(c.note)
		w.uvarint(uint64(len(c.keys)))
		for _, k := range c.keys {
			w.key(unique.Make(k))
		}
		w.uvarint(uint64(len(c.entries)))
		for i := range c.entries {
			e := &c.entries[i]
			w.raw(e.As)
			w.raw(e.Name.String())
			w.raw(e.Digest.String())
			w.uvarint(e.Sequence)
			w.time(e.IssuedAt)
			w.time(e.ExpiresAt)
			w.raw(e.Cluster)
			w.bool(e.Revoked)
		}
		w.flush()
	}
}

var errCopiedHint = errors.New("a rollout hint in it is damaged")

func (r *copyReader) hints() copiedHints {
	c := copiedHints{note: r.text().Value()}
	r.each(func() { c.keys = append(c.keys, r.key().Value()) })
	r.each(func() {
		e := hint.Entry{As: string(r.raw())}
		var err error
		if text := string(r.raw()); r.err == nil {
			if e.Name, err = hint.ParseName(text); err != nil {
				r.fail(errCopiedHint)
			}
		}
		if text := string(r.raw()); r.err == nil && text != "" {
			if e.Digest, err = image.ParseDigest(text); err != nil {
				r.fail(errCopiedHint)
			}
		}
		e.Sequence = r.uvarint()
		e.IssuedAt, e.ExpiresAt = r.time(), r.time()
		e.Cluster, e.Revoked = string(r.raw()), r.bool()
		c.entries = append(c.entries, e)
	})
	if len(c.entries) > hint.MaxHints*2 {
		r.fail(errCopiedHint)
	}
	return c
}
