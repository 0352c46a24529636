package circlecitest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := setup(t)
	g, _ := w.Job(w.workflow, gate)
	const api = "/api/v2"
	approve := api + "/workflow/" + w.workflow + "/approve/" + g.ApprovalRequestID
	other := circlecitest.NewID()
	for _, tt := range []struct {
		name, token, method, path string
		status                    int
		message                   string
	}{
		{"no token", "", "GET", api + "/me", 401, "You must log in first."},
		{"wrong token", "x", "POST", approve, 401, "You must log in first."},
		{"token in the query", "", "GET", api + "/me?circle-token=bot-token", 401, "You must log in first."},
		{"reader approves", "reader-token", "POST", approve, 403, "Permission denied."},
		{"reader cancels a job", "reader-token", "POST", api + "/jobs/" + g.ID + "/cancel", 403, "Permission denied."},
		{"reader cancels", "reader-token", "POST", api + "/workflow/" + w.workflow + "/cancel", 403, "Permission denied."},
		{"gate is blocked", "bot-token", "POST", approve, 400, "Invalid approval job state"},
		{"blocked job", "bot-token", "POST", api + "/jobs/" + g.ID + "/cancel", 400, "Job is not in a state that can be canceled"},
		{"no such gate", "bot-token", "POST", api + "/workflow/" + w.workflow + "/approve/" + other, 404, "Job not found"},
		{"no such workflow", "bot-token", "GET", api + "/workflow/" + other, 404, "Workflow not found"},
		{"no such pipeline", "bot-token", "GET", api + "/pipeline/" + other + "/values", 404, "Pipeline not found"},
		{"no such user", "bot-token", "GET", api + "/user/" + other, 404, "User not found"},
		{"no such job", "bot-token", "POST", api + "/jobs/" + other + "/cancel", 404, "Job not found"},
		{"no such project", "bot-token", "GET", api + "/project/gh/MyOrg/other", 404, "Project not found"},
		{"pipelines of no project", "bot-token", "GET", api + "/project/gh/MyOrg/other/pipeline", 404, "Project not found"},
		{"below the pipelines", "bot-token", "GET", api + "/project/gh/MyOrg/myapp/pipeline/1", 404, "Not found."},
		{"no UUID", "bot-token", "GET", api + "/workflow/1234", 400, "Invalid UUID."},
		{"wrong method", "bot-token", "GET", approve, 404, "Not found."},
		{"wrong method for project", "bot-token", "POST", api + "/project/gh/MyOrg/myapp", 404, "Not found."},
		{"unknown route", "bot-token", "GET", api + "/nothing", 404, "Not found."},
		{"outside the API", "bot-token", "GET", "/me", 404, "Not found."},
		{"unknown page", "bot-token", "GET", api + "/workflow/" + w.workflow + "/job?page-token=x", 400, "Invalid page token"},
	} {
		status, body := w.call(t, tt.token, tt.method, tt.path)
		if status != tt.status || body["message"] != tt.message {
			t.Errorf("%s: got %d %v; want %d %s", tt.name, status, body["message"], tt.status, tt.message)
		}
	}
	for _, path := range []string{"/project/gh%2FMyOrg%2Fmyapp", "/project/github/MyOrg/myapp"} {
		if status, body := w.call(t, "bot-token", "GET", api+path); status != 200 || body["slug"] != "gh/MyOrg/myapp" {
			t.Errorf("%s: got %d %v; want the project", path, status, body)
		}
	}
	w.RevokeToken("bot-token")
	if status, _ := w.call(t, "bot-token", "GET", api+"/me"); status != 401 {
		t.Errorf("revoked token: got %d; want 401", status)
	}
}

func TestListLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setup(t)
		w.Configure(func(o *circlecitest.Options) { o.ListLagReads = 2 })
		w.hold(t)
		must(t, w.ApproveAs("alice", w.workflow, gate))
		for i, want := range []string{"on_hold", "on_hold", "success"} {
			if got := w.gateStatus(t); got != want {
				t.Errorf("reading %d: got %s; want %s", i, got, want)
			}
		}
		w.Configure(func(o *circlecitest.Options) { o.ListLagReads = 100 })
		must(t, w.CancelJobAs("alice", w.workflow, "deploy"))
		_, body := w.call(t, "bot-token", "GET", "/api/v2/workflow/"+w.workflow+"/job")
		deploy := func() any { return body["items"].([]any)[4].(map[string]any)["status"] }
		if got := deploy(); got != "running" {
			t.Errorf("a list that lags for 100 readings: got deploy %v; want running", got)
		}
		time.Sleep(10 * time.Second) // the bubble's clock
		_, body = w.call(t, "bot-token", "GET", "/api/v2/workflow/"+w.workflow+"/job")
		if got := deploy(); got != "canceled" {
			t.Errorf("the same ten seconds later: got deploy %v; want canceled", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := setup(t)
		w.hold(t)
		must(t, w.ApproveAs("alice", w.workflow, gate))
		w.Configure(func(o *circlecitest.Options) { o.ListLag = time.Minute })
		must(t, w.CancelJobAs("alice", w.workflow, "deploy"))
		_, body := w.call(t, "bot-token", "GET", "/api/v2/workflow/"+w.workflow+"/job")
		deploy := func() any { return body["items"].([]any)[4].(map[string]any)["status"] }
		if got := deploy(); got != "running" {
			t.Errorf("at once: got deploy %v; want running", got)
		}
		time.Sleep(time.Minute) // the bubble's clock
		_, body = w.call(t, "bot-token", "GET", "/api/v2/workflow/"+w.workflow+"/job")
		if got := deploy(); got != "canceled" {
			t.Errorf("a minute later: got deploy %v; want canceled", got)
		}
	})
}

