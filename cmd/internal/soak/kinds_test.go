package soak_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

// kind is one way in which a request may go.
type kind struct {
	name   string
	weight int
	play   func(*lane, context.Context, string) error
}

func kinds() []kind {
	return []kind{
		{"approved while blocked", 4, func(l *lane, ctx context.Context, k string) error { return l.approved(ctx, l.start(k, false)) }},
		{"approved on hold", 4, func(l *lane, ctx context.Context, k string) error { return l.approved(ctx, l.start(k, true)) }},
		{"rejected", 2, (*lane).rejected},
		{"withdrawn", 1, (*lane).withdrawn},
		{"canceled in CircleCI", 1, (*lane).canceled},
		{"bypassed", 1, (*lane).bypassed},
		{"bypassed in a race", 2, (*lane).raced},
		{"superseded", 1, (*lane).superseded},
		{"refused, then retried", 2, (*lane).retried},
		{"approve answer lost", 1, (*lane).lostAnswer},
		{"expired", 1, (*lane).expired},
	}
}

// run plays stories until stop is closed.
func (l *lane) run(ctx context.Context, stop <-chan struct{}) {
	all := kinds()
	total := 0
	for _, k := range all {
		total += k.weight
	}
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		dice := l.rng.IntN(total)
		i := 0
		for dice -= all[0].weight; dice >= 0; dice -= all[i].weight {
			i++
		}
		l.one(ctx, all[i])
	}
}

func (l *lane) one(ctx context.Context, k kind) {
	own, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the story did not come to its end"))
	defer cancel()
	if l.rng.IntN(6) == 0 {
		drop := slacktest.Drop(l.rng.IntN(3))
		f := slacktest.Fault{Method: "chat.postMessage", Times: 1, Drop: drop, Match: func(c slacktest.Call) bool { return c.Args["channel"] == l.channel }}
		if drop == slacktest.NoDrop {
			f.Status, f.RetryAfter = http.StatusTooManyRequests, 1
		}
		defer l.Slack.AddFault(f)()
	}
	l.mu.Lock()
	first := len(l.stories)
	l.mu.Unlock()
	err := k.play(l, own, k.name)
	if err == nil || ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	var mine []*story
	for _, s := range l.stories[first:] {
		if s.lane == l {
			mine = append(mine, s)
		}
	}
	l.mu.Unlock()
	text := fmt.Sprintf("%v", err)
	for _, s := range mine {
		text += "\n" + s.tell(ctx)
	}
	l.violation(text)
}

// approved goes all the way: votes, the gate, the deploy.
func (l *lane) approved(ctx context.Context, s *story) error {
	if err := s.create(ctx); err != nil {
		return err
	}
	if err := s.vote(ctx); err != nil {
		return err
	}
	if err := pause(ctx, time.Duration(l.rng.Int64N(int64(time.Second)))); err != nil {
		return err
	}
	s.finish("request_approval")
	return s.deployed(ctx)
}

// deployed waits for the gate and lets the deploy end.
func (s *story) deployed(ctx context.Context) error {
	if !s.auto {
		// The card asks a person to do it.
		err := again(ctx, func() bool {
			r, err := s.quick.Get(ctx, s.id)
			return err == nil && r.Status != approvals.Pending
		})
		if err != nil {
			return fmt.Errorf("wait for the decision: %w", err)
		}
		_ = s.Circle.ApproveAs("ana", s.workflow, tortureGate) // refused when it is over
	}
	err := again(ctx, func() bool {
		if s.Circle.JobStatus(s.workflow, tortureGate) == "success" {
			return true
		}
		r, err := s.quick.Get(ctx, s.id)
		return err == nil && !r.Status.Open() && r.Status != approvals.Released
	})
	if err != nil {
		return fmt.Errorf("wait for the gate: %w", err)
	}
	if s.Circle.JobStatus(s.workflow, "deploy") == "running" && s.rng.IntN(4) == 0 {
		_ = s.Circle.Fail(s.workflow, "deploy")
	}
	s.finish("deploy")
	return s.settle(ctx)
}

func (l *lane) rejected(ctx context.Context, k string) error {
	s := l.start(k, l.rng.IntN(2) == 0)
	if err := s.create(ctx); err != nil {
		return err
	}
	accepted, err := s.decide(ctx, l.admins[l.rng.IntN(len(l.admins))], true)
	if err != nil {
		return fmt.Errorf("reject: %w", err)
	}
	if accepted {
		s.want = approvals.Rejected
	}
	s.finish("request_approval")
	return s.settle(ctx)
}

