package metadata

import (
	"errors"
	"io"
	"strings"

	"go.einride.tech/aip/filtering"
)

// A source is the text of a filter, and the text made of it that the parser
// reads: the parser is stricter than the language about spaces, and knows bare
// values of letters only.
type source struct {
	text, parsed string
	shifts       []shift
}

// A shift tells that, from a place in the parsed text on, what stands there stood
// by that many bytes further on in the filter.
type shift struct{ from, by int }

// origin returns where in the filter a place of the parsed text was.
func (s *source) origin(at int) int {
	by := 0
	for _, sh := range s.shifts {
		if sh.from > at {
			break
		}
		by = sh.by
	}
	return min(max(at+by, 0), len(s.text))
}

// errorAt refuses the filter for what is at a place in it.
func (s *source) errorAt(at int, format string, args ...any) error {
	args = append([]any{clip(s.text), at + 1}, args...)
	return Errorf(InvalidArgument, "filter %q, position %d: "+format, args...)
}

// syntaxError reports the innermost error, which is where parsing got stuck.
func (s *source) syntaxError(err error) error {
	at, message := 0, "is not an expression"
	ends := errors.Is(err, io.EOF)
	var positioned interface {
		error
		Position() filtering.Position
		Message() string
	}
	for errors.As(err, &positioned) {
		at, message = int(positioned.Position().Offset), positioned.Message()
		err = errors.Unwrap(positioned)
	}
	if ends {
		message = "the filter ends where more must follow"
	}
	return s.errorAt(s.origin(at), "%s; write terms such as resourceUrl=\"…\" AND kind=\"…\", strings in double quotes", message)
}

// A rewriter makes the parsed text from the tokens of a filter.
type rewriter struct {
	*source
	tokens []filtering.Token
	out    strings.Builder
}

// prepare refuses what the parser would take for something else than its writer
// meant, and makes the text to parse.
func prepare(text string) (*source, error) {
	r := &rewriter{source: &source{text: text, parsed: text}}
	var lexer filtering.Lexer
	lexer.Init(text)
	for {
		t, err := lexer.Lex()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, r.syntaxError(err)
		}
		r.tokens = append(r.tokens, t)
	}
	for i := 0; i < len(r.tokens); {
		next, err := r.rewrite(i)
		if err != nil {
			return nil, err
		}
		i = next
	}
	r.parsed = r.out.String()
	return r.source, nil
}

// rewrite writes the token at i, or the value that begins there, and returns the
// index of what follows.
func (r *rewriter) rewrite(i int) (int, error) {
	t := r.tokens[i]
	if err := r.refuse(i); err != nil {
		return 0, err
	}
	switch {
	case r.beginsValue(i):
		return r.value(i)
	case t.Type == filtering.TokenTypeWhitespace:
		if i > 0 && i < len(r.tokens)-1 && r.typeAt(i+1) != filtering.TokenTypeRightParen {
			r.write(i, t.Value)
		}
	case t.Type.IsKeyword() && r.typeAt(i-1) != filtering.TokenTypeDot && r.typeAt(i+1) != filtering.TokenTypeDot:
		r.keyword(i)
	default:
		r.write(i, t.Value)
	}
	return i + 1, nil
}

// typeAt returns the type of a token, that of whitespace beyond the ends.
func (r *rewriter) typeAt(i int) filtering.TokenType {
	if i < 0 || i >= len(r.tokens) {
		return filtering.TokenTypeWhitespace
	}
	return r.tokens[i].Type
}

// before returns the index of the last token before i that is no whitespace, -1
// if there is none.
func (r *rewriter) before(i int) int {
	for i--; i >= 0 && r.tokens[i].Type == filtering.TokenTypeWhitespace; i-- {
	}
	return i
}

// write adds text that stands for the token at i.
func (r *rewriter) write(i int, text string) {
	at := int(r.tokens[i].Position.Offset)
	if by := at - r.out.Len(); len(r.shifts) == 0 && by != 0 || len(r.shifts) > 0 && r.shifts[len(r.shifts)-1].by != by {
		r.shifts = append(r.shifts, shift{from: r.out.Len(), by: by})
	}
	_, _ = r.out.WriteString(text) // a builder never fails
}

