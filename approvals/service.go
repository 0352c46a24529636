package approvals

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Service holds the use cases. Build it with [New].
type Service struct {
	store    Store
	ci       CI
	dir      Directory
	settings Settings
	log      *slog.Logger
	poll     time.Duration
	hold     func() string
	signer   *ledger.Signer
	unsigned string

	pace    *pace
	started time.Time // what was seen before is another process's

	refreshFailed bool // the last round of people; only [Service.refreshPeople] uses it

	mu      sync.Mutex
	changed chan struct{} // closed at the next commit
}

// Config builds a [Service].
type Config struct {
	Store     Store
	CI        CI
	Directory Directory
	Settings  Settings
	Log       *slog.Logger
	// Poll is how often open gates and running deploys are looked up.
	Poll time.Duration
	// Hold says why no decision may be taken now, "" when nothing forbids it.
	// It must be quick: it is asked within transactions. nil = never.
	Hold func() string
	// Signer signs checkpoints. See [OpenLog].
	Signer *ledger.Signer
	// Unsigned says why no checkpoint may be signed, "" when all is well: a log
	// that does not continue what was signed before must never be signed.
	Unsigned string
}

// New makes a service.
func New(c Config) *Service {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Hold == nil {
		c.Hold = func() string { return "" }
	}
	if c.Poll == 0 {
		c.Poll = 15 * time.Second
	}
	return &Service{
		store: c.Store, ci: c.CI, dir: c.Directory, settings: c.Settings, log: c.Log,
		poll: c.Poll, hold: c.Hold, signer: c.Signer, unsigned: c.Unsigned, pace: newPace(lookRate),
		started: now(), changed: make(chan struct{}),
	}
}

// Changed returns a channel that is closed at the next commit of this process.
func (s *Service) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// update runs one transaction with one time, and wakes who waits for changes.
func (s *Service) update(ctx context.Context, fn func(tx Tx, now time.Time) error) error {
	err := s.store.Update(ctx, func(tx Tx) error { return fn(tx, now()) })
	if err == nil {
		s.mu.Lock()
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
	return err
}

func (s *Service) view(ctx context.Context, fn func(tx Tx, now time.Time) error) error {
	return s.store.View(ctx, func(tx Tx) error { return fn(tx, now()) })
}

// now is the wall clock in UTC at the precision that is stored.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
