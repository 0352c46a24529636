package gatewayd_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// past is a CI provider with one workflow.
type past struct {
	created, stopped time.Time
	jobs             []approvals.Job
	since            time.Time // as it was asked
	asked            int       // how often for the login "busy"
}

func (p *past) Pipelines(_ context.Context, _ string, since time.Time) ([]approvals.PipelineRef, error) {
	p.since = since
	return []approvals.PipelineRef{{ID: "p", Number: 7, CreatedAt: p.created}}, nil
}

func (p *past) Workflows(context.Context, string) ([]approvals.WorkflowRef, error) {
	return []approvals.WorkflowRef{{ID: "w", CreatedAt: p.created, StoppedAt: p.stopped}}, nil
}

func (p *past) Jobs(context.Context, string) ([]approvals.Job, error) { return p.jobs, nil }

func (p *past) Login(_ context.Context, id string) (string, error) {
	switch id {
	case "gone":
		return "", &approvals.CIError{Status: 404, Message: "User not found"}
	case "busy":
		p.asked++
		return "", &approvals.CIError{Status: 429, Message: "Too Many Requests"}
	}
	return "login-of-" + id, nil
}

// compared is what a reconciliation finds.
func compared(t *testing.T, c audit.Reconciliation) ([]audit.ReconciledGate, []audit.Hole, error) {
	t.Helper()
	found, err := c.Run(t.Context())
	if err != nil {
		return nil, nil, err
	}
	return found.Gates, found.Holes, nil
}

