package approvals

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Apply brings a request to the state after one more of its events. It is the
// only way in which that state changes: live, when rows are rebuilt from the
// log, in reports and in tests. It refuses what the state table does not have.
func (r *Request) Apply(e Event) error {
	if err := r.enter(e); err != nil {
		return fmt.Errorf("event %d %s of request %s: %w", e.Seq, e.Type, e.Request, err)
	}
	r.Seq = e.Seq
	return nil
}

func (r *Request) enter(e Event) error {
	at := e.At()
	if e.Type == EventRequested {
		return r.open(e, at)
	}
	if r.ID == "" || r.ID != e.Request {
		return errors.New("the request was not asked for before")
	}
	if to, ok := becomes[e.Type]; ok {
		if !r.Status.CanBecome(to) {
			return fmt.Errorf("a request that is %s cannot become %s", r.Status, to)
		}
		r.Status = to
		r.turn(e, at)
		return nil
	}
	r.note(e, at)
	return nil
}

// open starts the life of a request.
func (r *Request) open(e Event, at time.Time) error {
	if r.ID != "" || e.Asked == nil {
		return errors.New("it was asked for already, or the event does not say for what")
	}
	*r = Request{
		ID: e.Request, Number: e.Asked.Number, App: e.App, Environment: e.Environment, Status: Pending, Asked: *e.Asked,
		Round: 1, CreatedAt: at, Version: r.Version, Metadata: r.Metadata, Seen: r.Seen,
	}
	return nil
}

// turn takes in an event that changes the status.
func (r *Request) turn(e Event, at time.Time) {
	if !r.Status.Open() && r.Status != Released {
		r.ClosedAt = at
	}
	switch e.Type {
	case EventReopened:
		r.Round++
		r.Decisions, r.ApprovedAt, r.ClosedAt = nil, time.Time{}, time.Time{}
		r.Gate, r.Failure, r.Closing, r.Restored = Gate{}, Failure{}, Closing{}, false
		r.Attempt = Attempt{IDs: r.Attempt.IDs}
		r.Deploy.Asked, r.Deploy.Stopped = time.Time{}, time.Time{}
	case EventApproved, EventBreakGlass:
		r.ApprovedAt = at
		r.Window = time.Duration(e.Data.number("window_seconds")) * time.Second
		if e.Type == EventBreakGlass {
			r.decided(e, at, ActionBreakGlass)
		}
	case EventRejected:
		r.DecidedBy = e.Actor.ID
		r.decided(e, at, ActionReject)
	case EventReleased:
		r.ReleasedAt, r.ClosedAt = at, time.Time{}
		r.Failure = Failure{}
		r.Gate.Status, r.Gate.ApprovedBy, r.Gate.Waiting, r.Gate.Silent = JobSuccess, e.Actor.ID, false, false
	case EventDeployed, EventDeployFailed:
		r.deployed(e, at)
	case EventSuperseded:
		r.SupersededBy = e.Data["by"]
	case EventBypassed:
		r.Gate.Status, r.Gate.ApprovedBy, r.DecidedBy = JobSuccess, e.Actor.ID, e.Actor.ID
	case EventCanceled:
		if e.Actor.Kind != ActorSystem {
			r.DecidedBy = e.Actor.ID
		}
	}
	if detail := e.Data["detail"]; e.Reason != "" && e.Type != EventRejected && e.Type != EventBreakGlass {
		r.Failure = Failure{Code: e.Reason, Detail: detail}
	}
}

// decided adds what a person decided.
func (r *Request) decided(e Event, at time.Time, action Action) {
	r.Decisions = append(slices.Clone(r.Decisions), Decision{
		Action: action, SlackUser: e.Actor.ID, Seq: e.Seq, At: at, MFA: e.MFA, Reason: e.Reason, NewAuth: e.Data.moment("new_authenticator"),
	})
}

func (r *Request) deployed(e Event, at time.Time) {
	r.Deploy.FinishedAt = at
	if r.Deploy.StartedAt.IsZero() {
		r.Deploy.StartedAt = r.ReleasedAt
	}
	r.Deploy.Phase, r.Deploy.Detail = PhaseSucceeded, e.Data["jobs"]
	if e.Type == EventDeployFailed {
		r.Deploy.Phase, r.Deploy.Detail = PhaseFailed, e.Data["detail"]
	}
}

// note takes in an event that leaves the status as it is.
func (r *Request) note(e Event, at time.Time) {
	switch e.Type {
	case EventVoted:
		r.decided(e, at, ActionApprove)
	case EventReminded:
		r.RemindedAt = at
	case EventCommitsRead:
		r.Commits = e.Commits
	case EventRestored:
		r.Restored = true
	case EventWaiting:
		r.Gate.Waiting = true
	case EventReached:
		r.Gate.Waiting, r.Gate.Since = false, latest(r.Gate.Since, e.Data.moment("since"))
	case EventDelayed:
		r.Gate.Silent = true
	case EventAnswers:
		r.Gate.Silent, r.Gate.Since = false, latest(r.Gate.Since, e.Data.moment("since"))
	case EventAttempt:
		r.attempted(e, at)
	case EventAccepted, EventGateRefused:
		r.answered(e, at)
	case EventClosing:
		r.Closing.Count++
		r.Closing.At, r.Closing.Act, r.Closing.Answer = at, OnClose(e.Outcome), 0
	case EventGateClosed:
		r.Closing.Answer, r.Closing.Said = e.Data.number("status"), e.answer()
	case EventGateBypassed:
		r.Gate.Status, r.Gate.ApprovedBy, r.Gate.Bypassed = JobSuccess, e.Actor.ID, true
	case EventGateEnded:
		r.Gate.Status = JobStatus(e.Outcome)
	case EventVerified:
		r.Deploy.Asked = at
	case EventVerifyRefused:
		r.Deploy.Stopped = at
	case EventDeployReport:
		r.reported(e, at)
	case EventNewerWorkflow:
		r.NewerFlows = append(slices.Clone(r.NewerFlows), e.Data["workflow_id"])
	}
}

