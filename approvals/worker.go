package approvals

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Deliverer brings Slack up to date. A delivery may be repeated: with Attempt > 1
// the one before may or may not have taken effect.
type Deliverer interface {
	Deliver(ctx context.Context, w Work) Outcome
	// Turn is when the next work of a lane may be claimed; a time that is past
	// means now.
	Turn(lane string) time.Time
	// Rest has calls of a method wait, because Slack asked some node for it.
	Rest(method string, d time.Duration)
}

// Worker does the work that is due.
type Worker struct {
	Service *Service
	// Slack carries out cards, threads, notices and alarms.
	Slack Deliverer
	// Observe is told of every delivery, if not nil.
	Observe func(w Work, out Outcome, took time.Duration)
}

const (
	// lease is how long a claim lasts; what is not finished then is claimed anew,
	// and the late result is refused.
	lease = 90 * time.Second
	// deliverTime ends a delivery well before its claim does.
	deliverTime = 60 * time.Second
	// stopTime is how long a delivery may take after a stop.
	stopTime = 5 * time.Second
	// tick is how often the database is looked at without being woken: another
	// process may have made work due. It suffices, because a node carries out by
	// itself what it made due; others see it only when that node is busy or died.
	// LISTEN and NOTIFY would save half a second, and take a session of their own,
	// which a pooler in transaction mode does not give.
	tick = time.Second
	// lookAnyway is how often that is done although nobody committed anything: a
	// lease may have ended.
	lookAnyway = 5 * time.Second
	// longSleep is how long a dispatcher sleeps that has nothing to wait for.
	longSleep = time.Hour
	// failTick is the same while nothing can be claimed, as on a disk that is full.
	failTick = 2 * time.Second
)

// crews says how many deliveries each family may have under way. Those of Slack
// never wait for their channel's turn, because a claim is made only when it has
// come.
func crews() map[string]int {
	return map[string]int{FamilyCI: 8, FamilySlack: 16, FamilyCode: 4, FamilyLocal: 2}
}

// Run works until ctx ends. A delivery that is under way then has five seconds
// to finish; what it leaves is picked up after its claim.
func (w *Worker) Run(ctx context.Context) {
	var all sync.WaitGroup
	for family, n := range crews() {
		d := &dispatcher{w: w, family: family, free: n, busy: map[string]bool{}, served: map[string]int{}}
		all.Go(func() { d.run(ctx) })
	}
	all.Go(func() { w.pulse(ctx) })
	all.Go(func() { w.read(ctx) })
	all.Wait()
}

// pulse looks every tick whether other processes did something. If so, every dispatcher
// looks for work that they made due, and the log for what they appended. What the
// store cannot say, whoever claims then reports.
func (w *Worker) pulse(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var seen int64 // the newest stamp
	var looked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		stamp, err := w.Service.store.Stamp(ctx)
		if err == nil && stamp == seen && time.Since(looked) < lookAnyway {
			continue
		}
		seen, looked = stamp, time.Now()
		w.Service.nudgeAll()
		w.Service.journal.hasMore()
	}
}

