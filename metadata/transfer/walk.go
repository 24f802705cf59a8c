package transfer

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// DefaultPageSize is Grafeas's maximum: the reference server sorts its whole
	// store for each page.
	DefaultPageSize = 1000
	// maxEmpty is how many empty pages in a row may lead on. A server that looks
	// for what a filter matches gives some, one without a filter none.
	maxEmpty = 100
)

// A walk reads one list of a server page by page, and stops when that cannot come
// to an end: some servers' paging starts over without saying so.
type walk struct {
	caller
	of    string // what is listed, for errors
	fetch func(ctx context.Context, q query) (rows []proto.Message, next string, err error)
	size  int32
	query query

	done    bool
	resumed bool  // the token is of an earlier run
	circle  error // what the next page would begin
	pages   int
	empty   int
	tokens  map[key]struct{} // those given in this walk
	met     map[key]struct{} // the names met in this walk
}

func (w *walk) restart() {
	w.query.token, w.done, w.resumed, w.circle, w.pages, w.empty = "", false, false, nil, 0, 0
	w.tokens, w.met = map[key]struct{}{}, map[key]struct{}{}
}

// A circleError is what a walk ends with that goes in circles.
type circleError struct{ error }

func (e circleError) Unwrap() error { return e.error }

func isCircle(err error) bool {
	var circle circleError
	return errors.As(err, &circle)
}

func (w *walk) repeats(what string) error {
	return circleError{metadata.Errorf(metadata.FailedPrecondition,
		"%s: page %d %s: the server's paging does not work, and what it left out cannot be told; walk such lists over and over with --salvage, or read its database", w.of, w.pages, what)}
}

// next returns the next page.
func (w *walk) next(ctx context.Context) ([]proto.Message, error) {
	if w.circle != nil {
		return nil, w.circle
	}
	rows, token, err := w.page(ctx)
	for {
		switch {
		case tooLarge(err) && w.size > 1:
			w.size = max(w.size/8, 1)
		case w.resumed && codeOf(err) == codes.InvalidArgument:
			w.restart() // the server does not know its old token any more
		case err != nil:
			return nil, explain(err, "%s", w.of)
		default:
			w.resumed = false
			w.pages++
			w.query.token, w.done = token, token == ""
			return rows, w.judge(rows, token)
		}
		rows, token, err = w.page(ctx)
	}
}

func (w *walk) page(ctx context.Context) (rows []proto.Message, token string, err error) {
	w.query.size = w.size
	err = w.call(ctx, func(ctx context.Context) (err error) {
		rows, token, err = w.fetch(ctx, w.query)
		return err
	})
	return rows, token, err
}

// judge says whether a page leads on.
func (w *walk) judge(rows []proto.Message, token string) error {
	fresh := 0
	for _, m := range rows {
		k := keyOf(nameOf(m))
		if _, again := w.met[k]; !again {
			w.met[k] = struct{}{}
			fresh++
		}
	}
	if len(rows) > 0 && fresh == 0 {
		return w.repeats("has only what came before")
	}
	w.empty++
	if len(rows) > 0 {
		w.empty = 0
	}
	if w.empty > maxEmpty {
		return w.repeats("is empty, as many before it were, and leads on")
	}
	if token == "" {
		return nil
	}
	k := keyOf(token)
	if _, again := w.tokens[k]; again {
		w.circle = w.repeats("leads to where the list has been") // its rows may be new
	}
	w.tokens[k] = struct{}{}
	return nil
}

// resumable reports whether a token of an earlier run may be sent. One that is a
// number is an offset, as of the reference server, which dies of an offset beyond
// the end.
func resumable(token string) bool {
	return strings.Trim(token, "0123456789+-") != ""
}
