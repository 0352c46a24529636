package gatewayd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

// A stop takes at most stopTime.
const (
	stopTime = 8 * time.Second
	// stopGrace is how long calls and clicks under way may take to finish.
	stopGrace = 5 * time.Second
	// stopCalls is how long calls may take to end once they were cancelled.
	stopCalls = time.Second
	// stopClaims is for how long more deliveries begin. They take some seconds at
	// most after that.
	stopClaims = 1500 * time.Millisecond
	// stopRecord is how long the last entries of the log may take.
	stopRecord = time.Second
)

func (c *program) serve() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Run the bot: webhook, Slack, CircleCI and store in one process", Args: cobra.NoArgs,
		Example: "  rack-gatewayd serve",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := serveConfig(c.env)
			if err != nil {
				return err
			}
			c.Service = true
			d := &daemon{cfg: cfg, operator: c.operator(), log: newLog(c.Err, cfg.LogLevel, cfg.LogFormat)}
			if cfg.database == "" {
				d.name = nodeName(c.env)
				d.log = d.log.With("node", d.name)
			}
			return d.serve(cmd.Context())
		},
	}
}

// daemon is one running serve.
type daemon struct {
	cfg      config
	log      *slog.Logger
	operator string // who runs it
	name     string // of the node, "" with SQLite

	waitsFor atomic.Pointer[webhook.Part] // before the service works
	lock     *sqlite.Lock                 // nil with a server
	company  atomic.Pointer[company]
	db       *store.DB
	joined   string // the name of this opening of the database
	begun    int64  // the size of the log at the start
	signer   *ledger.Signer
	clock    *clock
	ci       *circleci.Client
	slack    *bot.Workspace
	service  *approvals.Service
	bot      *bot.Bot
	api      *webhook.Handler
	anchor   *anchor
	metrics  *metrics
	broken   string // why the log must not be continued, "" = fine
	health   health
	doubt    chan struct{} // has watchCI ask CircleCI now; see askAgain
}

func (d *daemon) serve(ctx context.Context) error {
	if err := closedDirectories(d.cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	doors, err := d.openDoors(cancel)
	if err != nil {
		return err
	}
	defer doors.server.Close()
	if err := d.open(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return ended(ctx) // stopped while it waited
		}
		return err
	}
	defer d.close()
	if err := d.build(); err != nil {
		return err
	}
	err = d.patiently(ctx, func() error {
		if err := d.db.View(ctx, func(tx approvals.Tx) (err error) { d.begun, err = tx.Ledger().Size(); return err }); err != nil {
			return err
		}
		return d.service.Start(ctx, d.cfg.SlackChannel, cli.Version())
	})
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return ended(ctx)
		}
		return fmt.Errorf("start: %w", err)
	}
	return d.run(ctx, cancel, doors)
}

// ended returns why ctx ended; nil when somebody stopped the daemon.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// open waits until no other serve holds the database file, or until the database
// server answers, and opens the database and the log.
func (d *daemon) open(ctx context.Context) error {
	if d.cfg.database != "" {
		lock, err := sqlite.TryLock(d.cfg.database)
		if errors.Is(err, engine.ErrLocked) {
			d.waitFor(webhook.StatusStandby, "another serve holds the database; waiting for it to end")
			lock, err = sqlite.WaitLock(ctx, d.cfg.database)
		}
		if err != nil {
			return fmt.Errorf("lock the database: %w", err)
		}
		d.lock = lock
	}
	err := d.patiently(ctx, func() (err error) {
		if d.db, err = store.Open(ctx, d.cfg.store()); err != nil {
			return err
		}
		if err = d.openLog(ctx); err != nil {
			err = errors.Join(err, d.db.Close())
			d.db = nil
		}
		return err
	})
	if err != nil {
		d.close()
	}
	return err
}

