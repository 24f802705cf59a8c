package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/breakglass/relay"
	"github.com/gatehouse-dev/gatehouse/policy"
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
	// Forward says which records a gate that runs alone sends to its service, which makes
	// incidents of break-glass of them: "breakGlass" (default) those of requests with a
	// marker, "all", or "none".
	Forward relay.What `yaml:"forward"`
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
		QueueRecords: audit.DefaultQueueRecords, QueueBytes: audit.DefaultQueueBytes, Forward: relay.BreakGlass,
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
	if f := c.Forward; f != relay.BreakGlass && f != relay.All && f != relay.None {
		bad("forward %q: want %q, %q or %q", f, relay.BreakGlass, relay.All, relay.None)
	}
	if c.Retention < 0 {
		bad("retention %s: want a time such as 8760h, or 0 for ever", c.Retention)
	}
	if c.MaxBytes != 0 && c.MaxBytes < minAuditBytes {
		bad("maxBytes %d: want 0 or at least %d", c.MaxBytes, minAuditBytes)
	}
	if in, err := filepath.Rel(data, c.SpillDir); c.SpillDir != "" && err == nil && filepath.IsLocal(in) {
		bad("spillDir %q: want a folder outside of data, best on another volume", c.SpillDir)
	}
	errs = append(errs, sink.Validate(c.Sinks))
	return errors.Join(errs...)
}

// An auditKind is what a log has records of, as metrics call it. Each has a folder.
type auditKind string

const (
	auditDecisions auditKind = "decisions"
	auditCalls     auditKind = "calls"
	auditRuns      auditKind = "attestor"
)

var auditDirs = map[auditKind]string{auditDecisions: "audit", auditCalls: auditAPIDir, auditRuns: auditRunsDir}

// deliverLogs are what the configuration of sinks calls them.
var deliverLogs = map[auditKind]deliver.Log{auditDecisions: deliver.Decisions, auditCalls: deliver.Calls, auditRuns: deliver.Runs}

// openAudit opens a log, and has it measured. It is closed with the server.
func (p *parts) openAudit(kind auditKind) (*audit.Log, error) {
	c := p.cfg.Audit
	o := audit.Options{
		QueueRecords: c.QueueRecords, QueueBytes: c.QueueBytes, Retention: c.Retention, MaxBytes: c.MaxBytes,
		Replica: p.cfg.Admission.Feed.gateName(), Now: time.Now, Logger: p.logger,
	}
	if c.SpillDir != "" {
		o.Spill = filepath.Join(c.SpillDir, auditDirs[kind])
	}
	log, err := audit.OpenWith(filepath.Join(p.cfg.Data, auditDirs[kind]), o)
	if err != nil {
		return nil, err
	}
	p.onClose(log.Close)
	p.sinks.follow(deliverLogs[kind], log)
	return log, registerAudit(p.registry, kind, log)
}

func registerAudit(registry prometheus.Registerer, kind auditKind, log *audit.Log) error {
	labels := prometheus.Labels{"kind": string(kind)}
	counter := func(name, help string, value func(audit.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(value(log.Stats())) })
	}
	gauge := func(name, help string, value func(audit.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return value(log.Stats()) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		counter("gatehouse_audit_lost_total", "Records that are not in the audit log, because it could not be written, or not fast enough.", func(s audit.Stats) uint64 { return s.Lost }),
		counter("gatehouse_audit_spills_total", "Times that records were written to the spill, because the audit log could not be written.", func(s audit.Stats) uint64 { return s.Spills }),
		counter("gatehouse_audit_removed_segments_total", "Files of the audit log that were removed for their age, or the size of all.", func(s audit.Stats) uint64 { return s.Removed }),
		counter("gatehouse_audit_unread_segments_removed_total", "Those of them that incidents or a sink had not read.", func(s audit.Stats) uint64 { return s.Overruled }),
		gauge("gatehouse_audit_queue_records", "Records that wait for the disk.", func(s audit.Stats) float64 { return float64(s.QueueRecords) }),
		gauge("gatehouse_audit_queue_bytes", "Bytes of records that wait for the disk.", func(s audit.Stats) float64 { return float64(s.QueueBytes) }),
		gauge("gatehouse_audit_unwritable", "1 while records can be put on disk nowhere.", func(s audit.Stats) float64 {
			if s.Unwritable {
				return 1
			}
			return 0
		}),
	} {
		errs = append(errs, registry.Register(c))
	}
	return errors.Join(errs...)
}

// policyRecordTimeout bounds how long policies wait to be on record before they are in force.
const policyRecordTimeout = 10 * time.Second

// recorder returns what has policies on record before they are in force. It is an error if
// they cannot be, unless the operator has chosen otherwise.
func (g *glass) recorder(c *AuditConfig, cluster string) func(ctx context.Context, before, next []audit.PolicyVersion) error {
	return func(ctx context.Context, before, next []audit.PolicyVersion) error {
		ctx, cancel := context.WithTimeout(ctx, policyRecordTimeout)
		defer cancel()
		r := audit.Record{ID: audit.NewID(), Time: time.Now().UTC(), Event: "policy", Cluster: cluster, Before: before, Policies: next}
		err := g.log.AppendSync(ctx, r)
		if err == nil || c.OnUnwritable != AllowUnrecorded {
			return err
		}
		g.logger.Error("a policy is put in force although that cannot be recorded", "record", r.ID, "error", err)
		_ = g.log.Append(r) // for when it can; what is lost is counted and told of by the log
		return nil
	}
}

func (g *glass) recordPolicies(ctx context.Context, before, next policy.Set) error {
	return g.putOnRecord(ctx, versionsOf(before), versionsOf(next))
}

// recordFiles has it recorded who may grant, and what is granted by files, before that
// counts. What a gate starts with counts all the same.
func (g *glass) recordFiles(texts map[string][]byte) error {
	if g.putOnRecord == nil || len(texts) == 0 && len(g.read) == 0 {
		return nil
	}
	err := g.putOnRecord(context.Background(), fileVersions(g.read), fileVersions(texts))
	switch {
	case err != nil && g.read == nil:
		g.logger.Error("the files of break-glass that the gate starts with could not be recorded", "error", err)
	case err != nil:
		return fmt.Errorf("recording that files of break-glass change: %w", err)
	}
	return nil
}

func fileVersions(texts map[string][]byte) []audit.PolicyVersion {
	var list []audit.PolicyVersion
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		sum := sha256.Sum256(texts[path])
		list = append(list, audit.PolicyVersion{Policy: "break-glass", Source: path, Version: hex.EncodeToString(sum[:])})
	}
	return list
}

func versionsOf(set policy.Set) []audit.PolicyVersion {
	var list []audit.PolicyVersion
	for _, rules := range set {
		list = append(list, audit.PolicyVersion{Policy: rules.Name, Source: rules.Source, Version: rules.Version})
	}
	return list
}
