package metadata

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of AI_SKILL_ANALYSIS in v1's Note and Occurrence, for those
// who read what Google's Go package keeps as unknown fields.
const (
	AISkillNoteField       protowire.Number = aiSkillNoteField
	AISkillOccurrenceField protowire.Number = aiSkillOccurrenceField
)

// ValidateNote applies the rules of v1.
func ValidateNote(n *grafeas.Note) error { return validateNote(n) }

// ValidateOccurrence applies the rules of v1.
func ValidateOccurrence(o *grafeas.Occurrence) error { return validateOccurrence(o) }

// Problems gather what is wrong with a message, for the rules of a [Dialect]. The
// zero Problems are ready to use.
type Problems struct{ gathered problems }

// Add adds a problem.
func (p *Problems) Add(format string, args ...any) { p.gathered.add(format, args...) }

// Require adds "path is required" unless ok.
func (p *Problems) Require(ok bool, path string, args ...any) { p.gathered.require(ok, path, args...) }

// Err returns nil, or all problems as one InvalidArgument.
func (p *Problems) Err(title string) error { return p.gathered.err(title) }
