package soak_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// patience is how long a script may take to come to its end: longer than every
// back-off of the daemon that it can meet. The longest is that of a request which
// CircleCI refused to approve: until it is retried, its gate is looked at every five
// minutes, and may be opened by somebody just after a look.
const patience = 7 * time.Minute

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
	r.answerTime = 1500 * time.Millisecond
	world := r.world(r)
	for i := range lanes {
		rng := rand.New(rand.NewPCG(seed, uint64(i)+1))
		l := &lane{Lane: story.NewLane(world, i, draw(rng)), rng: rng}
		c.lanes = append(c.lanes, l)
		if err := r.furnish(ctx, l.Lane); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// draw chooses a script as the tests in simulated time do, but always closes the
// gate: one that nobody closes is looked at every five minutes, which would make most
// stories as long.
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
	// Only the first lane's requests expire soon, and only a long run waits for that.
	c.settle(own, l.Lane, l.Number > 0 || *kills < autopsyEvery)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told += len(l.Stories)
	l.over, l.Stories, l.Trace = append(l.over, l.Stories...), nil, nil
}

// verdict judges every story once more, now that nothing moves.
func (c *chamber) verdict(ctx context.Context) {
	for _, l := range c.lanes {
		l.Stories = l.over
		l.Judge(ctx, true)
		for _, s := range l.Stories {
			if s.ID != "" {
				c.ends[s.Status]++
			}
		}
	}
}

// progress tells how many stories were played and promises broken.
func (c *chamber) progress() (told, broken int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told, len(c.broken)
}
