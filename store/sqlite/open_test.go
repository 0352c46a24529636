package sqlite

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// opened opens a file until the end of the test.
func opened(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestFileModes(t *testing.T) {
	// Names that mean something in a URI are names of files here.
	path := filepath.Join(t.TempDir(), "new", "a?mode=memory#%41.db")
	opened(t, path)
	lock, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	for name, want := range map[string]os.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s: got %o; want %o", filepath.Base(name), got, want)
		}
	}

	loose := filepath.Join(t.TempDir(), "loose.db")
	if err := os.WriteFile(loose, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	opened(t, loose)
	info, err := os.Stat(loose)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a file that others could read: got %v, %v; want 600", info.Mode(), err)
	}
}

// The stamp changes when another process commits, and only then. Its connection does
// not keep the log from being folded into the file at the end.
func TestStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	stamp := func() int64 {
		n, err := db.Stamp(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	begin := func(commit bool) {
		tx, err := other.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), "UPDATE probe SET at = at + 1"); err != nil {
			t.Fatal(err)
		}
		if commit {
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	had := stamp()
	begin(false)
	if now := stamp(); now != had {
		t.Errorf("after nothing was committed: got %d; want %d", now, had)
	}
	begin(true)
	if now := stamp(); now == had {
		t.Errorf("after another process committed: got %d; want another one", now)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("the log after the last Close: got %v; want it folded into the file", err)
	}
}

// The end of a context does not end a snapshot under whoever reads it: they would get
// errors of database/sql that do not say why.
func TestSnapshotWhoseContextEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	synctest.Test(t, func(t *testing.T) {
		db := opened(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tx, err := db.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		cancel()
		synctest.Wait()
		var n int
		if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM requests").Scan(&n); err != nil {
			t.Errorf("reading after the end of the context: got %v; want what is there", err)
		}
	})
}
