package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Statements of the second round trip. Each writes all rows of its table at once.
const (
	deleteNotes = "DELETE FROM note WHERE key = ANY($1::uuid[])"
	insertNotes = `INSERT INTO note (seq, kind, key, parent, id, payload)
		SELECT * FROM unnest($1::bigint[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::bytea[])`
	updateNotes = `UPDATE note SET payload = u.payload
		FROM unnest($1::uuid[], $2::bytea[]) u (key, payload) WHERE note.key = u.key`

	deleteOccurrences = "DELETE FROM occurrence WHERE id = ANY($1::uuid[])"
	insertOccurrences = `INSERT INTO occurrence (seq, kind, id, parent, note, resource, subject, statement, payload)
		SELECT * FROM unnest($1::bigint[], $2::integer[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::bytea[])`
	// Two rows may swap their statements, which would break the index halfway.
	unstateOccurrences = "UPDATE occurrence SET statement = NULL WHERE id = ANY($1::uuid[])"
	updateOccurrences  = `UPDATE occurrence SET statement = u.statement, payload = u.payload
		FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) u (id, statement, payload) WHERE occurrence.id = u.id`

	insertResources = `INSERT INTO resource (key, uri) SELECT * FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING`
	// The limit keeps the planner from comparing all occurrences with all resources.
	deleteResources = `DELETE FROM resource WHERE key = ANY($1::uuid[])
		AND (SELECT 1 FROM occurrence WHERE occurrence.resource = resource.key LIMIT 1) IS NULL`

	deleteSummaries = `DELETE FROM summary USING unnest($1::uuid[], $2::uuid[]) u (parent, resource)
		WHERE summary.parent = u.parent AND summary.resource = u.resource`
	upsertSummaries = `INSERT INTO summary (parent, resource, payload) SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[])
		ON CONFLICT (parent, resource) DO UPDATE SET payload = excluded.payload`

	deleteProjects = "DELETE FROM project WHERE id = ANY($1::text[])"
	insertProjects = "INSERT INTO project (id) SELECT * FROM unnest($1::text[])"
	deletePolicies = "DELETE FROM policy WHERE resource = ANY($1::text[])"
	upsertPolicies = `INSERT INTO policy (resource, policy) SELECT * FROM unnest($1::text[], $2::bytea[])
		ON CONFLICT (resource) DO UPDATE SET policy = excluded.policy`

	insertEvents = `INSERT INTO event (seq, op, is_note, is_document, key, payload)
		SELECT * FROM unnest($1::bigint[], $2::integer[], $3::boolean[], $4::boolean[], $5::uuid[], $6::bytea[])`
	keepPayloads = `UPDATE event SET payload = u.payload
		FROM unnest($1::bigint[], $2::bytea[]) u (seq, payload) WHERE event.seq = u.seq AND event.payload IS NULL`
	dropEvents = "DELETE FROM event WHERE seq > $1 AND seq <= $2"

	moveFeed   = "UPDATE feed SET head = $1, floor = $2 WHERE id = 1"
	markDone   = "INSERT INTO writer (id, done, seen) VALUES ($1, $2, now()) ON CONFLICT (id) DO UPDATE SET done = excluded.done, seen = excluded.seen"
	notifyHead = "SELECT pg_notify('" + channel + "', $1)"
)

// queueChanges queues all that the jobs have changed, and reports whether that is
// anything.
func (o *overlay) queueChanges(b *pgx.Batch) (bool, error) {
	o.flushOccurrences(b)
	o.flushNotes(b)
	o.flushNames(b)
	if err := o.flushSummaries(b); err != nil {
		return false, err
	}
	o.flushDocuments(b)
	o.flushEvents(b)
	return b.Len() > 0, nil
}

func (o *overlay) flushOccurrences(b *pgx.Batch) {
	var deleted, restated []metadata.ID
	var freed []metadata.Key // resources
	var inserted, updated occurrenceRows
	for _, id := range changed(o.occurrences, compareBytes) {
		was, is := o.occurrences[id].was, o.occurrences[id].is
		if was != nil && is != nil && was.seq == is.seq {
			updated.add(id, is)
			if was.statement != is.statement {
				restated = append(restated, id)
			}
			continue
		}
		if was != nil {
			deleted, freed = append(deleted, id), append(freed, was.resource)
		}
		if is != nil {
			inserted.add(id, is)
		}
	}
	if len(deleted) > 0 {
		b.Queue(deleteOccurrences, uuids(deleted))
	}
	if len(restated) > 0 {
		b.Queue(unstateOccurrences, uuids(restated))
	}
	if u := &updated; len(u.ids) > 0 {
		b.Queue(updateOccurrences, uuids(u.ids), uuids(u.statements), u.payloads)
	}
	if i := &inserted; len(i.ids) > 0 {
		b.Queue(insertOccurrences, i.seqs, i.kinds, uuids(i.ids), uuids(i.parents), uuids(i.notes), uuids(i.resources),
			uuids(i.subjects), uuids(i.statements), i.payloads)
		keys, uris := i.distinctResources()
		b.Queue(insertResources, uuids(keys), uris)
	}
	if len(freed) > 0 {
		b.Queue(deleteResources, uuids(freed))
	}
}

// occurrenceRows are the columns of rows.
type occurrenceRows struct {
	seqs                                            []uint64
	kinds                                           []int32
	ids                                             []metadata.ID
	parents, notes, resources, subjects, statements []metadata.Key
	uris                                            []string
	payloads                                        [][]byte
}

