package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// ciToken is the one that all requests are filed with.
var ciToken = approvals.Token{ID: "token", Name: "ci", Role: approvals.RoleCICD}

// ask calls the service as the API does; an answer of a dead process is none.
func (w *world) ask(call func(*approvals.Service) error) error {
	life := w.now()
	if life == nil {
		return errDead
	}
	err := call(life.service)
	if life.dead.Load() {
		return errDead
	}
	var refused *approvals.Error
	if errors.As(err, &refused) && refused.Code != approvals.CodeCIUnavailable && refused.Code != approvals.CodeUnavailable {
		return &story.Refusal{Err: err}
	}
	return err
}

// File implements story.Gateway.
func (w *world) File(ctx context.Context, a story.Ask) (id string, number int64, err error) {
	metadata, err := json.Marshal(map[string]string{"workflow_id": a.Workflow})
	if err != nil {
		return "", 0, err
	}
	err = w.ask(func(service *approvals.Service) error {
		r, _, err := service.Request(ctx, ciToken, approvals.NewRequest{App: a.App, GitCommit: a.Revision, Branch: story.Branch, WorkflowID: a.Workflow, Metadata: metadata})
		id, number = r.ID, r.Number
		return err
	})
	return id, number, err
}

// Withdraw implements story.Gateway.
func (w *world) Withdraw(ctx context.Context, id string) error {
	return w.ask(func(service *approvals.Service) error {
		_, err := service.Withdraw(ctx, ciToken, id, "not needed")
		return err
	})
}

// Cases implements story.Gateway. It reads the database itself, whatever lives.
func (w *world) Cases(ctx context.Context, ids ...string) (cases []proof.Case, cards []string, err error) {
	err = w.db.View(ctx, func(tx approvals.Tx) error {
		for _, id := range ids {
			r, err := tx.Request(id)
			if err != nil {
				return err
			}
			events, err := w.history(tx, id)
			if err != nil {
				return err
			}
			cases = append(cases, proof.Case{ID: id, Status: r.Status, RetryUntil: r.RetryUntil(), Events: events})
			cards = append(cards, r.Slack.TS)
		}
		return nil
	})
	return cases, cards, err
}

// history reads what was appended to the history of a request since it was read
// last. That the rest did not change is judged at the end.
func (w *world) history(tx approvals.Tx, id string) (events []approvals.Event, err error) {
	w.mu.Lock()
	had := w.read[id]
	w.mu.Unlock()
	if events, err = proof.History(tx, id, had); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read[id] = events
	return events, nil
}

// Click implements story.Gateway.
func (w *world) Click(ctx context.Context, click slacktest.ButtonClick) error {
	d, err := w.slack.PrepareClick(click)
	if err != nil {
		return err // the card may have changed at this moment
	}
	_, err = w.deliver(ctx, d)
	return err
}

// Submit implements story.Gateway.
func (w *world) Submit(ctx context.Context, user, view string, values slacktest.Values) (got slacktest.SubmitResult, err error) {
	d, local, err := w.slack.PrepareSubmit(user, view, values)
	if err != nil || len(local) > 0 {
		w.violation(fmt.Sprintf("the modal cannot be sent: %v %v", err, local))
		return got, errors.New("not sent")
	}
	raw, err := w.deliver(ctx, d)
	if err != nil {
		return got, err
	}
	if got, err = w.slack.ApplySubmission(user, view, d, raw); err != nil {
		w.violation(fmt.Sprintf("Slack refuses the answer to a submission: %v", err))
	}
	return got, err
}

// deliver carries what a person did to the bot, and its answer back.
func (w *world) deliver(ctx context.Context, d slacktest.Delivery) ([]byte, error) {
	life := w.now()
	if life == nil {
		return nil, errDead
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := w.slack.SignedRequest(ctx, d, time.Now())
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	resp, err := serve(ctx, life.bot.Handler(), r, body)
	if err != nil {
		return nil, err
	}
	if life.dead.Load() || resp.StatusCode != http.StatusOK {
		return nil, errDead
	}
	return io.ReadAll(resp.Body)
}
