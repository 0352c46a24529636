package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

const (
	// groupSize is how many callers share one commit at the most. It bounds how
	// long the first of them waits for the last.
	groupSize = 16
	// patience is how long a caller whose context is marked with
	// [approvals.Background] lets the others go first.
	patience = 250 * time.Millisecond
	// shortGroup is how long others may join a group, or as long as a commit takes, if
	// that is longer. Sharing then costs the first of them at most another commit, and
	// saves at least half of what can be saved.
	shortGroup = time.Millisecond
)

// A group is one transaction of the database in which several callers of Update
// make their changes, one after the other, each in its own goroutine. Only the
// caller that has the turn touches it. The last one commits for all.
type group struct {
	tx      *engine.Tx // nil until the first member begins
	members int        // callers whose changes are in it
	began   time.Time
	now     time.Time // as tx had it when it began
	broken  error     // why nothing of it can be committed
	done    chan struct{}
	err     error // what became of the commit; read after done is closed
}

// turns hands out the turn to write.
type turns struct {
	mu          sync.Mutex
	busy        bool // somebody has the turn
	first       []*waiter
	patient     []*waiter
	patientWent bool          // the last turn went to a patient waiter out of order
	commit      time.Duration // how long commits take, smoothed
}

type waiter struct {
	since time.Time
	turn  chan *group
}

// take waits for the turn. The error is that of ctx.
func (q *turns) take(ctx context.Context) (*group, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	if !q.busy {
		q.busy = true
		q.mu.Unlock()
		return &group{}, nil
	}
	w := &waiter{since: time.Now(), turn: make(chan *group, 1)}
	line := &q.first
	if approvals.IsBackground(ctx) {
		line = &q.patient
	}
	*line = append(*line, w)
	q.mu.Unlock()

	select {
	case g := <-w.turn:
		return g, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(*line, w); i >= 0 {
		*line = slices.Delete(*line, i, i+1)
		return nil, ctx.Err()
	}
	return <-w.turn, nil // it came at the same moment
}

// give hands the turn to the next waiter, and reports whether there was one. If
// there is none and last is set, the turn is free.
func (q *turns) give(g *group, last bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := &q.first
	late := len(q.patient) > 0 && time.Since(q.patient[0].since) > patience
	if q.patientWent = late && !q.patientWent; len(q.first) == 0 || q.patientWent {
		line = &q.patient
	}
	if len(*line) == 0 {
		q.busy = !last
		return false
	}
	(*line)[0].turn <- g
	*line = slices.Delete(*line, 0, 1)
	return true
}

func (db *DB) update(ctx context.Context, fn func(*tx) error) error {
	g, err := db.turns.take(ctx)
	if err != nil {
		return err
	}
	var shared chan struct{} // closed by the caller that commits for us
	err = func() error {
		// The turn goes on also when fn panics or ends its goroutine.
		defer func() { shared = db.pass(g) }()
		if err := ctx.Err(); err != nil {
			return err
		}
		return db.join(g, fn)
	}()
	if err != nil {
		return err
	}
	if shared != nil {
		<-shared
	}
	return g.err
}

// join runs fn in the transaction of the group. When it fails, the group is as it
// was before.
func (db *DB) join(g *group, fn func(*tx) error) (err error) {
	if err := g.enter(db); err != nil {
		return err
	}
	t := db.transaction(g.tx)
	ok := false
	defer func() {
		if !ok {
			g.undo(db, t)
		}
	}()
	if err = fn(t); err == nil {
		err = t.dead
	}
	if ok = err == nil; ok {
		g.members++
	}
	return err
}

// enter begins the transaction or, for all but its first member, a savepoint.
func (g *group) enter(db *DB) (err error) {
	if g.members > 0 {
		if _, err := g.tx.ExecContext(context.Background(), "SAVEPOINT member"); err != nil {
			g.broken = db.fault(err)
			return fmt.Errorf("begin: %w", engine.Trouble(g.broken))
		}
		return nil
	}
	// Without the context of a caller: the others go on when it ends.
	g.began = time.Now()
	if g.tx, err = db.engine.Begin(context.Background()); err != nil {
		return fmt.Errorf("begin: %w", db.fault(err))
	}
	g.now = g.tx.Now()
	if by := db.wrote.Sub(g.now); by > 0 {
		if err := db.transaction(g.tx).setBack(by); err != nil {
			g.tx.Rollback()
			g.tx = nil
			return fmt.Errorf("begin: %w", err)
		}
	}
	return nil
}

// undo takes back what t did. Where the database itself failed, it may have
// rolled back everything, so that nothing of the group can be committed.
func (g *group) undo(db *DB, t *tx) {
	if g.members == 0 {
		g.tx.Rollback()
		g.tx = nil
		return
	}
	if errors.Is(t.dead, ErrUnavailable) {
		g.broken = t.dead
	} else if _, err := g.tx.ExecContext(context.Background(), "ROLLBACK TO member"); err != nil {
		g.broken = db.fault(err)
	}
}

// pass ends the turn of one caller. If another waits and the group has room, that
// one goes on in the same transaction, and pass returns the channel that is
// closed when the group has ended. Otherwise the group ends here.
func (db *DB) pass(g *group) (shared chan struct{}) {
	if g.members < groupSize && g.broken == nil && (g.tx == nil || time.Since(g.began) < max(shortGroup, db.turns.commit)) {
		if g.done == nil {
			g.done = make(chan struct{})
		}
		if db.turns.give(g, false) {
			return g.done
		}
	}
	g.end(db)
	db.turns.give(&group{}, true)
	return nil
}

// end commits, and tells the other members.
func (g *group) end(db *DB) {
	switch {
	case g.tx == nil:
	case g.broken != nil:
		g.tx.Rollback()
		g.err = fmt.Errorf("the transaction that was shared: %w", engine.Trouble(g.broken))
	default:
		started := time.Now()
		err := g.tx.Commit()
		db.turns.commit += (time.Since(started) - db.turns.commit) / 8
		if err != nil {
			g.err = fmt.Errorf("commit: %w", engine.Trouble(db.fault(err)))
		} else {
			db.wrote = g.now
		}
	}
	if g.done != nil {
		close(g.done)
	}
}
