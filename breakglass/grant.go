package breakglass

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// GrantType is the payload type of the DSSE envelope that a grant is.
	GrantType = "application/vnd.gatehouse.breakglass-grant.v1+json"
	// MaxGrantLife bounds how long a grant may be for.
	MaxGrantLife = 7 * 24 * time.Hour
	// MaxGrantBytes bounds the text of a grant.
	MaxGrantBytes = 64 << 10
	// anywhere stands for every cluster or namespace.
	anywhere = "*"

	maxReason = 1024
	maxTicket = 128
	maxScope  = 1024
)

// A Grant permits to break glass: for some pods, for some time.
type Grant struct {
	// ID names it: 32 hexadecimal digits.
	ID string `json:"id"`
	// Cluster is LOCATION.NAME and Namespace a name, or "*" for all.
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	// Image is a digest (sha256:…), or a pattern as those of exempt images; "" is all.
	Image string `json:"image,omitempty"`
	// Workload is KIND/NAME of the outermost workload; "" is all.
	Workload string    `json:"workload,omitempty"`
	Begins   time.Time `json:"begins"`
	Ends     time.Time `json:"ends"`
	Reason   string    `json:"reason,omitempty"`
	Ticket   string    `json:"ticket,omitempty"`
}

// A Scope is what a grant is asked for.
type Scope struct {
	Cluster, Namespace string
	Workload           Workload
	Images             []string
}

// NewGrantID returns a new id.
func NewGrantID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// Check returns what is wrong with a grant.
func (g *Grant) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if raw, err := hex.DecodeString(g.ID); err != nil || len(raw) != 16 || g.ID != strings.ToLower(g.ID) {
		bad("id: want 32 hexadecimal digits")
	}
	for field, value := range map[string]string{"cluster": g.Cluster, "namespace": g.Namespace} {
		if value == "" || len(value) > maxScope || value != anywhere && strings.ContainsAny(value, "*/ \t\r\n") {
			bad("%s %q: want a name, or %q for all", field, cut(value, 100), anywhere)
		}
	}
	if len(g.Image) > maxScope {
		bad("image: more than %d bytes", maxScope)
	} else if g.Image != "" {
		if _, err := imageScope(g.Image); err != nil {
			bad("image: %w", err)
		}
	}
	if g.Workload != "" {
		if _, err := ParseWorkload(g.Workload); err != nil {
			errs = append(errs, err)
		}
	}
	switch life := g.Ends.Sub(g.Begins); {
	case g.Begins.IsZero() || g.Ends.IsZero() || life <= 0:
		bad("ends must be after begins")
	case life > MaxGrantLife:
		bad("it is for %s, and may be for %s", life, MaxGrantLife)
	}
	if len(g.Reason) > maxReason || len(g.Ticket) > maxTicket {
		bad("reason and ticket: at most %d and %d bytes", maxReason, maxTicket)
	}
	return errors.Join(errs...)
}

// Payload returns what is signed.
func (g *Grant) Payload() ([]byte, error) {
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("the grant is invalid: %w", err)
	}
	return json.Marshal(g, json.Deterministic(true))
}

// parseGrant parses what was signed.
func parseGrant(payload []byte) (Grant, error) {
	var g Grant
	if err := json.Unmarshal(payload, &g, json.RejectUnknownMembers(true)); err != nil {
		return Grant{}, fmt.Errorf("reading the grant: %w", err)
	}
	if err := g.Check(); err != nil {
		return Grant{}, fmt.Errorf("the grant is invalid: %w", err)
	}
	return g, nil
}

// imageScope returns what tells whether the text of an image is covered.
func imageScope(s string) (func(text string) bool, error) {
	if d, err := image.ParseDigest(s); err == nil {
		return func(text string) bool {
			ref, err := image.Parse(text)
			return err == nil && ref.Digest() == d
		}, nil
	}
	p, err := image.ParseBinauthzPattern(s)
	if err != nil {
		return nil, fmt.Errorf("%q is neither a digest (sha256:…) nor a pattern: %w", cut(s, 100), err)
	}
	return p.Match, nil
}

