package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// watchSeconds is how long the server is asked to let a watch last, and half as long
	// again by chance, so that not all of them end at once.
	watchSeconds = 300
	// watchGrace is how long after that a watch is given up which has not ended.
	watchGrace = 30 * time.Second
	// maxEvent bounds what a watch tells at once, in bytes: etcd has objects of up to
	// 1.5 MiB, which in JSON may be longer.
	maxEvent = 8 << 20
	// retryFirst is how long a follower waits after a failure, and retryLongest how long
	// at most after many.
	retryFirst   = 500 * time.Millisecond
	retryLongest = 30 * time.Second
	// tooShort is a watch that ended so soon that the next one has to wait.
	tooShort = time.Second
)

// A Resource is the objects of one kind.
type Resource struct {
	// Group is "" for the core's.
	Group, Version string
	// Name is the plural, such as "pods".
	Name string
	// Namespace is "" for all of them.
	Namespace string
	// Labels and Fields are selectors; "" selects everything.
	Labels, Fields string
}

// String is how kubectl calls the kind, such as "deployments.apps".
func (r Resource) String() string {
	if r.Group == "" {
		return r.Name
	}
	return r.Name + "." + r.Group
}

// Path returns the segments of the path of the collection, and below that of more.
func (r Resource) Path(more ...string) []string {
	path := []string{"api", r.Version}
	if r.Group != "" {
		path = []string{"apis", r.Group, r.Version}
	}
	if r.Namespace != "" {
		path = append(path, "namespaces", r.Namespace)
	}
	return append(append(path, r.Name), more...)
}

func (r Resource) query() url.Values {
	query := url.Values{}
	if r.Labels != "" {
		query.Set("labelSelector", r.Labels)
	}
	if r.Fields != "" {
		query.Set("fieldSelector", r.Fields)
	}
	return query
}

// A Key names an object of a [Resource]. Namespace is "" of one that is in none.
type Key struct{ Namespace, Name string }

// An Object is what is read of every object, and its text.
type Object struct {
	Key
	UID, ResourceVersion string
	Generation           int64
	// JSON is the object as the server told it. Objects that come from a list of a
	// built-in kind have neither apiVersion nor kind.
	JSON []byte
}

type objectMeta struct {
	Metadata struct {
		Namespace       string `json:"namespace"`
		Name            string `json:"name"`
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
		Generation      int64  `json:"generation"`
	} `json:"metadata"`
}

func readObject(text []byte) (Object, error) {
	var meta objectMeta
	if err := json.Unmarshal(text, &meta); err != nil {
		return Object{}, fmt.Errorf("reading what the Kubernetes API server tells: %w", err)
	}
	m := meta.Metadata
	if m.Name == "" || m.ResourceVersion == "" {
		return Object{}, errors.New("reading what the Kubernetes API server tells: an object without a name or a version")
	}
	return Object{Key: Key{m.Namespace, m.Name}, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation, JSON: text}, nil
}

// A Follower is told what there is of a resource, and what changes. Its functions are
// called one at a time; the rest waits meanwhile.
type Follower struct {
	Resource
	// Set is called for each object that there is, and for each new version of one.
	Set func(Object)
	// Gone is called when an object is not there any more.
	Gone func(Key)
	// Listed is called when Set and Gone have told everything that was there; again when
	// everything had to be read anew. Nil is nobody.
	Listed func()
	// Failed is called when the server cannot be asked, or refuses; nil is nobody. It is
	// asked again after a while, whatever it was.
	Failed func(error)
	// Retry is how long after; after many failures it is longer. Default 500ms.
	Retry time.Duration
}

// Follow tells f of the objects of a resource until ctx ends. It reads all once, in
// pages, and then watches for changes; where the watch breaks off, it goes on from there.
// Only when the server does not know that place any more everything is read anew, and what
// has not changed is not told again. Of each object its version is kept in memory.
func (c *Client) Follow(ctx context.Context, f Follower) {
	if f.Retry <= 0 {
		f.Retry = retryFirst
	}
	s := &following{client: c, Follower: f, known: make(map[Key]string)}
	failures := 0
	for ctx.Err() == nil {
		heard, err := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			failures = 0
		}
		if err == nil {
			continue
		}
		if f.Failed != nil {
			f.Failed(fmt.Errorf("following %s: %w", f.Resource, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(backOff(f.Retry, failures)):
		}
		failures++
	}
}

// backOff is how long to wait after failures: twice as long each time, and up to half as
// long again by chance.
func backOff(first time.Duration, failures int) time.Duration {
	d := first
	for range failures {
		if d *= 2; d >= retryLongest {
			d = retryLongest
			break
		}
	}
	return d + rand.N(d/2+1) //nolint:gosec // not a secret
}

// following is a Follower at work.
type following struct {
	Follower
	client *Client
	known  map[Key]string // the version of each object
	// version is where a watch goes on; "" before everything was read.
	version string
}

// once reads everything, if that has to be, and watches until that breaks off. It tells
// whether anything was heard.
func (s *following) once(ctx context.Context) (heard bool, err error) {
	if s.version == "" {
		if err := s.list(ctx); err != nil {
			return false, err
		}
		heard = true
	}
	begun := time.Now()
	events, err := s.watch(ctx)
	heard = heard || events > 0
	if expired(err) {
		s.version = ""
		return heard, nil // read anew at once
	}
	if err == nil && events == 0 && time.Since(begun) < tooShort {
		err = errors.New("the watch ended as soon as it began")
	}
	return heard, err
}

func expired(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == http.StatusGone || e.Reason == "Expired")
}

