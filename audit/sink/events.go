package sink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	defaultEventsPerMinute = 30
	// eventLife is how long a cluster keeps Events, unless it is told otherwise: what is
	// older is no news to anybody.
	eventLife = time.Hour
	// maxHeld bounds the Events that wait for another minute.
	maxHeld = 1000
	// eventTries bounds the writers of one Event that come between.
	eventTries = 5
	// maxEventText is what a message of an Event may have, in bytes.
	maxEventText = 1024

	eventComponent = "gatehouse"
	recordNote     = "gatehouse.dev/record"
)

// KubernetesEvents tells of denials, break-glass, dry runs and outages by Events where
// they happen, for people who look with kubectl. There is one Event for a workload, image
// and reason, whose count grows: it is a hint, and the log is the record.
type KubernetesEvents struct {
	// Kubeconfig says in which cluster. Default: the one that this runs in.
	Kubeconfig string `yaml:"kubeconfig"`
	// PerMinute is how many Events are written in a namespace and minute; counts beyond
	// that wait, and are lost when Gatehouse ends. Default 30.
	PerMinute int `yaml:"perMinute"`
}

func (c *KubernetesEvents) validate() error {
	const most = 6000
	if c.PerMinute < 0 || c.PerMinute > most {
		return fmt.Errorf("perMinute %d: want 1 to %d", c.PerMinute, most)
	}
	return nil
}

func (c *KubernetesEvents) format() Format { return "" }

func (c *KubernetesEvents) open(o Options) (deliver.Sink, error) {
	client, err := kube.Open(kube.Options{Kubeconfig: c.Kubeconfig})
	if err != nil {
		return nil, err
	}
	perMinute := c.PerMinute
	if perMinute == 0 {
		perMinute = defaultEventsPerMinute
	}
	return &eventSink{
		client: client, perMinute: perMinute, host: o.Place.Host, now: o.Now, logger: o.Logger,
		held: map[string]*happening{}, told: map[string][]string{}, spent: map[string]int{},
	}, nil
}

// An event is core/v1's. Times are whole seconds there.
type event struct {
	APIVersion     string      `json:"apiVersion"`
	Kind           string      `json:"kind"`
	Metadata       eventMeta   `json:"metadata"`
	InvolvedObject object      `json:"involvedObject"`
	Reason         string      `json:"reason"`
	Message        string      `json:"message"`
	Source         eventSource `json:"source"`
	First          string      `json:"firstTimestamp"`
	Last           string      `json:"lastTimestamp"`
	Count          int64       `json:"count"`
	Type           string      `json:"type"`
	Component      string      `json:"reportingComponent"`
	Instance       string      `json:"reportingInstance"`
}

type eventMeta struct {
	Name        string            `json:"name,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	Version     string            `json:"resourceVersion,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type eventSource struct {
	Component string `json:"component"`
	Host      string `json:"host,omitempty"`
}

// An object is what an Event is about.
type object struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid,omitempty"`
}

// A happening is so many records of one object, image and reason.
type happening struct {
	object        object
	image, reason string
	text          string // of the last record
	record        string // id of the last one
	records       []string
	count         int64
	first, last   time.Time
}

// name is the same for all gates that tell of the same, and after a restart.
func (h *happening) name() string {
	sum := sha256.New()
	for _, part := range []string{h.object.Namespace, h.object.Kind, h.object.Name, h.image, h.reason} {
		_, _ = fmt.Fprintf(sum, "%q", part) // never fails
	}
	return "gatehouse." + hex.EncodeToString(sum.Sum(nil)[:10])
}

func (h *happening) add(other *happening) {
	h.text, h.record, h.last = other.text, other.record, other.last
	h.records = append(h.records, other.records...)
	h.count += other.count
}

type eventSink struct {
	client    *kube.Client
	perMinute int
	host      string
	now       func() time.Time
	logger    *slog.Logger

	minute time.Time      // that is being spent
	spent  map[string]int // by namespace
	held   map[string]*happening
	// told are the Events that have a record already which comes again, by its id.
	told map[string][]string
}

// Send has Events tell of the records that people should see.
func (s *eventSink) Send(ctx context.Context, entries []deliver.Entry) error {
	names, all := s.gather(entries)
	var lost int64
	for _, name := range names {
		h := all[name]
		if !s.affords(h.object.Namespace) {
			if len(s.held) >= maxHeld && s.held[name] == nil {
				lost += h.count
				continue
			}
			h.records = nil // they are done with
			s.held[name] = h
			continue
		}
		if err := s.write(ctx, name, h); err != nil {
			return err
		}
		delete(s.held, name)
		for _, id := range h.records {
			s.told[id] = append(s.told[id], name)
		}
	}
	for _, e := range entries {
		delete(s.told, e.ID)
	}
	if lost > 0 {
		return &deliver.LostError{Records: min(lost, int64(len(entries))), Err: errors.New("too many Events wait for another minute")}
	}
	return nil
}

