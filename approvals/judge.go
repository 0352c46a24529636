package approvals

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"
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

// secretTeam names the workspace that this database serves.
const secretTeam = "team"

// records are a transaction in which people are found: by their rows, or with a
// [proof] by their events alone.
type records interface {
	Tx
	person(slackID string) (Person, error)
	everybody() ([]Person, error)
}

// rows are the records of a transaction without a proof.
type rows struct{ Tx }

func (t rows) person(slackID string) (Person, error) { return person(t.Tx, slackID) }
func (t rows) everybody() ([]Person, error)          { return allKept[Person](t.Tx) }

func needsCode(p Policy, action Action) bool { return action != ActionReject || p.MFAOnReject }

// stateRefusal says why the request takes no such decision any more.
func stateRefusal(tx Tx, r Request, action Action) error {
	switch {
	case r.Status == Pending && tx.Now().Before(r.ExpiresAt()):
		return nil
	case r.Status == Pending:
		return &Refusal{Code: RefusedClosed, App: r.App, Status: Expired, At: r.ExpiresAt()}
	case action == ActionReject || !r.CanRetry(tx.Now()):
		return closedRefusal(tx, r)
	}
	by, err := retaken(tx, r)
	if err != nil || by == nil {
		return err
	}
	return &Refusal{Code: RefusedTaken, App: r.App, Number: by.Number, Status: by.Status}
}

// retryOffered reports whether people may bring a request back with a fresh round.
func retryOffered(tx Tx, r Request) (bool, error) {
	if !r.CanRetry(tx.Now()) {
		return false, nil
	}
	by, err := retaken(tx, r)
	return by == nil, err
}

// standing finds the request for a workflow that new ones do not replace, and otherwise
// the newest; [ErrNotFound].
func standing(tx Tx, app, environment, workflow string) (Request, error) {
	made, err := tx.Requests(Filter{Apps: []string{app}, Environment: environment, WorkflowID: workflow})
	if err != nil {
		return Request{}, err
	}
	if len(made) == 0 {
		return Request{}, ErrNotFound
	}
	return made[max(0, slices.IndexFunc(made, func(r Request) bool { return !r.Status.yields() }))], nil
}

// retaken finds the request because of which another one cannot be retried: it
// was made for the same workflow since, or a newer pipeline was released to the
// same place.
func retaken(tx Tx, r Request) (*Request, error) {
	if o, err := standing(tx, r.App, r.Environment, r.Facts.WorkflowID); err != nil || o.ID != r.ID && !o.Status.yields() {
		return &o, err
	}
	newer, err := releasedSince(tx, r)
	if err != nil || len(newer) == 0 {
		return nil, err
	}
	return &newer[0], nil
}

func closedRefusal(tx Tx, r Request) (err error) {
	why := &Refusal{Code: RefusedClosed, App: r.App, Status: r.Status, By: r.DecidedBy, At: r.ClosedAt, Reason: r.Failure.Detail}
	if why.Retry, err = retryOffered(tx, r); err != nil {
		return err
	}
	var last Decision
	if n := len(r.Decisions); n > 0 {
		last = r.Decisions[n-1]
	}
	switch r.Status {
	case Approved, Released, Deployed, DeployFailed, Undeliverable:
		why.By, why.At, why.Emergency = cmp.Or(last.SlackUser, why.By), r.ApprovedAt, last.Action == ActionBreakGlass
	case Rejected:
		why.By, why.At, why.Reason = last.SlackUser, last.At, last.Reason
	case Superseded:
		by, err := tx.Request(r.SupersededBy)
		if err != nil {
			return err
		}
		why.Number = by.Number
	}
	return why
}

// right judges the person alone: an active admin, confirmed by Slack, allowed
// for the app or, in an emergency, by break_glass, and for approving not the
// starter, of whom it asks started. Who has no right gets a *[Refusal].
func right(tx records, p Policy, user string, action Action, started func() (starter, error)) (Person, error) {
	person, err := tx.person(user)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && !person.RemovedAt.IsZero():
		return Person{}, &Refusal{Code: RefusedNotAdmin, App: p.App, Who: p.allows(action)}
	case err != nil:
		return Person{}, err
	case person.Standing.Problem != "":
		return person, &Refusal{Code: RefusedStanding, App: p.App, Who: p.allows(action), Detail: person.Standing.Problem}
	case tx.Now().Sub(person.Standing.CheckedAt) > staleAfter:
		return person, &Refusal{Code: RefusedStalePerson, App: p.App, At: person.Standing.CheckedAt}
	}
	if err := listRefusal(tx, p, user, action); err != nil || action != ActionApprove {
		return person, err
	}
	s, err := started()
	if err != nil {
		return person, err
	}
	return person, s.refusal(p, person)
}

// starter is what is known of who set a workflow off.
type starter struct {
	facts Facts
	// known: somebody on record did. Only then can be told whether a vote is the
	// starter's own.
	known bool
	// authors are those who wrote the commits, while nobody on record set the workflow
	// off. Each of them then counts as a possible starter.
	authors *Commits
}

// starterOf looks for whoever set a workflow off among the people on record, those
// who were removed included.
func starterOf(tx records, r Request) (starter, error) {
	all, err := tx.everybody()
	if err != nil {
		return starter{}, err
	}
	s := starter{facts: r.Facts, known: slices.ContainsFunc(all, r.Facts.startedBy)}
	if s.known || r.Commits == nil {
		return s, nil
	}
	s.authors = r.Commits
	s.known = r.Commits.Everybody && len(r.Commits.Authors) > 0 && !slices.ContainsFunc(r.Commits.Authors, func(login string) bool {
		return !slices.ContainsFunc(all, func(p Person) bool { return strings.EqualFold(p.VCSLogin, login) })
	})
	return s, nil
}

