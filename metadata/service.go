package metadata

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Limits on one call. The page sizes and the batch size are Grafeas's own.
const (
	DefaultPageSize = 20
	MaxPageSize     = 1000
	MaxBatch        = 1000
	// MaxMessageBytes bounds one note or occurrence, and MaxPageBytes one page,
	// so that either fits the 4 MiB that gRPC clients accept by default.
	MaxMessageBytes = 3 << 20
	MaxPageBytes    = 3 << 20
	// MaxBatchBytes bounds a batch as it is answered, with the names and times
	// that the service adds: 4 MiB, the most that a gRPC client receives unless
	// told otherwise. A batch of MaxBatch has room for 4 KiB each.
	MaxBatchBytes = 4 << 20
	// maxScan is how many rows one call looks at for a filter that no index
	// answers. The page is then short, or empty, and its token leads on.
	maxScan = 10_000
)

// A Caller is who makes a call, as a transport has established it. The zero
// Caller is anonymous.
type Caller struct {
	Name string
}

// A Permission is what a caller needs on a resource, in the words of Google's
// IAM: those of Container Analysis without the service name, others with it.
type Permission string

// The permissions. Whoever may attach occurrences to the note of an attestor
// may attest in its name: NotesAttachOccurrence is the security boundary.
const (
	NotesGet              Permission = "notes.get"
	NotesList             Permission = "notes.list"
	NotesCreate           Permission = "notes.create"
	NotesUpdate           Permission = "notes.update"
	NotesDelete           Permission = "notes.delete"
	NotesListOccurrences  Permission = "notes.listOccurrences"
	NotesAttachOccurrence Permission = "notes.attachOccurrence"
	OccurrencesGet        Permission = "occurrences.get"
	OccurrencesList       Permission = "occurrences.list"
	OccurrencesCreate     Permission = "occurrences.create"
	OccurrencesUpdate     Permission = "occurrences.update"
	OccurrencesDelete     Permission = "occurrences.delete"

	NotesGetIamPolicy       Permission = "notes.getIamPolicy"
	NotesSetIamPolicy       Permission = "notes.setIamPolicy"
	OccurrencesGetIamPolicy Permission = "occurrences.getIamPolicy"
	OccurrencesSetIamPolicy Permission = "occurrences.setIamPolicy"

	ProjectsGet    Permission = "projects.get"
	ProjectsList   Permission = "projects.list"
	ProjectsCreate Permission = "projects.create"
	ProjectsDelete Permission = "projects.delete"

	PolicyGet          Permission = "binaryauthorization.policy.get"
	PolicyUpdate       Permission = "binaryauthorization.policy.update"
	PolicyGetIamPolicy Permission = "binaryauthorization.policy.getIamPolicy"
	PolicySetIamPolicy Permission = "binaryauthorization.policy.setIamPolicy"

	AttestorsGet                 Permission = "binaryauthorization.attestors.get"
	AttestorsList                Permission = "binaryauthorization.attestors.list"
	AttestorsCreate              Permission = "binaryauthorization.attestors.create"
	AttestorsUpdate              Permission = "binaryauthorization.attestors.update"
	AttestorsDelete              Permission = "binaryauthorization.attestors.delete"
	AttestorsVerifyImageAttested Permission = "binaryauthorization.attestors.verifyImageAttested"
	AttestorsGetIamPolicy        Permission = "binaryauthorization.attestors.getIamPolicy"
	AttestorsSetIamPolicy        Permission = "binaryauthorization.attestors.setIamPolicy"

	PlatformPoliciesGet            Permission = "binaryauthorization.platformPolicies.get"
	PlatformPoliciesList           Permission = "binaryauthorization.platformPolicies.list"
	PlatformPoliciesCreate         Permission = "binaryauthorization.platformPolicies.create"
	PlatformPoliciesReplace        Permission = "binaryauthorization.platformPolicies.replace"
	PlatformPoliciesDelete         Permission = "binaryauthorization.platformPolicies.delete"
	PlatformPoliciesEvaluatePolicy Permission = "binaryauthorization.platformPolicies.evaluatePolicy"

	// FeedWatch is what a gate in another place needs on a project, to be told what is
	// filed there and the project's policies, as they change.
	FeedWatch Permission = "gatehouse.feed.watch"

	// AuditAppend is what a gate in another place needs on a project, to tell what it has let
	// in, and to be told what becomes of it.
	AuditAppend Permission = "gatehouse.audit.append"

	// Those about break-glass are needed on the project.
	BreakGlassIncidentsGet    Permission = "gatehouse.breakGlassIncidents.get"
	BreakGlassIncidentsList   Permission = "gatehouse.breakGlassIncidents.list"
	BreakGlassIncidentsUpdate Permission = "gatehouse.breakGlassIncidents.update"
	BreakGlassGrantsList      Permission = "gatehouse.breakGlassGrants.list"
	BreakGlassGrantsCreate    Permission = "gatehouse.breakGlassGrants.create"
	BreakGlassGrantsDelete    Permission = "gatehouse.breakGlassGrants.delete"
)

