package approvals

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// NewRequest is what CI asks. Only the workflow id is taken on trust, and only
// to look the facts up; all else is a claim to compare with them.
type NewRequest struct {
	App         string
	Environment string
	GitCommit   string
	Branch      string
	Tag         string
	Message     string
	Metadata    json.RawMessage // ci_metadata, compact
	WorkflowID  string          // ci_metadata.workflow_id
	JobID       string          // ci_metadata.job_id
}

const maxMessage = 2000 // characters

var commitPattern = regexp.MustCompile(`^[0-9a-fA-F]{7,40}$`)

// check refuses what cannot be a request, naming every faulty field.
func (n *NewRequest) check() error {
	if n.Environment == "" {
		n.Environment = DefaultEnvironment
	}
	n.WorkflowID = strings.ToLower(n.WorkflowID)
	var f faults
	f.unless(ValidName(n.App), "app", "must be a name: a lower case letter, then up to 39 lower case letters, digits and hyphens")
	f.unless(ValidName(n.Environment), "environment", "must be a name: a lower case letter, then up to 39 lower case letters, digits and hyphens")
	f.unless(commitPattern.MatchString(n.GitCommit), "git_commit", "must be 7 to 40 hex digits")
	f.unless(uuidPattern.MatchString(n.WorkflowID), "ci_metadata.workflow_id", "must be the id (UUID) of a CircleCI workflow: $CIRCLE_WORKFLOW_ID")
	f.unless(n.JobID == "" || uuidPattern.MatchString(n.JobID), "ci_metadata.job_id", "must be the id (UUID) of a CircleCI job: $CIRCLE_WORKFLOW_JOB_ID")
	f.unless(utf8.RuneCountInString(n.Message) <= maxMessage, "message", "must be at most 2,000 characters")
	f.unless(n.Branch == "" || n.Tag == "", "tag", "must not be given together with branch")
	var names []string
	for _, fault := range f {
		names = append(names, fault.Field)
	}
	return f.refusal("the request is not valid: see " + strings.Join(names, ", "))
}

// Request files a deploy approval request for a token; created is false when
// one for the same app, environment and workflow stands already. Nothing is
// stored unless every check passes; then the request, its event and its card
// are one transaction.
func (s *Service) Request(ctx context.Context, t Token, n NewRequest) (r Request, created bool, err error) {
	r, created, err = s.request(ctx, t, n)
	if why, ok := errors.AsType[*Error](err); ok && why.Code != CodeCIUnavailable && why.Code != CodeUnavailable {
		s.refused(ctx, t, n, why)
	}
	return r, created, err
}

// Refused records that a create was refused before its body could be read.
func (s *Service) Refused(ctx context.Context, t Token, app string, why *Error) {
	s.refused(ctx, t, NewRequest{App: app}, why)
}

// refused records that a create was refused, for which workflow, and why. Of what was
// asked for only names that can be right are recorded.
func (s *Service) refused(ctx context.Context, t Token, n NewRequest, why *Error) {
	if t.unproven {
		return // the log says nothing of a token that it may not have
	}
	e := Event{Type: EventRefused, Actor: t.actor(), Source: "api", Outcome: "refused", Reason: cmp.Or(string(why.Reason), string(why.Code))}
	if ValidName(n.App) {
		e.App = n.App
	}
	if ValidName(n.Environment) {
		e.Environment = n.Environment
	}
	if workflow := strings.ToLower(n.WorkflowID); uuidPattern.MatchString(workflow) {
		e.Data = Data{"workflow_id": workflow, "detail": bounded(why.Message, maxReason)}
	}
	if err := s.Record(ctx, e); err != nil {
		s.log.Error("record a refused request", "err", err)
	}
}

