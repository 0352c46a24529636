package approvals_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// troubled is a store whose log cannot be read while err is set, and whose people
// cannot while people is.
type troubled struct {
	approvals.Store
	mu          sync.Mutex
	err, people error
}

// set changes the trouble with the log, while others may use the store.
func (s *troubled) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *troubled) tx(tx approvals.Tx) approvals.Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	return troubledTx{tx, s.err, s.people}
}

func (s *troubled) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.View(ctx, func(tx approvals.Tx) error { return fn(s.tx(tx)) })
}

func (s *troubled) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.Update(ctx, func(tx approvals.Tx) error { return fn(s.tx(tx)) })
}

type troubledTx struct {
	approvals.Tx
	err, people error
}

func (tx troubledTx) Leaves(from int64) iter.Seq2[[]byte, error] {
	if tx.err == nil {
		return tx.Tx.Leaves(from)
	}
	return func(yield func([]byte, error) bool) { yield(nil, tx.err) }
}

func (tx troubledTx) Kept(kind, id string) ([]byte, error) {
	if tx.people != nil && kind == "person" {
		return nil, tx.people
	}
	return tx.Tx.Kept(kind, id)
}

func (tx troubledTx) Ledger() ledger.Storage { return troubledLog{tx.Tx.Ledger(), tx.err} }

type troubledLog struct {
	ledger.Storage
	err error
}

func (l troubledLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if l.err != nil {
		return nil, l.err
	}
	return l.Storage.ReadHashes(indexes)
}

// A database that cannot be used for a moment, or a caller who goes away while the
// log is read, is no sign of tampering: nothing has to be recovered afterwards.
func TestTroubleIsNoTampering(t *testing.T) {
	for _, trouble := range []error{fmt.Errorf("read leaves: %w", store.ErrUnavailable), context.Canceled, context.DeadlineExceeded} {
		for _, offline := range []bool{false, true} {
			bubble(t, "", func(w *world) {
				w.halt()
				s := &troubled{Store: w.db}
				w.cfg.Store, w.cfg.Offline = s, offline
				w.start()
				s.set(trouble)
				e := approvals.Event{Type: approvals.EventStarted, Actor: approvals.Actor{Kind: approvals.ActorSystem}}
				if err := w.svc.Record(w.ctx, e); !errors.Is(err, trouble) && !errors.As(err, new(*approvals.Error)) {
					t.Errorf("%v: record: got %v; want the trouble", trouble, err)
				}
				if _, err := w.svc.Checkpoint(w.ctx, 0); err == nil || approvals.LogChanged(err) {
					t.Errorf("%v: checkpoint: got %v; want the trouble", trouble, err)
				}
				s.set(nil)
				if why := w.svc.Fault(); why != "" {
					t.Errorf("%v: got the fault %q; want none", trouble, why)
				}
				w.must(w.svc.Record(w.ctx, e))
				_, err := w.svc.Checkpoint(w.ctx, 0)
				w.must(err)
				w.start()
				if fault, err := approvals.LogFault(w.ctx, w.db); fault != "" || err != nil || w.svc.Fault() != "" {
					t.Errorf("%v: after a restart: got %q, %v; want no fault", trouble, fault, err)
				}
			})
		}
	}
}

// A long log is read beside the service. A database that does not answer meanwhile
// delays that, and does not end it: approvals are held only until it was read.
func TestLongLogIsReadAfterTrouble(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(w *world) {
		r := w.approved(1, "on_hold")
		w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
		w.wait(10 * time.Minute)
		w.halt()
		w.must(approvals.Repeat(w.ctx, w.db, []approvals.Request{w.get(r)}, approvals.ShortLog/7))
		s := &troubled{Store: w.db}
		w.cfg.Store = s
		w.start()
		if !w.svc.Verifying() {
			t.Fatal("the log was read before the start went on; want it left to the worker")
		}
		s.set(store.ErrUnavailable)
		w.run()
		w.wait(10 * time.Second)
		if !w.svc.Verifying() || w.svc.Fault() != "" {
			t.Errorf("while the database does not answer: verifying %v, fault %q; want the log unread, and no fault", w.svc.Verifying(), w.svc.Fault())
		}
		s.set(nil)
		w.wait(time.Minute)
		if w.svc.Verifying() {
			t.Error("a minute after the database answers again, the log is not read; want it read")
		}
		w.approved(2, "on_hold")
	})
}