// Permissions are all of them.
var Permissions = []Permission{
	NotesGet, NotesList, NotesCreate, NotesUpdate, NotesDelete, NotesListOccurrences, NotesAttachOccurrence,
	OccurrencesGet, OccurrencesList, OccurrencesCreate, OccurrencesUpdate, OccurrencesDelete,
	NotesGetIamPolicy, NotesSetIamPolicy, OccurrencesGetIamPolicy, OccurrencesSetIamPolicy,
	ProjectsGet, ProjectsList, ProjectsCreate, ProjectsDelete,

	PolicyGet, PolicyUpdate, PolicyGetIamPolicy, PolicySetIamPolicy,
	AttestorsGet, AttestorsList, AttestorsCreate, AttestorsUpdate, AttestorsDelete, AttestorsVerifyImageAttested,
	AttestorsGetIamPolicy, AttestorsSetIamPolicy,
	PlatformPoliciesGet, PlatformPoliciesList, PlatformPoliciesCreate, PlatformPoliciesReplace, PlatformPoliciesDelete,
	PlatformPoliciesEvaluatePolicy,
	FeedWatch, AuditAppend,
	BreakGlassIncidentsGet, BreakGlassIncidentsList, BreakGlassIncidentsUpdate,
	BreakGlassGrantsList, BreakGlassGrantsCreate, BreakGlassGrantsDelete,
}

// An Authorizer decides what callers may do. The resource is the name of a
// parent ("projects/p"), a note, an occurrence or a document; for listing projects
// it is "projects". It returns nil to allow; any
// error refuses, and is answered as PERMISSION_DENIED unless it carries a
// [Kind] of its own. It is called at the same time from many goroutines.
type Authorizer interface {
	Authorize(ctx context.Context, caller Caller, permission Permission, resource string) error
}

// AuthorizerFunc is a function as an Authorizer.
type AuthorizerFunc func(ctx context.Context, caller Caller, permission Permission, resource string) error

// Authorize calls f.
func (f AuthorizerFunc) Authorize(ctx context.Context, caller Caller, permission Permission, resource string) error {
	return f(ctx, caller, permission, resource)
}

// InsecureAllowAll lets everyone do everything: for tests, and for a server that
// only its own machine can reach.
func InsecureAllowAll() Authorizer {
	return AuthorizerFunc(func(context.Context, Caller, Permission, string) error { return nil })
}

// Options configure a Service.
type Options struct {
	// Authorizer is required.
	Authorizer Authorizer
	// Logger takes one record a call: writes at level Info, reads at Debug,
	// refusals at Warn, and what is the server's fault at Error. Nil discards them.
	Logger *slog.Logger
	// Recorder is told of every call, the refused ones too. It must not block. It may be a
	// [Foreteller].
	// Nil records nothing.
	Recorder Recorder
	// Projects are the ids of projects that always exist.
	Projects []string
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Rand makes occurrence ids; crypto/rand if nil.
	Rand io.Reader
}

// A Recorder keeps the audit record of calls. It is called at the same time from
// many goroutines.
type Recorder interface {
	Record(ctx context.Context, call CallRecord)
}

// A Foreteller is a Recorder that is told of a call, too, before it changes policy: a
// document, or an access policy. What it cannot record is not changed.
type Foreteller interface {
	Recorder
	// Intend returns when it is durable that the call is about to make the changes, with
	// an id that its record is to have, too.
	Intend(ctx context.Context, call CallRecord, edits []PolicyEdit) (id string, err error)
}

// A PolicyEdit is a change of a document, or of an access policy.
type PolicyEdit struct {
	Name string `json:"name"`
	// Revision is that of a document, as it will be.
	Revision uint64 `json:"revision,omitempty"`
	// Version is the hexadecimal SHA-256 of the content, "" for a deletion.
	Version string `json:"version,omitempty"`
	// Access says that it is the access policy of what has the name.
	Access bool `json:"access,omitempty"`
}

// A CallRecord is what happened to one call.
type CallRecord struct {
	Time   time.Time
	Took   time.Duration
	Method string // of the API, such as "CreateNote"
	Caller Caller
	// Resource is what the call was about: the name of a parent, a note, an
	// occurrence or a document, as far as it was understood.
	Resource    string
	Permissions []Permission // those that the call needs
	// Items is how many messages a batch had, 0 for other calls.
	Items int
	// Intent is the id of what a [Foreteller] was told before; "" if it was not.
	Intent string
	// Err is nil if the call did what it was asked; its kind is [KindOf].
	Err error
}

