package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// busyTimeout is how long a connection waits for another program's transaction.
const busyTimeout = 5 * time.Second

// pragma is one setting of a connection, as it must read back.
type pragma struct{ name, want string }

// common settings are those of every connection. A connection that was opened
// without a trusted schema and without cell checks is safe to point at a file
// that somebody else may have changed (https://sqlite.org/security.html).
var (
	common = []pragma{
		{"journal_mode", "wal"},
		{"busy_timeout", "5000"},
		{"foreign_keys", "1"},
		{"trusted_schema", "0"},
		{"cell_size_check", "1"},
		{"temp_store", "2"}, // in memory: there may be no directory for temporary files
	}
	// In WAL mode commits survive a power loss only with synchronous=FULL (2).
	// Without recursive triggers, REPLACE deletes rows unseen by the triggers.
	// A commit folds the write-ahead log into the file only if 4,000 pages have come
	// together: see folder.
	writing = append(common[:len(common):len(common)],
		pragma{"synchronous", "2"}, pragma{"recursive_triggers", "1"}, pragma{"wal_autocheckpoint", "4000"}, pragma{"cache_size", "-1000"})
	// A connection keeps few pages: the operating system's cache, which all of them
	// share, holds the rest.
	reading = append(common[:len(common):len(common)], pragma{"query_only", "1"}, pragma{"cache_size", "-256"})
)

// connector opens checked connections: each one reads its settings back, because
// the driver ignores parameters that it does not know.
type connector struct {
	driver *sqlite3.SQLiteDriver
	dsn    string
}

const commonParams = "?_busy_timeout=5000&_foreign_keys=on&_stmt_cache_size=100"

func writerTo(path string) connector {
	return newConnector(path, commonParams+"&_journal_mode=WAL&_synchronous=FULL&_recursive_triggers=on&_txlock=immediate&_cache_size=-1000", writing)
}

// readerOf cannot create the files of the WAL: open the writer first.
func readerOf(path string) connector {
	return newConnector(path, commonParams+"&mode=ro&_query_only=on&_cache_size=-256", reading)
}

func newConnector(path, params string, want []pragma) connector {
	hook := func(c *sqlite3.SQLiteConn) error {
		if _, err := c.Exec("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=4000", nil); err != nil {
			return err
		}
		return readBack(c, want)
	}
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	return connector{&sqlite3.SQLiteDriver{ConnectHook: hook}, "file:" + escaped + params}
}

// Connect opens a connection. Programs that create one database at the same
// moment meet in the switch to WAL, for which SQLite does not wait by itself.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	deadline := time.Now().Add(busyTimeout)
	for {
		conn, err := c.driver.Open(c.dsn)
		if err == nil || code(err).Code != sqlite3.ErrBusy || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c connector) Driver() driver.Driver { return c.driver }

func readBack(c *sqlite3.SQLiteConn, want []pragma) error {
	for _, p := range want {
		row := []driver.Value{"unknown"} // it stays where there is no such setting
		rows, err := c.Query("PRAGMA "+p.name, nil)
		if err == nil {
			err = errors.Join(rows.Next(row), rows.Close())
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read setting %s: %w", p.name, err)
		}
		if got := fmt.Sprint(row[0]); got != p.want {
			return fmt.Errorf("%w: %s is %s, not %s", engine.ErrWeakSettings, p.name, got, p.want)
		}
	}
	return nil
}
