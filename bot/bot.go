package bot

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Decider judges people and takes their decisions. Refusals are
// *[approvals.Refusal]; after any other error nothing is known to be decided.
type Decider interface {
	MayDecide(ctx context.Context, c approvals.Clicker, requestID string, action approvals.Action) (approvals.Prompt, error)
	Opened(ctx context.Context, c approvals.Clicker, requestID string, action approvals.Action) error
	ClickRefused(ctx context.Context, c approvals.Clicker, requestID string, action approvals.Action, why *approvals.Refusal) error
	Decide(ctx context.Context, c approvals.Clicker, requestID string, action approvals.Action, reason, code string) error
}

// Reader reads what is shown. What is not there is [approvals.ErrNotFound].
type Reader interface {
	Card(ctx context.Context, requestID string) (approvals.Card, error)
	Tell(ctx context.Context, seq int64) (approvals.Told, error)
	Untold(ctx context.Context, requestID string) (approvals.Thread, error)
	Person(ctx context.Context, slackUser string) (approvals.Person, *approvals.AuthenticatorInfo, error)
	Recent(ctx context.Context, f approvals.Filter) ([]approvals.Request, error)
	Story(ctx context.Context, idOrNumber string) (approvals.Request, []approvals.Event, error)
	Alarm(ctx context.Context) (fault string, err error)
}

// Recorder makes what has to be recorded with a delivery.
type Recorder interface {
	Posted(rendered approvals.Request, ref approvals.SlackRef, shows string) func(*approvals.Change) error
	Shown(requestID, shows string) func(*approvals.Change) error
	TellUntil(requestID string, card approvals.SlackRef, seq int64, gone bool) func(*approvals.Change) error
	CardLost(requestID string, ref approvals.SlackRef) func(*approvals.Change) error
	PostFailed(requestID, detail string) func(*approvals.Change) error
}

// Service is what the bot needs of the domain.
type Service interface {
	Decider
	Reader
	Recorder
}

// Metrics are called after each call and each event, if not nil. They must be quick.
type Metrics struct {
	// Call counts one call to Slack; result is ok or the name of the error.
	Call func(method, result string)
	// Event measures one click, submission, command or event until its answer.
	Event func(kind string, took time.Duration)
	// Connected says whether a socket stands.
	Connected func(bool)
}

// Config builds a [Bot].
type Config struct {
	Workspace *Workspace
	Service   Service
	Links     Links // nil = no links to CI
	Log       *slog.Logger
	Metrics   Metrics
	// Nodes is how many processes work for this app, this one included; they share
	// what Slack takes. nil = this one alone.
	Nodes func() int
	// Workers is how many clicks and submissions are worked on at once; 0 = 32.
	Workers int
}

// Bot is the product in one Slack workspace.
type Bot struct {
	ws      *Workspace
	service Service
	view    view
	log     *slog.Logger
	metrics Metrics
	nodes   func() int

	pace    *pace
	health  *health // the workspace's: what its own look-ups find is there, too
	workers *pool
	spare   *pool // says "busy" when the workers are
	records *pool // records what people pressed, after they were answered
	seen    *seenEvents
	presses *presses

	working context.Context // of all events; Close ends it
	end     context.CancelFunc
}

const (
	defaultWorkers = 32
	spareWorkers   = 8
	recordWorkers  = 256
)

// New makes a bot. It does nothing until events or work reach it.
func New(c Config) *Bot {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Nodes == nil {
		c.Nodes = func() int { return 1 }
	}
	if c.Workers == 0 {
		c.Workers = defaultWorkers
	}
	b := &Bot{
		ws: c.Workspace, service: c.Service, view: view{links: c.Links}, log: c.Log, metrics: c.Metrics, nodes: c.Nodes,
		health: &c.Workspace.health, pace: newPace(c.Nodes), seen: newSeenEvents(), presses: newPresses(),
	}
	b.working, b.end = context.WithCancel(context.Background())
	b.workers = newPool(c.Workers, b.panicked)
	b.spare = newPool(spareWorkers, b.panicked)
	b.records = newPool(recordWorkers, b.panicked)
	return b
}

// panicked logs a fault of ours by its place alone: its value could hold what
// a person typed.
func (b *Bot) panicked(value any) {
	b.log.Error("a Slack event ended in a panic", "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
}

// Health says whether Slack is reached as it should be, and if not, what the operator
// has to do. What was not set up is checked again meanwhile, so that a fault that was
// fixed soon disappears.
func (b *Bot) Health() (ok bool, detail string) {
	if b.ws.lookDue(time.Now()) {
		started := b.spare.try(func() {
			defer b.ws.looked()
			ctx, cancel := context.WithTimeout(b.working, lookTime)
			defer cancel()
			b.ws.lookAgain(ctx)
		})
		if !started {
			b.ws.looked()
		}
	}
	return b.health.report()
}

// Close takes no more events and waits for those that are worked on: 5.5 s at
// most, after which they are cancelled. Afterwards none of them uses the service.
func (b *Bot) Close() {
	b.workers.drain(submitTime + time.Second)
	b.spare.drain(time.Second)
	b.records.drain(time.Second)
	b.end()
	for _, p := range []*pool{b.workers, b.spare, b.records} {
		p.drain(time.Second) // what was cancelled ends at once
	}
}

// call makes one call to Slack unless its method rests, and counts it.
func (b *Bot) call(method string, do func() error) error {
	err := b.pace.call(method, do)
	if b.metrics.Call != nil {
		result := "ok"
		if err != nil {
			if result = diagnose(err).code; result == "" {
				result = "no answer"
			}
		}
		b.metrics.Call(method, result)
	}
	return err
}
