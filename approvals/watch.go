package approvals

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// factsEvery is how many looks pass between two readings of a workflow's facts:
// they hardly ever change, and are read again before the gate is approved anyway.
const factsEvery = 20

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
	if err := s.pace.wait(ctx); err != nil {
		return Again(s.poll, err)
	}
	jobs, err := s.ci.Jobs(ctx, workflow)
	if err != nil {
		return s.lookFailed(ctx, watched, err)
	}
	self, err := s.ci.Self(ctx)
	if err != nil {
		return s.lookFailed(ctx, watched, err)
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

// lookFailed keeps watching. An approval that waits for a person loses no time
// while the provider does not answer.
func (s *Service) lookFailed(ctx context.Context, watched []Request, cause error) Outcome {
	out := Again(s.poll, cause)
	var ci *CIError
	if errors.As(cause, &ci) {
		out.After = max(out.After, min(ci.RetryAfter, slowWatch))
	}
	out.Record = func(tx Tx, now time.Time) error {
		for _, w := range watched {
			r, err := tx.Request(w.ID)
			if err != nil {
				return err
			}
			if r.Status != Approved || r.AutoApprove {
				continue
			}
			r.Attempt.LastBlocked = now
			if err := tx.SaveRequest(&r); err != nil {
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
			if r.Status.Open() || r.Status == Released && r.Deploy.FinishedAt.IsZero() || !r.Status.Passed() && !jobFinal(r.Gate.Status) {
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
	facts, err := s.ci.Facts(ctx, r.Facts.WorkflowID)
	if err != nil {
		return false, err
	}
	why := Failure{}
	by := Actor{Kind: ActorCI}
	if what := r.Facts.differs(facts); what != "" {
		why = Failure{FailFactsChanged, what + " changed in CircleCI since the request was made"}
	} else if workflowFinal(facts.WorkflowStatus) {
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
			r.Gate.Status = "not_run"
		}
		return s.cancel(tx, now, &r, why, by, "circleci")
	})
	return changed, err
}

// endedText says how a workflow ended that never opened the gate.
func endedText(r Request, workflow string) string {
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
		} else if facts, err := s.ci.Facts(ctx, r.Facts.WorkflowID); err == nil && workflowFinal(facts.WorkflowStatus) {
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
		if ours(*r, seen.gate, ended.self) || handed {
			return s.poll, s.released(tx, now, r, by)
		}
		r.DecidedBy = ended.by
		return 0, s.end(tx, now, r, Bypassed, about(*r, EventBypassed, by, "circleci"))
	}
	changed := r.Gate.Status != seen.gate.Status
	r.Gate.Status = seen.gate.Status
	if r.Status == Approved && !r.AutoApprove {
		if seen.state == gateOnHold && windowOver(*r, now) {
			return slowWatch, s.expire(tx, now, r)
		}
		if seen.state == gateWaits {
			r.Attempt.LastBlocked = now
		}
		r.Gate.WaitedAt = now
		if err := tx.SaveRequest(r); err != nil {
			return 0, err
		}
	}
	if !changed {
		return s.poll, nil
	}
	if err := tx.SaveRequest(r); err != nil {
		return 0, err
	}
	if r.Status == Approved {
		// A card that says "waiting for CircleCI to reach the gate" is out of date;
		// and the release need not wait for its own next look.
		effects := []Effect{cardUpdate(*r)}
		if r.AutoApprove && seen.state == gateOnHold {
			effects = append(effects, gateRelease(*r))
		}
		return s.poll, enqueue(tx, effects...)
	}
	return s.poll, nil
}

// takeInClosed keeps an eye on the gate of a request that is closed, so that a
// later approval by anyone raises an alarm.
func (s *Service) takeInClosed(tx Tx, now time.Time, r *Request, seen sighting, ended ending) (time.Duration, error) {
	if r.Status.Passed() || jobFinal(r.Gate.Status) {
		return 0, nil
	}
	switch seen.state {
	case gateChanged:
		return 0, nil
	case gateOnHold, gateWaits:
		if r.Gate.Status == seen.gate.Status {
			return slowWatch, nil
		}
		r.Gate.Status = seen.gate.Status
		return slowWatch, tx.SaveRequest(r)
	case gateEnded:
		r.Gate.Status = seen.gate.Status
		if err := tx.SaveRequest(r); err != nil {
			return 0, err
		}
		return 0, tx.Enqueue(cardUpdate(*r))
	}
	r.Gate.Status, r.Gate.ApprovedBy, r.Gate.Bypassed = seen.gate.Status, ended.by, true
	if err := tx.SaveRequest(r); err != nil {
		return 0, err
	}
	e := about(*r, EventGateBypassed, Actor{Kind: ActorCI, ID: ended.by}, "circleci")
	e.Outcome = string(r.Status)
	e, err := record(tx, now, e)
	if err != nil {
		return 0, err
	}
	return 0, enqueue(tx, reply(*r, e), noticeChannel(r.Channel, e), cardUpdate(*r))
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

// followDeploy judges the jobs behind an open gate.
func (s *Service) followDeploy(ctx context.Context, r Request, jobs []Job) (time.Duration, error) {
	gate, why := findGate(jobs, r.GateName)
	if why != nil {
		return slowWatch, nil
	}
	var again time.Duration
	err := s.update(ctx, func(tx Tx, now time.Time) error {
		again = 0
		r, err := tx.Request(r.ID)
		if err != nil || r.Status != Released {
			return err
		}
		siblings, err := tx.Requests(Filter{WorkflowID: r.Facts.WorkflowID})
		if err != nil {
			return err
		}
		var filed []string
		for _, o := range siblings {
			if o.ID != r.ID && o.JobID != "" {
				filed = append(filed, o.JobID)
			}
		}
		behind := dependents(jobs, gate.ID, filed)
		ended, failed := outcome(behind)
		if !ended {
			if !allFinal(behind) {
				again = s.deployPoll(r, now)
			}
			return nil
		}
		return s.deployEnded(tx, now, &r, behind, failed)
	})
	return again, err
}

// deployPoll slows down for a deploy that does not come to an end.
func (s *Service) deployPoll(r Request, now time.Time) time.Duration {
	if now.Sub(r.ReleasedAt) > 6*time.Hour {
		return slowWatch
	}
	return s.poll
}

func (s *Service) deployEnded(tx Tx, now time.Time, r *Request, behind []Job, failed *Job) error {
	r.Deploy.FinishedAt = now
	if r.Deploy.StartedAt.IsZero() {
		r.Deploy.StartedAt = r.ReleasedAt
	}
	r.ClosedAt = now
	e := about(*r, EventDeployed, Actor{Kind: ActorCI}, "circleci")
	if failed == nil {
		r.Status = Deployed
		r.Deploy.Phase = "succeeded"
		r.Deploy.Detail = jobNames(behind)
		e.Outcome = "succeeded"
	} else {
		r.Status = DeployFailed
		r.Deploy.Phase = "failed"
		r.Deploy.Detail = fmt.Sprintf("job %s: %s", failed.Name, failed.Status)
		if failed.Status == "unauthorized" {
			// https://circleci.com/docs/contexts/#restrict-a-context
			r.Deploy.Detail += "; its context is restricted to a group that the approver in CircleCI is not in"
		}
		r.Failure = Failure{FailDeploy, r.Deploy.Detail}
		e.Type, e.Outcome = EventDeployFailed, failed.Status
	}
	e.Data = map[string]string{"jobs": jobNames(behind)}
	if failed != nil {
		e.Data["job"] = failed.Name
	}
	if err := tx.SaveRequest(r); err != nil {
		return err
	}
	e, err := record(tx, now, e)
	if err != nil {
		return err
	}
	effects := []Effect{reply(*r, e), cardUpdate(*r)}
	if mayRerun(*r) {
		effects = append(effects, rerunWatch(*r, now))
	}
	return enqueue(tx, effects...)
}

func jobNames(jobs []Job) string {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Name
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
