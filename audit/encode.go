package audit

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// A record is encoded for each decision, while somebody waits for that: by hand, in the
// order and with the escapes of encoding/json, to which a fuzz test holds it.

// AppendRecord appends a record as it is in the log, without the end of the line.
func AppendRecord(b []byte, r *Record) ([]byte, error) {
	if !plainTime(r.Time) || r.Decision != nil && !plainTime(r.Decision.Time) {
		odd := *r                       // so that r need not be on the heap
		line, err := json.Marshal(&odd) // which says what is wrong
		return append(b, line...), err
	}
	e := encoder{b}
	at := e.open()
	e.text(`,"id":`, r.ID)
	e.time(`,"time":`, r.Time)
	e.text(`,"event":`, r.Event)
	e.maybe(`,"error":`, r.Error)
	e.maybe(`,"cluster":`, r.Cluster)
	e.maybe(`,"uid":`, r.UID)
	e.maybe(`,"operation":`, r.Operation)
	e.maybe(`,"resource":`, r.Resource)
	e.maybe(`,"namespace":`, r.Namespace)
	e.maybe(`,"name":`, r.Name)
	e.maybe(`,"user":`, r.User)
	e.maybe(`,"replica":`, r.Replica)
	if r.Took != 0 {
		if err := e.number(`,"took":`, r.Took); err != nil {
			return e.b, err
		}
	}
	e.truth(`,"dryRun":`, r.DryRun)
	if r.Decision != nil {
		e.key(`,"decision":`)
		e.decision(r.Decision)
	}
	if err := e.rare(r); err != nil {
		return e.b, err
	}
	e.close(at)
	return e.b, nil
}

// rare encodes what few records have.
func (e *encoder) rare(r *Record) error {
	if r.BreakGlass != nil {
		if err := e.any(`,"breakGlass":`, r.BreakGlass); err != nil {
			return err
		}
	}
	if len(r.Pinned) > 0 {
		if err := e.any(`,"pinned":`, r.Pinned); err != nil {
			return err
		}
	}
	if len(r.Policies) > 0 {
		if err := e.any(`,"policies":`, r.Policies); err != nil {
			return err
		}
	}
	if len(r.Before) > 0 {
		if err := e.any(`,"before":`, r.Before); err != nil {
			return err
		}
	}
	e.truth(`,"truncated":`, r.Truncated)
	if r.Origin != nil {
		if err := e.any(`,"origin":`, r.Origin); err != nil {
			return err
		}
	}
	if r.Lost != nil {
		return e.any(`,"lost":`, r.Lost)
	}
	return nil
}

func (e *encoder) decision(d *decide.Decision) {
	at := e.open()
	e.key(`,"allowed":`)
	e.b = strconv.AppendBool(e.b, d.Allowed)
	e.text(`,"verdict":`, d.Verdict.String())
	e.maybe(`,"override":`, string(d.Override))
	e.maybe(`,"breakGlass":`, d.BreakGlass)
	e.maybe(`,"justification":`, d.Justification)
	e.deciding(&d.Deciding)
	for i := range d.Policies {
		e.item(`,"policies":`, i)
		e.policy(&d.Policies[i])
	}
	e.last(len(d.Policies))
	e.text(`,"summary":`, d.Summary)
	e.time(`,"time":`, d.Time)
	e.list(`,"images":`, d.Images == nil, len(d.Images))
	for i := range d.Images {
		e.item(`,"images":`, i)
		e.image(&d.Images[i])
	}
	e.last(len(d.Images))
	e.close(at)
}

func (e *encoder) deciding(d *decide.Deciding) {
	e.maybe(`,"policy":`, d.Policy)
	e.maybe(`,"dialect":`, string(d.Dialect))
	e.maybe(`,"policyVersion":`, d.PolicyVersion)
	e.maybe(`,"rule":`, d.Rule)
	e.maybe(`,"source":`, d.Source)
}

func (e *encoder) policy(p *decide.PolicyDecision) {
	at := e.open()
	e.deciding(&p.Deciding)
	e.text(`,"verdict":`, p.Verdict.String())
	e.maybe(`,"override":`, string(p.Override))
	e.close(at)
}

