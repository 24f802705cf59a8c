package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// attestorObject is an Attestor with what an API server and kubectl keep about it.
func attestorObject(name, uid string, generation int, note string) admin.ObjectChange {
	return admin.ObjectChange{Object: fmt.Appendf(nil, `{"apiVersion": "gatehouse.dev/v1beta1", "kind": "Attestor", "metadata": {"name": %q, "namespace": "shop", "uid": %q,
		"generation": %d, "resourceVersion": "77", "managedFields": [{"manager": "kubectl"}], "labels": {"a": "b"},
		"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "secret"}}, "spec": {"noteReference": %q}, "status": {"usableKeys": 1}}`, name, uid, generation, note)}
}

func gone(name, uid string) admin.ObjectChange {
	return admin.ObjectChange{UID: uid, Delete: objects.Ref{APIVersion: "gatehouse.dev/v1beta1", Kind: "Attestor", Namespace: "shop", Name: name}}
}

func (f *fixture) apply(changes ...admin.ObjectChange) ([]admin.AppliedObject, error) {
	return f.ApplyObjects(f.Context(), ann, "projects/p", "us-east1-b.prod", changes)
}

func (f *fixture) filed() string {
	f.Helper()
	page := ok[admin.ObjectPage](f.T)(f.ListObjects(f.Context(), ann, "projects/p", 0, ""))
	var all []string
	for _, o := range page.Objects {
		all = append(all, fmt.Sprintf("%s %s %d r%d", o.Ref, o.Cluster, o.Generation, o.Revision))
	}
	return strings.Join(all, ", ")
}

func TestObjectsAreFiledOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	apply := ok[[]admin.AppliedObject](t)
	first := apply(f.apply(attestorObject("a", "1", 1, "projects/p/notes/n")))
	again := apply(f.apply(attestorObject("a", "1", 1, "projects/p/notes/n")))
	if !first[0].Written || again[0].Written || again[0].Revision != 1 {
		t.Errorf("first %+v, then %+v", first, again)
	}
	page := ok[admin.ObjectPage](t)(f.ListObjects(t.Context(), ann, "projects/p", 0, ""))
	const want = `{"apiVersion":"gatehouse.dev/v1beta1","kind":"Attestor","metadata":{"generation":1,"name":"a","namespace":"shop","uid":"1"},"spec":{"noteReference":"projects/p/notes/n"}}`
	if got := string(page.Objects[0].Object); got != want {
		t.Errorf("filed\n%s\nwant\n%s", got, want)
	}
	apply(f.apply(attestorObject("a", "1", 2, "projects/p/notes/m")))
	if got := f.filed(); got != "Attestor shop/a us-east1-b.prod 2 r2" {
		t.Errorf("got %s", got)
	}
	if _, err := f.apply(attestorObject("a", "1", 1, "projects/p/notes/n")); metadata.KindOf(err) != metadata.Aborted {
		t.Errorf("an older generation: %v", err)
	}
	apply(f.apply(attestorObject("a", "2", 1, "projects/p/notes/n"))) // made anew
	if removed := apply(f.apply(gone("a", "1"))); removed[0].Written || f.filed() == "" {
		t.Error("the deletion of an object takes its successor away")
	}
	if removed := apply(f.apply(gone("a", "2"), gone("never", ""))); !removed[0].Written || removed[1].Written || f.filed() != "" {
		t.Errorf("removed %+v, left %s", removed, f.filed())
	}
	if again := apply(f.apply(gone("a", ""))); again[0].Written {
		t.Errorf("removed twice: %+v", again)
	}
}

func TestObjectsOfOneCallAreFiledTogetherOrNot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	none, one := uint64(0), uint64(1)
	if _, err := f.apply(attestorObject("a", "1", 1, "n")); err != nil {
		t.Fatal(err)
	}
	stale := attestorObject("a", "1", 2, "n")
	stale.Revision = &none
	if _, err := f.apply(attestorObject("b", "2", 1, "n"), stale); metadata.KindOf(err) != metadata.Aborted {
		t.Errorf("got %v", err)
	}
	if got := f.filed(); got != "Attestor shop/a us-east1-b.prod 1 r1" {
		t.Errorf("half of it was written: %s", got)
	}
	stale.Revision = &one
	if _, err := f.apply(stale); err != nil {
		t.Error(err)
	}
	for name, changes := range map[string][]admin.ObjectChange{
		"twice":         {attestorObject("c", "1", 1, "n"), gone("c", "")},
		"another kind":  {{Object: []byte(`{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "shop"}}`)}},
		"no namespace":  {{Object: []byte(`{"apiVersion": "gatehouse.dev/v1beta1", "kind": "Policy", "metadata": {"name": "x"}}`)}},
		"no JSON":       {{Object: []byte(`kind: Policy`)}},
		"nothing":       {{}},
		"no name":       {gone("", "")},
		"more than may": make([]admin.ObjectChange, admin.MaxObjectChanges+1),
	} {
		if _, err := f.apply(changes...); metadata.KindOf(err) != metadata.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.ApplyObjects(t.Context(), ann, "projects/p", "no cluster", nil); metadata.KindOf(err) != metadata.InvalidArgument {
		t.Errorf("a cluster that is none: %v", err)
	}
	if _, err := f.ApplyObjects(t.Context(), ann, "projects/none", "", nil); metadata.KindOf(err) != metadata.NotFound {
		t.Errorf("a project that is none: %v", err)
	}
}

func TestAGateReadsTheObjectsOfItsClusterAndKeepsThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil, admin.Options{})
	ok[[]admin.AppliedObject](t)(f.apply(attestorObject("a", "1", 1, "projects/p/notes/n"), attestorObject("b", "1", 1, "broken")))
	ok[[]admin.AppliedObject](t)(f.ApplyObjects(t.Context(), ann, "projects/p", "", []admin.ObjectChange{attestorObject("c", "1", 1, "n")}))
	ok[[]admin.AppliedObject](t)(f.ApplyObjects(t.Context(), ann, "projects/q", "us-east1-b.prod", []admin.ObjectChange{attestorObject("d", "1", 1, "n")}))
	var r admin.ObjectReader
	read := func() map[string]*objects.Object {
		byName := map[string]*objects.Object{}
		for _, o := range ok[[]*objects.Object](t)(r.Read(t.Context(), f.svc, "p", "us-east1-b.prod")) {
			byName[o.Name] = o
		}
		return byName
	}
	before := read()
	ok[[]admin.AppliedObject](t)(f.apply(attestorObject("a", "1", 2, "projects/p/notes/m")))
	after := read()
	if len(before) != 2 || len(after) != 2 || before["a"] == after["a"] || before["b"] != after["b"] || !after["b"].Broken() {
		t.Errorf("before %v, after %v", before, after)
	}
}
