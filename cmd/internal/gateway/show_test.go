package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func TestTextIsHarmless(t *testing.T) {
	t.Parallel()
	r := request("pending")
	evil := "a\x1b[31mb\u202ec\u200bd\u2028e\x9bf\r\ng\U000E0041h\xff"
	r.Message, r.Branch = webhook.Text(evil), webhook.Text(evil)
	r.Decisions = []webhook.Decision{{Action: "approve", Name: webhook.Text(evil), Reason: webhook.Text(evil)}}
	r.Pipeline.URL, r.Slack.Permalink, r.Gate.JobName = webhook.Text(evil), webhook.Text(evil), evil
	filed, odd := r, r
	r.App = evil
	odd.Status, odd.ID = approvals.Status(evil), "R2"
	canceled := r
	canceled.Status = approvals.Canceled
	page := webhook.Page{Requests: []webhook.Request{r}}
	bad := problem(422, "commit_mismatch", evil)
	g := serve(t, map[string][]reply{
		"GET /R1": {{200, r}}, "GET ": {{200, page}}, "POST ": {{201, filed}}, "POST /R1/cancel": {{200, canceled}}, "POST /verify": {bad},
		"GET /R2": {{200, odd}},
	})
	for _, args := range []string{
		"deploy-approval show R1", "deploy-approval show R1 -o json", "deploy-approval list", "deploy-approval list -o json",
		"deploy-approval request --app myapp", "deploy-approval request --app myapp --wait --timeout 10ms -o json", "deploy-approval wait R1 --timeout 10ms", "deploy-approval show R2",
		"deploy-approval cancel R1 --reason x", "deploy-approval verify --app myapp", "deploy-approval \x1b[2J",
	} {
		got := run(t, g.env(circle...), strings.Split(args, " ")...)
		for _, r := range got.stdout + got.stderr {
			if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u202e\u200b\u2028\U000E0041", r)) {
				t.Errorf("%q lets %U through: %q", args, r, got.stdout+got.stderr)
				break
			}
		}
		if strings.HasSuffix(args, "json") && !json.Valid([]byte(got.stdout)) {
			t.Errorf("%q: not JSON: %q", args, got.stdout)
		}
	}
}

func TestShowAndList(t *testing.T) {
	t.Parallel()
	r := request("approved")
	at := time.Date(2026, 11, 23, 9, 31, 0, 0, time.UTC)
	r.ApprovedAt, r.ApprovalExpiresAt = &at, &at
	r.Decisions = []webhook.Decision{{Action: "approve", Name: "ana", At: &at}}
	g := serve(t, map[string][]reply{"GET /7": {{200, r}}, "GET ": {{200, webhook.Page{Requests: []webhook.Request{r}, NextCursor: "x"}}}})
	want := `Request:     R1 (#7)
Status:      approved
App:         myapp
Environment: default
Commit:      1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d
Branch:      main
Message:     Fix
Asked by:    ci-myapp (alice)
Pipeline:    1234
Gate:        approve_deploy_production (on_hold)
Card:        https://acme.slack.com/archives/C1/p11
Decision:    approve by ana at 2026-11-23 09:31:00Z
Created:     2026-11-23 09:30:00Z
Expires:     -
Approved:    2026-11-23 09:31:00Z, usable until 2026-11-23 09:31:00Z
`
	got := run(t, g.env(), "deploy-approval", "show", "7")
	if diff := cmp.Diff(want, got.stdout); diff != "" || got.code != 0 || got.stderr != "" {
		t.Errorf("show: exit %d, stderr %q (-want +got):\n%s", got.code, got.stderr, diff)
	}
	got = run(t, g.env(), "deploy-approval", "list", "--app", "myapp", "-s", "open", "-l", "1")
	want = "NUMBER  STATUS    APP    ENVIRONMENT  COMMIT   REF   CREATED               ID\n" +
		"7       approved  myapp  default      1a2b3c4  main  2026-11-23 09:30:00Z  R1\n"
	if got.stdout != want || got.code != 0 || !strings.Contains(got.stderr, "older") {
		t.Errorf("list: got %+v; want\n%s", got, want)
	}
	if calls := g.calls(); calls[1] != "GET ?app=myapp&limit=1&status=open" {
		t.Errorf("list asked %q", calls[1])
	}
	empty := serve(t, map[string][]reply{"GET ": {{200, webhook.Page{Requests: []webhook.Request{}}}}})
	if got := run(t, empty.env(circle...), "deploy-approval", "show", "--app", "myapp"); got.code != 9 || !strings.Contains(got.stderr, "no request for app myapp") {
		t.Errorf("show without a request: got %+v; want exit 9", got)
	}
}