// read takes in the log: first a long one that the start left, then what is appended.
// What could not be read is tried again with the next tick.
func (w *Worker) read(ctx context.Context) {
	s := w.Service
	began, verifying := time.Now(), s.Verifying()
	for ctx.Err() == nil {
		err := s.journal.keepUp(ctx)
		switch {
		case !verifying || ctx.Err() != nil:
		case err == nil:
			verifying = false
			s.log.Info("the log is verified", "events", s.journal.size(), "took", time.Since(began).Round(time.Millisecond))
			s.nudgeAll()
		case !LogChanged(err): // which the journal has told
			s.log.Warn("the log cannot be verified now; that is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-s.journal.behind:
		}
	}
}

// dispatcher claims the work of one family and hands it out. At most one piece
// of work goes to a channel at a time.
type dispatcher struct {
	w      *Worker
	family string

	mu      sync.Mutex
	free    int
	busy    map[string]bool // places that work is on its way to; "" counts for nothing
	served  map[string]int  // when a lane was last claimed from, counted in claims
	claims  int
	failing bool
	running sync.WaitGroup
}

func (d *dispatcher) run(ctx context.Context) {
	defer d.running.Wait()
	for ctx.Err() == nil {
		if pause := d.round(ctx); pause > 0 {
			select {
			case <-ctx.Done():
			case <-d.w.Service.due[d.family]:
			case <-time.After(pause):
			}
		}
	}
}

// round claims what may be claimed now, and returns how long to wait for more.
func (d *dispatcher) round(ctx context.Context) time.Duration {
	lanes, next, err := d.lanes(ctx)
	if err == nil && len(lanes) > 0 {
		var work []Work
		if work, err = d.claim(ctx, lanes); err == nil {
			for _, w := range work {
				d.start(ctx, w)
			}
			if len(work) > 0 && d.family != FamilySlack {
				next = 0 // more of it may be due; a channel is busy until its delivery ends
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		// What is due stays due: it is said once, not at every try.
		if !d.failing && ctx.Err() == nil {
			d.w.Service.log.Error("claim work", "family", d.family, "err", err)
		}
		d.failing = true
		return failTick
	}
	d.failing = false
	if d.free == 0 {
		return longSleep // who finishes wakes it
	}
	return next
}

// place is what only one delivery at a time goes to: one kind of traffic of a
// channel. Workflows have no common place.
func (d *dispatcher) place(w string) string {
	if d.family != FamilySlack {
		return ""
	}
	channel, traffic := Channel(w)
	return channel + "/" + string(traffic)
}

// lanes lists the lanes that may be claimed from now, at most one for a place:
// of lanes that share one, that which was served longest ago. next is how long to
// wait until there may be another one.
func (d *dispatcher) lanes(ctx context.Context) (ready []string, next time.Duration, err error) {
	next = longSleep
	best := map[string]string{}
	err = d.w.Service.view(ctx, func(tx Tx) error {
		lanes, err := tx.Lanes(d.family)
		if err != nil {
			return err
		}
		now := tx.Now()
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.served) > 2*len(lanes)+1000 {
			clear(d.served) // most of them are empty by now
		}
		for _, l := range lanes {
			if calls, ok := l.rest(); ok {
				d.w.rest(d.family, calls, l.Due.Sub(now))
			}
		}
		for _, l := range lanes {
			due := l.Due
			if d.family == FamilySlack {
				due = latest(due, now.Add(time.Until(d.w.Slack.Turn(l.Name)))) // whatever the two clocks show
			}
			if due.After(now) {
				next = min(next, max(due.Sub(now), time.Millisecond))
				continue
			}
			place := d.place(l.Name)
			had, taken := best[place]
			switch {
			case place == "":
				ready = append(ready, l.Name)
			case !d.busy[place] && (!taken || d.served[l.Name] < d.served[had]):
				best[place] = l.Name
			}
		}
		return nil
	})
	return slices.AppendSeq(ready, maps.Values(best)), next, err
}

// rest keeps this node from calls that a service asked some node not to make.
func (w *Worker) rest(family, calls string, d time.Duration) {
	switch {
	case d <= 0:
	case family == FamilySlack:
		w.Slack.Rest(calls, d)
	case family == FamilyCI:
		w.Service.pace.rest(d)
	case family == FamilyCode && w.Service.code != nil:
		w.Service.code.Rest(d)
	}
}

// claim takes work of the lanes, as much as there are hands free.
func (d *dispatcher) claim(ctx context.Context, lanes []string) (work []Work, err error) {
	d.mu.Lock()
	free := d.free
	d.mu.Unlock()
	if free == 0 {
		return nil, nil
	}
	if d.family != FamilyCI { // a decision may wait for its gate
		ctx = Background(ctx)
	}
	each := free
	if d.family == FamilySlack {
		each = 1
	}
	err = d.w.Service.store.Update(ctx, func(tx Tx) error {
		for _, lane := range lanes {
			some, err := tx.Claim(lane, min(each, free-len(work)), lease)
			if err != nil {
				return err
			}
			work = append(work, some...)
		}
		return nil
	})
	return work, err
}

// start delivers a claimed piece of work beside the others.
func (d *dispatcher) start(ctx context.Context, w Work) {
	place := d.place(w.Lane)
	d.mu.Lock()
	d.free--
	d.claims++
	d.served[w.Lane] = d.claims
	d.busy[place] = true
	d.mu.Unlock()
	d.running.Go(func() {
		d.w.carry(ctx, w)
		d.mu.Lock()
		d.free++
		delete(d.busy, place)
		d.mu.Unlock()
		d.w.Service.nudge(d.family)
	})
}

// carry delivers claimed work and records what came of it.
func (w *Worker) carry(ctx context.Context, work Work) {
	started := time.Now()
	out := w.deliver(ctx, work)
	if err := w.finish(ctx, work, out); err != nil && !errors.Is(err, ErrLostClaim) {
		w.Service.log.Error("finish work", "kind", work.Kind, "subject", work.Subject, "err", err)
	}
	if w.Observe != nil {
		w.Observe(work, out, time.Since(started))
	}
}

// deliver does the work. A stop of the process gives it some more seconds; a
// panic is an error like others.
func (w *Worker) deliver(ctx context.Context, work Work) (out Outcome) {
	own, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), claimKey{}, work.Claim), deliverTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, cancel) })
	defer stop()
	defer func() {
		if p := recover(); p != nil {
			w.Service.log.Error("panic while working", "kind", work.Kind, "subject", work.Subject, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			out = Again(Backoff(work.Attempt, 10*time.Second, 5*time.Minute), fmt.Errorf("panic: %v", p))
		}
	}()
	switch work.Kind {
	case WorkFollow:
		return w.Service.follow(own, work)
	case WorkPeople:
		return w.Service.refreshPeople(own)
	case WorkCommits:
		return w.Service.readCommits(own, work)
	case WorkTokens:
		return w.Service.warnTokens(own)
	case WorkRest:
		return Done()
	}
	if w.Slack != nil && strings.HasPrefix(work.Lane, FamilySlack+":") {
		return w.Slack.Deliver(own, work)
	}
	return Dead(fmt.Errorf("nothing does work of kind %s", work.Kind))
}

