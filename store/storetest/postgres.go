package storetest

import (
	"crypto/rand"
	neturl "net/url"
	"os"
	"strings"
	"testing"

	"database/sql"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// ServerVariable names the variable with the URL of a PostgreSQL server for tests.
// Its role must be allowed to create schemas and roles.
const ServerVariable = "RGW_TEST_POSTGRES_URL"

// Server returns the URL of an empty database, a schema of its own on the server
// for tests, which is dropped at the end of the test. Without a server the test is
// skipped.
func Server(t testing.TB) string {
	t.Helper()
	server := os.Getenv(ServerVariable)
	if server == "" {
		t.Skip(ServerVariable + " is not set: nothing is tested on PostgreSQL")
	}
	u := parse(t, server)
	schema := "test_" + strings.ToLower(rand.Text())
	SQL(t, server, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { SQL(t, server, "DROP SCHEMA "+schema+" CASCADE") })
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	return u.String()
}

// SQL runs statements on a server past the store, as its operator would.
func SQL(t testing.TB, server string, statements ...string) {
	t.Helper()
	if err := Exec(server, statements...); err != nil {
		t.Fatal(err)
	}
}

// Exec is SQL outside the goroutine of a test.
func Exec(server string, statements ...string) error {
	pool, err := sql.Open("pgx", server)
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, text := range statements {
		if _, err := pool.Exec(text); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return nil
}

// Count is the number that a statement selects.
func Count(server, query string) (n int64, err error) {
	pool, err := sql.Open("pgx", server)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	err = pool.QueryRow(query).Scan(&n)
	return n, err
}

// Role makes a role that may do nothing, and returns its name and the URL with which
// it opens the same database.
func Role(t testing.TB, server string) (name, url string) {
	t.Helper()
	name = "test_" + strings.ToLower(rand.Text())
	schema := parse(t, server).Query().Get("search_path")
	SQL(t, server, "CREATE ROLE "+name+" LOGIN PASSWORD 'secretvalue'", "GRANT USAGE ON SCHEMA "+schema+" TO "+name)
	t.Cleanup(func() { SQL(t, server, "DROP OWNED BY "+name, "DROP ROLE "+name) })
	u := parse(t, server)
	u.User = neturl.UserPassword(name, "secretvalue")
	return name, u.String()
}

// First is the URL with which what the schema has stands before what is the server's own.
func First(t testing.TB, server string) string {
	t.Helper()
	u := parse(t, server)
	query := u.Query()
	query.Set("search_path", query.Get("search_path")+",pg_catalog")
	u.RawQuery = query.Encode()
	return u.String()
}

// Through is the URL with which the same database is reached at another address.
func Through(t testing.TB, server, address string) string {
	t.Helper()
	u := parse(t, server)
	query := u.Query()
	query.Del("host")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = address, query.Encode()
	return u.String()
}

func parse(t testing.TB, server string) *neturl.URL {
	t.Helper()
	u, err := neturl.Parse(server)
	if err != nil {
		t.Fatalf("%s is no URL", ServerVariable)
	}
	return u
}
