package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// migrationLock is the advisory lock that one migrating process holds: "GATE" in
// ASCII.
const migrationLock = 0x47415445

// migrations are history: add to them, change none. The table gatehouse counts
// those that were applied, and tells that the tables are ours.
//
// Keys are 16 bytes, see metadata.Key, and so are ids. They are stored in
// PostgreSQL's type of 16 bytes, uuid, whatever it is made for: a bytea has a
// length too, which alignment turns into 8 bytes more in every entry of an index.
//
// Rows hold the sequence number of their creation. An event without a payload
// finds its message in the row of its key and number; whoever changes or deletes
// the row moves the message into the event.
//
// There are no foreign keys and no sequences. All writers wait for the one row of
// feed, so that rules checked while it is held cannot be broken meanwhile, and a
// foreign key would check, and lock, each row once more.
var migrations = []string{`
CREATE TABLE gatehouse (
	version integer NOT NULL
);
INSERT INTO gatehouse (version) VALUES (0);

CREATE TABLE meta (
	key   text  PRIMARY KEY,
	value bytea NOT NULL
);

-- Every change up to head is in event, but for those up to floor, which were dropped.
CREATE TABLE feed (
	id    integer PRIMARY KEY CHECK (id = 1),
	head  bigint  NOT NULL,
	floor bigint  NOT NULL
) WITH (fillfactor = 10);
INSERT INTO feed (id, head, floor) VALUES (1, 0, 0);

-- The number of the last transaction of each open store, by which a store that
-- lost its connection in a commit learns whether it was kept.
CREATE TABLE writer (
	id   uuid        PRIMARY KEY,
	done bigint      NOT NULL,
	seen timestamptz NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE note (
	seq     bigint           NOT NULL,
	kind    integer          NOT NULL,
	key     uuid             PRIMARY KEY,
	parent  text COLLATE "C" NOT NULL,
	id      text COLLATE "C" NOT NULL,
	payload bytea            NOT NULL
);
CREATE UNIQUE INDEX note_name ON note (parent, id);
CREATE INDEX note_id          ON note (id);

CREATE TABLE occurrence (
	seq       bigint  NOT NULL,
	kind      integer NOT NULL,
	id        uuid    PRIMARY KEY,
	parent    uuid    NOT NULL,
	note      uuid    NOT NULL,
	resource  uuid    NOT NULL,
	subject   uuid,
	statement uuid,
	payload   bytea   NOT NULL
);
CREATE INDEX occurrence_kind     ON occurrence (parent, kind, id);
CREATE INDEX occurrence_note     ON occurrence (note, id);
CREATE INDEX occurrence_resource ON occurrence (resource, kind, id);
CREATE INDEX occurrence_subject  ON occurrence (subject, kind, id) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX occurrence_statement ON occurrence (statement) WHERE statement IS NOT NULL;

-- For prefixes: the canonical URI of each resource that has occurrences. An index
-- takes no more than 2700 bytes, so it holds how the URI begins.
CREATE TABLE resource (
	key uuid             PRIMARY KEY,
	uri text COLLATE "C" NOT NULL
);
CREATE INDEX resource_uri ON resource ((left(uri, 500)));

CREATE TABLE summary (
	parent   uuid  NOT NULL,
	resource uuid  NOT NULL,
	payload  bytea NOT NULL,
	PRIMARY KEY (parent, resource)
);

CREATE TABLE project (
	id text COLLATE "C" PRIMARY KEY
);

CREATE TABLE policy (
	resource text COLLATE "C" PRIMARY KEY,
	policy   bytea NOT NULL
);

CREATE TABLE event (
	seq     bigint  PRIMARY KEY,
	op      integer NOT NULL,
	is_note boolean NOT NULL,
	key     uuid,
	payload bytea
);
`, `
-- Every revision of every document, for ever; a deletion has no content. seq is the
-- number of the change, whose event has no payload.
CREATE TABLE document (
	seq      bigint           PRIMARY KEY,
	name     text COLLATE "C" NOT NULL,
	revision bigint           NOT NULL,
	content  bytea,
	author   text             NOT NULL,
	time     timestamptz      NOT NULL,
	comment  text             NOT NULL,
	UNIQUE (name, revision)
);

-- The newest revisions of documents that are there.
CREATE TABLE document_head (
	name text COLLATE "C" PRIMARY KEY,
	seq  bigint           NOT NULL
);

-- What those refer to.
CREATE TABLE document_reference (
	target text COLLATE "C" NOT NULL,
	name   text COLLATE "C" NOT NULL,
	PRIMARY KEY (target, name)
);
CREATE INDEX document_reference_name ON document_reference (name);

ALTER TABLE event ADD COLUMN is_document boolean NOT NULL DEFAULT false;
`}

