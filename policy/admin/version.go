package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// timeForm is RFC 3339 with microseconds, as Google writes it.
	timeForm = "2006-01-02T15:04:05.000000Z"

	maxComment = 1000 // bytes
)

// newETag makes the etag of a version from its content without one. Like Google's
// it has 12 characters and, since it is an entity tag, double quotes around them.
func newETag(name string, revision uint64, bare []byte) string {
	h := sha256.New()
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], revision)
	_, _ = h.Write([]byte(name)) // a hash never fails
	_, _ = h.Write(number[:])
	_, _ = h.Write(bare)
	return `"` + base64.StdEncoding.EncodeToString(h.Sum(nil)[:9]) + `"`
}

// versionOf returns a stored revision.
func versionOf(d *metadata.Document) (Version, error) {
	v := Version{Name: d.Name, Content: d.Content, Revision: d.Revision, Author: d.Author, Time: d.Time, Comment: d.Comment}
	if d.Deleted() {
		return v, nil
	}
	var has struct {
		ETag string `json:"etag"`
	}
	if err := json.Unmarshal(d.Content, &has); err != nil {
		return v, metadata.Errorf(metadata.Internal, "reading the stored %q: %w", d.Name, err)
	}
	v.ETag = has.ETag
	return v, nil
}

// current returns the version in force: the standard one of what is there without
// having been written, and otherwise one without content if there is none.
func current(ctx context.Context, c *metadata.Call, name string, k *kind) (Version, error) {
	v := Version{Name: name}
	switch d, err := c.Store().Document(ctx, name, 0); {
	case err == nil:
		if v, err = versionOf(d); err != nil {
			return v, err
		}
	case metadata.KindOf(err) != metadata.NotFound:
		return v, err
	}
	if v.Deleted() && k.implied {
		content, err := k.standard(name)
		if err != nil {
			return v, err
		}
		return versionOf(&metadata.Document{Name: name, Content: content, Revision: v.Revision})
	}
	return v, nil
}

// found is current, and NotFound if there is none.
func found(ctx context.Context, c *metadata.Call, name string, k *kind) (Version, error) {
	v, err := current(ctx, c, name, k)
	if err == nil && v.Deleted() {
		err = missing(k, name)
	}
	return v, err
}

func missing(k *kind, name string) error {
	return metadata.Errorf(metadata.NotFound, "%s %q does not exist", k.noun, name)
}

// How a write is meant.
type intent int

const (
	replace intent = iota // what must be there
	create                // what must not
	restore               // either
)

// A writing is a text on its way into the store.
type writing struct {
	name    string
	kind    *kind
	intent  intent
	comment string
	next    parsed
}

// write stores a text as a new version.
func write(ctx context.Context, c *metadata.Call, w writing) (Version, error) {
	if err := checkComment(w.comment); err != nil {
		return Version{}, err
	}
	if err := checkReferred(ctx, c, w.name, w.next.refers); err != nil {
		return Version{}, err
	}
	var stale error // not to be tried again
	v, err := metadata.UntilUnchanged(ctx, c, w.name, func() (Version, error) {
		now, err := current(ctx, c, w.name, w.kind)
		if err != nil {
			return now, err
		}
		if err := w.check(now); err != nil {
			if metadata.KindOf(err) == metadata.Aborted {
				stale, err = err, nil
			}
			return now, err
		}
		return w.store(ctx, c, now)
	})
	if err == nil {
		err = stale
	}
	return v, err
}

// check holds a write to its intent.
func (w writing) check(now Version) error {
	switch {
	case w.intent == create && !now.Deleted():
		return metadata.Errorf(metadata.AlreadyExists, "%s %q already exists", w.kind.noun, w.name)
	case w.intent == replace && now.Deleted():
		return missing(w.kind, w.name)
	case w.intent != create && w.next.etag != "" && w.next.etag != now.ETag:
		return metadata.Changed(w.name)
	case w.kind.fits != nil && !now.Deleted():
		return w.kind.fits(now, w.next)
	}
	return nil
}

// store writes the version after now.
func (w writing) store(ctx context.Context, c *metadata.Call, now Version) (Version, error) {
	d := metadata.Document{
		Name: w.name, Revision: now.Revision + 1, Author: c.Caller().Name, Comment: w.comment,
		Time: later(c.Now(), now.Time),
	}
	updateTime := d.Time.Format(timeForm)
	bare, err := w.next.encode("", updateTime)
	if err != nil {
		return now, err
	}
	if d.Content, err = w.next.encode(newETag(w.name, d.Revision, bare), updateTime); err != nil {
		return now, err
	}
	if len(d.Content) > metadata.MaxDocumentBytes {
		return now, metadata.Errorf(metadata.InvalidArgument, "%s has %d bytes, at most %d are allowed", w.kind.noun, len(d.Content), metadata.MaxDocumentBytes)
	}
	if err := c.Store().Apply(ctx, metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Document: d, Refers: w.next.refers}}); err != nil {
		return now, err
	}
	return versionOf(&d)
}

// remove deletes a document. Without an etag whatever version is in force goes.
func remove(ctx context.Context, c *metadata.Call, name string, k *kind, etag string, evenIfReferred bool) error {
	var stale error // not to be tried again
	_, err := metadata.UntilUnchanged(ctx, c, name, func() (struct{}, error) {
		now, err := found(ctx, c, name, k)
		if err != nil {
			return struct{}{}, err
		}
		if etag != "" && etag != now.ETag {
			stale = metadata.Changed(name)
			return struct{}{}, nil
		}
		return struct{}{}, c.Store().Apply(ctx, metadata.Mutation{WriteDocument: &metadata.DocumentWrite{
			Document:       metadata.Document{Name: name, Revision: now.Revision + 1, Author: c.Caller().Name, Time: later(c.Now(), now.Time)},
			EvenIfReferred: evenIfReferred,
		}})
	})
	if err == nil {
		err = stale
	}
	return err
}

// later returns the time of a version: after that of the one before, even if the
// clock stepped back.
func later(now, before time.Time) time.Time {
	now = now.UTC().Truncate(time.Microsecond)
	if !now.After(before) {
		return before.Add(time.Microsecond)
	}
	return now
}

// checkComment takes one line that can be read.
func checkComment(text string) error {
	switch {
	case len(text) > maxComment:
		return metadata.Errorf(metadata.InvalidArgument, "the comment has %d bytes, at most %d are allowed", len(text), maxComment)
	case !utf8.ValidString(text):
		return metadata.Errorf(metadata.InvalidArgument, "the comment is not UTF-8")
	}
	for _, r := range text {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return metadata.Errorf(metadata.InvalidArgument, "the comment has %q in it; write one line of plain text", r)
		}
	}
	return nil
}
