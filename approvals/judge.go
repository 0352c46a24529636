package approvals

import (
	"errors"
	"slices"
	"time"
)

// Clicker is who pressed something.
type Clicker struct {
	Team string
	User string
}

func (c Clicker) actor() Actor { return Actor{Kind: ActorPerson, ID: c.User, Team: c.Team} }

// staleAfter is how old Slack's word on a person or group may be before it does
// not count any more.
const staleAfter = 30 * time.Minute

// varTeam is the workspace that this database serves.
const varTeam = "team"

// judge says whether the clicker may do action with the request now: its state
// first, then the person's right. A refusal is a *[Refusal].
func (s *Service) judge(tx Tx, now time.Time, c Clicker, r Request, action string) (Policy, Person, error) {
	team, err := tx.Var(varTeam)
	if err != nil {
		return Policy{}, Person{}, err
	}
	if team == "" || c.Team != team {
		return Policy{}, Person{}, &Refusal{Code: RefusedWorkspace, App: r.App}
	}
	if why, err := stateRefusal(tx, now, r, action); err != nil || why != nil {
		return Policy{}, Person{}, orRefusal(why, err)
	}
	p, err := s.settings.Lookup(r.App, r.Environment)
	if err != nil {
		return Policy{}, Person{}, &Refusal{Code: RefusedAppGone, App: r.App}
	}
	person, why, err := right(tx, now, p, r, c.User, action)
	if err != nil || why != nil {
		return p, person, orRefusal(why, err)
	}
	if action == ActionApprove {
		if r.VotedBy(c.User) && (r.Status == Pending || r.Retrying) {
			return p, person, &Refusal{Code: RefusedVoted, App: r.App}
		}
		if why := s.hold(); why != "" {
			return p, person, &Refusal{Code: RefusedOnHold, App: r.App, Detail: why}
		}
	}
	if needsCode(p, action) && !person.Enrolled {
		return p, person, &Refusal{Code: RefusedNoAuthenticator, App: r.App, By: c.User}
	}
	return p, person, nil
}

// orRefusal keeps a nil *Refusal from becoming an error that is not nil.
func orRefusal(why *Refusal, err error) error {
	if err != nil {
		return err
	}
	return why
}

func needsCode(p Policy, action string) bool { return action == ActionApprove || p.MFAOnReject }

// stateRefusal says why the request takes no such decision any more.
func stateRefusal(tx Tx, now time.Time, r Request, action string) (*Refusal, error) {
	if r.Status == Pending {
		if !now.Before(r.ExpiresAt) {
			return &Refusal{Code: RefusedClosed, App: r.App, Status: Expired, At: r.ExpiresAt}, nil
		}
		return nil, nil
	}
	if action != ActionApprove || !r.CanRetry(now) {
		return closedRefusal(tx, r), nil
	}
	others, err := tx.Requests(Filter{Apps: []string{r.App}, Environment: r.Environment, WorkflowID: r.Facts.WorkflowID})
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		if o.ID != r.ID && !o.Status.yields() {
			return &Refusal{Code: RefusedTaken, App: r.App, Number: o.Number}, nil
		}
	}
	return nil, nil
}

func closedRefusal(tx Tx, r Request) *Refusal {
	why := &Refusal{Code: RefusedClosed, App: r.App, Status: r.Status, By: r.DecidedBy, At: r.ClosedAt, Reason: r.Failure.Detail}
	switch r.Status {
	case Approved, Released, Deployed, DeployFailed, Undeliverable:
		if votes := r.Approvals(); len(votes) > 0 {
			why.By = votes[len(votes)-1].SlackUser
		}
		why.At = r.ApprovedAt
	case Rejected:
		for _, d := range r.Decisions {
			if d.Action == ActionReject {
				why.By, why.At, why.Reason = d.SlackUser, d.At, d.Reason
			}
		}
	case Superseded:
		if by, err := tx.Request(r.SupersededBy); err == nil {
			why.Number = by.Number
		}
	}
	return why
}

// right judges the person alone: an active admin, confirmed by Slack, allowed
// for the app, and for approving not the starter.
func right(tx Tx, now time.Time, p Policy, r Request, user, action string) (Person, *Refusal, error) {
	person, err := tx.Person(user)
	if errors.Is(err, ErrNotFound) || err == nil && !person.RemovedAt.IsZero() {
		return Person{}, &Refusal{Code: RefusedNotAdmin, App: p.App, Who: p.Approvers}, nil
	}
	if err != nil {
		return Person{}, nil, err
	}
	if person.Standing.Problem != "" {
		return person, &Refusal{Code: RefusedStanding, App: p.App, Who: p.Approvers, Detail: person.Standing.Problem}, nil
	}
	if now.Sub(person.Standing.CheckedAt) > staleAfter {
		return person, &Refusal{Code: RefusedStalePerson, App: p.App, At: person.Standing.CheckedAt}, nil
	}
	if why, err := approverRefusal(tx, now, p, user); err != nil || why != nil {
		return person, why, err
	}
	if action == ActionApprove && !p.AllowSelf {
		if person.VCSLogin == "" {
			return person, &Refusal{Code: RefusedNoLogin, App: p.App, By: user}, nil
		}
		if r.Facts.StartedByLogin(person.VCSLogin) {
			return person, &Refusal{Code: RefusedSelf, App: p.App, Who: p.Approvers}, nil
		}
	}
	return person, nil, nil
}

// approverRefusal checks the app's approvers: people by id, groups by their
// members. A group that is not known fresh enough cannot give the right.
func approverRefusal(tx Tx, now time.Time, p Policy, user string) (*Refusal, error) {
	if len(p.Approvers) == 0 || slices.Contains(p.Approvers, user) {
		return nil, nil
	}
	var stale *Refusal
	for _, id := range p.Approvers {
		if !IsGroup(id) {
			continue
		}
		g, err := tx.Group(id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		switch {
		case now.Sub(g.CheckedAt) > staleAfter:
			stale = &Refusal{Code: RefusedStaleGroup, App: p.App, Group: id, At: g.CheckedAt}
		case g.Problem == "" && slices.Contains(g.Members, user):
			return nil, nil
		}
	}
	if stale != nil {
		return stale, nil
	}
	return &Refusal{Code: RefusedNotApprover, App: p.App, Who: p.Approvers}, nil
}

// tally judges the votes of the current round anew: how many count, which do
// not (a voter whose authenticator was taken away is none that could vote), and whether that cannot be told for want of fresh knowledge.
func tally(tx Tx, now time.Time, p Policy, r Request) (valid int, lost []string, stale bool, err error) {
	for _, d := range r.Approvals() {
		person, why, err := right(tx, now, p, r, d.SlackUser, ActionApprove)
		switch {
		case err != nil:
			return 0, nil, false, err
		case why == nil && person.Enrolled:
			valid++
		case why.stale():
			stale = true
		default:
			lost = append(lost, d.SlackUser)
		}
	}
	return valid, lost, stale, nil
}

// needed is how many distinct admins must approve: what was agreed at the
// creation or what the settings say now, whichever is more.
func needed(r Request, p Policy) int { return max(r.RequiredApprovals, p.Required, 1) }
