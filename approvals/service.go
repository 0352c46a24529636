package approvals

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Service holds the use cases. Build it with [New].
type Service struct {
	store    Store
	ci       CI
	dir      Directory
	code     CodeHost
	identity Identity // nil = OIDC tokens are not taken
	settings Settings
	log      *slog.Logger
	poll     time.Duration
	onHold   func() string
	rolled   string
	operator string
	journal  *journal
	pace     *pace
	waiters  *waiters
	clicks   *clicks

	refreshFailing time.Time // since when rounds of people have failed; zero = they do not; only [Service.refreshPeople] uses it
	// due holds a value for each family of lanes for which this process made work due.
	due map[string]chan struct{}
}

// Config builds a [Service].
type Config struct {
	Store     Store
	CI        CI
	Directory Directory
	// Code tells of commits and pull requests; nil = there is no code host to ask.
	Code     CodeHost
	Identity Identity // checks the OIDC tokens of CI jobs; nil = they are not taken
	Settings Settings
	Log      *slog.Logger
	// Poll is how often open gates and running deploys are looked up.
	Poll time.Duration
	// Hold says why no decision may be taken now, "" when nothing forbids it.
	// It must be quick: it is asked within transactions. nil = never.
	Hold func() string
	// Nodes is how many processes work on the store, this one included; they share the
	// calls that CircleCI gets. nil = this one alone.
	Nodes func() int
	// Signer signs checkpoints. See [OpenLog].
	Signer *ledger.Signer
	// Rolled says that the database is older than what was signed before, and how
	// that is known; "" when it is not. Then nothing is approved or signed. An offline
	// command may have here whatever [LogFault] knows.
	Rolled string
	// Operator is who runs the process, as their machine names them; see [Operator].
	Operator string
	// Offline is an operator's command beside the daemon: it does not read the
	// whole log first, and signs what was sealed.
	Offline bool
}

// New makes a service.
func New(c Config) *Service {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Poll = cmp.Or(c.Poll, 15*time.Second)
	if c.Hold == nil {
		c.Hold = func() string { return "" }
	}
	if c.Nodes == nil {
		c.Nodes = func() int { return 1 }
	}
	s := &Service{
		store: c.Store, ci: c.CI, dir: c.Directory, code: c.Code, identity: c.Identity, settings: c.Settings, log: c.Log,
		poll: c.Poll, onHold: c.Hold, rolled: c.Rolled, operator: c.Operator, pace: newPace(c.Nodes),
		journal: newJournal(c.Store, c.Signer, c.Log), waiters: &waiters{by: map[chan struct{}]string{}}, clicks: &clicks{seen: map[click]clickCount{}},
		due: map[string]chan struct{}{},
	}
	for family := range crews() {
		s.due[family] = make(chan struct{}, 1)
	}
	s.journal.offline = c.Offline
	s.journal.changed = func(request string) { s.waiters.wake(request) }
	return s
}

// update runs one writing transaction, and wakes who waits for what it changed.
func (s *Service) update(ctx context.Context, fn func(*Change) error) error {
	var c *Change
	err := commit(ctx, s.store, s.journal, func(change *Change) error {
		c = change
		return fn(change)
	})
	if err != nil {
		return err
	}
	s.waiters.wake(c.woken...)
	for _, family := range c.asked {
		s.nudge(family)
	}
	return nil
}

// nudge tells the worker that work of a family may be due.
func (s *Service) nudge(family string) {
	select {
	case s.due[family] <- struct{}{}:
	default:
	}
}

// nudgeAll tells the worker that any work may be due.
func (s *Service) nudgeAll() {
	for family := range s.due {
		s.nudge(family)
	}
}

func (s *Service) view(ctx context.Context, fn func(Tx) error) error { return s.store.View(ctx, fn) }

// Held says why no decision may be taken now, "" when nothing forbids it.
func (s *Service) Held() string {
	return cmp.Or(s.rolled, s.journal.hold(), s.onHold())
}

// Fault is what was found wrong with the log, "" while nothing was. What another
// process found is known here with the next proof, or a second after.
func (s *Service) Fault() string {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.fault
}

// Alarm is [Service.Fault] as the database has it, whichever process found it.
func (s *Service) Alarm(ctx context.Context) (string, error) { return query(ctx, s.store, readFault) }

// WentBack takes in that the store lost commits which it had acknowledged, and how
// that is known. Nothing is approved or signed from then on, also after a restart,
// until the operator accepts the database as it is.
func (s *Service) WentBack(ctx context.Context, why error) {
	_ = s.journal.notice(ctx, tampered("%v", why))
}

// Verifying reports whether the log is still being read after the start.
func (s *Service) Verifying() bool {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return !s.journal.whole && s.journal.fault == ""
}

// maySign refuses while the log does not continue what was signed before.
func (s *Service) maySign() error {
	if s.rolled == "" {
		return nil
	}
	return later(time.Minute, "no checkpoint is signed: %s", s.rolled)
}

// waiters are the callers that wait until a request changes: the requests, by the channels
// that are closed then.
type waiters struct {
	mu sync.Mutex
	by map[chan struct{}]string
}

// on returns a channel that is closed when the request changes, and a function
// that ends the wait.
func (w *waiters) on(request string) (changed <-chan struct{}, done func()) {
	c := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[c] = request
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.by, c)
	}
}

func (w *waiters) wake(requests ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, request := range w.by {
		if slices.Contains(requests, request) {
			close(c)
			delete(w.by, c)
		}
	}
}

// Grown returns a channel that is closed when the log has grown: at once by a
// change of this process, after a second by that of another one.
func (s *Service) Grown() <-chan struct{} {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.grown
}

// Record appends an event that belongs to no request, such as a start.
func (s *Service) Record(ctx context.Context, e Event) error {
	_, err := s.RecordIf(ctx, e, func(Tx) error { return nil })
	return err
}

// RecordIf is Record unless may, which sees the log before it, says why not. It
// returns the event as it was recorded.
func (s *Service) RecordIf(ctx context.Context, e Event, may func(Tx) error) (recorded Event, err error) {
	err = s.update(ctx, func(c *Change) error {
		if err := may(c.Tx); err != nil {
			return err
		}
		recorded, err = c.record(e)
		return err
	})
	return recorded, err
}

// Checkpoint signs the tree of the given size, or the newest for 0. It signs only
// what this process has verified to be the log that was sealed.
func (s *Service) Checkpoint(ctx context.Context, size int64) ([]byte, error) {
	if err := s.maySign(); err != nil {
		return nil, err
	}
	return s.journal.checkpoint(ctx, size)
}

// OperatorActor is who runs this process, for events of their own doing.
func (s *Service) OperatorActor() Actor { return Operator(s.operator) }

// VerifierKey is the public key that checks the log's checkpoints.
func (s *Service) VerifierKey() string { return s.journal.signer.VerifierKey() }