// A Service keeps notes and occurrences. It is safe for concurrent use.
type Service struct {
	store    Store
	auth     Authorizer
	log      *slog.Logger
	recorder Recorder
	// foreteller is the recorder, if it is one.
	foreteller Foreteller
	now        func() time.Time
	ids        *idSource
	tokens     *tokenCodec
	projects   []string
	dialect    Dialect
	filters    *filterCache
	updates    *turns
}

// A Dialect is a version of the API other than v1, in which messages are kept:
// what it demands of messages, and which fields its filters can name. The zero
// Dialect is v1.
type Dialect struct {
	// Name tells dialects apart, in page tokens too.
	Name string
	// ValidateNote and ValidateOccurrence take the place of the rules of v1.
	ValidateNote       func(*grafeas.Note) error
	ValidateOccurrence func(*grafeas.Occurrence) error
	// NoteView and OccurrenceView return the message as this dialect shows it,
	// nil if it cannot; Notes and Occurrences are their descriptors.
	NoteView           func(*grafeas.Note) proto.Message
	OccurrenceView     func(*grafeas.Occurrence) proto.Message
	Notes, Occurrences protoreflect.MessageDescriptor
}

// As returns the service as the dialect's API sees it. All fields of the dialect
// must be set.
func (s *Service) As(d Dialect) *Service {
	as := *s
	as.dialect = d
	return &as
}

// NewService returns a Service over the store. The caller keeps the store, and
// closes it after the last call.
func NewService(ctx context.Context, store Store, opts Options) (*Service, error) {
	if store == nil {
		return nil, errors.New("starting the metadata service: no store")
	}
	if opts.Authorizer == nil {
		return nil, errors.New("starting the metadata service: no authorizer; InsecureAllowAll lets everyone do everything")
	}
	key, err := store.PageKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("starting the metadata service: reading the page token key: %w", err)
	}
	tokens, err := newTokenCodec(key)
	if err != nil {
		return nil, fmt.Errorf("starting the metadata service: %w", err)
	}
	s := &Service{store: store, auth: opts.Authorizer, log: opts.Logger, recorder: opts.Recorder, now: opts.Clock, tokens: tokens, projects: opts.Projects, filters: newFilterCache(), updates: new(turns)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.foreteller, _ = opts.Recorder.(Foreteller)
	random := opts.Rand
	if random == nil {
		random = rand.Reader
	}
	s.ids = &idSource{now: s.now, random: random}
	if err := s.createProjects(ctx); err != nil {
		return nil, fmt.Errorf("starting the metadata service: creating its projects: %w", err)
	}
	return s, nil
}

// A ListRequest asks for one page of a list.
type ListRequest struct {
	// Parent is "projects/p" or "projects/p/locations/l"; for
	// [Service.ListNoteOccurrences] it is the name of the note.
	Parent string
	// Filter is in the language of the package comment; "" means all.
	Filter string
	// PageSize 0 means [DefaultPageSize]; below 0 or above [MaxPageSize] is refused.
	PageSize int32
	// PageToken is "" or the NextPageToken of the page before, which had the
	// same Parent and Filter.
	PageToken string
}

// A NotePage is one page of notes. There are more if NextPageToken is not
// empty, even when the page is.
type NotePage struct {
	Notes         []*grafeas.Note
	NextPageToken string
}

// An OccurrencePage is one page of occurrences. There are more if NextPageToken
// is not empty, even when the page is.
type OccurrencePage struct {
	Occurrences   []*grafeas.Occurrence
	NextPageToken string
}

// Changes returns up to limit changes after the sequence number, in order, none
// only if there are none up to Head; 0 begins at the beginning. The error is
// [ErrCompacted] if some of them were dropped, or if after is beyond Head, as it
// is when the store was set back to a backup. It never waits for more: see
// [Service.Wait].
func (s *Service) Changes(ctx context.Context, after uint64, limit int) ([]Change, error) {
	return s.store.Changes(ctx, after, limit)
}

// Head returns the sequence number of the last committed change, 0 if there is
// none. It costs no I/O.
func (s *Service) Head() uint64 { return s.store.Head() }

// Wait blocks until Head is greater than after, or ctx is done, or the store is
// closed; only the first returns nil.
func (s *Service) Wait(ctx context.Context, after uint64) error {
	return s.store.Wait(ctx, after)
}

// NoteOccurrences calls fn for every occurrence of the note, newest first, and
// returns the sequence number asOf which the snapshot is complete. Changes
// after asOf may already show in it: apply them again, which is harmless since
// each carries the whole occurrence. A note that does not exist has none. An
// error of fn ends the reading and is returned.
func (s *Service) NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (asOf uint64, err error) {
	name, err := ParseNoteName(note)
	if err != nil {
		return 0, err
	}
	asOf = s.store.Head()
	return asOf, s.eachOccurrence(ctx, OccurrenceQuery{Note: name, Kinds: AllKinds}, note, fn)
}

