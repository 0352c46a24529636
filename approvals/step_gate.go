package approvals

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

const (
	// oddTime is how long an odd look must be confirmed by another one.
	oddTime = 10 * time.Second
	// promptLook is how soon after a decision a look shows what was there before it.
	promptLook = 5 * time.Second
)

// settled takes in a gate that nobody has to open any more: it is open, it ended
// otherwise, or it is not the one that was reviewed. It reports whether it is.
func (s *step) settled() bool {
	switch s.state {
	case gateOpened:
		if s.knowsWho() {
			s.opened()
		}
	case gateEnded:
		s.over()
	case gateOdd:
		if s.r.Attempt.Count > 0 && !s.now.After(s.r.lastChance()) {
			s.in(s.k.Poll) // such a list does not say whether our call opened the gate
		} else {
			s.unfit()
		}
	default:
		return false
	}
	return true
}

// unnamed reports whether a gate for which we made a call is open, but the list does
// not say by whom.
func (s *step) unnamed() bool {
	return s.state == gateOpened && s.gate.ApprovedBy == "" && len(s.r.Attempt.IDs) > 0
}

// knowsWho reports whether it can be judged who opened the gate: the list says so,
// or a second one does not say it either.
func (s *step) knowsWho() bool {
	return !s.unnamed() || s.confirmed(&s.m.Trail.Odd, "the job list does not say who approved the gate")
}

// opened takes in a gate that is open: by us or, with auto-approve off, by somebody
// who was told to while the decision counts, which is the release; otherwise past us,
// which is a bypass.
func (s *step) opened() {
	id := s.gate.ApprovedBy
	by := Actor{Kind: ActorCI, ID: s.l.name(id)}
	restored := (s.r.Restored || s.k.Rolled) && s.r.Status == Approved && s.r.AutoApprove && id != "" && id == s.l.Self
	released, lost := restored || s.r.ours(s.gate, s.l.Self), Failure{}
	if !released && s.r.Status == Approved && !s.r.AutoApprove && s.inWindow() {
		var sure bool
		if lost, sure = s.k.lost(s.r); !sure {
			s.in(heldLook)
			return
		}
		released = lost.Code == ""
	}
	if released {
		e := s.happens(EventReleased, by, Data{"attempts": strconv.Itoa(s.r.Attempt.Count), "circleci_id": id})
		e.Outcome, e.Facts = "released", s.r.Facts.Hash()
		s.m.Next = s.now.Add(min(s.k.Poll, 5*time.Second))
		return
	}
	e := s.happens(EventBypassed, by, nil)
	e.Outcome = string(Bypassed)
	if lost.Code != "" {
		e.Reason, e.Data, e.People = lost.Code, Data{"detail": lost.Detail}, s.k.Lost
	}
	s.m.Next = s.now
}

// inWindow judges a gate that somebody opened by hand: after the decision, and
// inside its window. A look after the decision that showed it waiting proves the
// first, whatever the clocks say.
func (s *step) inWindow() bool {
	at, r := cmp.Or(s.gate.StoppedAt, s.now), s.r
	if r.Gate.Waiting { // it was reached after the last look
		r.Gate.Since = latest(r.Gate.Since, s.m.Trail.LookedAt)
	}
	if r.windowOver(at.Add(-clockSkew)) {
		return false
	}
	if !s.m.Trail.LookedAt.Before(s.r.ApprovedAt) {
		return true
	}
	// Nobody looked between the decision and now. Right after the decision that
	// means that the gate was open before; later only the provider's clock tells.
	prompt := s.now.Sub(s.r.ApprovedAt) < promptLook
	return !prompt && s.gate.StoppedAt.After(s.r.ApprovedAt)
}

// over takes in a gate that ended otherwise than by an approval. The facts are read
// first, as far as they can be: they may say who cancelled the workflow.
func (s *step) over() {
	how := fmt.Sprintf("%s is %s in CircleCI", s.r.GateName, s.gate.Status)
	if s.gate.Status == JobCanceled {
		how = s.r.GateName + " was cancelled in CircleCI"
	}
	by := Actor{Kind: ActorCI}
	switch {
	case s.gate.CanceledBy != "":
		by.ID = s.l.name(s.gate.CanceledBy)
	case s.l.Facts == nil && s.l.FactsErr == nil:
		s.m.Act = ActReadFacts
		s.in(quickLook)
		return
	case s.l.Facts != nil && s.l.Facts.WorkflowStatus.Final():
		how, by.ID = endedText(s.r, s.l.Facts.WorkflowStatus), s.l.Facts.CanceledBy
	}
	s.canceled(Failure{FailCIEnded, how}, by)
}

