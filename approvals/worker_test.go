package approvals_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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

func (l *lines) Rest(string, time.Duration) {}

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

// secondNode runs another process on the world's store until the test ends.
func (w *world) secondNode(change func(*approvals.Config, *approvals.Worker)) (stop func()) {
	w.t.Helper()
	cfg, worker := w.cfg, &approvals.Worker{Slack: &lines{}}
	change(&cfg, worker)
	worker.Service = approvals.New(cfg)
	w.must(worker.Service.Start(w.ctx, defaultChannel, "test"))
	ctx, cancel := context.WithCancel(w.ctx)
	var done sync.WaitGroup
	done.Go(func() { worker.Run(ctx) })
	w.wait(0)
	return func() { cancel(); done.Wait() }
}

// When CircleCI asks one node for fewer calls, none makes any for so long.
func TestNodesRestTogether(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		two := func() int { return 2 }
		w.cfg.Nodes = two
		w.restart()
		stop := w.secondNode(func(c *approvals.Config, worker *approvals.Worker) { worker.Slack = w })
		defer stop()
		for n := range 12 {
			w.request(n+1, "on_hold")
		}
		w.wait(20 * time.Second)
		looked := func() int {
			w.ci.mu.Lock()
			defer w.ci.mu.Unlock()
			return w.ci.looked
		}
		const rest = time.Minute
		w.ci.breaks("jobs", &fault{status: 429, times: 1, retry: rest})
		before := looked()
		for looked() == before {
			w.wait(10 * time.Millisecond)
		}
		before = looked()
		w.wait(rest - time.Second)
		if n := looked() - before; n != 0 {
			t.Errorf("got %d looks while CircleCI wanted none", n)
		}
		w.wait(20 * time.Second)
		if n := looked() - before; n < 12 {
			t.Errorf("got %d looks in the 19 s after the rest; want all 12 gates looked at", n)
		}
	})
}

// limitedSlack answers the first delivery with a rest.
type limitedSlack struct {
	mu    sync.Mutex
	said  time.Duration
	rests map[string]time.Time // what others told
	lanes []time.Time
}

func (s *limitedSlack) Turn(string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rests["chat.postMessage"]
}

func (s *limitedSlack) Rest(method string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rests == nil {
		s.rests = map[string]time.Time{}
	}
	s.rests[method] = time.Now().Add(d)
}

func (s *limitedSlack) Deliver(_ context.Context, w approvals.Work) approvals.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes = append(s.lanes, time.Now())
	if s.said == 0 {
		return approvals.Done()
	}
	out := approvals.Outcome{Due: w.Due, Failed: true, Rests: approvals.Rests{"chat.postMessage": time.Now().Add(s.said)}}
	s.said = 0
	return out
}

// A rest that Slack asks for binds all nodes, also one that starts meanwhile, for as
// long as Slack said and never for longer than an hour.
func TestRestOfSlackIsShared(t *testing.T) {
	for name, tt := range map[string]struct{ said, want time.Duration }{
		"as said": {90 * time.Second, 90 * time.Second},
		"bounded": {100 * time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "")
				first, second := &limitedSlack{}, &limitedSlack{}
				w.worker.Slack = first
				w.run()
				defer w.close()
				first.said = tt.said
				began := time.Now()
				w.must(w.db.Update(w.ctx, func(tx approvals.Tx) error {
					return tx.Ask(approvals.Work{Kind: approvals.WorkNotice, Subject: "1 C1", Lane: approvals.SlackLane(defaultChannel, "shop")})
				}))
				w.wait(2 * time.Second)
				w.halt()
				w.must(w.db.Leave(w.ctx))
				stop := w.secondNode(func(_ *approvals.Config, worker *approvals.Worker) { worker.Slack = second })
				defer stop()
				time.Sleep(time.Until(began.Add(tt.want + 3*time.Second)))
				synctest.Wait()
				if len(second.lanes) == 0 {
					t.Fatal("nothing was delivered after the rest")
				}
				// The work was claimed within a second after it was asked for.
				if got := second.lanes[0].Sub(began); got < tt.want || got > tt.want+1100*time.Millisecond {
					t.Errorf("the other node delivered after %s; want %s", got, tt.want)
				}
				w.must(w.db.View(w.ctx, func(tx approvals.Tx) error {
					lanes, err := tx.Lanes(approvals.FamilySlack)
					if len(lanes) != 0 {
						t.Errorf("lanes %v are left; want none", lanes)
					}
					return err
				}))
			})
		})
	}
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		if !approvals.Pause(ctx, time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("a pause of a minute took %s", time.Since(began))
		}
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		if approvals.Pause(ctx, time.Minute) || time.Since(began) != time.Second {
			t.Errorf("a pause whose context ended after a second took %s", time.Since(began))
		}
		if approvals.Pause(ctx, 0) {
			t.Error("a pause of nothing goes on although the context has ended")
		}
	})
	if n := testing.AllocsPerRun(10, func() { approvals.Pause(t.Context(), 0) }); n != 0 {
		t.Errorf("a pause of nothing made %v objects; want no timer", n)
	}
}

// A start is told about nobody before it is connected, which is no fault. As soon as it
// is, everybody is asked about.
func TestPeopleBeforeSlackIsConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		defer w.close()
		var said bytes.Buffer
		w.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
		w.dir.unconnected = true
		w.start()
		w.run()
		w.wait(3 * time.Second)
		if said.Len() > 0 {
			t.Errorf("the log says %s", said.String())
		}
		w.dir.mu.Lock()
		w.dir.unconnected = false
		w.dir.mu.Unlock()
		connected := wall()
		w.must(w.svc.Bind(w.ctx, team))
		w.wait(time.Second)
		p, _, err := w.svc.Person(w.ctx, "U01")
		w.must(err)
		if p.Standing.CheckedAt.Before(connected) {
			t.Errorf("U01 was last asked about at %s; want it after Slack was connected at %s", p.Standing.CheckedAt, connected)
		}
		w.dir.set(true)
		w.wait(6 * time.Minute)
		if !strings.Contains(said.String(), "slack does not answer") {
			t.Errorf("the log says %q; want that Slack does not answer", said.String())
		}
	})
}