// list reads everything, and tells what is new or not there any more.
func (s *following) list(ctx context.Context) error {
	version, found := "", make(map[Key]string, len(s.known))
	query := s.query()
	query.Set("limit", strconv.Itoa(pageSize))
	for range maxPages {
		text, err := s.client.ask(ctx, query, s.Path())
		if err != nil {
			return err
		}
		var page struct {
			listMeta
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
		}
		for _, item := range page.Items {
			o, err := readObject(item)
			if err != nil {
				return err
			}
			found[o.Key] = o.ResourceVersion
			s.set(o)
		}
		if version = page.Metadata.ResourceVersion; version == "" {
			return errors.New("reading what the Kubernetes API server answers: a list without a version")
		}
		if page.Metadata.Continue == "" {
			for key := range s.known {
				if _, there := found[key]; !there {
					s.gone(key)
				}
			}
			s.version = version
			if s.Listed != nil {
				s.Listed()
			}
			return nil
		}
		query.Set("continue", page.Metadata.Continue)
	}
	return fmt.Errorf("the Kubernetes API server has a list that does not end after %d pages", maxPages)
}

func (s *following) set(o Object) {
	if s.known[o.Key] != o.ResourceVersion {
		s.known[o.Key] = o.ResourceVersion
		s.Set(o)
	}
}

func (s *following) gone(key Key) {
	if _, there := s.known[key]; there {
		delete(s.known, key)
		s.Gone(key)
	}
}

// watch takes in events until the watch ends, and counts them.
func (s *following) watch(ctx context.Context) (events int, err error) {
	seconds := watchSeconds + rand.IntN(watchSeconds/2) //nolint:gosec // not a secret
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+watchGrace)
	defer cancel()
	query := s.query()
	for name, value := range map[string]string{"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": s.version, "timeoutSeconds": strconv.Itoa(seconds)} {
		query.Set(name, value)
	}
	body, err := s.client.stream(ctx, call{method: http.MethodGet, query: query, segments: s.Path()})
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }() // read only
	bounded := &budget{from: body}
	decoder := json.NewDecoder(bounded)
	for {
		bounded.left = maxEvent
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		switch err := decoder.Decode(&e); {
		case errors.Is(err, io.EOF):
			return events, nil
		case err != nil:
			return events, fmt.Errorf("reading what the Kubernetes API server tells: %w", err)
		}
		if err := s.event(e.Type, e.Object); err != nil {
			return events, err
		}
		events++
	}
}

// event takes in what a watch tells.
func (s *following) event(kind string, text []byte) error {
	if kind == "ERROR" {
		var status struct {
			Code int `json:"code"`
		}
		if err := json.Unmarshal(text, &status); err != nil {
			return fmt.Errorf("reading what the Kubernetes API server tells: %w", err)
		}
		return refusal(status.Code, text)
	}
	if kind == "BOOKMARK" {
		var meta objectMeta
		if err := json.Unmarshal(text, &meta); err != nil || meta.Metadata.ResourceVersion == "" {
			return fmt.Errorf("reading what the Kubernetes API server tells: a bookmark without a version: %w", err)
		}
		s.version = meta.Metadata.ResourceVersion
		return nil
	}
	o, err := readObject(text)
	if err != nil {
		return err
	}
	switch kind {
	case "ADDED", "MODIFIED":
		s.set(o)
	case "DELETED":
		s.gone(o.Key)
	default:
		return fmt.Errorf("reading what the Kubernetes API server tells: %.50q is no kind of event", kind)
	}
	s.version = o.ResourceVersion
	return nil
}

// stream begins a call whose answer does not end by itself.
func (c *Client) stream(ctx context.Context, a call) (io.ReadCloser, error) {
	req, err := c.request(ctx, a)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the Kubernetes API server: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
	if err != nil {
		return nil, fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
	}
	return nil, refusal(resp.StatusCode, text)
}

// A budget ends reading when more comes at once than is taken.
type budget struct {
	from io.Reader
	left int
}

// Read implements [io.Reader].
func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("an event of more than %d bytes", maxEvent)
	}
	n, err := b.from.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
