package metadata

import (
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// strangeProto is a dialect with everything that a message can have, and with
// kinds numbered as in v1beta1.
const strangeProto = `
name: "strange.proto" package: "strange" syntax: "proto3"
dependency: "google/protobuf/timestamp.proto" dependency: "google/protobuf/duration.proto"
enum_type { name: "NoteKind"
  value { name: "NOTE_KIND_UNSPECIFIED" number: 0 } value { name: "VULNERABILITY" number: 1 } value { name: "BUILD" number: 2 }
  value { name: "INTOTO" number: 8 } value { name: "SBOM" number: 9 } value { name: "VULNERABILITY_ASSESSMENT" number: 13 } value { name: "NEWER" number: 30 } }
enum_type { name: "Severity" options { allow_alias: true }
  value { name: "SEVERITY_UNSPECIFIED" number: 0 } value { name: "LOW" number: 2 } value { name: "HIGH" number: 4 }
  value { name: "CRITICAL" number: 5 } value { name: "WORST" number: 5 } }
message_type { name: "Resource" field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "uri" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "Note"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "kind" number: 4 type: TYPE_ENUM type_name: ".strange.NoteKind" label: LABEL_OPTIONAL }
  field { name: "short_description" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "Item" field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "size" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "items" number: 3 type: TYPE_MESSAGE type_name: ".strange.Item" label: LABEL_REPEATED } }
message_type { name: "Details" field { name: "installation" number: 1 type: TYPE_MESSAGE type_name: ".strange.Item" label: LABEL_OPTIONAL } }
message_type { name: "Occurrence"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "resource" number: 2 type: TYPE_MESSAGE type_name: ".strange.Resource" label: LABEL_OPTIONAL }
  field { name: "note_name" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "kind" number: 4 type: TYPE_ENUM type_name: ".strange.NoteKind" label: LABEL_OPTIONAL }
  field { name: "create_time" number: 6 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
  field { name: "took" number: 7 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL }
  field { name: "installation" number: 11 type: TYPE_MESSAGE type_name: ".strange.Details" label: LABEL_OPTIONAL }
  field { name: "severity" number: 12 type: TYPE_ENUM type_name: ".strange.Severity" label: LABEL_OPTIONAL }
  field { name: "is_fixed" number: 13 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "raw" number: 14 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "i32" number: 20 type: TYPE_INT32 label: LABEL_OPTIONAL } field { name: "s32" number: 21 type: TYPE_SINT32 label: LABEL_OPTIONAL }
  field { name: "sf32" number: 22 type: TYPE_SFIXED32 label: LABEL_OPTIONAL } field { name: "i64" number: 23 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "s64" number: 24 type: TYPE_SINT64 label: LABEL_OPTIONAL } field { name: "sf64" number: 25 type: TYPE_SFIXED64 label: LABEL_OPTIONAL }
  field { name: "u32" number: 26 type: TYPE_UINT32 label: LABEL_OPTIONAL } field { name: "f32" number: 27 type: TYPE_FIXED32 label: LABEL_OPTIONAL }
  field { name: "u64" number: 28 type: TYPE_UINT64 label: LABEL_OPTIONAL } field { name: "f64" number: 29 type: TYPE_FIXED64 label: LABEL_OPTIONAL }
  field { name: "small" number: 30 type: TYPE_FLOAT label: LABEL_OPTIONAL } field { name: "big" number: 31 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "tags" number: 40 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "sizes" number: 41 type: TYPE_INT32 label: LABEL_REPEATED }
  field { name: "items" number: 42 type: TYPE_MESSAGE type_name: ".strange.Item" label: LABEL_REPEATED }
  field { name: "labels" number: 43 type: TYPE_MESSAGE type_name: ".strange.Occurrence.LabelsEntry" label: LABEL_REPEATED }
  field { name: "by_number" number: 44 type: TYPE_MESSAGE type_name: ".strange.Occurrence.ByNumberEntry" label: LABEL_REPEATED }
  field { name: "by_flag" number: 45 type: TYPE_MESSAGE type_name: ".strange.Occurrence.ByFlagEntry" label: LABEL_REPEATED }
  field { name: "by_count" number: 46 type: TYPE_MESSAGE type_name: ".strange.Occurrence.ByCountEntry" label: LABEL_REPEATED }
  field { name: "text" number: 50 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "number" number: 51 type: TYPE_INT32 label: LABEL_OPTIONAL oneof_index: 0 }
  oneof_decl { name: "choice" }
  nested_type { name: "LabelsEntry" options { map_entry: true } field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
  nested_type { name: "ByNumberEntry" options { map_entry: true } field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".strange.Item" label: LABEL_OPTIONAL } }
  nested_type { name: "ByFlagEntry" options { map_entry: true } field { name: "key" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL } }
  nested_type { name: "ByCountEntry" options { map_entry: true } field { name: "key" number: 1 type: TYPE_UINT64 label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL } }
}`

// strange returns the file of strangeProto; descriptors are the same each time.
var strange = sync.OnceValue(func() protoreflect.FileDescriptor {
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(strangeProto), &file); err != nil {
		panic(err)
	}
	fd, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	return fd
})

