package soak_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// quiet is longer than the pause between two looks at an open request.
const quiet = 5 * time.Second

// leftWaiting lets a request expire whose gate is left as it is, and then
// somebody approve the gate in CircleCI itself.
func (s *scene) leftWaiting(ctx context.Context) error {
	a, err := s.ask(ctx, 0, true)
	if err != nil {
		return err
	}
	filed := time.Now()
	if err := s.status(ctx, a, approvals.Expired); err != nil {
		return err
	}
	a.Want = approvals.Expired
	expired := time.Since(filed)
	if err := s.unwatched(ctx, a); err != nil {
		return err
	}
	if err := s.Circle.ApproveAs("mallory", a.Workflow, story.Gate); err != nil {
		return err
	}
	opened := time.Now()
	e, err := s.event(ctx, a, approvals.EventGateBypassed)
	if err != nil {
		return err
	}
	noticed := time.Since(opened)
	if _, err := s.told(ctx, a, e); err != nil {
		return err
	}
	alarms := func() (n int) {
		for _, m := range s.Slack.Messages(a.lane.Channel) {
			if m.ThreadTS == "" && tells(m, e) {
				n++
			}
		}
		return n
	}
	if err := s.Slack.Wait(ctx, func() bool { return alarms() > 0 }); err != nil {
		return fmt.Errorf("the channel has no alarm for #%d: %w", a.Number, err)
	}
	if n := alarms(); n != 1 {
		s.violation(fmt.Sprintf("the channel has %d alarms for #%d; want 1", n, a.Number))
	}
	s.figure("a request expired after %s with its gate left waiting, mallory opened it: noticed after %s, alarm in the channel and reply in the thread after %s, still expired",
		expired.Round(time.Second), noticed.Round(time.Second), time.Since(opened).Round(time.Second))
	return nil
}

// unwatched waits until the gate is not looked at every second any more, as that
// of an open request is, but every few minutes.
func (s *scene) unwatched(ctx context.Context, a asked) error {
	return again(ctx, func() bool {
		for _, c := range s.Circle.Calls() {
			if c.Op == "jobs" && slices.Contains(c.IDs, a.Workflow) && time.Since(c.At) < quiet {
				return false
			}
		}
		return true
	})
}