// findStarter is [starterOf] that looks once, when it is first asked: everybody on
// record is read for it.
func findStarter(tx records, r Request) func() (starter, error) {
	return sync.OnceValues(func() (starter, error) { return starterOf(tx, r) })
}

// is reports whether a person set the workflow off, or counts as a possible starter
// because they wrote one of its commits.
func (s starter) is(person Person) bool { return s.facts.startedBy(person) || s.authors.wrote(person) }

// refusal says why a person may not approve because of who set the workflow off,
// nil when nothing forbids it.
func (s starter) refusal(p Policy, person Person) error {
	switch {
	case !s.known && p.UnknownStarter == StarterRefuse:
		return &Refusal{Code: RefusedUnknownStarter, App: p.App, By: s.facts.starter()}
	case p.AllowSelf:
		return nil
	case person.VCSLogin == "":
		return &Refusal{Code: RefusedNoLogin, App: p.App, By: person.SlackID}
	case s.is(person):
		return &Refusal{Code: RefusedSelf, App: p.App, Who: p.Approvers}
	}
	return nil
}

// approves says whether a vote of this person is that of the starter.
func (s starter) approves(person Person) SelfApproval {
	switch {
	case s.is(person):
		return SelfYes
	case s.known && person.VCSLogin != "":
		return SelfNo
	}
	return SelfUnknown
}

// listRefusal checks the app's approvers or, in an emergency, its break_glass:
// people by id, groups by their members. A group that is not known fresh enough
// cannot give the right.
func listRefusal(tx Tx, p Policy, user string, action Action) error {
	allowed := p.allows(action)
	if len(allowed) == 0 && action != ActionBreakGlass || slices.Contains(allowed, user) {
		return nil
	}
	why := &Refusal{Code: RefusedNotApprover, App: p.App, Who: allowed}
	if action == ActionBreakGlass {
		why.Code = RefusedNotBreakGlass
	}
	for _, id := range only(allowed, IsGroup) {
		g, err := sealedValue[Group](tx, secretGroup(id))
		switch {
		case err != nil:
			return err
		case tx.Now().Sub(g.CheckedAt) > staleAfter:
			why = &Refusal{Code: RefusedStaleGroup, App: p.App, Group: id, At: g.CheckedAt}
		case g.Problem == "" && slices.Contains(g.Members, user):
			return nil
		}
	}
	return why
}

// tally judges the votes of the current round, or its emergency release, anew. A vote
// does not count of somebody who was removed since, even if they came back, or who has
// no authenticator any more.
func tally(tx records, p Policy, r Request) (t Tally, err error) {
	votes := r.Deciding()
	if len(votes) == 0 {
		return t, nil
	}
	var counted []string
	started := findStarter(tx, r)
	s, err := started()
	if err != nil {
		return t, err
	}
	for _, d := range votes {
		person, err := right(tx, p, d.SlackUser, d.Action, started)
		var why *Refusal
		switch {
		case err != nil && !errors.As(err, &why):
			return t, err
		case err == nil && person.Enrolled && d.Seq > person.AddedSeq:
			counted = append(counted, d.SlackUser)
			if self := s.approves(person); self == SelfYes || t.Self != SelfYes && t.Self != SelfUnknown {
				t.Self = self
			}
		case why.stale():
			t.Stale = true
		default:
			t.Lost = append(t.Lost, d.SlackUser)
		}
	}
	t.Valid = len(counted)
	t.Lost = only(t.Lost, func(id string) bool { return !slices.Contains(counted, id) })
	return t, nil
}

// able lists who can still approve a request, by id: nil when it cannot be told
// for want of fresh knowledge.
func able(tx Tx, p Policy, r Request) ([]string, error) {
	all, err := Everybody(tx)
	if err != nil {
		return nil, err
	}
	can, stale := []string{}, false
	started := findStarter(rows{tx}, r)
	for _, who := range all {
		_, err := right(rows{tx}, p, who.SlackID, ActionApprove, started)
		var why *Refusal
		switch {
		case err != nil && !errors.As(err, &why):
			return nil, err
		case why.stale():
			stale = true
		case err == nil && who.Enrolled && !r.voted(who):
			can = append(can, who.SlackID)
		}
	}
	if stale && len(can) == 0 {
		return nil, nil
	}
	return can, nil
}

// overtaken finds the request that takes the place of a pending one: a newer
// pipeline of the same place that was asked for later and is open, or was
// released since.
func overtaken(tx Tx, r Request, mode Supersede) (*Request, error) {
	if mode == SupersedeOff {
		return nil, nil
	}
	open, err := tx.Requests(Filter{Apps: []string{r.App}, Environment: r.Environment, Statuses: OpenStatuses(), After: r.Number})
	if err != nil {
		return nil, err
	}
	newer, err := releasedSince(tx, r)
	if err != nil {
		return nil, err
	}
	for _, o := range append(open, newer...) {
		line := mode == SupersedeEnvironment || o.Facts.line() == r.Facts.line()
		if line && o.Number > r.Number && o.Facts.PipelineNumber > r.Facts.PipelineNumber {
			return &o, nil
		}
	}
	return nil, nil
}

// releasedSince lists releases to the same place of newer pipelines since the
// request was made.
func releasedSince(tx Tx, r Request) (newer []Request, err error) {
	since, err := tx.Requests(Filter{Apps: []string{r.App}, Environment: r.Environment, Released: true, ReleasedAfter: r.CreatedAt, Limit: 20})
	return only(since, func(o Request) bool { return o.ID != r.ID && o.Facts.PipelineNumber > r.Facts.PipelineNumber }), err
}
