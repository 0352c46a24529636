package soak_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// chamber is the daemon with many apps, each with a project, a channel and
// admins of its own, so that stories run side by side and neither Slack's pace
// per channel nor the one code per half minute and person holds them up.
type chamber struct {
	*stage.Stage
	lanes  []*lane
	client *webhook.Client // as CI jobs use it
	quick  *webhook.Client // gives up at once
	codes  proof.Codes
	self   string // our user id at CircleCI
	killer *killer
	log    *os.File
	out    io.Writer // what is told while it goes on

	mu      sync.Mutex
	stories []*story
	broken  []string
	anchors [][]byte
}

// lane plays one story after the other on an app of its own.
type lane struct {
	*chamber
	number             int
	app, project       string
	channel            string
	admins             []string
	rng                *rand.Rand
	required           int
	auto, codeOnReject bool
	onClose            approvals.OnClose
	pipeline           int64
	lastStep           map[string]int64
	spent              map[string]string // newest accepted code of an admin
}

const (
	adminsPerLane = 3
	tortureGate   = "approve_deploy"
)

// newChamber prepares everything but the daemon.
func newChamber(ctx context.Context, dir string, lanes int, seed uint64, out io.Writer) (*chamber, error) {
	c := &chamber{out: out}
	var env []string
	for i := range lanes {
		l := newLane(c, i, seed)
		env = append(env, l.settings()...)
		c.lanes = append(c.lanes, l)
	}
	var err error
	c.Stage, err = stage.New(dir, stage.Options{Env: append(env, "RGW_RATE_LIMIT=0", "RGW_LOG_LEVEL=warn")})
	if err != nil {
		return nil, err
	}
	if c.self, err = c.MachineID(ctx); err != nil {
		return nil, err
	}
	for _, l := range c.lanes {
		if err := l.furnish(ctx); err != nil {
			return nil, err
		}
	}
	if c.Token, err = c.NewToken(ctx, "torture", "--role", "cicd", "--all-apps"); err != nil {
		return nil, err
	}
	if c.client, err = webhook.NewClient(webhook.ClientConfig{URL: c.URL, Token: c.Token, UserAgent: "torture"}); err != nil {
		return nil, err
	}
	if c.quick, err = webhook.NewClient(webhook.ClientConfig{URL: c.URL, Token: c.Token, UserAgent: "torture", RetryFor: -1}); err != nil {
		return nil, err
	}
	c.log, err = os.Create(filepath.Join(dir, "daemon.log"))
	return c, err
}

func newLane(c *chamber, i int, seed uint64) *lane {
	l := &lane{
		chamber: c, number: i, app: fmt.Sprintf("app%02d", i), project: fmt.Sprintf("gh/MyOrg/app%02d", i), channel: fmt.Sprintf("C0LANE%02d", i),
		rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), required: 1, auto: i%8 != 7, codeOnReject: i%5 == 4, lastStep: map[string]int64{}, spent: map[string]string{},
	}
	if i%4 == 3 {
		l.required = 2
	}
	l.onClose = []approvals.OnClose{approvals.CloseCancelJob, approvals.CloseCancelWorkflow, approvals.CloseNothing}[i%3]
	for n := range adminsPerLane {
		l.admins = append(l.admins, fmt.Sprintf("U0L%02dA%d", i, n))
	}
	return l
}

func (l *lane) settings() []string {
	prefix := "RGW_APP_" + strings.ToUpper(l.app) + "_SETTING_"
	set := []string{
		prefix + "VCS_REPO=" + strings.TrimPrefix(l.project, "gh/"), prefix + "CIRCLECI_APPROVAL_JOB_NAME=" + tortureGate,
		prefix + "SLACK_CHANNEL=" + l.channel, prefix + "ON_CLOSE=" + string(l.onClose), prefix + fmt.Sprintf("REQUIRED_APPROVALS=%d", l.required),
		prefix + fmt.Sprintf("CIRCLECI_AUTO_APPROVE_ON_APPROVAL=%t", l.auto), prefix + fmt.Sprintf("MFA_ON_REJECT=%t", l.codeOnReject),
	}
	if l.number == 0 {
		set = append(set, prefix+"PENDING_TTL=1m")
	}
	return set
}

func (l *lane) furnish(ctx context.Context) error {
	l.Circle.AddProject(circlecitest.Project{Slug: l.project})
	for i, id := range l.admins {
		l.Slack.SetUser(slacktest.User{ID: id, Name: strings.ToLower(id), RealName: id})
		if err := l.Admin(ctx, id, id, fmt.Sprintf("login%02d-%d", l.number, i)); err != nil {
			return err
		}
	}
	l.Slack.SetChannel(slacktest.Channel{ID: l.channel, Name: l.app, Members: append([]string{l.Slack.Config().BotUserID}, l.admins...)})
	return nil
}

// violation keeps a broken promise with all that tells of its cause.
func (c *chamber) violation(what string) {
	fmt.Fprintf(c.out, "VIOLATION %s\n", what)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = append(c.broken, what)
}

// keepAnchor keeps what the daemon last signed.
func (c *chamber) keepAnchor() {
	text, err := os.ReadFile(c.Variable("RGW_ANCHOR_FILE"))
	if err != nil {
		return // not written yet
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.anchors); n == 0 || string(c.anchors[n-1]) != string(text) {
		c.anchors = append(c.anchors, text)
	}
}

// autopsy judges log and file while no daemon runs.
func (c *chamber) autopsy(ctx context.Context) ([]approvals.Event, error) {
	events, found, err := autopsy(ctx, c.Stage, c.anchors)
	for _, f := range found {
		c.violation(f)
	}
	return events, err
}
