package signature

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/image"
)

// The types of in-toto statements that are read; both have the same members.
const (
	StatementV01 = "https://in-toto.io/Statement/v0.1"
	StatementV1  = "https://in-toto.io/Statement/v1"
)

const (
	// maxSubjects bounds the artifacts that one statement is about; a release has
	// some dozens.
	maxSubjects = 4096
	// maxName bounds the names in a statement: of a subject, of a predicate's type.
	maxName = 4096
)

// A Statement is an in-toto statement: a predicate about artifacts.
type Statement struct {
	// Type is [StatementV01] or [StatementV1].
	Type string
	// Subjects are what it is about, at least one.
	Subjects []Subject
	// PredicateType says what Predicate means, as a URI; it is never empty. Compare
	// it before reading on: a signed statement of another type is not evidence.
	PredicateType string
	// Predicate is a JSON object as it was signed, without repeated names, or nil
	// when the statement has none.
	Predicate []byte
}

// A Subject is one artifact of a statement.
type Subject struct {
	// Name tells artifacts of one statement apart. It may be empty, and identifies
	// nothing outside the statement.
	Name string
	// Digest is the artifact's SHA-256, or zero when the statement has another
	// digest only, of a Git commit for instance.
	Digest image.Digest
}

// About reports whether the image is one of the statement's subjects. Nothing is
// about the zero digest.
func (s Statement) About(d image.Digest) bool {
	if d.IsZero() {
		return false
	}
	for _, subject := range s.Subjects {
		if subject.Digest == d {
			return true
		}
	}
	return false
}

// statementJSON is the wire form. Members that it does not have are ignored, as
// in-toto asks.
type statementJSON struct {
	Type          string         `json:"_type"`
	Subject       jsontext.Value `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     jsontext.Value `json:"predicate"`
}

type subjectJSON struct {
	Name   string         `json:"name"`
	Digest jsontext.Value `json:"digest"`
}

type digestJSON struct {
	SHA256 jsontext.Value `json:"sha256"`
}

func parseStatement(b []byte) (Statement, error) {
	s, err := readStatement(b)
	if err != nil {
		return Statement{}, fmt.Errorf("parsing in-toto statement: %w", err)
	}
	return s, nil
}

// readStatement reads a body whose size an envelope has bounded.
func readStatement(b []byte) (Statement, error) {
	var wire statementJSON
	if err := json.Unmarshal(b, &wire); err != nil {
		return Statement{}, malformedJSON(err)
	}
	if wire.Type != StatementV01 && wire.Type != StatementV1 {
		return Statement{}, fmt.Errorf("%w: _type is %q, want %q or %q", ErrWrongType, clip(wire.Type), StatementV1, StatementV01)
	}
	if n := len(wire.PredicateType); n == 0 || n > maxName {
		return Statement{}, fmt.Errorf("%w: predicateType has %d bytes, want 1 to %d", ErrMalformed, n, maxName)
	}
	if wire.Predicate != nil && wire.Predicate.Kind() != '{' {
		return Statement{}, fmt.Errorf("%w: the predicate is no object", ErrMalformed)
	}
	subjects, err := readArray[subjectJSON](wire.Subject, maxSubjects)
	if err != nil {
		return Statement{}, fmt.Errorf("subject: %w", err)
	}
	s := Statement{Type: wire.Type, PredicateType: wire.PredicateType, Predicate: wire.Predicate}
	for i, subject := range subjects {
		digest, err := readDigestSet(subject.Digest)
		if err == nil && len(subject.Name) > maxName {
			err = fmt.Errorf("%w: the name has %d bytes, more than %d", ErrMalformed, len(subject.Name), maxName)
		}
		if err != nil {
			return Statement{}, fmt.Errorf("subject %d: %w", i+1, err)
		}
		s.Subjects = append(s.Subjects, Subject{Name: subject.Name, Digest: digest})
	}
	return s, nil
}

// readDigestSet returns the SHA-256 of a set of digests, or zero when the set has
// others only.
func readDigestSet(raw jsontext.Value) (image.Digest, error) {
	if raw.Kind() != '{' {
		return image.Digest{}, fmt.Errorf("%w: it has no set of digests", ErrMalformed)
	}
	var set digestJSON
	if err := json.Unmarshal(raw, &set); err != nil {
		return image.Digest{}, malformedJSON(err)
	}
	if set.SHA256 == nil {
		return image.Digest{}, nil
	}
	text, err := stringValue(set.SHA256)
	if err != nil {
		return image.Digest{}, fmt.Errorf("sha256: %w", err)
	}
	digest, err := image.ParseDigest("sha256:" + text)
	if err != nil {
		return image.Digest{}, fmt.Errorf("%w: sha256: %w", ErrMalformed, err)
	}
	return digest, nil
}
