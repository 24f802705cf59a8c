package resource_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
)

// found lists what a path leads to: PLACE=VALUE.
func found(t testing.TB, text, object string) ([]string, error) {
	t.Helper()
	p, err := resource.ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	err = p.Each(jsontext.Value(object), func(place string, v jsontext.Value) error {
		list = append(list, place+"="+string(v))
		return nil
	})
	return list, err
}

func TestPath(t *testing.T) {
	t.Parallel()
	const object = `{"spec": {
		"image": "a", "Image": "A", "null": null, "": "empty", "a.b/c": "odd", "é": "accent",
		"steps": [{"image": "b"}, {}, {"image": null}, {"image": 7}, null],
		"roles": {"x": {"image": "c"}, "y.z": {"image": "d"}, "n": null},
		"deep": [[{"image": "e"}]]
	}}`
	for path, want := range map[string][]string{
		"spec.image":              {`spec.image="a"`},
		"spec.IMAGE":              nil,
		"spec.null.image":         nil,
		"spec.null[*]":            nil,
		"nothing.at[*].all":       nil,
		"spec.steps[*].image":     {`spec.steps[0].image="b"`, `spec.steps[3].image=7`},
		"spec.roles.*.image":      {`spec.roles.x.image="c"`, `spec.roles["y.z"].image="d"`},
		`spec["a.b/c"]`:           {`spec["a.b/c"]="odd"`},
		`["spec"]["image"]`:       {`spec.image="a"`},
		`spec["\u00e9"]`:          {`spec["é"]="accent"`},
		`spec[""]`:                {`spec[""]="empty"`},
		"spec.deep[*][*].image":   {`spec.deep[0][0].image="e"`},
		"*.roles.x.image":         {`spec.roles.x.image="c"`},
		"spec.roles.x":            {`spec.roles.x={"image": "c"}`},
		`spec.steps[*]["image"]`:  {`spec.steps[0].image="b"`, `spec.steps[3].image=7`},
		"spec.roles.$x-_9.image":  nil,
		`spec.roles["y.z"].image`: {`spec.roles["y.z"].image="d"`},
	} {
		got, err := found(t, path, object)
		if diff := cmp.Diff(got, want); diff != "" || err != nil {
			t.Errorf("%s: %v %s", path, err, diff)
		}
	}
	for path, want := range map[string]string{
		"spec.image.tag":  "spec.image: want an object, found a string",
		"spec.image[*]":   "spec.image: want a list, found a string",
		"spec.steps.name": "spec.steps: want an object, found a list",
		"spec.roles[*].a": "spec.roles: want a list, found an object",
		"spec.*.image":    "spec.image: want an object, found a string",
	} {
		if _, err := found(t, path, object); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	if _, err := found(t, "a.*", `{"a":{"`+strings.Repeat("x", 300)+`":"i"}}`); err == nil {
		t.Error("a member of 300 characters was taken")
	}
	if err := (resource.Path{}).Each(jsontext.Value(`{}`), nil); err == nil {
		t.Error("the zero path leads somewhere")
	}
}

func TestPathsThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "column 1: want the name of a member",
		".spec":                        "column 1: want the name of a member",
		"$":                            "", // a member that is called so
		"spec.":                        "column 6: want the name",
		"spec..image":                  "column 6: want the name",
		"spec[0].image":                "column 5: want [*] for every item",
		"spec[*":                       "column 5: want [*] for every item",
		"[*].image":                    "column 1: want [*] for every item", // an object is no list
		"spec[*]image":                 `column 8: unexpected "i": steps are separated by a dot`,
		"spec image":                   `column 5: unexpected " "`,
		"spec.a b":                     `column 7: unexpected " "`,
		"spec..":                       "column 6: want the name",
		`spec["a]`:                     "column 6: want a JSON string",
		`spec["a"`:                     `column 9: want "]"`,
		`spec["a"x]`:                   `column 9: want "]"`,
		"spec.é":                       "column 6: want the name",
		"spec.**.image":                `column 7: unexpected "*"`,
		"spec[?(@.a)]":                 "column 5: want [*] for every item",
		"a/b":                          `column 2: unexpected "/"`,
		"{.spec.image}":                "column 1: want the name",
		strings.Repeat("a.", 40) + "a": "column 64: more than 32 steps",
		strings.Repeat("a", 513):       "at most 512",
	} {
		_, err := resource.ParsePath(text)
		if want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
}

// FuzzPath: whatever the path and the object are, it ends, and finds the same when it
// is walked again; places are all different.
func FuzzPath(f *testing.F) {
	f.Add("spec.steps[*].image", `{"spec":{"steps":[{"image":"a"},{"image":"b"}]}}`)
	f.Add(`a.*["b"]`, `{"a":{"x":{"b":1},"y":null}}`)
	f.Add("a.*.*", `{"a":{"b":{"c.d":1},"b.c":{"d":2}}}`)
	f.Fuzz(func(t *testing.T, text, object string) {
		p, err := resource.ParsePath(text)
		if err != nil || !jsontext.Value(object).IsValid() {
			return
		}
		walk := func() (list []string) {
			seen := map[string]bool{}
			_ = p.Each(jsontext.Value(object), func(place string, v jsontext.Value) error {
				if seen[place] {
					t.Errorf("two values at %s", place)
				}
				seen[place] = true
				list = append(list, fmt.Sprint(place, v))
				return nil
			})
			return list
		}
		if diff := cmp.Diff(walk(), walk()); diff != "" {
			t.Error(diff)
		}
	})
}
