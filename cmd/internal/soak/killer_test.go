package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// Where a kill falls that no call marks.
const (
	pointStart  = "while it starts"
	pointRandom = "at a random moment"
)

// killer ends the daemon at chosen calls.
type killer struct {
	rng *rand.Rand

	mu   sync.Mutex
	proc *stage.Process
	want func(op, phase string) bool // nil = nothing is armed
	hit  chan string                 // gets the point at which it fell
	seen map[string]bool             // points that were passed at all
	hits map[string]int
}

// Sides of a call: before it took effect, after it but before the answer, and
// while a delivery of Slack's is worked on.
const (
	before = "before"
	after  = "after"
	within = "within"
)

func newKiller(seed uint64) *killer {
	return &killer{rng: rand.New(rand.NewPCG(seed, 0)), seen: map[string]bool{}, hits: map[string]int{}}
}

// attach puts the killer around every call of both services.
func (k *killer) attach(s *stage.Stage) {
	s.Slack.SetHook(func(method string, phase slacktest.Phase) {
		side := map[slacktest.Phase]string{slacktest.Before: before, slacktest.After: after}[phase]
		delivery := strings.HasPrefix(method, "deliver")
		if k.pass("slack "+method, side, delivery) && !delivery {
			panic(http.ErrAbortHandler) // the call came in, and nothing happens
		}
	})
	s.Circle.SetHook(func(op string, phase circlecitest.Phase) {
		if k.pass("circleci "+op, string(phase), false) {
			panic(http.ErrAbortHandler)
		}
	})
}

// pass kills if this is the place. It reports whether the effect must not happen.
func (k *killer) pass(op, phase string, delivery bool) bool {
	k.mu.Lock()
	k.seen[op+" "+phase] = true
	if delivery && phase == before {
		k.seen[op+" "+within] = true
	}
	if k.want == nil {
		k.mu.Unlock()
		return false
	}
	if delivery && phase == before && k.want(op, within) {
		defer k.mu.Unlock()
		k.want = nil
		proc, hit := k.proc, k.hit
		time.AfterFunc(time.Duration(k.rng.Int64N(int64(20*time.Millisecond))), func() { fall(proc, hit, op+" "+within) })
		return false
	}
	if !k.want(op, phase) {
		k.mu.Unlock()
		return false
	}
	k.want = nil
	proc, hit := k.proc, k.hit
	k.mu.Unlock()
	fall(proc, hit, op+" "+phase)
	return phase == before
}

func fall(proc *stage.Process, hit chan<- string, point string) {
	proc.Kill()
	hit <- point
}

// arm chooses where the process falls: at a call, of which hit tells, or when
// patience is over, which otherwise names.
func (k *killer) arm(proc *stage.Process) (otherwise string, patience time.Duration, hit <-chan string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.proc, k.hit = proc, make(chan string, 1)
	switch dice := k.rng.IntN(100); {
	case dice < 8:
		return pointStart, time.Duration(k.rng.Int64N(int64(150 * time.Millisecond))), k.hit
	case dice < 20 || len(k.seen) < 10:
		return pointRandom, 100*time.Millisecond + time.Duration(k.rng.Int64N(int64(1200*time.Millisecond))), k.hit
	case dice < 50:
		left, side := 1+k.rng.IntN(60), []string{before, after}[k.rng.IntN(2)]
		k.want = func(_, phase string) bool {
			if phase == side {
				left--
			}
			return left == 0
		}
		return pointRandom, 1500 * time.Millisecond, k.hit
	}
	target, left := k.rarest(), k.rng.IntN(3)
	k.want = func(op, phase string) bool {
		if op+" "+phase == target {
			left--
		}
		return left < 0
	}
	return pointRandom, 1500 * time.Millisecond, k.hit
}

// rarest picks one of the points that fell least.
func (k *killer) rarest() string {
	var points []string
	for p := range k.seen {
		points = append(points, p)
	}
	slices.Sort(points)
	k.rng.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	slices.SortStableFunc(points, func(a, b string) int { return k.hits[a] - k.hits[b] })
	return points[k.rng.IntN(min(4, len(points)))]
}

// round lets a fresh daemon run until it is killed, and says where it fell.
func (k *killer) round(ctx context.Context, proc *stage.Process) (string, error) {
	otherwise, patience, hit := k.arm(proc)
	t := time.NewTimer(patience)
	defer t.Stop()
	point := ""
	select {
	case point = <-hit:
	case <-proc.Ended(): // by a hook that is about to say so, or by itself
		select {
		case point = <-hit:
		case <-time.After(time.Second):
			return "", fmt.Errorf("the daemon ended by itself: %w", proc.Err())
		}
	case <-t.C:
		point = otherwise
	case <-ctx.Done():
		return "", ctx.Err()
	}
	proc.Kill()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want = nil
	k.hits[point]++
	return point, nil
}