// What is wrong with the log or the database is no wrong code, and ends no link.
func TestTroubleIsNoWrongCode(t *testing.T) {
	bubble(t, "", func(w *world) {
		secretHead := func(set string) (had string) {
			w.must(w.db.Update(w.ctx, func(tx approvals.Tx) (err error) {
				if had, err = tx.Secret(approvals.SecretHead); err == nil && set != "" {
					err = tx.SetSecret(approvals.SecretHead, set)
				}
				return err
			}))
			return had
		}
		admin := approvals.Admin{Store: w.db}
		_, err := admin.AddPerson(w.ctx, "U07", "Gil", "gil")
		w.must(err)
		older := secretHead("")
		link, _, err := admin.EnrolLink(w.ctx, "U07")
		w.must(err)
		_, secret, err := admin.ShowSecret(w.ctx, link)
		w.must(err)
		right := secretHead(older)
		for range 6 {
			if _, err := admin.ConfirmSecret(w.ctx, link, secret.At(wall())); !approvals.LogChanged(err) {
				t.Errorf("while the log is not as it was left: got %v; want that said", err)
			}
		}
		secretHead(right)
		broken := approvals.Admin{Store: &troubled{Store: w.db, err: store.ErrUnavailable}}
		for range 6 {
			if _, err := broken.ConfirmSecret(w.ctx, link, secret.At(wall())); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("while the log cannot be read: got %v; want that said", err)
			}
		}
		broken.Store = &troubled{Store: w.db, people: store.ErrUnavailable}
		if _, err := broken.Enrolment(w.ctx, link); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("while people cannot be read: got %v; want that said", err)
		}
		_, err = admin.ConfirmSecret(w.ctx, link, secret.At(wall()))
		w.must(err)
	})
}

// hooked is a store in which something happens whenever a writing transaction lists
// requests.
type hooked struct {
	approvals.Store
	hook func()
}

func (s *hooked) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return s.Store.Update(ctx, func(tx approvals.Tx) error { return fn(hookedTx{tx, s.hook}) })
}

type hookedTx struct {
	approvals.Tx
	hook func()
}

func (tx hookedTx) Requests(f approvals.Filter) ([]approvals.Request, error) {
	tx.hook()
	return tx.Tx.Requests(f)
}

// A step that could not have its proof decides nothing, also if it could have it a
// moment later.
func TestNoDecisionWithoutAProof(t *testing.T) {
	t.Parallel()
	bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
		old := w.request(1, "on_hold")
		w.must(w.approve("U01", old))
		w.must(w.approve("U02", old))
		w.ci.set(old.Facts.WorkflowID, "deploy", approvals.JobSuccess)
		w.wait(10 * time.Minute)
		w.is(old, approvals.Deployed)
		w.halt()
		w.must(approvals.Repeat(w.ctx, w.db, []approvals.Request{w.get(old)}, approvals.ShortLog/7))
		w.restart()
		w.wait(time.Minute)
		r := w.request(2, "blocked")
		w.must(w.approve("U01", r))
		w.must(w.admin.Reset(w.ctx, "U01"))
		w.must(w.approve("U02", r))
		w.halt()
		w.enrol("U01")                // completes the quorum
		w.ci.hold(r.Facts.WorkflowID) // is news, so that the step writes
		s := &hooked{w.db, func() {}}
		w.cfg.Store = s
		w.must(w.db.Leave(w.ctx))
		w.start()
		if !w.svc.Verifying() {
			t.Fatal("the log was read before the start went on; want it left to the worker")
		}
		listed := 0
		s.hook = func() {
			if listed++; listed == 1 {
				w.svc.KeepUp(w.ctx)
			}
		}
		if !w.worker.Drain(w.ctx) || listed == 0 || w.svc.Verifying() {
			t.Fatalf("requests were listed %d times, verifying %v; want the log read in the middle of a step", listed, w.svc.Verifying())
		}
		w.is(r, approvals.Pending)
		w.run()
		w.wait(20 * time.Second)
		w.is(r, approvals.Released)
	})
}