// migrate creates or upgrades the schema in one transaction. Of several processes
// that start at once the first does it and the others wait; a process that finds
// the schema up to date needs no right to change it.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	version, err := schemaVersion(ctx, conn)
	if err != nil || version == len(migrations) {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return describe(err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after a commit
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return describe(err)
	}
	if version, err = schemaVersion(ctx, conn); err != nil {
		return err
	}
	for v, text := range migrations[version:] {
		_, err := tx.Exec(ctx, text)
		if sqlState(err) == duplicateTable {
			return fmt.Errorf("the database has tables of another program; give Gatehouse a database, or a schema in its search_path, of its own: %w", err)
		}
		if err != nil {
			return fmt.Errorf("upgrading the schema to version %d: %w", version+v+1, describe(err))
		}
	}
	if _, err := tx.Exec(ctx, "UPDATE gatehouse SET version = $1", len(migrations)); err != nil {
		return describe(err)
	}
	return describe(tx.Commit(ctx))
}

// findSchema reads the catalog itself: to_regclass goes by a cache, which may not
// have heard yet of what the process before us in the queue has created.
const findSchema = `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relname = 'gatehouse' AND n.nspname = ANY (current_schemas(false)))`

// schemaVersion returns 0 if there is no schema of ours yet.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	var ours bool
	if err := conn.QueryRow(ctx, findSchema).Scan(&ours); err != nil || !ours {
		return 0, describe(err)
	}
	if err := conn.QueryRow(ctx, "SELECT version FROM gatehouse").Scan(&version); err != nil {
		return 0, describe(err)
	}
	if version > len(migrations) {
		return 0, fmt.Errorf("its schema has version %d, and this Gatehouse knows up to %d; run the newer Gatehouse, or restore a backup", version, len(migrations))
	}
	return version, nil
}

// forgetWriters is how long a store's row in writer is kept after its last write:
// much longer than a store that lost its connection waits to read it.
const forgetWriters = "7 days"

// load reads the page token key, which it makes if there is none, and the last
// sequence number.
func load(ctx context.Context, conn *pgx.Conn) (pageKey []byte, seq uint64, err error) {
	const find = "SELECT value FROM meta WHERE key = 'page_key'"
	err = conn.QueryRow(ctx, find).Scan(&pageKey)
	if errors.Is(err, pgx.ErrNoRows) {
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails: see its documentation
		if _, err := conn.Exec(ctx, "INSERT INTO meta (key, value) VALUES ('page_key', $1) ON CONFLICT DO NOTHING", fresh); err != nil {
			return nil, 0, err
		}
		err = conn.QueryRow(ctx, find).Scan(&pageKey)
	}
	if err != nil {
		return nil, 0, err
	}
	if _, err := conn.Exec(ctx, "DELETE FROM writer WHERE seen < now() - interval '"+forgetWriters+"'"); err != nil {
		return nil, 0, err
	}
	err = conn.QueryRow(ctx, selectHead).Scan(&seq)
	return pageKey, seq, err
}
