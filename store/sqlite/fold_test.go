package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFoldsBeside commits less than what has SQLite fold the log in a commit.
func TestFoldsBeside(t *testing.T) {
	ctx := t.Context()
	db, err := Open(ctx, filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	size := func() int64 {
		info, err := os.Stat(db.Path())
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	for range 15 * foldEvery {
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO audit SELECT count(*), hex(zeroblob(2000)) FROM audit"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if size() > before {
			return
		}
	}
	t.Error("the log was not folded into the file")
}
