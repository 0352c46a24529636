package store_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// Rows of secrets that were changed by hand do not open. An older row that is put
// back whole opens as what it was: whoever must notice that keeps a version inside.
func TestSecretRowsChangedByHand(t *testing.T) {
	for _, tt := range []struct {
		name, sql string
		want      string // "" = it does not open
	}{
		{"version", "UPDATE secrets SET version = version + 1 WHERE name = 'a'", ""},
		{"a bit", "UPDATE secrets SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE name = 'a'", ""},
		{"cut", "UPDATE secrets SET sealed = x'' WHERE name = 'a'", ""},
		{"swapped", "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'b') WHERE name = 'a'", ""},
		{"older value alone", "UPDATE secrets SET sealed = (SELECT sealed FROM older) WHERE name = 'a'", ""},
		{"older row", "REPLACE INTO secrets SELECT * FROM older", "a1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := storetest.New(t)
			update(t, db, func(tx approvals.Tx) error { return errors.Join(tx.SetSecret("a", "a1"), tx.SetSecret("b", "b1")) })
			raw(t, db, "CREATE TABLE older AS SELECT * FROM secrets WHERE name = 'a'")
			update(t, db, func(tx approvals.Tx) error { return errors.Join(tx.SetSecret("a", "a2"), tx.SetSecret("b", "b2")) })
			raw(t, db, tt.sql)
			read := func(tx approvals.Tx) error {
				got, err := tx.Secret("a")
				if got != tt.want || errors.Is(err, approvals.ErrSeal) != (tt.want == "") {
					t.Errorf("got %q, %v; want %q or %v", got, err, tt.want, approvals.ErrSeal)
				}
				return nil
			}
			view(t, db, read)
			update(t, db, func(tx approvals.Tx) error { // the transaction can go on
				return errors.Join(read(tx), tx.SetSecret("a", "a3"))
			})
			view(t, db, func(tx approvals.Tx) error {
				if got, err := tx.Secret("a"); got != "a3" || err != nil {
					t.Errorf("set anew: got %q, %v; want a3", got, err)
				}
				return nil
			})
		})
	}
}

func TestReseal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	a, b, _ := strings.Cut(storetest.Keys, ",")
	db := storetest.Open(t, path, a)
	names := []string{"s1", "s2", "s3", "s4"}
	update(t, db, func(tx approvals.Tx) error {
		for _, name := range names {
			if err := tx.SetSecret(name, "value of "+name); err != nil {
				return err
			}
		}
		return nil
	})

	both := storetest.Open(t, path, b+","+a) // beside the other, as an operator's command is
	var counts []int
	for done := false; !done; {
		var n int
		var err error
		if done, n, err = both.Reseal(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	if !slices.Equal(counts, []int{2, 2, 0}) {
		t.Errorf("resealed in batches of 2: got %v; want [2 2 0]", counts)
	}
	if got, err := both.UsedKeys(t.Context()); err != nil || !slices.Equal(got, []string{"b"}) {
		t.Errorf("used keys: got %v, %v; want [b]", got, err)
	}
	if err := tryOpen(t, path, a); !errors.Is(err, store.ErrMissingKey) {
		t.Errorf("open with the old key: got %v; want %v", err, store.ErrMissingKey)
	}
	view(t, storetest.Open(t, path, b), func(tx approvals.Tx) error {
		for _, name := range names {
			if got, err := tx.Secret(name); got != "value of "+name || err != nil {
				t.Errorf("%s after rotation: got %q, %v", name, got, err)
			}
		}
		return nil
	})

	raw(t, db, "UPDATE secrets SET version = 9, key_id = 'a' WHERE name = 's2'")
	if _, _, err := both.Reseal(t.Context(), 2); !errors.Is(err, approvals.ErrSeal) {
		t.Errorf("reseal of a changed row: got %v; want %v", err, approvals.ErrSeal)
	}
}
