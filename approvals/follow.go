package approvals

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// follow reads one workflow at the CI provider for all its requests, commits what
// [Step] makes of it, carries out its act, and looks again.
//
// A crash is harmless wherever it comes: before the commit of a step nothing
// happened; between the commit of an attempt and the end of the call, the next
// look finds out whether the call took effect; after that, the next look finds
// what there is to be found.
func (s *Service) follow(ctx context.Context, w Work) Outcome {
	f := &follower{s: s, w: w}
	_ = json.Unmarshal([]byte(w.Note), &f.noted) // a note that cannot be read costs second looks, no more
	if f.Trails == nil {
		f.Trails = map[string]Trail{}
	}
	for range mostSteps {
		if again, out := f.round(ctx); !again {
			out.Rests = f.asked
			return out
		}
	}
	return Outcome{Due: f.now.Add(quickLook), Rank: rankUrgent, Note: f.note(), Rests: f.asked}
}

// mostSteps bounds the looks and acts of one delivery.
const mostSteps = 12

// noted is what one delivery of a workflow leaves for the next.
type noted struct {
	Turn     time.Time        `json:"turn,omitzero"`      // when this workflow's turn to be looked at is
	TurnRank int              `json:"turn_rank,omitzero"` // the rank that the turn was taken with
	More     bool             `json:"more,omitzero"`      // at this turn more than the job list may be read
	Deadline time.Time        `json:"deadline,omitzero"`  // when it is due whether it is its turn or not
	Trails   map[string]Trail `json:"trails,omitempty"`
}

// follower is one delivery of a workflow.
type follower struct {
	s *Service
	w Work
	noted
	workflow []Request // of the workflow, newest first
	look     *Look     // nil = to be taken
	now      time.Time // by the clock of the store, which all times that are kept are of
	asked    Rests     // what CircleCI asked for
}

func (f *follower) note() string {
	text, _ := json.Marshal(f.noted) // what a note lacks costs second looks, no more
	return string(text)
}

// round looks, steps and acts once. again: there is more to do at once.
func (f *follower) round(ctx context.Context) (again bool, out Outcome) {
	if err := f.s.view(ctx, func(tx Tx) (err error) {
		f.now = tx.Now()
		f.workflow, err = tx.Requests(Filter{WorkflowID: f.w.Subject})
		return err
	}); err != nil {
		return false, f.failed(err)
	}
	followed := only(f.workflow, f.follows)
	if len(followed) == 0 {
		return false, Done()
	}
	if f.look == nil {
		if f.read(ctx, followed) {
			return false, f.rests()
		}
	}
	p, err := f.step(ctx, followed)
	f.Deadline = p.Deadline
	f.w.Rank = min(f.w.Rank, p.Rank) // also of the looks that follow at once
	switch {
	case errors.Is(err, ErrLostClaim):
		return false, Done()
	case err != nil:
		return false, f.failed(err)
	}
	switch p.Act {
	case ActNone:
		again = len(p.Events) > 0 && !p.Next.IsZero() && !p.Next.After(time.Now())
		f.look = nil // it is taken once more where there were news
		return again, Outcome{Due: p.Next, Rank: p.Rank, Note: f.note()}
	case ActReadFacts, ActReadSiblings:
		if f.mustWait() {
			return false, f.rests()
		}
		f.readMore(ctx, p)
	default:
		if err := f.act(ctx, p); err != nil {
			return false, f.failed(err)
		}
		f.look = nil
	}
	return true, out
}

// follows reports whether something is still to be learnt or done about a request.
func (f *follower) follows(r Request) bool {
	return r.Status.Open() || r.Status == Released || !r.Status.Passed() && r.Gate.Status == "" ||
		r.mayRerun() && time.Since(r.ClosedAt) < rerunLong || r.retryable() && !f.Trails[r.ID].RetryOver
}

// rests puts the workflow off until its turn, or until it is due anyway.
func (f *follower) rests() Outcome {
	due := f.now.Add(time.Until(f.Turn)) // whatever the two clocks show
	if f.now.Before(f.Deadline) && f.Deadline.Before(due) {
		due = f.Deadline
	}
	return Outcome{Due: due, Rank: f.w.Rank, Note: f.note()}
}

func (f *follower) failed(err error) Outcome {
	out := Again(Backoff(f.w.Attempt, time.Second, 30*time.Second), err)
	out.Note = f.note()
	return out
}

// noPlan is the plan before the first step.
var noPlan = plan{Move: Move{Rank: rankClosed}}

// plan is what the steps of one look add up to.
type plan struct {
	Move
	r Request // the request that the act is for
}

func (p *plan) add(r Request, m Move) {
	if m.Act > p.Act {
		p.Act, p.Gate, p.r = m.Act, m.Gate, r
	}
	p.Next, p.Deadline, p.Rank = sooner(p.Next, m.Next), sooner(p.Deadline, m.Deadline), min(p.Rank, m.Rank)
	p.Show = p.Show || m.Show
	p.Events = append(p.Events, m.Events...)
}

