package sqlite

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A container may have no directory for temporary files, so that a sort of more than
// fits into the cache must not need one.
func TestSortsNeedNoTemporaryFile(t *testing.T) {
	before := deletedFiles(t)
	path := filepath.Join(t.TempDir(), "x.db")
	for name, c := range map[string]connector{"writer": writerTo(path), "reader": readerOf(path)} {
		db := sql.OpenDB(c)
		defer db.Close()
		if name == "reader" {
			w := sql.OpenDB(writerTo(path)) // makes the file
			defer w.Close()
			if err := w.Ping(); err != nil {
				t.Fatal(err)
			}
		}
		rows, err := db.Query(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 30000) SELECT i, hex(zeroblob(500)) FROM n ORDER BY (i * 7919) % 30011`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		if !rows.Next() {
			t.Fatal("no row")
		}
		for to := range deletedFiles(t) {
			if !before[to] {
				t.Errorf("the %s sorts in the temporary file %s", name, to)
			}
		}
	}
}

// deletedFiles are the open files that have no name any more: SQLite's temporary files
// lose theirs at once.
func deletedFiles(t *testing.T) map[string]bool {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, fd := range open {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasSuffix(to, " (deleted)") { // "" is closed by now
			found[to] = true
		}
	}
	return found
}