func (s *Service) request(ctx context.Context, t Token, n NewRequest) (r Request, created bool, err error) {
	p, err := s.admit(t, "file requests", &n)
	if err != nil {
		return r, false, err
	}
	if t.Job != nil {
		n.JobID = t.Job.JobID // signed, where the body only claims
	}
	had, err := query(ctx, s.store, func(tx Tx) (*Request, error) { return filed(tx, n) })
	if err != nil {
		return r, false, err
	}
	if had != nil {
		if had.Status == Pending && had.Slack.TS != "" { // whether its card still stands is looked at
			err = s.update(ctx, observed(had.ID, (*Change).showAgain))
		}
		return *had, false, err
	}
	facts, gate, err := s.inspect(ctx, p, n)
	if err != nil {
		return r, false, err
	}
	if t.Job != nil && t.Job.PipelineID != "" && t.Job.PipelineID != strings.ToLower(facts.PipelineID) {
		return r, false, notThis(ReasonWorkflow, "the OIDC token is of another pipeline than the workflow")
	}
	last, err := s.lastDeployed(ctx, n)
	if err != nil {
		return r, false, err
	}
	code, err := s.askCommits(ctx, p, facts, last)
	if err != nil {
		return r, false, err
	}
	asked := Asked{
		Facts: facts, Last: last, Message: n.Message, Metadata: hashOf(n.Metadata), JobID: strings.ToLower(n.JobID),
		Requester: Requester{TokenID: t.ID, TokenName: t.Name, Actor: facts.starter()},
		Project:   p.Project, GateName: p.Gate, Channel: p.Channel, PendingTTL: p.PendingTTL,
		AutoApprove: p.AutoApprove, OnClose: p.OnClose, DeployJobs: p.DeployJobs,
	}
	err = s.update(ctx, func(c *Change) error {
		// A second call for the same workflow may have come first.
		if had, err := filed(c.Tx, n); err != nil {
			return err
		} else if had != nil {
			r = *had
			return nil
		}
		r, created = Request{Metadata: n.Metadata, Seen: Seen{Told: -1, GateStatus: gate.Status}}, true
		return s.file(c, &r, asked, code, p, n, t)
	})
	if err != nil {
		return Request{}, false, err
	}
	return r, created, nil
}

// admit refuses what a token may not ask, or what nobody can; what is what it asks
// for.
func (s *Service) admit(t Token, what string, n *NewRequest) (Policy, error) {
	if err := cmp.Or(t.mayAct(what), n.check()); err != nil {
		return Policy{}, err
	}
	if !t.Covers(n.App) {
		return Policy{}, refuse(CodeForbidden, "this token is not for app %q", n.App)
	}
	p, err := s.settings.Lookup(n.App, n.Environment)
	if err == nil {
		err = t.mayUse(p, n.WorkflowID)
	}
	return p, err
}

// inspect reads what the provider says of the workflow, and refuses what may not
// be asked for.
func (s *Service) inspect(ctx context.Context, p Policy, n NewRequest) (facts Facts, gate Job, err error) {
	var jobs []Job
	var unlisted error
	var listing sync.WaitGroup
	listing.Go(func() { jobs, unlisted = s.ci.Jobs(ctx, n.WorkflowID) })
	facts, err = s.ci.Facts(ctx, n.WorkflowID)
	listing.Wait()
	if err != nil {
		return facts, gate, lookupRefused(err)
	}
	if err := s.knowStarter(ctx, facts); err != nil {
		return facts, gate, err
	}
	for _, q := range slices.Insert(s.requirements(ctx, p, facts), claimsAfter, requirement{fault: compareClaims(n, facts)}) {
		if q.fault != nil {
			return facts, gate, q.fault
		}
	}
	if unlisted != nil {
		return facts, gate, lookupRefused(unlisted)
	}
	gate, why := findGate(jobs, p.Gate)
	if why != nil {
		return facts, gate, why
	}
	if gate.Status == JobSuccess {
		asked, err := s.askedBefore(ctx, n.App, n.Environment, n.WorkflowID)
		if err != nil {
			return facts, gate, err
		}
		if !asked {
			return facts, gate, refuse(CodeAlreadyReleased, "approval job '%s' is approved already and no request asked for it", p.Gate)
		}
	}
	if gate.Status.Final() || facts.WorkflowStatus.Final() {
		return facts, gate, refuse(CodeWorkflowFinished, "the workflow is finished (workflow %s, approval job %s): run it again from start and ask again", facts.WorkflowStatus, gate.Status)
	}
	return facts, gate, nil
}

