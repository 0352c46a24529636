package approvals_test

import (
	"context"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// aheadStore is a store whose clock is ahead of that of the process.
type aheadStore struct {
	approvals.Store
	by time.Duration
}

func (s aheadStore) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.View(ctx, func(tx approvals.Tx) error { return fn(aheadTx{tx, s.by}) })
}

func (s aheadStore) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.Update(ctx, func(tx approvals.Tx) error { return fn(aheadTx{tx, s.by}) })
}

type aheadTx struct {
	approvals.Tx
	by time.Duration
}

func (tx aheadTx) Now() time.Time { return tx.Tx.Now().Add(tx.by) }

func (tx aheadTx) Ask(w approvals.Work) error {
	if !w.Due.IsZero() {
		w.Due = w.Due.Add(-tx.by)
	}
	return tx.Tx.Ask(w)
}

func (tx aheadTx) Lanes(family string) ([]approvals.Lane, error) {
	lanes, err := tx.Tx.Lanes(family)
	for i := range lanes {
		lanes[i].Due = lanes[i].Due.Add(tx.by)
	}
	return lanes, err
}

func (tx aheadTx) Claim(lane string, n int, lease time.Duration) ([]approvals.Work, error) {
	work, err := tx.Tx.Claim(lane, n, lease)
	for i := range work {
		work[i].Due = work[i].Due.Add(tx.by)
	}
	return work, err
}

func (tx aheadTx) Finish(w approvals.Work) error {
	if !w.Due.IsZero() {
		w.Due = w.Due.Add(-tx.by)
	}
	return tx.Tx.Finish(w)
}

// A node whose clock is behind the store's does not claim a workflow over and over
// until its turn by its own clock.
func TestTurnsOfANodeThatIsBehind(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		w.halt()
		w.cfg.Store = aheadStore{w.store, 5 * time.Second}
		w.start()
		for n := range 8 {
			_, _, err := w.ask(w.ci.newFlow(n+1, int64(n+1), "blocked"))
			w.must(err)
		}
		claimed := 0
		w.worker.Observe = func(work approvals.Work, _ approvals.Outcome, _ time.Duration) {
			if work.Kind == approvals.WorkFollow {
				claimed++
			}
		}
		if !w.worker.Pass(w.ctx, time.Minute, 100*time.Millisecond) {
			t.Fatal("there is no end to what is due")
		}
		if claimed > 200 {
			t.Errorf("the workflows were claimed %d times in a minute", claimed)
		}
	})
}
