package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// DefaultMaxRequests is how many requests are taken at the same time.
	DefaultMaxRequests = 1024

	// maxReview bounds a request body. An API server takes objects of up to 3 MiB,
	// escapes "<" and the like in six bytes, and sends the new and the old object:
	// whatever it can be made to send is read and answered, not cut.
	maxReview = 40 << 20
	// maxBodies bounds all bodies together, of which a source may have half.
	maxBodies = 256 << 20

	// defaultTimeout is used when the API server names none, and is its own
	// default; maxTimeout is the most it allows.
	defaultTimeout = 10 * time.Second
	maxTimeout     = 30 * time.Second

	// margin is kept for sending the answer.
	margin = 500 * time.Millisecond

	// retryAfter is what API servers are told that are turned away: they wait as many
	// seconds and ask again, for as long as the webhook's timeout lasts.
	retryAfter = "1"
)

// Limits bound what a [Gate] takes at the same time. The zero Limits are the defaults.
type Limits struct {
	// MaxRequests is how many requests are read and judged at the same time, of which
	// a source (an IP address) may have as many as are left free; 0 is
	// [DefaultMaxRequests].
	MaxRequests int
}

// A door takes requests within all bounds.
type door struct {
	logger   *slog.Logger
	requests *bounded.Shares // how many at the same time
	bytes    *bounded.Shares // of their bodies
	away     *prometheus.CounterVec
	panics   prometheus.Counter
	reviews  reviewMetrics
}

// newDoor returns a door whose metrics begin with gatehouse_ and its name. panicked says
// what becomes of a review at which it panics.
func newDoor(name, panicked string, limits Limits, logger *slog.Logger, registry prometheus.Registerer) (door, error) {
	if limits.MaxRequests == 0 {
		limits.MaxRequests = DefaultMaxRequests
	}
	d := door{
		logger:   logger,
		requests: bounded.NewShares(int64(limits.MaxRequests)),
		bytes:    bounded.NewShares(maxBodies),
		away: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_" + name + "_turned_away_total",
			Help: "Requests to the webhook that were answered by an HTTP error and not judged, by status.",
		}, []string{"status"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_" + name + "_panics_total",
			Help: panicked + " Any is a bug: see the log.",
		}),
	}
	for _, status := range []int{
		http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
	} {
		d.away.WithLabelValues(strconv.Itoa(status)) // the first of them is to be seen as an increase
	}
	var err error
	d.reviews, err = newReviewMetrics(name, registry)
	return d, errors.Join(err, registry.Register(d.away), registry.Register(d.panics))
}

// A protocol is how a kind of review is read and answered.
type protocol struct {
	// answer returns the envelope of the answer. An error says that the body is no
	// review at all.
	answer func(ctx context.Context, body []byte) (any, error)
	// deny returns an envelope that refuses a review which was not understood, or could
	// not be judged; ok is false if there is nobody to address it to.
	deny func(body []byte, a answer) (envelope any, ok bool)
	// misunderstood, unless it is nil, is told of a review that could not be read.
	misunderstood func(error)
}

// An httpError turns a request away before it is judged. The API server applies the
// webhook's failurePolicy then.
type httpError struct {
	status int
	text   string
}

func (e *httpError) Error() string { return e.text }

func turnAway(status int, format string, args ...any) error {
	return &httpError{status, fmt.Sprintf(format, args...)}
}

// serve takes a request within all bounds, and answers it in a protocol.
func (d *door) serve(w http.ResponseWriter, r *http.Request, p protocol) {
	begun, wait := time.Now(), timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	err := checkHeader(r)
	if err == nil {
		err = d.admit(r, func() error {
			d.reviews.inFlight.Inc()
			defer d.reviews.inFlight.Dec()
			body, err := readBody(w, r, time.Now().Add(wait))
			if err != nil {
				return err
			}
			envelope, err := d.answer(ctx, body, p)
			if err == nil {
				err = d.write(w, envelope)
			}
			if err == nil {
				d.reviews.answered(ctx, time.Since(begun), len(body))
			}
			return err
		})
	}
	if e := (*httpError)(nil); errors.As(err, &e) {
		d.away.WithLabelValues(strconv.Itoa(e.status)).Inc()
		switch e.status {
		case http.StatusMethodNotAllowed:
			w.Header().Set("Allow", http.MethodPost)
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, e.text, e.status)
	}
}

