package metadata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func queryText(q OccurrenceQuery) string { return fmt.Sprintf("%+v", q) }

func contains(keys []Key, k Key) bool { return slices.Contains(keys, k) }

func TestNames(t *testing.T) {
	t.Parallel()
	const id = "01890a5d-ac96-7000-8000-0123456789ab"
	for _, good := range []string{
		"projects/p", "projects/p/locations/eu",
		"projects/p/notes/n", "projects/p/notes/a b?#:ä", "projects/p/locations/eu/notes/n",
		"projects/p/occurrences/" + id, "projects/p/locations/eu/occurrences/" + id,
		"projects/locations/notes/notes", "projects/p/notes/locations",
	} {
		if got := parseAny(good); got != good {
			t.Errorf("%q was read as %q", good, got)
		}
	}
	for _, bad := range []string{
		"", "projects", "projects/", "projects//notes/n", "/projects/p", "projects/p/", "projects/p/notes", "projects/p/notes/",
		"projects/p/notes/a/b", "projects/p/notes/n/", "projects/p/locations", "projects/p/locations//notes/n", "projects/p/locations/eu/",
		"projects/p/locations/eu/locations/us/notes/n", "projects/./notes/n", "projects/p/notes/..", "projects/p/notes/a\nb",
		"projects/p/notes/\xff", "projects/p/notes/" + strings.Repeat("x", 257), "providers/p/notes/n", "Projects/p/notes/n",
		"projects/p/notes/a\u202eb", "projects/p/notes/a\u200bb", "projects/p\u2028/notes/n", "projects/p/notes/*", "projects/a*",
		"projects/p/occurrences/", "projects/p/occurrences/a/b", "projects/p/occurrence/" + id,
	} {
		if got := parseAny(bad); got != "" {
			t.Errorf("%q was accepted as %q", bad, got)
		}
	}
	for _, strange := range []string{"x", strings.ToUpper(id), id + "0", "00000000-0000-0000-0000-000000000000"} {
		if _, err := ParseOccurrenceName("projects/p/occurrences/" + strange); KindOf(err) != NotFound {
			t.Errorf("occurrence id %q: got error %v, want one of kind NotFound", strange, err)
		}
	}
}

// parseAny returns what the one parser that accepts s makes of it.
func parseAny(s string) string {
	var got []string
	if p, err := ParseParent(s); err == nil {
		got = append(got, p.String())
	}
	if n, err := ParseNoteName(s); err == nil {
		got = append(got, n.String())
	}
	if n, err := ParseOccurrenceName(s); err == nil {
		got = append(got, n.String())
	}
	return strings.Join(got, " and ")
}

// FuzzNames checks that a name is accepted by one parser at most, and only in
// the form in which it is printed.
func FuzzNames(f *testing.F) {
	f.Add("projects/p")
	f.Add("projects/p/notes/n")
	f.Add("projects/p/locations/eu/occurrences/01890a5d-ac96-7000-8000-0123456789ab")
	f.Fuzz(func(t *testing.T, s string) {
		if got := parseAny(s); got != "" && got != s {
			t.Errorf("%q was read as %q", s, got)
		}
	})
}

func TestIDsGrow(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_790_000_000_123)
	s := &idSource{now: func() time.Time { return now }}
	var last ID
	for range 3 {
		ids, err := s.next(3000) // more than fit in one millisecond's counter
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if bytes.Compare(id[:], last[:]) <= 0 {
				t.Fatalf("id %s after %s", id, last)
			}
			if id[6]>>4 != 7 || id[8]>>6 != 2 {
				t.Fatalf("id %s is not a UUID of version 7", id)
			}
			if parsed, ok := parseID(id.String()); !ok || parsed != id {
				t.Fatalf("id %s does not survive its text form", id)
			}
			last = id
		}
		now = now.Add(-time.Hour) // the clock is set back
	}
	if !strings.HasPrefix(last.String(), "01a0c450-6c7d-7") {
		t.Errorf("id %s does not begin with the time", last)
	}
	broken := &idSource{now: time.Now, random: strings.NewReader("")}
	if _, err := broken.next(1); !errors.Is(err, io.EOF) {
		t.Errorf("without randomness: got error %v", err)
	}
}