// A SignedGrant is a grant as it is passed on: a DSSE envelope.
type SignedGrant struct {
	PayloadType string           `json:"payloadType"`
	Payload     []byte           `json:"payload"`
	Signatures  []GrantSignature `json:"signatures"`
}

// A GrantSignature is by one key.
type GrantSignature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// ParseSignedGrant parses the text of a grant. Nothing is verified: Grant returns only
// what it says.
func ParseSignedGrant(text []byte) (SignedGrant, error) {
	var s SignedGrant
	if len(text) > MaxGrantBytes {
		return s, fmt.Errorf("reading the grant: it has more than %d bytes", MaxGrantBytes)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("reading the grant: %w", err)
	}
	if s.PayloadType != GrantType {
		return s, fmt.Errorf("reading the grant: its payloadType is %q, want %q", cut(s.PayloadType, 100), GrantType)
	}
	return s, nil
}

// Grant returns what the grant says, whoever says so.
func (s *SignedGrant) Grant() (Grant, error) { return parseGrant(s.Payload) }

// Sign adds a signature. Those who signed before have signed the same.
func (s *SignedGrant) Sign(ctx context.Context, key signature.Signer) error {
	if _, err := s.Grant(); err != nil {
		return err
	}
	s.PayloadType = GrantType
	for _, have := range s.Signatures {
		if have.KeyID == key.KeyID() {
			return fmt.Errorf("the grant is signed by key %q already", have.KeyID)
		}
	}
	sig, err := key.Sign(ctx, signature.PAE(GrantType, s.Payload))
	if err != nil {
		return fmt.Errorf("signing the grant: %w", err)
	}
	s.Signatures = append(s.Signatures, GrantSignature{key.KeyID(), sig})
	return nil
}

// Text returns the text of a grant.
func (s *SignedGrant) Text() ([]byte, error) { return json.Marshal(s, json.Deterministic(true)) }

// A Grantor is a person who may grant, and his keys.
type Grantor struct {
	Name string
	Keys []*signature.PublicKey
}

// tooFew says who has signed, and how many have to.
func tooFew(signed []string, grantors []Grantor, needed int) string {
	switch {
	case len(grantors) == 0:
		return "nobody may grant here: breakGlass.modes has no grant, or grantorsFiles name nobody"
	case len(signed) == 0:
		return fmt.Sprintf("nobody has signed it who may grant, and %d of them have to", needed)
	}
	return fmt.Sprintf("of those who may grant only %s signed it, and %d have to", strings.Join(signed, ", "), needed)
}

// Verify returns the grant if enough grantors have signed it, and their names. Two keys of
// one grantor are one grantor.
func (s *SignedGrant) Verify(grantors []Grantor, needed int) (Grant, []string, error) {
	g, err := s.Grant()
	if err != nil {
		return Grant{}, nil, err
	}
	sigs := make([]signature.EnvelopeSignature, len(s.Signatures))
	for i, sig := range s.Signatures {
		sigs[i] = signature.EnvelopeSignature{KeyID: sig.KeyID, Sig: sig.Sig}
	}
	e, err := signature.NewEnvelope(s.PayloadType, s.Payload, sigs)
	if err != nil {
		return Grant{}, nil, err
	}
	var names []string
	counted := map[signature.Fingerprint]bool{}
	for _, who := range grantors {
		for _, k := range who.Keys {
			if _, err := k.VerifyEnvelope(e); err == nil && !counted[k.Fingerprint()] && !slices.Contains(names, who.Name) {
				counted[k.Fingerprint()] = true // whoever shares a key with another is no second person
				names = append(names, who.Name)
			}
		}
	}
	if len(names) < max(needed, 1) {
		return Grant{}, names, fmt.Errorf("grant %s: %s", g.ID, tooFew(names, grantors, max(needed, 1)))
	}
	return g, names, nil
}
