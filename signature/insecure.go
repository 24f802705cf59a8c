package signature

import "fmt"

// InsecureStatement reads the in-toto statement in an envelope without any look at who
// signed it: what it says is the word of whoever could write it there. It is for
// what needs no author, such as whether there is an SBOM.
func (e *Envelope) InsecureStatement() (Statement, error) {
	return Message{payloadType: e.payloadType, body: e.body}.Statement()
}

// InsecureParseStatement reads an in-toto statement that is in no envelope, of at most
// [MaxStatement] bytes. What it says is the word of whoever could write it there.
func InsecureParseStatement(b []byte) (Statement, error) {
	if len(b) > MaxStatement {
		return Statement{}, fmt.Errorf("parsing in-toto statement: %w: %d bytes, more than %d", ErrMalformed, len(b), MaxStatement)
	}
	return parseStatement(b)
}
