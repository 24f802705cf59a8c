package index

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// CopySchema is the version of the form of a copy. A copy of another version is not
// read.
const CopySchema = 2

// ErrCopyChanged says that a copy was not finished because something else than evidence
// changed meanwhile: keys, or everything was read anew. Make it once more later.
var ErrCopyChanged = errors.New("copying the evidence: it was read anew meanwhile, or its keys changed")

// A CopyInfo tells what a copy is of.
type CopyInfo struct {
	// Position is the number of a change: all those up to it are in the copy, and later
	// ones may be, which is harmless since they are applied again.
	Position uint64
	// Notes, Projects and Scans are what the evidence is about: names of notes, ids of
	// projects whose statements are in it, and of those whose scans are.
	Notes, Projects, Scans []string
	// Digests is how many there are, in a copy that was read.
	Digests int
}

// maxCopied bounds a text in a copy.
const maxCopied = 1 << 20

// WriteCopy writes the verified facts that x has, with the fingerprint of the key of
// each, so that they need not be verified again by who trusts that key. It is for an
// index of the same version, and whoever reads it must know that nobody else has
// written it. Requests are answered meanwhile. It calls begin with what the copy will
// be of, and writes to what that returns.
func (x *Index) WriteCopy(begin func(CopyInfo) (io.Writer, error)) error {
	if !x.setting.TryLock() {
		return ErrCopyChanged
	}
	trust, scope := x.trust.Load(), x.scope.Load()
	names := maps.Clone(*trust)
	projects := maps.Clone(*scope)
	maps.DeleteFunc(names, func(name string, _ []*signature.PublicKey) bool { return x.unread[name] })
	maps.DeleteFunc(projects, func(id string, _ bool) bool { return x.unscanned[id] })
	position := x.progress.position()
	x.mu.RLock()
	renewed := x.renewed
	digests := make([]image.Digest, 0, x.book.entries.len())
	for d := range x.book.entries.all() {
		digests = append(digests, d)
	}
	x.mu.RUnlock()
	hinted := x.hints.copied()
	x.setting.Unlock()

	info := infoOf(position, names, projects)
	for _, h := range hinted {
		info.Notes = append(info.Notes, h.note)
	}
	to, err := begin(info)
	if err != nil {
		return err
	}
	w := newCopyWriter(to)
	x.writeHead(w, position, names, projects)
	w.hints(hinted)
	const batch = 256 // a lock is held for as many
	for rest := digests; len(rest) > 0 && w.err == nil; {
		now := rest[:min(len(rest), batch)]
		rest = rest[len(now):]
		x.mu.RLock()
		for _, d := range now {
			if e := x.book.entries.of(d); e != nil { // or gone meanwhile
				w.entry(e, &x.book.findings)
			}
		}
		x.mu.RUnlock()
		w.flush()
	}
	w.uvarint(0)
	w.flush()
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.trust.Load() != trust || x.scope.Load() != scope || x.renewed != renewed || x.progress.position() < position {
		return ErrCopyChanged
	}
	return w.err
}

func infoOf(position uint64, trust Trust, scope map[string]bool) CopyInfo {
	info := CopyInfo{Position: position, Scans: slices.Sorted(maps.Keys(scope))}
	for _, name := range slices.Sorted(maps.Keys(trust)) {
		if isNote(name) {
			info.Notes = append(info.Notes, name)
		} else {
			info.Projects = append(info.Projects, projectID(name))
		}
	}
	return info
}

func (x *Index) writeHead(w *copyWriter, position uint64, trust Trust, scope map[string]bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	w.uvarint(CopySchema)
	w.uvarint(position)
	w.uvarint(uint64(x.book.wholes.limit))
	w.uvarint(uint64(len(trust)))
	for _, name := range slices.Sorted(maps.Keys(trust)) {
		w.text(name)
		w.uvarint(uint64(len(trust[name])))
		for _, k := range trust[name] {
			w.key(unique.Make(keyName{k.ID(), k.Fingerprint()}))
		}
	}
	w.uvarint(uint64(len(scope)))
	for _, id := range slices.Sorted(maps.Keys(scope)) {
		w.text(id)
	}
	w.uvarint(uint64(len(x.book.analyses.known)))
	for _, name := range slices.Sorted(maps.Keys(x.book.analyses.known)) {
		w.text(name)
		w.bool(x.book.analyses.known[name])
	}
	w.flush()
}

