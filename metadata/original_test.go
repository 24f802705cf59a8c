package metadata

import (
	"bytes"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestOriginal(t *testing.T) {
	n := &grafeas.Note{ShortDescription: "s"}
	n.ProtoReflect().SetUnknown(AppendField(nil, AISkillNoteField, []byte("other")))
	bare := proto.CloneOf(n)
	if HasOriginal(n) || Original(n) != nil {
		t.Error("a note has an original that nobody set")
	}
	SetOriginal(n, []byte("first"))
	SetOriginal(n, []byte("second"))
	if !HasOriginal(n) || string(Original(n)) != "second" {
		t.Errorf("original %q, want the one that was set last", Original(n))
	}
	StripOriginal(n)
	if !proto.Equal(n, bare) {
		t.Errorf("without its original the note is %v, want %v", n, bare)
	}
	StripOriginal(n)
	if !proto.Equal(n, bare) {
		t.Error("a note without an original was changed")
	}
}

func TestUnknownBytes(t *testing.T) {
	parts := AppendField(AppendField(AppendField(nil, 7, []byte("a")), 8, []byte("x")), 7, []byte("b"))
	number := protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.VarintType), 1)
	for _, tc := range []struct {
		name, want string
		unknown    []byte
		ok         bool
	}{
		{"parts are one message", "ab", parts, true},
		{"an empty message is there", "", AppendField(nil, 7, nil), true},
		{"none", "", AppendField(nil, 8, []byte("x")), false},
		{"one of another type", "", number, false},
		{"damage", "", append(AppendField(nil, 7, []byte("a")), 0xff), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := UnknownBytes(tc.unknown, 7)
			if string(got) != tc.want || ok != tc.ok {
				t.Errorf("got %q, %t, want %q, %t", got, ok, tc.want, tc.ok)
			}
		})
	}
	if got := WithoutField(parts, 7); !bytes.Equal(got, AppendField(nil, 8, []byte("x"))) {
		t.Errorf("without the field %x is left", got)
	}
	if damaged := append(AppendField(nil, 7, []byte("a")), 0xff); !bytes.Equal(WithoutField(damaged, 7), []byte{0xff}) {
		t.Error("damage was dropped")
	}
}