func (r *occurrenceRows) add(id metadata.ID, row *occurrenceRow) {
	r.seqs = append(r.seqs, row.seq)
	r.kinds = append(r.kinds, int32(row.kind))
	r.ids = append(r.ids, id)
	r.parents = append(r.parents, row.parent)
	r.notes = append(r.notes, row.note)
	r.resources = append(r.resources, row.resource)
	r.subjects = append(r.subjects, row.subject)
	r.statements = append(r.statements, row.statement)
	r.uris = append(r.uris, row.uri)
	r.payloads = append(r.payloads, row.payload)
}

func (r *occurrenceRows) distinctResources() (keys []metadata.Key, uris []string) {
	seen := map[metadata.Key]bool{}
	for i, k := range r.resources {
		if !seen[k] {
			seen[k] = true
			keys, uris = append(keys, k), append(uris, r.uris[i])
		}
	}
	return keys, uris
}

func (o *overlay) flushNotes(b *pgx.Batch) {
	var deleted, inserted, updated []metadata.Key
	var seqs []uint64
	var kinds []int32
	var parents, ids []string
	var newPayloads, nextPayloads [][]byte
	for _, key := range changed(o.notes, compareBytes) {
		was, is := o.notes[key].was, o.notes[key].is
		if was != nil && is != nil && was.seq == is.seq {
			updated, nextPayloads = append(updated, key), append(nextPayloads, is.payload)
			continue
		}
		if was != nil {
			deleted = append(deleted, key)
		}
		if is != nil {
			inserted, seqs, kinds = append(inserted, key), append(seqs, is.seq), append(kinds, int32(is.kind))
			parents, ids = append(parents, is.name.Parent.String()), append(ids, is.name.ID)
			newPayloads = append(newPayloads, is.payload)
		}
	}
	if len(deleted) > 0 {
		b.Queue(deleteNotes, uuids(deleted))
	}
	if len(updated) > 0 {
		b.Queue(updateNotes, uuids(updated), nextPayloads)
	}
	if len(inserted) > 0 {
		b.Queue(insertNotes, seqs, kinds, uuids(inserted), parents, ids, newPayloads)
	}
}

// flushNames writes projects and policies.
func (o *overlay) flushNames(b *pgx.Batch) {
	var created, deleted []string
	for _, id := range changed(o.projects, strings.Compare) {
		if o.projects[id].is == nil {
			deleted = append(deleted, id)
		} else {
			created = append(created, id)
		}
	}
	if len(deleted) > 0 {
		b.Queue(deleteProjects, deleted)
	}
	if len(created) > 0 {
		b.Queue(insertProjects, created)
	}
	var set, unset []string
	var policies [][]byte
	for _, resource := range changed(o.policies, strings.Compare) {
		if p := o.policies[resource].is; p == nil {
			unset = append(unset, resource)
		} else {
			set, policies = append(set, resource), append(policies, *p)
		}
	}
	if len(unset) > 0 {
		b.Queue(deletePolicies, unset)
	}
	if len(set) > 0 {
		b.Queue(upsertPolicies, set, policies)
	}
}

func (o *overlay) flushSummaries(b *pgx.Batch) error {
	var gone, kept []summaryKey
	var payloads [][]byte
	for _, key := range changed(o.summaries, compareSummaryKeys) {
		row := o.summaries[key].is
		if row == nil || row.summary.Empty() {
			gone = append(gone, key)
			continue
		}
		payload, err := json.Marshal(&row.summary)
		if err != nil {
			return fmt.Errorf("encoding a summary: %w", err)
		}
		kept, payloads = append(kept, key), append(payloads, payload)
	}
	if len(gone) > 0 {
		b.Queue(deleteSummaries, parentsOf(gone), resourcesOf(gone))
	}
	if len(kept) > 0 {
		b.Queue(upsertSummaries, parentsOf(kept), resourcesOf(kept), payloads)
	}
	return nil
}

func (o *overlay) flushEvents(b *pgx.Batch) {
	if n := len(o.events); n > 0 {
		seqs, ops, isNote, isDocument := make([]uint64, n), make([]int32, n), make([]bool, n), make([]bool, n)
		keys, payloads := make([][16]byte, n), make([][]byte, n)
		for i, e := range o.events {
			seqs[i], ops[i], payloads[i] = o.base+uint64(i)+1, int32(e.op), e.payload
			isNote[i], isDocument[i] = e.about == aNote, e.about == aDocument
			if e.payload == nil {
				keys[i] = e.key
			}
		}
		b.Queue(insertEvents, seqs, ops, isNote, isDocument, uuids(keys), payloads)
	}
	if len(o.kept) > 0 {
		var seqs []uint64
		var payloads [][]byte
		for seq, payload := range o.kept {
			seqs, payloads = append(seqs, seq), append(payloads, payload)
		}
		b.Queue(keepPayloads, seqs, payloads)
	}
}

// queueEnd queues what ends the transaction: old events go, the feed moves on, and
// the store marks the transaction as its own.
func (w *writer) queueEnd(b *pgx.Batch, o *overlay) {
	if len(o.events) > 0 {
		seq, floor := o.seq(), o.floor
		if keep := w.s.keep; seq >= floor+keep+dropSlack {
			floor = min(seq-keep, floor+maxDropped)
			b.Queue(dropEvents, o.floor, floor)
		}
		b.Queue(moveFeed, seq, floor)
		b.Queue(notifyHead, strconv.FormatUint(seq, 10))
	}
	b.Queue(markDone, w.id, w.number)
	b.Queue("COMMIT")
}
