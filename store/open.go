package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
)

// readers is how many connections read side by side.
const readers = 4

// Config says which database to open.
type Config struct {
	Path string // as [ParseURL] returns it
	Keys *KeyRing
}

// DB is an open database. It is an [approvals.Store].
type DB struct {
	path    string
	keys    *KeyRing
	node    string // names this opening in its claims
	unclean bool
	writer  *sql.DB
	reader  *sql.DB
	turns   turns
	lastNow atomic.Int64          // the time of the newest transaction
	claims  atomic.Int64          // how many were made
	place   atomic.Pointer[place] // of its files when they were last looked at
	gone    atomic.Pointer[error] // set once a file was removed or replaced
	damage  atomic.Pointer[error]
}

// Open opens the database, creating it (mode 0600, its directory 0700) and
// migrating it forward as needed. It refuses, with an error that says why, a file
// that is no database ([ErrDamaged]), one of another program ([ErrForeign]), of a
// newer version ([ErrNewerSchema]) or from before the first release
// ([ErrOldSchema]), a ring without the right keys ([ErrMissingKey],
// [ErrWrongKey]), and settings that do not take ([ErrWeakSettings]). It does not
// read the whole file: see [DB.Unclean] and [DB.Check].
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Path == "" || c.Keys == nil {
		return nil, errors.New("open database: path and key ring are required")
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db := &DB{path: path, keys: c.Keys, node: rand.Text()}
	if err := db.open(ctx); err != nil {
		db.Close()
		if damaged(err) && !errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, fmt.Errorf("open database %s: %w", c.Path, fault(err))
	}
	return db, nil
}

func (db *DB) open(ctx context.Context) error {
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
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	if err := db.checkKeys(ctx); err != nil {
		return err
	}
	p, err := look(db.path)
	if err != nil {
		return err
	}
	db.place.Store(&p)
	return nil
}

// Unclean reports whether the write-ahead log still held something when the
// database was opened: the process before was killed, or another one has it open.
// Then a [DB.Check] is worth its time.
func (db *DB) Unclean() bool { return db.unclean }

// Close ends all connections. The writer goes last: only it can fold the
// write-ahead log into the file. Where that would do harm ([ErrReplaced]) they are
// left for the end of the process, as if it were killed.
func (db *DB) Close() error {
	if !db.mayFold() {
		return errors.Join(fmt.Errorf("close database: %w", ErrReplaced), db.setAside())
	}
	var errs []error
	for _, pool := range []*sql.DB{db.reader, db.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	errs = append(errs, db.setAside())
	return errors.Join(errs...)
}

// Path is the absolute path of the file.
func (db *DB) Path() string { return db.path }
