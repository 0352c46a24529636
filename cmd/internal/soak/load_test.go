package soak_test

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// loadPlan is what is measured.
type loadPlan struct {
	rate, pending, decided, apps int
	length, drain, idle          time.Duration
}

// TestLoad fails only when a step cannot be made. Briefly, its figures say nothing.
func TestLoad(t *testing.T) {
	p := loadPlan{rate: 20, pending: 20, decided: 2, apps: 300, length: *loadFor, drain: 20 * time.Second}
	if begin(t, "load-for", "load-rate", "load-pending", "load-decided", "load-apps", "load-drain", "load-idle", "load-daemon", "load-history") {
		p = loadPlan{*loadRate, *loadPending, *loadDecided, *loadApps, *loadFor, *loadDrain, *loadIdle}
		enough(t, p.length+p.drain+p.idle+time.Duration(p.pending)*50*time.Millisecond+time.Duration(p.decided)*4*time.Second)
	}
	if p.rate < 1 || p.apps < 1 || p.apps > 999 || p.pending < 0 || p.decided < 0 || p.decided >= p.apps {
		t.Fatal("-load-rate must be at least 1, -load-apps 1 to 999, and -load-decided less than these")
	}
	if err := measure(t.Context(), directory(t, "load"), p, t.Output()); err != nil {
		t.Fatal(err)
	}
}

// bench is the daemon under measurement.
type bench struct {
	*stage.Stage
	plan   loadPlan
	out    io.Writer
	log    *os.File
	caller *caller
	next   int64 // pipeline number
	daemon *stage.Process
	used   map[string]int64 // newest step of an admin's codes
}

func measure(ctx context.Context, dir string, p loadPlan, out io.Writer) error {
	b := &bench{plan: p, out: out, used: map[string]int64{}}
	var err error
	env := p.settings()
	if *loadHistory != "" {
		env = append(env, "RGW_DATABASE_URL=sqlite:"+*loadHistory, "RGW_SECRET_KEYS="+storetest.Keys)
	}
	if b.Stage, err = stage.New(dir, stage.Options{Env: env}); err != nil {
		return err
	}
	defer b.Close()
	if b.log, err = os.Create(filepath.Join(dir, "daemon.log")); err != nil {
		return err
	}
	defer b.log.Close()
	if err := b.furnish(ctx); err != nil {
		return err
	}
	if b.Token, err = b.NewToken(ctx, "load-"+strings.ToLower(cryptorand.Text()), "--role", "cicd", "--all-apps"); err != nil {
		return err
	}
	b.caller = newCaller(b.URL, b.Token)
	for _, step := range []func(context.Context) error{b.disk, b.startFirst, b.rest, b.decisions, b.fill, b.throughput, b.steady, b.drain, b.decisions, b.operate, b.restart} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := b.daemon.Stop(); err != nil {
		return err
	}
	return b.disk(ctx)
}

// disk tells how fast the disk is, while no daemon runs.
func (b *bench) disk(context.Context) error {
	f, err := storetest.RateF(b.Dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%-34s %.0f/s\n", "F, 24 KiB overwritten with fsync", f)
	return nil
}

// settings are the variables of the daemon. Open gates are looked at as often as in
// production: with the second of the tests, a few of them are most of what an idle
// daemon does.
func (p loadPlan) settings() []string {
	env := []string{"RGW_RATE_LIMIT=0", "RGW_LOG_LEVEL=error", "RGW_POLL_INTERVAL=15s", "RGW_SETTING_SUPERSEDE=off", "RGW_SETTING_ON_CLOSE=nothing", "RGW_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true"}
	for i := range p.apps {
		prefix := "RGW_APP_" + strings.ToUpper(loadApp(i)) + "_SETTING_"
		env = append(env, prefix+"VCS_REPO=MyOrg/"+loadApp(i), prefix+"CIRCLECI_APPROVAL_JOB_NAME="+stage.Gate, prefix+"SLACK_CHANNEL="+loadChannel(i))
	}
	return env
}

func loadApp(i int) string     { return fmt.Sprintf("load%03d", i) }
func loadChannel(i int) string { return fmt.Sprintf("C0LOAD%03d", i) }
func loadAdmin(i int) string   { return fmt.Sprintf("U0LOAD%03d", i) }

func (b *bench) furnish(ctx context.Context) error {
	for i := range b.plan.apps {
		b.Circle.AddProject(circlecitest.Project{Slug: "gh/MyOrg/" + loadApp(i)})
		members := []string{b.Slack.Config().BotUserID}
		if i < b.plan.decided {
			b.Slack.SetUser(slacktest.User{ID: loadAdmin(i)})
			if err := b.Admin(ctx, loadAdmin(i), loadAdmin(i), "login-"+loadApp(i)); err != nil {
				return err
			}
			members = append(members, loadAdmin(i))
		}
		b.Slack.SetChannel(slacktest.Channel{ID: loadChannel(i), Members: members})
	}
	return nil
}

// push starts a pipeline of one app after the other, but for those that are kept
// for decisions, and returns what its job sends.
func (b *bench) push() []byte {
	crowd := b.plan.apps - b.plan.decided
	_, body := b.pushTo(b.plan.decided + int(b.next)%crowd)
	return body
}

// pushTo starts a pipeline whose gate is on hold.
func (b *bench) pushTo(app int) (workflow string, body []byte) {
	b.next++
	p := b.Circle.AddPipeline(circlecitest.Pipeline{
		Number: b.next, Project: "gh/MyOrg/" + loadApp(app), Revision: stage.Revision, Branch: stage.Branch, ActorLogin: stage.Starter,
	})
	workflow = b.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Name: "deploy", Jobs: []circlecitest.Job{
		{Name: stage.Gate, Type: "approval"}, {Name: "deploy", Requires: circlecitest.Requires(stage.Gate)},
	}})
	body = fmt.Appendf(nil, `{"app":%q,"git_commit":%q,"branch":%q,"message":"Deploy","ci_metadata":{"workflow_id":%q}}`,
		loadApp(app), stage.Revision, stage.Branch, workflow)
	return workflow, body
}