// ReadCopy fills a new index with what [Index.WriteCopy] has written. It trusts nobody
// until [Index.SetTrust], which then reads from the source only what is filed under
// notes, and in projects, that have keys which the copy does not know; facts by keys
// that are trusted no more are dropped. When it fails, the index is not to be used.
func (x *Index) ReadCopy(from io.Reader) (CopyInfo, error) {
	r := newCopyReader(from)
	x.setting.Lock()
	defer x.setting.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	info, err := x.readCopy(r)
	if err != nil {
		return CopyInfo{}, fmt.Errorf("reading the copy of the evidence: %w", err)
	}
	x.start = info.Position
	x.progress.init(info.Position)
	return info, nil
}

func (x *Index) readCopy(r *copyReader) (CopyInfo, error) {
	if schema := r.uvarint(); r.err == nil && schema != CopySchema {
		return CopyInfo{}, fmt.Errorf("it has version %d, and this is version %d", schema, CopySchema)
	}
	info := CopyInfo{Position: r.uvarint()}
	x.copiedLimit = r.size()
	x.book.keepWholes(x.copiedLimit)
	x.copied = make(map[string]map[keyName]bool)
	r.each(func() {
		name := r.text().Value()
		keys := make(map[keyName]bool)
		r.each(func() { keys[r.key().Value()] = true })
		x.copied[name] = keys
		if isNote(name) {
			info.Notes = append(info.Notes, name)
		} else {
			info.Projects = append(info.Projects, projectID(name))
		}
	})
	scope := make(map[string]bool)
	r.each(func() {
		id := r.text().Value()
		scope[id] = true
		info.Scans = append(info.Scans, id)
	})
	x.scope.Store(&scope)
	r.each(func() {
		name := r.text().Value()
		x.book.analyses.known[name] = r.bool()
	})
	x.hints.stored = make(map[string]copiedHints)
	r.each(func() {
		h := r.hints()
		x.hints.stored[h.note] = h
		info.Notes = append(info.Notes, h.note)
	})
	for r.err == nil && r.uvarint() == 1 {
		r.entry(&x.book)
	}
	r.end()
	info.Digests = x.book.entries.len()
	return info, r.err
}

// adopt says which statements of a copy count: those by keys of the trust that is about
// to be set, under names of which the copy has the statements by all keys. What it has
// under others is read anew, and so is everything if more statements of provenances are
// to be kept than the copy has.
func (x *Index) adopt(trust Trust) {
	if x.copied == nil {
		return
	}
	covered := Trust{}
	for name, keys := range trust {
		copied, ok := x.copied[name]
		if ok && x.book.wholes.limit <= x.copiedLimit && !slices.ContainsFunc(keys, func(k *signature.PublicKey) bool { return !copied[keyName{k.ID(), k.Fingerprint()}] }) {
			covered[name] = keys
		}
	}
	x.copied = nil
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trust.Store(&covered)
	x.book.keep(covered.why())
	x.held = covered
}

// A copyWriter writes the parts of a copy. Texts and keys are written once, and then by
// their numbers.
type copyWriter struct {
	to    io.Writer
	buf   []byte
	err   error
	texts map[string]uint64
	keys  map[unique.Handle[keyName]]uint64
	// findings and words are those of scans.
	findings map[evidence.Finding]uint64
	words    map[unique.Handle[word]]uint64
}

func newCopyWriter(to io.Writer) *copyWriter {
	return &copyWriter{
		to: to, texts: make(map[string]uint64), keys: make(map[unique.Handle[keyName]]uint64),
		findings: make(map[evidence.Finding]uint64), words: make(map[unique.Handle[word]]uint64),
	}
}

