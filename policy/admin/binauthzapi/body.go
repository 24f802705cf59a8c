package binauthzapi

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// checkBody takes one JSON object and nothing else. What is in it is for others to
// look at.
func checkBody(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return metadata.Errorf(metadata.InvalidArgument, "the request has no body; want a JSON object")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	value, err := dec.ReadValue()
	if err == nil && value.Kind() != jsontext.KindBeginObject {
		return metadata.Errorf(metadata.InvalidArgument, "the request's body is JSON, but no object")
	}
	if err == nil {
		if _, err = dec.ReadToken(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("text after the object")
		}
	}
	return badJSON(body, dec.InputOffset(), err)
}

// badJSON says what is wrong with a body, and where.
func badJSON(body []byte, offset int64, err error) error {
	var syntax *jsontext.SyntacticError
	place := ""
	if errors.As(err, &syntax) {
		offset, err = syntax.ByteOffset, syntax.Err
		if syntax.JSONPointer != "" {
			place = " at " + clip(string(syntax.JSONPointer))
		}
	}
	before := body[:min(offset, int64(len(body)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return metadata.Errorf(metadata.InvalidArgument, "the request's body is not valid JSON: line %d, column %d%s: %w", line, column, place, err)
}

// checkNoBody refuses a body that the method would not look at.
func checkNoBody(body []byte) error {
	if text := bytes.TrimSpace(body); len(text) > 0 && string(text) != "{}" {
		return metadata.Errorf(metadata.InvalidArgument, "this method takes no body")
	}
	return nil
}

// decodeBody reads a body into a struct that has all fields it may have.
func decodeBody(body []byte, into any) error {
	if err := checkBody(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		if at := string(semantic.JSONPointer); at != "" {
			return metadata.Errorf(metadata.InvalidArgument, "request is invalid: %s: %s", clip(at), reason(semantic))
		}
	}
	if err != nil {
		return metadata.Errorf(metadata.InvalidArgument, "request is invalid: %w", err)
	}
	return nil
}

func reason(err *json.SemanticError) string {
	switch {
	case errors.Is(err.Err, json.ErrUnknownName):
		return "unknown field"
	case err.Err != nil:
		return err.Err.Error()
	}
	return "a JSON " + err.JSONKind.String() + " cannot stand here"
}

// decodeMessage reads a body into a message of Google's.
func decodeMessage(body []byte, into proto.Message) error {
	if err := checkBody(body); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{}).Unmarshal(body, into); err != nil {
		// protojson varies the space after its name, so that nobody relies on it.
		text := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
		return metadata.Errorf(metadata.InvalidArgument, "request is invalid: %s", text)
	}
	return nil
}
