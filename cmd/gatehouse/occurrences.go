package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// maxUnheard bounds how many attestations warnings name.
const maxUnheard = 10

// A filed is an occurrence with the line that it stands at.
type filed struct {
	*grafeas.Occurrence
	file string
	line int
}

func readOccurrences(c *cobra.Command, name string) ([]filed, error) {
	data, err := readInput(c, name)
	if err != nil {
		return nil, err
	}
	list, found := parseOccurrences(name, data)
	return list, report(c, found)
}

func occurrencesOf(list []filed) []*grafeas.Occurrence {
	all := make([]*grafeas.Occurrence, len(list))
	for i := range list {
		all[i] = list[i].Occurrence
	}
	return all
}

// unheard warns of images that no occurrence is about, and of attestations of images
// that are filed where no key is trusted.
func unheard(list []filed, keys map[string][]*signature.PublicKey, refs []image.Reference, file string) document.Diagnostics {
	var found document.Diagnostics
	warn := func(file string, line int, format string, args ...any) {
		found = append(found, document.Diagnostic{File: file, Line: line, Severity: document.Warning, Message: fmt.Sprintf(format, args...)})
	}
	about := map[image.Digest]int{}
	for _, ref := range refs {
		about[ref.Digest()] = 0
	}
	for _, o := range list {
		ref, err := image.ParseResourceURI(o.GetResourceUri())
		if _, asked := about[ref.Digest()]; err != nil || !asked {
			continue
		}
		about[ref.Digest()]++
		project, _, _ := strings.Cut(o.GetName(), "/occurrences/")
		if signed(o.Occurrence) && keys[o.GetNoteName()] == nil && keys[project] == nil && len(found) < maxUnheard {
			warn(o.file, o.line, "an attestation of the image is filed under %.200q, which is the note of no attestor here", o.GetNoteName())
		}
	}
	for _, ref := range refs {
		if n, ok := about[ref.Digest()]; ok && n == 0 && !ref.Digest().IsZero() && len(found) < 2*maxUnheard {
			warn(file, 1, "of %s none is about %.800s", counted(len(list), "occurrence", "occurrences"), ref)
			delete(about, ref.Digest())
		}
	}
	return found
}

func signed(o *grafeas.Occurrence) bool {
	return o.GetAttestation() != nil || o.GetDsseAttestation() != nil
}

// parseOccurrences reads a list of occurrences: a JSON or YAML array, an object
// with a field "occurrences" as the API's list answers, or one occurrence. What will
// never count is warned of.
func parseOccurrences(file string, data []byte) ([]filed, document.Diagnostics) {
	r := occurrenceReader{document.New(file)}
	var list []filed
	for _, root := range r.LoadStream(data, maxInput, 1) {
		if r.CheckDeep(root) {
			for _, n := range r.items(root) {
				if o := r.occurrence(n); o != nil {
					list = append(list, filed{o, file, n.Line})
				}
			}
		}
	}
	return list, r.Diagnostics()
}

type occurrenceReader struct{ *document.Reporter }

func (r occurrenceReader) items(root *yaml.Node) []*yaml.Node {
	if root.Kind == yaml.MappingNode {
		list := document.Peek(root, "occurrences")
		if list == nil {
			return []*yaml.Node{root}
		}
		root = list
	}
	if root.Kind != yaml.SequenceNode {
		r.Errorf(root.Line, "want a list of occurrences, or an object with a field \"occurrences\", and this is %s", document.KindOf(root))
		return nil
	}
	return root.Content
}

func (r occurrenceReader) occurrence(n *yaml.Node) *grafeas.Occurrence {
	if n.Kind != yaml.MappingNode {
		r.Errorf(n.Line, "an occurrence must be an object, and is %s", document.KindOf(n))
		return nil
	}
	o := r.decode(n)
	if o == nil {
		return nil
	}
	switch {
	case o.GetResourceUri() == "" && document.Peek(n, "resource") != nil:
		r.Errorf(n.Line, "this is an occurrence of v1beta1; want those of v1, as GET /v1/projects/P/occurrences lists them")
		return nil
	case o.GetResourceUri() == "" || o.GetNoteName() == "":
		r.Errorf(n.Line, "the occurrence has no resourceUri or no noteName: is this a list of Grafeas v1 occurrences?")
		return nil
	}
	r.warnUseless(n, o)
	return o
}

