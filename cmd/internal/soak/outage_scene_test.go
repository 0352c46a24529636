package soak_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

type sceneOptions struct {
	people     int // admins; each approves at most once
	onClose    approvals.OnClose
	pendingTTL time.Duration
}

// place is an app with its project and channel.
type place struct{ app, project, channel string }

var places = []place{{stage.App, stage.Project, stage.Channel}, {"web", "gh/MyOrg/web", "C0WEB"}}

// scene is one episode on a stage of its own.
type scene struct {
	*rig
	plan          outagePlan
	name          string
	opts          sceneOptions
	rng           *rand.Rand
	slack, circle *service
	proc          *stage.Process

	asked    []*asked
	pipeline int64
	idle     []string // people who have not approved anything
	figures  []string
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
		s.violation(err.Error() + "\n" + s.tell())
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
	s := &scene{plan: p, name: e.name, opts: e.opts, rng: rng}
	s.opts.onClose = cmp.Or(s.opts.onClose, approvals.CloseCancelJob)
	env := []string{
		"RGW_SETTING_SUPERSEDE=off", "RGW_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true", "RGW_SETTING_ON_CLOSE=" + string(s.opts.onClose),
		fmt.Sprintf("RGW_SETTING_DEPLOY_APPROVAL_WINDOW_MINUTES=%d", p.window/time.Minute),
	}
	if s.opts.pendingTTL > 0 {
		env = append(env, "RGW_SETTING_PENDING_TTL="+s.opts.pendingTTL.String())
	}
	for _, p := range places {
		prefix := "RGW_APP_" + strings.ToUpper(p.app) + "_SETTING_"
		env = append(env, prefix+"VCS_REPO="+strings.TrimPrefix(p.project, "gh/"), prefix+"CIRCLECI_APPROVAL_JOB_NAME="+stage.Gate, prefix+"SLACK_CHANNEL="+p.channel)
	}
	var err error
	s.rig, err = newRig(ctx, dir, out, env)
	return s, err
}

// open starts the daemon with its people.
func (s *scene) open(ctx context.Context) (err error) {
	s.services()
	if err = s.furnish(ctx); err == nil {
		s.proc, err = s.live(ctx)
	}
	if err == nil {
		err = s.Confirmed(ctx)
	}
	return err
}

func (s *scene) furnish(ctx context.Context) error {
	members := []string{s.Slack.Config().BotUserID}
	for n := range s.opts.people {
		id := fmt.Sprintf("U0DRILL%02d", n)
		s.Slack.SetUser(slacktest.User{ID: id, Name: strings.ToLower(id), RealName: id})
		if err := s.Admin(ctx, id, id, fmt.Sprintf("login-%d", n)); err != nil {
			return err
		}
		s.idle, members = append(s.idle, id), append(members, id)
	}
	for _, p := range places {
		if p.project != stage.Project {
			s.Circle.AddProject(circlecitest.Project{Slug: p.project})
		}
		s.Slack.SetChannel(slacktest.Channel{ID: p.channel, Name: p.app, Members: members})
	}
	return nil
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
