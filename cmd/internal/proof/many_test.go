package proof_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

const (
	manyRequests = 1000
	manyDecided  = 12
	// mostLooks is how many calls a second CircleCI gets from the watcher.
	mostLooks = 5
	// briefly is how long some of the requests wait for a decision.
	briefly = 14 * time.Minute
)

// TestManyOpenRequests has 1,000 requests open at once, some of them approved or
// rejected while their gates are not reached yet. The look-ups keep within 5 calls
// a second in all, and although they are minutes apart by then, an approval whose
// window is one minute is released, and a rejected gate is cancelled. A request whose
// gate is on hold already does not take its turn among the others: when it is
// rejected or its time is over, the gate is cancelled within a minute.
func TestManyOpenRequests(t *testing.T) {
	made := newTemplate(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(opening))
		w := newWorld(t, made, script{Lanes: []story.Script{
			{Required: 1, Auto: true, OnClose: approvals.CloseCancelJob},
			{Required: 1, Auto: true, OnClose: approvals.CloseCancelJob, OnHold: true},
		}})
		l, brief := w.lanes[0], w.lanes[1]
		env := slices.Concat(l.Settings(), brief.Settings(), []string{"RGW_SETTING_SUPERSEDE=off", "RGW_SETTING_DEPLOY_APPROVAL_WINDOW_MINUTES=1",
			"RGW_APP_APP1_SETTING_PENDING_TTL=" + briefly.String()})
		var bad []string
		if w.settings, bad = approvals.ParseSettings(env, l.Channel); len(bad) > 0 {
			t.Fatal(bad)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var alive sync.WaitGroup
		alive.Go(func() { w.run(ctx) })
		var approved, rejected []*story.Story
		for i := range manyRequests {
			s := l.Push()
			if l.File(ctx, s); s.ID == "" {
				t.Fatalf("request %d was not taken: %s", i+1, l.Trace[len(l.Trace)-1])
			}
			if i < manyDecided {
				l.Decide(ctx, s, i%story.Admins, story.Approve)
				approved = append(approved, s)
			} else if i < 2*manyDecided {
				l.Decide(ctx, s, i%story.Admins, story.Reject)
				rejected = append(rejected, s)
			}
		}
		var ending []*story.Story
		for range manyDecided {
			s := brief.Push()
			brief.File(ctx, s)
			ending = append(ending, s)
		}
		approvals.Pause(ctx, time.Minute)

		for range 10 {
			before := w.net.callsTo("circleci ")
			approvals.Pause(ctx, time.Minute)
			if got := w.net.callsTo("circleci ") - before; got > mostLooks*60 || got < 60 {
				t.Errorf("got %d calls to CircleCI within a minute; want at most %d a second, and no standstill", got, mostLooks)
			}
		}
		for _, s := range ending[:manyDecided/2] {
			brief.Decide(ctx, s, 0, story.Reject)
		}
		for _, s := range append(approved, rejected...) {
			l.End(s, "request_approval")
		}
		approvals.Pause(ctx, manyRequests/4*time.Second+time.Minute) // one round of looks
		for _, s := range approved {
			if c, err := l.Evidence(ctx, s); err != nil || c.Status != approvals.Released {
				t.Errorf("got an approved request that is %s, %v\n%s", c.Status, err, c.Story())
			}
		}
		for _, s := range rejected {
			if c, err := l.Evidence(ctx, s); err != nil || c.Gate != "canceled" {
				t.Errorf("got the gate of a rejected request that is %s, %v", c.Gate, err)
			}
		}
		for _, s := range ending {
			c, err := brief.Evidence(ctx, s)
			if err != nil || c.Gate != "canceled" {
				t.Errorf("got a request that is %s with a gate that is %s, %v", c.Status, c.Gate, err)
				continue
			}
			over := c.Events[0].At().Add(briefly)
			if i := first(c, approvals.EventRejected); i >= 0 {
				over = c.Events[i].At()
			}
			late := c.Events[first(c, approvals.EventGateClosed)].At().Sub(over)
			if late > time.Minute {
				t.Errorf("the gate was cancelled %s after the end of the request\n%s", late, c.Story())
			}
		}
		cancel()
		alive.Wait()
		for _, b := range w.broken {
			t.Error(b)
		}
		w.slack.Close()
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// first is the index of the first event of a type, or -1.
func first(c proof.Case, t approvals.EventType) int {
	return slices.IndexFunc(c.Events, func(e approvals.Event) bool { return e.Type == t })
}
