package binauthzapi

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1beta1 "cloud.google.com/go/binaryauthorization/apiv1beta1/binaryauthorizationpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A message is one of Google's.
type message interface{ proto.Message }

// What ties an attestor to its note, as the two versions call it.
const (
	noteV1   = "userOwnedGrafeasNote"
	noteBeta = "userOwnedDrydockNote"
)

// encode returns a message of a request as JSON.
func encode(m proto.Message) ([]byte, error) {
	if !m.ProtoReflect().IsValid() {
		return nil, metadata.Errorf(metadata.InvalidArgument, "request is invalid: [%s is required]", strings.ToLower(string(m.ProtoReflect().Descriptor().Name())))
	}
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "request is invalid: %w", err)
	}
	return raw, nil
}

// decode reads a document into a message. Fields and enums that are Gatehouse's
// own are left out: a message has no place for them.
func decode(content []byte, m proto.Message) error {
	if _, beta := m.(*v1beta1.Attestor); beta {
		var err error
		if content, err = transform(content, asBeta); err != nil {
			return err
		}
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(content, m); err != nil {
		return fmt.Errorf("reading a stored document: %w", err)
	}
	return nil
}

// transform applies a change to each field of a JSON text, however deep.
func transform(content []byte, field func(name string, value any) (string, any)) ([]byte, error) {
	var tree any
	if err := json.Unmarshal(content, &tree); err != nil {
		return nil, fmt.Errorf("reading a document: %w", err)
	}
	raw, err := json.Marshal(walk(tree, field), json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("writing a document: %w", err)
	}
	return raw, nil
}

func walk(tree any, field func(string, any) (string, any)) any {
	switch v := tree.(type) {
	case map[string]any:
		changed := make(map[string]any, len(v))
		for name, value := range v {
			name, value = field(name, walk(value, field))
			changed[name] = value
		}
		return changed
	case []any:
		for i := range v {
			v[i] = walk(v[i], field)
		}
	}
	return tree
}

// asBeta renames what v1beta1 calls otherwise.
func asBeta(name string, value any) (string, any) {
	if name == noteV1 {
		name = noteBeta
	}
	return name, value
}

// asNumbers replaces the words of enums by their numbers. Those that have none,
// since Google does not know them, stay.
func asNumbers(name string, value any) (string, any) {
	word, isText := value.(string)
	if !isText {
		return name, value
	}
	number := 0
	switch name {
	case "globalPolicyEvaluationMode":
		number = map[string]int{"ENABLE": 1, "DISABLE": 2}[word]
	case "evaluationMode":
		number = map[string]int{"ALWAYS_ALLOW": 1, "REQUIRE_ATTESTATION": 2, "ALWAYS_DENY": 3}[word]
	case "enforcementMode":
		number = map[string]int{"ENFORCED_BLOCK_AND_AUDIT_LOG": 1, "DRYRUN_AUDIT_LOG_ONLY": 2}[word]
	case "signatureAlgorithm":
		number = int(signature.Algorithm(word).Number())
	case "result":
		number = map[string]int{"VERIFIED": 1, "ATTESTATION_NOT_VERIFIABLE": 2}[word]
	}
	if number == 0 {
		return name, value
	}
	return name, number
}

// indented makes JSON readable, as Google's API does unless it is told not to.
func indented(content []byte) ([]byte, error) {
	v := jsontext.Value(content).Clone()
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, fmt.Errorf("writing a document: %w", err)
	}
	return v, nil
}
