package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func timeout(t testing.TB, ms int) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(ms)*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func ring(t testing.TB, text string) *store.KeyRing {
	t.Helper()
	keys, err := store.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func tryOpen(t testing.TB, path, keys string) error {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + path, Keys: ring(t, keys)})
	if err == nil {
		db.Close()
	}
	return err
}

func update(t testing.TB, db *store.DB, fn func(tx approvals.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, db *store.DB, fn func(tx approvals.Tx) error) {
	t.Helper()
	if err := db.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func raw(t testing.TB, db *store.DB, query string, args ...any) {
	t.Helper()
	if err := db.RawSQL(query, args...); err != nil {
		t.Fatal(err)
	}
}

// set and get keep a small state.
func set(tx approvals.Tx, name, value string) error { return tx.Keep("test", name, []byte(value)) }

func get(tx approvals.Tx, name string) string {
	value, err := tx.Kept("test", name)
	if err != nil {
		return ""
	}
	return string(value)
}

func step(tx approvals.Tx, r *approvals.Request) error { return storetest.Step(tx, r) }

func request(app string) approvals.Request { return storetest.Request(0, app, "") }
