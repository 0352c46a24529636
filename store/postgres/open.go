package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

const (
	// readers is how many connections read side by side. One more writes.
	readers = 4
	// oldestServer is the version of PostgreSQL that is needed at least.
	oldestServer = 15
	// answerTime is how long an answer may take. It is longer than all time-outs of
	// the server, so that it ends only what the server itself no longer ends.
	answerTime = 20 * time.Second
)

// DB is an open database. It is an [engine.Engine].
type DB struct {
	writer *sql.DB
	reader *sql.DB
	node   atomic.Pointer[string]
	server atomic.Pointer[reading]
	clock  engine.Clock          // as the server's was read
	stamps atomic.Int64          // how many were given
	back   atomic.Pointer[error] // set once the database went back
	beat   atomic.Pointer[time.Time]

	// Of the transaction that writes; there is one at a time.
	turn int64 // the count of the last commit of this node, 0 = it has no row yet
	sure bool  // whether turn is what the server has
}

var _ engine.Engine = (*DB)(nil)

// reading is what the server's clock said at a moment.
type reading struct{ server, here time.Time }

// Open connects to the database, creating the tables and migrating them forward as
// needed. It refuses, with an error that says why and does not repeat the URL, a
// server that is too old, stands by, or does not keep what it acknowledges
// ([engine.ErrWeakSettings]), and a schema of a newer version
// ([engine.ErrNewerSchema]). [engine.ErrUnavailable] when it cannot be reached.
func Open(ctx context.Context, c Config) (*DB, error) {
	cfg, err := c.parse()
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	cfg.DialFunc = dial
	cfg.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			conn.CustomData()[warned] = n.Message
		}
	}
	db := &DB{writer: stdlib.OpenDB(*cfg), reader: stdlib.OpenDB(*cfg)}
	db.writer.SetMaxOpenConns(1)
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	db.rename()
	db.beaten(time.Now())
	err = db.checkServer(ctx)
	if err == nil {
		err = db.migrate(ctx, c.Existing)
	}
	if err != nil {
		return nil, errors.Join(db.Fault(err), db.Close())
	}
	return db, nil
}

// dial opens a connection that gives up when it is waited for too long.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &patient{Conn: conn}, nil
}

// patient is a connection on which nothing is waited for longer than answerTime.
type patient struct {
	net.Conn
	over atomic.Bool // it was waited for too long; pgx would try once more
}

func (c *patient) Read(b []byte) (int, error) {
	if c.over.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	until := time.Now().Add(answerTime)
	if err := c.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(until) {
		c.over.Store(true)
	}
	return n, err
}

// ErrPooler says that another program passes transactions on to sessions that it
// shares among clients. Time-outs, and what a session knows of a transaction whose
// answer was lost, would be those of somebody else.
var ErrPooler = errors.New("a pooler such as PgBouncer stands in between; connect to PostgreSQL itself")

// checkDirect refuses a pooler: it answers with a process id of its own.
func (db *DB) checkDirect(ctx context.Context) error {
	conn, err := db.reader.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driven any) error {
		session := driven.(*stdlib.Conn).Conn().PgConn()
		results, err := session.Exec(ctx, fmt.Sprint("SELECT pg_backend_pid() = ", session.PID())).ReadAll()
		if err == nil && string(results[0].Rows[0][0]) != "t" {
			return ErrPooler
		}
		return err
	})
}

// checkServer refuses a server that does not keep what it acknowledges.
func (db *DB) checkServer(ctx context.Context) error {
	if err := db.checkDirect(ctx); err != nil {
		return err
	}
	var version int
	var standby bool
	err := db.reader.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()").Scan(&version, &standby)
	switch {
	case err != nil:
		return err
	case version/10_000 < oldestServer:
		return fmt.Errorf("the server is PostgreSQL %d; %d or newer is needed", version/10_000, oldestServer)
	case standby:
		return engine.Trouble(errors.New("the server stands by and takes no writes"))
	}
	want := map[string][]string{
		"server_encoding": {"UTF8"}, "fsync": {"on"}, "full_page_writes": {"on"}, "synchronous_commit": {"on", "remote_apply", "remote_write"},
	}
	for _, name := range []string{"idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"} {
		want[name] = []string{session[name]}
	}
	for name, values := range want {
		var got string
		if err := db.reader.QueryRowContext(ctx, "SELECT current_setting($1)", name).Scan(&got); err != nil {
			return err
		}
		if !slices.Contains(values, got) {
			return fmt.Errorf("%w: %s is %s, not %s", engine.ErrWeakSettings, name, got, values[0])
		}
	}
	return nil
}

func (db *DB) Node() string { return *db.node.Load() }

func (db *DB) Shared() bool { return true }

// rename makes this opening a new node.
func (db *DB) rename() {
	name := rand.Text()
	db.node.Store(&name)
	db.turn, db.sure = 0, true
}

// Close ends all connections. A node that wrote says that it ended.
func (db *DB) Close() error {
	if db.turn > 0 && db.Sound() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// Nobody waits for it: a row that stays is declared dead.
		_, _ = db.writer.ExecContext(ctx, "DELETE FROM nodes WHERE id = $1", db.Node())
	}
	return errors.Join(db.reader.Close(), db.writer.Close())
}

func (db *DB) Sound() error {
	if err := db.back.Load(); err != nil {
		return *err
	}
	return nil
}

func (db *DB) Describe(ctx context.Context) (string, error) {
	var version, standbys string
	err := db.reader.QueryRowContext(ctx, "SELECT current_setting('server_version'), current_setting('synchronous_standby_names')").Scan(&version, &standbys)
	text := "PostgreSQL " + version + "; "
	if standbys == "" {
		// Storage that is replicated below the server does not show here.
		return text + "no synchronous standby: a failover to another one may lose what was acknowledged last", db.Fault(err)
	}
	return text + "a synchronous standby has whatever is acknowledged", db.Fault(err)
}

// Check finds nothing: damage is the server's to find.
func (db *DB) Check(context.Context) error { return nil }

func (db *DB) Unclean() bool { return false }
