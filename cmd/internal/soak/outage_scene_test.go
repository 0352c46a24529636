package soak_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// scene is one episode on a stage of its own.
type scene struct {
	*rig
	plan          outagePlan
	rng           *rand.Rand
	slack, circle *service
	proc          *stage.Process

	lanes   []*story.Lane
	votes   int
	figures []string
}

// run plays an episode from an empty database to the judgement of the log.
func (s *scene) run(ctx context.Context, play func(*scene, context.Context) error) {
	defer s.close()
	ctx, cancel := context.WithTimeoutCause(ctx, s.plan.patience(), errors.New("the scene did not come to its end"))
	defer cancel()
	err := s.open(ctx)
	if s.proc != nil {
		defer func() { s.proc.Kill() }() // unless it was stopped
	}
	if err == nil {
		err = play(s, ctx)
	}
	if err == nil {
		err = s.verdict(ctx)
	}
	if err != nil {
		s.violation(err.Error())
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // the scene's own may be over
		defer cancel()
		for _, l := range s.lanes {
			l.Judge(ctx, true)
		}
	}
}

// patience is how long a scene may take: the outage, the longest pauses of the
// daemon after it, and a message a second for what was filed.
func (p outagePlan) patience() time.Duration {
	return p.length + 10*time.Minute + 6*time.Second*time.Duration(p.requests)
}

// newScene prepares a scene.
func newScene(ctx context.Context, dir string, out io.Writer, p outagePlan, e episode, rng *rand.Rand) (*scene, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	env := []string{"RGW_SETTING_SUPERSEDE=off", fmt.Sprintf("RGW_SETTING_DEPLOY_APPROVAL_WINDOW_MINUTES=%d", p.window/time.Minute)}
	if e.pendingTTL > 0 {
		env = append(env, "RGW_SETTING_PENDING_TTL="+e.pendingTTL.String())
	}
	r, err := newRig(ctx, dir, out, env)
	if err != nil {
		return nil, err
	}
	r.answerTime = 10 * time.Second
	s := &scene{rig: r, plan: p, rng: rng}
	s.services()
	world := r.world(s)
	world.Orderly = true
	for i := range 2 {
		l := story.NewLane(world, i, story.Script{Auto: true, Required: 1, OnClose: cmp.Or(e.onClose, approvals.CloseCancelJob)})
		s.lanes = append(s.lanes, l)
		if err := r.furnish(ctx, l); err != nil {
			r.close()
			return nil, err
		}
	}
	return s, nil
}

// open starts the daemon and waits until it knows its people.
func (s *scene) open(ctx context.Context) (err error) {
	if s.proc, err = s.live(ctx); err != nil {
		return err
	}
	return s.Confirmed(ctx)
}

// relive kills the daemon and starts it again while both services are away.
func (s *scene) relive(ctx context.Context) (time.Duration, error) {
	s.proc.Kill()
	s.keepAnchor()
	began := time.Now()
	var err error
	if s.proc, err = s.Spawn(s.log); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	err = again(ctx, func() bool {
		ready, status, err := readiness(ctx, s.URL)
		return err == nil && serving(ready, status, true)
	})
	if err != nil {
		return 0, fmt.Errorf("the daemon is not ready after SIGKILL: %w", err)
	}
	return time.Since(began), nil
}

// figure adds to the scene's line.
func (s *scene) figure(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures = append(s.figures, fmt.Sprintf(format, args...))
}