func (b *bench) startFirst(ctx context.Context) error {
	if *loadHistory == "" {
		return b.start(ctx, "start, empty database")
	}
	began := time.Now()
	if err := b.start(ctx, "start with a history"); err != nil {
		return err
	}
	for verified := false; !verified; verified = b.verified(ctx) {
		t, err := b.creates(ctx, 1, func(n int) bool { return n < 10 })
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "%-34s %s\n", "create while the log is verified", t)
	}
	fmt.Fprintf(b.out, "%-34s after %s\n", "the log is verified", short(time.Since(began)))
	b.memory("memory with a history")
	return nil
}

// verified reports whether the daemon has read the whole log.
func (b *bench) verified(ctx context.Context) bool {
	if pause(ctx, 5*time.Second) != nil {
		return true
	}
	resp, err := http.Get(b.Health + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return err == nil && !strings.Contains(string(text), "being verified")
}

// start starts the daemon and tells how long it took to be ready.
func (b *bench) start(ctx context.Context, what string) error {
	began := time.Now()
	var err error
	if b.daemon, err = b.SpawnProgram(*loadDaemon, b.log); err != nil {
		return err
	}
	own, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	answers := make(chan time.Duration, 1)
	go func() { answers <- b.caller.untilReady(own, began) }()
	if err := b.Ready(own, b.daemon); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%-34s ready after %s, connected to Slack after %s\n", what, short(<-answers), short(time.Since(began)))
	b.memory("memory now")
	return nil
}

// rest watches the daemon while it has nothing to do.
func (b *bench) rest(ctx context.Context) error {
	if b.plan.idle == 0 {
		return nil
	}
	before, err := b.daemon.Used()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.plan.idle):
	}
	after, err := b.daemon.Used()
	if err != nil {
		return err
	}
	seconds := b.plan.idle.Seconds()
	fmt.Fprintf(b.out, "%-34s %.1f s of CPU an hour, %.0f wake-ups a second\n", "idle for "+b.plan.idle.String(),
		(after.CPU-before.CPU).Seconds()/seconds*3600, float64(after.WakeUps-before.WakeUps)/seconds)
	b.memory("memory now")
	return nil
}

func (b *bench) fill(ctx context.Context) error {
	if b.plan.pending == 0 {
		return nil
	}
	began := time.Now()
	t, err := b.creates(ctx, 16, func(n int) bool { return n < b.plan.pending })
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%-34s %.0f/s, %s\n", fmt.Sprintf("create %d pending, 16 at once", b.plan.pending), float64(len(t))/time.Since(began).Seconds(), t)
	b.memory("memory with these")
	return nil
}

func (b *bench) throughput(ctx context.Context) error {
	length := min(3*time.Second, b.plan.length)
	for _, many := range []int{1, 8, 32} {
		began := time.Now()
		t, err := b.creates(ctx, many, func(int) bool { return time.Since(began) < length })
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "%-34s %.0f/s, %s\n", fmt.Sprintf("create, %d at once", many), float64(len(t))/time.Since(began).Seconds(), t)
	}
	return nil
}

