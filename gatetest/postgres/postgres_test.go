package postgres_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

func connect(t *testing.T, connString string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), connString)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // may be dead already
	return conn
}

func TestEachDatabaseIsEmpty(t *testing.T) {
	t.Parallel()
	for range 2 {
		conn := connect(t, postgres.Database(t))
		if _, err := conn.Exec(t.Context(), "CREATE TABLE t (x int)"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatWasCommittedSurvivesAKill(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{Fsync: true, Settings: []string{"max_connections=20"}})
	at := server.Database(t)
	conn := connect(t, at)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE t AS SELECT 7 AS x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		server.Kill(t)
		if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
			t.Error("a killed server answers")
		}
		server.Restart(t)
		conn = connect(t, at)
		var x int
		if err := conn.QueryRow(t.Context(), "SELECT x FROM t").Scan(&x); err != nil || x != 7 {
			t.Errorf("read %d, error %v; want 7", x, err)
		}
	}
	var fsync, connections string
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('fsync'), current_setting('max_connections')").Scan(&fsync, &connections); err != nil {
		t.Fatal(err)
	}
	if fsync != "on" || connections != "20" {
		t.Errorf("fsync is %s, max_connections %s", fsync, connections)
	}
}