// Which gates a request accounts for: by its row and by its log together.
func TestReconcileAccounts(t *testing.T) {
	t.Parallel()
	const requested, approved, released = approvals.EventRequested, approvals.EventApproved, approvals.EventReleased
	type events = []approvals.EventType
	bot := func(r *approvals.Request) {
		r.AutoApprove, r.Attempt, r.Gate.ApprovedBy = true, approvals.Attempt{Count: 1, IDs: []string{"g"}}, "login-of-bot"
	}
	for name, tt := range map[string]struct {
		status approvals.Status
		change func(*approvals.Request)
		log    events
		gate   approvals.JobStatus
		by     string
		want   audit.Finding
	}{
		"released by us":                  {approvals.Released, bot, events{requested, approved, released}, "success", "bot", ""},
		"deployed":                        {approvals.Deployed, bot, events{requested, approved, released}, "success", "bot", ""},
		"deploy failed":                   {approvals.DeployFailed, bot, events{requested, approved, released}, "success", "bot", ""},
		"opened by hand after the vote":   {approvals.Released, func(r *approvals.Request) { r.Gate.ApprovedBy = "login-of-ana" }, events{requested, approved, released}, "success", "ana", ""},
		"login cannot be read":            {approvals.Released, func(r *approvals.Request) { r.Gate.ApprovedBy = "gone" }, events{requested, approved, released}, "success", "gone", ""},
		"not noticed yet":                 {approvals.Approved, bot, events{requested, approved}, "success", "bot", ""},
		"waits":                           {approvals.Pending, nil, events{requested}, "on_hold", "", ""},
		"rejected, gate canceled":         {approvals.Rejected, nil, events{requested, approvals.EventRejected}, "canceled", "", ""},
		"approved while pending":          {approvals.Pending, nil, events{requested}, "success", "mallory", audit.FindingNotOurs},
		"bypassed":                        {approvals.Bypassed, nil, events{requested, approvals.EventBypassed}, "success", "mallory", audit.FindingNotOurs},
		"approved after the reject":       {approvals.Rejected, nil, events{requested, approvals.EventRejected}, "success", "mallory", audit.FindingNotOurs},
		"somebody else than was recorded": {approvals.Released, bot, events{requested, approved, released}, "success", "mallory", audit.FindingNotOurs},
		"another gate than was approved":  {approvals.Approved, func(r *approvals.Request) { bot(r); r.Attempt.IDs = []string{"h"} }, events{requested, approved}, "success", "bot", audit.FindingNotOurs},
		"row without a decision":          {approvals.Released, bot, events{requested}, "success", "bot", audit.FindingNotOurs},
		"row without a release":           {approvals.Deployed, bot, events{requested, approved}, "success", "bot", audit.FindingNotOurs},
		"release before the decision":     {approvals.Released, bot, events{requested, released, approved}, "success", "bot", audit.FindingNotOurs},
		"released, but still on hold":     {approvals.Released, bot, events{requested, approved, released}, "on_hold", "", audit.FindingNotOpen},
		"of another gate":                 {approvals.Released, func(r *approvals.Request) { bot(r); r.GateName = "other" }, events{requested, approved, released}, "success", "bot", audit.FindingNoRequest},
		"of another app":                  {approvals.Released, func(r *approvals.Request) { bot(r); r.App = "other" }, events{requested, approved, released}, "success", "bot", audit.FindingNoRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, s := archive(t)
			settings, bad := approvals.ParseSettings([]string{
				"RGW_APP_MYAPP_SETTING_VCS_REPO=MyOrg/myapp", "RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=gate",
			}, "C0DEPLOYS")
			if len(bad) > 0 {
				t.Fatal(bad)
			}
			now := time.Now().UTC()
			r := approvals.Request{
				ID: "R", Number: 1, App: "myapp", Environment: "default", Status: tt.status, CreatedAt: now,
				Asked: approvals.Asked{GateName: "gate", Facts: approvals.Facts{WorkflowID: "w"}, PendingTTL: time.Hour},
			}
			if tt.change != nil {
				tt.change(&r)
			}
			if err := db.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&r) }); err != nil {
				t.Fatal(err)
			}
			for _, kind := range tt.log {
				if err := s.Record(t.Context(), approvals.Event{Type: kind, Request: "R", App: "myapp", Actor: approvals.Actor{Kind: approvals.ActorSystem}}); err != nil {
					t.Fatal(err)
				}
			}
			ci := &past{created: now, jobs: []approvals.Job{
				{ID: "b", Name: "gate", Type: "build", Status: "success"},
				{ID: "g", Name: "gate", Type: "approval", Status: tt.gate, ApprovedBy: tt.by},
			}}
			c := audit.Reconciliation{Store: db, CI: ci, Settings: settings, From: now.Add(-time.Hour), To: now.Add(time.Hour), Lookback: 48 * time.Hour}
			got, holes, err := compared(t, c)
			if err != nil || len(holes) != 0 {
				t.Fatal(holes, err)
			}
			if len(got) != 1 || got[0].Finding != tt.want || (got[0].Request == 0) != (tt.want == audit.FindingNoRequest) {
				t.Errorf("got %+v; want one gate with finding %q", got, tt.want)
			}
			if want := now.Add(-49 * time.Hour); !ci.since.Equal(want) {
				t.Errorf("asked since %s; want %s", ci.since, want)
			}
			// A workflow that did not run in the period does not count.
			for _, p := range []past{{created: now.Add(2 * time.Hour)}, {created: now.Add(-5 * time.Hour), stopped: now.Add(-2 * time.Hour)}} {
				c.CI = &past{created: p.created, stopped: p.stopped, jobs: ci.jobs}
				if got, _, err := compared(t, c); err != nil || len(got) != 0 {
					t.Errorf("outside of the period: got %+v, %v; want none", got, err)
				}
			}
		})
	}
}

