package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

var _ approvals.Store = (*DB)(nil)

// Update runs fn in the one transaction that writes, and shares the commit with
// other callers that wait meanwhile. ctx ends the wait for the turn; once begun
// the transaction, which takes milliseconds, runs to its end. fn must not call
// Update itself. Errors of the database are [ErrUnavailable].
func (db *DB) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return db.update(ctx, func(t *tx) error { return fn(t) })
}

// View runs fn on a snapshot. Verbs that write fail in it. When ctx ends, the
// next verb returns its error.
func (db *DB) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return db.view(ctx, func(t *tx) error { return fn(t) })
}

func (db *DB) Stamp(ctx context.Context) (int64, error) {
	stamp, err := db.engine.Stamp(ctx)
	return stamp, db.fault(err)
}

func (db *DB) view(ctx context.Context, fn func(*tx) error) error {
	snapshot, err := db.engine.Snapshot(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("begin: %w", db.fault(err))
	}
	defer snapshot.Rollback()
	t := db.transaction(snapshot)
	t.ctx = ctx
	return fn(t)
}

// tx is one transaction.
type tx struct {
	ctx context.Context // of a view; nil while writing
	db  *DB
	sql engine.Querier
	now time.Time
	// dead is the first error of a verb. What came after it would be half of a
	// change, and after some failures SQLite has rolled back by itself.
	dead error
}

func (db *DB) transaction(t *engine.Tx) *tx {
	return &tx{db: db, sql: t, now: t.Now()}
}

func (t *tx) Now() time.Time { return t.now }

// failed marks the transaction as one that can only end.
func (t *tx) failed(err error) error {
	err = t.db.fault(err)
	if t.dead == nil {
		t.dead = err
	}
	return err
}

// usable is why no statement can run any more.
func (t *tx) usable() error {
	if t.dead == nil && t.ctx != nil {
		return t.ctx.Err()
	}
	return t.dead
}

// exec runs a statement, unless one before it failed: the first error of several is
// that of the first which failed.
func (t *tx) exec(query string, args ...any) error {
	_, err := t.change(query, args...)
	return err
}

// change is exec that tells how many rows it changed.
func (t *tx) change(query string, args ...any) (int64, error) {
	if err := t.usable(); err != nil {
		return 0, err
	}
	res, err := t.sql.ExecContext(context.Background(), t.db.engine.Dialect(query), clean(args)...)
	if err != nil {
		return 0, t.failed(err)
	}
	return res.RowsAffected()
}

// get reads one row; [approvals.ErrNotFound] when there is none.
func (t *tx) get(query string, args []any, dest ...any) error {
	if err := t.usable(); err != nil {
		return err
	}
	err := t.sql.QueryRowContext(context.Background(), t.db.engine.Dialect(query), clean(args)...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return approvals.ErrNotFound
	}
	return t.failed(err)
}

// each calls fn for every row.
func (t *tx) each(query string, args []any, fn func(scan func(...any) error) error) error {
	if err := t.usable(); err != nil {
		return err
	}
	rows, err := t.sql.QueryContext(context.Background(), t.db.engine.Dialect(query), clean(args)...)
	if err != nil {
		return t.failed(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := t.usable(); err != nil {
			return err
		}
		if err := fn(rows.Scan); err != nil {
			return t.failed(err)
		}
	}
	return t.failed(rows.Err())
}

// list reads every row into a value; into names the places of its columns.
func list[T any](t *tx, into func(*T) []any, query string, args ...any) (out []T, err error) {
	err = t.each(query, args, func(scan func(...any) error) error {
		var value T
		err := scan(into(&value)...)
		out = append(out, value)
		return err
	})
	return out, err
}

func single[T any](value *T) []any { return []any{value} }

// clean replaces in texts what not every database takes: NUL, and bytes that are no
// UTF-8. What comes from outside would else make work that can never be finished.
func clean(args []any) []any {
	for i, arg := range args {
		if text, ok := arg.(string); ok && !isClean(text) {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
		}
	}
	return args
}

func isClean(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

// millis is how times are stored.
func millis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

// stamp reads a stored time.
type stamp struct{ to *time.Time }

func (s stamp) Scan(v any) error {
	ms, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T", v)
	}
	if *s.to = (time.Time{}); ms != 0 {
		*s.to = time.UnixMilli(ms).UTC()
	}
	return nil
}
