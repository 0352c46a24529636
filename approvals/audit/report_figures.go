package audit

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Ending is what became of a request, coarsely.
type Ending int

// What becomes of requests. Endings is how many ways there are.
const (
	EndApproved Ending = iota
	EndRejected
	EndNobody
	EndBypassed
	EndOpen
	Endings
)

var endingNames = [Endings]string{"approved", "rejected", "ended without a decision", "opened past the gateway", "still open"}

// String is the word for people.
func (e Ending) String() string { return endingNames[e] }

// Ending is what became of the request.
func (d *Deploy) Ending() Ending {
	switch {
	case d.Status == approvals.Bypassed || d.Gate.Bypassed:
		return EndBypassed
	case d.decision == "approved":
		return EndApproved
	case d.decision == "rejected":
		return EndRejected
	case d.Status == approvals.Pending:
		return EndOpen
	}
	return EndNobody
}

// Total is a row of a table of totals.
type Total struct {
	Name                   string
	Requests               int
	Ended                  [Endings]int
	Deployed, DeployFailed int
	Times                  []time.Duration // from the request to the decision, but none after a Retry
}

func (t *Total) add(d *Deploy) {
	t.Requests++
	t.Ended[d.Ending()]++
	switch d.Status {
	case approvals.Deployed:
		t.Deployed++
	case approvals.DeployFailed:
		t.DeployFailed++
	}
	if d.decision != "" && d.retries == 0 {
		t.Times = append(t.Times, max(0, d.at.Sub(d.CreatedAt)))
	}
}

// Approver is a row of the table of people.
type Approver struct {
	Name                             string
	Votes, Rejects, Emergencies, Own int
	Waits                            []time.Duration // that requests waited for the vote
}

// Figures are the totals of a report.
type Figures struct {
	All       *Total
	Apps      []*Total
	Statuses  []StatusCount
	Approvers []*Approver
}

// StatusCount is a row of the table of statuses.
type StatusCount struct {
	Status   approvals.Status
	Requests int
}

// Figures counts what the report is about.
func (r *Reading) Figures() Figures {
	f := Figures{All: &Total{}}
	apps, statuses, people := map[string]*Total{}, map[approvals.Status]int{}, map[string]*Approver{}
	for _, d := range r.Deploys {
		f.All.add(d)
		statuses[d.Status]++
		place := d.Place()
		if apps[place] == nil {
			apps[place] = &Total{Name: place}
		}
		apps[place].add(d)
		d.credit(func(user string) *Approver {
			if people[user] == nil {
				people[user] = &Approver{Name: r.name(user)}
			}
			return people[user]
		})
	}
	for _, s := range approvals.Statuses() {
		if statuses[s] > 0 {
			f.Statuses = append(f.Statuses, StatusCount{s, statuses[s]})
		}
	}
	f.Apps = slices.SortedFunc(maps.Values(apps), func(a, b *Total) int { return cmp.Compare(a.Name, b.Name) })
	f.Approvers = slices.SortedFunc(maps.Values(people), func(a, b *Approver) int {
		return cmp.Or(cmp.Compare(b.Votes, a.Votes), cmp.Compare(a.Name, b.Name))
	})
	return f
}

// credit counts what people did with a request.
func (d *Deploy) credit(of func(user string) *Approver) {
	for _, e := range d.acts {
		switch a := of(e.Actor.ID); e.Type {
		case approvals.EventVoted:
			a.Votes++
		case approvals.EventRejected:
			a.Rejects++
		case approvals.EventBreakGlass:
			a.Emergencies++
		}
	}
	// Where several people approved, the log says that one of them had started the
	// workflow, and not who it was.
	if d.self == approvals.SelfYes && len(d.people) == 1 {
		of(d.people[0]).Own++
	}
	for _, w := range d.waits {
		a := of(w.user)
		a.Waits = append(a.Waits, w.time)
	}
}
