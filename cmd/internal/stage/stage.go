// Package stage puts the whole product on loopback: a simulated Slack, a
// simulated CircleCI, the real daemon between them and the real client. The
// demo plays on it, and the tests that count do.
//
// It is no part of the product: only the demo and tests import it.
package stage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

// Names of what every stage has. Project, gate and app are the documentation's.
const (
	Channel      = "C0DEPLOYS"
	App          = "myapp"
	Project      = "gh/MyOrg/myapp"
	Gate         = "approve_deploy_production"
	Revision     = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	Branch       = "main"
	Number       = 1234
	Starter      = "alice" // VCS login of who pushed
	Ana          = "U0ANA" // admins
	Bea          = "U0BEA"
	Alice        = "U0ALICE" // an admin, and the starter
	Carl         = "U0CARL"  // no admin
	MachineUser  = "rack-gateway-bot"
	machineToken = "circleci-machine-token"
)

// Options change a stage; the zero value is Socket Mode with the settings of
// the documentation.
type Options struct {
	// HTTP uses signed requests instead of Socket Mode.
	HTTP bool
	// Env is added to the daemon's environment, and wins.
	Env []string
	// Log receives the daemon's log; nil drops it.
	Log io.Writer
	// SlackAddress and CircleAddress are where the simulators listen; "" = free ports.
	SlackAddress, CircleAddress string
}

// Stage is one product with its surroundings. Make it with [New].
type Stage struct {
	Slack  *slacktest.Server
	Circle *circlecitest.Server
	URL    string // base of the daemon's API
	Health string // base of the daemon's own listener for health and metrics
	Dir    string // holds the database
	Token  string // a cicd token for App, once [Stage.People] ran

	opts       Options
	env        []string
	stopCircle func()
	secrets    map[string]totp.Secret

	mu     sync.Mutex
	daemon *running
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
	code   int
}

// New starts both simulators and prepares the daemon's environment in dir.
func New(dir string, opts Options) (*Stage, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	health, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &Stage{
		Health: "http://" + health,
		Slack:  slacktest.New(slacktest.Config{Address: opts.SlackAddress}), Circle: circlecitest.New(),
		URL: "http://" + address, Dir: dir, opts: opts, secrets: map[string]totp.Secret{},
	}
	if err := s.Slack.Start(); err != nil {
		return nil, err
	}
	s.furnishSlack()
	circleURL, err := s.furnishCircle(cmp.Or(opts.CircleAddress, "127.0.0.1:0"))
	if err != nil {
		s.Slack.Close()
		return nil, err
	}
	cfg := s.Slack.Config()
	keys, err := s.keygen()
	if err != nil {
		return nil, err
	}
	s.env = []string{
		"RGW_LISTEN=" + address,
		"RGW_METRICS_LISTEN=" + health,
		"RGW_DATABASE_URL=sqlite:" + filepath.Join(dir, "rack-gateway.db"),
		"RGW_SECRET_KEYS=" + keys,
		"RGW_ANCHOR_FILE=" + filepath.Join(dir, "anchor"),
		"RGW_POLL_INTERVAL=1s",
		"RGW_LOG_FORMAT=json",
		"CIRCLECI_TOKEN=" + machineToken,
		"CIRCLECI_URL=" + circleURL,
		"SLACK_BOT_TOKEN=" + cfg.BotToken,
		"SLACK_API_URL=" + s.Slack.URL(),
		"SLACK_CHANNEL=" + Channel,
		"RGW_APP_MYAPP_SETTING_VCS_PROVIDER=github",
		"RGW_APP_MYAPP_SETTING_VCS_REPO=MyOrg/myapp",
		"RGW_APP_MYAPP_SETTING_CI_PROVIDER=circleci",
		"RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=" + Gate,
		"RGW_APP_MYAPP_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true",
	}
	if opts.HTTP {
		s.Slack.SetRequestURL(s.URL)
		s.env = append(s.env, "SLACK_SIGNING_SECRET="+cfg.SigningSecret)
	} else {
		s.env = append(s.env, "SLACK_APP_TOKEN="+cfg.AppToken)
	}
	s.env = append(s.env, opts.Env...)
	return s, nil
}

// stages counts the stages of this process.
var stages atomic.Uint32

// freeAddress finds a port. Where all of 127/8 is loopback, each stage takes an
// address of its own there, so that nothing else can take the port meanwhile.
func freeAddress() (string, error) {
	n := stages.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+os.Getpid()%250, n/250%250, 1+n%250))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *Stage) keygen() (string, error) {
	var out bytes.Buffer
	if code := gatewayd.Run(context.Background(), []string{"keygen"}, nil, nil, &out, io.Discard); code != 0 {
		return "", fmt.Errorf("keygen: exit %d", code)
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *Stage) furnishSlack() {
	bot := s.Slack.Config().BotUserID
	for id, name := range map[string]string{Ana: "Ana", Bea: "Bea", Alice: "Alice", Carl: "Carl"} {
		s.Slack.SetUser(slacktest.User{ID: id, Name: strings.ToLower(name), RealName: name})
	}
	s.Slack.SetChannel(slacktest.Channel{ID: Channel, Name: "deploys", Members: []string{bot, Ana, Bea, Alice, Carl}})
}

func (s *Stage) furnishCircle(address string) (url string, err error) {
	s.Circle.AddUser(circlecitest.User{Login: MachineUser, Name: "Rack Gateway"})
	for _, login := range []string{Starter, "ana", "bea", "mallory"} {
		s.Circle.AddUser(circlecitest.User{Login: login})
	}
	s.Circle.AddToken(machineToken, MachineUser)
	s.Circle.AddProject(circlecitest.Project{Slug: Project})
	url, s.stopCircle, err = s.Circle.StartAt(address)
	return url, err
}

// Pipeline pushes the documentation's commit: test, build, request_approval,
// the gate and deploy. It returns the workflow's id; request_approval is running.
func (s *Stage) Pipeline(number int64) (workflowID string) {
	p := s.Circle.AddPipeline(circlecitest.Pipeline{
		Number: number, Project: Project, Revision: Revision, Branch: Branch, Subject: "Fix the invoice rounding", ActorLogin: Starter,
	})
	id := s.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Name: "deploy", Jobs: circlecitest.DeployJobs(Gate)})
	for _, job := range []string{"test", "build"} {
		if err := s.Circle.Succeed(id, job); err != nil {
			panic(err) // the workflow was made a line above
		}
	}
	return id
}