// drain waits until every request has its card, and the thread of that its first line.
func (b *bench) drain(ctx context.Context) error {
	began, made := time.Now(), int(b.caller.made.Load())
	_, first := b.stand()
	cards, lines := 0, 0
	for {
		if cards, lines = b.stand(); cards >= made && lines >= made || time.Since(began) >= b.plan.drain {
			break
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	took := time.Since(began)
	fmt.Fprintf(b.out, "%-34s %d of %d, first lines %d, after another %s, %.0f/s\n", "cards that stand", cards, made, lines, short(took), float64(lines-first)/took.Seconds())
	return nil
}

// stand counts the cards, and the threads that have their first line.
func (b *bench) stand() (cards, lines int) {
	for i := range b.plan.apps {
		begun := map[string]bool{}
		for _, m := range b.Slack.AllMessages(loadChannel(i)) {
			if m.ThreadTS == "" {
				cards++
			} else {
				begun[m.ThreadTS] = true
			}
		}
		lines += len(begun)
	}
	return cards, lines
}

// decisions approves requests one after the other.
func (b *bench) decisions(ctx context.Context) error {
	var card, modal, answer, post times
	for i := range b.plan.decided {
		took, err := b.decide(ctx, i)
		if err != nil {
			fmt.Fprintf(b.out, "decision %d: %v\n", i, err)
			break
		}
		card, modal, answer, post = append(card, took[0]), append(modal, took[1]), append(answer, took[2]), append(post, took[3])
	}
	if b.plan.decided > 0 {
		fmt.Fprintf(b.out, "%-34s %s\n", "create to card", card)
		fmt.Fprintf(b.out, "%-34s %s\n", "click to modal", modal)
		fmt.Fprintf(b.out, "%-34s %s\n", "submission to answer", answer)
		fmt.Fprintf(b.out, "%-34s %s\n", "decision recorded to approve call", post)
	}
	b.memory("memory now")
	return ctx.Err()
}

// decide plays one approval in the channel of app i.
func (b *bench) decide(ctx context.Context, i int) (took [4]time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	workflow, body := b.pushTo(i)
	began := time.Now()
	id, err := b.caller.create(ctx, body)
	if err != nil {
		return took, err
	}
	var card slacktest.Message
	find := func() bool {
		for _, m := range b.Slack.Messages(loadChannel(i)) {
			if proof.IsCard(m, id) {
				card = m
				return true
			}
		}
		return false
	}
	if err := b.Slack.Wait(ctx, find); err != nil {
		return took, fmt.Errorf("no card: %w", err)
	}
	took[0] = time.Since(began)
	// A person takes longer to press than the daemon to record where the card stands.
	if err := b.caller.recorded(ctx, id); err != nil {
		return took, err
	}
	user := loadAdmin(i)
	began = time.Now()
	if _, err := b.Slack.Click(ctx, user, card.Channel, card.TS, bot.ActionApprove); err != nil {
		return took, err
	}
	view, err := b.Slack.WaitView(ctx, user)
	if err != nil {
		return took, err
	}
	took[1] = time.Since(began)
	code, err := b.code(ctx, user)
	if err != nil {
		return took, err
	}
	began = time.Now()
	got, err := b.Submit(ctx, user, view, code)
	took[2] = time.Since(began)
	if err != nil || !got.Closed {
		return took, errors.Join(err, fmt.Errorf("the code was not accepted: %v", got.Errors))
	}
	if err := b.Circle.Wait(ctx, func() bool { return len(b.Circle.Approvals(workflow)) > 0 }); err != nil {
		return took, fmt.Errorf("no approve call: %w", err)
	}
	decided, err := b.caller.decided(ctx, id)
	took[3] = max(0, b.Circle.Approvals(workflow)[0].At.Sub(decided))
	return took, err
}

// code waits for a code that was not used before.
func (b *bench) code(ctx context.Context, user string) (string, error) {
	var step int64
	err := again(ctx, func() bool {
		now := totp.Step(time.Now())
		step = max(b.used[user]+1, now)
		return step <= now+1
	})
	b.used[user] = step
	return b.Code(user, time.Unix(step*30, 0)), err
}

// restart kills the daemon, then ends it well, and starts it on what it left.
func (b *bench) restart(ctx context.Context) error {
	b.daemon.Kill()
	if err := b.start(ctx, fmt.Sprintf("start after SIGKILL, %d requests", b.caller.made.Load())); err != nil {
		return err
	}
	if err := b.daemon.Stop(); err != nil {
		return err
	}
	return b.start(ctx, "start after SIGTERM")
}

// operate runs a command of the operator beside the daemon.
func (b *bench) operate(context.Context) error {
	began := time.Now()
	if printed, err := b.OperatorProgram(*loadDaemon, "user", "add", "--slack-id", "U0LOADNEW", "--vcs-login", "load-new"); err != nil {
		return fmt.Errorf("add a person: %w: %s", err, printed)
	}
	fmt.Fprintf(b.out, "%-34s %s\n", "the operator adds a person", short(time.Since(began)))
	return nil
}