// gather puts records together by what they tell of, with those that were held back.
func (s *eventSink) gather(entries []deliver.Entry) (names []string, all map[string]*happening) {
	all = map[string]*happening{}
	add := func(name string, h *happening) {
		if is := all[name]; is != nil {
			is.add(h)
			return
		}
		own := *h
		names = append(names, name)
		all[name] = &own
	}
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		add(name, s.held[name])
	}
	for _, e := range entries {
		if s.now().Sub(e.Time) > eventLife {
			continue
		}
		for _, h := range happenings(e) {
			if name := h.name(); !slices.Contains(s.told[e.ID], name) {
				add(name, &h)
			}
		}
	}
	return names, all
}

// affords reports whether another Event may be written in a namespace, and notes it.
func (s *eventSink) affords(namespace string) bool {
	if minute := s.now().Truncate(time.Minute); !minute.Equal(s.minute) {
		s.minute, s.spent = minute, map[string]int{}
	}
	if s.spent[namespace] >= s.perMinute {
		return false
	}
	s.spent[namespace]++
	return true
}

// write makes the Event, or lets the one that is there grow.
func (s *eventSink) write(ctx context.Context, name string, h *happening) error {
	path := []string{"api", "v1", "namespaces", h.object.Namespace, "events"}
	var err error
	for range eventTries {
		var is event
		err = s.client.Get(ctx, &is, nil, append(path, name)...)
		switch {
		case kube.NotFound(err):
			err = s.client.Create(ctx, s.event(ctx, name, h), nil, path...)
		case err == nil:
			err = s.client.Merge(ctx, map[string]any{
				"metadata": eventMeta{Version: is.Metadata.Version, Annotations: map[string]string{recordNote: h.record}},
				"count":    is.Count + h.count, "lastTimestamp": seconds(h.last), "message": h.text,
			}, nil, append(path, name)...)
		}
		if !kube.Conflict(err) && (err == nil || !kube.NotFound(err)) {
			break
		}
	}
	var answer *kube.Error
	if errors.As(err, &answer) && (answer.Code == http.StatusNotFound || answer.Code == http.StatusUnprocessableEntity || answer.Code == http.StatusBadRequest ||
		answer.Code == http.StatusForbidden && strings.Contains(answer.Message, "being terminated")) {
		return &deliver.RefusedError{Err: err} // the namespace is gone, or never was
	}
	return err
}

func (s *eventSink) event(ctx context.Context, name string, h *happening) event {
	about := h.object
	about.UID = s.uid(ctx, about)
	return event{
		APIVersion: "v1", Kind: "Event",
		Metadata:       eventMeta{Name: name, Namespace: about.Namespace, Annotations: map[string]string{recordNote: h.record}},
		InvolvedObject: about, Reason: h.reason, Message: h.text, Source: eventSource{eventComponent, s.host},
		First: seconds(h.first), Last: seconds(h.last), Count: h.count, Type: "Warning",
		Component: eventComponent, Instance: s.host,
	}
}

// uid is that of the object, without which kubectl describe does not show the Event; ""
// if it cannot be known, as of a pod that was refused.
func (s *eventSink) uid(ctx context.Context, o object) string {
	path := []string{"api", "v1"}
	if group, version, ok := strings.Cut(o.APIVersion, "/"); ok {
		path = []string{"apis", group, version}
	}
	switch {
	case o.Kind == namespaceKind:
		path = append(path, "namespaces", o.Name)
	case plurals[o.Kind] != "":
		path = append(path, "namespaces", o.Namespace, plurals[o.Kind], o.Name)
	default:
		return ""
	}
	var is struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	if err := s.client.Get(ctx, &is, nil, path...); err != nil {
		if !kube.NotFound(err) {
			s.logger.Debug("the object of an Event is not known", "kind", o.Kind, "namespace", o.Namespace, "name", o.Name, "error", err)
		}
		return ""
	}
	return is.Metadata.UID
}

// Close does nothing.
func (s *eventSink) Close() error {
	if n := len(s.held); n > 0 {
		s.logger.Warn("counts of Events were not written: there were too many in a minute", "events", strconv.Itoa(n))
	}
	return nil
}

func seconds(t time.Time) string { return t.UTC().Format(time.RFC3339) }