// decode reads one occurrence. A field or a word that is not known is left out with
// a warning, as servers newer than this have more of them.
func (r occurrenceReader) decode(n *yaml.Node) *grafeas.Occurrence {
	var text placedJSON
	if err := text.value(n, ""); err != nil {
		r.Errorf(n.Line, "%v", err)
		return nil
	}
	o := new(grafeas.Occurrence)
	strict := protojson.Unmarshal(text.Bytes(), o)
	if strict == nil {
		return o
	}
	o = new(grafeas.Occurrence)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text.Bytes(), o); err != nil {
		line, why := text.mistake(n.Line, err)
		r.Errorf(line, "%s", why)
		return nil
	}
	line, why := text.mistake(n.Line, strict)
	r.Warnf(line, "%s; it is left out", why)
	return o
}

// warnUseless warns of what no policy will ever count, whatever it asks for.
func (r occurrenceReader) warnUseless(n *yaml.Node, o *grafeas.Occurrence) {
	at := func(field string) int {
		if v := document.Peek(n, field); v != nil {
			return v.Line
		}
		return n.Line
	}
	if err := names.CheckResource(o.GetNoteName(), "projects", "notes"); err != nil {
		r.Warnf(at("noteName"), "noteName: %v; nothing that is filed under it counts", err)
	}
	if said := o.GetKind(); signed(o) && said != grafeas.NoteKind_NOTE_KIND_UNSPECIFIED && said != grafeas.NoteKind_ATTESTATION && said != grafeas.NoteKind_DSSE_ATTESTATION {
		r.Warnf(at("kind"), "kind is %s, and what is in it is an attestation; it does not count", said)
	}
	if _, err := image.ParseResourceURI(o.GetResourceUri()); signed(o) && err != nil {
		r.Warnf(at("resourceUri"), "resourceUri: %v; the attestation counts for no image", err)
	}
}

// placedJSON is a value of a file in JSON, on one line, with the lines that its parts
// had.
type placedJSON struct {
	bytes.Buffer
	runes  int
	places []place
}

// A place is where a value stands: from which character of the JSON on, in which line
// of the file, and by which path.
type place struct {
	from, line int
	path       string
}

func (j *placedJSON) write(s string) {
	j.runes += utf8.RuneCountInString(s)
	j.WriteString(s)
}

func (j *placedJSON) value(n *yaml.Node, path string) error {
	j.places = append(j.places, place{j.runes, n.Line, path})
	switch n.Kind {
	case yaml.MappingNode:
		return j.object(n, path)
	case yaml.SequenceNode:
		return j.array(n, path)
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return err
	}
	text, err := json.Marshal(value)
	j.write(string(text))
	return err
}

func (j *placedJSON) object(n *yaml.Node, path string) error {
	j.write("{")
	for i := 0; i+1 < len(n.Content); i += 2 {
		if i > 0 {
			j.write(",")
		}
		key, child := n.Content[i], n.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		j.places = append(j.places, place{j.runes, key.Line, name})
		text, err := json.Marshal(key.Value)
		if err != nil {
			return err
		}
		j.write(string(text) + ":")
		if err := j.value(child, name); err != nil {
			return err
		}
	}
	j.write("}")
	return nil
}

func (j *placedJSON) array(n *yaml.Node, path string) error {
	j.write("[")
	for i, child := range n.Content {
		if i > 0 {
			j.write(",")
		}
		if err := j.value(child, path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	j.write("]")
	return nil
}

// mistake turns what protojson says of the text, "proto: (line 1:N): WHY", into a
// line of the file and a sentence. Without a place it is that of the whole.
func (j *placedJSON) mistake(line int, err error) (int, string) {
	text := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
	where, why, ok := strings.Cut(strings.TrimPrefix(text, "syntax error "), "): ")
	column, ok2 := strings.CutPrefix(where, "(line 1:")
	n, err := strconv.Atoi(column)
	if !ok || !ok2 || err != nil {
		return line, text
	}
	path := ""
	for _, p := range j.places {
		if p.from < n {
			line, path = p.line, p.path
		}
	}
	switch {
	case strings.HasPrefix(why, "unknown field "):
		return line, "unknown field " + strconv.Quote(path)
	case strings.HasPrefix(why, "invalid value for bytes field "):
		return line, path + " is not base64"
	}
	return line, fmt.Sprintf("%s: %.200s", path, why)
}
