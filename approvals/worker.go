package approvals

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
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
	// tick is how often the outbox is looked at without being woken: an operator's
	// command in another process may have written, and who adds an admin waits for
	// the look-up that lets that person press a button.
	tick = 100 * time.Millisecond
	// failTick is the same while nothing can be claimed, as on a disk that is full.
	failTick = 2 * time.Second
)

// Run delivers until ctx ends. A delivery that is under way then has five
// seconds to finish; what it leaves is picked up at the next start.
func (w *Worker) Run(ctx context.Context) {
	var all sync.WaitGroup
	var crew []*family
	for name, n := range families() {
		f := &family{name: name, wake: make(chan struct{}, 1)}
		crew = append(crew, f)
		for range n {
			all.Go(func() { w.work(ctx, f) })
		}
	}
	all.Go(func() { w.rouse(ctx, crew) })
	all.Wait()
}

// family is the state that the workers of a family share.
type family struct {
	name    string
	wake    chan struct{}
	failing atomic.Bool // the last claim failed for another reason than that nothing was due
}

// signal wakes one worker of the family.
func (f *family) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// rouse wakes one worker of each family that has an effect due. It looks after
// every commit, when one becomes due, and now and then. Who finds something wakes
// the next.
func (w *Worker) rouse(ctx context.Context, crew []*family) {
	for {
		changed := w.Service.Changed()
		timer := time.NewTimer(w.wakeDue(ctx, crew))
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

// wakeDue signals the families that have something due, and returns how long to
// wait until the next look.
func (w *Worker) wakeDue(ctx context.Context, crew []*family) (pause time.Duration) {
	pause = tick
	names := make([]string, len(crew))
	for i, f := range crew {
		names[i] = f.name
	}
	err := w.Service.store.View(ctx, func(tx Tx) error {
		now := time.Now()
		due, err := tx.NextDue(names...)
		for i, at := range due {
			switch {
			case err != nil, at.IsZero():
			case at.After(now):
				pause = min(pause, at.Sub(now))
			default:
				crew[i].signal()
			}
		}
		return err
	})
	failing := slices.ContainsFunc(crew, func(f *family) bool { return f.failing.Load() })
	switch {
	case failing:
		return failTick
	case err != nil:
		for _, f := range crew {
			f.signal() // whoever claims says what is wrong
		}
	}
	return max(pause, time.Millisecond)
}

func (w *Worker) work(ctx context.Context, f *family) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		for ctx.Err() == nil {
			e, err := w.claim(ctx, f.name)
			if errors.Is(err, ErrNotFound) {
				f.failing.Store(false)
				break
			}
			if err != nil {
				// What is due stays due: it is said once, not at every try.
				if !f.failing.Swap(true) && ctx.Err() == nil {
					w.Service.log.Error("claim an effect", "family", f.name, "err", err)
				}
				break
			}
			f.failing.Store(false)
			f.signal()
			w.carry(ctx, e)
		}
	}
}

// claim takes one effect; [ErrNotFound] when none is due.
func (w *Worker) claim(ctx context.Context, family string) (e Effect, err error) {
	err = w.Service.store.View(ctx, func(tx Tx) error {
		due, err := tx.NextDue(family)
		if err == nil && (due[0].IsZero() || due[0].After(now())) {
			err = ErrNotFound // without a transaction that writes
		}
		return err
	})
	if err != nil {
		return e, err
	}
	err = w.Service.store.Update(ctx, func(tx Tx) error {
		e, err = tx.Claim(family, now(), lease)
		return err
	})
	return e, err
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
		if err := settleClaim(tx, now, e, out, reason); err != nil {
			return err
		}
		if out.Record != nil {
			return out.Record(tx, now)
		}
		return nil
	})
}

// settleClaim ends the claim as the outcome says.
func settleClaim(tx Tx, now time.Time, e Effect, out Outcome, reason string) error {
	if !out.Again {
		return tx.Finish(e, time.Time{}, reason)
	}
	due := now.Add(jitter(out.After))
	if out.Lane {
		return tx.Hold(e, due, reason)
	}
	return tx.Finish(e, due, reason)
}

// jitter spreads repeats by a tenth, so that what failed together does not come
// back together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}