// Who opened a gate is known by their user id. A login that changed or cannot be read
// accuses nobody, and what CircleCI does not tell is named as such.
func TestReconcileKnowsPeopleByID(t *testing.T) {
	settings, bad := approvals.ParseSettings([]string{
		"RGW_APP_MYAPP_SETTING_VCS_REPO=MyOrg/myapp", "RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=gate",
	}, "C0DEPLOYS")
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	for name, tt := range map[string]struct {
		id, login string // as the log and the row have them
		by        string
		want      audit.Finding
		asked     int
	}{
		"the login changed":                   {"bot", "old-login", "bot", "", 0},
		"the login cannot be read any more":   {"gone", "login-of-gone", "gone", "", 0},
		"CircleCI is busy":                    {"busy", "login-of-busy", "busy", "", 6},
		"somebody else has the login now":     {"bot", "login-of-mallory", "mallory", audit.FindingNotOurs, 0},
		"somebody else who cannot be read":    {"bot", "login-of-bot", "gone", audit.FindingNotOurs, 0},
		"no id, and the login cannot be read": {"", "login-of-gone", "gone", audit.FindingUnreadable, 0},
		"no id, and CircleCI is busy":         {"", "login-of-busy", "busy", audit.FindingUnreadable, 6},
		"CircleCI does not say who":           {"bot", "login-of-bot", "", audit.FindingUnreadable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := storetest.New(t)
				s := approvals.New(approvals.Config{Store: db, Offline: true})
				now := time.Now().UTC()
				r := approvals.Request{
					ID: "R", Number: 1, App: "myapp", Environment: "default", Status: approvals.Released, CreatedAt: now,
					Asked: approvals.Asked{GateName: "gate", Facts: approvals.Facts{WorkflowID: "w"}, PendingTTL: time.Hour},
				}
				r.Gate.ApprovedBy = tt.login
				if err := db.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&r) }); err != nil {
					t.Fatal(err)
				}
				for _, kind := range []approvals.EventType{approvals.EventRequested, approvals.EventApproved, approvals.EventReleased} {
					if err := s.Record(t.Context(), approvals.Event{Type: kind, Request: "R", App: "myapp", Data: approvals.Data{"circleci_id": tt.id}}); err != nil {
						t.Fatal(err)
					}
				}
				ci := &past{created: now, jobs: []approvals.Job{{ID: "g", Name: "gate", Type: "approval", Status: "success", ApprovedBy: tt.by}}}
				gates, holes, err := compared(t, audit.Reconciliation{Store: db, CI: ci, Settings: settings, From: now.Add(-time.Hour), To: now.Add(time.Hour)})
				if err != nil || ci.asked != tt.asked {
					t.Errorf("got %v, and asked %d times; want %d", err, ci.asked, tt.asked)
				}
				if tt.want == audit.FindingUnreadable {
					if len(gates) != 0 || len(holes) != 1 || holes[0].WorkflowID != "w" || holes[0].Why == "" {
						t.Errorf("got %+v, %+v; want a hole alone", gates, holes)
					}
				} else if len(gates) != 1 || len(holes) != 0 || gates[0].Finding != tt.want {
					t.Errorf("got %+v, %+v; want one gate with finding %q", gates, holes, tt.want)
				}
			})
		})
	}
}

// holey is a CI provider with two projects of some pipelines, each with one
// workflow, that does not tell everything.
type holey struct {
	start time.Time
	fails map[string]error // by project, pipeline or workflow
	calls map[string]int
}

func (h *holey) ask(id string) error {
	h.calls[id]++
	return h.fails[id]
}

func (h *holey) Pipelines(_ context.Context, project string, _ time.Time) (all []approvals.PipelineRef, err error) {
	for n := range 8 {
		all = append(all, approvals.PipelineRef{ID: fmt.Sprintf("%s/%d", project, n+1), Number: int64(n + 1), CreatedAt: h.start.Add(time.Duration(n) * time.Minute)})
	}
	if err = h.ask(project); err != nil {
		all = all[:2]
	}
	return all, err
}

func (h *holey) Workflows(_ context.Context, pipeline string) ([]approvals.WorkflowRef, error) {
	return []approvals.WorkflowRef{{ID: pipeline + "/w", CreatedAt: h.start}}, h.ask(pipeline)
}

