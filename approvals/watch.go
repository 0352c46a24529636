package approvals

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// factsEvery is how many looks pass between two readings of a workflow's facts:
// they hardly ever change, and are read again before the gate is approved anyway.
const factsEvery = 20

// factsCalls is how many calls one reading of the facts takes: the workflow and
// its pipeline. Who is who is asked once.
const factsCalls = 2

// longRest is how long a look may wait for its turn with its lane held.
const longRest = 20 * time.Second

// look reads the job list of one workflow, once for all requests that wait for
// it, and takes in what became of them.
func (s *Service) look(ctx context.Context, e Effect) Outcome {
	workflow := e.Payload
	watched, err := s.watched(ctx, workflow)
	if err != nil {
		return Again(Backoff(e.Attempt, time.Second, time.Minute), err)
	}
	if len(watched) == 0 {
		return Done()
	}
	if rest := s.pace.resting(); rest > longRest {
		return Again(rest, nil) // no use in holding the lane
	}
	if err := s.pace.wait(ctx, 1); err != nil {
		return Again(s.poll, err)
	}
	jobs, err := s.ci.Jobs(ctx, workflow)
	if err != nil {
		return s.lookFailed(watched, err)
	}
	self, err := s.ci.Self(ctx)
	if err != nil {
		return s.lookFailed(watched, err)
	}
	next := time.Duration(0)
	for _, r := range watched {
		again, err := s.follow(ctx, e, r, jobs, self)
		if err != nil {
			s.log.Warn("take in what CircleCI says", "request", r.ID, "err", err)
			again = s.poll
		}
		if again > 0 && (next == 0 || again < next) {
			next = again
		}
	}
	if next == 0 {
		return Done()
	}
	return Again(next, nil)
}

// lookFailed keeps watching. An approval loses no time while the provider does
// not answer.
func (s *Service) lookFailed(watched []Request, cause error) Outcome {
	out := Again(s.poll, cause)
	var ci *CIError
	if errors.As(cause, &ci) {
		rest := min(ci.RetryAfter, slowWatch)
		if ci.Status == 429 {
			s.pace.rest(max(rest, s.poll))
		}
		out.After = max(out.After, rest)
	}
	out.Record = func(tx Tx, now time.Time) error {
		for _, w := range watched {
			r, err := tx.Request(w.ID)
			if err != nil {
				return err
			}
			if r.Status != Approved {
				continue
			}
			if err := noteSilence(tx, now, &r, now.Add(out.After), cause); err != nil {
				return err
			}
		}
		return nil
	}
	return out
}

// watched lists the requests of a workflow of which something is still to be learnt.
func (s *Service) watched(ctx context.Context, workflow string) ([]Request, error) {
	var out []Request
	err := s.view(ctx, func(tx Tx, _ time.Time) error {
		all, err := tx.Requests(Filter{WorkflowID: workflow})
		for _, r := range all {
			if r.Status.Open() || r.Status == Released && r.Deploy.FinishedAt.IsZero() || !r.Status.Passed() && !r.Gate.over() {
				out = append(out, r)
			}
		}
		return err
	})
	return out, err
}

// follow takes in one look for one request. It returns when to look again, 0
// for never.
func (s *Service) follow(ctx context.Context, e Effect, r Request, jobs []Job, self string) (time.Duration, error) {
	if r.Status == Released {
		return s.followDeploy(ctx, r, jobs)
	}
	seen := sight(r, jobs)
	if r.Status.Open() && (seen.state == gateOnHold || seen.state == gateWaits) &&
		(e.Attempt%factsEvery == 0 || seen.state == gateWaits && stuck(jobs, seen.gate)) {
		if changed, err := s.factsAgain(ctx, r, seen); err != nil || changed {
			return slowWatch, err
		}
	}
	if r.Status == Pending && seen.noNews(r) {
		return s.poll, nil
	}
	ended := s.newEnding(ctx, r, seen, self)
	var again time.Duration
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		now2, err := tx.Request(r.ID)
		if err != nil {
			return err
		}
		again, err = s.takeIn(tx, now, &now2, seen, ended)
		return err
	})
	return again, err
}

// factsAgain reads the facts once more; it reports whether the request ended by it.
func (s *Service) factsAgain(ctx context.Context, r Request, seen sighting) (bool, error) {
	if err := s.pace.wait(ctx, factsCalls); err != nil {
		return false, err
	}
	facts, err := s.ci.Facts(ctx, r.Facts.WorkflowID)
	if err != nil {
		return false, err
	}
	why := Failure{}
	by := Actor{Kind: ActorCI}
	if what := r.Facts.differs(facts); what != "" {
		why = Failure{FailFactsChanged, what + " changed in CircleCI since the request was made"}
	} else if facts.WorkflowStatus.Final() && seen.state == gateWaits {
		// With a gate on hold the job list lags behind: the next look tells.
		by.ID = facts.CanceledBy
		why = Failure{FailCIEnded, endedText(r, facts.WorkflowStatus)}
	}
	if why.Code == "" {
		return false, nil
	}
	changed := false
	err = s.update(ctx, func(tx Tx, now time.Time) error {
		r, err := tx.Request(r.ID)
		if err != nil || !r.Status.Open() || r.Attempt.Open {
			return err
		}
		changed = true
		r.Gate.Status = seen.gate.Status
		if why.Code == FailCIEnded {
			r.Gate.Status, r.Gate.AssumedAt = "not_run", now
		}
		return s.cancel(tx, now, &r, why, by, "circleci")
	})
	return changed, err
}

