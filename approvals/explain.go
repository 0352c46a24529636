package approvals

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Answer is what a check of an [Explanation] says.
type Answer string

// The answers. What cannot be read is unknown, never yes.
const (
	AnswerYes     Answer = "yes"
	AnswerNo      Answer = "no"
	AnswerUnknown Answer = "unknown"
)

// Finding is one check of an [Explanation].
type Finding struct {
	Check  string // what has to be so
	Answer Answer
	Detail string // what was found, in words for people
}

// Explanation says of a workflow which checks it passes, and who could approve it
// now.
type Explanation struct {
	Findings []Finding
	People   []Judged // active people, by id; nil when the facts cannot be read
}

// Judged is what a person may do with a request now: nil = they may.
type Judged struct {
	Person
	Approve, Reject, BreakGlass *Refusal
}

// Explain makes every check that a request for a workflow, and a decision on it,
// has to pass. It only reads, knows of Slack what the database knows, and of the log
// what [Config.Rolled] says. The error is an *[Error] when the app or the environment
// is not in the settings, or the id is none.
func (s *Service) Explain(ctx context.Context, app, environment, workflow string) (x Explanation, err error) {
	p, err := s.settings.Lookup(app, environment)
	if err != nil {
		return x, err
	}
	if workflow = strings.ToLower(workflow); !uuidPattern.MatchString(workflow) {
		return x, refuse(CodeInvalid, "the workflow must be the id (UUID) of a CircleCI workflow")
	}
	facts, err := s.ci.Facts(ctx, workflow)
	x.add("CircleCI tells what the workflow is", lookupRefused(err), fmt.Sprintf("pipeline %d of %s, %s, commit %s, workflow %s",
		facts.PipelineNumber, facts.Project, refText(facts), facts.Revision, facts.WorkflowStatus))
	if err != nil {
		return x, nil
	}
	x.add("CircleCI tells who started it", s.knowStarter(ctx, facts), cmp.Or(strings.Join(facts.Starters(), ", "), "nobody, as when a schedule starts it"))
	for _, q := range s.requirements(ctx, p, facts) {
		x.add(q.what, q.fault, "")
	}
	s.explainGate(ctx, &x, p, workflow, facts)
	r, asked, err := s.explained(ctx, p, workflow, facts)
	if err != nil {
		return x, err
	}
	if said := s.explainCommits(ctx, &x, p, r); r.Commits == nil {
		r.Commits = said
	}
	x.add("the log is as it was left", refuseIf(s.rolled != "", CodeConflict, "%s", s.rolled), "")
	return x, s.view(ctx, func(tx Tx) error { return s.explainDecision(tx, &x, p, r, asked) })
}

// refuseIf is the refusal of a check that is not passed.
func refuseIf(fails bool, code Code, format string, args ...any) error {
	if fails {
		return refuse(code, format, args...)
	}
	return nil
}

// add notes what came of a check. A refusal for good is a no, any other error an
// unknown.
func (x *Explanation) add(check string, err error, detail string) {
	answer := AnswerYes
	if err != nil {
		answer, detail = AnswerUnknown, err.Error()
	}
	if why, ok := errors.AsType[*Error](err); ok {
		detail = why.Message
		if !slices.Contains([]Code{CodeCIUnavailable, CodeCIUnauthorized, CodeUnavailable}, why.Code) {
			answer = AnswerNo
		}
	}
	x.Findings = append(x.Findings, Finding{check, answer, detail})
}

// explainGate looks for the gate in the job list.
func (s *Service) explainGate(ctx context.Context, x *Explanation, p Policy, workflow string, f Facts) {
	jobs, err := s.ci.Jobs(ctx, workflow)
	if err != nil {
		x.add("CircleCI tells the jobs of the workflow", lookupRefused(err), "")
		return
	}
	gate, refused := findGate(jobs, p.Gate)
	if refused != nil {
		x.add("the approval job is in the workflow", refused, "")
		return
	}
	x.add("the approval job is in the workflow", nil, p.Gate)
	over := refuseIf(gate.Status.Final() || f.WorkflowStatus.Final(), CodeWorkflowFinished,
		"the approval job is %s, the workflow %s", gate.Status, f.WorkflowStatus)
	x.add("the approval job can still be approved", over, string(gate.Status))
}