func (h *holey) Jobs(_ context.Context, workflow string) ([]approvals.Job, error) {
	return []approvals.Job{{ID: "g", Name: "gate", Type: "approval", Status: "on_hold"}}, h.ask(workflow)
}

func (h *holey) Login(context.Context, string) (string, error) { return "", nil }

// What CircleCI does not tell of one pipeline is named, and ends nothing. What it
// does not tell for good costs no patience any more.
func TestReconcileNamesHoles(t *testing.T) {
	settings, bad := approvals.ParseSettings([]string{
		"RGW_APP_A_SETTING_VCS_REPO=acme/a", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=gate",
		"RGW_APP_B_SETTING_VCS_REPO=acme/b", "RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME=gate",
	}, "C0DEPLOYS")
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	down := &approvals.CIError{Op: "list", Status: 500, Message: "500 Internal Server Error"}
	malformed := &approvals.CIError{Op: "list", Status: 200, Message: "item 3 has no id", Err: approvals.ErrCIUnusable}
	forbidden := &approvals.CIError{Op: "list", Status: 403, Message: "403 Forbidden"}
	run := func(t *testing.T, fails map[string]error) (*holey, []audit.ReconciledGate, []audit.Hole, time.Duration, error) {
		ci := &holey{start: time.Now(), fails: fails, calls: map[string]int{}}
		db := storetest.New(t)
		gates, holes, err := compared(t, audit.Reconciliation{Store: db, CI: ci, Settings: settings, From: ci.start.Add(-time.Hour), To: ci.start.Add(time.Hour)})
		return ci, gates, holes, time.Since(ci.start), err
	}
	synctest.Test(t, func(t *testing.T) {
		ci, gates, holes, _, err := run(t, map[string]error{
			"gh/acme/a/2": down, "gh/acme/a/3/w": malformed, "gh/acme/a/4": forbidden, "gh/acme/b": malformed,
		})
		want := []audit.Hole{
			{Project: "gh/acme/a", PipelineNumber: 2, Why: down.Error()},
			{Project: "gh/acme/a", PipelineNumber: 3, WorkflowID: "gh/acme/a/3/w", Why: malformed.Error()},
			{Project: "gh/acme/a", PipelineNumber: 4, Why: forbidden.Error()},
			{Project: "gh/acme/b", Why: malformed.Error()},
		}
		if diff := cmp.Diff(want, holes); diff != "" || err != nil || len(gates) != 5+2 {
			t.Errorf("got %d gates, %v; want 7, and the holes (-want +got):\n%s", len(gates), err, diff)
		}
		if ci.calls["gh/acme/a/2"] != 6 || ci.calls["gh/acme/a/3/w"] != 1 || ci.calls["gh/acme/a/4"] != 1 {
			t.Errorf("got the calls %v; want patience only with what may pass", ci.calls)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		fails := map[string]error{}
		for n := range 7 {
			fails[fmt.Sprintf("gh/acme/a/%d", n+1)] = down
		}
		ci, gates, holes, took, err := run(t, fails)
		if err != nil || len(holes) != 7 || len(gates) != 1+8 {
			t.Errorf("got %d gates, %d holes, %v; want 9 and 7", len(gates), len(holes), err)
		}
		if ci.calls["gh/acme/a/3"] != 6 || ci.calls["gh/acme/a/4"] != 1 || ci.calls["gh/acme/a/7"] != 1 || took > 5*time.Minute {
			t.Errorf("got the calls %v in %s; want no patience from the fourth on", ci.calls, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, gates, _, _, err := run(t, map[string]error{"gh/acme/a": &approvals.CIError{Op: "list", Status: 401, Message: "401 Unauthorized"}})
		if err == nil || gates != nil {
			t.Errorf("a token that is worth nothing: got %v, %v; want an error alone", gates, err)
		}
	})
}
