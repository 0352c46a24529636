package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

// tables are what is copied, in an order in which references hold. Rows are read by
// key, and written with the columns. Claims are not copied: whoever made them does
// not work on the copy. Seals are bound to purpose, name and version, not to a
// database.
var tables = []struct {
	name    string
	key     []string
	columns []string
}{
	{"requests", []string{"number"}, []string{
		"number", "id", "version", "app", "environment", "status", "revision", "branch", "workflow_id", "created_at", "released_at", "body", "metadata", "seen",
	}},
	{"kept", []string{"kind", "place"}, []string{"kind", "id", "place", "state"}},
	{"seal_keys", []string{"id"}, []string{"id", "check_value"}},
	{"secrets", []string{"name"}, []string{"name", "version", "key_id", "sealed"}},
	{"due", []string{"id"}, []string{"kind", "subject", "lane", "rank", "due", "note", "attempt"}},
	{"audit", []string{"seq"}, []string{"seq", "line"}},
	{"audit_hashes", []string{"position"}, []string{"position", "hash"}},
	{"audit_index", []string{"subject", "seq"}, []string{"subject", "seq"}},
}

// Copied is what a copy holds.
type Copied struct {
	Rows   int64
	Events int64
	Root   tlog.Hash // of the log
}

// Copy copies everything from one database, as it stands at one moment, to another
// one, which must be empty, and compares the two. It needs no key ring. While
// somebody serves on either of them it is refused with [ErrServed], also when they
// started meanwhile: the copy lacks what they did.
func Copy(ctx context.Context, from, to Config) (c Copied, err error) {
	from.Existing = true
	source, err := open(ctx, from)
	if err != nil {
		return c, fmt.Errorf("open the database to copy: %w", err)
	}
	defer source.Close()
	target, err := open(ctx, to)
	if err != nil {
		return c, fmt.Errorf("open the database to copy to: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if err := errors.Join(unserved(ctx, source), unserved(ctx, target)); err != nil {
		return c, err
	}
	if c, err = copyAll(ctx, source, target); err != nil {
		return c, err
	}
	return c, unserved(ctx, source)
}

// unserved refuses a database on which nodes work.
func unserved(ctx context.Context, db *DB) error {
	nodes, err := db.Nodes(ctx)
	if len(nodes) > 0 {
		return ErrServed
	}
	return err
}

// ErrServed says that a serve works on a database.
var ErrServed = errors.New("a daemon is running on this database: stop it first")

func copyAll(ctx context.Context, source, target *DB) (c Copied, err error) {
	err = source.view(ctx, func(from *tx) error {
		if err := from.wait(); err != nil {
			return err
		}
		err := target.update(ctx, func(to *tx) error {
			if err := to.wait(); err != nil {
				return err
			}
			c, err = copyRows(from, to)
			return err
		})
		if err != nil {
			return err
		}
		return target.view(ctx, func(to *tx) error { return errors.Join(to.wait(), same(from, to, &c)) })
	})
	return c, err
}

// wait has the transaction stay open for as long as the other one of a copy takes. A
// server ends one that does nothing for some seconds.
func (t *tx) wait() error {
	if !t.db.engine.Shared() {
		return nil
	}
	return t.exec("SET LOCAL idle_in_transaction_session_timeout = 0")
}

// copyPage is how many rows are read, and written, at once.
const copyPage = 1000

func copyRows(from, to *tx) (c Copied, err error) {
	for _, t := range tables {
		var there bool
		if err := to.get("SELECT EXISTS (SELECT 1 FROM "+t.name+")", nil, &there); err != nil {
			return c, err
		}
		if there {
			return c, fmt.Errorf("the database to copy to is not empty: table %s has rows", t.name)
		}
		rows, last, err := readPage(from, t.name, t.key, t.columns, nil)
		for ; err == nil && len(rows) > 0; rows, last, err = readPage(from, t.name, t.key, t.columns, last) {
			c.Rows += int64(len(rows))
			if err := writeRows(to, t.name, t.columns, rows); err != nil {
				return c, fmt.Errorf("copy table %s: %w", t.name, err)
			}
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// readPage reads the rows after the one with the key last.
func readPage(t *tx, table string, key, columns []string, last []any) (rows [][]any, next []any, err error) {
	keys := strings.Join(key, ", ")
	query := "SELECT " + keys + ", " + strings.Join(columns, ", ") + " FROM " + table
	if last != nil {
		query += " WHERE (" + keys + ") > " + marks(len(key))
	}
	err = t.each(fmt.Sprintf("%s ORDER BY %s LIMIT %d", query, keys, copyPage), last, func(scan func(...any) error) error {
		values := make([]any, len(key)+len(columns))
		into := make([]any, len(values))
		for i := range into {
			into[i] = &values[i]
		}
		err := scan(into...)
		next, rows = values[:len(key)], append(rows, values[len(key):])
		return err
	})
	return rows, next, err
}

// writeRows writes them with one statement: a page of the widest table has 14,000 values,
// and SQLite takes 32,766.
func writeRows(t *tx, table string, columns []string, rows [][]any) error {
	row := marks(len(columns))
	return t.exec("INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES "+strings.Repeat(row+", ", len(rows)-1)+row, slices.Concat(rows...)...)
}

// same compares the copy with what was copied: how many rows each table has, and
// the log, whose root covers every event.
func same(from, to *tx, c *Copied) error {
	for _, t := range tables {
		var had, has int64
		query := "SELECT count(*) FROM " + t.name
		if err := errors.Join(from.get(query, nil, &had), to.get(query, nil, &has)); err != nil {
			return err
		}
		if had != has {
			return fmt.Errorf("the copy has %d rows of %d in table %s", has, had, t.name)
		}
	}
	had, err := readLog(from)
	has, err2 := readLog(to)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if had != has {
		return errors.New("the log in the copy is not that of the original")
	}
	c.Events, c.Root = has.Events, has.Root
	return nil
}

// readLog hashes every event anew.
func readLog(t *tx) (c Copied, err error) {
	reader := &ledger.Reader{}
	for leaf, err := range t.Leaves(0) {
		if err != nil {
			return c, err
		}
		if err := reader.Next(leaf); err != nil {
			return c, err
		}
	}
	return Copied{Events: reader.Size(), Root: reader.Root()}, nil
}

// Backup writes a copy of the database, as it stands at one moment, to a SQLite file;
// see [sqlite.WriteFile]. Writers are not held up.
func (db *DB) Backup(ctx context.Context, file string) error {
	if e, ok := db.engine.(*sqlite.DB); ok {
		return e.Backup(ctx, file)
	}
	return sqlite.WriteFile(ctx, file, func(path string) error {
		target, err := open(ctx, Config{URL: "sqlite:" + path})
		if err != nil {
			return err
		}
		_, err = copyAll(ctx, db, target)
		return errors.Join(err, target.Close())
	})
}
