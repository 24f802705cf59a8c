package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// fake is an API server of one collection, as far as a follower and a candidate ask it,
// without a network: so that a test's time may be a bubble's.
type fake struct {
	mu      sync.Mutex
	version int
	objects map[string]map[string]any
	events  []fakeEvent
	// compacted is the version before which watches are refused.
	compacted int
	changed   chan struct{}
	// broken is what every request fails with; hangUp ends all watches.
	broken error
	status int // of every answer, unless it is 0
	hangUp chan struct{}
	lists  int
	watch  []string // the versions that were watched from
	page   int
}

type fakeEvent struct {
	version int
	line    []byte
}

func newFake() *fake {
	return &fake{objects: map[string]map[string]any{}, changed: make(chan struct{}), hangUp: make(chan struct{}), page: 2}
}

func (f *fake) client() *Client {
	base, _ := url.Parse("https://fake.test")
	return &Client{base: base, http: &http.Client{Transport: f}}
}

func (f *fake) tell(kind string, object map[string]any) {
	line, err := json.Marshal(map[string]any{"type": kind, "object": object})
	if err != nil {
		panic(err)
	}
	f.events = append(f.events, fakeEvent{f.version, append(line, '\n')})
	close(f.changed)
	f.changed = make(chan struct{})
}

// put writes an object of a name, with one field.
func (f *fake) put(name, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	kind := "ADDED"
	if f.objects[name] != nil {
		kind = "MODIFIED"
	}
	f.objects[name] = map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name, "resourceVersion": strconv.Itoa(f.version)}, "value": value}
	f.tell(kind, f.objects[name])
}

func (f *fake) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	gone := f.objects[name]
	gone["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(f.version)
	delete(f.objects, name)
	f.tell("DELETED", gone)
}

// bookmark tells how far the server is, though nothing has changed.
func (f *fake) bookmark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	f.tell("BOOKMARK", map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version)}})
}

// forget drops the history, and hang ends all watches.
func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	f.compacted, f.events = f.version, nil
}

func (f *fake) hang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.hangUp)
	f.hangUp = make(chan struct{})
}

// set changes what the server does.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func answer(status int, value any) *http.Response {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(text))}
}

func statusOf(code int, reason string) map[string]any {
	return map[string]any{"kind": "Status", "code": code, "reason": reason, "message": reason}
}

// RoundTrip implements [http.RoundTripper].
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	query := r.URL.Query()
	switch {
	case f.broken != nil:
		return nil, f.broken
	case f.status != 0:
		return answer(f.status, statusOf(f.status, "Broken")), nil
	case query.Get("watch") != "":
		return f.watched(r, query), nil
	case query.Has("limit"):
		return f.listed(query), nil
	}
	return f.one(r)
}

func (f *fake) listed(query url.Values) *http.Response {
	f.lists++
	var names []string
	for name := range f.objects {
		if name > query.Get("continue") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	meta := map[string]any{"resourceVersion": strconv.Itoa(f.version)}
	if len(names) > f.page {
		names = names[:f.page]
		meta["continue"] = names[f.page-1]
	}
	items := []any{}
	for _, name := range names {
		items = append(items, f.objects[name])
	}
	return answer(http.StatusOK, map[string]any{"metadata": meta, "items": items})
}

func (f *fake) watched(r *http.Request, query url.Values) *http.Response {
	f.watch = append(f.watch, query.Get("resourceVersion"))
	from, err := strconv.Atoi(query.Get("resourceVersion"))
	if err != nil {
		return answer(http.StatusBadRequest, statusOf(http.StatusBadRequest, "BadRequest"))
	}
	body, to := io.Pipe()
	hangUp := f.hangUp
	go func() {
		for {
			f.mu.Lock()
			var lines [][]byte
			changed := f.changed
			gone := from < f.compacted
			for _, e := range f.events {
				if e.version > from {
					lines, from = append(lines, e.line), e.version
				}
			}
			f.mu.Unlock()
			if gone {
				line, _ := json.Marshal(map[string]any{"type": "ERROR", "object": statusOf(http.StatusGone, "Expired")})
				_, _ = to.Write(line)
				_ = to.Close()
				return
			}
			for _, line := range lines {
				if _, err := to.Write(line); err != nil {
					return
				}
			}
			select {
			case <-changed:
			case <-hangUp:
				_ = to.Close()
				return
			case <-r.Context().Done():
				_ = to.CloseWithError(r.Context().Err())
				return
			}
		}
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body}
}

// one reads or writes a single object, by its resource version.
func (f *fake) one(r *http.Request) (*http.Response, error) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if r.Method == http.MethodGet {
		if f.objects[name] == nil {
			return answer(http.StatusNotFound, statusOf(http.StatusNotFound, "NotFound")), nil
		}
		return answer(http.StatusOK, f.objects[name]), nil
	}
	var object map[string]any
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
		return nil, err
	}
	meta, ok := object["metadata"].(map[string]any)
	if !ok {
		return nil, errors.New("no metadata")
	}
	name = fmt.Sprint(meta["name"])
	current := f.objects[name]
	switch {
	case r.Method == http.MethodPost && current != nil:
		return answer(http.StatusConflict, statusOf(http.StatusConflict, "AlreadyExists")), nil
	case r.Method == http.MethodPut && (current == nil || current["metadata"].(map[string]any)["resourceVersion"] != meta["resourceVersion"]):
		return answer(http.StatusConflict, statusOf(http.StatusConflict, "Conflict")), nil
	}
	f.version++
	meta["resourceVersion"] = strconv.Itoa(f.version)
	f.objects[name] = object
	return answer(http.StatusOK, object), nil
}