// knowStarter refuses facts that lack a starter only because CircleCI could not
// be asked: who may not approve their own deploy has to be known.
func (s *Service) knowStarter(ctx context.Context, f Facts) error {
	if f.StartedByID == "" || f.StartedBy != "" {
		return nil
	}
	if _, err := s.ci.Login(ctx, f.StartedByID); err != nil && ciError(err).Temporary() {
		return lookupRefused(err)
	}
	return nil
}

// askedBefore reports whether any request was made for the workflow.
func (s *Service) askedBefore(ctx context.Context, app, environment, workflow string) (bool, error) {
	had, err := query(ctx, s.store, func(tx Tx) ([]Request, error) {
		return tx.Requests(Filter{Apps: []string{app}, Environment: environment, WorkflowID: workflow, Limit: 1})
	})
	return len(had) > 0, err
}

// filed finds the request that another one for the same workflow would only repeat;
// nil = none.
func filed(tx Tx, n NewRequest) (*Request, error) {
	r, err := standing(tx, n.App, n.Environment, n.WorkflowID)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && r.Status.yields():
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, compareClaims(n, r.Facts)
}

// requirement is what a workflow has to be before anybody may ask for it, and why it
// is not.
type requirement struct {
	what  string
	fault error
}

// claimsAfter is after how many requirements the claims are compared: before, they
// may be about another repository.
const claimsAfter = 2

// requirements judges what the settings demand of the facts, in the order in which
// faults are told.
func (s *Service) requirements(ctx context.Context, p Policy, f Facts) []requirement {
	var project, fork, ref, trigger, config error
	if same, err := s.ci.SameProject(ctx, p.Project, f.Project); err != nil {
		project = lookupRefused(err)
	} else if !same {
		project = refuse(CodeWorkflowWrongProject, "the workflow belongs to project %s, but app %q is %s", f.Project, p.App, p.Project)
	}
	switch {
	case f.Fork() && f.Origin == "":
		fork = refuse(CodeWorkflowWrongProject, "the pipeline builds a pull request (%s), and CircleCI does not say that its repository is %s itself: it counts as a fork", refText(f), p.Project)
	case f.Fork():
		fork = refuse(CodeWorkflowWrongProject, "the pipeline builds a fork (%s), not %s itself", f.Origin, p.Project)
	}
	if !p.AllowsRef(f.Branch, f.Tag) {
		ref = refuse(CodeBranchNotAllowed, "%s may not be deployed: allowed are %s", refText(f), strings.Join(p.AllowedBranches, ", "))
	}
	others := only(f.triggers(), func(t string) bool { return !slices.Contains(p.AllowedTriggers, t) })
	if len(p.AllowedTriggers) > 0 && len(others) > 0 {
		trigger = refuse(CodeTriggerNotAllowed, "a pipeline with the trigger %q may not be deployed: allowed are %s", others[0], strings.Join(p.AllowedTriggers, ", "))
	}
	if from := f.ConfigElsewhere(); from != "" {
		config = refuse(CodeConfigNotFromCommit, "the pipeline's configuration is not that of its commit: %s. Start a pipeline that takes it from the commit", from)
	}
	return []requirement{
		{"the workflow belongs to the app's project", project},
		{"it builds the repository itself and no fork", fork},
		{"its branch or tag is allowed", ref},
		{"its trigger is allowed", trigger},
		{"its configuration is that of its commit", config},
	}
}

func compareClaims(n NewRequest, f Facts) error {
	if !strings.HasPrefix(strings.ToLower(f.Revision), strings.ToLower(n.GitCommit)) {
		return refuse(CodeCommitMismatch, "the pipeline's commit is %s, not %s", f.Revision, n.GitCommit)
	}
	if n.Branch != "" && n.Branch != f.Branch || n.Tag != "" && n.Tag != f.Tag {
		return refuse(CodeBranchMismatch, "the pipeline runs on %s, not on the branch or tag of the request", refText(f))
	}
	return nil
}

func refText(f Facts) string {
	if f.Tag != "" {
		return "tag " + strconv.Quote(f.Tag)
	}
	return "branch " + strconv.Quote(f.Branch)
}

