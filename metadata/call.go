package metadata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// A call is one call of a method while it runs.
type call struct {
	s      *Service
	caller Caller
	record CallRecord
	// telling is the store for a recorder that is told before.
	telling tellingStore
	// reads is set of a call that changes nothing, though its permission sounds so.
	reads bool
}

// do runs fn as a call of the method, records it, and logs it. It is the only
// way from a method to the store; no transport goes around it. The resource is
// what the caller says that the call is about, before anything is checked.
func do[T any](ctx context.Context, s *Service, caller Caller, method, resource string, fn func(*call) (T, error)) (T, error) {
	c := &call{s: s, caller: caller, record: CallRecord{Time: s.now(), Method: method, Caller: caller, Resource: clip(resource)}}
	result, err := fn(c)
	c.end(ctx, err)
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}

// Refused records a call that a transport refused before it could be made: its
// caller is unknown, or asks too often, or sent what is no request.
func (s *Service) Refused(ctx context.Context, caller Caller, method string, err error) {
	c := &call{s: s, caller: caller, record: CallRecord{Time: s.now(), Method: method, Caller: caller}}
	c.end(ctx, err)
}

// need asks whether the caller may, and remembers that it asked.
func (c *call) need(ctx context.Context, permission Permission, resource string) error {
	if !slices.Contains(c.record.Permissions, permission) {
		c.record.Permissions = append(c.record.Permissions, permission)
	}
	return c.s.authorize(ctx, c.caller, permission, resource)
}

// store returns the store, to calls that have asked for a permission. To reach
// it without would be a fault of this package.
func (c *call) store() Store {
	if len(c.record.Permissions) == 0 {
		panic("metadata: " + c.record.Method + " reached for the store without asking for a permission")
	}
	if c.s.foreteller == nil {
		return c.s.store
	}
	c.telling = tellingStore{c.s.store, c}
	return &c.telling
}

// A tellingStore has what changes policy recorded before it is changed.
type tellingStore struct {
	Store
	call *call
}

// Apply is that of the store, unless the changes cannot be recorded.
func (s *tellingStore) Apply(ctx context.Context, mutations ...Mutation) error {
	if edits := policyEdits(mutations); len(edits) > 0 {
		id, err := s.call.s.foreteller.Intend(ctx, s.call.record, edits)
		if err != nil {
			return Errorf(Unavailable, "the change must be on record before it is made, and could not be recorded: %w", err)
		}
		s.call.record.Intent = id
	}
	return s.Store.Apply(ctx, mutations...)
}

// policyEdits returns what mutations change of documents and access policies.
func policyEdits(mutations []Mutation) []PolicyEdit {
	var edits []PolicyEdit
	for _, m := range mutations {
		switch {
		case m.WriteDocument != nil:
			edits = append(edits, PolicyEdit{Name: clip(m.WriteDocument.Name), Revision: m.WriteDocument.Revision, Version: contentVersion(m.WriteDocument.Content)})
		case m.SetPolicy != nil:
			edits = append(edits, PolicyEdit{Name: clip(m.SetPolicy.Resource), Version: contentVersion(m.SetPolicy.To), Access: true})
		}
	}
	return edits
}

func contentVersion(content []byte) string {
	if len(content) == 0 {
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// authorize returns nil if the authorizer allows it, or the access policy of the
// resource does; else the refusal.
func (s *Service) authorize(ctx context.Context, caller Caller, permission Permission, resource string) error {
	refusal := s.auth.Authorize(ctx, caller, permission, resource)
	if refusal == nil {
		return nil
	}
	var own *Error
	if (errors.As(refusal, &own) || KindOf(refusal) != Internal) && KindOf(refusal) != PermissionDenied {
		return refusal
	}
	granted, err := s.granted(ctx, caller, permission, resource)
	switch {
	case err != nil:
		return err
	case granted:
		return nil
	case own != nil:
		return refusal
	}
	return Errorf(PermissionDenied, "caller %q needs %s on %q: %w", clip(caller.Name), permission, clip(resource), refusal)
}

// end hands the call to the recorder and the log.
func (c *call) end(ctx context.Context, err error) {
	markRecorded(ctx)
	r := &c.record
	r.Took, r.Err = max(c.s.now().Sub(r.Time), 0), err
	if c.s.recorder != nil {
		c.s.recorder.Record(ctx, *r)
	}
	level := levelOf(*r)
	if c.reads && err == nil {
		level = slog.LevelDebug
	}
	if !c.s.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method),
		slog.String("caller", r.Caller.Name),
		slog.String("resource", r.Resource),
		slog.String("permissions", joinPermissions(r.Permissions)),
		slog.Duration("took", r.Took.Round(time.Microsecond)),
	}
	message := "metadata call"
	if err != nil {
		message = "metadata call failed"
		attrs = append(attrs, slog.String("kind", KindOf(err).String()), slog.String("error", err.Error()))
	}
	c.s.log.LogAttrs(ctx, level, message, attrs...)
}

// levelOf is Debug for what only reads: a gate that looks things up would fill
// the log.
func levelOf(r CallRecord) slog.Level {
	if r.Err == nil {
		if slices.ContainsFunc(r.Permissions, func(p Permission) bool { return !reads(p) }) {
			return slog.LevelInfo
		}
		return slog.LevelDebug
	}
	switch KindOf(r.Err) {
	case Internal, Unavailable:
		return slog.LevelError
	case PermissionDenied, Unauthenticated:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// reads reports whether a call that needs p changes nothing.
func reads(p Permission) bool {
	switch verb := p[strings.LastIndexByte(string(p), '.')+1:]; verb {
	case "get", "list", "listOccurrences", "getIamPolicy", "verifyImageAttested", "evaluatePolicy", "watch":
		return true
	}
	return false
}

func joinPermissions(permissions []Permission) string {
	names := make([]string, len(permissions))
	for i, p := range permissions {
		names[i] = string(p)
	}
	return strings.Join(names, " ")
}