// Environ is the daemon's environment.
func (s *Stage) Environ() []string { return s.env }

// SetEnv changes the daemon's environment for the next start.
func (s *Stage) SetEnv(kv ...string) { s.env = append(s.env, kv...) }

// Start runs the daemon in this process and returns when it is ready and, in
// Socket Mode, connected.
func (s *Stage) Start(ctx context.Context) error { return s.StartUntil(ctx, "200") }

// StartUntil starts the daemon and waits until /readyz answers with a status and
// Slack reaches it.
func (s *Stage) StartUntil(ctx context.Context, status string) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{cancel: cancel, done: make(chan struct{})}
	var stderr bytes.Buffer
	var out io.Writer = &stderr
	if s.opts.Log != nil {
		out = io.MultiWriter(&stderr, s.opts.Log)
	}
	go func() {
		defer close(r.done)
		r.code = gatewayd.Run(run, []string{"serve"}, s.env, strings.NewReader(""), io.Discard, out)
	}()
	s.mu.Lock()
	s.daemon = r
	s.mu.Unlock()
	if err := s.ready(ctx, r.done, status); err != nil {
		cancel()
		<-r.done
		return fmt.Errorf("start the daemon (exit %d): %w\n%s", r.code, err, stderr.String())
	}
	return nil
}

// ready waits until /readyz answers with a status and Slack reaches the daemon.
func (s *Stage) ready(ctx context.Context, ended <-chan struct{}, status string) error {
	if err := answers(ctx, s.URL, ended, status); err != nil {
		return err
	}
	if s.opts.HTTP {
		return s.Slack.Wait(ctx, func() bool { return len(s.Slack.CallsOf("auth.test")) > 0 })
	}
	return s.Slack.WaitSockets(ctx, 1)
}

// answers waits until /readyz of a daemon answers with a status.
func answers(ctx context.Context, base string, ended <-chan struct{}, status string) error {
	for {
		resp, err := http.Get(base + "/readyz")
		if err == nil {
			resp.Body.Close()
			if strconv.Itoa(resp.StatusCode) == status {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return fmt.Errorf("it ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the daemon as SIGTERM does and returns its exit code.
func (s *Stage) Stop() int {
	s.mu.Lock()
	r := s.daemon
	s.daemon = nil
	s.mu.Unlock()
	if r == nil {
		return 0
	}
	r.cancel()
	<-r.done
	return r.code
}

// CutCircle ends the simulated CircleCI's connections and leaves its address, so that
// connections are refused, as when a host is down. mend listens there again.
func (s *Stage) CutCircle() (mend func() error) {
	s.stopCircle()
	address := strings.TrimSuffix(strings.TrimPrefix(s.Variable("CIRCLECI_URL"), "http://"), "/api/v2")
	return func() (err error) {
		for range 50 { // somebody's outgoing connection may have the port for a moment
			if _, s.stopCircle, err = s.Circle.StartAt(address); err == nil {
				return nil
			}
			s.stopCircle = func() {}
			time.Sleep(100 * time.Millisecond)
		}
		return err
	}
}

// Close ends everything.
func (s *Stage) Close() {
	s.Stop()
	s.Slack.Close()
	s.stopCircle()
}

// Result is what a command said.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Events reads the history of a request at the API of a daemon, oldest first.
func Events(ctx context.Context, url, token, id string) ([]approvals.Event, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+webhook.Base+"/deploy-approval-requests/"+id+"/events", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read the history of request %s: %s", id, resp.Status)
	}
	var h webhook.History
	err = json.NewDecoder(resp.Body).Decode(&h)
	return h.Events, err
}

// Operator runs a command of rack-gatewayd.
func (s *Stage) Operator(ctx context.Context, stdin string, args ...string) Result {
	var out, err bytes.Buffer
	code := gatewayd.Run(ctx, args, s.env, strings.NewReader(stdin), &out, &err)
	return Result{code, out.String(), err.String()}
}

// Client runs a command of rack-gateway, with the variables that CircleCI sets
// in a job of the workflow ("" = outside of one).
func (s *Stage) Client(ctx context.Context, workflowID string, args ...string) Result {
	return s.ClientAs(ctx, s.Token, workflowID, args...)
}

// ClientAs is Client with another API token.
func (s *Stage) ClientAs(ctx context.Context, token, workflowID string, args ...string) Result {
	var out, err bytes.Buffer
	env := []string{"RACK_GATEWAY_URL=" + s.URL, "RACK_GATEWAY_API_TOKEN=" + token, "PATH=" + os.Getenv("PATH")}
	if workflowID != "" {
		env = append(env, "CIRCLE_WORKFLOW_ID="+workflowID, "CIRCLE_SHA1="+Revision, "CIRCLE_BRANCH="+Branch)
	}
	code := gateway.Run(ctx, args, env, strings.NewReader(""), &out, &err)
	return Result{code, out.String(), err.String()}
}
