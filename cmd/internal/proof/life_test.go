package proof_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// life is the product from one start to its crash, wired as serve does it.
type life struct {
	dead   atomic.Bool
	gone   chan struct{}
	once   sync.Once
	cancel context.CancelFunc

	service *approvals.Service
	bot     *bot.Bot
	running sync.WaitGroup
}

// die ends the process at once: nothing that is still under way gets out or is
// written.
func (l *life) die() {
	l.once.Do(func() {
		l.dead.Store(true)
		close(l.gone)
		l.cancel()
	})
}

// mortal is the store of one life. It crashes after commit number crashAt, 0 =
// never.
type mortal struct {
	db      *store.DB
	life    *life
	commits atomic.Int64
	crashAt int64
	total   *atomic.Int64
}

// Update implements approvals.Store.
func (m *mortal) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	err := m.db.Update(ctx, func(tx approvals.Tx) error {
		if m.life.dead.Load() {
			return errDead
		}
		return fn(tx)
	})
	if err != nil {
		return err
	}
	m.total.Add(1)
	if m.commits.Add(1) == m.crashAt {
		m.life.die()
	}
	if m.life.dead.Load() {
		return errDead
	}
	return nil
}

// View implements approvals.Store.
func (m *mortal) View(ctx context.Context, fn func(approvals.Tx) error) error {
	if m.life.dead.Load() {
		return errDead
	}
	return m.db.View(ctx, fn)
}

// live starts the product on what the life before left. It returns nil when it
// crashed already.
func (w *world) live(ctx context.Context, crashAt int) (*life, error) {
	l := &life{gone: make(chan struct{})}
	ctx, l.cancel = context.WithCancel(ctx)
	if err := w.db.ReleaseLeases(ctx); err != nil {
		return nil, err
	}
	signer, err := approvals.OpenLog(ctx, w.db)
	if err != nil {
		return nil, err
	}
	out := &http.Client{Transport: line{w.net, l}, Timeout: 10 * time.Second}
	client, err := circleci.New(circleci.Config{URL: "http://" + circleHost + "/api/v2", Token: circleToken, HTTP: out})
	if err != nil {
		return nil, err
	}
	cfg := w.slack.Config()
	workspace := bot.Open(bot.Settings{
		BotToken: cfg.BotToken, SigningSecret: cfg.SigningSecret, APIURL: "http://" + slackHost + "/api/", HTTPClient: out,
	})
	l.service = approvals.New(approvals.Config{
		Store: &mortal{db: w.db, life: l, crashAt: int64(crashAt), total: &w.commits}, CI: client, Directory: workspace,
		Settings: w.settings, Poll: 2 * time.Second, Signer: signer,
	})
	l.bot = bot.New(bot.Config{Workspace: workspace, Service: l.service, Links: client.Links()})
	if err := l.service.Start(ctx, w.lanes[0].channel, "proof"); err != nil {
		if errors.Is(err, errDead) {
			return l, nil
		}
		return nil, err
	}
	worker := &approvals.Worker{Service: l.service, Deliver: map[approvals.Kind]approvals.Deliverer{
		approvals.CardPost: l.bot, approvals.CardUpdate: l.bot, approvals.ThreadReply: l.bot, approvals.Notice: l.bot,
	}}
	l.running.Go(func() { worker.Run(ctx) })
	l.running.Go(func() {
		for ctx.Err() == nil {
			id, err := workspace.Connect(ctx)
			if err == nil {
				err = l.service.Bind(ctx, id.Team)
			}
			if err == nil {
				return
			}
			rest(ctx, time.Second)
		}
	})
	return l, nil
}

// rest waits in simulated time; false when ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
