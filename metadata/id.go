package metadata

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// An ID identifies an occurrence: a UUID of version 7 (RFC 9562), whose order is
// the order of creation. The zero ID is none.
type ID [16]byte

// IsZero reports whether id is no id.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the usual text form in lower case.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:], id[10:])
	return string(b[:])
}

// parseID parses exactly what String prints; of anything else it makes the zero ID.
func parseID(s string) (ID, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, false
	}
	var id ID
	if _, err := hex.Decode(id[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return ID{}, false
	}
	if id.IsZero() || id.String() != s {
		return ID{}, false
	}
	return id, true
}

// MarshalText returns the id as String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText parses what MarshalText made.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, ok := parseID(string(text))
	if !ok {
		return fmt.Errorf("reading an occurrence id: %q is none", clip(string(text)))
	}
	*id = parsed
	return nil
}

// idOf returns the id in an occurrence's name.
func idOf(o *grafeas.Occurrence) (ID, error) {
	name, err := ParseOccurrenceName(o.GetName())
	if err != nil {
		return ID{}, fmt.Errorf("reading a stored occurrence: %w", err)
	}
	return name.ID, nil
}

// An idSource makes ids that grow strictly, even within a millisecond and when
// the clock steps back. It is safe for concurrent use.
type idSource struct {
	now    func() time.Time
	random io.Reader

	mu   sync.Mutex
	last uint64 // of the ids made: milliseconds since 1970 and, below them, a 12-bit counter
}

// next returns n new ids in growing order.
func (s *idSource) next(n int) ([]ID, error) {
	ids := make([]ID, n)
	low := make([]byte, 8*n)
	random := s.random
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, low); err != nil {
		return nil, fmt.Errorf("making an occurrence id: %w", err)
	}
	s.mu.Lock()
	first := max(s.last+1, uint64(max(s.now().UnixMilli(), 0))<<12)
	s.last = first + uint64(n) - 1
	s.mu.Unlock()

	for i := range ids {
		stamp := first + uint64(i)
		binary.BigEndian.PutUint64(ids[i][:8], stamp>>12<<16|7<<12|stamp&0xfff)
		copy(ids[i][8:], low[8*i:])
		ids[i][8] = ids[i][8]&0x3f | 0x80
	}
	return ids, nil
}
