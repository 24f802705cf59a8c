package suggest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// Seen gathers what ran, or is to run: images, under the places that rules are chosen
// by. The zero Seen is empty and ready.
type Seen struct {
	places map[policy.Scope]*place
	where  map[string]string // of an image: where it was seen first
	denied map[string]bool
}

// A place is pods that no rule tells apart.
type place struct {
	request decide.Request // without images
	images  map[string]bool
}

// Add adds the images of a request, except for those that are "", which somebody else
// fills in. where tells a person where they stand.
func (s *Seen) Add(r decide.Request, where string) {
	if s.places == nil {
		s.places, s.where = map[policy.Scope]*place{}, map[string]string{}
	}
	scope := decide.ScopeOf(r)
	at := s.places[scope]
	if at == nil {
		at = &place{request: r, images: map[string]bool{}}
		// Policy has to let in what runs, without anybody overriding it.
		at.request.Images, at.request.BreakGlass, at.request.Justification = nil, "", ""
		s.places[scope] = at
	}
	for _, u := range r.Images {
		if u.Text == "" {
			continue
		}
		at.images[u.Text] = true
		if s.where[u.Text] == "" {
			s.where[u.Text] = where
		}
	}
}

// Deny adds an image that was not let in. It serves as an example of what a pattern
// would let in, if it is not seen elsewhere.
func (s *Seen) Deny(text string) {
	if s.denied == nil {
		s.denied = map[string]bool{}
	}
	s.denied[text] = true
}

// Where tells where an image was seen first.
func (s *Seen) Where(text string) string { return s.where[text] }

// Images returns all images, each once, sorted.
func (s *Seen) Images() []string { return slices.Sorted(maps.Keys(s.where)) }

// Denied returns the images that were denied and nowhere let in, sorted.
func (s *Seen) Denied() []string {
	var list []string
	for text := range s.denied {
		if s.where[text] == "" {
			list = append(list, text)
		}
	}
	slices.Sort(list)
	return list
}

// Requests returns a request for each place with all of its images, in a fixed order.
func (s *Seen) Requests() []decide.Request {
	var list []decide.Request
	for _, at := range s.places {
		if len(at.images) == 0 {
			continue
		}
		r := at.request
		for _, text := range slices.Sorted(maps.Keys(at.images)) {
			r.Images = append(r.Images, decide.ImageUse{Type: decide.Container, Text: text})
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b decide.Request) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ServiceAccount, b.ServiceAccount), cmp.Compare(a.IstioIdentity, b.IstioIdentity))
	})
	return list
}