func TestTokensWorkForTheirListOnly(t *testing.T) {
	t.Parallel()
	c, err := newTokenCodec(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	l := listing{"ListNotes", "projects/p", `kind="BUILD"`}
	token := c.encode(l, "position")
	if got, err := c.decode(l, token); err != nil || got != "position" {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, other := range []listing{
		{"ListOccurrences", l.parent, l.filter}, {l.method, "projects/q", l.filter}, {l.method, l.parent, ""},
		{l.method + l.parent, "", l.filter},
	} {
		if _, err := c.decode(other, token); KindOf(err) != InvalidArgument {
			t.Errorf("a foreign list %v: got error %v", other, err)
		}
	}
	key := bytes.Repeat([]byte{1}, 32)
	stranger, err := newTokenCodec(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"0", "-1", "AAAA", token[1:], token + "A", token[:len(token)-1], strings.ToUpper(token),
		stranger.encode(l, "position"), strings.Repeat("A", 10000), token + "=", token + "\n", token[:3] + "\r\n" + token[3:]} {
		if _, err := c.decode(l, bad); KindOf(err) != InvalidArgument {
			t.Errorf("token %q: got error %v", clip(bad), err)
		}
	}
	if _, err := newTokenCodec(nil); err == nil {
		t.Error("an empty key was accepted")
	}
}

// FuzzPageToken checks that only tokens that were given out are accepted.
func FuzzPageToken(f *testing.F) {
	c := &tokenCodec{key: make([]byte, 32)}
	l := listing{"ListNotes", "projects/p", ""}
	good := c.encode(l, "n")
	f.Add(good)
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		if position, err := c.decode(l, token); err == nil && c.encode(l, position) != token {
			t.Errorf("%q was accepted", token)
		}
	})
}

