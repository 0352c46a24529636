package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math"
	"os"
	"testing"
)

// pool is one connection to the server for tests.
func pool(t *testing.T) *sql.DB {
	t.Helper()
	server := os.Getenv("RGW_TEST_POSTGRES_URL")
	if server == "" {
		t.Skip("RGW_TEST_POSTGRES_URL is not set: nothing is tested on PostgreSQL")
	}
	cfg, err := Config{URL: server}.parse()
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector{cfg})
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

func TestDriverValues(t *testing.T) {
	db := pool(t)
	if _, err := db.Exec("CREATE TEMPORARY TABLE v (place bigint, n bigint, t text, b bytea, yes bool); CREATE INDEX ON v (n)"); err != nil {
		t.Fatal(err)
	}
	type row struct {
		n   sql.NullInt64
		t   sql.NullString
		b   []byte
		yes sql.NullBool
	}
	text := func(s string) sql.NullString { return sql.NullString{String: s, Valid: true} }
	rows := []row{
		{},
		{n: sql.NullInt64{Int64: math.MinInt64, Valid: true}, t: text(""), b: []byte{}, yes: sql.NullBool{Valid: true}},
		{n: sql.NullInt64{Int64: math.MaxInt64, Valid: true}, t: text(`\x41 'é' "\`), b: []byte("\\x00\x00\xff"), yes: sql.NullBool{Bool: true, Valid: true}},
	}
	for i, r := range rows {
		res, err := db.Exec("INSERT INTO v VALUES ($1, $2, $3, $4, $5)", i, r.n, r.t, r.b, r.yes)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := res.RowsAffected(); n != 1 || err != nil {
			t.Errorf("got %d rows changed, %v; want 1", n, err)
		}
	}
	found, err := db.Query("SELECT n, t, b, yes FROM v ORDER BY place")
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var got []row
	for found.Next() {
		var r row
		if err := found.Scan(&r.n, &r.t, &r.b, &r.yes); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if err := found.Err(); err != nil || len(got) != len(rows) {
		t.Fatalf("got %d rows, %v; want %d", len(got), err, len(rows))
	}
	for i, want := range rows {
		if g := got[i]; g.n != want.n || g.t != want.t || !bytes.Equal(g.b, want.b) || (g.b == nil) != (want.b == nil) || g.yes != want.yes {
			t.Errorf("got %+v; want %+v", g, want)
		}
	}
}

// What a statement does wrong is told by the call that runs it, and the connection
// can be used afterwards.
func TestDriverFaults(t *testing.T) {
	db := pool(t)
	for query, want := range map[string]string{"SELECT nothing FROM nowhere WHERE $1": "42P01", "SELECT 1 WHERE 1 / 0 = 1 OR $1": "22012"} {
		rows, err := db.Query(query, true)
		if code(err) != want {
			t.Errorf("%s: got %v; want %s", query, err, want)
		}
		if err == nil {
			rows.Close()
		}
		if _, err := db.Exec(query, true); code(err) != want {
			t.Errorf("%s: got %v; want %s", query, err, want)
		}
	}
	if _, err := db.Exec("SELECT $1::bigint", 1.5); err == nil {
		t.Error("got no error of a parameter that no table has")
	}
	if _, err := db.Exec("SELECT $1::bigint", 1, 2); err == nil {
		t.Error("got no error of a parameter too many")
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	none, err := conn.QueryContext(t.Context(), "SELECT 1 WHERE $1", false)
	if err != nil {
		t.Fatal(err)
	}
	var two int
	if err := conn.QueryRowContext(t.Context(), "SELECT 2").Scan(&two); err != nil || two != 2 {
		t.Errorf("got %d, %v; want 2", two, err)
	}
	if none.Next() {
		t.Error("a statement without rows has a row of another one")
	}
}

// Statements beyond those that are kept prepared run all the same.
func TestDriverManyStatements(t *testing.T) {
	db := pool(t)
	for range 2 {
		for i := range mostStatements + 10 {
			var got int
			if err := db.QueryRow(fmt.Sprintf("SELECT %d + $1::int", i), 1).Scan(&got); err != nil || got != i+1 {
				t.Fatalf("statement %d: got %d, %v", i, got, err)
			}
		}
	}
	var kept int
	if err := db.QueryRow("SELECT count(*) FROM pg_prepared_statements").Scan(&kept); err != nil || kept != mostStatements {
		t.Errorf("got %d statements prepared, %v; want %d", kept, err, mostStatements)
	}
}

// A statement that no longer fits its table fails once: the next one has another
// connection.
func TestDriverTableChanged(t *testing.T) {
	db := pool(t)
	table := "changed_" + fmt.Sprint(os.Getpid())
	if _, err := db.Exec("CREATE TABLE " + table + " (a int); INSERT INTO " + table + " VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec("DROP TABLE " + table)
	var got string
	read := func() error { return db.QueryRow("SELECT * FROM " + table).Scan(&got) }
	if err := read(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("ALTER TABLE " + table + " ALTER a TYPE text"); err != nil {
		t.Fatal(err)
	}
	if err := read(); code(err) != "0A000" {
		t.Errorf("got %v; want that the plan does not fit", err)
	}
	if err := read(); err != nil || got != "7" {
		t.Errorf("the time after: got %q, %v", got, err)
	}
}

// A commit of a transaction that failed is no commit.
func TestDriverTransaction(t *testing.T) {
	db := pool(t)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("SELECT 1 / 0"); code(err) != "22012" {
		t.Errorf("got %v; want a division by zero", err)
	}
	if err := tx.Commit(); err == nil {
		t.Error("got no error of a commit that the server made a rollback")
	}
	if tx, err = db.Begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("CREATE TEMPORARY TABLE mine (a int)"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("SELECT a FROM mine"); code(err) != "42P01" {
		t.Errorf("after the rollback: got %v; want no such table", err)
	}
}

// A call that its context ends ends, and the next one has another connection.
func TestDriverCancel(t *testing.T) {
	db := pool(t)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(ctx, "SELECT pg_sleep($1)", 60)
		began <- err
	}()
	cancel()
	if err := <-began; err == nil {
		t.Error("got no error of a call that was cancelled")
	}
	conn.Close()
	if _, err := db.Exec("SELECT $1::int", 1); err != nil {
		t.Error(err)
	}
}
