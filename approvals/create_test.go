package approvals_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func TestCreate(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "blocked")
		w.is(r, approvals.Pending)
		if r.Number != 1 || !r.ExpiresAt().Equal(r.CreatedAt.Add(2*time.Hour)) || r.Facts.Revision != w.ci.flows[workflowID(1)].facts.Revision {
			t.Errorf("got %+v", r)
		}
		if again, created, err := w.svc.Request(w.ctx, w.token, approvals.NewRequest{App: "shop", Environment: "default", GitCommit: strings.ToUpper(r.Facts.Revision), WorkflowID: strings.ToUpper(r.Facts.WorkflowID), Message: "other"}); err != nil || created || again.ID != r.ID {
			t.Errorf("the same in other words: got %v %v %v", again.ID, created, err)
		}
		_, _, err := w.svc.Request(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: "fffffff", WorkflowID: r.Facts.WorkflowID})
		w.fails(err, approvals.CodeCommitMismatch)
		if again, created, err := w.ask(r.Facts.WorkflowID); err != nil || created || again.ID != r.ID {
			t.Errorf("the same workflow again: got %v %v %v", again.ID, created, err)
		}
		if w.get(r).Slack.TS == "" || w.count(r, approvals.EventRequested) != 1 {
			t.Error("want one event and one card")
		}
	})
}

func TestCreateRefused(t *testing.T) {
	flowCase := func(change func(*flow)) func(*world, *approvals.NewRequest) {
		return func(w *world, _ *approvals.NewRequest) { w.ci.do(workflowID(1), change) }
	}
	ask := func(change func(*approvals.NewRequest)) func(*world, *approvals.NewRequest) {
		return func(_ *world, n *approvals.NewRequest) { change(n) }
	}
	breaks := func(kind string, status int) func(*world, *approvals.NewRequest) {
		return func(w *world, _ *approvals.NewRequest) {
			w.ci.breaks(kind, &fault{status: status, times: -1, retry: 7 * time.Second})
		}
	}
	for name, c := range map[string]struct {
		change func(*world, *approvals.NewRequest)
		want   approvals.Code
		silent bool // no event
	}{
		"no app":             {ask(func(n *approvals.NewRequest) { n.App = "" }), "invalid", false},
		"odd environment":    {ask(func(n *approvals.NewRequest) { n.Environment = "a-env-b" }), "invalid", false},
		"short commit":       {ask(func(n *approvals.NewRequest) { n.GitCommit = "000000" }), "invalid", false},
		"no hex":             {ask(func(n *approvals.NewRequest) { n.GitCommit = "000000g" }), "invalid", false},
		"no workflow":        {ask(func(n *approvals.NewRequest) { n.WorkflowID = "" }), "invalid", false},
		"path as workflow":   {ask(func(n *approvals.NewRequest) { n.WorkflowID = "../me" }), "invalid", false},
		"odd job":            {ask(func(n *approvals.NewRequest) { n.JobID = "7" }), "invalid", false},
		"branch and tag":     {ask(func(n *approvals.NewRequest) { n.Branch, n.Tag = "main", "v1" }), "invalid", false},
		"long message":       {ask(func(n *approvals.NewRequest) { n.Message = strings.Repeat("é", 2001) }), "invalid", false},
		"other app":          {ask(func(n *approvals.NewRequest) { n.App = "other" }), "forbidden", false},
		"environment":        {ask(func(n *approvals.NewRequest) { n.Environment = "prod" }), "environment_unknown", false},
		"commit":             {ask(func(n *approvals.NewRequest) { n.GitCommit = "fffffff" }), "commit_mismatch", false},
		"branch":             {ask(func(n *approvals.NewRequest) { n.Branch = "dev" }), "branch_mismatch", false},
		"tag":                {ask(func(n *approvals.NewRequest) { n.Tag = "v1" }), "branch_mismatch", false},
		"unknown workflow":   {ask(func(n *approvals.NewRequest) { n.WorkflowID = workflowID(9) }), "workflow_not_found", false},
		"project":            {flowCase(func(f *flow) { f.facts.Project = "gh/x/y" }), "workflow_wrong_project", false},
		"fork":               {flowCase(func(f *flow) { f.facts.Origin, f.facts.Target = "https://h/x/shop", "https://h/acme/shop" }), "workflow_wrong_project", false},
		"not allowed":        {flowCase(func(f *flow) { f.facts.Branch = "dev" }), "branch_not_allowed", false},
		"tag not allowed":    {flowCase(func(f *flow) { f.facts.Branch, f.facts.Tag = "", "main" }), "branch_not_allowed", false},
		"no gate":            {flowCase(func(f *flow) { f.job("hold").Type = "build" }), "approval_job_not_found", false},
		"two gates":          {flowCase(func(f *flow) { f.jobs = append(f.jobs, *f.job("hold")) }), "approval_job_ambiguous", false},
		"gate open":          {flowCase(func(f *flow) { f.job("hold").Status = "success" }), "already_released", false},
		"gate canceled":      {flowCase(func(f *flow) { f.job("hold").Status = "canceled" }), "workflow_finished", false},
		"workflow done":      {flowCase(func(f *flow) { f.facts.WorkflowStatus = "canceled" }), "workflow_finished", false},
		"facts 401":          {breaks("facts", 401), "circleci_unauthorized", false},
		"jobs 403":           {breaks("jobs", 403), "circleci_unauthorized", false},
		"facts 404":          {breaks("facts", 404), "workflow_not_found", false},
		"429":                {breaks("facts", 429), "circleci_unavailable", true},
		"jobs 500":           {breaks("jobs", 500), "circleci_unavailable", true},
		"no answer":          {breaks("jobs", 0), "circleci_unavailable", true},
		"auditor":            {func(w *world, _ *approvals.NewRequest) { w.token.Role = approvals.RoleAuditor }, "forbidden", false},
		"token for all apps": {func(w *world, n *approvals.NewRequest) { w.token.Apps, n.App = nil, "other" }, "app_unknown", false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "ALLOWED_BRANCHES=main,tag:v*", func(w *world) {
				n := approvals.NewRequest{App: "shop", GitCommit: "0000000", WorkflowID: w.ci.newFlow(1, 1, "blocked")}
				c.change(w, &n)
				before := len(w.events())
				_, _, err := w.svc.Request(w.ctx, w.token, n)
				w.wait(0)
				w.fails(err, c.want)
				stored, err := w.svc.Recent(w.ctx, approvals.Filter{})
				w.must(err)
				if len(stored) != 0 || len(w.told) != 0 {
					t.Error("something was stored or posted")
				}
				events := w.events()[before:]
				if c.silent && len(events) != 0 || !c.silent && (len(events) != 1 || events[0].Type != approvals.EventRefused || events[0].Reason != string(c.want)) {
					t.Errorf("got events %v", events)
				}
			})
		})
	}
}

