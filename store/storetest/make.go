package storetest

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
)

// Request makes a request that is complete enough to be stored under the number.
// It gets a workflow of its own when none is given.
func Request(number int64, app, workflow string) approvals.Request {
	if workflow == "" {
		workflow = rand.Text()
	}
	r := approvals.Request{
		ID: rand.Text(), Number: number, App: app, Environment: "production", Status: approvals.Pending,
		Metadata:  json.RawMessage(`{"a":"<&>"}`),
		Round:     1,
		CreatedAt: time.UnixMilli(1_800_000_000_123).UTC(),
	}
	r.Facts = approvals.Facts{
		WorkflowID: workflow, PipelineID: "p-" + workflow, Revision: "0123456789abcdef0123456789abcdef01234567",
		Branch: "main", Project: "gh/acme/" + app,
	}
	r.Message = "fix the <b>&amp; thing"
	r.PendingTTL = 24 * time.Hour
	return r
}

// Add stores a request under the next number.
func Add(tx approvals.Tx, r *approvals.Request) error {
	newest, err := tx.Requests(approvals.Filter{Limit: 1})
	if err != nil {
		return err
	}
	r.Number = 1
	if len(newest) > 0 {
		r.Number = newest[0].Number + 1
	}
	return tx.SaveRequest(r)
}

// Record appends an event to the log, and to the history of subject, as the core
// does.
func Record(tx approvals.Tx, subject string, e approvals.Event) (int64, error) {
	seq, err := ledgertest.Append(tx.Ledger(), func(seq int64, prev tlog.Hash) ([]byte, error) {
		e.Seq, e.Prev = seq, prev.String()
		return json.Marshal(e)
	})
	if err != nil {
		return 0, err
	}
	return seq, tx.Index(seq, subject)
}

// Step is a change like those of the core: a request, its event, and two pieces
// of work.
func Step(tx approvals.Tx, r *approvals.Request) error {
	if err := Add(tx, r); err != nil {
		return err
	}
	if _, err := Record(tx, r.ID, approvals.Event{Type: approvals.EventRequested, Request: r.ID, App: r.App}); err != nil {
		return err
	}
	if err := tx.Ask(approvals.Work{Kind: approvals.WorkCard, Subject: r.ID, Lane: approvals.SlackLane("C1", r.App)}); err != nil {
		return err
	}
	return tx.Ask(approvals.Work{Kind: approvals.WorkFollow, Subject: r.Facts.WorkflowID, Lane: "circleci:workflows", Rank: 1, Due: r.CreatedAt})
}
