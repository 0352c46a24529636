package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// opened opens a database that the test closes itself, with some requests.
func opened(t *testing.T, path string, requests int) (db *store.DB, ids []string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + path, Keys: ring(t, storetest.Keys)})
	if err != nil {
		t.Fatal(err)
	}
	for range requests {
		r := request("api")
		update(t, db, func(tx approvals.Tx) error { return step(tx, &r) })
		ids = append(ids, r.ID)
	}
	return db, ids
}

func remove(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// Where a file of the open database was removed or replaced, nothing is
// acknowledged that nobody would find again, and nothing that was is lost.
func TestReplacedFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, path string)
		gone bool // what was there is lost with the file
	}{
		{"log removed", func(t *testing.T, path string) { remove(t, path+"-wal") }, false},
		{"memory removed", func(t *testing.T, path string) { remove(t, path+"-shm") }, false},
		{"both removed", func(t *testing.T, path string) { remove(t, path+"-wal", path+"-shm") }, false},
		{"database removed", func(t *testing.T, path string) { remove(t, path) }, true},
		{"database replaced", func(t *testing.T, path string) {
			other, _ := opened(t, path+".other", 0)
			if err := errors.Join(other.Close(), os.Rename(path+".other", path)); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.db")
			db, ids := opened(t, path, 20)
			if err := db.CanWrite(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := request("api") // nobody has looked at the files since this one
			update(t, db, func(tx approvals.Tx) error { return step(tx, &r) })
			ids = append(ids, r.ID)
			tt.do(t, path)
			for _, try := range []struct {
				what string
				err  error
			}{
				{"probe", db.CanWrite(t.Context())}, // it notices; then everything is refused
				{"update", db.Update(t.Context(), func(tx approvals.Tx) error { return set(tx, "a", "b") })},
				{"view", db.View(t.Context(), func(tx approvals.Tx) error { return nil })},
				{"backup", db.Backup(t.Context(), filepath.Join(t.TempDir(), "backup.db"))},
			} {
				if !errors.Is(try.err, store.ErrReplaced) || !errors.Is(try.err, store.ErrUnavailable) || !store.Broken(try.err) {
					t.Errorf("%s: got %v; want %v that does not pass", try.what, try.err, store.ErrReplaced)
				}
			}
			if err := db.Close(); err != nil {
				t.Errorf("close: got %v; want what was committed folded into the file", err)
			}
			db = storetest.Open(t, path, storetest.Keys)
			if !tt.gone {
				sound(t, db, ids)
				return
			}
			sound(t, db, nil)
			if counts, err := db.RequestCounts(t.Context()); len(counts) != 0 || err != nil {
				t.Errorf("got %v, %v; want nothing of the old database in the new one", counts, err)
			}
		})
	}
}

// When another program went on with what is in place, closing leaves it alone.
func TestReplacedAndGoneOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	first, ids := opened(t, path, 1)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cmd, out := program(t, "deserted", path, "other")
	for out.Scan() {
		ids = append(ids, out.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(ids) != 51 {
		t.Errorf("got %d acknowledged requests; want 51", len(ids))
	}
	sound(t, storetest.Open(t, path, storetest.Keys), ids)
}

// Damage that a transaction meets is remembered, though the next one may not
// meet it.
func TestDamageWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	first, ids := opened(t, path, 200)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + path, Keys: ring(t, storetest.Keys)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	root, err := db.RawInt("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	junk := []byte(strings.Repeat("\x55", 4096))
	if _, err := f.WriteAt(junk, (root-1)*4096); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Damage(), db.CanWrite(t.Context())); err != nil {
		t.Errorf("before anything was met: got %v; want nil", err)
	}
	err = db.View(t.Context(), func(tx approvals.Tx) error { _, err := tx.History(ids[3], -1); return err })
	if !errors.Is(err, store.ErrUnavailable) || !store.Broken(err) {
		t.Errorf("reading: got %v; want %v that does not pass", err, store.ErrUnavailable)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	if err := db.Backup(t.Context(), backup); err == nil {
		t.Error("backup of a damaged file: got no error")
	}
	if list, _ := filepath.Glob(backup + "*"); len(list) != 0 {
		t.Errorf("after it: got %v; want nothing", list)
	}
	for what, err := range map[string]error{"damage": db.Damage(), "probe": db.CanWrite(t.Context())} {
		if !errors.Is(err, store.ErrDamaged) || !store.Broken(err) {
			t.Errorf("%s: got %v; want %v", what, err, store.ErrDamaged)
		}
	}
}

// A disk that is full refuses writes and nothing else, and is no reason to end.
func TestFullDiskPasses(t *testing.T) {
	db := storetest.New(t)
	r := request("api")
	update(t, db, func(tx approvals.Tx) error { return step(tx, &r) })
	raw(t, db, "PRAGMA max_page_count=1")
	refused := request("api")
	refused.Message = strings.Repeat("x", 1<<20)
	err := db.Update(t.Context(), func(tx approvals.Tx) error { return step(tx, &refused) })
	if !errors.Is(err, store.ErrUnavailable) || store.Broken(err) || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v; want %v because it is full, which passes", err, store.ErrUnavailable)
	}
	sound(t, db, []string{r.ID})
	raw(t, db, "PRAGMA max_page_count=1000000")
	update(t, db, func(tx approvals.Tx) error { return step(tx, &refused) })
	sound(t, db, []string{r.ID, refused.ID})
}

// A program whose writes fail acknowledges nothing that is not there, leaves no
// half of a backup, and goes on when they work again.
func TestFailingDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	cmd, out := program(t, "starved", path, filepath.Join(dir, "backup.db"))
	var acknowledged []string
	var said []string
	for out.Scan() {
		if kind, text, found := strings.Cut(out.Text(), " "); found {
			said = append(said, kind+" "+text)
		} else {
			acknowledged = append(acknowledged, out.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(said) != 2 || !strings.HasPrefix(said[0], "refused broken ") || !strings.HasPrefix(said[1], "backup broken ") {
		t.Errorf("the program said %q; want a refused write and a refused backup, by what does not pass", said)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "backup*")); len(list) != 1 {
		t.Errorf("backups: got %v; want the one that was there before", list)
	}
	old := storetest.Open(t, filepath.Join(dir, "backup.db"), storetest.Keys)
	sound(t, old, acknowledged[:1])
	sound(t, storetest.Open(t, path, storetest.Keys), acknowledged)
}
