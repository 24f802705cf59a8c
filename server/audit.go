package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
)

// AuditConfig says how the record is kept: of decisions, of calls to the metadata API, and
// of what the attestor was asked. Each kind has a folder of its own in Data.
type AuditConfig struct {
	// SpillDir is a second folder, best on another volume, that takes records while those
	// in Data cannot be written. They are moved to Data when it can. One server at a time
	// may use it. Default none.
	SpillDir string `yaml:"spillDir"`
	// OnUnwritable says what becomes of what must be on disk before it counts, a used
	// break-glass and each change of a policy, while neither folder can be written:
	// "refuse" (default), or "allow", which is counted, logged, and said in the answer.
	OnUnwritable OnUnwritable `yaml:"onUnwritable"`
	// OrdinaryOnUnwritable says the same for all other decisions, which nobody waits for:
	// "allow" (default), which is counted, or "refuse".
	OrdinaryOnUnwritable OnUnwritable `yaml:"ordinaryOnUnwritable"`
	// QueueRecords and QueueBytes bound what waits in memory for the disk, of each kind.
	// What comes beyond them is lost, counted and told of. Default 65536 and 64 MiB.
	QueueRecords int   `yaml:"queueRecords"`
	QueueBytes   int64 `yaml:"queueBytes"`
	// Retention is how long records are kept at least; 0 (default) is for ever. Whole files
	// are removed.
	Retention time.Duration `yaml:"retention"`
	// MaxBytes bounds each kind on disk: beyond it the oldest files are removed, whatever
	// Retention says; 0 (default) is no bound.
	MaxBytes int64 `yaml:"maxBytes"`
	// Sinks are places that records are handed on to, beside Data.
	Sinks []sink.Config `yaml:"sinks"`
}

// OnUnwritable is what happens to what cannot be recorded.
type OnUnwritable string

// The choices.
const (
	RefuseUnrecorded OnUnwritable = "refuse"
	AllowUnrecorded  OnUnwritable = "allow"
)

// minAuditBytes is what two files of a log may have: the one that is written is never
// removed.
const minAuditBytes = 2 * audit.SegmentSize

func defaultAudit() AuditConfig {
	return AuditConfig{
		OnUnwritable: RefuseUnrecorded, OrdinaryOnUnwritable: AllowUnrecorded,
		QueueRecords: audit.DefaultQueueRecords, QueueBytes: audit.DefaultQueueBytes,
	}
}

func (c *AuditConfig) validate(data string) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("audit."+format, args...)) }
	for name, choice := range map[string]OnUnwritable{"onUnwritable": c.OnUnwritable, "ordinaryOnUnwritable": c.OrdinaryOnUnwritable} {
		if choice != RefuseUnrecorded && choice != AllowUnrecorded {
			bad("%s %q: want %q or %q", name, choice, RefuseUnrecorded, AllowUnrecorded)
		}
	}
	if c.QueueRecords < 1 || c.QueueBytes < audit.MaxRecord {
		bad("queueRecords and queueBytes: want at least 1 record and %d bytes", audit.MaxRecord)
	}
	if c.Retention < 0 {
		bad("retention %s: want a time such as 8760h, or 0 for ever", c.Retention)
	}
	if c.MaxBytes != 0 && c.MaxBytes < minAuditBytes {
		bad("maxBytes %d: want 0 or at least %d", c.MaxBytes, minAuditBytes)
	}
	if c.SpillDir != "" && filepath.Clean(c.SpillDir) == filepath.Clean(data) {
		bad("spillDir %q: want another folder than data", c.SpillDir)
	}
	errs = append(errs, sink.Validate(c.Sinks))
	return errors.Join(errs...)
}
