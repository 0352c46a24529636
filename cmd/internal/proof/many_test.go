package proof_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	manyRequests = 1000
	manyDecided  = 12
	// mostLooks is how many calls a second CircleCI gets from the watcher.
	mostLooks = 5
)

// TestManyOpenRequests has 1,000 requests open at once, some of them approved or
// rejected while their gates are not reached yet. The look-ups keep within 5 calls
// a second in all, and although they are minutes apart by then, an approval whose
// window is one minute is released, and a rejected gate is cancelled.
func TestManyOpenRequests(t *testing.T) {
	made := newTemplate(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(opening))
		w := newWorld(t, made, script{Lanes: []laneScript{{Required: 1, Auto: true, OnClose: approvals.CloseCancelJob}}})
		l := w.lanes[0]
		env := append(l.settings(), "RGW_SETTING_SUPERSEDE=off")
		for i, setting := range env {
			env[i] = strings.Replace(setting, "PENDING_TTL=2m", "PENDING_TTL=24h", 1)
		}
		var bad []string
		if w.settings, bad = approvals.ParseSettings(env, l.channel); len(bad) > 0 {
			t.Fatal(bad)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var alive sync.WaitGroup
		alive.Go(func() { w.run(ctx) })
		var approved, rejected []*story
		for i := range manyRequests {
			s := l.push()
			if l.file(ctx, s); s.id == "" {
				t.Fatalf("request %d was not taken: %s", i+1, l.trace[len(l.trace)-1])
			}
			if i < manyDecided {
				l.decide(ctx, s, i%admins, actApprove)
				approved = append(approved, s)
			} else if i < 2*manyDecided {
				l.decide(ctx, s, i%admins, actReject)
				rejected = append(rejected, s)
			}
		}
		rest(ctx, time.Minute)

		for range 10 {
			before := w.net.callsTo("circleci ")
			rest(ctx, time.Minute)
			if got := w.net.callsTo("circleci ") - before; got > mostLooks*60 || got < 60 {
				t.Errorf("got %d calls to CircleCI within a minute; want at most %d a second, and no standstill", got, mostLooks)
			}
		}
		for _, s := range append(approved, rejected...) {
			l.end(s, "request_approval")
		}
		rest(ctx, manyRequests/4*time.Second+time.Minute) // one round of looks
		for _, s := range approved {
			if c, err := l.evidence(ctx, s); err != nil || c.Status != approvals.Released {
				t.Errorf("got an approved request that is %s, %v\n%s", c.Status, err, c.Story())
			}
		}
		for _, s := range rejected {
			if c, err := l.evidence(ctx, s); err != nil || c.Gate != "canceled" {
				t.Errorf("got the gate of a rejected request that is %s, %v", c.Gate, err)
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
