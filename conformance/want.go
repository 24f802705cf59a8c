package conformance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// admits says whether the object would come into the cluster.
func (w *world) admits(e exchange) bool {
	if e.problem != nil {
		return w.profile.FailurePolicy == failOpened
	}
	return e.response.Allowed
}

// denied is for reviews that an API server may send: a failure of the gate counts
// as what the failurePolicy makes of it.
func denied() want {
	return want{"is denied", func(w *world, e exchange) error {
		switch {
		case e.problem != nil && w.admits(e):
			return fmt.Errorf("let in by failurePolicy Ignore: %w", e.problem)
		case w.admits(e):
			return errors.New("allowed")
		}
		return nil
	}}
}

// answered is denied, by the gate itself and in time.
func answered() want {
	return want{"is denied by an answer in time", func(_ *world, e exchange) error {
		switch {
		case e.problem != nil:
			return e.problem
		case e.response.Allowed:
			return errors.New("allowed")
		}
		return nil
	}}
}

// refused is for what no API server sends, so that an HTTP error does no harm.
func refused() want {
	return want{"is not let in", func(_ *world, e exchange) error {
		if e.problem == nil && e.response.Allowed {
			return errors.New("allowed")
		}
		return nil
	}}
}

// allowed is for what has to get through.
func allowed() want {
	return want{"is allowed", func(_ *world, e exchange) error {
		switch {
		case e.problem != nil:
			return e.problem
		case !e.response.Allowed:
			return fmt.Errorf("denied: %s", clip(e.message()))
		}
		return nil
	}}
}

func (e exchange) message() string {
	if e.response.Status == nil {
		return ""
	}
	return e.response.Status.Message
}

// pinned is for tags: a gate that does not resolve them denies; one that does may
// let them in by putting a digest that it verified in their place.
func pinned(digest string) want {
	return want{"is denied, or pinned to the digest of the good image", func(w *world, e exchange) error {
		if !w.admits(e) {
			return nil
		}
		if e.problem != nil {
			return fmt.Errorf("let in by failurePolicy Ignore: %w", e.problem)
		}
		if !w.profile.ResolvesTags {
			return errors.New("allowed, by what can change")
		}
		got := patchedImage(e.response.Patch)
		if !strings.HasSuffix(got, "@"+digest) {
			return fmt.Errorf("allowed as %q, and not with the digest of the good image", clip(got))
		}
		return nil
	}}
}

// patchedImage returns what a JSON patch makes of the first container's image, ""
// if it does not touch it.
func patchedImage(patch []byte) string {
	var operations []struct {
		Op    string         `json:"op"`
		Path  string         `json:"path"`
		Value jsontext.Value `json:"value"`
	}
	if err := json.Unmarshal(patch, &operations, jsontext.AllowDuplicateNames(true)); err != nil {
		return ""
	}
	const path = "/spec/containers/0/image"
	image := ""
	for _, op := range operations {
		rest, ok := strings.CutPrefix(path, op.Path)
		if !ok || op.Op != "replace" && op.Op != "add" {
			continue
		}
		if got, ok := at(op.Value, rest); ok {
			image = got
		}
	}
	return image
}

// at follows a JSON pointer to a string.
func at(value jsontext.Value, pointer string) (string, bool) {
	var v any
	if err := json.Unmarshal(value, &v); err != nil {
		return "", false
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		switch of := v.(type) {
		case map[string]any:
			v = of[name]
		case []any:
			if name != "0" || len(of) == 0 {
				return "", false
			}
			v = of[0]
		}
	}
	s, ok := v.(string)
	return s, ok
}