func (e *encoder) image(d *decide.ImageDecision) {
	at := e.open()
	e.text(`,"image":`, d.Image)
	e.maybe(`,"container":`, d.Container)
	e.maybe(`,"containerType":`, string(d.Type))
	if !d.Digest.IsZero() {
		sum := d.Digest.Sum()
		e.key(`,"digest":"sha256:`)
		e.b = append(hex.AppendEncode(e.b, sum[:]), '"')
	}
	e.text(`,"verdict":`, d.Verdict.String())
	e.maybe(`,"exemption":`, d.Exemption)
	e.list(`,"reasons":`, d.Reasons == nil, len(d.Reasons))
	for i := range d.Reasons {
		e.item(`,"reasons":`, i)
		e.reason(&d.Reasons[i])
	}
	e.last(len(d.Reasons))
	e.close(at)
}

func (e *encoder) reason(r *decide.Reason) {
	at := e.open()
	e.text(`,"verdict":`, r.Verdict.String())
	e.text(`,"code":`, string(r.Code))
	e.text(`,"message":`, r.Message)
	e.maybe(`,"policy":`, r.Policy)
	if r.Check != nil {
		e.key(`,"check":`)
		check := e.open()
		e.key(`,"index":`)
		e.b = strconv.AppendInt(e.b, int64(r.Check.Index), 10)
		e.maybe(`,"name":`, r.Check.Name)
		e.text(`,"type":`, r.Check.Type)
		e.close(check)
	}
	e.maybe(`,"alternative":`, r.Alternative)
	e.maybe(`,"source":`, r.Source)
	e.maybe(`,"attestor":`, r.Attestor)
	e.maybe(`,"keyId":`, r.KeyID)
	e.maybe(`,"occurrence":`, r.Occurrence)
	e.maybe(`,"exemption":`, r.Exemption)
	for i, text := range r.Details {
		e.item(`,"details":`, i)
		e.b = appendText(e.b, text)
	}
	e.last(len(r.Details))
	e.maybe(`,"required":`, r.Required)
	e.maybe(`,"next":`, r.Next)
	e.close(at)
}

// An encoder writes members of objects, each after a comma; that of the first becomes the
// brace that opens the object.
type encoder struct{ b []byte }

func (e *encoder) open() (at int) { return len(e.b) }

func (e *encoder) close(at int) {
	e.b[at] = '{' // every object here has a member that is never left out
	e.b = append(e.b, '}')
}

func (e *encoder) key(key string) { e.b = append(e.b, key...) }

func (e *encoder) text(key, value string) {
	e.key(key)
	e.b = appendText(e.b, value)
}

// maybe leaves out what is empty.
func (e *encoder) maybe(key, value string) {
	if value != "" {
		e.text(key, value)
	}
}

func (e *encoder) truth(key string, value bool) {
	if value {
		e.key(key)
		e.b = append(e.b, "true"...)
	}
}

func (e *encoder) time(key string, value time.Time) {
	e.key(key)
	e.b = append(value.AppendFormat(append(e.b, '"'), time.RFC3339Nano), '"')
}

// number takes a short way for what is common.
func (e *encoder) number(key string, value float64) error {
	if size := math.Abs(value); size < 1e-6 || size >= 1e21 || math.IsNaN(value) {
		return e.any(key, value)
	}
	e.key(key)
	e.b = strconv.AppendFloat(e.b, value, 'f', -1, 64)
	return nil
}

func (e *encoder) any(key string, value any) error {
	text, err := json.Marshal(value)
	e.key(key)
	e.b = append(e.b, text...)
	return err
}

// list writes one that is never left out, if it has no item.
func (e *encoder) list(key string, null bool, items int) {
	switch {
	case null:
		e.key(key)
		e.b = append(e.b, "null"...)
	case items == 0:
		e.key(key)
		e.b = append(e.b, "[]"...)
	}
}

// item writes what is before an item, and last what is after all of them.
func (e *encoder) item(key string, i int) {
	if i > 0 {
		e.b = append(e.b, ',')
		return
	}
	e.key(key)
	e.b = append(e.b, '[')
}

func (e *encoder) last(items int) {
	if items > 0 {
		e.b = append(e.b, ']')
	}
}

// plainTime reports whether RFC 3339 can write a time.
func plainTime(t time.Time) bool {
	_, offset := t.Zone()
	year := t.Year()
	return year >= 0 && year <= 9999 && offset%60 == 0 && offset > -24*3600 && offset < 24*3600
}

// appendText appends a string in quotes, with the escapes of encoding/json.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, '\\', 'b')
			case '\f':
				b = append(b, '\\', 'f')
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[from:i]...), `\ufffd`...)
			from = i + size
		case r == '\u2028' || r == '\u2029':
			b = append(append(b, s[from:i]...), '\\', 'u', '2', '0', '2', hex[r&0xf])
			from = i + size
		}
		i += size
	}
	return append(append(b, s[from:]...), '"')
}