// lookupRefused puts a failed look-up at creation into a code.
func lookupRefused(err error) error {
	ci, ok := errors.AsType[*CIError](err)
	switch {
	case !ok:
		return err
	case ci.Status == 404:
		return refuse(CodeWorkflowNotFound, "workflow not found: the workflow_id is wrong, or the gateway's CircleCI token may not see the project")
	case ci.Status == 401:
		return refuse(CodeCIUnauthorized, "CircleCI answered 401 Unauthorized: the gateway's CircleCI token is missing, expired or revoked")
	case ci.Status == 403:
		return refuse(CodeCIUnauthorized, "CircleCI answered 403 Forbidden: the gateway's CircleCI token lacks permissions or expired")
	}
	e := refuse(CodeCIUnavailable, "CircleCI cannot be asked now (%s): try again", ci.Message)
	e.RetryAfter = max(ci.RetryAfter, 5*time.Second)
	return e
}

// file stores a new request with all that it causes.
func (s *Service) file(c *Change, r *Request, asked Asked, code codeAnswer, p Policy, n NewRequest, t Token) error {
	newest, err := c.Requests(Filter{Limit: 1})
	if err != nil {
		return err
	}
	asked.Number = 1
	if len(newest) > 0 {
		asked.Number = newest[0].Number + 1
	}
	asked.Required = needed(Request{Asked: asked}, p)
	older, newer, err := rivals(c.Tx, n, asked.Facts, p.Supersede)
	if err != nil {
		return err
	}
	asked.Newer = newer
	e := Event{
		Type: EventRequested, Request: rand.Text(), App: n.App, Environment: n.Environment, Actor: t.actor(), Source: "api",
		Facts: asked.Facts.Hash(), Asked: &asked,
	}
	if err := c.happen(r, e); err != nil {
		if errors.Is(err, errTooLong) {
			return refuse(CodeInvalid, "the request is too long to be recorded: shorten the message or the names")
		}
		return err
	}
	if err := s.addCommits(c, r, p, code); err != nil {
		return err
	}
	if err := c.recognise(r.Facts); err != nil {
		return err
	}
	if err := c.ask(followWork(r.Facts.WorkflowID, c.Now().Add(s.poll), rankOpen)); err != nil {
		return err
	}
	for _, old := range older {
		ended := about(old, EventSuperseded, Actor{Kind: ActorSystem}, "api")
		ended.Outcome, ended.Data = string(Superseded), Data{"by": r.ID, "number": itoa(r.Number)}
		if err := s.end(c, &old, ended); err != nil {
			return fmt.Errorf("supersede #%d: %w", old.Number, err)
		}
	}
	return nil
}

// rivals finds the pending requests for the same place that a new one supersedes, and
// the number of that of the newest pipeline which is open already; 0 = none is newer.
func rivals(tx Tx, n NewRequest, f Facts, mode Supersede) (older []Request, newer int64, err error) {
	if mode == SupersedeOff {
		return nil, 0, nil
	}
	pending, err := tx.Requests(Filter{Apps: []string{n.App}, Environment: n.Environment, Statuses: []Status{Pending}})
	newest := f.PipelineNumber
	for _, o := range pending {
		switch {
		case mode == SupersedeBranch && o.Facts.line() != f.line():
		case o.Facts.PipelineNumber < f.PipelineNumber:
			older = append(older, o)
		case o.Facts.PipelineNumber > newest:
			newest, newer = o.Facts.PipelineNumber, o.Number
		}
	}
	return older, newer, err
}

// lastDeployed is the deploy to the same place that ended last, nil when there was none.
// While nothing can be proven it is empty, so that the configuration counts as another
// one and as many have to approve as for a change.
func (s *Service) lastDeployed(ctx context.Context, n NewRequest) (last *DeployedBefore, err error) {
	if s.journal.hold() != "" {
		return &DeployedBefore{}, nil
	}
	err = s.journal.proven(ctx, func(p *proof) (err error) {
		last, err = p.lastDeployed(place{n.App, n.Environment})
		return err
	})
	return last, err
}
