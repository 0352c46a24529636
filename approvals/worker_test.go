package approvals_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// fullStore is a store on a disk that is full at times: it can be read.
type fullStore struct {
	approvals.Store
	full  atomic.Bool
	tries atomic.Int64
}

func (s *fullStore) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	if s.full.Load() {
		s.tries.Add(1)
		return errors.New("database or disk is full")
	}
	return s.Store.Update(ctx, fn)
}

// What is due stays due while nothing can be written: the workers must neither
// spin on it nor forget it.
func TestWorkersOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		store := &fullStore{Store: w.db}
		w.cfg.Store = store
		w.start()
		w.run()
		defer w.close()
		r := w.request(1, "blocked")
		w.must(w.approve("U01", r))
		store.full.Store(true)
		w.ci.hold(r.Facts.WorkflowID)
		time.Sleep(time.Minute)
		if n := store.tries.Load(); n > 200 {
			t.Errorf("got %d tries in a minute; want a few a second at the most", n)
		}
		w.is(r, approvals.Approved)
		store.full.Store(false)
		w.wait(30 * time.Second)
		w.is(r, approvals.Released)
	})
}

// lines is a Slack that takes everything, and remembers in which order.
type lines struct {
	mu    sync.Mutex
	lanes []string
}

func (l *lines) Turn(string) time.Time { return time.Time{} }

func (l *lines) Deliver(_ context.Context, w approvals.Work) approvals.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes = append(l.lanes, w.Lane)
	return approvals.Done()
}

// Apps that share a channel take turns, so that one with much to tell does not hold
// up the others.
func TestAppsOfAChannelTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		slack := &lines{}
		w.worker.Slack = slack
		w.run()
		defer w.close()
		slack.lanes = nil
		apps := []string{"loud", "quiet", "silent"}
		w.must(w.db.Update(w.ctx, func(tx approvals.Tx) error {
			var errs []error
			for i, app := range apps {
				for n := range 9 / (1 + 2*i) { // 9, 3 and 1 lines
					errs = append(errs, tx.Ask(approvals.Work{Kind: approvals.WorkNotice, Subject: fmt.Sprint(app, n), Lane: approvals.SlackLane(defaultChannel, app)}))
				}
			}
			return errors.Join(errs...)
		}))
		w.wait(5 * time.Second)
		last := map[string]int{}
		for i, lane := range slack.lanes {
			last[lane] = i + 1
		}
		for i, app := range apps {
			if at, want := last[approvals.SlackLane(defaultChannel, app)], []int{13, 8, 3}[i]; at == 0 || at > want {
				t.Errorf("the last line of %s came as number %d of %d; want it among the first %d", app, at, len(slack.lanes), want)
			}
		}
	})
}

// busyStore is a store on which others write so much that a background transaction
// has to wait for a second.
type busyStore struct{ approvals.Store }

func (s busyStore) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	if approvals.IsBackground(ctx) {
		time.Sleep(time.Second)
	}
	return s.Store.Update(ctx, fn)
}

// Between a decision and its approve call nothing waits for those who create.
func TestReleaseOnABusyStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.cfg.Store = busyStore{w.db}
		w.start()
		w.run()
		defer w.close()
		r := w.request(1, "on_hold")
		w.wait(10 * time.Second)
		decided := time.Now()
		took := time.Hour
		w.ci.onPost = func(string, string) { took = time.Since(decided) }
		w.must(w.approve("U01", r))
		w.wait(10 * time.Second)
		w.is(r, approvals.Released)
		if took > 100*time.Millisecond {
			t.Errorf("the approve call came %s after the decision; want it at once", took)
		}
	})
}
