package metadata

import "strings"

func (b bounds) hints() Hints { return Hints{} }

func (b bounds) noteQuery(q *NoteQuery) bool {
	q.Kinds = b.kinds
	return !b.empty()
}

func (f *filter) unindexed() (position int, term string, ok bool) { return 0, "", false }

func (f *filter) refuseTooBroad(limit int) error {
	return Errorf(InvalidArgument, "filter looks at more than %d rows", limit)
}

func (f *filter) resourcesOnly() (resources []string, ok bool) {
	if f == nil {
		return nil, true
	}
	b := f.bounds()
	return b.resources, b.resources != nil && !strings.Contains(b.resources[0], "*")
}
