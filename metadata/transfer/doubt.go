package transfer

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// tried makes a call that creates a run, again while the server is busy. If it may
// have had its effect though it failed, occurrences that are there by now are
// counted and left out of the next try: servers take the same one twice. It
// returns what was left, and the error of the last try.
func (im *importer) tried(ctx context.Context, run []*parcel, create func(context.Context, []*parcel) error) ([]*parcel, error) {
	var err error
	for try := range maxTries {
		if try > 0 {
			if stop := im.caller.sleep(ctx, backoff(try, err)); stop != nil {
				return run, stop
			}
		}
		err = im.caller.once(ctx, func(ctx context.Context) error { return create(ctx, run) })
		if err != nil && doubtful(err) && run[0].item.sort == occurrences {
			left, asked := im.absent(ctx, run, &im.at.Occurrences.Created)
			if asked != nil {
				return run, asked
			}
			if run = left; len(run) == 0 {
				return nil, nil
			}
		}
		if !busy(err) {
			return run, err
		}
	}
	return run, err
}

// absent returns the parcels that the target has not, and counts the others. The
// n-th of equal occurrences in the file is there if the target has n.
func (im *importer) absent(ctx context.Context, run []*parcel, counter *int64) ([]*parcel, error) {
	wanted := map[key]int{} // how many of each content the target has
	uris := map[string]bool{}
	for _, p := range run {
		wanted[contentOf(p.sent)] = 0
		uris[resourceOf(p.sent)] = true
	}
	if err := im.count(ctx, run[0], uris, wanted); err != nil {
		return nil, err
	}
	before := im.before(run)
	var left []*parcel
	for _, p := range run {
		k := contentOf(p.sent)
		before[p.content]++
		if wanted[k] >= before[p.content] {
			*counter++
			continue
		}
		left = append(left, p)
	}
	return left, nil
}

// before counts, for each content in the run, the equal occurrences of the same
// parent that come before the run's first in the file.
func (im *importer) before(run []*parcel) map[key]int {
	counts := map[key]int{}
	for _, p := range run {
		counts[p.content] = 0
	}
	first := run[0].line
	for _, e := range im.index.entries {
		if e.line == first && e.sort == occurrences {
			break
		}
		if _, asked := counts[e.content]; asked && e.sort == occurrences {
			if it, err := e.item(im.file); err == nil && strings.HasPrefix(it.name, run[0].parent+"/occurrences/") {
				counts[e.content]++
			}
		}
	}
	return counts
}

// count counts on the target the contents that are wanted, resource by resource.
// A server that does not filter shows it by other resources; its list is read once.
func (im *importer) count(ctx context.Context, one *parcel, uris map[string]bool, wanted map[key]int) error {
	filtered := true
	for uri := range uris {
		if !plain(uri) {
			filtered = false
		}
	}
	if filtered {
		counted := map[key]int{}
		obeyed := true
		for uri := range uris {
			err := im.walk(ctx, one, `resourceUrl="`+uri+`"`, func(m proto.Message) bool {
				obeyed = obeyed && bare(resourceOf(m)) == bare(uri)
				if resourceOf(m) == uri {
					counted[contentOf(m)]++
				}
				return obeyed
			})
			if err != nil && metadata.KindOf(err) != metadata.InvalidArgument {
				return explain(err, "looking for occurrences of %q", clean(uri))
			}
			obeyed = obeyed && err == nil
			if !obeyed {
				break
			}
		}
		if obeyed {
			for k := range wanted {
				wanted[k] = counted[k]
			}
			return nil
		}
	}
	seen := map[key]struct{}{}
	err := im.walk(ctx, one, "", func(m proto.Message) bool {
		k := contentOf(m)
		_, asked := wanted[k]
		_, again := seen[keyOf(nameOf(m))]
		if asked && !again {
			seen[keyOf(nameOf(m))] = struct{}{}
			wanted[k]++
		}
		return true
	})
	return explain(err, "looking for occurrences of %q", clean(one.parent))
}

// walk gives each of the parent's occurrences that match to take, until it says no.
func (im *importer) walk(ctx context.Context, one *parcel, filter string, take func(proto.Message) bool) error {
	w := &walk{caller: im.caller, of: "listing the occurrences of " + one.parent, size: DefaultPageSize,
		fetch: func(ctx context.Context, q query) ([]proto.Message, string, error) {
			return one.by.list(ctx, occurrences, q)
		}}
	w.restart()
	w.query.parent, w.query.filter = one.parent, filter
	for !w.done {
		rows, err := w.next(ctx)
		if err != nil {
			return err
		}
		for _, m := range rows {
			if strings.HasPrefix(nameOf(m), one.parent+"/") && !take(m) {
				return nil
			}
		}
	}
	return nil
}

// plain reports whether a URI can stand in a filter as it is.
func plain(uri string) bool {
	return uri != "" && !strings.ContainsFunc(uri, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == '*' || r > '~' })
}

// bare is a URI without the scheme that servers may ignore.
func bare(uri string) string { return strings.TrimPrefix(uri, "https://") }

// splitLocation cuts the name of a parent.
func splitLocation(parent string) (project, location string, ok bool) {
	return strings.Cut(parent, "/locations/")
}
