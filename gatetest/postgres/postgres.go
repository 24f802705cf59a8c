package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
)

const (
	// startBound ends a start that does not succeed. An idle machine needs two
	// seconds, with making the cluster.
	startBound = 2 * time.Minute
	// pollEvery is how often a starting server is asked whether it is ready.
	pollEvery = 20 * time.Millisecond
	// stopGrace is what the server has to end in by itself. Its data is thrown away,
	// or recovered, so nothing is lost when it is killed then.
	stopGrace = 10 * time.Second
	// superuser owns everything; who can reach the socket may log in as it.
	superuser = "postgres"
	// maxSocketPath is what the kernel allows, less the socket's own name.
	maxSocketPath = 107 - len("/.s.PGSQL.5432")
)

// Options configure a Server. The zero Options are good for tests that do not
// crash it.
type Options struct {
	// Fsync makes the server flush commits to disk, as every real one does.
	// Without it tests run faster, and a crash of the machine, though not Kill,
	// would damage the data.
	Fsync bool
	// Settings are further settings, such as "max_connections=10".
	Settings []string
}

// A Server is a running PostgreSQL. Its methods may be called concurrently, but
// for Kill and Restart.
type Server struct {
	programs programs
	dir      string
	settings []string
	child    *child.Process

	databases atomic.Int64
}

// Start starts a server for a test and stops it when the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s, err := start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// shared is the server of Database.
var shared struct {
	inMain bool
	start  func() (*Server, error)
	server *Server
}

// Main runs the tests, stops the server that Database has started, and returns
// the exit code.
func Main(m *testing.M) int {
	shared.inMain = true
	shared.start = sync.OnceValues(func() (*Server, error) {
		var err error
		shared.server, err = start(context.Background(), Options{})
		return shared.server, err
	})
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return max(code, 1)
		}
	}
	return code
}

// Database makes an empty database in the server that all tests share, and
// returns its connection string. The package's TestMain must call [Main].
func Database(t testing.TB) string {
	t.Helper()
	if !shared.inMain {
		t.Fatal("no shared PostgreSQL server: call postgres.Main in TestMain")
	}
	s, err := shared.start()
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

// Database makes an empty database and returns its connection string.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	if err := s.exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("creating a database: %v", err)
	}
	return s.connString(name)
}

// Kill kills every process of the server with SIGKILL, as a crash of the machine
// would. What was flushed to disk is there after Restart.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.child.KillTree(); err != nil {
		t.Fatalf("killing PostgreSQL: %v", err)
	}
}

// Restart starts the server anew on the same data, after Kill or to end all
// connections, and returns when it is ready.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.child.Stop(syscall.SIGQUIT, stopGrace)
	ctx, cancel := context.WithTimeout(t.Context(), startBound)
	defer cancel()
	if err := s.run(ctx); err != nil {
		t.Fatal(err)
	}
}

func start(ctx context.Context, opts Options) (_ *Server, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startBound, fmt.Errorf("not ready within %v", startBound))
	defer cancel()
	s := &Server{settings: slices.Clone(opts.Settings)}
	if !opts.Fsync {
		s.settings = append(s.settings, "fsync=off", "full_page_writes=off")
	}
	if s.programs, err = findPrograms(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting PostgreSQL: %w", errors.Join(err, s.close()))
		}
	}()
	if s.dir, err = os.MkdirTemp("", "gatehouse-postgres-"); err != nil {
		return nil, err
	}
	if len(s.dir) > maxSocketPath {
		return nil, fmt.Errorf("the folder %q has too long a name for a Unix socket; set TMPDIR to a shorter one", s.dir)
	}
	if err := giveAway(s.dir); err != nil {
		return nil, err
	}
	if err := s.initialize(ctx); err != nil {
		return nil, err
	}
	return s, s.run(ctx)
}

// initialize makes the cluster.
func (s *Server) initialize(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.programs.initdb, "--pgdata="+s.data(), "--username="+superuser,
		"--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8")
	attributes, err := childAttributes()
	if err != nil {
		return err
	}
	cmd.Dir, cmd.SysProcAttr = s.dir, attributes
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// run starts the server on the data and waits until it answers. After a crash
// that may take more than one attempt: the last of its old processes may still be
// on their way out.
func (s *Server) run(ctx context.Context) error {
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses="}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	var err error
	if s.child, err = s.start(args); err != nil {
		return err
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if err = s.exec(ctx, "SELECT 1"); err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-s.child.Done():
			failure := s.child.Failure()
			if !strings.Contains(failure.Error(), "is still in use") {
				return failure
			}
			if s.child, err = s.start(args); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("connecting: %w; the last error was: %w", context.Cause(ctx), err)
		}
	}
}

// start starts the server's program.
func (s *Server) start(args []string) (*child.Process, error) {
	attributes, err := childAttributes()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.programs.postgres, args...) //nolint:noctx // Stop ends it
	cmd.Dir, cmd.SysProcAttr = s.dir, attributes
	return child.Start("postgres", filepath.Join(s.dir, "log"), cmd)
}

// exec runs one statement as the superuser.
func (s *Server) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.connString(superuser))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *Server) connString(database string) string {
	return fmt.Sprintf("host=%s port=5432 user=%s dbname=%s sslmode=disable", s.dir, superuser, database)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) close() error {
	if s.child != nil {
		s.child.Stop(syscall.SIGQUIT, stopGrace)
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}
