package approvals

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// Worker delivers effects. Each family has workers of its own; within a family
// a lane has at most one delivery at a time.
type Worker struct {
	Service *Service
	// Deliver holds what carries out the kinds that the service does not:
	// card.post, card.update, thread.reply, notice.
	Deliver map[Kind]Deliverer
	// Observe is told of every delivery, if not nil.
	Observe func(e Effect, out Outcome, took time.Duration)
}

// families says how many deliveries each family may have under way. Those of
// Slack mostly wait for their channel's turn, one message a second: there must
// be more of them than busy channels, or a quiet channel waits for the busy ones.
func families() map[string]int {
	return map[string]int{FamilyCI: 8, FamilySlack: 64, FamilyWatch: watchLanes, FamilyLocal: 2}
}

const (
	// lease is how long a delivery may take; what is not finished then is
	// delivered anew, and the late result is refused by its fence.
	lease = 90 * time.Second
	// deliverTime ends a delivery well before its lease does.
	deliverTime = 60 * time.Second
	// tick is how often the outbox is looked at without being woken: another
	// process may have written, or a due time may have come.
	tick = 500 * time.Millisecond
	// localTick is the same for what operators wait for: a new admin is looked up
	// before anybody can press a button.
	localTick = 100 * time.Millisecond
)

// Run delivers until ctx ends. A delivery that is under way then has five
// seconds to finish; what it leaves is picked up at the next start.
func (w *Worker) Run(ctx context.Context) {
	var all sync.WaitGroup
	for family, n := range families() {
		wake := make(chan struct{}, 1)
		all.Go(func() { w.rouse(ctx, family, wake) })
		for range n {
			all.Go(func() { w.work(ctx, family, wake) })
		}
	}
	all.Wait()
}

// rouse wakes one of the family's workers after every commit, when an effect
// becomes due, and now and then. Who finds something wakes the next.
func (w *Worker) rouse(ctx context.Context, family string, wake chan struct{}) {
	for {
		changed := w.Service.Changed()
		signal(wake)
		timer := time.NewTimer(w.untilDue(ctx, family))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

func (w *Worker) untilDue(ctx context.Context, family string) time.Duration {
	tick := tick
	if family == FamilyLocal {
		tick = localTick
	}
	var due time.Time
	err := w.Service.view(ctx, func(tx Tx, _ time.Time) error {
		var err error
		due, err = tx.NextDue(family)
		return err
	})
	if err != nil || due.IsZero() {
		return tick
	}
	return max(min(time.Until(due), tick), time.Millisecond)
}

func (w *Worker) work(ctx context.Context, family string, wake chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		for ctx.Err() == nil {
			e, found := w.claim(ctx, family)
			if !found {
				break
			}
			signal(wake)
			w.carry(ctx, e)
		}
	}
}

// claim takes one effect, if one is due.
func (w *Worker) claim(ctx context.Context, family string) (e Effect, found bool) {
	err := w.Service.store.View(ctx, func(tx Tx) error {
		due, err := tx.NextDue(family)
		if err == nil && (due.IsZero() || due.After(now())) {
			err = ErrNotFound
		}
		return err
	})
	if err == nil {
		err = w.Service.store.Update(ctx, func(tx Tx) error {
			var err error
			e, err = tx.Claim(family, now(), lease)
			return err
		})
	}
	if err != nil {
		if !errors.Is(err, ErrNotFound) && ctx.Err() == nil {
			w.Service.log.Error("claim an effect", "family", family, "err", err)
		}
		return e, false
	}
	return e, true
}

// carry delivers a claimed effect and records what came of it.
func (w *Worker) carry(ctx context.Context, e Effect) {
	started := time.Now()
	out := w.deliver(ctx, e)
	if err := w.finish(ctx, e, out); err != nil && !errors.Is(err, ErrLostLease) {
		w.Service.log.Error("finish an effect", "kind", e.Kind, "request", e.Request, "err", err)
	}
	if w.Observe != nil {
		w.Observe(e, out, time.Since(started))
	}
}

// deliver runs the deliverer. A stop of the process gives it five more seconds;
// a panic is an error like others.
func (w *Worker) deliver(ctx context.Context, e Effect) (out Outcome) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(5*time.Second, cancel) })
	defer stop()
	defer func() {
		if p := recover(); p != nil {
			w.Service.log.Error("panic while delivering", "kind", e.Kind, "request", e.Request, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			out = Again(Backoff(e.Attempt, 10*time.Second, 5*time.Minute), fmt.Errorf("panic: %v", p))
		}
	}()
	switch e.Kind {
	case GateRelease:
		return w.Service.release(own, e)
	case GateClose:
		return w.Service.closeGate(own, e)
	case Watch:
		return w.Service.look(own, e)
	case RerunWatch:
		return w.Service.lookForRerun(own, e)
	case Deadline:
		return w.Service.deadline(own, e)
	case PeopleRefresh:
		return w.Service.refreshPeople(own, e)
	case TokenExpiry:
		return w.Service.warnTokens(own, e)
	}
	if d := w.Deliver[e.Kind]; d != nil {
		return d.Deliver(own, e)
	}
	return Dead(fmt.Errorf("nothing delivers %s", e.Kind))
}

// finish ends the claim and records the result in one transaction.
func (w *Worker) finish(ctx context.Context, e Effect, out Outcome) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	reason := ""
	if out.Err != nil {
		reason = out.Err.Error()
		w.Service.log.Warn("effect not delivered", "kind", e.Kind, "request", e.Request, "attempt", e.Attempt, "again", out.Again, "after", out.After, "err", out.Err)
	}
	return w.Service.update(own, func(tx Tx, now time.Time) error {
		var due time.Time
		if out.Again {
			due = now.Add(jitter(out.After))
		}
		if err := tx.Finish(e, due, reason); err != nil {
			return err
		}
		if out.Record != nil {
			return out.Record(tx, now)
		}
		return nil
	})
}

// jitter spreads repeats by a tenth, so that what failed together does not come
// back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}
