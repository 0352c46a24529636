package approvals

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Look is one reading of a workflow at the CI provider.
type Look struct {
	At   time.Time // when the reading began
	Jobs []Job
	// Due is when the look was to be taken, zero for now. One that comes much later
	// shows that nobody worked meanwhile.
	Due   time.Time
	Self  string            // our own user id
	Names map[string]string // logins by user id, of those whom the gates name
	Facts *Facts            // nil = not read
	// FactsErr is why the facts could not be read, although they were asked for.
	FactsErr error
	// Unasked are the newer workflows of the pipeline, of the same name, whose
	// gate waits without a request; nil = not read.
	Unasked []string
	// Siblings reports whether it was tried to read Unasked.
	Siblings bool
	Err      error // why there is no job list
}

// name is the login of a user id, or the id when the login cannot be read.
func (l Look) name(id string) string {
	if login := l.Names[id]; login != "" {
		return login
	}
	return id
}

// gateState is what a job list says of a request's gate.
type gateState int

const (
	gateWaits  gateState = iota // not on hold yet
	gateOnHold                  // can be approved
	gateOpened                  // success, by whomever
	gateEnded                   // will never be success
	gateOdd                     // not the gate that was reviewed, or none at all
)

// gate finds a request's gate in the job list; why says what is odd.
func (l Look) gate(r Request) (state gateState, gate Job, why string) {
	gate, refused := findGate(l.Jobs, r.GateName)
	switch {
	case refused != nil:
		return gateOdd, gate, refused.Message
	case gate.Project != "" && !strings.EqualFold(gate.Project, r.Facts.Project):
		return gateOdd, gate, fmt.Sprintf("the job list names project %s, not %s", gate.Project, r.Facts.Project)
	case gate.Status == JobSuccess:
		return gateOpened, gate, ""
	case gate.Status.Final():
		return gateEnded, gate, ""
	case gate.Status == JobOnHold:
		return gateOnHold, gate, ""
	}
	return gateWaits, gate, ""
}

// Trail is what the looks at one request have shown so far that no event tells.
// It decides nothing by itself: losing it costs a second look.
type Trail struct {
	LookedAt   time.Time `json:"looked_at,omitzero"`   // the newest look that succeeded
	Looks      int       `json:"looks,omitempty"`      // since the facts were read
	Odd        string    `json:"odd,omitempty"`        // what odd thing the newest job list showed
	OddAt      time.Time `json:"odd_at,omitzero"`      // when it was first shown
	Changed    string    `json:"changed,omitempty"`    // what the newest facts had changed
	ChangedAt  time.Time `json:"changed_at,omitzero"`  // when that was first read
	FailedAt   time.Time `json:"failed_at,omitzero"`   // since when looks have failed
	Gone       int       `json:"gone,omitempty"`       // how many looks in a row found no such workflow
	SiblingsAt time.Time `json:"siblings_at,omitzero"` // when the pipeline's workflows were read
	Frozen     time.Time `json:"frozen,omitzero"`      // until when the card was told that deploys are frozen
	RetryOver  bool      `json:"retry_over,omitempty"` // the card was told that Retry has ended
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

// resultKind is what the jobs behind a gate say of the deploy.
type resultKind int

const (
	resultOpen    resultKind = iota // it goes on
	resultNothing                   // no job says anything: the release stays without an outcome
	resultDone
	resultFailed
	resultSkipped
)

// outcome judges the deploy on the jobs behind its gate, on those with the given
// names alone if there are such. over: the workflow does not go on, so that every
// job is as it will stay. job is the one that decides a failure.
func outcome(behind []Job, names []string, over bool) (is resultKind, job Job) {
	if named := slices.DeleteFunc(slices.Clone(behind), func(j Job) bool { return !slices.Contains(names, j.Name) }); len(named) > 0 {
		behind = named
	}
	is = resultNothing
	for _, j := range behind {
		switch {
		case j.Status.Failed():
			return resultFailed, j
		case j.Status == JobSuccess:
			if is == resultNothing {
				is = resultDone
			}
		case j.Status == JobNotRun || over:
			// A job that runs only after something else than success did not have to.
			if !j.conditional() && is != resultOpen && is != resultSkipped {
				is, job = resultSkipped, j
			}
		default:
			is = resultOpen
		}
	}
	if is == resultSkipped && !slices.ContainsFunc(behind, func(j Job) bool { return !over && !j.Status.Final() }) {
		return is, job
	}
	if is == resultSkipped {
		return resultOpen, Job{} // another one may still fail, which says more
	}
	return is, Job{}
}

// conditional reports whether the job runs only after something else than the
// success of what it needs.
func (j Job) conditional() bool {
	for _, accepted := range j.Needs {
		if len(accepted) > 0 && !slices.Contains(accepted, string(JobSuccess)) && !slices.Contains(accepted, "terminal") {
			return true
		}
	}
	return false
}

// stuck reports whether a gate that is not on hold yet never will be: something
// that it needs ended otherwise than needed.
func stuck(jobs []Job, gate Job) bool {
	status := map[string]JobStatus{}
	for _, j := range jobs {
		status[j.ID] = j.Status
	}
	for need, accepted := range gate.Needs {
		s := status[need]
		if s.Final() && !slices.Contains(accepted, string(s)) && !slices.Contains(accepted, "terminal") && !(s == JobSuccess && len(accepted) == 0) {
			return true
		}
	}
	return false
}

// acceptsCanceled reports whether a job would run although its gate was
// cancelled: then the whole workflow has to go.
func acceptsCanceled(jobs []Job, gateID string) bool {
	return slices.ContainsFunc(jobs, func(j Job) bool {
		return slices.Contains(j.Needs[gateID], string(JobCanceled)) || slices.Contains(j.Needs[gateID], "terminal")
	})
}
