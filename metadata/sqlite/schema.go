package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/go-json-experiment/json"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// applicationID marks our files: "GATE" in ASCII.
const applicationID = 0x47415445

const lastSeq = "SELECT coalesce(max(seq), 0) FROM event"

// A migration brings a file from one version to the next.
type migration struct {
	text string
	// fill computes what SQL cannot, after text has run; nil if there is nothing.
	fill func(ctx context.Context, tx *sql.Tx) error
}

// migrations are history: add to them, change none. user_version counts those that
// were applied.
//
// Keys are 16 bytes, see metadata.Key. An occurrence's row number is the sequence
// number of its creation, and so is a note's. An event without a payload finds
// its message in the row of that number; whoever changes or deletes the row
// moves the message into the event. Rows of documents never change.
var migrations = []migration{{text: `
CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE note (
	row     INTEGER PRIMARY KEY,
	parent  TEXT    NOT NULL,
	id      TEXT    NOT NULL,
	kind    INTEGER NOT NULL,
	payload BLOB    NOT NULL,
	UNIQUE (parent, id)
) STRICT;

CREATE TABLE occurrence (
	row       INTEGER PRIMARY KEY,
	id        BLOB    NOT NULL UNIQUE,
	parent    BLOB    NOT NULL,
	note      INTEGER NOT NULL REFERENCES note (row),
	kind      INTEGER NOT NULL,
	resource  BLOB    NOT NULL,
	subject   BLOB,
	statement BLOB,
	payload   BLOB    NOT NULL
) STRICT;
CREATE INDEX occurrence_parent   ON occurrence (parent, id, kind);
CREATE INDEX occurrence_note     ON occurrence (note, id);
CREATE INDEX occurrence_resource ON occurrence (resource, kind, id);
CREATE INDEX occurrence_subject  ON occurrence (subject, kind, id) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX occurrence_statement ON occurrence (statement) WHERE statement IS NOT NULL;

CREATE TABLE event (
	seq     INTEGER PRIMARY KEY,
	op      INTEGER NOT NULL,
	is_note INTEGER NOT NULL,
	payload BLOB
) STRICT;
`}, {text: `
-- Lists of all kinds merge one list a kind, so that one index serves both.
DROP INDEX occurrence_parent;
CREATE INDEX occurrence_kind ON occurrence (parent, kind, id);
CREATE INDEX note_id         ON note (id);

-- For prefixes: the canonical URI of each resource that has occurrences.
CREATE TABLE resource (
	uri TEXT PRIMARY KEY,
	key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE summary (
	parent   BLOB NOT NULL,
	resource BLOB NOT NULL,
	payload  BLOB NOT NULL,
	PRIMARY KEY (parent, resource)
) STRICT;

CREATE TABLE project (
	id TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE policy (
	resource TEXT PRIMARY KEY,
	policy   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
`, fill: fillResources}, {text: `
-- Every revision of every document, for ever; a deletion has no content. The row
-- number is that of the change, whose event has no payload.
CREATE TABLE document (
	row      INTEGER PRIMARY KEY,
	name     TEXT    NOT NULL,
	revision INTEGER NOT NULL,
	content  BLOB,
	author   TEXT    NOT NULL,
	time     INTEGER NOT NULL, -- microseconds since 1970
	comment  TEXT    NOT NULL,
	UNIQUE (name, revision)
) STRICT;

-- The newest revisions of documents that are there.
CREATE TABLE document_head (
	name TEXT PRIMARY KEY,
	row  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What those refer to.
CREATE TABLE document_reference (
	target TEXT NOT NULL,
	name   TEXT NOT NULL,
	PRIMARY KEY (target, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX document_reference_name ON document_reference (name);

ALTER TABLE event ADD COLUMN is_document INTEGER NOT NULL DEFAULT 0;
`}}

// fillResources writes the resources and the summaries of what is there already.
func fillResources(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT payload FROM occurrence ORDER BY resource, kind, id")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	var group []*grafeas.Occurrence     // of one resource
	flush := func() error {
		defer func() { group = group[:0] }()
		return fillResource(ctx, tx, group)
	}
	for rows.Next() {
		var payload sql.RawBytes
		if err := rows.Scan(&payload); err != nil {
			return err
		}
		o := &grafeas.Occurrence{}
		if err := proto.Unmarshal(payload, o); err != nil {
			return fmt.Errorf("decoding a stored occurrence: %w", err)
		}
		if len(group) > 0 && metadata.CanonicalURI(group[0].GetResourceUri()) != metadata.CanonicalURI(o.GetResourceUri()) {
			if err := flush(); err != nil {
				return err
			}
		}
		group = append(group, o)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return flush()
}

func fillResource(ctx context.Context, tx *sql.Tx, group []*grafeas.Occurrence) error {
	if len(group) == 0 {
		return nil
	}
	uri := metadata.CanonicalURI(group[0].GetResourceUri())
	key := metadata.KeyOf(uri)
	if _, err := tx.ExecContext(ctx, "INSERT INTO resource (uri, key) VALUES (?, ?)", uri, key[:]); err != nil {
		return err
	}
	byParent := map[metadata.Parent]*metadata.Summary{}
	for _, o := range group {
		if !metadata.Summarized(o.GetKind()) {
			continue
		}
		name, err := metadata.ParseOccurrenceName(o.GetName())
		if err != nil {
			return fmt.Errorf("reading a stored occurrence: %w", err)
		}
		if byParent[name.Parent] == nil {
			byParent[name.Parent] = &metadata.Summary{}
		}
		byParent[name.Parent].Add(o)
	}
	for parent, s := range byParent {
		payload, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insertSummary, parentKey(parent), key[:], payload); err != nil {
			return err
		}
	}
	return nil
}

// migrate creates or upgrades the schema in one transaction.
func migrate(ctx context.Context, conn *sql.Conn) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return describe(err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	var app, version, tables int
	row := tx.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`)
	if err := row.Scan(&app, &version, &tables); err != nil {
		return describe(err)
	}
	switch {
	case app != applicationID && (app != 0 || tables != 0):
		return fmt.Errorf("the file is another program's database; choose another path")
	case version > len(migrations):
		return fmt.Errorf("its schema has version %d, and this Gatehouse knows up to %d; run the newer Gatehouse, or restore a backup", version, len(migrations))
	case version == len(migrations):
		return nil
	}
	for v, m := range migrations[version:] {
		_, err := tx.ExecContext(ctx, m.text)
		if err == nil && m.fill != nil {
			err = m.fill(ctx, tx)
		}
		if err != nil {
			return fmt.Errorf("upgrading the schema to version %d: %w", version+v+1, describe(err))
		}
	}
	// Pragmas take no parameters; both are our own numbers.
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations))); err != nil {
		return describe(err)
	}
	return describe(tx.Commit())
}
