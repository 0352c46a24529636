package soak_test

import (
	"context"
	"time"
)

// bothDown takes both services away for half as long, and in the middle of it
// kills the daemon and starts it again.
func (s *scene) bothDown(ctx context.Context) error {
	decided, err := s.decide(ctx, 2)
	if err != nil {
		return err
	}
	var pending []asked
	for i := range 3 {
		a, err := s.ask(ctx, i, true)
		if err != nil {
			return err
		}
		pending = append(pending, a)
	}
	length := s.plan.length / 2
	refused := 0
	var start time.Duration
	ended, err := s.without(ctx, length, []*service{s.slack, s.circle}, func(until time.Time, looks *lookout) error {
		for _, a := range decided {
			a.end("request_approval")
		}
		middle := until.Add(-length / 2)
		before, err := s.fileInVain(ctx, middle)
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Until(middle)); err != nil {
			return err
		}
		looks.shut()
		if start, err = s.relive(ctx); err != nil {
			return err
		}
		looks.open()
		refused, err = s.fileInVain(ctx, until)
		refused += before
		return err
	})
	if err != nil {
		return err
	}
	if err := s.Slack.WaitSockets(ctx, 1); err != nil {
		return err
	}
	socket := time.Since(ended)
	releases, err := s.releases(ctx, decided, ended)
	if err != nil {
		return err
	}
	if err := s.deployed(ctx, decided...); err != nil {
		return err
	}
	if err := s.vote(ctx, pending[0]); err != nil {
		return err
	}
	if err := s.deployed(ctx, pending[0]); err != nil {
		return err
	}
	fresh, err := s.ask(ctx, 0, true)
	if err != nil {
		return err
	}
	for _, a := range append(pending[1:], fresh) {
		if err := s.withdraw(ctx, a); err != nil {
			return err
		}
	}
	s.figure("both were away for %s with a SIGKILL in the middle (ready again in %s), %d creates refused; after their end the releases %s, clicks arrived again after %s",
		length, start.Round(time.Millisecond), refused, span(releases), socket.Round(10*time.Millisecond))
	return nil
}
