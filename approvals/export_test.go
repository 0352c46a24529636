package approvals

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The pure rules, for tables.
var (
	Dependents      = dependents
	Stuck           = stuck
	AcceptsCanceled = acceptsCanceled
	NewTokenText    = newTokenText
	FoldRequest     = foldRequest
	RowDiffers      = rowDiffers
	SecretHead      = secretHead
)

// Ours reports whether an opened gate is our release.
func (r Request) Ours(gate Job, self string) bool { return r.ours(gate, self) }

// Releasing reports whether a call of ours may have opened the gate, which was seen on
// hold last at a time.
func (r Request) Releasing(held time.Time) bool { return r.releasing(held) }

// WindowOver reports whether an approval that could have been used was not.
func (r Request) WindowOver(now time.Time) bool { return r.windowOver(now) }

// MayDeploy says why the request does not let its deploy go on now; nil when it does.
func (r Request) MayDeploy(now time.Time) error {
	return approvedNow(now, NewRequest{GitCommit: r.Facts.Revision}, r)
}

// ClosesGate reports whether on_close applies.
func (r Request) ClosesGate() bool { return r.closesGate() }

// JudgeJobs names the result of a deploy, and the job that decides a failure.
func JudgeJobs(jobs, behind []Job, names []string, over bool) (says, job string) {
	is, j := outcome(jobs, behind, names, over)
	if is != resultFailed && is != resultSkipped {
		j = Job{}
	}
	return map[result]string{resultOpen: "open", resultNothing: "nothing", resultDone: "done", resultFailed: "failed", resultSkipped: "skipped"}[is], j.Name
}

// GateOf names what a job list says of a request's gate.
func GateOf(r Request, jobs []Job) string {
	state, _, _ := Look{Jobs: jobs}.gate(r)
	return map[gateState]string{gateWaits: "waits", gateOnHold: "on hold", gateOpened: "opened", gateEnded: "ended", gateOdd: "odd"}[state]
}

// Differs names the fact that changed.
func (f Facts) Differs(now Facts) string { return f.differs(now) }

// Line is the branch or tag line.
func (f Facts) Line() string { return f.line() }

// Drain does, one after another, everything that is due now. It reports false
// when there is no end to it.
func (w *Worker) Drain(ctx context.Context) bool {
	left := 3000
	for busy := true; busy; {
		busy = false
		for _, family := range []string{FamilyLocal, FamilyCI, FamilyCode, FamilySlack} {
			d := &dispatcher{w: w, family: family, free: 1, busy: map[string]bool{}, served: map[string]int{}}
			for {
				lanes, _, err := d.lanes(ctx)
				if err != nil || len(lanes) == 0 {
					break
				}
				work, err := d.claim(ctx, lanes)
				if err != nil || len(work) == 0 {
					break
				}
				for _, one := range work {
					w.carry(ctx, one)
				}
				busy = true
				if left--; left == 0 {
					return false
				}
			}
		}
	}
	_ = w.Service.journal.keepUp(ctx)
	return true
}

// Pass lets time pass, and does what is due when it is due, but no more often than
// at each step. It looks at least every ten steps, because a claim that was left may
// be over.
func (w *Worker) Pass(ctx context.Context, d, step time.Duration) bool {
	for until := time.Now().Add(d); time.Now().Before(until); {
		next := time.Now().Add(10 * step)
		_ = w.Service.view(ctx, func(tx Tx) error { // the coming delivery meets what is wrong
			lanes, err := tx.Lanes("")
			for _, l := range lanes {
				if l.Due.Before(next) {
					next = l.Due
				}
			}
			return err
		})
		time.Sleep(min(max(time.Until(next), step), time.Until(until)))
		if !w.Drain(ctx) {
			return false
		}
	}
	return true
}

// AuthenticatorOf opens a person's second factor.
var AuthenticatorOf = authenticator

// SetStanding changes what Slack said of somebody.
func SetStanding(tx Tx, id string, change func(*Standing)) error {
	s, err := sealedValue[Standing](tx, secretStanding(id))
	if err != nil {
		return err
	}
	change(&s)
	return sealValue(tx, secretStanding(id), s)
}

// ForgetGroup drops what Slack said of a group.
func ForgetGroup(tx Tx, id string) error { return tx.SetSecret(secretGroup(id), "") }

// SpoilFactor stores another person's name under a sealed authenticator.
func SpoilFactor(tx Tx, id string) error { return tx.SetSecret(secretFactor(id), "spoilt") }

// Yields reports whether a new request for the same workflow may be made.
func (s Status) Yields() bool { return s.yields() }

// MostHistories is how many histories the journal of a new service has at most.
func (s *Service) MostHistories() *int {
	most := 0
	s.journal.changed = func(string) { most = max(most, len(s.journal.histories)) }
	return &most
}

// ShortLog is how many leaves are read before the start goes on.
const ShortLog = shortLog

// KeepUp reads what was appended to the log.
func (s *Service) KeepUp(ctx context.Context) { _ = s.journal.keepUp(ctx) }

// Happen records an event of a request.
func (s *Service) Happen(ctx context.Context, id string, e Event) error {
	return s.update(ctx, func(c *Change) error {
		r, err := c.Request(id)
		if err != nil {
			return err
		}
		e.Request, e.App, e.Environment = r.ID, r.App, r.Environment
		return c.happen(&r, e)
	})
}

// Commit carries out what a delivery records.
func (s *Service) Commit(ctx context.Context, fn func(*Change) error) error { return s.update(ctx, fn) }

// Awaited is how many requests callers wait for.
func (s *Service) Awaited() int {
	s.waiters.mu.Lock()
	defer s.waiters.mu.Unlock()
	return len(s.waiters.by)
}

// Repeat writes the histories of requests n times more, under other ids and for
// other workflows, as if as many requests had ended in the same ways, an hour after
// another. Nothing is due for what it writes.
func Repeat(ctx context.Context, s Store, of []Request, n int) error {
	var next int64
	histories := make([][]byte, len(of)) // JSON
	err := s.View(ctx, func(tx Tx) error {
		newest, err := tx.Requests(Filter{Limit: 1})
		if err != nil {
			return err
		}
		next = newest[0].Number
		for i, r := range of {
			events, err := EventsOf(tx, r.ID)
			if err != nil {
				return err
			}
			if histories[i], err = json.Marshal(events); err != nil {
				return err
			}
		}
		return nil
	})
	for range n {
		if err != nil {
			break
		}
		time.Sleep(time.Hour)
		err = commit(ctx, s, nil, func(c *Change) error {
			for i, r := range of {
				next++
				names := strings.NewReplacer(r.ID, rand.Text(), r.Facts.WorkflowID, fmt.Sprintf("00000000-0000-4000-9000-%012x", next))
				var events []Event
				if err := json.Unmarshal([]byte(names.Replace(string(histories[i]))), &events); err != nil {
					return err
				}
				events[0].Asked.Number = next
				again := Request{Metadata: r.Metadata, Seen: r.Seen}
				for _, e := range events {
					e, err := c.record(e)
					if err != nil {
						return err
					}
					if err := again.Apply(e); err != nil {
						return err
					}
				}
				if err := c.SaveRequest(&again); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}