func (w *copyWriter) flush() {
	if w.err == nil {
		_, w.err = w.to.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

func (w *copyWriter) uvarint(v uint64) { w.buf = binary.AppendUvarint(w.buf, v) }
func (w *copyWriter) varint(v int64)   { w.buf = binary.AppendVarint(w.buf, v) }

func (w *copyWriter) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	w.buf = append(w.buf, b)
}

func (w *copyWriter) raw(s string) {
	w.uvarint(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// text writes the number of a text, or 0 and the text itself, which then gets the next.
func (w *copyWriter) text(s string) {
	if known(w, w.texts, s) {
		w.raw(s)
	}
}

// known writes the number of v, or, if it has none yet, gives it one and writes 0.
func known[K comparable](w *copyWriter, numbers map[K]uint64, v K) (isNew bool) {
	n, ok := numbers[v]
	if !ok {
		numbers[v] = uint64(len(numbers)) + 1
	}
	w.uvarint(n)
	return !ok
}

func (w *copyWriter) key(k unique.Handle[keyName]) {
	if known(w, w.keys, k) {
		v := k.Value()
		w.raw(v.id)
		w.buf = append(w.buf, v.fingerprint[:]...)
	}
}

func (w *copyWriter) time(t time.Time) {
	b, err := t.MarshalBinary()
	if err != nil && w.err == nil {
		w.err = err
	}
	w.raw(string(b))
}

func (w *copyWriter) entry(e *entry, f *findings) {
	w.uvarint(1)
	w.buf = append(w.buf, e.sum[:]...)
	statements, scans := e.stated(), e.scanned()
	w.uvarint(uint64(len(statements)))
	for i := range statements {
		w.statement(&statements[i])
	}
	w.uvarint(uint64(len(scans)))
	for i := range scans {
		w.scan(&scans[i], f)
	}
}

// What more a statement has.
const (
	noMore = iota
	moreBounds
	moreTime
	moreBuild
	moreReason
)

func (w *copyWriter) statement(s *statement) {
	c := s.common.Value()
	w.text(c.before.Value())
	w.buf = append(w.buf, s.id[:]...)
	w.text(c.note.Value())
	w.key(c.key)
	w.text(c.repository.Value())
	w.varint(s.created)
	w.buf = append(w.buf, byte(c.kind), byte(c.via), byte(c.rank))
	w.bool(c.cosign)
	switch more := s.more.(type) {
	case nil:
		w.uvarint(noMore)
	case bounds:
		w.uvarint(moreBounds)
		w.time(more.notBefore)
		w.time(more.notAfter)
	case time.Time:
		w.uvarint(moreTime)
		w.time(more)
	case unique.Handle[builtFrom]:
		b := more.Value()
		w.uvarint(moreBuild)
		w.text(b.builder)
		w.text(b.source)
		w.bool(b.configBased)
		w.raw(b.statement)
	case string:
		w.uvarint(moreReason)
		w.text(more)
	default:
		w.err = fmt.Errorf("copying the evidence: a statement has a %T", more)
	}
}

func (w *copyWriter) scan(s *keptScan, f *findings) {
	parent := s.of.parent.Value()
	w.text(parent.Project)
	w.text(parent.Location)
	w.buf = append(w.buf, s.of.resource[:]...)
	w.bool(s.truncated)
	w.uvarint(uint64(len(s.words)))
	for _, h := range s.words {
		if known(w, w.words, h) {
			v := h.Value()
			w.raw(v.scanner)
			w.varint(int64(v.status))
		}
	}
	w.uvarint(uint64(len(s.findings)))
	for _, number := range s.findings {
		if v := f.of(number); known(w, w.findings, v) {
			w.raw(v.Note)
			w.varint(int64(v.Severity))
			w.bool(v.Fixable)
		}
	}
}

// A copyReader reads them again. After an error it returns zero values.
type copyReader struct {
	from     *bufio.Reader
	err      error
	scratch  bytes.Buffer
	texts    []unique.Handle[string]
	keys     []unique.Handle[keyName]
	findings []evidence.Finding
	words    []unique.Handle[word]
}

func newCopyReader(from io.Reader) *copyReader {
	return &copyReader{from: bufio.NewReaderSize(from, 256<<10)}
}

var errCopy = errors.New("it is damaged")

func (r *copyReader) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if r.err == nil {
		r.err = err
	}
}

func (r *copyReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(r.from)
	if err != nil {
		r.fail(err)
		return 0
	}
	return v
}

func (r *copyReader) varint() int64 {
	if r.err != nil {
		return 0
	}
	v, err := binary.ReadVarint(r.from)
	if err != nil {
		r.fail(err)
		return 0
	}
	return v
}

// size reads a number that an int has room for.
func (r *copyReader) size() int {
	v := r.uvarint()
	if v > 1<<40 {
		r.fail(errCopy)
		return 0
	}
	return int(v)
}

// each reads how many things follow, and calls fn for each, as long as all is well.
// Memory grows with what is there, and not with what is said.
func (r *copyReader) each(fn func()) {
	for range r.size() {
		if r.err != nil {
			return
		}
		fn()
	}
}

func (r *copyReader) byte() byte {
	if r.err != nil {
		return 0
	}
	b, err := r.from.ReadByte()
	if err != nil {
		r.fail(err)
	}
	return b
}

func (r *copyReader) bool() bool {
	b := r.byte()
	if b > 1 {
		r.fail(errCopy)
	}
	return b == 1
}

func (r *copyReader) full(to []byte) {
	if r.err != nil {
		return
	}
	if _, err := io.ReadFull(r.from, to); err != nil {
		r.fail(err)
	}
}

// raw reads a text of some length.
func (r *copyReader) raw() []byte {
	n := r.size()
	if n > maxCopied {
		r.fail(errCopy)
	}
	if r.err != nil {
		return nil
	}
	r.scratch.Reset()
	r.scratch.Grow(n)
	b := r.scratch.AvailableBuffer()[:n]
	r.full(b)
	return b
}

// numbered returns the thing of a number, or reads it.
func numbered[V any](r *copyReader, have *[]V, read func() V) (v V) {
	n := r.uvarint()
	switch {
	case r.err != nil:
		return v
	case n == 0:
		v = read()
		if r.err == nil {
			*have = append(*have, v)
		}
		return v
	case n > uint64(len(*have)):
		r.fail(errCopy)
		return v
	}
	return (*have)[n-1]
}

func (r *copyReader) text() unique.Handle[string] {
	h := numbered(r, &r.texts, func() unique.Handle[string] { return unique.Make(string(r.raw())) })
	if r.err != nil {
		return unique.Make("")
	}
	return h
}

func (r *copyReader) key() unique.Handle[keyName] {
	h := numbered(r, &r.keys, func() unique.Handle[keyName] {
		k := keyName{id: string(r.raw())}
		r.full(k.fingerprint[:])
		return unique.Make(k)
	})
	if r.err != nil {
		return unique.Make(keyName{})
	}
	return h
}

func (r *copyReader) time() (t time.Time) {
	if b := r.raw(); r.err == nil {
		if err := t.UnmarshalBinary(b); err != nil {
			r.fail(err)
		}
	}
	return t
}

func (r *copyReader) entry(b *book) {
	var sum [sha256.Size]byte
	r.full(sum[:])
	d := image.DigestFromSum(sum)
	if b.entries.of(d) != nil {
		r.fail(errCopy)
	}
	var statements []statement
	r.each(func() { statements = append(statements, r.statement()) })
	var scans []scan
	r.each(func() { scans = append(scans, r.scan()) })
	if r.err != nil {
		return
	}
	for i := range statements {
		b.wholes.admit(d, statements[i].occurrence(), statements[i:i+1])
	}
	b.put(d, slices.Clip(statements))
	for i := range scans {
		b.scan(d, scans[i].of, &scans[i])
	}
	b.stripExcess()
}

func (r *copyReader) statement() statement {
	s := draft{common: common{before: r.text()}}
	r.full(s.id[:])
	s.note, s.key, s.repository = r.text(), r.key(), r.text()
	s.created = r.varint()
	s.kind, s.via, s.rank = kind(r.byte()), via(r.byte()), rank(r.byte())
	s.cosign = r.bool()
	switch r.uvarint() {
	case noMore:
	case moreBounds:
		s.more = bounds{r.time(), r.time()}
	case moreTime:
		s.more = r.time()
	case moreBuild:
		b := builtFrom{builder: r.text().Value(), source: r.text().Value(), configBased: r.bool()}
		b.statement = string(r.raw())
		s.more = unique.Make(b)
	case moreReason:
		s.more = r.text().Value()
	default:
		r.fail(errCopy)
	}
	if !s.sound() {
		r.fail(errCopy)
	}
	return s.statement()
}

// sound reports whether a draft is one that an examination makes.
func (s *draft) sound() bool {
	ok := s.kind <= rejection && s.rank <= otherwise && s.via != 0 && s.via <= viaNote|viaProject
	switch s.more.(type) {
	case nil, bounds:
		return ok && s.kind == attestation
	case time.Time:
		return ok && s.kind == upload
	case unique.Handle[builtFrom]:
		return ok && s.kind == provenance
	case string:
		return ok && s.kind == rejection
	}
	return false
}

func (r *copyReader) scan() scan {
	parent := metadata.Parent{Project: r.text().Value(), Location: r.text().Value()}
	s := scan{of: scanned{parent: unique.Make(parent)}}
	r.full(s.of.resource[:])
	s.truncated = r.bool()
	r.each(func() {
		s.words = append(s.words, numbered(r, &r.words, func() unique.Handle[word] {
			scanner := string(r.raw())
			return unique.Make(word{scanner, grafeas.DiscoveryOccurrence_AnalysisStatus(r.varint())})
		}))
	})
	r.each(func() {
		s.findings = append(s.findings, numbered(r, &r.findings, func() evidence.Finding {
			note := string(r.raw())
			return evidence.Finding{Note: note, Severity: int(r.varint()), Fixable: r.bool()}
		}))
	})
	s.words = slices.Clip(s.words)
	return s
}

// end holds that there is nothing more.
func (r *copyReader) end() {
	if r.err != nil {
		return
	}
	switch _, err := r.from.ReadByte(); {
	case err == nil:
		r.fail(errCopy)
	case !errors.Is(err, io.EOF):
		r.fail(err)
	}
}