func TestPendingApproveAndHiddenRequestID(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Configure(func(o *circlecitest.Options) { o.PendingApprove, o.HideBlockedRequestID = true, true })
	_, body := w.call(t, "bot-token", "GET", "/api/v2/workflow/"+w.workflow+"/job")
	if id, there := body["items"].([]any)[3].(map[string]any)["approval_request_id"]; there {
		t.Errorf("blocked gate: got request id %v; want none", id)
	}
	g := w.hold(t)
	status, _ := w.call(t, "bot-token", "POST", "/api/v2/workflow/"+w.workflow+"/approve/"+g.ApprovalRequestID)
	if got := w.gateStatus(t); status != 202 || got != "on_hold" {
		t.Errorf("got %d and gate %s; want 202 and on_hold", status, got)
	}
	if got := w.Approvals(w.workflow); len(got) != 1 || got[0].Took || got[0].UserID != w.bot.ID {
		t.Errorf("got approvals %+v; want one of the bot that did not take", got)
	}
}

func TestHookSeesBothSidesOfTheEffect(t *testing.T) {
	t.Parallel()
	w := setup(t)
	g := w.hold(t)
	var seen []string
	w.SetHook(func(op string, phase circlecitest.Phase) {
		seen = append(seen, op+" "+string(phase)+" "+w.JobStatus(w.workflow, gate))
	})
	w.call(t, "bot-token", "POST", "/api/v2/workflow/"+w.workflow+"/approve/"+g.ApprovalRequestID)
	want := []string{"approve before on_hold", "approve after success"}
	if len(seen) != 2 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("got %v; want %v", seen, want)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	w := setup(t)
	g := w.hold(t)
	approve := "/api/v2/workflow/" + w.workflow + "/approve/" + g.ApprovalRequestID
	w.Inject(
		circlecitest.Fault{Op: "approve", ID: circlecitest.NewID(), Status: 500, Count: -1},
		circlecitest.Fault{Op: "approve", Status: 503, RetryAfter: "3", Count: 2},
		circlecitest.Fault{Op: "approve", Status: 504, When: circlecitest.After},
	)
	for i, want := range []int{503, 503, 504, 400} {
		if got, _ := w.call(t, "bot-token", "POST", approve); got != want {
			t.Errorf("call %d: got %d; want %d", i, got, want)
		}
	}
	if got := w.Approvals(w.workflow); len(got) != 2 || !got[0].Took || got[1].Took {
		t.Errorf("got approvals %+v; want only the first to have taken", got)
	}
	calls := w.Calls()
	if len(calls) != 4 || calls[2].Op != "approve" || calls[2].Status != 504 || calls[2].IDs[0] != w.workflow {
		t.Errorf("got calls %+v; want four to approve", calls)
	}
}

func TestDropOverTheWire(t *testing.T) {
	t.Parallel()
	w := setup(t)
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	w.Inject(circlecitest.Fault{Op: "cancel-workflow", Drop: true, When: circlecitest.After})
	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/api/v2/workflow/"+w.workflow+"/cancel", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer bot-token")
	if resp, err := srv.Client().Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("got %s; want a dropped connection", resp.Status)
	}
	if got := w.WorkflowStatus(w.workflow); got != "canceled" {
		t.Errorf("got workflow %s; want canceled", got)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	w := setup(t)
	done := make(chan error, 1)
	go func() {
		done <- w.Wait(t.Context(), func() bool { return w.JobStatus(w.workflow, gate) == "on_hold" && w.Count("me") == 1 })
	}()
	w.hold(t)
	w.call(t, "bot-token", "GET", "/api/v2/me")
	if err := <-done; err != nil {
		t.Errorf("got %v; want nil", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Wait(gone, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want context.Canceled", err)
	}
}
