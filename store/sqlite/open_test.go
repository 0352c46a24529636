package sqlite

import (
	"os"
	"path/filepath"
	"testing"
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
