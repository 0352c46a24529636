package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

const (
	// answerTime is how long a person looks at a window that does not react.
	answerTime = 1500 * time.Millisecond
	// patience is how long a script may take to come to its end: longer than every
	// back-off of the daemon that it can meet.
	patience = 4 * time.Minute
)

// chamber is the daemon with many apps, each with a project, a channel and
// admins of its own, so that stories run side by side and neither Slack's pace
// per channel nor the one code per half minute and person holds them up.
type chamber struct {
	*rig
	lanes  []*lane
	killer *killer
	told   int                      // stories
	ends   map[approvals.Status]int // how they ended
}

// lane plays one script after the other on an app of its own.
type lane struct {
	*story.Lane
	rng  *rand.Rand
	over []*story.Story // of the scripts before
}

// newChamber prepares everything but the daemon, which gets the variables of env.
func newChamber(ctx context.Context, dir string, lanes int, seed uint64, out io.Writer, env ...string) (*chamber, error) {
	r, err := newRig(ctx, dir, out, append(env, "RGW_LOG_LEVEL=warn", "RGW_APP_APP0_SETTING_PENDING_TTL=90s"))
	if err != nil {
		return nil, err
	}
	c := &chamber{rig: r, ends: map[approvals.Status]int{}}
	world := &story.World{Slack: c.Slack, Circle: c.Circle, Gateway: c, Codes: &c.codes, Secret: c.Secret, Self: c.self, Violation: c.violation}
	for i := range lanes {
		rng := rand.New(rand.NewPCG(seed, uint64(i)+1))
		l := &lane{Lane: story.NewLane(world, i, draw(rng)), rng: rng}
		c.lanes = append(c.lanes, l)
		c.SetEnv(l.Settings()...)
		for n := range story.Admins {
			id := story.Admin(i, n)
			if err := c.Admin(ctx, id, id, strings.ToLower(id)); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// draw chooses a script as the tests in simulated time do, but always closes the
// gate: one that nobody closes is looked at every five minutes, which is longer
// than a run waits for the end of a story.
func draw(rng *rand.Rand) story.Script {
	s := rapid.Custom(story.Draw).Example(int(rng.Int32()))
	if s.OnClose == approvals.CloseNothing {
		s.OnClose = approvals.CloseCancelJob
	}
	return s
}

// run plays scripts until stop is closed.
func (c *chamber) run(ctx context.Context, l *lane, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
			c.play(ctx, l)
		}
	}
}

// play plays one script to its end. The app's settings stay as they are.
func (c *chamber) play(ctx context.Context, l *lane) {
	own, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the stories did not come to their end"))
	defer cancel()
	if l.rng.IntN(6) == 0 {
		drop := slacktest.Drop(l.rng.IntN(3))
		f := slacktest.Fault{Method: "chat.postMessage", Times: 1, Drop: drop, Match: func(call slacktest.Call) bool { return call.Args["channel"] == l.Channel }}
		if drop == slacktest.NoDrop {
			f.Status, f.RetryAfter = http.StatusTooManyRequests, 1
		}
		defer c.Slack.AddFault(f)()
	}
	next := draw(l.rng)
	l.Script.OnHold, l.Script.Acts = next.OnHold, next.Acts
	for _, a := range next.Acts {
		l.Do(own, a)
	}
	c.settle(own, l)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told += len(l.Stories)
	l.over, l.Stories, l.Trace = append(l.over, l.Stories...), nil, nil
}

// settle waits until nothing more is to come. What nobody decided is withdrawn. Only
// the first lane's requests expire soon, and only a long run waits for that.
func (c *chamber) settle(ctx context.Context, l *lane) {
	_, before := c.progress()
	for now := before; now == before; _, now = c.progress() {
		l.Nudge(ctx)
		for _, s := range l.Stories {
			if cases, _, err := c.Cases(ctx, s.ID); (l.Number > 0 || *kills < autopsyEvery) && s.ID != "" && err == nil && cases[0].Status == approvals.Pending {
				_ = c.Withdraw(ctx, s.ID) // or the next time
			}
		}
		open := l.Judge(ctx, false)
		if len(open) == 0 {
			return
		}
		if !approvals.Pause(ctx, 300*time.Millisecond) {
			c.violation(fmt.Sprintf("%v: %s\n%s", context.Cause(ctx), strings.Join(open, "; "), l.Told()))
			return
		}
	}
}

// File implements story.Gateway.
func (c *chamber) File(ctx context.Context, a story.Ask) (id string, number int64, err error) {
	metadata, err := json.Marshal(map[string]string{"workflow_id": a.Workflow})
	if err != nil {
		return "", 0, err
	}
	r, _, err := c.quick.Create(ctx, webhook.CreateBody{App: a.App, GitCommit: a.Revision[:12], Branch: story.Branch, Metadata: metadata})
	return r.ID, r.Number, refusal(err)
}

// Withdraw implements story.Gateway.
func (c *chamber) Withdraw(ctx context.Context, id string) error {
	_, err := c.quick.Cancel(ctx, id, "changed my mind")
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
func (c *chamber) Cases(ctx context.Context, ids ...string) (cases []proof.Case, cards []string, err error) {
	for _, id := range ids {
		r, err := c.quick.Get(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		events, err := c.quick.Events(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		cases, cards = append(cases, proof.Case{ID: id, Status: r.Status, Events: events}), append(cards, string(r.Slack.TS))
	}
	return cases, cards, nil
}

// Click implements story.Gateway.
func (c *chamber) Click(ctx context.Context, click slacktest.ButtonClick) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := c.Slack.ClickButton(ctx, click)
	return err
}

// Submit implements story.Gateway.
func (c *chamber) Submit(ctx context.Context, user, view string, values slacktest.Values) (slacktest.SubmitResult, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return c.Slack.Submit(ctx, user, view, values)
}

// verdict judges every story once more, now that nothing moves. Every approve call
// that arrived counts, not only those that were answered.
func (c *chamber) verdict(ctx context.Context) {
	approves := map[string][]time.Time{}
	for _, call := range c.Circle.Calls() {
		if call.Op == "approve" && len(call.IDs) > 0 {
			approves[call.IDs[0]] = append(approves[call.IDs[0]], call.At)
		}
	}
	for _, l := range c.lanes {
		asked := map[string]int{}
		l.Stories = l.over
		for _, s := range l.Stories {
			asked[s.Workflow]++
		}
		for _, s := range l.Stories {
			if s.ID == "" {
				continue
			}
			e, err := l.Evidence(ctx, s)
			if err != nil {
				c.violation(fmt.Sprintf("I1: acknowledged request %s: %v", s.ID, err))
				continue
			}
			if asked[s.Workflow] == 1 {
				e.Released = approves[s.Workflow]
			}
			if found := append(e.Broken(), e.Unsettled()...); len(found) > 0 {
				c.violation(strings.Join(found, "\n") + "\n" + e.Story())
			}
			c.ends[e.Status]++
		}
	}
}

// progress tells how many stories were played and promises broken.
func (c *chamber) progress() (told, broken int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told, len(c.broken)
}