// patiently repeats a step of the start while a server does not answer. What is
// wrong with a file does not pass by itself.
func (d *daemon) patiently(ctx context.Context, step func() error) error {
	for {
		err := step()
		if err == nil || d.cfg.database != "" || !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		d.waitFor(webhook.StatusWaiting, err.Error())
		if !approvals.Pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// waitFor says once for what the daemon waits. A daemon that stands by is as it should
// be; for anything else the operator may be needed.
func (d *daemon) waitFor(status, why string) {
	part, level := webhook.Part{Status: status, Detail: why}, slog.LevelWarn
	if status == webhook.StatusStandby {
		level = slog.LevelInfo
	}
	if before := d.waitsFor.Swap(&part); before == nil || *before != part {
		d.log.Log(context.Background(), level, why)
	}
}

// held is nil while this process may decide and release: nobody else works in its
// place.
func (d *daemon) held() error {
	if d.lock != nil {
		return d.lock.Held()
	}
	return d.db.Respected()
}

// sound is nil while a database on a server still has everything that this process
// knows to be committed. With SQLite, the probe watches the file instead.
func (d *daemon) sound() error {
	if d.lock != nil {
		return nil
	}
	return d.db.Sound()
}

// closedDirectories refuses a directory in which everybody may replace the files
// that everything here rests on. Where only the owner of a file may do that (the
// sticky bit, as in /tmp), it does not matter who else may add one.
func closedDirectories(cfg config) error {
	for name, file := range map[string]string{"RGW_DATABASE_URL": cfg.database, "RGW_ANCHOR_FILE": cfg.AnchorFile} {
		if file == "" {
			continue
		}
		dir := filepath.Dir(file)
		info, err := os.Stat(dir)
		if err != nil {
			continue // it is made, or whoever uses it says why it cannot be
		}
		if mode := info.Mode(); mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0 {
			return fmt.Errorf("%s: everybody on this machine may replace the files in %s (its mode is %04o): run chmod o-w on it", name, dir, mode.Perm())
		}
	}
	return nil
}

func (d *daemon) openLog(ctx context.Context) error {
	if err := d.db.Join(ctx, d.node()); err != nil {
		return err
	}
	d.joined = d.db.ID()
	var err error
	if d.signer, err = approvals.OpenLog(ctx, d.db); err != nil {
		return err
	}
	if d.broken, err = checkAnchor(ctx, d.cfg.AnchorFile, d.db, d.signer); err != nil {
		return err
	}
	switch {
	case d.broken != "":
		d.log.Error("nothing is approved: " + d.broken)
		return d.db.Doubt(ctx) // Slack may already have what an old copy is about to post
	case d.cfg.AnchorFile != "" && missing(d.cfg.AnchorFile):
		d.log.Warn("RGW_ANCHOR_FILE did not exist and is created now, so nobody can tell whether this database is an old copy")
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func (d *daemon) close() {
	if d.db != nil {
		if err := d.db.Close(); err != nil {
			d.log.Error("close the database", "err", err)
		}
	}
	if d.lock == nil {
		return
	}
	if err := d.lock.Release(); err != nil {
		d.log.Error("release the lock", "err", err)
	}
}

// slackTime ends a call to Slack that does not come back.
const slackTime = 10 * time.Second

// build wires the packages together; nothing runs yet.
func (d *daemon) build() error {
	d.doubt = make(chan struct{}, 1)
	d.clock = &clock{log: d.log, again: d.askAgain}
	d.metrics = newMetrics()
	var err error
	circle := d.cfg.circle()
	circle.OnDate, circle.OnCall = d.dated(d.clock.observe), d.called
	circle.HTTP.Transport = heldTransport{circle.HTTP.Transport, d.db.Holds}
	if d.ci, err = circleci.New(circle); err != nil {
		return err
	}
	code, err := d.cfg.codeHost()
	if err != nil {
		return err
	}
	d.slack = bot.Open(bot.Settings{
		BotToken: d.cfg.SlackBotToken.reveal(), AppToken: d.cfg.SlackAppToken.reveal(),
		SigningSecret: d.cfg.SlackSigning.reveal(), APIURL: d.cfg.SlackAPIURL,
		HTTPClient: &http.Client{Timeout: slackTime, Transport: datedTransport{heldTransport{outbound(), d.db.Holds}, d.dated(d.clock.observeSlack)}},
	})
	d.service = approvals.New(approvals.Config{
		Store: d.db, CI: d.ci, Directory: d.slack, Code: code, Identity: d.cfg.identity(), Settings: d.cfg.settings, Log: d.log,
		Poll: d.cfg.poll, Hold: d.hold, Nodes: d.nodes, Signer: d.signer, Rolled: d.broken, Operator: d.operator,
	})
	d.bot = bot.New(bot.Config{Workspace: d.slack, Service: d.service, Links: d.ci.Links(), Log: d.log, Metrics: d.metrics.bot(), Nodes: d.nodes})
	d.api = webhook.New(webhook.Config{
		Service: audit.Log{Service: d.service, Store: d.db}, Links: d.ci.Links(), Ready: d.ready, RateLimit: d.cfg.rateLimit,
		TrustedProxies: d.cfg.proxies, Log: d.log, Observe: d.metrics.served,
	})
	if d.cfg.AnchorFile != "" && d.broken == "" {
		d.anchor = &anchor{path: d.cfg.AnchorFile, service: d.service, held: d.held, written: d.metrics.anchors.Inc}
	}
	return nil
}

// codeHost is the client of GitHub, nil without a token.
func (c *config) codeHost() (approvals.CodeHost, error) {
	if c.GitHubToken.reveal() == "" {
		return nil, nil
	}
	return github.New(c.gitHub())
}

// dated compares the clock that times are taken from: with a database server, that is
// the server's.
func (d *daemon) dated(observe func(server, local time.Time)) func(server, local time.Time) {
	return func(server, local time.Time) { observe(server, local.Add(d.db.Skew())) }
}

// hold says why no decision may be taken now.
func (d *daemon) hold() string {
	if err := d.health.fault(partIntegrity); err != nil {
		return err.Error()
	}
	if err := d.db.Damage(); err != nil {
		return err.Error()
	}
	if err := cmp.Or(d.sound(), d.health.lastWrite()); err != nil {
		return unwritable(err)
	}
	if err := d.held(); err != nil {
		return "another process may work on the database: " + err.Error()
	}
	if why := d.differs(); why != "" {
		return why
	}
	if why := apart(d.db.Skew(), skewHold); why != "" {
		return why
	}
	return d.clock.fault()
}

// run works until ctx ends, then stops within stopTime.
func (d *daemon) run(ctx context.Context, cancel context.CancelCauseFunc, doors *doors) error {
	// Workers outlive the servers: a click that is being answered may still
	// enqueue what they deliver.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()

	if d.cfg.database == "" {
		d.look(ctx) // who shares the rates with this node
	}
	doors.admit(d)
	d.log.Info("serving", "address", doors.listener.Addr().String(), "version", cli.Version(), "transport", d.transport(), "apps", len(d.cfg.settings.Apps()))

	var front, back sync.WaitGroup
	if d.anchor != nil {
		back.Go(func() { d.anchor.run(working, d.anchored) })
	}
	worker := &approvals.Worker{Service: d.service, Observe: d.metrics.delivered, Slack: d.bot}
	back.Go(func() { worker.Run(working) })
	front.Go(func() { d.connect(ctx, cancel) })
	front.Go(func() { d.watchCI(ctx) })
	first := checkEvery
	if d.db.Unclean() {
		first = 0
	}
	front.Go(func() { d.health.checkFile(ctx, first, d.db.Check, d.log) })
	front.Go(func() {
		watch := storeWatch{
			probe: func(ctx context.Context) error { return d.health.canWrite(ctx, d.canWrite) },
			gone:  func() bool { return d.cfg.database != "" && missing(d.db.Path()) },
			log:   d.log,
		}
		if err := watch.run(ctx); err != nil {
			cancel(err)
		}
	})

	if d.cfg.database == "" {
		back.Go(func() { d.live(working, cancel) })
	}
	<-ctx.Done()
	d.log.Info("stopping")
	stopping, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer done()
	var ending sync.WaitGroup
	ending.Go(func() { doors.close(stopping, d) })
	front.Wait()
	// The sockets are gone, so that no more clicks come in.
	ending.Go(d.bot.Close)
	// What becomes due later is delivered after the next start.
	timer := time.AfterFunc(stopClaims, stopWorking)
	defer timer.Stop()
	ending.Wait()
	stopWorking()
	back.Wait()
	d.record(stopping)
	return ended(ctx)
}

// record writes the last entries of the log. They get their time even when the stop
// has used up all of its own.
func (d *daemon) record(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), stopRecord)
	defer done()
	d.wentBack(ctx, d.sound()) // the next start must know
	if err := d.service.Stop(ctx); err != nil {
		d.log.Error("record the stop", "err", err)
	}
	if err := d.db.Leave(ctx); err != nil {
		d.log.Error("hand over what was claimed", "err", err)
	}
}

func (d *daemon) transport() string {
	if d.cfg.SlackAppToken.reveal() != "" {
		return "socket"
	}
	return "http"
}

// connect binds the database to the workspace and then keeps the socket, if
// there is one, until ctx ends. Without Slack requests are taken all the same.
func (d *daemon) connect(ctx context.Context, fail context.CancelCauseFunc) {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		id, err := d.slack.Connect(ctx)
		if err == nil {
			if err = d.service.Bind(ctx, id.Team); errors.Is(err, approvals.ErrOtherWorkspace) {
				fail(fmt.Errorf("%w: the bot token is of %s; use another RGW_DATABASE_URL or the right SLACK_BOT_TOKEN", err, id.Team))
				return
			}
		}
		if errors.Is(err, bot.ErrOrganisation) {
			fail(err)
			return
		}
		d.health.set("slack", err)
		if err == nil {
			d.log.Info("connected to Slack", "team", id.Team)
			break
		}
		d.log.Error("Slack cannot be reached", "err", err, "again_in", pause)
		if !approvals.Pause(ctx, pause) {
			return
		}
	}
	for _, f := range d.slack.Check(ctx, d.cfg.settings.Channels()...) {
		if !f.OK() {
			d.log.Error("Slack is not set up", "subject", f.Subject, "fault", f.Fault)
		}
	}
	if d.transport() == "socket" {
		if err := d.bot.RunSocket(ctx); err != nil {
			d.log.Error("the socket to Slack ended", "err", err)
		}
	}
}

const (
	askCI      = time.Minute
	askCIFast  = 15 * time.Second // while it cannot be used
	askCILeast = 2 * time.Second
)

// watchCI asks now and then who we are at CircleCI: whether the token works,
// and what time it is there. It asks at once when other calls make it doubtful.
func (d *daemon) watchCI(ctx context.Context) {
	for {
		_, err := d.ci.Me(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := askCI
		if err != nil {
			pause = askCIFast
		}
		if d.health.set("circleci", err) {
			if err != nil {
				d.log.Error("CircleCI cannot be used", "err", err)
			} else {
				d.log.Info("CircleCI can be used again")
			}
		}
		if !approvals.Pause(ctx, askCILeast) {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-d.doubt:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// called takes in how a call to CircleCI went.
func (d *daemon) called(op string, status int, took time.Duration) {
	d.metrics.called(op, status, took)
	bad := status == 0 || status == http.StatusUnauthorized || status >= 500
	if op != "me" && bad != (d.health.fault("circleci") != nil) {
		d.askAgain()
	}
}

// askAgain has [daemon.watchCI] ask CircleCI soon.
func (d *daemon) askAgain() {
	select {
	case d.doubt <- struct{}{}:
	default:
	}
}
