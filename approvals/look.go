package approvals

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Look is one reading of a workflow at the CI provider.
type Look struct {
	At   time.Time // when the reading began, by the clock of the store
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
func (l Look) name(id string) string { return cmp.Or(l.Names[id], id) }

// failure is why what was asked for could not be read.
func (l Look) failure() error { return cmp.Or(l.Err, l.FactsErr) }

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
	LookedAt time.Time `json:"looked_at,omitzero"` // the newest look that showed the gate not open yet
	Looks    int       `json:"looks,omitempty"`    // since the facts were read
	Jobs     int       `json:"jobs,omitempty"`     // how many the longest job list with the gate had
	Short    Doubt     `json:"short,omitzero"`     // the newest job list is shorter than that one
	Odd      Doubt     `json:"odd,omitzero"`       // what is odd about the gate in the newest job list
	Changed  Doubt     `json:"changed,omitzero"`   // what the newest facts had changed
	Over     Doubt     `json:"over,omitzero"`      // the newest facts say that the workflow is over
	FailedAt time.Time `json:"failed_at,omitzero"` // since when looks have failed
	Gone     int       `json:"gone,omitempty"`     // how many looks in a row found no such workflow
	// Idle is for how long in all nobody looked at an approval, although it was due,
	// since its gate was seen.
	Idle       time.Duration `json:"idle,omitempty"`
	SiblingsAt time.Time     `json:"siblings_at,omitzero"` // when the pipeline's workflows were read
	Frozen     time.Time     `json:"frozen,omitzero"`      // until when the card was told that deploys are frozen
	RetryOver  bool          `json:"retry_over,omitempty"` // the card was told that Retry has ended
}

// Doubt is something odd that CircleCI answered. It counts only when a second answer,
// some time later, says the same.
type Doubt struct {
	What  string    `json:"what,omitempty"`
	Since time.Time `json:"since,omitzero"` // when it was first answered
}