type claimKey struct{}

// ClaimOf is the claim of the work that a call to another service is made for, ""
// when it is made for none. A process that may have lost its claims meanwhile does
// not make the call.
func ClaimOf(ctx context.Context) string {
	claim, _ := ctx.Value(claimKey{}).(string)
	return claim
}

// finish ends the claim and records the result in one transaction.
func (w *Worker) finish(ctx context.Context, work Work, out Outcome) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if out.Err != nil {
		w.Service.log.Warn("work not done", "kind", work.Kind, "subject", work.Subject, "attempt", work.Attempt, "due", out.Due, "err", out.Err)
	}
	work.Due = out.Due
	if out.Failed {
		work.Note = cmp.Or(out.Note, work.Note)
	} else {
		work.Rank, work.Note, work.Attempt = out.Rank, out.Note, 0
	}
	return w.Service.update(Background(own), func(c *Change) error {
		if err := c.Finish(work); err != nil {
			return err
		}
		family, _, _ := strings.Cut(work.Lane, ":")
		if err := c.rest(family, out.Rests); err != nil {
			return err
		}
		if out.Record != nil {
			return out.Record(c)
		}
		return nil
	})
}

type background struct{}

// Background returns a context whose transactions let those of callers and
// people go first. A [Store] asks for it with [IsBackground].
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

// IsBackground reports whether a transaction may let others go first.
func IsBackground(ctx context.Context) bool { return ctx.Value(background{}) != nil }

// Outcome is what became of one delivery. The zero value means that it is done.
type Outcome struct {
	Due  time.Time // when it is due again; zero = done
	Rank int       // with which rank, if it is due again
	Note string    // what to remember until then
	// Attempt is kept when the delivery failed, so that the next one looks
	// before it repeats anything and backs off further.
	Failed bool
	Err    error // why, for the operator's log
	Rests  Rests // what the service asked for meanwhile; all nodes are told
	// Record runs in the transaction that ends the claim.
	Record func(*Change) error
}

// Done ends a piece of work.
func Done() Outcome { return Outcome{} }

// Again makes work due once more, because the delivery failed. Up to a tenth of the
// pause is added by chance, so that what failed together does not come back together.
func Again(after time.Duration, err error) Outcome {
	return Outcome{Due: time.Now().Add(after + rand.N(after/10+1)), Failed: true, Err: err}
}

// Dead gives a piece of work up.
func Dead(err error) Outcome { return Outcome{Err: err} }
