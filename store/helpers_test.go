package store_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"golang.org/x/mod/sumdb/tlog"
)

func timeout(t testing.TB, ms int) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(ms)*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// request makes a request that is complete enough to be stored; a workflow of
// its own when none is given.
func request(app, workflow string) approvals.Request {
	if workflow == "" {
		workflow = rand.Text()
	}
	return approvals.Request{
		ID: rand.Text(), App: app, Environment: "production", Status: approvals.Pending,
		Facts:     approvals.Facts{WorkflowID: workflow, PipelineID: "p-" + workflow, Revision: "0123456789abcdef0123456789abcdef01234567", Branch: "main", Project: "gh/acme/" + app},
		Message:   "fix the <b>&amp; thing",
		Metadata:  json.RawMessage(`{"a":"<&>"}`),
		Project:   "gh/acme/" + app,
		CreatedAt: time.UnixMilli(1_800_000_000_123).UTC(), ExpiresAt: time.UnixMilli(1_800_086_400_123).UTC(),
		PendingTTL: 24 * time.Hour,
	}
}

// record appends an event as the core does.
func record(tx approvals.Tx, e approvals.Event) (int64, error) {
	seq, err := ledger.Append(tx.Ledger(), func(seq int64, prev tlog.Hash) ([]byte, error) {
		e.Seq, e.Prev = seq, prev.String()
		return json.Marshal(e)
	})
	if err != nil {
		return 0, err
	}
	return seq, tx.Index(seq, e)
}
