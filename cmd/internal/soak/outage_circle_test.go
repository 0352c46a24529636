package soak_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const (
	// keptWithin is how soon the thread says that CircleCI does not answer and the
	// approval is kept: 20 s of silence and one pause between two tries.
	keptWithin = 70 * time.Second
)

// circleDown takes CircleCI away around decisions: after a call that failed,
// after one that took effect but was not answered, before any call, and before
// the gate is reached.
func (s *scene) circleDown(ctx context.Context) error {
	blocked, err := s.decide(ctx, 1)
	if err != nil {
		return err
	}
	held := make([]asked, 3)
	for i := range held {
		if held[i], err = s.ask(ctx, i, true); err != nil {
			return err
		}
	}
	failed, unanswered, kept := held[0], held[1], held[2]
	s.Circle.Inject(
		circlecitest.Fault{Op: "approve", ID: failed.Workflow, Status: http.StatusServiceUnavailable, Count: -1},
		circlecitest.Fault{Op: "approve", ID: unanswered.Workflow, When: circlecitest.After, Drop: true},
	)
	if err := s.calledAfterVote(ctx, failed); err != nil {
		return err
	}
	s.Circle.SetHook(func(op string, phase circlecitest.Phase) {
		if op == "approve" && phase == circlecitest.After {
			s.circle.down() // it took effect; nothing is answered from here on
		}
	})
	if err := s.calledAfterVote(ctx, unanswered); err != nil {
		return err
	}
	s.Circle.SetHook(nil)
	all := append(blocked, held...)
	patient := s.push(0, true)
	waiting := make(chan stage.Result, 1)
	refused := 0
	ended, err := s.without(ctx, s.plan.length, []*service{s.circle}, func(until time.Time, _ *lookout) error {
		if err := s.vote(ctx, kept); err != nil {
			return err
		}
		blocked[0].end("request_approval")
		go func() { waiting <- s.request(ctx, patient.ask(), s.plan.length+3*time.Minute) }()
		var err error
		if refused, err = s.fileInVain(ctx, until); err != nil {
			return err
		}
		return s.saidKept(ctx, all)
	})
	if err != nil {
		return err
	}
	releases, err := s.releases(ctx, all, ended)
	if err != nil {
		return err
	}
	if patient.ID, patient.Number, err = s.filed(ctx, <-waiting); err != nil {
		return err
	}
	through := time.Since(ended)
	fresh, err := s.ask(ctx, 1, true)
	if err != nil {
		return err
	}
	for _, a := range []asked{patient, fresh} {
		if err := s.vote(ctx, a); err != nil {
			return err
		}
	}
	if err := s.deployed(ctx, append(all, patient, fresh)...); err != nil {
		return err
	}
	s.figure("CircleCI was away, %d decisions kept, %d creates refused; after its end the releases %s, a CI job that kept trying filed within %s, 2 later requests released",
		len(all), refused, span(releases), through.Round(10*time.Millisecond))
	return nil
}

// calledAfterVote approves and waits until the approve call has arrived.
func (s *scene) calledAfterVote(ctx context.Context, a asked) error {
	if err := s.vote(ctx, a); err != nil {
		return err
	}
	return s.Circle.Wait(ctx, func() bool {
		for _, c := range s.Circle.Calls() {
			if c.Op == "approve" && len(c.IDs) > 0 && c.IDs[0] == a.Workflow {
				return true
			}
		}
		return false
	})
}

// fileInVain files requests until so long, each with a pipeline of its own,
// and counts how many were refused as they have to be.
func (s *scene) fileInVain(ctx context.Context, until time.Time) (int, error) {
	retryFor := min(8*time.Second, s.plan.length/8)
	for n := 0; ; n++ {
		began := time.Now()
		if n > 0 && began.Add(retryFor+time.Second).After(until) {
			return n, nil
		}
		ask := s.push(n, true).ask()
		if r := s.request(ctx, ask, retryFor); r.Code != 10 || r.Stdout != "" || !strings.Contains(r.Stderr, string(approvals.CodeCIUnavailable)) {
			s.violation(fmt.Sprintf("a request while CircleCI is away: exit %d %q; want 10, %s\n%s", r.Code, r.Stdout, approvals.CodeCIUnavailable, r.Stderr))
		}
		if took := time.Since(began); took > retryFor+10*time.Second {
			s.violation(fmt.Sprintf("a request while CircleCI is away took %s; want to give up after %s", took, retryFor))
		}
		_, _, err := s.quick.Create(ctx, webhook.CreateBody{App: ask.App, GitCommit: ask.Revision, Metadata: []byte(fmt.Sprintf(`{"workflow_id":%q}`, ask.Workflow))})
		var p *webhook.Problem
		if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.Code != approvals.CodeCIUnavailable || p.RetryAfter <= 0 {
			s.violation(fmt.Sprintf("a create while CircleCI is away: %v; want 503 %s with Retry-After", err, approvals.CodeCIUnavailable))
		}
		if err := pause(ctx, min(5*time.Second, s.plan.length/8)); err != nil {
			return n, err
		}
	}
}

// saidKept waits until each thread says that the approval is kept; a short
// outage is over before it has to.
func (s *scene) saidKept(ctx context.Context, all []asked) error {
	if s.plan.length < keptWithin {
		return nil
	}
	for _, a := range all {
		e, err := s.event(ctx, a, approvals.EventDelayed)
		if err != nil {
			return err
		}
		if _, err := s.told(ctx, a, e); err != nil {
			return err
		}
	}
	return nil
}

// releases waits for releases and says how long after the end they were seen.
func (s *scene) releases(ctx context.Context, all []asked, ended time.Time) ([]time.Duration, error) {
	var out []time.Duration
	for _, a := range all {
		e, err := s.event(ctx, a, approvals.EventReleased)
		if err != nil {
			return nil, err
		}
		out = append(out, e.At().Sub(ended))
	}
	return out, nil
}
