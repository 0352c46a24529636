package gatewayd_test

import (
	"context"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// past is a CI provider with one workflow.
type past struct {
	created, stopped time.Time
	jobs             []approvals.Job
	since            time.Time // as it was asked
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
	if id == "gone" {
		return "", &approvals.CIError{Status: 404, Message: "User not found"}
	}
	return "login-of-" + id, nil
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
		want   approvals.Finding
	}{
		"released by us":                  {approvals.Released, bot, events{requested, approved, released}, "success", "bot", ""},
		"deployed":                        {approvals.Deployed, bot, events{requested, approved, released}, "success", "bot", ""},
		"deploy failed":                   {approvals.DeployFailed, bot, events{requested, approved, released}, "success", "bot", ""},
		"opened by hand after the vote":   {approvals.Released, func(r *approvals.Request) { r.Gate.ApprovedBy = "login-of-ana" }, events{requested, approved, released}, "success", "ana", ""},
		"login cannot be read":            {approvals.Released, func(r *approvals.Request) { r.Gate.ApprovedBy = "gone" }, events{requested, approved, released}, "success", "gone", ""},
		"not noticed yet":                 {approvals.Approved, bot, events{requested, approved}, "success", "bot", ""},
		"waits":                           {approvals.Pending, nil, events{requested}, "on_hold", "", ""},
		"rejected, gate canceled":         {approvals.Rejected, nil, events{requested, approvals.EventRejected}, "canceled", "", ""},
		"approved while pending":          {approvals.Pending, nil, events{requested}, "success", "mallory", approvals.FindingNotOurs},
		"bypassed":                        {approvals.Bypassed, nil, events{requested, approvals.EventBypassed}, "success", "mallory", approvals.FindingNotOurs},
		"approved after the reject":       {approvals.Rejected, nil, events{requested, approvals.EventRejected}, "success", "mallory", approvals.FindingNotOurs},
		"somebody else than was recorded": {approvals.Released, bot, events{requested, approved, released}, "success", "mallory", approvals.FindingNotOurs},
		"another gate than was approved":  {approvals.Approved, func(r *approvals.Request) { bot(r); r.Attempt.IDs = []string{"h"} }, events{requested, approved}, "success", "bot", approvals.FindingNotOurs},
		"row without a decision":          {approvals.Released, bot, events{requested}, "success", "bot", approvals.FindingNotOurs},
		"row without a release":           {approvals.Deployed, bot, events{requested, approved}, "success", "bot", approvals.FindingNotOurs},
		"release before the decision":     {approvals.Released, bot, events{requested, released, approved}, "success", "bot", approvals.FindingNotOurs},
		"released, but still on hold":     {approvals.Released, bot, events{requested, approved, released}, "on_hold", "", approvals.FindingNotOpen},
		"of another gate":                 {approvals.Released, func(r *approvals.Request) { bot(r); r.GateName = "other" }, events{requested, approved, released}, "success", "bot", approvals.FindingNoRequest},
		"of another app":                  {approvals.Released, func(r *approvals.Request) { bot(r); r.App = "other" }, events{requested, approved, released}, "success", "bot", approvals.FindingNoRequest},
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
			c := approvals.Reconciliation{Store: db, CI: ci, Settings: settings, From: now.Add(-time.Hour), To: now.Add(time.Hour), Lookback: 48 * time.Hour}
			got, err := c.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Finding != tt.want || (got[0].Request == 0) != (tt.want == approvals.FindingNoRequest) {
				t.Errorf("got %+v; want one gate with finding %q", got, tt.want)
			}
			if want := now.Add(-49 * time.Hour); !ci.since.Equal(want) {
				t.Errorf("asked since %s; want %s", ci.since, want)
			}
			// A workflow that did not run in the period does not count.
			for _, p := range []past{{created: now.Add(2 * time.Hour)}, {created: now.Add(-5 * time.Hour), stopped: now.Add(-2 * time.Hour)}} {
				c.CI = &past{created: p.created, stopped: p.stopped, jobs: ci.jobs}
				if got, err := c.Run(t.Context()); err != nil || len(got) != 0 {
					t.Errorf("outside of the period: got %+v, %v; want none", got, err)
				}
			}
		})
	}
}
