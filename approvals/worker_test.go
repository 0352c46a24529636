package approvals_test

import (
	"context"
	"errors"
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
