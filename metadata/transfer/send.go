package transfer

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A parcel is an item on its way, in the version in which it is sent.
type parcel struct {
	item
	entry
	parent, id string
	by         remote
	sent       proto.Message
	failed     error // why it was refused in another version
}

// send sends the window. In doubt, what the target has was sent before.
func (im *importer) send(ctx context.Context, doubt bool) error {
	var groups [][]*parcel
	at := map[string]int{}
	for _, e := range im.index.entries[im.at.Done : im.at.Done+im.at.Sending] {
		it, err := e.item(im.file)
		if err != nil {
			return err
		}
		if it.sort == theProjects {
			if err := im.project(ctx, it, e); err != nil {
				return err
			}
			continue
		}
		p := &parcel{item: it, entry: e}
		p.parent, p.id, _ = split(it.sort, it.name)
		if !im.choose(p) {
			if err := im.refuse(p, fmt.Errorf("the target serves %s alone, which cannot hold it", im.remotes[0].version())); err != nil {
				return err
			}
			continue
		}
		i, known := at[p.parent]
		if !known {
			i = len(groups)
			at[p.parent], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], p)
	}
	for _, group := range groups {
		for _, run := range runs(group) {
			if err := im.sendRun(ctx, run, doubt); err != nil {
				return err
			}
		}
	}
	return nil
}

// choose chooses the version to send a parcel in: its own if the target has that.
func (im *importer) choose(p *parcel) bool {
	for _, v := range []Version{p.version, otherVersion(p.version)} {
		for _, r := range im.remotes {
			if r.version() == v && v != p.tried() {
				if m := p.in(v); m != nil {
					p.by, p.sent = r, m
					return true
				}
			}
		}
	}
	return false
}

// tried is the version in which a parcel was refused, "" if none.
func (p *parcel) tried() Version {
	if p.failed == nil {
		return ""
	}
	return p.by.version()
}

// runs cuts a group where the version changes or a message would be too large, in
// order: what is listed newest first should stay so.
func runs(group []*parcel) [][]*parcel {
	var all [][]*parcel
	size := 0
	for i, p := range group {
		n := proto.Size(p.sent) + len(p.name) + 64
		if i == 0 || p.by != group[i-1].by || size+n > maxSent {
			all, size = append(all, nil), 0
		}
		last := len(all) - 1
		all[last], size = append(all[last], p), size+n
	}
	return all
}

func (im *importer) sendRun(ctx context.Context, run []*parcel, doubt bool) error {
	if run[0].item.sort == occurrences && (doubt || im.opts.SkipExisting) {
		counter := &im.at.Occurrences.Existing
		if doubt {
			counter = &im.at.Occurrences.Created
		}
		var err error
		if run, err = im.absent(ctx, run, counter); err != nil {
			return err
		}
	}
	if len(run) == 0 {
		return nil
	}
	return im.batch(ctx, run)
}

// batch creates a run in one call. If that is refused, its halves are tried, down
// to single items, whose refusals tell why.
func (im *importer) batch(ctx context.Context, run []*parcel) error {
	if len(run) == 1 || im.single {
		return im.each(ctx, run)
	}
	var made []proto.Message
	run, err := im.tried(ctx, run, func(ctx context.Context, run []*parcel) (err error) {
		made, err = run[0].by.createAll(ctx, run[0].item.sort, run[0].parent, ids(run), sent(run))
		return err
	})
	switch {
	case len(run) == 0:
		return nil
	case err == nil && len(made) >= len(run):
		im.at.of(run[0].item.sort).Created += int64(len(run))
		return nil
	case err == nil:
		return im.partly(ctx, run, made)
	case codeOf(err) == codes.Unimplemented:
		im.single = true
		return im.each(ctx, run)
	case !refused(err):
		return explain(err, "creating %d %s in %q", len(run), run[0].item.sort, clean(run[0].parent))
	case len(run) == 1:
		return im.each(ctx, run)
	}
	half := len(run) / 2
	if err := im.batch(ctx, run[:half]); err != nil {
		return err
	}
	return im.batch(ctx, run[half:])
}

// partly deals with a batch of which the server says that it has created a part,
// as the reference server does: the rest is sent one by one, to learn why.
func (im *importer) partly(ctx context.Context, run []*parcel, made []proto.Message) error {
	k := run[0].item.sort
	counts := map[key]int{}
	for _, m := range made {
		counts[identity(k, m)]++
	}
	var rest []*parcel
	for _, p := range run {
		id := contentOf(p.sent)
		if k == notes {
			id = keyOf(p.name)
		}
		if counts[id] > 0 {
			counts[id]--
			im.at.of(k).Created++
			continue
		}
		rest = append(rest, p)
	}
	return im.each(ctx, rest)
}

