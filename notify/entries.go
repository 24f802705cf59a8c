package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// An entry is a line of the journal.
type entry struct {
	Op    string    `json:"op"`
	Seq   uint64    `json:"seq,omitempty"`
	Seqs  []uint64  `json:"seqs,omitempty"`
	Route string    `json:"route,omitempty"`
	ID    string    `json:"id,omitempty"`
	IDs   []string  `json:"ids,omitempty"`
	Msg   *Message  `json:"msg,omitempty"`
	Since time.Time `json:"since,omitzero"`
	N     int64     `json:"n,omitempty"`
}

// The operations.
const (
	opPut     = "put"     // a message waits, or has changed
	opDone    = "done"    // it was delivered
	opDropped = "dropped" // N were lost, one of them Seq if that is given
	opTold    = "told"    // N that were lost were told of
	opSeen    = "seen"    // ids that were taken
	opGroup   = "group"   // a page ID called for several matters, and IDs are the keys of those that have not ended
)

// load reads the journal.
func (o *Outbox) load() error {
	waiting := map[uint64]entry{}
	lost := map[string]int64{}
	journal, damaged, err := openJournal(o.opts.Dir, func(line []byte) error {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		o.nextSeq = max(o.nextSeq, e.Seq)
		switch e.Op {
		case opPut:
			if e.Msg == nil {
				return errors.New("no message")
			}
			waiting[e.Seq] = e
			o.seen.add(e.ID)
		case opDone:
			for _, seq := range e.Seqs {
				delete(waiting, seq)
			}
		case opDropped:
			delete(waiting, e.Seq)
			lost[e.Route] += e.N
		case opTold:
			lost[e.Route] -= e.N
		case opGroup:
			if r := o.routeNamed(e.Route); r != nil {
				r.groups.set(e.ID, e.IDs)
			}
		case opSeen:
			for _, id := range e.IDs {
				o.seen.add(id)
			}
		default:
			return fmt.Errorf("operation %q is not known", e.Op)
		}
		return nil
	})
	if err != nil {
		return err
	}
	o.journal = journal
	seqs := make([]uint64, 0, len(waiting))
	for seq := range waiting {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	for _, seq := range seqs {
		e := waiting[seq]
		for _, r := range o.home(e) {
			o.add(r, *e.Msg, e.Since)
		}
	}
	for _, r := range o.routes {
		r.dropped = max(lost[r.Name], 0)
	}
	return o.tidy(damaged)
}

// home is the route of an entry, or those that take its message now if that route is
// no longer there.
func (o *Outbox) home(e entry) []*route {
	if r := o.routeNamed(e.Route); r != nil {
		return []*route{r}
	}
	return o.routesFor(*e.Msg)
}

// routeNamed is nil if there is none.
func (o *Outbox) routeNamed(name string) *route {
	if i := slices.IndexFunc(o.routes, func(r *route) bool { return r.Name == name }); i >= 0 {
		return o.routes[i]
	}
	return nil
}

// tidy writes the journal anew after it was read. That the disk cannot take it is no
// reason not to page.
func (o *Outbox) tidy(damaged int) error {
	if damaged > 0 {
		o.logger.Error("the outbox was damaged: messages may be missing", "lines", damaged, "copy", o.journal.path+damagedSuffix)
		o.metrics.damaged.Add(float64(damaged))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.journal.size.Load() > 0 {
		_ = o.compact() // logged, counted, and written later
	}
	return nil
}

// compact writes the journal anew.
func (o *Outbox) compact() error {
	var content []byte
	for _, r := range o.routes {
		for _, it := range r.queue {
			content = append(content, it.line(r.Name, it.msg.ID)...)
		}
		if r.dropped > 0 {
			content = append(content, line(entry{Op: opDropped, Route: r.Name, N: r.dropped})...)
		}
		for _, g := range r.groups {
			content = append(content, line(entry{Op: opGroup, Route: r.Name, ID: g.key, IDs: g.members})...)
		}
	}
	content = append(content, line(entry{Op: opSeen, IDs: o.seen.ids()})...)
	err := o.journal.replace(content)
	o.dirty = err != nil
	if err != nil {
		o.soil(err)
	}
	return err
}

func line(e entry) []byte {
	text, err := json.Marshal(e)
	if err != nil { // no type of an entry can fail
		panic(err)
	}
	return seal(nil, text)
}

func (it *item) line(route, id string) []byte {
	return line(entry{Op: opPut, Seq: it.seq, Route: route, ID: id, Msg: &it.msg, Since: it.since})
}

// seen remembers the last ids.
type seen struct {
	order []string // a ring, once it is full
	next  int
	known map[string]bool
}

func (s *seen) has(id string) bool { return s.known[id] }

func (s *seen) add(id string) {
	if id == "" || s.known[id] {
		return
	}
	if s.known == nil {
		s.known = map[string]bool{}
	}
	s.known[id] = true
	if len(s.order) < maxSeen {
		s.order = append(s.order, id)
		return
	}
	delete(s.known, s.order[s.next])
	s.order[s.next] = id
	s.next = (s.next + 1) % maxSeen
}

// ids are those that are remembered, the oldest first.
func (s *seen) ids() []string { return append(slices.Clone(s.order[s.next:]), s.order[:s.next]...) }
