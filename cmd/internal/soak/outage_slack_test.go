package soak_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	decidedBefore = 4 // requests whose release and deploy fall into the outage of Slack
	// cardFailedWithin is how soon a request says that its card is not posted.
	cardFailedWithin = 15 * time.Second
)

// slackDown takes Slack away while requests are filed, withdrawn, released and
// deployed.
func (s *scene) slackDown(ctx context.Context) error {
	decided, err := s.decide(ctx, decidedBefore)
	if err != nil {
		return err
	}
	var during []asked
	ended, err := s.without(ctx, s.plan.length, []*service{s.slack}, func(until time.Time, _ *lookout) error {
		for _, a := range decided {
			a.end("request_approval")
		}
		if during, err = s.fileMany(ctx, until); err != nil {
			return err
		}
		for _, a := range decided {
			if err := s.deployed(ctx, a); err != nil {
				return err
			}
			if err := s.status(ctx, a, approvals.Deployed); err != nil {
				return err
			}
		}
		return s.allUnposted(ctx, during)
	})
	if err != nil {
		return err
	}
	if err := s.Slack.WaitSockets(ctx, 1); err != nil {
		return err
	}
	socket := time.Since(ended)
	var cards []time.Duration
	for _, a := range during {
		card, err := s.card(ctx, a)
		if err != nil {
			return err
		}
		cards = append(cards, posted(card).Sub(ended))
		err = again(ctx, func() bool {
			r, err := s.quick.Get(ctx, a.ID)
			return err == nil && r.Failure.Code != approvals.FailCardNotPosted
		})
		if err != nil {
			return fmt.Errorf("request #%d has its card and still says %s: %w", a.Number, approvals.FailCardNotPosted, err)
		}
	}
	lines, err := s.lines(ctx, decided, ended)
	if err != nil {
		return err
	}
	// The last is approved as if nothing had been; the others go.
	last := during[len(during)-1]
	if err := s.vote(ctx, last); err != nil {
		return err
	}
	if err := s.deployed(ctx, last); err != nil {
		return err
	}
	for _, a := range during[:len(during)-1] {
		if a.Want == "" {
			if err := s.withdraw(ctx, a); err != nil {
				return err
			}
		}
	}
	s.figure("Slack was away, %d requests filed and %d released meanwhile; after its end the cards of all stood from first to last after %s, the lines of earlier requests after %s, clicks arrived again after %s; Slack refused %d calls as too many",
		len(during), len(decided), span(cards), span(lines), socket.Round(10*time.Millisecond), s.tooMany())
	return nil
}

// decide files requests whose gates are still blocked and approves them.
func (s *scene) decide(ctx context.Context, n int) ([]asked, error) {
	var out []asked
	for i := range n {
		a, err := s.ask(ctx, i, false)
		if err != nil {
			return nil, err
		}
		if err := s.vote(ctx, a); err != nil {
			return nil, err
		}
		e, err := s.event(ctx, a, approvals.EventApproved)
		if err != nil {
			return nil, err
		}
		if _, err := s.told(ctx, a, e); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// fileMany files the planned requests evenly, in one of the channels each, and
// withdraws some of them again before Slack is back.
func (s *scene) fileMany(ctx context.Context, until time.Time) ([]asked, error) {
	every := time.Until(until) / time.Duration(s.plan.requests)
	var all []asked
	for n := range s.plan.requests {
		next := time.Now().Add(every)
		at := s.rng.IntN(len(s.lanes))
		if n < len(s.lanes) {
			at = n // none stays empty
		}
		a := s.push(at, true)
		if err := s.file(ctx, a); err != nil {
			return nil, err
		}
		all = append(all, a)
		if i := n - 2; i >= 0 && s.rng.IntN(3) == 0 {
			if err := s.sayUnposted(ctx, all[i]); err != nil {
				return nil, err
			}
			if err := s.withdraw(ctx, all[i]); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, time.Until(next)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sayUnposted waits until a pending request says that its card is not posted.
func (s *scene) sayUnposted(ctx context.Context, a asked) error {
	if a.Want != "" {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, cardFailedWithin)
	defer cancel()
	last := ""
	err := again(limited, func() bool {
		r, err := s.quick.Get(limited, a.ID)
		if err != nil {
			return false
		}
		last = fmt.Sprintf("%s, failure %q", r.Status, r.Failure.Code)
		return r.Status == approvals.Pending && r.Failure.Code == approvals.FailCardNotPosted
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		s.violation(fmt.Sprintf("request #%d, filed while Slack is away, is %s; want pending, %s", a.Number, last, approvals.FailCardNotPosted))
	}
	return nil
}

// allUnposted asks it of all. Those that fail together need one wait only.
func (s *scene) allUnposted(ctx context.Context, all []asked) error {
	for _, a := range all {
		if err := s.sayUnposted(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// lines is how long after the end the newest lines of requests came to stand.
func (s *scene) lines(ctx context.Context, all []asked, ended time.Time) ([]time.Duration, error) {
	var out []time.Duration
	for _, a := range all {
		for _, t := range []approvals.EventType{approvals.EventReleased, approvals.EventDeployed} {
			e, err := s.event(ctx, a, t)
			if err != nil {
				return nil, err
			}
			m, err := s.told(ctx, a, e)
			if err != nil {
				return nil, err
			}
			out = append(out, posted(m).Sub(ended))
		}
	}
	return out, nil
}

// tooMany counts the calls that Slack's rate limits refused.
func (s *scene) tooMany() int {
	n := 0
	for _, c := range s.Slack.Calls() {
		if c.Status == http.StatusTooManyRequests {
			n++
		}
	}
	return n
}
