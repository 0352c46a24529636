package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

var _ approvals.Store = (*DB)(nil)

// Update runs fn in the one writing transaction. ctx ends the wait for the turn;
// once begun the transaction, which takes milliseconds, runs to its end. fn must
// not call Update itself. Errors of the database are [ErrUnavailable].
func (db *DB) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return db.update(ctx, func(t *tx) error { return fn(t) })
}

func (db *DB) update(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case db.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-db.turn }()

	if err := db.inPlace(); err != nil {
		return err
	}
	// The driver interrupts what runs when its context ends; a commit that was
	// interrupted would leave the caller not knowing.
	sqltx, err := db.writer.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return fmt.Errorf("begin: %w", db.fault(err))
	}
	defer sqltx.Rollback() // no effect after the commit
	t := &tx{ctx: ctx, db: db, sql: sqltx, keys: db.keys}
	if err := fn(t); err != nil {
		return err
	}
	if t.broken != nil {
		return t.broken
	}
	if err := sqltx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", trouble{db.fault(err)})
	}
	return db.inPlace() // else nobody will find what was committed
}

// View runs fn on a snapshot. Writing verbs fail in it.
func (db *DB) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return db.view(ctx, func(t *tx) error { return fn(t) })
}

func (db *DB) view(ctx context.Context, fn func(*tx) error) error {
	if err := db.inPlace(); err != nil {
		return err
	}
	sqltx, err := db.reader.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", db.fault(err))
	}
	defer sqltx.Rollback()
	return fn(&tx{ctx: ctx, db: db, sql: sqltx, keys: db.keys})
}

// tx is one transaction.
type tx struct {
	ctx  context.Context
	db   *DB
	sql  *sql.Tx
	keys *KeyRing
	// broken is the first failure of the database itself. SQLite may have rolled
	// back by then; whatever came after would be committed on its own.
	broken error
}

func (t *tx) failed(err error) error {
	if errors.Is(err, sql.ErrTxDone) && t.ctx.Err() != nil {
		return t.ctx.Err() // the end of a view's context ends its transaction
	}
	err = t.db.fault(err)
	if t.broken == nil && errors.Is(err, ErrUnavailable) {
		t.broken = err
	}
	return err
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if t.broken != nil {
		return 0, t.broken
	}
	res, err := t.sql.Exec(query, args...)
	if err != nil {
		return 0, t.failed(err)
	}
	return res.RowsAffected()
}

// get reads one row; [approvals.ErrNotFound] when there is none.
func (t *tx) get(query string, args []any, dest ...any) error {
	if t.broken != nil {
		return t.broken
	}
	err := t.sql.QueryRow(query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return approvals.ErrNotFound
	}
	return t.failed(err)
}

// each calls fn for every row.
func (t *tx) each(query string, args []any, fn func(scan func(...any) error) error) error {
	if t.broken != nil {
		return t.broken
	}
	rows, err := t.sql.Query(query, args...)
	if err != nil {
		return t.failed(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return t.failed(rows.Err())
}

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
	*s.to = fromMillis(ms)
	return nil
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
