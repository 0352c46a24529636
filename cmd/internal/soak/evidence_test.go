package soak_test

import (
	"context"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// gather adds to what is known of a request all that can be seen of it from
// outside, in the order that [proof.Case] asks for.
func gather(ctx context.Context, s *stage.Stage, api *webhook.Client, c proof.Case, channel, workflow, gateName string) (proof.Case, error) {
	messages := s.Slack.AllMessages(channel)
	c.Tries = s.Circle.Approvals(workflow)
	for _, try := range c.Tries {
		if try.UserID == c.Self {
			c.Released = append(c.Released, try.At)
		}
	}
	gate, _ := s.Circle.Job(workflow, gateName)
	c.Gate, c.GateBy = gate.Status, gate.ApprovedBy
	r, err := api.Get(ctx, c.ID)
	if err != nil {
		return c, err
	}
	c.Status = r.Status
	if c.Events, err = api.Events(ctx, c.ID); err != nil {
		return c, err
	}
	c.Read(messages, string(r.Slack.TS))
	c.ReadDMs(s.Slack)
	return c, nil
}

// autopsy opens the database while no daemon runs, and judges log and file.
func autopsy(ctx context.Context, s *stage.Stage, anchors [][]byte) (events []approvals.Event, found []string, err error) {
	keys, err := store.ParseKeys(s.Variable("RGW_SECRET_KEYS"))
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, store.Config{URL: s.Variable("RGW_DATABASE_URL"), Keys: keys})
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	signer, err := approvals.OpenLog(ctx, db)
	if err != nil {
		return nil, nil, err
	}
	return proof.Log(ctx, db, signer.VerifierKey(), anchors)
}
