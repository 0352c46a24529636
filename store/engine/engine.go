// Package engine is what package store needs of a database: transactions, the
// dialect of its statements, and the meaning of its errors. Each engine has a
// package of its own; what all of them share is in package store.
package engine

import (
	"context"
	"database/sql"
	"io/fs"
	"time"
)

// Engine is an open database whose tables are there and up to date.
type Engine interface {
	Base
	// Begin begins the transaction that writes. Package store calls it only while
	// no other one of this process is open; writers of other processes are waited
	// for. What fn reads in it cannot change before its end.
	Begin(ctx context.Context) (*Tx, error)
	// Snapshot begins a transaction that reads one state: that of its first
	// statement, not of an earlier moment. Statements that write fail in it.
	Snapshot(ctx context.Context) (*Tx, error)
	// Stamp is a number that every change changes, or that is another one each time.
	Stamp(ctx context.Context) (int64, error)
	// Dialect is a statement with its parameters, which are written ? or ?N, as
	// this engine has it.
	Dialect(query string) string
	// Fault adds what an error of a statement means: [ErrUnavailable],
	// [ErrDamaged], [approvals.ErrConflict]. Other errors, nil included, come back
	// as they are.
	Fault(err error) error
	// Shared reports whether several nodes serve at once. Then there is a table of
	// them, in which Begin renews the row of this one, or makes it.
	Shared() bool
	// Node names this opening of the database. No other one has or had the name, and
	// it gets a new one after it was declared dead.
	Node() string
}

// Base is the part of an engine that package store offers as it is.
type Base interface {
	// Sound is nil while the database still is what others find, as far as is known
	// without writing: [ErrReplaced], that it went back to an older state.
	Sound() error
	// Check reads the whole database, if the engine can tell damage; [ErrDamaged].
	Check(ctx context.Context) error
	// Unclean reports whether a Check at the start is worth its time, because the
	// process before did not end cleanly.
	Unclean() bool
	// Describe says in a line for operators where the data lives and what its place
	// promises, without the names and passwords of a URL.
	Describe(ctx context.Context) (string, error)
	// Respected is nil while the other nodes leave alone what this one has claimed.
	// Without it nothing may be decided or released.
	Respected() error
	// Skew is by how much the clock that times are taken from is ahead of this
	// process's.
	Skew() time.Duration
	// Close ends all connections.
	Close() error
}

// Tx is one transaction.
type Tx struct {
	Querier
	// Now reads the clock that times of the transaction are taken from.
	Now func() time.Time
	// Commit makes the change last; nil in a snapshot. An error that is [ErrUnavailable] leaves open
	// whether it was made.
	Commit func() error
	// Rollback ends the transaction without a trace, unless it has ended.
	Rollback func()
}

// Querier runs statements. [sql.Tx] and [sql.Conn] are queriers.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Migrations reads the steps that lead from schema to schema, in order. It panics when
// it cannot, because the program holds them.
func Migrations(files fs.FS) (steps []string) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		steps = append(steps, string(text))
	}
	return steps
}
