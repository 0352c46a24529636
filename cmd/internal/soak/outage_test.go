package soak_test

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// bypassFrom is the shortest outage beside which a gate is opened after its request
// expired: that takes six to seven minutes.
const bypassFrom = 5 * time.Minute

// outagePlan is what is played.
type outagePlan struct {
	length   time.Duration // of an outage
	window   time.Duration // how long an approval stays usable
	requests int           // filed while Slack is down
	dir      string
}

// TestOutages plays all scenes side by side and reports each as it ends.
func TestOutages(t *testing.T) {
	long := begin(t, "outage", "window", "requests")
	p := outagePlan{length: *outage, window: *window, requests: *requests}
	if p.window == 0 {
		p.window = max(time.Minute, (p.length / 2).Truncate(time.Minute))
	}
	if p.requests == 0 {
		p.requests = max(6, int(p.length/(5*time.Second)))
	}
	if p.length < time.Second || p.requests < 1 || p.window%time.Minute != 0 || p.window < time.Minute || p.window > 24*time.Hour {
		t.Fatal("-outage must be at least 1s, -requests at least 1, and -window whole minutes")
	}
	if long {
		enough(t, p.patience())
	}
	p.dir = directory(t, "outages")
	t.Logf("outages of %s, approvals usable for %s, %d requests while Slack is away, -seed %d", p.length, p.window, p.requests, *seed)
	if p.window >= p.length {
		t.Log("note: an approval is usable for longer than the outage; its window does not run out")
	}
	if p.length < nameCircleWithin {
		t.Log("note: too short for /readyz to have to name CircleCI")
	}
	if p.length < bypassFrom {
		t.Logf("note: the gate that is opened after its request expired is left out, as by every -outage below %s", bypassFrom)
	}
	var playing sync.WaitGroup
	for i, e := range p.episodes() { // at once, however many tests go test runs in parallel
		playing.Go(func() {
			t.Run(e.name, func(t *testing.T) {
				began := time.Now()
				s, err := newScene(t.Context(), filepath.Join(p.dir, e.name), t.Output(), p, e, rand.New(rand.NewPCG(*seed, uint64(i))))
				if err != nil {
					t.Fatal(err)
				}
				s.run(t.Context(), e.play)
				for _, v := range s.broken {
					t.Errorf("VIOLATION %s", v)
				}
				t.Logf("%d violations, %s: %s", len(s.broken), time.Since(began).Round(time.Second), strings.Join(s.figures, "; "))
			})
		})
	}
	playing.Wait()
}

// episode is one scene of the drill: what is done in it, on a stage of its own.
type episode struct {
	name string
	play func(*scene, context.Context) error

	onClose    approvals.OnClose // cancel_job unless given
	pendingTTL time.Duration     // of the product unless given
}

func (p outagePlan) episodes() []episode {
	all := []episode{
		{name: "slack", play: (*scene).slackDown},
		{name: "circleci", play: (*scene).circleDown},
		{name: "both", play: (*scene).bothDown},
		{name: "token", play: (*scene).tokenRefused},
	}
	if p.length >= bypassFrom {
		all = append(all, episode{name: "bypass", play: (*scene).leftWaiting, onClose: approvals.CloseNothing, pendingTTL: time.Minute})
	}
	return all
}