// identity is what a message that a server answers can be known by.
func identity(k sort, m proto.Message) key {
	if k == notes {
		return keyOf(nameOf(m))
	}
	return contentOf(m)
}

// each creates parcels one by one.
func (im *importer) each(ctx context.Context, run []*parcel) error {
	for _, p := range run {
		if err := im.create(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) create(ctx context.Context, p *parcel) error {
	left, err := im.tried(ctx, []*parcel{p}, func(ctx context.Context, _ []*parcel) error {
		_, err := p.by.create(ctx, p.item.sort, p.parent, p.id, p.sent)
		return err
	})
	code := codeOf(err)
	switch {
	case len(left) == 0:
		return nil
	case err == nil:
		im.at.of(p.item.sort).Created++
		return nil
	case code == codes.AlreadyExists && p.item.sort == notes:
		return im.compare(ctx, p)
	case code == codes.AlreadyExists:
		im.at.Occurrences.Existing++
		return nil
	case !refused(err):
		return explain(err, "creating %s %q", p.item.sort.one(), clean(p.name))
	}
	reason := explain(err, "creating it through %s", p.by.version())
	if code == codes.NotFound && p.item.sort == occurrences {
		reason = fmt.Errorf("%w; its note is missing: import the project of the note too, before it", reason)
	}
	if p.failed == nil && code == codes.InvalidArgument {
		// The rules of the versions differ.
		p.failed = reason
		if im.choose(p) {
			return im.create(ctx, p)
		}
	}
	if p.failed != nil {
		reason = p.failed
	}
	return im.refuse(p, reason)
}

// compare decides what becomes of a note whose name the target has.
func (im *importer) compare(ctx context.Context, p *parcel) error {
	var has proto.Message
	err := im.caller.call(ctx, func(ctx context.Context) (err error) {
		has, err = p.by.get(ctx, notes, p.name)
		return err
	})
	switch {
	case err != nil && refused(err):
		return im.refuse(p, explain(err, "it exists, and cannot be compared"))
	case err != nil:
		return explain(err, "reading note %q", clean(p.name))
	case contentOf(has) == contentOf(p.sent):
		im.at.Notes.Existing++
		return nil
	case im.opts.OnConflict == FailConflict:
		return metadata.Errorf(metadata.AlreadyExists, "line %d: note %q exists with other content, and --on-conflict is %s", p.line, clean(p.name), FailConflict)
	case im.opts.OnConflict != UpdateConflict:
		return im.refuse(p, fmt.Errorf("it exists with other content; --on-conflict %s makes it the file's", UpdateConflict))
	}
	err = im.caller.call(ctx, func(ctx context.Context) error { return p.by.updateNote(ctx, p.name, p.sent) })
	switch {
	case err == nil:
		im.at.Notes.Updated++
		return nil
	case refused(err):
		return im.refuse(p, explain(err, "updating it"))
	}
	return explain(err, "updating note %q", clean(p.name))
}

// project creates one. A location is no project, and needs none.
func (im *importer) project(ctx context.Context, it item, e entry) error {
	if _, location, _ := splitLocation(it.name); location != "" {
		im.at.Projects.Existing++
		return nil
	}
	err := im.caller.call(ctx, func(ctx context.Context) error { return im.remotes[0].createProject(ctx, it.name) })
	switch code := codeOf(err); {
	case err == nil:
		im.at.Projects.Created++
		return nil
	case code == codes.AlreadyExists, code == codes.Unimplemented:
		im.at.Projects.Existing++ // where there is no such service, all exist
		return nil
	case refused(err):
		return im.refuse(&parcel{item: it, entry: e}, explain(err, "creating it"))
	}
	return explain(err, "creating project %q", clean(it.name))
}

func (im *importer) refuse(p *parcel, reason error) error {
	it := p.item
	it.reason = clean(reason.Error())
	im.at.of(it.sort).Refused++
	if im.opts.Refused != nil {
		im.opts.Refused(int(p.line), it.name, it.reason)
	}
	return im.rejects.add(it)
}

// refused reports whether a call failed for what it said, so that others may pass.
func refused(err error) bool {
	switch codeOf(err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied, codes.Internal, codes.Unknown:
		return true
	}
	return tooLarge(err)
}

func ids(run []*parcel) []string {
	all := make([]string, len(run))
	for i, p := range run {
		all[i] = p.id
	}
	return all
}

func sent(run []*parcel) []proto.Message {
	all := make([]proto.Message, len(run))
	for i, p := range run {
		all[i] = p.sent
	}
	return all
}
