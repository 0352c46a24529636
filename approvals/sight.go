package approvals

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// sighting is what a job list says of a request's gate.
type sighting struct {
	state gateState
	gate  Job
	why   string // for gateChanged
}

type gateState int

const (
	gateWaits   gateState = iota // not on hold yet
	gateOnHold                   // can be approved
	gateOpened                   // success, by whomever
	gateEnded                    // will never be success
	gateChanged                  // not the gate that was reviewed
)

// noNews reports whether the gate waits as it did at the last look.
func (s sighting) noNews(r Request) bool {
	return (s.state == gateWaits || s.state == gateOnHold) && s.gate.Status == r.Gate.Status
}

// sight finds a request's gate in a job list.
func sight(r Request, jobs []Job) sighting {
	gate, why := findGate(jobs, r.GateName)
	switch {
	case why != nil:
		return sighting{state: gateChanged, why: why.Message}
	case gate.Project != "" && !strings.EqualFold(gate.Project, r.Facts.Project):
		return sighting{state: gateChanged, gate: gate, why: fmt.Sprintf("the job list names project %s, not %s", gate.Project, r.Facts.Project)}
	case gate.Status == "success":
		return sighting{state: gateOpened, gate: gate}
	case gate.Status.Final():
		return sighting{state: gateEnded, gate: gate}
	case gate.Status == "on_hold":
		return sighting{state: gateOnHold, gate: gate}
	}
	return sighting{state: gateWaits, gate: gate}
}

// ours reports whether an opened gate is our release: this very request was
// decided, a call for this very gate was recorded, and the provider names our
// own user.
// A request of a restored backup may have lost the record of its call.
func ours(r Request, gate Job, self string) bool {
	if r.Restored && r.Status == Approved && r.AutoApprove && self != "" && gate.ApprovedBy == self {
		return true
	}
	named := r.Attempt.Count > 0 && r.Attempt.ApprovalID == gate.approvalID() || r.Attempt.Earlier == gate.approvalID()
	return r.Status == Approved && r.AutoApprove && named && self != "" && gate.ApprovedBy == self
}

// windowOver reports whether an approval that could have been used was not. The
// time in which the gate could not be approved, or the provider did not answer,
// does not count against it.
func windowOver(r Request, now time.Time) bool {
	window := r.ApprovalExpiresAt.Sub(r.ApprovedAt)
	until := r.ApprovalExpiresAt
	if late := r.Attempt.LastBlocked.Add(window); !r.Attempt.LastBlocked.IsZero() && late.After(until) {
		until = late
	}
	return now.After(until) || now.After(r.lastChance())
}

// clockSlack is how far CircleCI's clock may be behind ours.
const clockSlack = time.Second

// openedInWindow judges a gate that somebody opened by hand: after the decision,
// and inside its window. Where the job list does not say when, a look after the
// decision must have shown it waiting.
func openedInWindow(r Request, gate Job, now time.Time) bool {
	if at := gate.StoppedAt; !at.IsZero() {
		return !at.Before(r.ApprovedAt.Add(-clockSlack)) && !windowOver(r, at)
	}
	return r.Gate.WaitedAt.After(r.ApprovedAt) && !windowOver(r, now)
}

// dependents lists the jobs behind a gate: those that need it, directly or
// through others, up to the next gate. A job behind it that filed another
// request does not count, nor does what needs it.
func dependents(jobs []Job, gateID string, filedRequests []string) []Job {
	everything := func(Job) bool { return true }
	behind := closure(jobs, []string{gateID}, everything)
	filed := slices.DeleteFunc(slices.Clone(filedRequests), func(id string) bool { return !slices.Contains(behind, id) })
	excluded := closure(jobs, filed, everything)
	seen := closure(jobs, []string{gateID}, func(j Job) bool { return !j.IsGate() && !slices.Contains(excluded, j.ID) })
	var out []Job
	for _, j := range jobs {
		if j.ID != gateID && slices.Contains(seen, j.ID) {
			out = append(out, j)
		}
	}
	return out
}

// closure is roots and every job that needs one of them, directly or through
// jobs that are let in.
func closure(jobs []Job, roots []string, let func(Job) bool) []string {
	in := slices.Clone(roots)
	for grown := true; grown; {
		grown = false
		for _, j := range jobs {
			if slices.Contains(in, j.ID) || !let(j) {
				continue
			}
			for need := range j.Needs {
				if slices.Contains(in, need) {
					in = append(in, j.ID)
					grown = true
					break
				}
			}
		}
	}
	return in
}

// outcome judges the jobs behind a gate: ended is false while one may still
// change; failed is the first that failed. Jobs that did not have to run, such as
// a roll-back that waits for a failure, leave the outcome to the others.
func outcome(behind []Job) (ended bool, failed *Job) {
	succeeded := false
	for i, j := range behind {
		if j.Status.Failed() {
			return true, &behind[i]
		}
		succeeded = succeeded || j.Status == "success"
	}
	return succeeded && allFinal(behind), nil
}

// allFinal reports whether none of the jobs changes any more. Jobs that were
// skipped leave a release without an outcome.
func allFinal(jobs []Job) bool {
	return !slices.ContainsFunc(jobs, func(j Job) bool { return !j.Status.Final() })
}

// stuck reports whether a gate that is not on hold yet never will be: something
// that it needs ended otherwise than needed.
func stuck(jobs []Job, gate Job) bool {
	status := map[string]JobStatus{}
	for _, j := range jobs {
		status[j.ID] = j.Status
	}
	for need, accepted := range gate.Needs {
		if s := status[need]; s.Final() && !slices.Contains(accepted, string(s)) && !slices.Contains(accepted, "terminal") && !(s == "success" && len(accepted) == 0) {
			return true
		}
	}
	return false
}