// endedText says how a workflow ended that never opened the gate.
func endedText(r Request, workflow WorkflowStatus) string {
	switch workflow {
	case "canceled":
		return "The workflow was cancelled in CircleCI"
	case "failed", "error":
		return "The workflow failed in CircleCI before it reached " + r.GateName
	}
	return fmt.Sprintf("The workflow is over in CircleCI (%s) and never reached %s", workflow, r.GateName)
}

// ending is what is known of who ended a gate, read before the transaction.
type ending struct {
	self string // our own user id
	by   string // login, or id when the login cannot be read
	how  string // for a gate that ended otherwise
}

func (s *Service) newEnding(ctx context.Context, r Request, seen sighting, self string) ending {
	e := ending{self: self}
	id := ""
	switch seen.state {
	case gateOpened:
		id = seen.gate.ApprovedBy
	case gateEnded:
		e.how = fmt.Sprintf("%s is %s in CircleCI", r.GateName, seen.gate.Status)
		if id = seen.gate.CanceledBy; id != "" {
			e.how = r.GateName + " was cancelled in CircleCI"
		} else if facts, err := s.ci.Facts(ctx, r.Facts.WorkflowID); err == nil && facts.WorkflowStatus.Final() {
			e.how, e.by = endedText(r, facts.WorkflowStatus), facts.CanceledBy
		}
	}
	if id == "" {
		return e
	}
	var err error
	if e.by, err = s.ci.Login(ctx, id); err != nil || e.by == "" {
		e.by = id
	}
	return e
}

// takeIn applies one look at the gate to a request that was read in the same
// transaction. It returns when to look again, 0 for never.
func (s *Service) takeIn(tx Tx, now time.Time, r *Request, seen sighting, ended ending) (time.Duration, error) {
	if !r.Status.Open() {
		return s.takeInClosed(tx, now, r, seen, ended)
	}
	by := Actor{Kind: ActorCI, ID: ended.by}
	if r.Status == Approved {
		s.keepWindow(r, seen, now)
	}
	switch seen.state {
	case gateChanged:
		return 0, s.cancel(tx, now, r, Failure{FailFactsChanged, seen.why}, Actor{Kind: ActorCI}, "circleci")
	case gateEnded:
		r.Gate.Status = seen.gate.Status
		return 0, s.cancel(tx, now, r, Failure{FailCIEnded, ended.how}, by, "circleci")
	case gateOpened:
		if r.Attempt.Open && ended.by == "" && now.Sub(r.Attempt.At) < settleTime {
			return followUp, nil // the list does not say yet by whom
		}
		r.Gate.Status, r.Gate.ApprovedBy = seen.gate.Status, ended.by
		handed := r.Status == Approved && !r.AutoApprove && openedInWindow(*r, seen.gate, now)
		// Behind the anchor the database is an old copy that may have lost the record
		// of our call.
		known := *r
		known.Restored = known.Restored || s.unsigned != ""
		if ours(known, seen.gate, ended.self) || handed {
			return s.poll, s.released(tx, now, r, by)
		}
		r.DecidedBy = ended.by
		return 0, s.end(tx, now, r, Bypassed, about(*r, EventBypassed, by, "circleci"))
	}
	changed := r.Gate.Status != seen.gate.Status
	r.Gate.Status = seen.gate.Status
	if r.Status == Approved {
		if !r.AutoApprove && seen.state == gateOnHold && windowOver(*r, now) {
			return slowWatch, s.expire(tx, now, r)
		}
		r.Gate.WaitedAt = now
		// The provider answers again.
		changed = changed || r.Attempt.ToldDelay && seen.state == gateWaits
		r.Attempt.ToldDelay = r.Attempt.ToldDelay && seen.state == gateOnHold
	}
	if r.Status == Approved || changed {
		if err := tx.SaveRequest(r); err != nil {
			return 0, err
		}
	}
	if r.Status == Approved && changed {
		// A card that says "waiting for CircleCI to reach the gate" is out of date;
		// and a gate that can be opened now is what the release waits for.
		effects := []Effect{cardUpdate(*r)}
		if r.AutoApprove && seen.state == gateOnHold {
			effects = append(effects, gateRelease(*r))
		}
		return s.poll, enqueue(tx, effects...)
	}
	return s.poll, nil
}

// keepWindow sees to it that an approval loses no time while its gate cannot be
// approved. Between a look that showed it waiting and the next one nobody knows
// when it was reached: as long as this process kept looking, all of that time is
// the approval's.
func (s *Service) keepWindow(r *Request, seen sighting, now time.Time) {
	waited := r.Gate.Status != "on_hold" && !r.Gate.Status.Final()
	if seen.state == gateWaits || waited && !r.Attempt.LastBlocked.Before(s.started) {
		r.Attempt.LastBlocked = newer(r.Attempt.LastBlocked, now)
	}
}

func newer(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// released records that the gate is open by the decision.
func (s *Service) released(tx Tx, now time.Time, r *Request, by Actor) error {
	window := r.ApprovalExpiresAt.Sub(r.ApprovedAt)
	r.Status = Released
	r.ReleasedAt = now
	r.ApprovalExpiresAt = now.Add(window)
	r.Attempt.Open = false
	if err := tx.SaveRequest(r); err != nil {
		return err
	}
	e := about(*r, EventReleased, by, "circleci")
	e.Outcome, e.Facts = "released", r.Facts.Hash()
	e.Data = map[string]string{"attempts": fmt.Sprint(r.Attempt.Count)}
	e, err := record(tx, now, e)
	if err != nil {
		return err
	}
	return enqueue(tx, reply(*r, e), cardUpdate(*r), watch(r.Facts.WorkflowID, now.Add(min(s.poll, 5*time.Second))))
}
