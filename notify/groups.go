package notify

import (
	"fmt"
	"slices"
	"time"
)

// maxGroups bounds the pages of a route that are remembered until what they called for
// has ended; the oldest is forgotten, and people have to close it.
const maxGroups = 64

// groups are pages that called for several matters at once. Pagers have one alert for
// such a page, which none of the matters may close alone.
type groups []group

type group struct {
	key     string   // the page's
	members []string // keys of what has not ended
}

// set replaces the members of a page; without any it is forgotten.
func (g *groups) set(key string, members []string) {
	*g = slices.DeleteFunc(*g, func(other group) bool { return other.key == key })
	if len(members) == 0 {
		return
	}
	*g = append(*g, group{key, members})
	if len(*g) > maxGroups {
		*g = slices.Delete(*g, 0, len(*g)-maxGroups)
	}
}

// Calling are the messages of a page that somebody has to come for.
func (p Page) Calling() []Message {
	return slices.DeleteFunc(slices.Clone(p.Messages), func(m Message) bool { return !m.Kind.Calls() })
}

// regroup notes what a page that was delivered has called for, and what has ended. When
// all that an earlier page called for has, that page is ended with a message of its
// own. It is called with the lock held, and returns the lines for the journal.
func (o *Outbox) regroup(r *route, p Page) []byte {
	var lines []byte
	set := func(key string, members []string) {
		r.groups.set(key, members)
		lines = append(lines, line(entry{Op: opGroup, Route: r.Name, ID: key, IDs: members})...)
	}
	if calling := p.Calling(); len(calling) > 1 {
		var members []string
		for _, m := range calling {
			if !slices.Contains(members, m.Key) {
				members = append(members, m.Key)
			}
		}
		set(p.Key, members)
	}
	for _, m := range p.Messages {
		if !m.Kind.Ends() {
			continue
		}
		for _, g := range slices.Clone(r.groups) {
			if !slices.Contains(g.members, m.Key) {
				continue
			}
			left := slices.DeleteFunc(slices.Clone(g.members), func(key string) bool { return key == m.Key })
			set(g.key, left)
			if len(left) == 0 {
				lines = append(lines, o.endGroup(r, g.key)...)
			}
		}
	}
	return lines
}

// endGroup queues the message that ends a page.
func (o *Outbox) endGroup(r *route, key string) []byte {
	m := Message{Kind: Closed, Key: key, Severity: Info, Title: fmt.Sprintf("everything that %s called for has ended", key)}
	m, err := m.cleaned(time.Now())
	if err != nil {
		o.logger.Error("ending a page", "page", key, "error", err)
		return nil
	}
	it := o.put(r, m)
	return it.line(r.Name, m.ID)
}