// keyword sees to the spaces that the parser wants around AND, OR and NOT.
func (r *rewriter) keyword(i int) {
	word := r.tokens[i].Value
	if before := r.typeAt(i - 1); before != filtering.TokenTypeWhitespace && before != filtering.TokenTypeLeftParen {
		word = " " + word
	}
	if r.typeAt(i+1) != filtering.TokenTypeWhitespace {
		word += " "
	}
	r.write(i, word)
}

// beginsValue reports whether a bare value begins at i: after an operator, or in
// the arguments of a function.
func (r *rewriter) beginsValue(i int) bool {
	b := r.before(i)
	if b < 0 || !r.tokens[b].Type.IsComparator() && r.tokens[b].Type != filtering.TokenTypeComma {
		return false
	}
	switch r.tokens[i].Type {
	case filtering.TokenTypeText, filtering.TokenTypeNumber, filtering.TokenTypeHexNumber:
		return true
	case filtering.TokenTypeMinus, filtering.TokenTypeDot:
		return r.typeAt(i+1) == filtering.TokenTypeNumber || r.typeAt(i+1) == filtering.TokenTypeHexNumber
	}
	return false
}

// value writes a bare value, such as CVE-2026-1 or -1.5, as the string that it
// spells; only a word stays one, because it may be a function or "*".
func (r *rewriter) value(i int) (int, error) {
	end := i
	for ; end < len(r.tokens); end++ {
		switch t := r.tokens[end].Type; {
		case t == filtering.TokenTypeText, t == filtering.TokenTypeNumber, t == filtering.TokenTypeHexNumber,
			t == filtering.TokenTypeMinus, t == filtering.TokenTypeDot, t.IsKeyword():
			if err := r.refuse(end); err != nil {
				return 0, err
			}
			continue
		}
		break
	}
	start := int(r.tokens[i].Position.Offset)
	switch after := r.typeAt(end); {
	case after.IsComparator(), after == filtering.TokenTypeString, after == filtering.TokenTypeExclaim:
		return 0, r.errorAt(start, "put the value in double quotes: it has %q in it", r.tokens[end].Value[:1])
	case after == filtering.TokenTypeLeftParen, end == i+1 && r.tokens[i].Type == filtering.TokenTypeText:
		r.write(i, r.tokens[i].Value)
		return i + 1, nil
	}
	last := r.tokens[end-1]
	r.write(i, `"`+r.text[start:int(last.Position.Offset)+len(last.Value)]+`"`)
	return end, nil
}

// joiners are what people write for the operators that join terms.
var joiners = map[string]string{
	"and": "AND", "or": "OR", "not": "NOT", "&&": "AND", "&": "AND", "||": "OR", "|": "OR",
}

// refuse refuses the token at i if it cannot mean what it was written for.
func (r *rewriter) refuse(i int) error {
	t := r.tokens[i]
	at := int(t.Position.Offset)
	switch {
	case t.Type == filtering.TokenTypeString && t.Value[0] == '\'':
		return r.errorAt(at, "strings stand in double quotes, not in single ones")
	case t.Type == filtering.TokenTypeExclaim:
		return r.errorAt(at, `"!" alone is no operator; write NOT before a term, or != in it`)
	case t.Type.IsComparator() && r.typeAt(i+1) == filtering.TokenTypeEquals:
		return r.errorAt(at, "operator %q is not supported; write = once", t.Value+"=")
	case t.Type != filtering.TokenTypeText:
		return nil
	}
	if odd := strings.IndexAny(t.Value, `"'[]`); odd >= 0 && strings.IndexByte("[]", t.Value[odd]) >= 0 {
		return r.errorAt(at+odd, `brackets are not supported; write labels.key or labels."key" for the entry of a map, and put values in double quotes`)
	} else if odd >= 0 {
		return r.errorAt(at+odd, "a quote within a word; put the whole value in double quotes")
	}
	if join, ok := joiners[strings.ToLower(t.Value)]; ok && r.joins(i) {
		return r.errorAt(at, "%q is not an operator; write %s", t.Value, join)
	}
	return nil
}

// joins reports whether the word at i stands where a name or a value would not.
func (r *rewriter) joins(i int) bool {
	if b := r.before(i); b >= 0 {
		t := r.tokens[b].Type
		if t.IsComparator() || t == filtering.TokenTypeDot || t == filtering.TokenTypeComma {
			return false
		}
	}
	after := i + 1
	if after < len(r.tokens) && r.tokens[after].Type == filtering.TokenTypeWhitespace {
		after++
	}
	next := r.typeAt(after)
	return !next.IsComparator() && next != filtering.TokenTypeDot
}
