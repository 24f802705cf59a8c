package binauthzapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Parameters that methods take.
const (
	paramAttestorID = "attestorId"
	paramPolicyID   = "policyId"
	paramPageSize   = "pageSize"
	paramPageToken  = "pageToken"
	paramETag       = "etag"
	paramForce      = "force"
	paramComment    = "comment"
)

// taken are all parameters that some method takes, and refused those that none
// does and that would change the answer, or the change, unnoticed.
var (
	taken   = []string{paramAttestorID, paramPolicyID, paramPageSize, paramPageToken, paramETag, paramForce, paramComment}
	refused = map[string]string{
		"fields":       "answers are whole",
		"key":          "API keys are not known; send an authorization header",
		"access_token": "credentials belong into the authorization header",
		"oauth_token":  "credentials belong into the authorization header",
		"callback":     "answers are JSON",
		"updateMask":   "documents are replaced whole",
		"validateOnly": "every write counts",
		"filter":       "lists are whole",
	}
)

// parameters are what a request asks for beside its path and its body.
type parameters struct {
	values map[string]string
	// numbers asks for enums by number, and compact for JSON on one line.
	numbers, compact bool
}

// parseParameters reads a query for a method that takes the named parameters.
// Clients send the ";" of "$alt" raw too, which net/url refuses.
func parseParameters(query string, takes []string) (parameters, error) {
	p := parameters{values: map[string]string{}}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, err := unescape(pair)
		if err != nil {
			return p, metadata.Errorf(metadata.InvalidArgument, "query parameter %q: %w", clip(pair), err)
		}
		if err := p.take(camelCase(name), name, value, takes); err != nil {
			return p, err
		}
	}
	return p, nil
}

func unescape(pair string) (name, value string, err error) {
	name, value, _ = strings.Cut(pair, "=")
	if name, err = url.QueryUnescape(name); err == nil {
		value, err = url.QueryUnescape(value)
	}
	return name, value, err
}

// take reads one parameter by its name, which was written in one of two ways.
func (p *parameters) take(name, written, value string, takes []string) error {
	if system, found := strings.CutPrefix(name, "$"); found || name == "alt" || name == "prettyPrint" {
		return p.takeSystem(system, value)
	}
	if why, found := refused[name]; found {
		return metadata.Errorf(metadata.InvalidArgument, "query parameter %q is not served: %s", written, why)
	}
	if slices.Contains(takes, name) {
		if _, twice := p.values[name]; twice {
			return metadata.Errorf(metadata.InvalidArgument, "query parameter %q is given twice", written)
		}
		p.values[name] = value
		return nil
	}
	for _, known := range taken {
		switch {
		case name == known:
			return metadata.Errorf(metadata.InvalidArgument, "this method takes no query parameter %q", written)
		case strings.EqualFold(name, known):
			return metadata.Errorf(metadata.InvalidArgument, "there is no query parameter %q; write %q", clip(written), known)
		}
	}
	for known := range refused {
		if strings.EqualFold(name, known) {
			return metadata.Errorf(metadata.InvalidArgument, "there is no query parameter %q", clip(written))
		}
	}
	return nil // Google's clients send what is about them and not about the call
}

// takeSystem reads a parameter that is about the form of the answer.
func (p *parameters) takeSystem(name, value string) error {
	switch name {
	case "alt":
		for i, option := range strings.Split(value, ";") {
			switch {
			case i == 0 && option == "json":
			case i > 0 && option == "enum-encoding=int":
				p.numbers = true
			case i > 0 && option == "enum-encoding=string":
			default:
				return metadata.Errorf(metadata.InvalidArgument, "query parameter alt=%q is not served; answers are json, with enum-encoding=int if asked", clip(value))
			}
		}
	case "prettyPrint":
		pretty, err := strconv.ParseBool(value)
		if err != nil {
			return metadata.Errorf(metadata.InvalidArgument, "query parameter prettyPrint=%q: want true or false", clip(value))
		}
		p.compact = !pretty
	default:
		if why, found := refused[name]; found {
			return metadata.Errorf(metadata.InvalidArgument, "query parameter %q is not served: %s", "$"+name, why)
		}
	}
	return nil
}

// camelCase returns a parameter's name as REST spells it: clients may use that of
// the protocol buffer.
func camelCase(name string) string {
	if !strings.Contains(name, "_") || refused[name] != "" {
		return name
	}
	var b strings.Builder
	upper := false
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_':
			upper = true
		case upper && c >= 'a' && c <= 'z':
			b.WriteByte(c - 'a' + 'A')
			upper = false
		default:
			b.WriteByte(c)
			upper = false
		}
	}
	return b.String()
}

// page returns the size and the token of the page that is asked for.
func (p parameters) page() (size int32, token string, err error) {
	if text := p.values[paramPageSize]; text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return 0, "", metadata.Errorf(metadata.InvalidArgument, "query parameter pageSize=%q: want a number", clip(text))
		}
		size = int32(n)
	}
	return size, p.values[paramPageToken], nil
}

// flag returns a parameter that is true or false.
func (p parameters) flag(name string) (bool, error) {
	text, given := p.values[name]
	if !given {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, metadata.Errorf(metadata.InvalidArgument, "query parameter %s=%q: want true or false", name, clip(text))
	}
	return on, nil
}

// clip shortens text from outside before it goes into an error.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
