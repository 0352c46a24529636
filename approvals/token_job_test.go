package approvals_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const shopProject = "c0ffee00-1111-4222-8333-444455556666"

// jobs is an [approvals.Identity] whose tokens are h.<name>.s.
type jobs map[string]approvals.CIJob

func (j jobs) Job(_ context.Context, token string) (approvals.CIJob, error) {
	if job, ok := j[strings.Split(token, ".")[1]]; ok {
		return job, nil
	}
	return approvals.CIJob{}, &approvals.Error{Code: approvals.CodeUnauthorized, Reason: approvals.ReasonKey, Message: "no"}
}

// jobCaller is a world that takes OIDC tokens, and the caller that a job is.
func jobCaller(w *world, job approvals.CIJob) approvals.Token {
	w.t.Helper()
	t, err := tryJob(w, job)
	w.must(err)
	return t
}

func tryJob(w *world, job approvals.CIJob) (approvals.Token, error) {
	w.halt()
	w.cfg.Identity = jobs{"job": job}
	w.restart()
	return w.svc.Authenticate(w.ctx, "h.job.s")
}

// asks starts a workflow and is what it asks for.
func asks(w *world, n int) approvals.NewRequest {
	id := w.ci.newFlow(n, int64(n), "on_hold")
	return approvals.NewRequest{App: "shop", GitCommit: w.ci.flows[id].facts.Revision, WorkflowID: id}
}

// reason is the code of a refusal and its reason.
func reason(err error) string {
	var why *approvals.Error
	if !errors.As(err, &why) {
		return ""
	}
	return strings.TrimSpace(string(why.Code) + " " + string(why.Reason))
}