// endedText says how a workflow ended that never opened the gate.
func endedText(r Request, workflow WorkflowStatus) string {
	switch workflow {
	case WorkflowCanceled:
		return "The workflow was cancelled in CircleCI"
	case WorkflowFailed, WorkflowError:
		return "The workflow failed in CircleCI before it reached " + r.GateName
	}
	return fmt.Sprintf("The workflow is over in CircleCI (%s) and never reached %s", workflow, r.GateName)
}

// unfit ends a request whose configuration is not that of its commit, whose gate
// is not the one that was reviewed or whose facts changed; the last two once a
// second look says the same. It reports whether there is such a doubt: then the
// rules for a gate that waits do not apply.
func (s *step) unfit() bool {
	t := &s.m.Trail
	sure, why := false, ""
	switch {
	case s.foreign():
		return true
	case s.state == gateOdd:
		why = s.odd
		sure = s.confirmed(&t.Odd, why)
	case s.changed != "":
		why = s.changed + " changed in CircleCI since the request was made"
		sure = s.confirmed(&t.Changed, s.changed)
	default:
		return false
	}
	if sure {
		s.canceled(Failure{FailFactsChanged, why}, Actor{Kind: ActorCI})
	}
	return true
}

// foreign ends a request whose configuration is not the file of its commit, as the
// code host says.
func (s *step) foreign() bool {
	if s.r.Commits == nil || s.r.Commits.Config != ConfigOther {
		return false
	}
	s.canceled(Failure{FailForeignConfig, "The CI configuration is not the file in the commit"}, Actor{Kind: ActorCodeHost})
	return true
}

// short reports whether the job list lacks jobs that an earlier one had. What is not in
// it may run; once a second list lacks jobs, too, they count as gone.
func (s *step) short() bool {
	t := &s.m.Trail
	return len(s.l.Jobs) < t.Jobs && !s.confirmed(&t.Short, "the job list lacks jobs")
}

// confirmed reports whether an odd answer says what an earlier one said, at least
// oddTime before. One odd answer decides nothing, however often it is judged.
func (s *step) confirmed(d *Doubt, what string) bool {
	if d.What != what {
		*d = Doubt{what, s.l.At}
	}
	sure := d.Since.Add(oddTime)
	if s.l.At.Before(sure) {
		s.by(latest(sure, s.now.Add(quickLook)))
		return false
	}
	return true
}

// workflowOver ends a request whose gate waits in a workflow that is over, as its
// facts say twice. They are read now and then, and when something points to it. It
// reports whether the look is done with: the request ended, or the facts are to be
// read first.
func (s *step) workflowOver() bool {
	waits := s.state == gateWaits
	switch {
	case s.factsDue(s.m.Trail.Changed.What != "" || waits && stuck(s.l.Jobs, s.gate)):
		s.m.Act = ActReadFacts
		s.in(s.k.Poll)
	case waits && s.ended():
		f := s.l.Facts
		s.canceled(Failure{FailCIEnded, endedText(s.r, f.WorkflowStatus)}, Actor{Kind: ActorCI, ID: f.CanceledBy})
	default:
		return false
	}
	return true
}

// factsDue reports whether the facts are to be read: now and then, on a hint, and when
// they have to confirm that the workflow is over.
func (s *step) factsDue(hint bool) bool {
	t := s.m.Trail
	hint = hint || t.Looks >= factsLooks || t.Over.What != "" && !s.l.At.Before(t.Over.Since.Add(oddTime))
	return hint && s.l.Facts == nil && s.l.FactsErr == nil
}

// ended reports whether the workflow is over and the job list is of the time after. The
// facts are read after the list, so that it takes a second look.
func (s *step) ended() bool {
	return s.l.Facts != nil && s.l.Facts.WorkflowStatus.Final() && s.confirmed(&s.m.Trail.Over, "the workflow is over")
}

// stuck reports whether a gate that is not on hold yet never will be: something
// that it needs ended otherwise than needed.
func stuck(jobs []Job, gate Job) bool {
	return slices.ContainsFunc(jobs, func(j Job) bool {
		accepted, needed := gate.Needs[j.ID]
		return needed && j.Status.Final() && !accepts(accepted, j.Status)
	})
}

// accepts reports whether a job that ended meets a need with the given statuses. A
// need without any wants success.
// https://circleci.com/docs/configuration-reference/#requires
func accepts(accepted []string, ended JobStatus) bool {
	return len(accepted) == 0 && ended == JobSuccess || slices.Contains(accepted, string(ended)) || slices.Contains(accepted, "terminal")
}
