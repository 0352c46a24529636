package approvals

import "slices"

// Status is the state of a request.
type Status string

// The statuses of a request.
const (
	Pending       Status = "pending"
	Approved      Status = "approved"
	Released      Status = "released"
	Deployed      Status = "deployed"
	DeployFailed  Status = "deploy_failed"
	Rejected      Status = "rejected"
	Expired       Status = "expired"
	Superseded    Status = "superseded"
	Canceled      Status = "canceled"
	Bypassed      Status = "bypassed"
	Undeliverable Status = "undeliverable"
)

// transitions is the whole state table: nothing else can happen to a request.
// Expired and undeliverable lead back to pending by a fresh round of votes
// (Retry), and to released when our own call turns out to have opened the gate
// after all.
var transitions = map[Status][]Status{
	Pending:       {Approved, Rejected, Expired, Superseded, Canceled, Bypassed, Released},
	Approved:      {Released, Expired, Canceled, Undeliverable, Bypassed},
	Released:      {Deployed, DeployFailed},
	Undeliverable: {Pending, Released},
	Expired:       {Pending, Released},
}

// Statuses lists every status, in the order of a request's life.
func Statuses() []Status {
	return []Status{Pending, Approved, Released, Deployed, DeployFailed, Rejected, Expired, Superseded, Canceled, Bypassed, Undeliverable}
}

// Known reports whether s is one of [Statuses].
func (s Status) Known() bool { return slices.Contains(Statuses(), s) }

// CanBecome reports whether the state table has the step from s to next.
func (s Status) CanBecome(next Status) bool { return slices.Contains(transitions[s], next) }

// Open reports whether the gate of a request in this status may still be approved by us.
func (s Status) Open() bool { return s == Pending || s == Approved }

// Passed reports whether the decision stands and was not overtaken.
func (s Status) Passed() bool {
	return s == Approved || s == Released || s == Deployed || s == DeployFailed
}

// yields reports whether a new request for the same workflow may be made
// although one in this status exists.
func (s Status) yields() bool { return s == Expired || s == Canceled || s == Superseded }

// OpenStatuses and ClosedStatuses are what the filters "open" and "closed" stand for.
func OpenStatuses() []Status { return []Status{Pending, Approved} }

// ClosedStatuses lists the statuses in which we will not approve the gate any more.
func ClosedStatuses() []Status {
	return only(Statuses(), func(s Status) bool { return !s.Open() })
}
