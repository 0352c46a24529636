package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// readers is how many connections read side by side.
const readers = 4

// DB is an open file. It is an [engine.Engine].
type DB struct {
	path    string
	node    string
	unclean bool
	writer  *sql.DB
	reader  *sql.DB
	folder  folder
	stamps  *sql.Conn // SQLite counts for each connection what others have committed
	clock   engine.Clock
	place   atomic.Pointer[place] // of its files when they were last looked at
	gone    atomic.Pointer[error] // set once a file was removed or replaced
}

var _ engine.Engine = (*DB)(nil)

// Open opens the file, creating it (mode 0600, its directory 0700) and migrating
// it forward as needed. It refuses, with an error that says why, a file that is no
// database ([engine.ErrDamaged]), one of another program ([engine.ErrForeign]), of
// a newer version ([engine.ErrNewerSchema]) or from before the first release, and
// settings that do not take ([engine.ErrWeakSettings]). It does not read the whole file: see [DB.Unclean]
// and [DB.Check].
func Open(ctx context.Context, path string) (*DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db := &DB{path: absolute, node: rand.Text()}
	if err := db.open(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, db.Fault(err))
	}
	return db, nil
}

func (db *DB) open(ctx context.Context) (err error) {
	if err := prepareFile(db.path); err != nil {
		return err
	}
	if log, err := os.Stat(db.path + "-wal"); err == nil {
		db.unclean = log.Size() > 0
	}
	db.writer = sql.OpenDB(writerTo(db.path))
	db.writer.SetMaxOpenConns(1)
	if err := migrate(ctx, db.writer); err != nil {
		return err
	}
	db.reader = sql.OpenDB(readerOf(db.path))
	db.reader.SetMaxOpenConns(readers + 1) // and that of the stamps
	db.reader.SetMaxIdleConns(readers)
	if err := db.look(); err != nil {
		return err
	}
	if db.stamps, err = db.reader.Conn(ctx); err != nil {
		return err
	}
	return db.folder.open(ctx, db.path)
}

// Unclean reports whether the write-ahead log still held something when the
// database was opened: the process before was killed, or another one has it open.
// Then a [DB.Check] is worth its time.
func (db *DB) Unclean() bool { return db.unclean }

// Close ends all connections. The writer goes last: only it can fold the
// write-ahead log into the file. Where that would do harm ([engine.ErrReplaced])
// they are left for the end of the process, as if it were killed.
func (db *DB) Close() error {
	db.folder.end()
	if !db.mayFold() {
		return errors.Join(fmt.Errorf("close database: %w", engine.ErrReplaced), db.setAside())
	}
	var errs []error
	for _, conn := range []*sql.Conn{db.stamps, db.folder.conn} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	for _, pool := range []*sql.DB{db.folder.pool, db.reader, db.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	errs = append(errs, db.setAside())
	return errors.Join(errs...)
}

// Path is the absolute path of the file.
func (db *DB) Path() string { return db.path }

// One process at a time serves, and statements are written as SQLite has them.
func (db *DB) Shared() bool                             { return false }
func (db *DB) Respected() error                         { return nil }
func (db *DB) Skew() time.Duration                      { return 0 }
func (db *DB) Node() string                             { return db.node }
func (db *DB) Describe(context.Context) (string, error) { return db.path, nil }
func (db *DB) Dialect(query string) string              { return query }

// Begin begins without the context of a caller: the driver interrupts what runs when
// its context ends, and a commit that was interrupted would leave its callers not
// knowing.
func (db *DB) Begin(context.Context) (*engine.Tx, error) {
	if err := db.refused(); err != nil {
		return nil, err
	}
	t, err := begin(context.Background(), db.writer, "BEGIN IMMEDIATE")
	if err != nil {
		return nil, err
	}
	commit := func() error {
		if err := t.commit(); err != nil {
			return err
		}
		db.committed()
		// Close has to tell our own writes from those of others (mayFold).
		return db.Sound()
	}
	return &engine.Tx{Querier: t.conn, Now: db.now, Commit: commit, Rollback: t.rollback}, nil
}

func (db *DB) Snapshot(ctx context.Context) (*engine.Tx, error) {
	if err := db.refused(); err != nil {
		return nil, err
	}
	t, err := begin(ctx, db.reader, "BEGIN")
	if err != nil {
		return nil, err
	}
	return &engine.Tx{Querier: t.conn, Now: db.now, Rollback: t.rollback}, nil
}

// transaction is one on a connection that is its own. Those of database/sql start a
// goroutine each, and one more for each query, to watch for the end of a context.
// Nothing here ends a verb that runs.
type transaction struct {
	conn  *sql.Conn
	ended bool
}

func begin(ctx context.Context, pool *sql.DB, statement string) (*transaction, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(context.Background(), statement); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &transaction{conn: conn}, nil
}

func (t *transaction) commit() error {
	if t.ended {
		return sql.ErrTxDone
	}
	t.ended = true
	defer t.conn.Close()
	_, err := t.conn.ExecContext(context.Background(), "COMMIT")
	if err != nil {
		t.conn.ExecContext(context.Background(), "ROLLBACK") // SQLite may have left it open
	}
	return err
}

func (t *transaction) rollback() {
	if t.ended {
		return
	}
	t.ended = true
	t.conn.ExecContext(context.Background(), "ROLLBACK")
	t.conn.Close()
}

// Stamp is PRAGMA data_version, which takes no transaction and reads no page. It is
// read without the context, for which the driver would start a goroutine.
func (db *DB) Stamp(context.Context) (stamp int64, err error) {
	if err := db.refused(); err != nil {
		return 0, err
	}
	err = db.stamps.QueryRowContext(context.Background(), "PRAGMA data_version").Scan(&stamp)
	return stamp, err
}

func (db *DB) now() time.Time { return db.clock.At(time.Now()) }

// Check runs SQLite's integrity check, which reads the whole file;
// [engine.ErrDamaged]. Writers are not held up.
func (db *DB) Check(ctx context.Context) error { return db.Fault(check(ctx, db.reader)) }

func check(ctx context.Context, pool *sql.DB) error {
	var finding string
	err := pool.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&finding)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("check the database: %w", err)
	case finding != "ok":
		return fmt.Errorf("%w: %s", engine.ErrDamaged, finding)
	}
	return nil
}

// ParseURL reads a database URL "sqlite:PATH". The path may be relative. There
// are no parameters: the settings of the database are not for choice.
func ParseURL(url string) (path string, err error) {
	path, found := strings.CutPrefix(url, "sqlite:")
	switch {
	case !found:
		return "", errors.New("must be sqlite:PATH or postgres://…")
	case strings.ContainsAny(path, "?#"):
		return "", errors.New("must be sqlite:PATH without parameters")
	case strings.HasPrefix(path, "//"):
		return "", errors.New("must be sqlite:PATH without slashes before the path")
	case path == "", strings.HasSuffix(path, "/"):
		return "", errors.New("must be sqlite:PATH with the name of a file")
	case strings.ContainsRune(path, 0), path == ":memory:":
		return "", errors.New("must be sqlite:PATH with the name of a file on disk")
	}
	return path, nil
}
