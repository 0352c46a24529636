package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// RawSQL runs SQL past all rules, as somebody with the database would.
func (db *DB) RawSQL(query string, args ...any) error {
	t, err := db.engine.Begin(context.Background())
	if err != nil {
		return err
	}
	defer t.Rollback()
	if _, err := t.ExecContext(context.Background(), query, args...); err != nil {
		return err
	}
	return t.Commit()
}

// raw reads past all rules.
func (db *DB) raw(query string, args []any, read func(*sql.Rows) error) error {
	t, err := db.engine.Begin(context.Background())
	if err != nil {
		return err
	}
	defer t.Rollback()
	rows, err := t.QueryContext(context.Background(), query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// RawInt reads one number.
func (db *DB) RawInt(query string, args ...any) (n int64, err error) {
	err = db.raw(query, args, func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}

// RawText reads one column of text, line by line.
func (db *DB) RawText(query string, args ...any) (string, error) {
	var lines []string
	err := db.raw(query, args, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		row := make([]any, len(columns))
		var last string
		for i := range row {
			row[i] = new(any)
		}
		row[len(row)-1] = &last
		err = rows.Scan(row...)
		lines = append(lines, last)
		return err
	})
	return strings.Join(lines, "\n"), err
}

// ListQueries are the arms of what a list asks the database, each as if it were
// alone.
func ListQueries(f approvals.Filter) (queries []string, args [][]any) {
	for _, a := range split(f) {
		query, values := a.search()
		queries = append(queries, selectRequests+"number IN ("+query+")")
		args = append(args, values)
	}
	return queries, args
}

// The other queries that must not read whole tables.
var Queries = map[string]string{
	"lanes":   selectLanes,
	"free":    selectFree,
	"history": selectHistory,
	"kept":    selectKept,
	"page":    selectLeaves,
	"claimed": selectClaimed,
}

// Explain says how SQLite answers a query, a line for each step.
func (db *DB) Explain(query string, args ...any) (string, error) {
	return db.RawText("EXPLAIN QUERY PLAN "+query, args...)
}

// FailCommit has the commit of the transaction fail: a reference to nothing that
// is checked at its end.
func FailCommit(t approvals.Tx) error {
	sqltx := t.(*tx).sql
	for _, query := range []string{
		"PRAGMA defer_foreign_keys=ON",
		"INSERT INTO secrets (name, version, key_id, sealed) VALUES ('x', 1, 'no such key', x'00')",
	} {
		if _, err := sqltx.ExecContext(context.Background(), query); err != nil {
			return err
		}
	}
	return nil
}

// Fill writes n requests as if they had been made in the past: one app has half of
// them, one branch most. Each has two leaves of the log, whose hashes are nothing.
func (db *DB) Fill(r approvals.Request, n int) error {
	r.Number, r.Version = 1, 0
	row, err := requestRow(r)
	if err != nil {
		return err
	}
	for at := 0; at < n; at += 50_000 {
		for _, query := range []string{
			`WITH RECURSIVE n (i) AS (SELECT ?1 + 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + ?2)
			INSERT INTO requests (number, id, version, app, environment, status, revision, branch, workflow_id, created_at, released_at, body, seen)
			SELECT i, 'r' || i, 1, CASE i % 2 WHEN 0 THEN 'api' ELSE 'app' || (i % 301) END,
				CASE i % 3 WHEN 0 THEN 'staging' ELSE 'production' END,
				CASE WHEN i % 10 < 6 THEN 'deployed' WHEN i % 10 < 8 THEN 'superseded' WHEN i % 10000 = 8 THEN 'pending' ELSE 'rejected' END,
				printf('%08x%032x', (i * 2654435761) % 4294967296, i),
				CASE WHEN i % 1000 = 0 THEN 'rare' WHEN i % 10 < 7 THEN 'main' ELSE 'b' || i END, 'w' || i,
				1800000000000 + i * 36000, CASE WHEN i % 10 < 6 THEN 1800000000000 + i * 36000 + 5000 ELSE 0 END, ?3, ?4 FROM n`,
			`WITH RECURSIVE n (i) AS (SELECT 2 * ?1 UNION ALL SELECT i + 1 FROM n WHERE i < 2 * (?1 + ?2) - 1)
			INSERT INTO audit (seq, line) SELECT i, ?5 FROM n`,
			`WITH RECURSIVE n (i) AS (SELECT 2 * ?1 UNION ALL SELECT i + 1 FROM n WHERE i < 2 * (?1 + ?2) - 1)
			INSERT INTO audit_index (subject, seq) SELECT 'r' || (i / 2 + 1), i FROM n`,
		} {
			if err := db.RawSQL(query, at, min(50_000, n-at), row[2], row[4], strings.Repeat("x", 450)); err != nil {
				return err
			}
		}
	}
	return db.RawSQL(`WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)
		INSERT INTO audit_hashes (position, hash) SELECT i, zeroblob(32) FROM n`, tlog.StoredHashCount(2*int64(n)))
}

// SetAhead has the clock of the database be ahead from now on.
func (db *DB) SetAhead(by time.Duration) {
	if e, ok := db.engine.(ahead); ok {
		db.engine = e.Engine
	}
	db.engine = ahead{db.engine, by}
}

type ahead struct {
	engine.Engine
	by time.Duration
}

func (e ahead) Begin(ctx context.Context) (*engine.Tx, error) {
	t, err := e.Engine.Begin(ctx)
	if err != nil {
		return nil, err
	}
	now := t.Now
	t.Now = func() time.Time { return now().Add(e.by) }
	return t, nil
}