// strangeDialect shows each occurrence as the message that json describes, and
// counts how often it was asked to.
func strangeDialect(t *testing.T, json string) (d Dialect, views *int) {
	t.Helper()
	occurrences := strange().Messages().ByName("Occurrence")
	shown := dynamicpb.NewMessage(occurrences)
	if err := protojson.Unmarshal([]byte(json), shown); err != nil {
		t.Fatal(err)
	}
	views = new(int)
	return Dialect{
		Name:  "strange",
		Notes: strange().Messages().ByName("Note"), Occurrences: occurrences,
		NoteView: func(*grafeas.Note) proto.Message { return nil },
		OccurrenceView: func(*grafeas.Occurrence) proto.Message {
			*views++
			return shown
		},
	}, views
}

// strangeOccurrence is one with something in most fields.
const strangeOccurrence = `{
	"name": "projects/p/occurrences/o", "resource": {"name": "img", "uri": "https://gcr.io/p/i"},
	"createTime": "2026-03-04T05:06:07.5Z", "took": "90.5s", "severity": "HIGH", "isFixed": true, "raw": "+/8=",
	"i32": -7, "s32": -7, "sf32": -7, "i64": "-7", "s64": "-7", "sf64": "-7",
	"u32": 7, "f32": 7, "u64": "18446744073709551615", "f64": "7", "small": 7.1, "big": 7.1,
	"tags": ["a", "b-c"], "sizes": [1, 20],
	"items": [{"name": "x", "size": "1"}, {"name": "y", "size": "2", "items": [{"name": "deep"}]}],
	"labels": {"env": "prod", "b.c": "dotted", "empty": "", "7": "seven"},
	"byNumber": {"3": {"name": "three"}}, "byFlag": {"true": "5"}, "byCount": {"9": "90"},
	"number": 0, "installation": {"installation": {"name": "openssl"}}
}`