func TestKinds(t *testing.T) {
	t.Parallel()
	// Every member of the oneofs has the name of a kind.
	for _, message := range []protoreflect.MessageDescriptor{
		(&grafeas.Note{}).ProtoReflect().Descriptor(), (&grafeas.Occurrence{}).ProtoReflect().Descriptor(),
	} {
		for i := range message.Oneofs().Len() {
			for j := range message.Oneofs().Get(i).Fields().Len() {
				name := strings.ToUpper(string(message.Oneofs().Get(i).Fields().Get(j).Name()))
				if _, ok := parseKind(name); !ok {
					t.Errorf("%s has a member without a kind: %s", message.Name(), name)
				}
			}
		}
	}
	if got := noteKind(&grafeas.Note{Type: &grafeas.Note_DsseAttestation{}}); got != grafeas.NoteKind_DSSE_ATTESTATION {
		t.Errorf("kind is %v", got)
	}
	if got := occurrenceKind(&grafeas.Occurrence{Kind: grafeas.NoteKind_BUILD}); got != 0 {
		t.Errorf("kind without details is %v", got)
	}
	if _, ok := parseKind("NOTE_KIND_UNSPECIFIED"); ok {
		t.Error("the unspecified kind was accepted")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"https://h/r@" + testDigest:             testDigest,
		"h/r@" + testDigest:                     testDigest,
		"file://" + testDigest + ":name":        testDigest,
		"h/r:tag":                               "",
		"h/r@" + testDigest[:70]:                "",
		"h/r@sha256:" + strings.Repeat("A", 64): "",
		testDigest + "/" + "sha256:" + strings.Repeat("1", 64) + "sha256:short": "sha256:" + strings.Repeat("1", 64),
	} {
		if got := digestIn(uri); got != want {
			t.Errorf("digest in %q is %q, want %q", uri, got, want)
		}
	}
	o := func(change func(o *grafeas.Occurrence, a *grafeas.AttestationOccurrence)) Key {
		a := &grafeas.AttestationOccurrence{SerializedPayload: []byte("ab"), Signatures: []*grafeas.Signature{{PublicKeyId: "c", Signature: []byte("d")}}}
		o := &grafeas.Occurrence{Name: "projects/p/occurrences/1", NoteName: "n", ResourceUri: "https://r", Details: &grafeas.Occurrence_Attestation{Attestation: a}}
		change(o, a)
		return KeysOf(o).Statement
	}
	base := o(func(*grafeas.Occurrence, *grafeas.AttestationOccurrence) {})
	if same := o(func(o *grafeas.Occurrence, _ *grafeas.AttestationOccurrence) {
		o.Name, o.ResourceUri, o.Remediation = "projects/p/occurrences/2", "r", "x"
	}); same != base {
		t.Error("the id, the scheme or a remark changed the statement's key")
	}
	for i, other := range []Key{
		o(func(o *grafeas.Occurrence, _ *grafeas.AttestationOccurrence) { o.Name = "projects/q/occurrences/1" }),
		o(func(o *grafeas.Occurrence, _ *grafeas.AttestationOccurrence) { o.NoteName = "m" }),
		o(func(o *grafeas.Occurrence, _ *grafeas.AttestationOccurrence) { o.ResourceUri = "s" }),
		o(func(_ *grafeas.Occurrence, a *grafeas.AttestationOccurrence) { a.SerializedPayload = []byte("a") }),
		o(func(_ *grafeas.Occurrence, a *grafeas.AttestationOccurrence) { a.Signatures[0].PublicKeyId = "" }),
		o(func(_ *grafeas.Occurrence, a *grafeas.AttestationOccurrence) { a.Signatures[0].Signature = nil }),
		o(func(_ *grafeas.Occurrence, a *grafeas.AttestationOccurrence) { a.Signatures = nil }),
		o(func(_ *grafeas.Occurrence, a *grafeas.AttestationOccurrence) {
			a.Jwts = []*grafeas.Jwt{{CompactJwt: "j"}}
		}),
	} {
		if other == base {
			t.Errorf("statement %d has the key of another", i)
		}
	}
	if !KeysOf(&grafeas.Occurrence{Details: &grafeas.Occurrence_Vulnerability{}}).Statement.IsZero() {
		t.Error("a vulnerability has a statement key")
	}
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code codes.Code
		http int
		name string
	}{
		{Errorf(NotFound, "x"), codes.NotFound, 404, "NOT_FOUND"},
		{fmt.Errorf("reading: %w", Errorf(AlreadyExists, "x")), codes.AlreadyExists, 409, "ALREADY_EXISTS"},
		{ErrCompacted, codes.OutOfRange, 400, "OUT_OF_RANGE"},
		{ErrClosed, codes.Unavailable, 503, "UNAVAILABLE"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, 504, "DEADLINE_EXCEEDED"},
		{errors.New("x"), codes.Internal, 500, "INTERNAL"},
		{Errorf(Kind(99), "x"), codes.Internal, 500, "INTERNAL"},
		{nil, codes.Internal, 500, "INTERNAL"},
	} {
		k := KindOf(test.err)
		if k.Code() != test.code || k.HTTPStatus() != test.http || k.String() != test.name {
			t.Errorf("%v is %v, %v, %d", test.err, k, k.Code(), k.HTTPStatus())
		}
	}
	for k := range kinds {
		if got := KindOfCode(kinds[k].code); got != Kind(k) {
			t.Errorf("code %v is of kind %v, want %v", kinds[k].code, got, Kind(k))
		}
	}
	cause := errors.New("cause")
	if !errors.Is(Errorf(Internal, "x: %w", cause), cause) {
		t.Error("the cause is lost")
	}
}