// ProjectOccurrences is NoteOccurrences for the occurrences of some kinds that are
// filed in a project, by its id, and in its locations; one parent after the other.
func (s *Service) ProjectOccurrences(ctx context.Context, project string, kinds Kinds, fn func(*grafeas.Occurrence) error) (asOf uint64, err error) {
	asOf = s.store.Head()
	parents, err := s.store.Parents(ctx, project)
	if err != nil {
		return 0, fmt.Errorf("reading the locations of project %q: %w", clip(project), err)
	}
	for _, p := range parents {
		if err := s.eachOccurrence(ctx, OccurrenceQuery{Parent: p, Kinds: kinds}, p.String(), fn); err != nil {
			return 0, err
		}
	}
	return asOf, nil
}

// SubjectOccurrences calls fn for every occurrence of some kinds about one of the
// digests ("sha256:…") that is filed in a project, by its id, and in its locations,
// in whatever repository they are.
func (s *Service) SubjectOccurrences(ctx context.Context, project string, digests []string, kinds Kinds, fn func(*grafeas.Occurrence) error) error {
	if len(digests) == 0 {
		return nil
	}
	subjects := make([]Key, 0, len(digests))
	for _, d := range digests {
		subjects = append(subjects, KeyOf(d))
	}
	parents, err := s.store.Parents(ctx, project)
	if err != nil {
		return fmt.Errorf("reading the locations of project %q: %w", clip(project), err)
	}
	for _, p := range parents {
		if err := s.eachOccurrence(ctx, OccurrenceQuery{Parent: p, Subjects: subjects, Kinds: kinds}, p.String(), fn); err != nil {
			return err
		}
	}
	return nil
}

// eachOccurrence calls fn with what the query selects, which is what is called in
// errors.
func (s *Service) eachOccurrence(ctx context.Context, q OccurrenceQuery, what string, fn func(*grafeas.Occurrence) error) error {
	q.Limit = MaxPageSize
	for {
		rows, more, err := s.store.Occurrences(ctx, q)
		if err != nil {
			return fmt.Errorf("reading the occurrences of %q: %w", what, err)
		}
		for _, o := range rows {
			if err := fn(o); err != nil {
				return err
			}
		}
		if !more || len(rows) == 0 {
			return nil
		}
		if q.Before, err = idOf(rows[len(rows)-1]); err != nil {
			return err
		}
	}
}

// Note returns a note as it stands. It reflects every write that returned before it
// was called.
func (s *Service) Note(ctx context.Context, name string) (*grafeas.Note, error) {
	n, err := ParseNoteName(name)
	if err != nil {
		return nil, err
	}
	return s.store.Note(ctx, n)
}

// ProjectSummaries calls fn with what the scans of a project, by its id, and of its
// locations found, and returns the sequence number asOf which that is complete.
// Later changes may already show in it.
func (s *Service) ProjectSummaries(ctx context.Context, project string, fn func(*Summary) error) (asOf uint64, err error) {
	asOf = s.store.Head()
	parents, err := s.store.Parents(ctx, project)
	if err != nil {
		return 0, fmt.Errorf("reading the locations of project %q: %w", clip(project), err)
	}
	for _, p := range parents {
		if err := s.eachSummary(ctx, p, fn); err != nil {
			return 0, err
		}
	}
	return asOf, nil
}

func (s *Service) eachSummary(ctx context.Context, p Parent, fn func(*Summary) error) error {
	const page = 100 // of at most MaxFindings each, some 10 MB
	q := SummaryQuery{Parent: p, Limit: page}
	for {
		rows, more, err := s.store.Summaries(ctx, q)
		if err != nil {
			return fmt.Errorf("reading what scans found in %q: %w", p, err)
		}
		for _, row := range rows {
			if err := fn(row); err != nil {
				return err
			}
		}
		if !more || len(rows) == 0 {
			return nil
		}
		q.After = rows[len(rows)-1].Resource
	}
}

// ResourceSummary returns what the scans of one resource of a parent found, or an
// empty Summary. It reflects every write that returned before it was called.
func (s *Service) ResourceSummary(ctx context.Context, parent Parent, resource Key) (*Summary, error) {
	rows, _, err := s.store.Summaries(ctx, SummaryQuery{Parent: parent, Resources: []Key{resource}, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("reading what scans found in %q: %w", parent, err)
	}
	if len(rows) == 0 {
		return &Summary{Parent: parent, Resource: resource}, nil
	}
	return rows[0], nil
}