func (l *lane) withdrawn(ctx context.Context, k string) error {
	s := l.start(k, l.rng.IntN(2) == 0)
	if err := s.create(ctx); err != nil {
		return err
	}
	err := again(ctx, func() bool {
		_, err := l.client.Cancel(ctx, s.id, "changed my mind")
		var p *webhook.Problem
		if errors.As(err, &p) && p.Status == http.StatusConflict {
			s.note("the withdrawal is refused: %v", err)
			return true
		}
		if err == nil {
			s.want = approvals.Canceled
		}
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	s.finish("request_approval")
	return s.settle(ctx)
}

func (l *lane) canceled(ctx context.Context, k string) error {
	s := l.start(k, l.rng.IntN(2) == 0)
	if err := s.create(ctx); err != nil {
		return err
	}
	if l.rng.IntN(2) == 0 {
		if err := s.vote(ctx); err != nil {
			return err
		}
	}
	if err := l.Circle.CancelWorkflowAs("bea", s.workflow); err != nil {
		return err
	}
	s.note("bea cancels the workflow")
	s.finish("deploy")
	return s.settle(ctx)
}

func (l *lane) bypassed(ctx context.Context, k string) error {
	s := l.start(k, true)
	if err := s.create(ctx); err != nil {
		return err
	}
	if err := l.Circle.ApproveAs("mallory", s.workflow, tortureGate); err != nil {
		return err
	}
	s.note("mallory approves the gate by hand")
	s.finish("deploy")
	return s.settle(ctx)
}

// raced lets a person approve the gate at about the time of the decision.
func (l *lane) raced(ctx context.Context, k string) error {
	s := l.start(k, true)
	if err := s.create(ctx); err != nil {
		return err
	}
	hand := time.AfterFunc(time.Duration(l.rng.Int64N(int64(3*time.Second))), func() {
		_ = l.Circle.ApproveAs("mallory", s.workflow, tortureGate) // the loser of the race is refused
	})
	defer hand.Stop()
	if err := s.vote(ctx); err != nil {
		return err
	}
	return s.deployed(ctx)
}

func (l *lane) superseded(ctx context.Context, k string) error {
	older := l.start(k, true)
	if err := older.create(ctx); err != nil {
		return err
	}
	newer := l.start("superseding", l.rng.IntN(2) == 0)
	if err := l.approved(ctx, newer); err != nil {
		return err
	}
	return older.settle(ctx)
}

// retried lets CircleCI refuse the first call, so that people have to vote anew.
func (l *lane) retried(ctx context.Context, k string) error {
	s := l.start(k, true)
	l.Circle.Inject(circlecitest.Fault{Op: "approve", ID: s.workflow, Status: http.StatusForbidden, Body: `{"message":"Permission denied."}`})
	if err := s.create(ctx); err != nil {
		return err
	}
	if err := s.vote(ctx); err != nil {
		return err
	}
	if !l.auto {
		return s.deployed(ctx)
	}
	err := again(ctx, func() bool {
		r, err := l.quick.Get(ctx, s.id)
		return err == nil && r.Status != approvals.Pending && r.Status != approvals.Approved
	})
	if err != nil {
		return fmt.Errorf("wait for the refusal: %w", err)
	}
	r, err := s.get(ctx)
	if err != nil {
		return err
	}
	if r.Status == approvals.Undeliverable {
		if l.rng.IntN(3) == 0 {
			return s.settle(ctx)
		}
		s.note("it is undeliverable; people vote anew")
		if err := s.offered(ctx); err != nil {
			return err
		}
		if err := s.vote(ctx); err != nil {
			return err
		}
	}
	return s.deployed(ctx)
}

// offered waits until the card offers a retry.
func (s *story) offered(ctx context.Context) error {
	err := again(ctx, func() bool { return s.look(ctx) == nil && s.button(false) != "" })
	if err != nil {
		return fmt.Errorf("wait for Retry on the card: %w", err)
	}
	return nil
}

func (l *lane) lostAnswer(ctx context.Context, k string) error {
	s := l.start(k, l.rng.IntN(2) == 0)
	when := []circlecitest.Phase{circlecitest.Before, circlecitest.After}[l.rng.IntN(2)]
	l.Circle.Inject(circlecitest.Fault{Op: "approve", ID: s.workflow, When: when, Drop: true})
	return l.approved(ctx, s)
}

// expired is a request that nobody decides; only the first lane's are short.
func (l *lane) expired(ctx context.Context, k string) error {
	if l.number != 0 {
		return nil
	}
	s := l.start(k, true)
	if err := s.create(ctx); err != nil {
		return err
	}
	return s.settle(ctx)
}