func TestWhoAJobIs(t *testing.T) {
	const oidc = "CI_IDENTITY=oidc CIRCLECI_PROJECT_ID=" + shopProject
	good := approvals.CIJob{ProjectID: shopProject, WorkflowID: workflowID(1), JobID: workflowID(90), Origin: "github.com/Acme/shop"}
	for name, c := range map[string]struct {
		settings string
		change   func(*approvals.CIJob)
		want     string
	}{
		"its own app":        {oidc, func(*approvals.CIJob) {}, ""},
		"no origin":          {oidc, func(j *approvals.CIJob) { j.Origin = "" }, ""},
		"an origin with git": {oidc, func(j *approvals.CIJob) { j.Origin += ".git" }, ""},
		"either":             {strings.Replace(oidc, "oidc", "either", 1), func(*approvals.CIJob) {}, ""},
		"a fork":             {oidc, func(j *approvals.CIJob) { j.Origin = "github.com/mallory/shop" }, "unauthorized oidc_origin"},
		"a host as origin":   {oidc, func(j *approvals.CIJob) { j.Origin = "acme/shop" }, "unauthorized oidc_origin"},
		"another project":    {oidc, func(j *approvals.CIJob) { j.ProjectID = workflowID(7) }, "unauthorized oidc_project"},
		"tokens alone":       {"CIRCLECI_PROJECT_ID=" + shopProject, func(*approvals.CIJob) {}, "unauthorized oidc_project"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.settings, func(w *world) {
				job := good
				c.change(&job)
				got, err := tryJob(w, job)
				if reason(err) != c.want {
					t.Fatalf("got %v; want %s", err, c.want)
				}
				if c.want == "" && (got.ID != "ci:gh/acme/shop/"+workflowID(1) || got.Name != got.ID || !got.Covers("shop") || got.Covers("other") || got.Role != approvals.RoleCICD) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

// Without an issuer a JWT is a token that nobody knows.
func TestNoIssuer(t *testing.T) {
	bubble(t, "", func(w *world) {
		if _, err := w.svc.Authenticate(w.ctx, "h.job.s"); reason(err) != "unauthorized" {
			t.Errorf("got %v; want unauthorized without a reason", err)
		}
	})
}

// A job files, reads, withdraws and verifies for its own workflow, and nothing of
// another one, although it is the same app's.
func TestAJobActsForItsWorkflow(t *testing.T) {
	bubble(t, "CI_IDENTITY=either CIRCLECI_PROJECT_ID="+shopProject, func(w *world) {
		other := w.request(2, "on_hold")
		n := asks(w, 1)
		n.JobID = workflowID(91)
		me := jobCaller(w, approvals.CIJob{ProjectID: shopProject, WorkflowID: n.WorkflowID, JobID: workflowID(90)})
		r, created, err := w.svc.Request(w.ctx, me, n)
		if err != nil || !created {
			t.Fatalf("got %v, created %t; want a request", err, created)
		}
		name := "ci:gh/acme/shop/" + n.WorkflowID
		if r.Requester.TokenID != name || r.Requester.TokenName != name || r.JobID != workflowID(90) {
			t.Errorf("got %+v of job %s; want %s, and the job of the token", r.Requester, r.JobID, name)
		}
		events, err := w.svc.History(w.ctx, me, r.ID)
		w.must(err)
		if got := events[0].Actor; got != (approvals.Actor{Kind: approvals.ActorJob, ID: name}) {
			t.Errorf("got actor %+v; want %s", got, name)
		}
		for _, id := range []string{other.ID, "1"} {
			if _, err := w.svc.Get(w.ctx, me, id); reason(err) != "not_found" {
				t.Errorf("get of another workflow's: got %v; want not_found", err)
			}
			if _, err := w.svc.History(w.ctx, me, id); reason(err) != "not_found" {
				t.Errorf("history of another workflow's: got %v; want not_found", err)
			}
			if _, err := w.svc.Withdraw(w.ctx, me, id, ""); reason(err) != "not_found" {
				t.Errorf("withdrawal of another workflow's: got %v; want not_found", err)
			}
			if _, err := w.svc.ReportDeploy(w.ctx, me, id, approvals.PhaseStarted, "", ""); reason(err) != "not_found" {
				t.Errorf("report of another workflow's: got %v; want not_found", err)
			}
		}
		for _, c := range []struct {
			filter approvals.Filter
			want   int
		}{{approvals.Filter{Limit: 9}, 1}, {approvals.Filter{Limit: 9, WorkflowID: n.WorkflowID}, 1}, {approvals.Filter{Limit: 9, WorkflowID: other.Facts.WorkflowID}, 0}} {
			if found, err := w.svc.List(w.ctx, me, c.filter); err != nil || len(found) != c.want {
				t.Errorf("list: got %d, %v; want %d", len(found), err, c.want)
			}
		}
		theirs := asks(w, 3)
		if _, _, err := w.svc.Request(w.ctx, me, theirs); reason(err) != "forbidden oidc_workflow" {
			t.Errorf("create for another workflow: got %v", err)
		}
		v := approvals.NewRequest{App: "shop", GitCommit: other.Facts.Revision, WorkflowID: other.Facts.WorkflowID}
		if _, err := w.svc.Verify(w.ctx, me, v); reason(err) != "forbidden oidc_workflow" {
			t.Errorf("verify of another workflow: got %v", err)
		}
		w.must(w.approve("U01", r))
		w.wait(20 * time.Second)
		v = approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID}
		if _, err := w.svc.Verify(w.ctx, me, v); err != nil {
			t.Errorf("verify of its own: %v", err)
		}
	})
}

// A token for one pipeline does not file for a workflow that is another's, even if
// both ids were signed.
func TestAJobOfAnotherPipeline(t *testing.T) {
	bubble(t, "CI_IDENTITY=oidc CIRCLECI_PROJECT_ID="+shopProject, func(w *world) {
		n := asks(w, 1)
		me := jobCaller(w, approvals.CIJob{ProjectID: shopProject, WorkflowID: n.WorkflowID, PipelineID: workflowID(77)})
		if _, _, err := w.svc.Request(w.ctx, me, n); reason(err) != "forbidden oidc_workflow" {
			t.Errorf("got %v", err)
		}
	})
}

// With ci_identity=oidc a static token may read, but neither file nor verify; with
// token it is the other way round.
func TestKindsOfCredentials(t *testing.T) {
	const env = " RGW_APP_SHOP_ENV_PROD_SETTING_CIRCLECI_APPROVAL_JOB_NAME=prod RGW_APP_SHOP_ENV_PROD_SETTING_CI_IDENTITY=token" +
		" RGW_APP_SHOP_ENV_EU_SETTING_CIRCLECI_APPROVAL_JOB_NAME=eu RGW_APP_SHOP_ENV_EU_SETTING_CIRCLECI_PROJECT_ID=00000000-0000-4000-8000-000000000007"
	bubble(t, "CI_IDENTITY=oidc CIRCLECI_PROJECT_ID="+shopProject+env, func(w *world) {
		n := asks(w, 1)
		if _, _, err := w.svc.Request(w.ctx, w.token, n); reason(err) != "forbidden credential_not_accepted" {
			t.Errorf("a static token files: got %v", err)
		}
		v := approvals.NewRequest{App: "shop", GitCommit: n.GitCommit, WorkflowID: n.WorkflowID}
		if _, err := w.svc.Verify(w.ctx, w.token, v); reason(err) != "forbidden credential_not_accepted" {
			t.Errorf("a static token verifies: got %v", err)
		}
		me := jobCaller(w, approvals.CIJob{ProjectID: shopProject, WorkflowID: n.WorkflowID})
		for env, want := range map[string]string{"prod": "forbidden credential_not_accepted", "eu": "forbidden oidc_project"} {
			elsewhere := n
			elsewhere.Environment = env
			if _, _, err := w.svc.Request(w.ctx, me, elsewhere); reason(err) != want {
				t.Errorf("a job files in %s: got %v; want %s", env, err, want)
			}
		}
		r, _, err := w.svc.Request(w.ctx, me, n)
		w.must(err)
		if _, err := w.svc.Get(w.ctx, w.token, r.ID); err != nil {
			t.Errorf("a static token reads: %v", err)
		}
	})
}
