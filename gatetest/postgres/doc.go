// Package postgres starts real PostgreSQL servers for tests, as child processes in
// temporary folders. Only the programs of PostgreSQL have to be installed (on
// Debian the package postgresql); no running server is needed, none is touched,
// and nothing is left behind.
//
// Most tests want an empty database, and share one server:
//
//	func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		connString := postgres.Database(t)
//
// The first call of [Database] starts that server, in about two seconds, and [Main]
// stops it after the last test. A test that breaks its server, or needs one that
// flushes to disk, has one of its own:
//
//	server := postgres.Start(t, postgres.Options{Fsync: true})
//	connString := server.Database(t)
//	server.Kill() // as kill -9 or a power failure would
//	server.Restart(t)
//
// Servers listen on a Unix socket in their folder and on no port. PostgreSQL
// refuses to run as root, so for root they run as the user postgres, or else
// nobody. They end with the test process, however that ends (on Linux by the
// kernel's parent death signal).
package postgres
