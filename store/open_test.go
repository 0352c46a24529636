package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestOpenRefuses(t *testing.T) {
	other, err := store.NewKey("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, path string, db *store.DB) // db is open, nil file otherwise
		keys    string
		want    error
		text    string
	}{
		{"newer schema", func(t *testing.T, _ string, db *store.DB) { raw(t, db, "PRAGMA user_version=999") }, storetest.Keys, store.ErrNewerSchema, "999"},
		{"old schema", func(t *testing.T, _ string, db *store.DB) { raw(t, db, "PRAGMA user_version=2") }, storetest.Keys, nil, "start with a new one"},
		{"other program", func(t *testing.T, _ string, db *store.DB) { raw(t, db, "PRAGMA application_id=7") }, storetest.Keys, engine.ErrForeign, ""},
		{"missing key", seals, "c:" + strings.TrimPrefix(other, "a:"), store.ErrMissingKey, ": a"},
		{"wrong key", seals, other, store.ErrWrongKey, ": a"},
		{"spare wrong key", seals, storetest.Keys + "," + strings.Replace(other, "a:", "c:", 1), nil, ""},
		{"no database", func(t *testing.T, path string, db *store.DB) {
			db.Close()
			write(t, path, []byte(strings.Repeat("not a database ", 1000)))
		}, storetest.Keys, store.ErrDamaged, ""},
		{"damaged", func(t *testing.T, path string, db *store.DB) {
			for range 100 {
				r := request("app")
				update(t, db, func(tx approvals.Tx) error { return step(tx, &r) })
			}
			db.Close()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for at := len(data) / 4; at < len(data)*3/4; at++ {
				data[at] ^= 0x55
			}
			write(t, path, data)
		}, storetest.Keys, store.ErrDamaged, ""},
		{"directory", func(t *testing.T, path string, db *store.DB) {
			db.Close()
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, storetest.Keys, nil, "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.db")
			db, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + path, Keys: ring(t, storetest.Keys)})
			if err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, path, db)
			db.Close()
			err = tryOpen(t, path, tt.keys)
			if tt.want == nil && tt.text == "" {
				if err != nil {
					t.Fatalf("got %v; want no error", err)
				}
				return
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v; want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

func seals(t *testing.T, _ string, db *store.DB) {
	update(t, db, func(tx approvals.Tx) error { return tx.SetSecret("log key", "x") })
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A process that was killed leaves something in the write-ahead log.
func TestUnclean(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, _ := opened(t, path, 1)
	if db.Unclean() {
		t.Error("a new database: got it unclean")
	}
	if beside := storetest.Open(t, path, storetest.Keys); !beside.Unclean() {
		t.Error("open elsewhere: got it clean")
	}
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "killed.db")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, copied, file)
	write(t, copied+"-wal", log)
	killed, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + copied, Keys: ring(t, storetest.Keys)})
	if err != nil {
		t.Fatal(err)
	}
	if !killed.Unclean() {
		t.Error("after a kill: got it clean")
	}
	if err := errors.Join(killed.Check(t.Context()), killed.Close()); err != nil {
		t.Fatal(err)
	}
	if again := storetest.Open(t, copied, storetest.Keys); again.Unclean() {
		t.Error("after a clean end: got it unclean")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
