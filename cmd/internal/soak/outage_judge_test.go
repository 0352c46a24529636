package soak_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// evidence gathers all that can be seen of a request from outside, in the order
// that [proof.Case] asks for.
func (s *scene) evidence(ctx context.Context, a *asked) (proof.Case, error) {
	c := proof.Case{ID: a.id, Required: 1, Auto: true, OnClose: s.opts.onClose, Self: s.self}
	messages := s.Slack.AllMessages(a.channel)
	c.Tries = s.Circle.Approvals(a.workflow)
	gate, _ := s.Circle.Job(a.workflow, stage.Gate)
	c.Gate, c.GateBy = gate.Status, gate.ApprovedBy
	r, err := s.quick.Get(ctx, c.ID)
	if err != nil {
		return c, err
	}
	c.Status = r.Status
	if c.Events, err = s.quick.Events(ctx, c.ID); err != nil {
		return c, err
	}
	c.Read(messages, string(r.Slack.TS))
	c.ReadDMs(s.Slack)
	return c, nil
}

// settle waits until nothing more is to come of a request.
func (s *scene) settle(ctx context.Context, a *asked) error {
	var open []string
	err := again(ctx, func() bool {
		c, err := s.evidence(ctx, a)
		if err != nil {
			open = []string{err.Error()}
			return false
		}
		open = c.Unsettled()
		return len(open) == 0 || len(c.Broken()) > 0
	})
	if err != nil {
		return fmt.Errorf("request #%d: %w: %s", a.number, err, strings.Join(open, "; "))
	}
	return nil
}

// verdict waits until everything has ended and judges it all: requests, order,
// readiness, and behind the stopped daemon the log.
func (s *scene) verdict(ctx context.Context) error {
	for _, a := range s.asked {
		if err := s.settle(ctx, a); err != nil {
			return err
		}
	}
	calls := map[string][]time.Time{}
	for _, c := range s.Circle.Calls() {
		if c.Op == "approve" && len(c.IDs) > 0 {
			calls[c.IDs[0]] = append(calls[c.IDs[0]], c.At)
		}
	}
	for _, a := range s.asked {
		c, err := s.evidence(ctx, a)
		if err != nil {
			return fmt.Errorf("I1: acknowledged request #%d: %w", a.number, err)
		}
		c.Released = calls[a.workflow]
		if found := a.wrong(c); len(found) > 0 {
			s.violation(fmt.Sprintf("request #%d: %s\n%s", a.number, strings.Join(found, "\n"), c.Story()))
		}
	}
	for _, p := range places {
		if n, first := disorder(s.standing(p)); n > 0 {
			s.violation(fmt.Sprintf("%d cards of %s do not stand in the order of their numbers: %s", n, p.channel, first))
		}
	}
	if err := s.healthy(ctx); err != nil {
		return err
	}
	return s.last(ctx, s.proc)
}

// wrong judges a request whose end is known.
func (a *asked) wrong(c proof.Case) []string {
	found := append(c.Broken(), c.Unsettled()...)
	if a.want != "" && c.Status != a.want {
		found = append(found, fmt.Sprintf("I5: it is %s; want %s", c.Status, a.want))
	}
	votes := 0
	for _, e := range c.Events {
		if e.Type == approvals.EventVoted {
			votes++
		}
	}
	if votes != a.votes {
		found = append(found, fmt.Sprintf("I2: %d codes were sent and %d votes recorded", a.votes, votes))
	}
	return found
}

// standing is the numbers of a channel's cards in the order in which they stand.
func (s *scene) standing(p place) []int64 {
	numbers := map[string]int64{}
	for _, a := range s.asked {
		numbers[a.id] = a.number
	}
	var out []int64
	for _, m := range s.Slack.Messages(p.channel) {
		for id, n := range numbers {
			if proof.IsCard(m, id) {
				out = append(out, n)
			}
		}
	}
	return out
}

// disorder counts numbers that stand behind a greater one, and names the first.
func disorder(numbers []int64) (n int, first string) {
	var most int64
	for _, at := range numbers {
		if at < most {
			n++
			if first == "" {
				first = fmt.Sprintf("#%d stands behind #%d", at, most)
			}
		}
		most = max(most, at)
	}
	return n, first
}

// healthy waits until /readyz finds nothing wrong any more.
func (s *scene) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var last webhook.Readiness
	err := again(ctx, func() bool {
		r, status, err := readiness(ctx, s.URL)
		last = r
		return err == nil && status == http.StatusOK && r.Status == webhook.StatusOK
	})
	if err != nil {
		return fmt.Errorf("/readyz is not ok long after the outage: %+v", last)
	}
	return nil
}

// tell renders every request that has not come to its end, for the report.
func (s *scene) tell() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the scene's own may be over
	defer cancel()
	var b strings.Builder
	for _, a := range s.asked {
		c, err := s.evidence(ctx, a)
		if err != nil {
			fmt.Fprintf(&b, "request #%d: %v\n", a.number, err)
		} else if found := a.wrong(c); len(found) > 0 {
			fmt.Fprintf(&b, "#%d %s: %s\n%s", a.number, a.app, strings.Join(found, "; "), c.Story())
		}
	}
	return b.String()
}

// span gives the least and the greatest of some durations.
func span(all []time.Duration) string {
	if len(all) == 0 {
		return "never"
	}
	least, most := slices.Min(all).Round(10*time.Millisecond), slices.Max(all).Round(10*time.Millisecond)
	if least == most {
		return most.String()
	}
	return fmt.Sprintf("%s to %s", least, most)
}
