package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// applicationID marks our files: "GATE" in ASCII.
const applicationID = 0x47415445

const lastSeq = "SELECT coalesce(max(seq), 0) FROM event"

// migrations bring a file from each version to the next; user_version counts
// those that were applied. They are history: add to them, change none.
//
// Keys are 16 bytes, see metadata.Key. An occurrence's row number is the sequence
// number of its creation, and so is a note's. An event without a payload finds
// its message in the row of that number; whoever changes or deletes the row
// moves the message into the event.
var migrations = []string{`
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
`}

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
		if _, err := tx.ExecContext(ctx, m); err != nil {
			return fmt.Errorf("upgrading the schema to version %d: %w", version+v+1, describe(err))
		}
	}
	// Pragmas take no parameters; both are our own numbers.
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations))); err != nil {
		return describe(err)
	}
	return describe(tx.Commit())
}
