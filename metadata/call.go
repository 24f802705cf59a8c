package metadata

import (
	"context"
	"errors"
	"log/slog"
	"strings"
)

// An access is a permission that a call needs, and on what.
type access struct {
	permission Permission
	resource   string
}

// do runs fn for the caller if every access is allowed, and logs the call. It
// is the only way from a method to the store; no transport goes around it.
func do[T any](ctx context.Context, s *Service, caller Caller, method string, needs []access, fn func() (T, error)) (T, error) {
	start := s.now()
	var result T
	err := s.authorize(ctx, caller, needs...)
	if err == nil {
		result, err = fn()
	}
	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("caller", caller.Name),
		slog.String("resource", needs[0].resource),
		slog.String("permissions", permissionsOf(needs)),
		slog.Duration("took", s.now().Sub(start)),
	}
	if err != nil {
		var none T
		attrs = append(attrs, slog.String("kind", KindOf(err).String()), slog.String("error", err.Error()))
		s.log.LogAttrs(ctx, levelOf(err), "metadata call failed", attrs...)
		return none, err
	}
	level := slog.LevelInfo
	if reads(needs[0].permission) {
		level = slog.LevelDebug // a gate that looks things up would fill the log
	}
	s.log.LogAttrs(ctx, level, "metadata call", attrs...)
	return result, nil
}

// authorize asks for every access; the first refusal stands.
func (s *Service) authorize(ctx context.Context, caller Caller, needs ...access) error {
	for _, a := range needs {
		err := s.auth.Authorize(ctx, caller, a.permission, a.resource)
		if err == nil {
			continue
		}
		var own *Error
		if errors.As(err, &own) || KindOf(err) != Internal {
			return err
		}
		return Errorf(PermissionDenied, "caller %q needs %s on %q: %w", clip(caller.Name), a.permission, clip(a.resource), err)
	}
	return nil
}

// reads reports whether a call that needs p changes nothing.
func reads(p Permission) bool {
	switch p {
	case NotesGet, NotesList, NotesListOccurrences, OccurrencesGet, OccurrencesList:
		return true
	}
	return false
}

func permissionsOf(needs []access) string {
	const most = 4 // a batch may attach to a thousand notes
	var b strings.Builder
	for i, a := range needs {
		if i == most {
			b.WriteString(" …")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(a.permission))
	}
	return b.String()
}

func levelOf(err error) slog.Level {
	switch KindOf(err) {
	case Internal, Unavailable:
		return slog.LevelError
	case PermissionDenied, Unauthenticated:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
