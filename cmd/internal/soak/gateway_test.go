package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// world is what stories of the rig have in common; gateway is how they reach it.
func (r *rig) world(gateway story.Gateway) *story.World {
	return &story.World{Slack: r.Slack, Circle: r.Circle, Gateway: gateway, Codes: &r.codes, Secret: r.Secret, Self: r.self, Violation: r.violation}
}

// furnish gives the daemon that is not started yet a lane's app and admins.
func (r *rig) furnish(ctx context.Context, l *story.Lane) error {
	r.SetEnv(l.Settings()...)
	for n := range story.Admins {
		id := story.Admin(l.Number, n)
		if err := r.Admin(ctx, id, id, strings.ToLower(id)); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until nothing more is to come in a lane, or a promise is broken. With
// withdraw, it withdraws what nobody decided.
func (r *rig) settle(ctx context.Context, l *story.Lane, withdraw bool) {
	before := r.found()
	for before == r.found() {
		l.Nudge(ctx)
		for _, s := range l.Stories {
			if !withdraw || s.ID == "" {
				continue
			}
			if cases, _, err := r.Cases(ctx, s.ID); err == nil && cases[0].Status == approvals.Pending {
				_ = r.Withdraw(ctx, s.ID) // or the next time
			}
		}
		open := l.Judge(ctx, false)
		if len(open) == 0 {
			return
		}
		if !approvals.Pause(ctx, 300*time.Millisecond) {
			r.violation(fmt.Sprintf("%v: %s\n%s", context.Cause(ctx), strings.Join(open, "; "), l.Told()))
			return
		}
	}
}

// File implements story.Gateway.
func (r *rig) File(ctx context.Context, a story.Ask) (id string, number int64, err error) {
	metadata, err := json.Marshal(map[string]string{"workflow_id": a.Workflow})
	if err != nil {
		return "", 0, err
	}
	made, _, err := r.quick.Create(ctx, webhook.CreateBody{App: a.App, GitCommit: a.Revision[:12], Branch: story.Branch, Metadata: metadata})
	return made.ID, made.Number, refusal(err)
}

// Withdraw implements story.Gateway.
func (r *rig) Withdraw(ctx context.Context, id string) error {
	_, err := r.quick.Cancel(ctx, id, "changed my mind")
	return refusal(err)
}

// refusal tells what asking again does not change from trouble.
func refusal(err error) error {
	var p *webhook.Problem
	if errors.As(err, &p) && p.Status/100 == 4 && p.Status != http.StatusTooManyRequests {
		return &story.Refusal{Err: err}
	}
	return err
}

// Cases implements story.Gateway.
func (r *rig) Cases(ctx context.Context, ids ...string) (cases []proof.Case, cards []string, err error) {
	for _, id := range ids {
		now, err := r.quick.Get(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		events, err := stage.Events(ctx, r.URL, r.Token, id)
		if err != nil {
			return nil, nil, err
		}
		cases, cards = append(cases, proof.Case{ID: id, Status: now.Status, Events: events}), append(cards, string(now.Slack.TS))
	}
	return cases, cards, nil
}

// Click implements story.Gateway.
func (r *rig) Click(ctx context.Context, click slacktest.ButtonClick) error {
	ctx, cancel := context.WithTimeout(ctx, r.answerTime)
	defer cancel()
	_, err := r.Slack.ClickButton(ctx, click)
	return err
}

// Submit implements story.Gateway.
func (r *rig) Submit(ctx context.Context, user, view string, values slacktest.Values) (slacktest.SubmitResult, error) {
	ctx, cancel := context.WithTimeout(ctx, r.answerTime)
	defer cancel()
	return r.Slack.Submit(ctx, user, view, values)
}