// step applies the rules to every request. Only what has news needs a writing
// transaction.
func (f *follower) step(ctx context.Context, followed []Request) (plan, error) {
	p, trails, shown := noPlan, map[string]Trail{}, true
	err := f.s.view(ctx, func(tx Tx) error {
		for _, r := range followed {
			k, err := f.s.know(rows{tx}, r, f.workflow)
			if err != nil {
				return err
			}
			m := Step(r, f.Trails[r.ID], *f.look, k, tx.Now())
			shown = shown && f.gateStatus(r) == r.GateStatus
			p.add(r, m)
			trails[r.ID] = m.Trail
		}
		return nil
	})
	if err == nil && (!shown || p.Show || len(p.Events) > 0) {
		p = noPlan
		clear(trails)
		err = f.s.update(ctx, func(c *Change) error {
			if err := c.Claimed(f.w); err != nil {
				return err
			}
			for _, r := range followed {
				m, r, err := f.commit(c, r)
				if err != nil {
					return err
				}
				p.add(r, m)
				trails[r.ID] = m.Trail
				if m.Act > ActReadSiblings {
					break // one act at a time; the others step after it
				}
			}
			return nil
		})
	}
	if err == nil {
		maps.Copy(f.Trails, trails)
	}
	return p, err
}

// gateStatus is what the look shows of the gate, for people: what the row has when it
// shows nothing.
func (f *follower) gateStatus(r Request) JobStatus {
	if f.look.Err != nil {
		return r.GateStatus
	}
	gate, _ := findGate(f.look.Jobs, r.GateName)
	return cmp.Or(gate.Status, r.GateStatus)
}

// commit steps one request anew in a writing transaction.
func (f *follower) commit(c *Change, r Request) (Move, Request, error) {
	r, err := c.Request(r.ID)
	if err != nil {
		return Move{}, r, err
	}
	var proven *proof
	var known records = rows{c.Tx}
	unproven := "" // why what follows cannot be proven now
	if r.Status == Approved || r.Status == Pending && len(r.Decisions) > 0 {
		// What decides, and what opens a gate, has to follow from the log alone.
		if proven, err = f.s.journal.prove(c.Tx); err == nil {
			defer proven.release()
			r, err = proven.request(r)
		}
		var off *Error
		if errors.As(err, &off) && !LogChanged(err) {
			proven, err, unproven = nil, nil, off.Message
		}
		if err != nil {
			return Move{}, r, err
		}
		if proven != nil {
			known = proven
		}
	}
	workflow, err := c.Requests(Filter{WorkflowID: f.w.Subject})
	if err != nil {
		return Move{}, r, err
	}
	k, err := f.s.know(known, r, workflow)
	if err != nil {
		return Move{}, r, err
	}
	// What held the proof back may be over by now.
	k.Hold = cmp.Or(k.Hold, unproven)
	m := Step(r, f.Trails[r.ID], *f.look, k, c.Now())
	shown := r.GateStatus
	r.GateStatus = f.gateStatus(r)
	if len(m.Events) > 0 {
		return m, r, c.happen(&r, m.Events...)
	}
	if r.GateStatus != shown {
		m.Show, err = true, c.store(&r)
	}
	if m.Show && err == nil {
		err = c.ask(cardWork(r))
	}
	return m, r, err
}

// act makes the call that an attempt was recorded for, and records the answer.
func (f *follower) act(ctx context.Context, p plan) error {
	e := about(p.r, EventGateClosed, Actor{Kind: ActorSystem}, "circleci")
	e.Data = Data{"status": "202"}
	var err error
	switch p.Act {
	case ActApprove:
		err = f.s.ci.Approve(ctx, f.w.Subject, p.Gate.approvalID())
		e.Type, e.Actor, e.Outcome = EventAccepted, Actor{Kind: ActorCI}, "accepted"
		e.Data["attempt"] = itoa(p.r.Attempt.Count)
	case ActCancelJob:
		err = f.s.ci.CancelJob(ctx, p.Gate.ID)
		e.Outcome = string(CloseCancelJob)
	case ActCancelWorkflow:
		err = f.s.ci.CancelWorkflow(ctx, f.w.Subject)
		e.Outcome = string(CloseCancelWorkflow)
	}
	if err != nil {
		f.heed(err)
		e.Outcome, e.Reason = "refused", bounded(cmp.Or(ciError(err).Message, err.Error()), maxReason)
		e.Data["status"] = itoa(ciError(err).Status)
		if p.Act == ActApprove {
			e.Type, e.Outcome = EventGateRefused, delayName(err)
			if wait := min(ciError(err).RetryAfter, longestSettle); wait > 0 {
				e.Data["retry_after"] = itoa(int64((wait + time.Second - 1) / time.Second))
			}
		} else if ciError(err).Temporary() {
			return nil // the call is repeated, and the answer that counts is recorded then
		}
	}
	return f.s.update(ctx, func(c *Change) error {
		if err := c.Claimed(f.w); err != nil {
			return err
		}
		r, err := c.Request(p.r.ID)
		if err != nil {
			return err
		}
		said := r.Closing.Said
		if p.Act == ActApprove {
			said = r.Attempt.Said
		}
		if said == e.answer() {
			e.Data["again"] = "true" // the thread is told once
		}
		return c.happen(&r, e)
	})
}

// know gathers what [Step] has to know about a request.
func (s *Service) know(tx records, r Request, workflow []Request) (Knowledge, error) {
	others := only(workflow, func(o Request) bool { return o.ID != r.ID })
	k := Knowledge{Hold: s.Held(), Rolled: s.rolled != "", Poll: s.poll, Others: others}
	policy, err := s.settings.Lookup(r.App, r.Environment)
	if err != nil || !r.Status.Open() {
		return k, nil
	}
	k.Policy = &policy
	if k.Tally, err = tally(tx, policy, r); err != nil {
		return k, err
	}
	if r.Status != Pending {
		return k, nil
	}
	if due := r.remindAt(policy); !due.IsZero() && !tx.Now().Before(due) {
		if k.Able, err = able(tx, policy, r); err != nil {
			return k, err
		}
	}
	k.Overtaken, err = overtaken(tx, r, policy.Supersede)
	return k, err
}
