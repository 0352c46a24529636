package gateway_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// oneWorkflow is a CI provider that runs one workflow, whose gate is on hold.
type oneWorkflow struct{ approvals.CI }

func (oneWorkflow) Facts(_ context.Context, id string) (approvals.Facts, error) {
	if id != workflow {
		return approvals.Facts{}, &approvals.CIError{Status: 404, Message: "Workflow not found"}
	}
	return approvals.Facts{
		WorkflowID: workflow, WorkflowName: "deploy", PipelineID: job, PipelineNumber: 1234, Project: "gh/MyOrg/myapp",
		Revision: commit, Branch: "main", Actor: "alice", WorkflowStatus: "on_hold",
	}, nil
}

func (oneWorkflow) Jobs(context.Context, string) ([]approvals.Job, error) {
	return []approvals.Job{{ID: job, Name: "approve_deploy_production", Type: "approval", Status: "on_hold", ApprovalRequestID: job}}, nil
}

func (oneWorkflow) SameProject(_ context.Context, a, b string) (bool, error) {
	return strings.EqualFold(a, b), nil
}

// The program, the API and the real use cases on a real database.
func TestAgainstTheRealService(t *testing.T) {
	t.Parallel()
	settings, faults := approvals.ParseSettings([]string{
		"RGW_APP_MYAPP_SETTING_VCS_REPO=MyOrg/myapp", "RGW_APP_MYAPP_SETTING_CIRCLECI_APPROVAL_JOB_NAME=approve_deploy_production",
	}, "C0123456789")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	db := storetest.New(t)
	signer, err := approvals.OpenLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	service := approvals.New(approvals.Config{Store: db, CI: oneWorkflow{}, Settings: settings, Signer: signer})
	text, _, err := approvals.Admin{Store: db}.CreateToken(t.Context(), "ci-myapp", approvals.RoleCICD, []string{"myapp"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(webhook.New(webhook.Config{Service: audit.Log{Service: service, Store: db}, Links: circleci.Links{}}))
	t.Cleanup(s.Close)
	env := append([]string{"RACK_GATEWAY_URL=" + s.URL, "RACK_GATEWAY_API_TOKEN=" + text}, circle...)

	created := run(t, env, "deploy-approval", "request", "--app", "myapp", "--message", "Fix")
	id := strings.TrimSpace(created.stdout)
	if created.code != 0 || id == "" || !strings.Contains(created.stderr, "created (status: pending)\nPipeline: https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234\n") {
		t.Fatalf("request: got %+v", created)
	}
	again := run(t, env, "deploy-approval", "request", "--app", "myapp", "--git-commit", commit[:7])
	if again.code != 0 || again.stdout != created.stdout {
		t.Errorf("request again: got %+v; want the same id", again)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"deploy-approval request --app other", 8, "not for app"},
		{"deploy-approval request --app myapp --environment nowhere", 9, "environment_unknown"},
		{"deploy-approval request --app MyApp", 9, "app: must be a name"},
		{"deploy-approval request --app myapp --git-commit 0000000", 9, "commit_mismatch"},
		{`deploy-approval request --app myapp --ci-metadata {"workflow_id":"00000000-0000-0000-0000-000000000000"}`, 9, "workflow not found"},
		{"deploy-approval verify --app myapp", 9, "is pending"},
		{"deploy-approval wait --app myapp --timeout 100ms", 7, "timed out"},
		{"deploy-approval show 2", 9, "not_found"},
		{"deploy-approval cancel 1 --reason mistake", 0, "withdrawn"},
		{"deploy-approval cancel 1 --reason mistake", 0, "withdrawn"},
		{"deploy-approval wait " + id, 5, "is canceled"},
		{"deploy-approval verify --app myapp", 9, "is canceled"},
	} {
		if got := run(t, env, strings.Split(tt.args, " ")...); got.code != tt.code || !strings.Contains(got.stderr, tt.want) {
			t.Errorf("%s: got %+v; want exit %d and %q", tt.args, got, tt.code, tt.want)
		}
	}
	var page webhook.Page
	got := run(t, env, "deploy-approval", "list", "--status", "closed", "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &page); err != nil || len(page.Requests) != 1 || page.Requests[0].ID != id || page.Requests[0].Failure.Detail != "mistake" {
		t.Errorf("list: got %+v, %v; want the one withdrawn", got, err)
	}
}
