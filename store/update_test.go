package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) approvals.Store { return storetest.New(t) })
}

// A view whose context ends says so, whichever verb it was in the middle of.
func TestViewWhoseContextEnds(t *testing.T) {
	db := storetest.New(t)
	update(t, db, func(tx approvals.Tx) error { return set(tx, "v", "1") })
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		begun := make(chan struct{})
		go func() { <-begun; cancel() }()
		err := db.View(ctx, func(tx approvals.Tx) error {
			close(begun)
			for {
				if _, err := tx.AllKept("test"); err != nil {
					return err
				}
			}
		})
		if err != context.Canceled {
			t.Fatalf("got %v; want %v", err, context.Canceled)
		}
	}
}

func TestDatabaseTroubleIsUnavailable(t *testing.T) {
	db := storetest.New(t)
	raw(t, db, "PRAGMA max_page_count=1") // as if the disk were full
	big := strings.Repeat("x", 1<<20)
	err := db.Update(t.Context(), func(tx approvals.Tx) error {
		set(tx, "small", "1")
		if err := set(tx, "big", big); err == nil {
			t.Error("write beyond the limit: got no error")
		}
		set(tx, "after", "1") // SQLite has rolled back: this would be a commit of its own
		return nil
	})
	var coded *approvals.Error
	if !errors.Is(err, store.ErrUnavailable) || !errors.As(err, &coded) || coded.Code != approvals.CodeUnavailable {
		t.Errorf("disk full: got %v; want %v", err, store.ErrUnavailable)
	}
	view(t, db, func(tx approvals.Tx) error {
		for _, name := range []string{"small", "after"} {
			if got := get(tx, name); got != "" {
				t.Errorf("%s: got %q; want no trace", name, got)
			}
		}
		return nil
	})
}
