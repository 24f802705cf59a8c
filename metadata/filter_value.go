package metadata

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// testOf returns the test of op on values of a field. Errors are about the value.
func testOf(op operator, f protoreflect.FieldDescriptor, name, value string) (func(protoreflect.Value) bool, error) {
	text := f.Kind() == protoreflect.StringKind
	if (op == opPrefix || op == opSuffix) && !text {
		return nil, fmt.Errorf("has_prefix() and has_suffix() are for text, and %s is not", clip(name))
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		if op == opEqual && strings.Contains(value, "*") {
			return nil, wildcardError(name)
		}
		return func(v protoreflect.Value) bool { return matchText(op, v.String(), value) }, nil
	case protoreflect.BoolKind:
		return boolTest(op, name, value)
	case protoreflect.EnumKind:
		return enumTest(op, f.Enum(), name, value)
	case protoreflect.BytesKind:
		return bytesTest(op, name, value)
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return messageTest(op, f.Message(), name, value)
	}
	return numberTest(op, f.Kind(), name, value)
}

// numberTest compares a float with the value rounded to the same width, since
// 7.1 is another number in 32 bits than in 64.
func numberTest(op operator, kind protoreflect.Kind, name, value string) (func(protoreflect.Value) bool, error) {
	bits := 64
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.FloatKind:
		bits = 32
	}
	switch kind {
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		want, err := strconv.ParseFloat(value, bits)
		if err != nil || math.IsNaN(want) || math.IsInf(want, 0) {
			return nil, fmt.Errorf("%s is compared with a number, got %q", clip(name), clip(value))
		}
		return func(v protoreflect.Value) bool {
			have := v.Float()
			return !math.IsNaN(have) && op.holds(cmp.Compare(have, want))
		}, nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		want, err := strconv.ParseUint(value, 10, bits)
		if err != nil {
			return nil, fmt.Errorf("%s is compared with a whole number from 0 on, of %d bits, got %q", clip(name), bits, clip(value))
		}
		return func(v protoreflect.Value) bool { return op.holds(cmp.Compare(v.Uint(), want)) }, nil
	}
	want, ok := parseInteger(value, bits)
	if !ok {
		return nil, fmt.Errorf("%s is compared with a whole number of %d bits, got %q", clip(name), bits, clip(value))
	}
	return func(v protoreflect.Value) bool { return op.holds(cmp.Compare(v.Int(), want)) }, nil
}

// parseInteger parses a whole number, in decimal or as 0x….
func parseInteger(text string, bits int) (int64, bool) {
	base := 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok && !strings.HasPrefix(hex, "-") && !strings.HasPrefix(hex, "+") {
		base, text = 16, hex
	}
	i, err := strconv.ParseInt(text, base, bits)
	return i, err == nil
}

func boolTest(op operator, name, value string) (func(protoreflect.Value) bool, error) {
	if op != opEqual {
		return nil, fmt.Errorf("%s is true or false, which have no order; use =", clip(name))
	}
	if value != "true" && value != "false" {
		return nil, fmt.Errorf("%s is true or false, got %q", clip(name), clip(value))
	}
	want := value == "true"
	return func(v protoreflect.Value) bool { return v.Bool() == want }, nil
}

// enumTest orders values by their numbers, so that severity>=HIGH means what it
// says.
func enumTest(op operator, enum protoreflect.EnumDescriptor, name, value string) (func(protoreflect.Value) bool, error) {
	values := enum.Values()
	found := values.ByName(protoreflect.Name(value))
	if n, ok := parseInteger(value, 32); found == nil && ok {
		found = values.ByNumber(protoreflect.EnumNumber(n))
	}
	if found == nil {
		var names []string
		for i := range values.Len() {
			names = append(names, string(values.Get(i).Name()))
		}
		return nil, fmt.Errorf("%s has no value %q%s", clip(name), clip(value), didYouMean(value, names))
	}
	want := found.Number()
	return func(v protoreflect.Value) bool { return op.holds(cmp.Compare(v.Enum(), want)) }, nil
}

// bytesTest takes base64 as JSON has it, with or without padding.
func bytesTest(op operator, name, value string) (func(protoreflect.Value) bool, error) {
	if op != opEqual {
		return nil, fmt.Errorf("%s is bytes, which have no order; use =", clip(name))
	}
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(value, "="))
	want, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%s is bytes and is compared with base64, got %q", clip(name), clip(value))
	}
	return func(v protoreflect.Value) bool { return bytes.Equal(v.Bytes(), want) }, nil
}

// messageTest is for the two messages that are values.
func messageTest(op operator, m protoreflect.MessageDescriptor, name, value string) (func(protoreflect.Value) bool, error) {
	var want instant
	var err error
	switch m.FullName() {
	case "google.protobuf.Timestamp":
		want, err = parseTime(op, value)
	case "google.protobuf.Duration":
		want, err = parseDuration(value)
	default:
		return nil, fmt.Errorf("%s is a message; go on to one of its fields, or ask for it by %s:*", clip(name), clip(name))
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w, got %q", clip(name), err, clip(value))
	}
	seconds, nanos := m.Fields().ByName("seconds"), m.Fields().ByName("nanos")
	return func(v protoreflect.Value) bool {
		have := instant{v.Message().Get(seconds).Int(), v.Message().Get(nanos).Int()}
		return op.holds(have.compare(want))
	}, nil
}

// An instant is a Timestamp or a Duration.
type instant struct{ seconds, nanos int64 }

func (i instant) compare(j instant) int {
	return cmp.Or(cmp.Compare(i.seconds, j.seconds), cmp.Compare(i.nanos, j.nanos))
}

// parseTime takes a date for its first moment, but not for equality: whoever
// writes createTime="2026-01-01" means the whole day.
func parseTime(op operator, value string) (instant, error) {
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		if t, err = time.Parse(time.DateOnly, value); err == nil && op == opEqual {
			return instant{}, errors.New("is a time and not a day; use >= with that day and < with the next")
		}
	}
	if err != nil {
		return instant{}, errors.New(`is compared with a time such as "2026-01-31T12:00:00Z", or a day`)
	}
	return instant{t.Unix(), int64(t.Nanosecond())}, nil
}

func parseDuration(value string) (instant, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return instant{}, errors.New(`is compared with a duration such as "1.5s" or "2h30m"`)
	}
	return instant{int64(d / time.Second), int64(d % time.Second)}, nil
}
