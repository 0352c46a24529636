package proof_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github/githubtest"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// life is the product from one start to its crash, wired as serve does it.
type life struct {
	dead   atomic.Bool
	gone   chan struct{}
	once   sync.Once
	cancel context.CancelFunc

	db      *store.DB
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
// never, and loses the answers of some commits.
type mortal struct {
	world   *world
	life    *life
	commits atomic.Int64
	crashAt int64
}

// lostAnswer is a commit whose answer is an error, the first one after so many of
// all lives. It may have been made, or not.
type lostAnswer struct {
	At   int
	Made bool
}

// errLost is what a store answers when it cannot know what became of a commit.
var errLost = fmt.Errorf("commit: %w", store.ErrUnavailable)

// Update implements approvals.Store.
func (m *mortal) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	var lost *lostAnswer
	err := m.life.db.Update(ctx, func(tx approvals.Tx) error {
		if m.life.dead.Load() {
			return errDead
		}
		if err := fn(tx); err != nil {
			return err
		}
		if lost = m.world.loses(); lost != nil && !lost.Made {
			return errLost
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.world.commits.Add(1)
	if m.commits.Add(1) == m.crashAt {
		m.life.die()
	}
	if m.life.dead.Load() {
		return errDead
	}
	if lost != nil {
		return errLost
	}
	return nil
}

// View implements approvals.Store.
func (m *mortal) View(ctx context.Context, fn func(approvals.Tx) error) error {
	if m.life.dead.Load() {
		return errDead
	}
	return m.life.db.View(ctx, fn)
}

// Stamp implements approvals.Store.
func (m *mortal) Stamp(ctx context.Context) (int64, error) { return m.life.db.Stamp(ctx) }

// live starts the product on what the life before left. What it returns may be
// dead already.
func (w *world) live(ctx context.Context, crashAt int) (l *life, err error) {
	l = &life{gone: make(chan struct{})}
	ctx, l.cancel = context.WithCancel(ctx)
	if l.db, err = openAt(ctx, w.path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.cancel()
			err = errors.Join(err, l.db.Close())
		}
	}()
	// A process that knows itself to be the only one ends the claims of those before.
	if w.processes == 1 {
		if err := l.db.Join(ctx, store.Node{}); err != nil {
			return nil, err
		}
	}
	signer, err := approvals.OpenLog(ctx, l.db)
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
	service := approvals.Config{
		Store: &mortal{world: w, life: l, crashAt: int64(crashAt)}, CI: client, Directory: workspace,
		Settings: w.settings, Poll: 2 * time.Second, Signer: signer,
	}
	if w.net.github != nil {
		if service.Code, err = github.New(github.Config{URL: "http://" + githubHost, Token: githubtest.Token, HTTP: out}); err != nil {
			return nil, err
		}
	}
	l.service = approvals.New(service)
	l.bot = bot.New(bot.Config{Workspace: workspace, Service: l.service, Links: client.Links()})
	if err := l.service.Start(ctx, w.lanes[0].Channel, "proof"); err != nil {
		if errors.Is(err, errDead) || errors.Is(err, errLost) {
			l.die() // serve ends, and is started again
			return l, nil
		}
		return nil, err
	}
	worker := &approvals.Worker{Service: l.service, Slack: l.bot}
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
			approvals.Pause(ctx, time.Second)
		}
	})
	return l, nil
}
