package main

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
)

// TestAHintForWhatATagMeansNow takes the digest from the registry, and the name from the
// reference unless another is given.
func TestAHintForWhatATagMeansNow(t *testing.T) {
	t.Parallel()
	reg := registry.New(t)
	img, err := registry.Image(registry.ImageOptions{User: "1000"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web", img)
	if err == nil {
		err = reg.Tag(t.Context(), ref, "v1")
	}
	if err != nil {
		t.Fatal(err)
	}
	tagged := ref.Name() + ":v1"
	for name, args := range map[string][]string{tagged: nil, ref.Name() + ":v1*": {ref.Name() + ":v1*"}} {
		h, err := meant(t.Context(), args, tagged)
		if err != nil || h.Name.String() != name || h.Digest != ref.Digest() {
			t.Errorf("%q: %s of %s, %v", args, h.Digest, h.Name, err)
		}
	}
	if h, err := meant(t.Context(), nil, ref.Name()+":gone"); err == nil {
		t.Errorf("a tag that is not there: %+v", h)
	}
	if h, err := meant(t.Context(), []string{tagged, ref.Digest().String()}, tagged); err == nil {
		t.Errorf("both a digest and a registry: %+v", h)
	}
}