func TestFilterFindsEveryKindOfValue(t *testing.T) {
	t.Parallel()
	const yes, no = true, false
	for _, test := range []struct {
		filter string
		want   bool
	}{
		// Text.
		{`name="projects/p/occurrences/o"`, yes},
		{`has_prefix(name, "projects/p/")`, yes},
		{`has_suffix(name, "/p")`, no},
		{`name>"projects/o" AND name<"projects/q"`, yes},
		{`name<="projects/p/occurrences/"`, no},
		{`resource.name=img`, yes},
		{`resource."name"="img"`, yes},
		// Truth, in and out of quotes.
		{`isFixed=true`, yes}, {`is_fixed="true"`, yes}, {`isFixed=false`, no}, {`isFixed!=false`, yes}, {`isFixed:true`, yes},
		// Whole numbers of all sizes.
		{`i32=-7 AND s32=-7 AND sf32=-7 AND i64=-7 AND s64=-7 AND sf64=-7`, yes},
		{`i32="-7"`, yes}, {`i32>-8`, yes}, {`i32>=-7`, yes}, {`i32>-7`, no}, {`i64<-6`, yes}, {`s64<=-8`, no}, {`sf32!=-7`, no},
		{`u32=7 AND f32=7 AND f64=7`, yes}, {`i32<0x10`, yes},
		{`u64=18446744073709551615`, yes}, {`u64>18446744073709551614`, yes}, {`f64=007`, yes},
		// Fractions: 7.1 is the same number in 32 bits and in 64.
		{`small=7.1`, yes}, {`big=7.1`, yes}, {`small>7`, yes}, {`small>=7.2`, no}, {`big<.8e1`, yes}, {`big>-1.5`, yes},
		// Enums by name, alias and number, ordered by number.
		{`severity=HIGH`, yes}, {`severity="HIGH"`, yes}, {`severity=4`, yes}, {`severity>=LOW`, yes}, {`severity>"HIGH"`, no},
		{`severity<WORST`, yes}, {`severity!=CRITICAL`, yes}, {`severity="5"`, no},
		// Bytes, in any base64.
		{`raw="+/8="`, yes}, {`raw="-_8"`, yes}, {`raw="AAA="`, no}, {`raw!="AAA="`, yes},
		// Times and durations.
		{`createTime="2026-03-04T05:06:07.5Z"`, yes}, {`create_time="2026-03-04T06:06:07.500+01:00"`, yes},
		{`createTime>"2026-03-04T05:06:07Z"`, yes}, {`createTime>"2026-03-04T05:06:07.5Z"`, no}, {`createTime<=2026-03-05`, yes},
		{`createTime>="2026-03-04"`, yes}, {`createTime<2026-03-04`, no}, {`createTime!="2026-03-04T05:06:07Z"`, yes},
		{`createTime.seconds>0`, yes},
		{`took=90.5s`, yes}, {`took="1m30.5s"`, yes}, {`took>1m`, yes}, {`took<=90s`, no}, {`took>-1s`, yes},
		// Of what is repeated, any; != says that none is.
		{`tags="a"`, yes}, {`tags=b-c`, yes}, {`tags:"a"`, yes}, {`tags="c"`, no}, {`tags!="a"`, no}, {`tags!="z"`, yes}, {`has_prefix(tags, "b")`, yes},
		{`sizes>10`, yes}, {`sizes>20`, no}, {`sizes:20`, yes},
		{`items.name="y"`, yes}, {`items.size>=2`, yes}, {`items.size>2`, no}, {`items.items.name="deep"`, yes},
		// Maps by key.
		{`labels.env="prod"`, yes}, {`labels.env="test"`, no}, {`labels.gone="prod"`, no}, {`labels."b.c"="dotted"`, yes}, {`labels.7="seven"`, yes},
		{`labels:env`, yes}, {`labels:"b.c"`, yes}, {`labels:gone`, no}, {`labels.env:*`, yes}, {`labels.empty:*`, yes}, {`labels.env:"prod"`, yes},
		{`labels.gone!="x"`, yes}, {`labels.gone>"a"`, no},
		{`byNumber.3.name="three"`, yes}, {`by_number:3`, yes}, {`byNumber:4`, no}, {`byFlag.true=5`, yes}, {`byFlag:false`, no}, {`byCount.9>89`, yes},
		// Presence.
		{`labels:*`, yes}, {`tags:*`, yes}, {`items:*`, yes}, {`items.items:*`, yes}, {`items.items.items:*`, no}, {`resource:*`, yes},
		{`createTime:*`, yes}, {`severity:*`, yes}, {`text:*`, no}, {`number:*`, yes}, {`i32:*`, yes}, {`kind:*`, yes}, {`noteName:*`, yes},
		{`-text:*`, yes},
		// One of several: the one that is not set has no value at all.
		{`number=0`, yes}, {`text=""`, no}, {`text!="x"`, yes}, {`number<1`, yes},
		// gcloud's name for the package of an occurrence.
		{`dependencyPackageName="openssl"`, yes}, {`dependencyPackageName="zlib"`, no},
		// The five that all rows have are not the view's.
		{`resource.uri="gcr.io/stored"`, yes}, {`resourceUrl="gcr.io/p/i"`, no}, {`kind=8`, no}, {`kind=1`, yes},
	} {
		d, _ := strangeDialect(t, strangeOccurrence)
		f, err := (&Service{dialect: d}).occurrenceFilter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		row := &grafeas.Occurrence{Kind: grafeas.NoteKind_VULNERABILITY, ResourceUri: "https://gcr.io/stored", NoteName: "projects/p/notes/n"}
		if got := f.matchOccurrence(row); got != test.want {
			t.Errorf("%s: got %t, want %t", test.filter, got, test.want)
		}
	}
}