// explained is the newest request for a workflow, or one as it would be made now.
func (s *Service) explained(ctx context.Context, p Policy, workflow string, f Facts) (r Request, asked bool, err error) {
	err = s.view(ctx, func(tx Tx) error {
		made, err := tx.Requests(Filter{Apps: []string{p.App}, Environment: p.Environment, WorkflowID: workflow, Limit: 1})
		if err != nil {
			return err
		}
		if asked = len(made) > 0; asked {
			r = made[0]
			return nil
		}
		r = Request{App: p.App, Environment: p.Environment, Status: Pending, Round: 1, CreatedAt: tx.Now()}
		r.Facts, r.PendingTTL, r.Required = f, p.PendingTTL, p.Required
		last, err := tx.Requests(Filter{Apps: []string{p.App}, Environment: p.Environment, Statuses: []Status{Deployed}, Released: true, Limit: 1})
		if len(last) > 0 {
			r.Last = deployedBefore(last[0])
		}
		return err
	})
	return r, asked, err
}

// explainWait is how long an explanation waits for the code host at the most.
const explainWait = 5 * time.Second

// explainCommits asks the code host what it would be asked for the request, and
// returns what it said; nil = nothing.
func (s *Service) explainCommits(ctx context.Context, x *Explanation, p Policy, r Request) *Commits {
	q, ok := s.commitQuery(p, r.Facts, r.Last)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, explainWait)
	defer cancel()
	said, err := s.code.Commits(ctx, q)
	if err != nil {
		x.add("the code host tells the commits", err, "")
		return nil
	}
	x.add("the code host tells the commits", nil, commitsText(said, q.Since))
	pull := "there is none, or it cannot be read"
	if pr := said.Pull; pr != nil {
		pull = fmt.Sprintf("#%d “%s”: %s", pr.Number, pr.Title, cmp.Or(string(pr.Review), "review not known"))
	}
	x.add("the code host tells the pull request", nil, pull)
	var config error
	switch said.Config {
	case ConfigOther:
		config = refuse(CodeConfigNotFromCommit, "it is not the file %s of the commit", q.ConfigPath)
	case "":
		config = fmt.Errorf("it could not be compared with the file %s of the commit", q.ConfigPath)
	}
	x.add("the CI configuration is the one in the commit", config, q.ConfigPath)
	return &said
}

// commitsText sums up what is new in a commit.
func commitsText(c Commits, since string) string {
	var newest []string
	for _, n := range c.Newest {
		newest = append(newest, fmt.Sprintf("%s %s (%s)", n.Hash[:min(len(n.Hash), 7)], n.Subject, cmp.Or(n.Author, "unknown")))
	}
	authors := strings.Join(c.Authors, ", ")
	if !c.Everybody {
		authors = strings.TrimPrefix(authors+" and others", " and ")
	}
	text := "never deployed before"
	if since != "" {
		text = fmt.Sprintf("%d since %s", c.Count, since[:7])
	}
	return fmt.Sprintf("%s, by %s: %s", text, authors, strings.Join(newest, "; "))
}

// explainDecision judges the request for the workflow, or one that would be made
// for it now, and everybody on record.
func (s *Service) explainDecision(tx Tx, x *Explanation, p Policy, r Request, asked bool) error {
	none := refuseIf(!asked, CodeNotFound, "nobody asked for this workflow; people are judged as if somebody did now")
	x.add("a request was made", none, fmt.Sprintf("#%d is %s", r.Number, r.Status))
	until := p.Freeze.Says(tx.Now())
	x.add("approving is not frozen", refuseIf(until != "", CodeConflict, "approving is frozen until %s", until), "")
	if err := s.explainPeople(tx, x, r); err != nil {
		return err
	}
	can := len(only(x.People, func(j Judged) bool { return j.Approve == nil }))
	votes, err := tally(rows{tx}, p, r)
	if err != nil {
		return err
	}
	who := "people"
	if can == 1 {
		who = "person"
	}
	detail := fmt.Sprintf("%d of %d approvals were given, and %d %s can give one now", votes.Valid, needed(r, p), can, who)
	tooFew := r.Status == Pending && votes.Valid+can < needed(r, p)
	x.add("enough people can approve", refuseIf(tooFew, CodeConflict, "%s", detail), detail)
	return nil
}

func (s *Service) explainPeople(tx Tx, x *Explanation, r Request) error {
	team, err := tx.Secret(secretTeam)
	if err != nil {
		return err
	}
	all, err := Everybody(tx)
	if err != nil {
		return err
	}
	started := findStarter(rows{tx}, r)
	for _, p := range all {
		if !p.RemovedAt.IsZero() {
			continue
		}
		j := Judged{Person: p}
		for action, why := range map[Action]**Refusal{ActionApprove: &j.Approve, ActionReject: &j.Reject, ActionBreakGlass: &j.BreakGlass} {
			_, _, err := s.judge(rows{tx}, Clicker{Team: team, User: p.SlackID}, r, action, started)
			if err != nil && !errors.As(err, why) {
				return err
			}
		}
		x.People = append(x.People, j)
	}
	return nil
}
