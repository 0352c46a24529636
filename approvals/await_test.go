package approvals_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// readStore counts how often a request is read by its id.
type readStore struct {
	approvals.Store
	mu    sync.Mutex
	reads map[string]int
}

func (s *readStore) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.View(ctx, func(tx approvals.Tx) error { return fn(readTx{tx, s}) })
}

func (s *readStore) of(id string) int { s.mu.Lock(); defer s.mu.Unlock(); return s.reads[id] }

type readTx struct {
	approvals.Tx
	store *readStore
}

func (tx readTx) Request(id string) (approvals.Request, error) {
	tx.store.mu.Lock()
	tx.store.reads[id]++
	tx.store.mu.Unlock()
	return tx.Tx.Request(id)
}

// awaited is what a call of Await came to.
type awaited struct {
	request approvals.Request
	err     error
	took    time.Duration
}

// Who waits for a request is answered as soon as it changes, and costs nothing while
// others do.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "SUPERSEDE=off")
		defer w.close()
		store := &readStore{Store: w.store, reads: map[string]int{}}
		w.cfg.Store = store
		w.start()
		w.run()
		await := func(ctx context.Context, r approvals.Request, wait time.Duration) chan awaited {
			got := make(chan awaited, 1)
			go func() {
				began := time.Now()
				r, err := w.svc.Await(ctx, w.token, r.ID, approvals.Pending, wait)
				got <- awaited{r, err, time.Since(began)}
			}()
			synctest.Wait()
			return got
		}
		first, second, third := w.request(1, "on_hold"), w.request(2, "on_hold"), w.request(3, "on_hold")

		waits := []chan awaited{await(w.ctx, first, time.Hour), await(w.ctx, first, time.Hour)}
		w.wait(2 * time.Second)
		before := store.of(first.ID)
		w.must(w.approve("U01", second))
		w.wait(10 * time.Second)
		if n := store.of(first.ID) - before; n != 0 {
			t.Errorf("the request was read %d times while others changed; want none", n)
		}
		w.must(w.approve("U02", first))
		for _, c := range waits {
			if got := <-c; got.err != nil || got.request.Status == approvals.Pending || got.took > 13*time.Second {
				t.Errorf("after the decision: got %s, %v after %s; want it approved at once", got.request.Status, got.err, got.took)
			}
		}

		ctx, cancel := context.WithCancel(w.ctx)
		wait := await(ctx, third, time.Hour)
		cancel()
		if got := <-wait; !errors.Is(got.err, context.Canceled) || got.took != 0 {
			t.Errorf("a caller who leaves: got %v after %s; want %v at once", got.err, got.took, context.Canceled)
		}
		if got := <-await(w.ctx, third, time.Minute); got.err != nil || got.request.Status != approvals.Pending || got.took != time.Minute {
			t.Errorf("at the end of the wait: got %s, %v after %s; want it pending after a minute", got.request.Status, got.err, got.took)
		}

		wait = await(w.ctx, third, time.Hour)
		other := approvals.New(w.cfg)
		w.must(other.Start(w.ctx, defaultChannel, "another process"))
		w.halt() // what this process does by itself would wake the caller, too
		err := other.Decide(w.ctx, approvals.Clicker{Team: team, User: "U03"}, third.ID, approvals.ActionApprove, "", w.code("U03"))
		w.must(err)
		w.svc.KeepUp(w.ctx) // as the worker does every second
		if got := <-wait; got.err != nil || got.request.Status == approvals.Pending || got.took > time.Second {
			t.Errorf("after a decision of another process: got %s, %v after %s; want it approved at once", got.request.Status, got.err, got.took)
		}
		if n := w.svc.Awaited(); n != 0 {
			t.Errorf("%d requests are waited for after that; want none", n)
		}
	})
}
