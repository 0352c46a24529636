package gatewayd

import (
	"bytes"
	"context"
	"iter"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// altered is a store whose log was edited below the tree.
type altered struct{ approvals.Store }

func (a altered) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return a.Store.View(ctx, func(tx approvals.Tx) error { return fn(alteredTx{tx}) })
}

type alteredTx struct{ approvals.Tx }

func (a alteredTx) Leaves(from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for line, err := range a.Tx.Leaves(from) {
			if !yield(bytes.Replace(line, []byte("U0ANA"), []byte("U0EVE"), 1), err) {
				return
			}
		}
	}
}

// The daily check finds a log that is not what was signed.
func TestVerifyLog(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	signer, err := approvals.OpenLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	admin := approvals.Admin{Store: db}
	for _, id := range []string{"U0ANA", "U0BEA"} {
		if _, err := admin.AddPerson(t.Context(), id, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := verifyLog(t.Context(), db, signer); err != nil {
		t.Errorf("intact: got %v; want nil", err)
	}
	if err := verifyLog(t.Context(), altered{db}, signer); err == nil {
		t.Error("altered: got nil; want an error")
	}
}
