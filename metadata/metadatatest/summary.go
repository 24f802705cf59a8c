package metadatatest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

var discoverer = metadata.NoteName{Parent: metadata.Parent{Project: "provider"}, ID: "discovery"}

func createDiscoverer() metadata.Mutation {
	m := createNote(discoverer)
	m.CreateNote.Kind = grafeas.NoteKind_DISCOVERY
	m.CreateNote.Type = &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}
	return m
}

// finding returns a vulnerability of the resource i.
func finding(i int, severity grafeas.Severity, fixable bool) *grafeas.Occurrence {
	o := vulnerability(ids.next(), i)
	v := o.GetVulnerability()
	v.EffectiveSeverity, v.FixAvailable = severity, fixable
	o.UpdateTime = epoch
	return o
}

// discovery returns a scan of the resource i.
func discovery(i int, status grafeas.DiscoveryOccurrence_AnalysisStatus) *grafeas.Occurrence {
	o := attestation(ids.next(), discoverer, i)
	o.Kind, o.UpdateTime = grafeas.NoteKind_DISCOVERY, epoch
	o.Details = &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{
		AnalysisStatus: status, ContinuousAnalysis: grafeas.DiscoveryOccurrence_ACTIVE, LastScanTime: epoch,
	}}
	return o
}

// summariesOf computes what the summaries of the project must be.
func summariesOf(all []*grafeas.Occurrence) []*metadata.Summary {
	byKey := map[metadata.Key]*metadata.Summary{}
	var keys []metadata.Key
	for _, o := range all {
		if !metadata.Summarized(o.GetKind()) {
			continue
		}
		k := metadata.KeysOf(o).Resource
		if byKey[k] == nil {
			byKey[k] = &metadata.Summary{Parent: project, Resource: k}
			keys = append(keys, k)
		}
		byKey[k].Add(o)
	}
	slices.SortFunc(keys, func(a, b metadata.Key) int { return slices.Compare(a[:], b[:]) })
	var rows []*metadata.Summary
	for _, k := range keys {
		rows = append(rows, byKey[k])
	}
	return rows
}

// listSummaries reads all pages.
func listSummaries(t *testing.T, s metadata.Store, q metadata.SummaryQuery) []*metadata.Summary {
	t.Helper()
	var all []*metadata.Summary
	for {
		rows, more, err := s.Summaries(t.Context(), q)
		must(t, err)
		all = append(all, rows...)
		if !more {
			return all
		}
		if len(rows) == 0 || len(rows) > q.Limit {
			t.Fatalf("%d summaries on a page of %d, and more to come", len(rows), q.Limit)
		}
		q.After = rows[len(rows)-1].Resource
	}
}

// testSummaries makes random changes, and compares the summaries with what all
// occurrences give when they are read anew.
func testSummaries(t *testing.T, s metadata.Store) {
	rng := rand.New(rand.NewPCG(7, 7))
	must(t, s.Apply(t.Context(), createNote(attester), createNote(scanner), createDiscoverer()))
	var all []*grafeas.Occurrence
	for range 150 {
		i := rng.IntN(4)
		switch rng.IntN(6) {
		case 0:
			o := discovery(i, grafeas.DiscoveryOccurrence_AnalysisStatus(rng.IntN(4)))
			must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: o}))
			all = append(all, o)
		case 1:
			if len(all) > 0 {
				n := rng.IntN(len(all))
				must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, all[n])}))
				all = slices.Delete(all, n, n+1)
			}
		case 2:
			if len(all) > 0 {
				n := rng.IntN(len(all))
				next := proto.CloneOf(all[n])
				next.UpdateTime = later(int64(len(all)))
				if v := next.GetVulnerability(); v != nil {
					v.EffectiveSeverity = grafeas.Severity(rng.IntN(6))
				} else if d := next.GetDiscovery(); d != nil {
					d.AnalysisStatus = grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
				}
				must(t, s.Apply(t.Context(), metadata.Mutation{UpdateOccurrence: next, IfUpdateTime: all[n].GetUpdateTime()}))
				all[n] = next
			}
		default:
			var batch []metadata.Mutation
			for range 1 + rng.IntN(4) {
				o := finding(i, grafeas.Severity(rng.IntN(6)), rng.IntN(2) == 0)
				all = append(all, o)
				batch = append(batch, metadata.Mutation{CreateOccurrence: o})
			}
			must(t, s.Apply(t.Context(), batch...))
			// A refused batch changes nothing.
			refused := append(batch[:0:0], metadata.Mutation{CreateOccurrence: finding(i, 5, true)}, batch[0])
			wantKind(t, s.Apply(t.Context(), refused...), metadata.AlreadyExists)
		}
	}
	slices.SortFunc(all, func(a, b *grafeas.Occurrence) int { return cmp.Compare(a.GetName(), b.GetName()) })
	want := summariesOf(all)
	diff(t, want, listSummaries(t, s, metadata.SummaryQuery{Parent: project, Limit: 3}))
	one := []metadata.Key{want[0].Resource}
	diff(t, want[:1], listSummaries(t, s, metadata.SummaryQuery{Parent: project, Resources: one, Limit: 3}))
	if rows := listSummaries(t, s, metadata.SummaryQuery{Parent: metadata.Parent{Project: "p1"}, Limit: 3}); len(rows) != 0 {
		t.Errorf("another project has %d summaries", len(rows))
	}
	for _, o := range all {
		must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, o)}))
	}
	if rows := listSummaries(t, s, metadata.SummaryQuery{Parent: project, Limit: 3}); len(rows) != 0 {
		t.Errorf("%d summaries of no occurrences", len(rows))
	}
}

// testLargeSummary has more findings than a summary lists, and then fewer again.
func testLargeSummary(t *testing.T, s metadata.Store) {
	var notes, batch []metadata.Mutation
	for i := range metadata.MaxFindings + 2 {
		m := createNote(scanner)
		m.CreateNote.Name = metadata.NoteName{Parent: scanner.Parent, ID: fmt.Sprintf("CVE-%04d", i)}.String()
		notes = append(notes, m)
		o := finding(1, grafeas.Severity_HIGH, false)
		o.NoteName = m.CreateNote.Name
		batch = append(batch, metadata.Mutation{CreateOccurrence: o})
	}
	must(t, s.Apply(t.Context(), notes...))
	must(t, s.Apply(t.Context(), batch...))
	get := func() *metadata.Summary {
		rows := listSummaries(t, s, metadata.SummaryQuery{Parent: project, Limit: 10})
		if len(rows) != 1 {
			t.Fatalf("%d summaries, want 1", len(rows))
		}
		return rows[0]
	}
	if got := get(); !got.Truncated || len(got.Findings) != metadata.MaxFindings || got.Counts[0].Total != metadata.MaxFindings+2 {
		t.Errorf("truncated %t, %d findings, counts %v", got.Truncated, len(got.Findings), got.Counts)
	}
	for i := range 2 {
		must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, batch[i].CreateOccurrence)}))
	}
	if got := get(); got.Truncated || len(got.Findings) != metadata.MaxFindings || got.Counts[0].Total != metadata.MaxFindings {
		t.Errorf("after two are gone: truncated %t, %d findings, counts %v", got.Truncated, len(got.Findings), got.Counts)
	}
}
