package transfer

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// projectMessages are the projects as messages, for a walk.
func projectMessages(names []string) []proto.Message {
	all := make([]proto.Message, len(names))
	for i, name := range names {
		all[i] = &betaprojects.Project{Name: name}
	}
	return all
}

// list exports one list, through all versions at once.
func (x *exporter) list(ctx context.Context, k sort, parent string) error {
	walks := make([]*walk, len(x.remotes))
	for i, r := range x.remotes {
		walks[i] = x.walk(fmt.Sprintf("listing the %s of %q through %s", k, clean(parent), r.version()), func(ctx context.Context, q query) ([]proto.Message, string, error) {
			return r.list(ctx, k, q)
		})
		walks[i].query.parent = parent
	}
	x.resume(walks)
	// The first leads; the second keeps step with it, and brings its own rest.
	err := x.every(ctx, walks[0], func(rows []proto.Message) (int, error) {
		also, err := x.alongside(ctx, walks)
		if err != nil {
			return 0, err
		}
		fresh, err := x.join(ctx, k, parent, rows, also)
		if err != nil {
			return 0, err
		}
		return fresh, x.checkpoint(walks)
	})
	if err != nil || len(walks) == 1 {
		return err
	}
	return x.every(ctx, walks[1], func(rows []proto.Message) (int, error) {
		fresh, err := x.join(ctx, k, parent, nil, rows)
		if err != nil {
			return 0, err
		}
		return fresh, x.checkpoint(walks)
	})
}

// alongside returns the next page of the second walk, if there is one. With
// Salvage it may go in circles.
func (x *exporter) alongside(ctx context.Context, walks []*walk) ([]proto.Message, error) {
	if len(walks) == 1 || walks[1].done {
		return nil, nil
	}
	rows, err := walks[1].next(ctx)
	if isCircle(err) && x.opts.Salvage {
		return nil, nil
	}
	return rows, err
}

// resume moves the walks to where an earlier run has left them. One that may not
// be sent its old token begins again; what was written is passed over.
func (x *exporter) resume(walks []*walk) {
	if x.opts.Salvage {
		return
	}
	for i, at := range x.at.Tokens {
		if i < len(walks) && (at.Done || resumable(at.Token)) {
			walks[i].query.token, walks[i].done, walks[i].resumed = at.Token, at.Done, at.Token != ""
		}
	}
}

// join writes the rows of a page of v1 together with those of v1beta1, or the rows
// of the only version. Pages of the two can be out of step, if somebody writes:
// what is on one alone is asked for through the other.
func (x *exporter) join(ctx context.Context, k sort, parent string, first, second []proto.Message) (fresh int, err error) {
	if len(x.remotes) == 1 {
		for _, m := range first {
			wrote, err := x.one(k, parent, m, nil)
			if err != nil {
				return fresh, err
			}
			fresh += wrote
		}
		return fresh, nil
	}
	also := make(map[string]proto.Message, len(second))
	for _, m := range second {
		also[nameOf(m)] = m
	}
	for _, a := range first {
		wrote, err := x.both(ctx, k, parent, a, also[nameOf(a)])
		if err != nil {
			return fresh, err
		}
		fresh += wrote
	}
	for _, b := range second {
		wrote, err := x.both(ctx, k, parent, nil, b)
		if err != nil {
			return fresh, err
		}
		fresh += wrote
	}
	return fresh, nil
}

// both writes a message in two versions, and asks for that which is missing.
func (x *exporter) both(ctx context.Context, k sort, parent string, a, b proto.Message) (int, error) {
	known, from := a, 1
	if a == nil {
		known, from = b, 0
	}
	if !x.wanted(k, parent, nameOf(known)) {
		return 0, nil
	}
	if a == nil || b == nil {
		got, err := x.get(ctx, x.remotes[from], k, nameOf(known))
		if err != nil {
			return 0, err
		}
		if a == nil {
			a = got
		} else {
			b = got
		}
	}
	return 1, x.mark(paired(k, a, b))
}

// get returns nil if there is no such message in the version.
func (x *exporter) get(ctx context.Context, r remote, k sort, name string) (proto.Message, error) {
	var m proto.Message
	err := x.caller.call(ctx, func(ctx context.Context) (err error) {
		m, err = r.get(ctx, k, name)
		return err
	})
	err = explain(err, "reading %q through %s", clean(name), r.version())
	if err != nil && metadata.KindOf(err) == metadata.NotFound {
		return nil, nil // it is not there
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// one writes a message of the only version.
func (x *exporter) one(k sort, parent string, a, b proto.Message) (int, error) {
	if !x.wanted(k, parent, nameOf(a)) {
		return 0, nil
	}
	if x.remotes[0].version() == V1Beta1 {
		a, b = b, a
	}
	return 1, x.mark(paired(k, a, b))
}

// wanted reports whether a row belongs into the list and is not written yet. The
// reference server lists what is of "projects/p1" among that of "projects/p".
func (x *exporter) wanted(k sort, parent, name string) bool {
	of, _, ok := split(k, name)
	if !ok {
		x.loose = true
		return false
	}
	if of != parent {
		if len(x.strays) < maxWarnings {
			x.strays[of] = true
		}
		return false
	}
	_, written := x.written[keyOf(name)]
	return !written
}

func (x *exporter) mark(it item) error {
	x.written[keyOf(it.name)] = struct{}{}
	return x.write(it)
}
