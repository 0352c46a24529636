package approvals

import (
	"context"
	"slices"
	"sync"
	"time"
)

// read takes a look. Looks that are not urgent keep a common pace: rest says that
// this workflow's Turn is still to come.
func (f *follower) read(ctx context.Context, followed []Request) (rest bool) {
	if !f.Deadline.IsZero() && !f.now.Before(f.Deadline) {
		f.w.Rank = min(f.w.Rank, rankDue)
	}
	if f.Turn.IsZero() || f.w.Rank < f.TurnRank || f.w.Rank > rankUrgent && f.Turn.Before(f.s.pace.restsUntil()) {
		f.takeTurn(1)
	}
	if time.Until(f.Turn) > 0 {
		return true
	}
	f.Turn = time.Time{}
	l := &Look{At: f.now, Names: map[string]string{}, Due: f.w.Due}
	f.w.Due = time.Time{} // what follows at once is not late
	f.look = l
	// A gate that may be opened right after the decision needs the facts, too: they are
	// read meanwhile. Later a step asks for them when nothing else is in the way.
	mayOpen := func(r Request) bool {
		return r.Status == Approved && r.AutoApprove && r.Attempt.Count == 0 && !r.Gate.Waiting && f.Trails[r.ID].LookedAt.Before(r.ApprovedAt)
	}
	var facts sync.WaitGroup
	if slices.ContainsFunc(followed, mayOpen) {
		f.s.pace.turn(rankUrgent, factsCalls)
		facts.Go(func() { l.readFacts(ctx, f.s.ci, f.w.Subject) })
	}
	l.Jobs, l.Err = f.s.ci.Jobs(ctx, f.w.Subject)
	if l.Err == nil {
		l.Self, l.Err = f.s.ci.Self(ctx)
	}
	facts.Wait()
	f.heed(l.Err)
	f.heed(l.FactsErr)
	if l.Err != nil {
		return false
	}
	for _, r := range followed {
		gate, _ := findGate(l.Jobs, r.GateName)
		for _, id := range []string{gate.ApprovedBy, gate.CanceledBy} {
			if id == "" || l.Names[id] != "" {
				continue
			}
			// Without the login the id says who it was.
			if login, err := f.s.ci.Login(ctx, id); err == nil {
				l.Names[id] = login
			}
		}
	}
	return false
}

// heed has all nodes rest when CircleCI asks for fewer calls.
func (f *follower) heed(err error) {
	if ciError(err).Status != 429 {
		return
	}
	f.s.pace.rest(max(ciError(err).RetryAfter, f.s.poll))
	if asked := restsOf(err); asked != nil {
		f.asked = asked
	}
}

// mustWait reports whether more than the job list may be read only at this
// workflow's next Turn. Then it is looked at anew first.
func (f *follower) mustWait() bool {
	if f.More || !f.takeTurn(factsCalls) {
		f.More = false
		return false
	}
	f.s.pace.turn(rankUrgent, 1) // the job list at that turn
	f.More = true
	return true
}

// takeTurn takes the next turn of the work's rank, and reports whether it is still to
// come. It is stored in milliseconds, and must not come too early by that.
func (f *follower) takeTurn(calls int) (later bool) {
	at := f.s.pace.turn(f.w.Rank, calls)
	f.Turn, f.TurnRank = time.Time{}, f.w.Rank
	if later = time.Until(at) > 0; later {
		f.Turn = at.Truncate(time.Millisecond).Add(time.Millisecond)
	}
	return later
}

// readMore reads what a step asked for.
func (f *follower) readMore(ctx context.Context, p plan) {
	if p.Act == ActReadFacts {
		f.look.readFacts(ctx, f.s.ci, f.w.Subject)
		f.heed(f.look.FactsErr)
		return
	}
	var err error
	f.look.Siblings = true
	if f.look.Unasked, err = f.s.unasked(ctx, p.r); err != nil {
		f.heed(err)
		f.s.log.Warn("look for newer workflows", "request", p.r.ID, "err", err)
	}
}

// factsCalls is how many calls one reading of the facts takes: the workflow, its
// pipeline, and the pipeline's values and configuration. Who is who is asked once.
const factsCalls = 4

// readFacts reads the facts of the workflow into the look.
func (l *Look) readFacts(ctx context.Context, ci CI, workflow string) {
	facts, err := ci.Facts(ctx, workflow)
	if l.FactsErr = err; err == nil {
		l.Facts = &facts
	}
}

// unasked lists the newer workflows of a request's pipeline, of the same name,
// whose gate is on hold without a request, and of which the thread does not know.
func (s *Service) unasked(ctx context.Context, r Request) ([]string, error) {
	all, err := s.ci.Workflows(ctx, r.Facts.PipelineID)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(w WorkflowRef) bool { return w.ID == r.Facts.WorkflowID })
	var found []string
	for _, w := range all[at+1:] {
		if w.Name != r.Facts.WorkflowName || slices.Contains(r.NewerFlows, w.ID) {
			continue
		}
		switch asked, err := s.askedBefore(ctx, r.App, r.Environment, w.ID); {
		case err != nil:
			return found, err
		case asked:
			continue
		}
		s.pace.turn(rankUrgent, 1)
		jobs, err := s.ci.Jobs(ctx, w.ID)
		if err != nil {
			return found, err
		}
		if gate, why := findGate(jobs, r.GateName); why == nil && gate.Status == JobOnHold {
			found = append(found, w.ID)
		}
	}
	return found, nil
}
