package transfer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	fileFormat  = "gatehouse-metadata"
	fileVersion = 1
	// maxLine holds a message of the 4 MiB that servers take, in base64, beside the
	// same in another version.
	maxLine = 16 << 20
	// maxMessageText bounds one message in a line.
	maxMessageText = maxLine/2 - 4096
)

// A header is the first line of a file.
type header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Source  string    `json:"source"`
	Time    time.Time `json:"time"`
	APIs    []Version `json:"apis"`
}

// Totals are how many of each a file has.
type Totals struct {
	Projects    int64 `json:"projects"`
	Notes       int64 `json:"notes"`
	Occurrences int64 `json:"occurrences"`
}

func (t *Totals) add(k sort) {
	switch k {
	case theProjects:
		t.Projects++
	case notes:
		t.Notes++
	case occurrences:
		t.Occurrences++
	}
}

// All is their sum.
func (t Totals) All() int64 { return t.Projects + t.Notes + t.Occurrences }

// A line is any other line of a file. One of the first four members is there.
type line struct {
	Project    string         `json:"project,omitzero"`
	Note       jsontext.Value `json:"note,omitzero"`
	Occurrence jsontext.Value `json:"occurrence,omitzero"`
	End        *Totals        `json:"end,omitzero"`
	API        Version        `json:"api,omitzero"`
	Other      jsontext.Value `json:"other,omitzero"`
	Error      string         `json:"error,omitzero"`
}

func encodeHeader(h header) ([]byte, error) { return endLine(json.Marshal(h)) }

func encodeEnd(t Totals) ([]byte, error) { return endLine(json.Marshal(line{End: &t})) }

func endLine(text []byte, err error) ([]byte, error) { return append(text, '\n'), err }

// encode returns the item as a line.
func (it item) encode() ([]byte, error) {
	l := line{API: it.version, Error: it.reason}
	var err error
	switch it.sort {
	case theProjects:
		l.Project = it.name
	case notes:
		l.Note, err = encodeMessage(it.msg)
	case occurrences:
		l.Occurrence, err = encodeMessage(it.msg)
	}
	if err == nil && it.other != nil {
		l.Other, err = encodeMessage(it.other)
	}
	if err != nil {
		return nil, fmt.Errorf("writing %s %q: %w", it.sort.one(), it.name, err)
	}
	return endLine(json.Marshal(l))
}

// encodeMessage returns a message as a JSON object, or as the text of its bytes if
// JSON does not hold all of it.
func encodeMessage(m proto.Message) (jsontext.Value, error) {
	text, err := protojson.Marshal(m)
	if err == nil && len(text) <= maxMessageText {
		back := m.ProtoReflect().New().Interface()
		if protojson.Unmarshal(text, back) == nil && proto.Equal(m, back) {
			return text, nil
		}
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	if n := base64.StdEncoding.EncodedLen(len(raw)); n > maxMessageText {
		return nil, metadata.Errorf(metadata.OutOfRange, "it has %d bytes, and a line of a file holds at most %d of text", len(raw), maxMessageText)
	}
	return jsontext.AppendQuote(nil, base64.StdEncoding.EncodeToString(raw))
}

func decodeMessage(text jsontext.Value, m proto.Message) error {
	switch text.Kind() {
	case '{':
		return protojson.Unmarshal(text, m)
	case '"':
		var encoded string
		if err := json.Unmarshal(text, &encoded); err != nil {
			return err
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			return err
		}
		return proto.Unmarshal(raw, m)
	}
	return errors.New("want an object, or a string of base64")
}

func decodeHeader(text []byte) (header, error) {
	var h header
	if err := strict(text, &h); err != nil {
		return h, fmt.Errorf("the header: %w", err)
	}
	if h.Format != fileFormat {
		return h, fmt.Errorf("the header says format %q; want %q, as `gatehouse metadata export` writes it", clean(h.Format), fileFormat)
	}
	if h.Version != fileVersion {
		return h, fmt.Errorf("the file is of version %d, and this program reads version %d; use the program of the version that wrote it", h.Version, fileVersion)
	}
	return h, nil
}

func strict(text []byte, into any) error {
	return json.Unmarshal(text, into, json.RejectUnknownMembers(true))
}

// decodeLine returns the item of a line, or the totals of the last line.
func decodeLine(text []byte) (item, *Totals, error) {
	var l line
	if err := strict(text, &l); err != nil {
		return item{}, nil, err
	}
	members := 0
	for _, given := range []bool{l.Project != "", l.Note != nil, l.Occurrence != nil, l.End != nil} {
		if given {
			members++
		}
	}
	if members != 1 {
		return item{}, nil, errors.New("want one of project, note, occurrence and end")
	}
	if l.Project != "" || l.End != nil {
		if l.API != "" || l.Other != nil {
			return item{}, nil, errors.New("api and other are for notes and occurrences")
		}
		if l.End != nil {
			return item{}, l.End, nil
		}
		if !isParent(l.Project) {
			return item{}, nil, fmt.Errorf("project %q: want projects/P or projects/P/locations/L", clean(l.Project))
		}
		return item{sort: theProjects, name: l.Project, reason: l.Error}, nil, nil
	}
	it, err := l.item()
	return it, nil, err
}

// item decodes a note or an occurrence.
func (l line) item() (item, error) {
	it := item{sort: notes, version: l.API, reason: l.Error}
	text := l.Note
	if l.Occurrence != nil {
		it.sort, text = occurrences, l.Occurrence
	}
	if l.API != V1 && l.API != V1Beta1 {
		return item{}, fmt.Errorf("api is %q; want %q or %q", clean(string(l.API)), V1, V1Beta1)
	}
	it.msg = newMessage(it.sort, it.version)
	if err := decodeMessage(text, it.msg); err != nil {
		return item{}, fmt.Errorf("the %s: %w", it.sort.one(), err)
	}
	it.name = nameOf(it.msg)
	if _, _, ok := split(it.sort, it.name); !ok {
		return item{}, fmt.Errorf("the name %q is not one of a %s", clean(it.name), it.sort.one())
	}
	if l.Other != nil {
		it.other = newMessage(it.sort, otherVersion(it.version))
		if err := decodeMessage(l.Other, it.other); err != nil {
			return item{}, fmt.Errorf("the %s in the other version: %w", it.sort.one(), err)
		}
		if nameOf(it.other) != it.name {
			return item{}, errors.New("the two versions have different names")
		}
	}
	return it, nil
}
