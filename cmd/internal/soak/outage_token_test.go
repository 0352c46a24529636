package soak_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// tokenRefused lets CircleCI refuse the token: for approve calls only, which is
// final until somebody retries, and for every call, which closes nothing.
func (s *scene) tokenRefused(ctx context.Context) error {
	a, err := s.ask(ctx, 0, true)
	if err != nil {
		return err
	}
	const body = `{"message":"You must log in first."}`
	s.Circle.Inject(circlecitest.Fault{Op: "approve", Status: http.StatusUnauthorized, Body: body, Count: -1})
	if err := s.vote(ctx, a); err != nil {
		return err
	}
	decided := time.Now()
	if err := s.status(ctx, a, approvals.Undeliverable); err != nil {
		return err
	}
	undeliverable := time.Since(decided)
	r, err := s.quick.Get(ctx, a.ID)
	if err != nil {
		return err
	}
	if err := s.reasoned(ctx, a, string(r.Failure.Detail)); err != nil {
		return err
	}
	s.Circle.ClearFaults()
	if err := s.vote(ctx, a); err != nil {
		return err
	}
	retried := time.Now()
	if err := s.deployed(ctx, a); err != nil {
		return err
	}
	released := time.Since(retried)

	b, err := s.ask(ctx, 1, true)
	if err != nil {
		return err
	}
	s.Circle.Inject(circlecitest.Fault{Status: http.StatusUnauthorized, Body: body, Count: -1})
	if err := s.vote(ctx, b); err != nil {
		return err
	}
	if err := pause(ctx, min(30*time.Second, s.plan.length/4)); err != nil {
		return err
	}
	if r, err := s.quick.Get(ctx, b.ID); err != nil || r.Status != approvals.Approved {
		s.violation(fmt.Sprintf("request #%d is %s (%v) while look-ups answer 401; want approved", b.Number, r.Status, err))
	}
	s.Circle.ClearFaults()
	valid := time.Now()
	if err := s.deployed(ctx, b); err != nil {
		return err
	}
	s.figure("CircleCI refused the approve call with 401: undeliverable after %s, released %s after Retry with a fresh code; all calls refused: kept, released %s after the token was valid again",
		undeliverable.Round(10*time.Millisecond), released.Round(10*time.Millisecond), time.Since(valid).Round(10*time.Millisecond))
	return nil
}

// reasoned waits until the card says why the approval could not be delivered.
func (s *scene) reasoned(ctx context.Context, a asked, detail string) error {
	if detail == "" {
		s.violation(fmt.Sprintf("request #%d is undeliverable and names no reason", a.Number))
	}
	var text string
	err := s.Slack.Wait(ctx, func() bool {
		for _, m := range s.Slack.Messages(a.lane.Channel) {
			if proof.IsCard(m, a.ID) {
				text = slacktest.Text(m.Blocks)
			}
		}
		return strings.Contains(text, detail)
	})
	if err != nil {
		return fmt.Errorf("the card of #%d does not say %q: %w: %s", a.Number, detail, err, text)
	}
	return nil
}