// What stands for a workflow, by how the first request ended.
func TestCreateAgain(t *testing.T) {
	end := func(w *world, r approvals.Request) {
		_, err := w.svc.Withdraw(w.ctx, w.token, r.ID, "")
		w.must(err)
		w.wait(0)
	}
	t.Run("canceled, the gate waits", func(t *testing.T) {
		bubble(t, "ON_CLOSE=nothing", func(w *world) {
			r := w.request(1, "on_hold")
			end(w, r)
			again, created, err := w.ask(r.Facts.WorkflowID)
			if err != nil || !created || again.ID == r.ID {
				t.Errorf("got %v %v; want a new request", created, err)
			}
		})
	})
	t.Run("canceled, the gate too", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			end(w, r)
			_, _, err := w.ask(r.Facts.WorkflowID)
			w.fails(err, approvals.CodeWorkflowFinished)
		})
	})
	t.Run("canceled, the gate open", func(t *testing.T) {
		bubble(t, "ON_CLOSE=nothing", func(w *world) {
			r := w.request(1, "on_hold")
			end(w, r)
			w.ci.humanApproves(r.Facts.WorkflowID)
			_, _, err := w.ask(r.Facts.WorkflowID)
			w.fails(err, approvals.CodeWorkflowFinished)
		})
	})
	t.Run("rejected", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.must(w.reject("U01", r))
			again, created, err := w.ask(r.Facts.WorkflowID)
			if err != nil || created || again.Status != approvals.Rejected {
				t.Errorf("got %v %v %v; want the rejected one", again.Status, created, err)
			}
		})
	})
}

func TestSupersede(t *testing.T) {
	for mode, c := range map[string]struct{ same, other approvals.Status }{
		"branch": {approvals.Superseded, approvals.Pending}, "environment": {approvals.Superseded, approvals.Superseded}, "off": {approvals.Pending, approvals.Pending},
	} {
		t.Run(mode, func(t *testing.T) {
			bubble(t, "SUPERSEDE="+mode, func(w *world) {
				old := w.request(1, "on_hold")
				other := w.ci.newFlow(2, 2, "on_hold")
				w.ci.do(other, func(f *flow) { f.facts.Branch = "dev" })
				// A request of a higher pipeline came first: nothing older follows it.
				decided := w.request(3, "on_hold")
				w.is(old, c.same)
				w.must(w.approve("U01", decided))
				w.is(decided, approvals.Released)
				dev, _, err := w.ask(other)
				w.must(err)
				w.request(4, "on_hold")
				w.is(dev, c.other)
				w.is(decided, approvals.Released)
				late := w.request(0, "on_hold")
				w.is(late, approvals.Pending)
				if want := map[bool]int64{true: 0, false: 4}[mode == "off"]; late.Newer != want {
					t.Errorf("newer pending: got %d; want %d", late.Newer, want)
				}
				if c.same == approvals.Superseded {
					w.wait(20 * time.Second)
					if got := w.ci.status(old.Facts.WorkflowID, "hold"); got != "canceled" || w.get(old).SupersededBy != decided.ID || w.count(old, approvals.EventSuperseded) != 1 {
						t.Errorf("the superseded gate is %s", got)
					}
					var why *approvals.Refusal
					if !errors.As(w.approve("U02", old), &why) || why.Status != approvals.Superseded || why.Number != decided.Number {
						t.Errorf("a vote on the superseded request: got %+v; want a refusal that names #%d", why, decided.Number)
					}
				}
			})
		})
	}
}

// Who started a workflow is not left unknown only because CircleCI could not tell: a
// request is refused for now, unless it will never be told.
func TestStarterThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		fault fault
		want  approvals.Code
	}{
		"no answer":       {fault{times: -1}, approvals.CodeCIUnavailable},
		"503":             {fault{status: 503, times: -1}, approvals.CodeCIUnavailable},
		"unusable answer": {fault{status: 200, cause: approvals.ErrCIUnusable, times: -1}, approvals.CodeCIUnavailable},
		"nobody known":    {fault{status: 404, times: -1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				id := w.ci.newFlow(1, 1, "on_hold")
				w.ci.do(id, func(f *flow) { f.facts.StartedBy, f.facts.StartedByID = "", "user-dev" })
				w.ci.breaks("login", &c.fault)
				_, _, err := w.ask(id)
				w.fails(err, c.want)
			})
		})
	}
}
