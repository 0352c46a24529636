// Package storetest gives tests a database of their own, and checks that a store
// keeps the promises of [approvals.Store]; see [Run].
package storetest

import (
	"path/filepath"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// Keys is a key ring for tests, with ids "a" and "b", that everybody may know.
const Keys = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=,b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="

// New opens a new, migrated database in a temporary directory and closes it at
// the end of the test.
func New(t testing.TB) *store.DB {
	t.Helper()
	return Open(t, filepath.Join(t.TempDir(), "test.db"), Keys)
}

// Open opens the database at path with the given keys and closes it at the end
// of the test.
func Open(t testing.TB, path, keys string) *store.DB {
	t.Helper()
	return OpenURL(t, "sqlite:"+path, keys)
}

// OpenURL is Open for any engine.
func OpenURL(t testing.TB, url, keys string) *store.DB {
	t.Helper()
	ring, err := store.ParseKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{URL: url, Keys: ring})
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