func (r *Request) attempted(e Event, at time.Time) {
	a := &r.Attempt
	a.Count++
	a.At, a.Answer = at, 0
	r.Gate.Waiting = false
	if id := e.Data["approval_request_id"]; !slices.Contains(a.IDs, id) {
		a.IDs = append(slices.Clone(a.IDs), id)
	}
}

// answered takes in what CircleCI said to an approve call. While it cannot take
// the call, the approval loses no time.
func (r *Request) answered(e Event, at time.Time) {
	a := &r.Attempt
	a.Answer, a.Detail, a.Said, a.NotBefore = e.Data.number("status"), e.Reason, e.answer(), time.Time{}
	if wait := e.Data.number("retry_after"); wait > 0 {
		a.NotBefore = at.Add(time.Duration(wait) * time.Second)
	}
	if a.Said == answerLater {
		r.Gate.Since = at
	}
	if a.Answer == 0 {
		a.Answer = noAnswer
	}
}

// answerLater is what it comes to that CircleCI cannot take a call now.
const answerLater = "later"

// answer is what CircleCI's answer to a call comes to, however it is worded: one outage
// answers in many ways.
func (e Event) answer() string {
	if status := e.Data.number("status"); status == 0 || status == 429 || status >= 500 {
		return answerLater
	}
	return e.Outcome + " " + e.Data["status"]
}

// said is what an event reports, and of which job, for the comparison with what was reported before.
func (e Event) said() string { return e.Outcome + " " + e.Reason + " " + e.Data["job_id"] }

// noAnswer stands for the HTTP status of an answer that never came: like 5xx,
// the call may have taken effect.
const noAnswer = 599

// reported takes in what the deploy job says of itself. It never decides the
// outcome, which only the job list does and which then stands in its place.
func (r *Request) reported(e Event, at time.Time) {
	d := &r.Deploy
	d.Reported = e.said()
	if Phase(e.Outcome) == PhaseStarted && d.StartedAt.IsZero() {
		d.StartedAt = at
	}
	if r.Status == Deployed || r.Status == DeployFailed {
		return
	}
	d.Phase, d.Detail, d.FinishedAt = Phase(e.Outcome), e.Reason, time.Time{}
	if d.Phase != PhaseStarted {
		d.FinishedAt = at
	}
}

// foldRequest makes a request of its whole history.
func foldRequest(history []Event) (Request, error) {
	var r Request
	for _, e := range history {
		if err := r.Apply(e); err != nil {
			return Request{}, err
		}
	}
	return r, nil
}

// apply brings a person to the state after one more of their events.
func (p *Person) apply(e Event) error {
	id := e.Data["user"]
	if e.Type == EventPersonAdded {
		*p = Person{SlackID: id, Name: p.Name, AddedAt: e.At(), AddedSeq: e.Seq}
	}
	if p.SlackID == "" || p.SlackID != id {
		return fmt.Errorf("event %d %s: %q was not added before", e.Seq, e.Type, id)
	}
	p.Seq = e.Seq
	if login, ok := e.Data["vcs_login"]; ok {
		p.VCSLogin, p.CircleID = login, "" // the id is learnt anew
	}
	if id := e.Data["circleci_id"]; id != "" {
		p.CircleID = id
	}
	if name := e.Data["name"]; name != "" {
		p.Name = name
	}
	switch e.Type {
	case EventPersonRemoved:
		p.RemovedAt, p.Enrolled = e.At(), false
	case EventEnrolled:
		p.Enrolled = true
	case EventReset:
		p.Enrolled = false
	}
	return nil
}

// apply brings a token to the state after one more of its events.
func (t *Token) apply(e Event) error {
	id := e.Data["token"]
	if e.Type == EventTokenCreated {
		if e.Granted == nil || t.ID != "" {
			return fmt.Errorf("event %d %s: it does not say what it grants, or the token %q exists", e.Seq, e.Type, id)
		}
		g := e.Granted
		*t = Token{ID: id, Name: g.Name, Role: g.Role, Apps: g.Apps, Hash: g.Hash, CreatedAt: e.At(), ExpiresAt: g.Expires}
	}
	if t.ID == "" || t.ID != id {
		return fmt.Errorf("event %d %s: the token %q was not created before", e.Seq, e.Type, id)
	}
	t.Seq = e.Seq
	if e.Type == EventTokenRevoked {
		t.RevokedAt = e.At()
		if until := e.Data["until"]; until != "" {
			var err error
			if t.RevokedAt, err = time.Parse(timeFormat, until); err != nil {
				return fmt.Errorf("event %d %s: until when the token %q is in force cannot be read", e.Seq, e.Type, id)
			}
		}
	}
	return nil
}