func TestFilterRefusesValuesOfTheWrongType(t *testing.T) {
	t.Parallel()
	d, _ := strangeDialect(t, `{}`)
	for _, test := range []struct{ filter, want string }{
		{`isFixed="yes"`, `position 9: isFixed is true or false, got "yes"`},
		{`isFixed>true`, "have no order"},
		{`i32=seven`, `whole number of 32 bits, got "seven"`},
		{`i32=2147483648`, "32 bits"},
		{`i32=1.5`, "whole number"},
		{`i32=0x-7`, "whole number"},
		{`u32=-1`, "from 0 on"},
		{`u64=18446744073709551616`, "64 bits"},
		{`big=NaN`, "is compared with a number"},
		{`small=1e99`, "is compared with a number"},
		{`has_prefix(i32, "7")`, "are for text, and i32 is not"},
		{`severity=HIHG`, `severity has no value "HIHG"; did you mean "HIGH"?`},
		{`severity=high`, `did you mean "HIGH"?`},
		{`severity=3`, `severity has no value "3"`},
		{`raw="%"`, "base64"},
		{`raw>"AA=="`, "have no order"},
		{`createTime="2026-03-04"`, "not a day; use >="},
		{`createTime>"yesterday"`, `compared with a time such as`},
		{`createTime>2026-03-04T05:06:07Z`, "position 12: put the value in double quotes"},
		{`took>90`, "compared with a duration"},
		{`resource="x"`, "resource is a message; go on to one of its fields"},
		{`items=1`, "items is a message"},
		{`labels="x"`, `"labels" is a map; write labels.KEY`},
		{`labels.a.b="x"`, `a is a value and has no field "b"`},
		{`byNumber.x.name="y"`, `"x" is no key of by_number`},
		{`byNumber:x`, `"x" is no key of by_number`},
		{`byFlag:1`, `"1" is no key`},
		{`byCount.-1=2`, "position"},
		{`tags="a*"`, "wildcards are not supported; use has_prefix(tags"},
		{`tags:"*"`, "wildcards are not supported"},
		{`tags=*`, "wildcards are not supported"},
		{`kind="DSSE"`, `there is no kind "DSSE"`},
		{`kind=14`, `there is no kind "14"`},
		{`kind=30`, `there is no kind "30"`},
		{`kind>BUILD`, "kinds have no order"},
		{`resourceUrl>"a"`, "two spellings"},
		{`resorce.name="x"`, `position 1: cannot filter by "resorce.name": strange.Occurrence has no field "resorce"; did you mean "resource"?`},
		{`items.nam="x"`, `strange.Item has no field "nam"; did you mean "name"?`},
		{`vulnerability.severity=HIGH`, `strange.Occurrence has no field "vulnerability"`},
		{`name.x="y"`, `name is a value and has no field "x"`},
		{`items` + strings.Repeat(".items", 40) + `.name="x"`, "it has 42 parts, at most 32"},
	} {
		f, err := (&Service{dialect: d}).occurrenceFilter(test.filter)
		if KindOf(err) != InvalidArgument || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v and error %v, want InvalidArgument with %q", clip(test.filter), f, err, test.want)
		}
	}
}

func TestFilterLooksAtTheViewOnlyIfItMust(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]int{
		`resourceUrl="x" AND kind="BUILD"`:                      0,
		`noteProjectId="p" OR has_prefix(noteId, "n")`:          0,
		`severity=LOW OR severity=HIGH OR name="x"`:             1,
		`kind="BUILD" AND severity=HIGH`:                        0, // decided before
		`noteId="n" AND (severity=LOW OR NOT is_fixed = false)`: 1,
	} {
		d, views := strangeDialect(t, `{}`)
		f, err := (&Service{dialect: d}).occurrenceFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		f.matchOccurrence(&grafeas.Occurrence{Kind: grafeas.NoteKind_IMAGE, NoteName: "projects/p/notes/n"})
		if *views != want {
			t.Errorf("%s: asked for %d views, want %d", filter, *views, want)
		}
	}
}

func TestFilterOfARowThatTheDialectCannotShow(t *testing.T) {
	t.Parallel()
	d, _ := strangeDialect(t, `{}`)
	d.OccurrenceView = func(*grafeas.Occurrence) proto.Message { return nil }
	s := &Service{dialect: d}
	for filter, want := range map[string]bool{
		`severity=SEVERITY_UNSPECIFIED`: false, `severity!=HIGH`: true, `name:*`: false, `kind=INTOTO`: true, `kind=8`: true, `kind=BUILD`: false,
	} {
		f, err := s.occurrenceFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.matchOccurrence(&grafeas.Occurrence{Kind: KindInToto}); got != want {
			t.Errorf("%s: got %t, want %t", filter, got, want)
		}
	}
	n, err := s.noteFilter(`shortDescription="x"`)
	if err != nil {
		t.Fatal(err)
	}
	if n.matchNote(&grafeas.Note{ShortDescription: "x"}) {
		t.Error("a note matched by what its dialect does not show")
	}
}