// timeout returns how long the gate may take: what the API server says it waits,
// less the time to answer.
func timeout(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 {
		d = defaultTimeout
	}
	d = min(d, maxTimeout)
	return max(d-margin, d/2)
}

// checkHeader refuses what no API server sends, before any of it is read.
func checkHeader(r *http.Request) error {
	if r.Method != http.MethodPost {
		return turnAway(http.StatusMethodNotAllowed, "POST a review here")
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return turnAway(http.StatusUnsupportedMediaType, "a review must not be compressed (Content-Encoding %.100q)", encoding)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return turnAway(http.StatusUnsupportedMediaType, "a review must have Content-Type application/json, not %.100q", r.Header.Get("Content-Type"))
	}
	if r.ContentLength > maxReview {
		return tooLarge()
	}
	return nil
}

func tooLarge() error {
	return turnAway(http.StatusRequestEntityTooLarge, "a review has at most %d bytes", maxReview)
}

// admit runs f if the source of the request has its share left.
func (d *door) admit(r *http.Request, f func() error) error {
	source, size := bounded.Source(r.RemoteAddr), r.ContentLength
	if size < 0 { // not said
		size = maxReview
	}
	for _, take := range []struct {
		shares *bounded.Shares
		n      int64
	}{{d.requests, 1}, {d.bytes, size}} {
		switch take.shares.Acquire(source, take.n) {
		case bounded.OverShare:
			return turnAway(http.StatusTooManyRequests, "too many requests of %s at the same time: ask again", source)
		case bounded.Exhausted:
			return turnAway(http.StatusServiceUnavailable, "too many requests at the same time: ask again")
		}
		defer take.shares.Release(source, take.n) // when f has run
	}
	return f()
}

func readBody(w http.ResponseWriter, r *http.Request, deadline time.Time) ([]byte, error) {
	body, err := bounded.ReadBody(w, r, maxReview, deadline)
	switch tooBig := (*http.MaxBytesError)(nil); {
	case err == nil:
		return body, nil
	case errors.As(err, &tooBig):
		return nil, tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, turnAway(http.StatusRequestTimeout, "the review did not arrive in time")
	}
	return nil, turnAway(http.StatusBadRequest, "reading the review: %v", err)
}

// answer judges a review. Whatever goes wrong with one that can be answered is a
// denial, which counts whatever the webhook's failurePolicy says.
func (d *door) answer(ctx context.Context, body []byte, p protocol) (envelope any, err error) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		d.panics.Inc()
		d.logger.Error("judging a review panicked; it was denied", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		var ok bool
		if envelope, ok = p.deny(body, refuse(http.StatusInternalServerError, "judging this review failed inside the gate, and so it is denied: see the gate's log")); !ok {
			err = turnAway(http.StatusInternalServerError, "internal error")
		}
	}()
	envelope, err = p.answer(ctx, body)
	if err == nil {
		return envelope, nil
	}
	if denial, ok := p.deny(body, refuse(http.StatusBadRequest, "%v", err)); ok {
		if p.misunderstood != nil {
			p.misunderstood(err)
		}
		return denial, nil
	}
	return nil, turnAway(http.StatusBadRequest, "%v", err)
}

// write sends an envelope.
func (d *door) write(w http.ResponseWriter, envelope any) error {
	body, err := json.Marshal(envelope)
	if err != nil {
		d.logger.Error("encoding an answer", "error", err)
		return turnAway(http.StatusInternalServerError, "encoding the answer failed")
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // an API server that went away has its own log
	return nil
}
