package gateway_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// Whatever answers in the gateway's place, no command of the client believes it,
// and deploy runs nothing.
func TestTheClientFailsClosed(t *testing.T) {
	t.Parallel()
	type answer struct {
		status  int
		headers map[string]string
		body    string
	}
	changed := func(f func(v *webhook.Verified)) string {
		v := verified()
		f(&v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	past := time.Now().Add(-time.Minute)
	for name, tt := range map[string]struct {
		answer answer
		code   int
	}{
		"object":           {answer{200, nil, `{}`}, 1},
		"null":             {answer{200, nil, `null`}, 1},
		"status ok":        {answer{200, nil, `{"status":"ok"}`}, 1},
		"page":             {answer{200, nil, `<html><title>Sign in</title></html>`}, 1},
		"empty":            {answer{200, nil, ``}, 1},
		"no content":       {answer{204, nil, ``}, 1},
		"redirect":         {answer{302, map[string]string{"Location": "https://elsewhere.example"}, ``}, 1},
		"cut":              {answer{200, nil, changed(func(*webhook.Verified) {})[:100]}, 1},
		"cut by length":    {answer{200, map[string]string{"Content-Length": "5000"}, `{"request":`}, 10},
		"rejected":         {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.Status = "rejected" })}, 1},
		"pending":          {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.Status = "pending" })}, 1},
		"another workflow": {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.Pipeline.WorkflowID = job })}, 1},
		"another app":      {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.App = "other" })}, 1},
		"another commit":   {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.GitCommit = strings.Repeat("0", 40) })}, 1},
		"another place":    {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.Environment = "staging" })}, 1},
		"expired":          {answer{200, nil, changed(func(v *webhook.Verified) { v.Request.ApprovalExpiresAt = &past })}, 1},
		"no receipt":       {answer{200, nil, changed(func(v *webhook.Verified) { v.Receipt = ledger.Receipt{} })}, 1},
		"foreign 401":      {answer{401, nil, `<html>`}, 8},
		"foreign 404":      {answer{404, nil, `<html>`}, 9},
		"foreign 502":      {answer{502, nil, `<html>`}, 10},
		"foreign 522":      {answer{522, nil, `<html>`}, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range tt.answer.headers {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tt.answer.status)
				_, _ = w.Write([]byte(tt.answer.body))
			}))
			t.Cleanup(s.Close)
			env := append([]string{"RACK_GATEWAY_URL=" + s.URL, "RACK_GATEWAY_API_TOKEN=" + token, "PATH=" + os.Getenv("PATH")}, circle...)
			marker := filepath.Join(t.TempDir(), "ran")
			for _, args := range []string{
				"deploy --app myapp -- touch " + marker, "deploy-approval verify --app myapp", "deploy-approval request --app myapp",
				"deploy-approval request --app myapp --wait --timeout 1s", "deploy-approval wait R1 --timeout 1s", "deploy-approval wait --app myapp --timeout 1s",
				"deploy-approval show R1", "deploy-approval cancel R1 --reason x", "deploy-approval list",
			} {
				got := run(t, env, strings.Fields("--retry-for 0 "+args)...)
				if got.code != tt.code || got.stdout != "" || !strings.Contains(got.stderr, s.URL) {
					t.Errorf("%s: got %+v; want exit %d, no result, and who answered", args, got, tt.code)
				}
				if strings.HasPrefix(args, "deploy ") && !strings.HasPrefix(got.stderr, "rack-gateway: Not deploying: ") {
					t.Errorf("%s: got %q; want that nothing is deployed", args, got.stderr)
				}
			}
			if _, err := os.Stat(marker); err == nil {
				t.Error("the command ran")
			}
		})
	}
}

func TestReceipts(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {{200, request("released")}}})
	dir := t.TempDir()
	for _, command := range []string{"deploy-approval verify --app myapp", "deploy --app myapp"} {
		after := []string{}
		if strings.HasPrefix(command, "deploy ") {
			after = []string{"--", "true"}
		}
		file := filepath.Join(dir, "receipt")
		if err := os.WriteFile(file, []byte("older"), 0o644); err != nil {
			t.Fatal(err)
		}
		got := run(t, g.env(circle...), append(append(strings.Fields(command), "--receipt", file), after...)...)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ledger.ParseReceipt(text)
		if err != nil || got.code != 0 || r.Leaf != verified().Receipt.Leaf || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %+v, %s, %v; want the receipt with mode 0600", command, got, info.Mode(), err)
		}
		if strings.Contains(got.stderr, "Receipt:") {
			t.Errorf("%s: the receipt is in the log too: %s", command, got.stderr)
		}
		if rest, err := os.ReadDir(dir); err != nil || len(rest) != 1 {
			t.Errorf("%s: %v, %v; want the receipt alone", command, rest, err)
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		got = run(t, g.env(circle...), append(append(strings.Fields(command), "--receipt", link), after...)...)
		if to, err := os.Readlink(link); err != nil || to != file || got.code != 0 {
			t.Errorf("%s to a link: got %+v, %q, %v; want that the link stays", command, got, to, err)
		}
		// Evidence that was asked for and cannot be kept stops the deploy.
		marker := filepath.Join(dir, "ran")
		if len(after) > 0 {
			after = []string{"--", "touch", marker}
		}
		got = run(t, g.env(circle...), append(append(strings.Fields(command), "--receipt", dir), after...)...)
		if got.code != 1 || !strings.Contains(got.stderr, "Not deploying: keep receipt") {
			t.Errorf("%s to a directory: got %+v; want exit 1", command, got)
		}
		if _, err := os.Stat(marker); err == nil {
			t.Errorf("%s: the command ran without its receipt", command)
		}
	}
	got := run(t, g.env(circle...), "deploy", "--app", "myapp", "--", "true")
	_, line, _ := strings.Cut(got.stderr, "Receipt: ")
	line, _, _ = strings.Cut(line, "\n")
	if r, err := ledger.ParseReceipt([]byte(line)); err != nil || r.Leaf != verified().Receipt.Leaf {
		t.Errorf("deploy without a file: got %+v, %v; want the receipt on stderr", got, err)
	}
	if got = run(t, g.env(circle...), "deploy-approval", "verify", "--app", "myapp"); strings.Contains(got.stderr, "Receipt:") {
		t.Errorf("verify prints the receipt twice: %+v", got)
	}
}

// A refusal says what is wrong, who opened the gate, and what to do.
func TestRefusalsAreClear(t *testing.T) {
	t.Parallel()
	at := time.Now()
	in := func(status approvals.Status, change func(r *webhook.Request)) webhook.Request {
		r := request(status)
		r.Slack.Permalink = "https://acme.slack.com/archives/C1/p1"
		if change != nil {
			change(&r)
		}
		return r
	}
	for _, tt := range []struct {
		name    string
		code    approvals.Code
		detail  string
		request *webhook.Request
		want    []string
	}{
		{"opened past the bot", "not_approved", "request #7 is pending", ptr(in("pending", func(r *webhook.Request) { r.Gate.ApprovedBy = "mallory" })), []string{
			"Not deploying: request #7 is pending (not_approved), trace ID REQ. Nobody has approved request #7 here. CircleCI's approval job approve_deploy_production was opened by mallory.",
			"Card: https://acme.slack.com/archives/C1/p1 ", "Next: rerun the workflow from start",
		}},
		{"bypassed since", "not_approved", "request #7 is bypassed", ptr(in("bypassed", func(r *webhook.Request) { r.Gate.Status = "success" })), []string{"was opened in CircleCI", "rerun the workflow"}},
		{"seen a moment later", "not_approved", "request #7 is pending", ptr(in("pending", nil)), []string{"was opened by mallory.", "Next: rerun the workflow from start"}},
		{"bypassed", "not_approved", "nobody approved request #7 here; its gate was opened in CircleCI by mallory", ptr(in("bypassed", func(r *webhook.Request) { r.Gate.ApprovedBy = "mallory" })), []string{
			"Not deploying: nobody approved request #7 here; its gate was opened in CircleCI by mallory (not_approved), trace ID REQ. Card: https://acme.slack.com/archives/C1/p1 . Next: rerun the workflow from start",
		}},
		{"waiting", "not_approved", "request #7 is pending", ptr(in("pending", nil)), []string{"Nobody has approved request #7 here.", "Next: let this job require the success of the approval job. If it does already, rerun the workflow from start"}},
		{"one of two", "not_approved", "request #7 is pending", ptr(in("pending", func(r *webhook.Request) {
			r.RequiredApprovals, r.Decisions = 2, []webhook.Decision{{Action: "approve", Name: "ana"}}
		})), []string{"Request #7 has 1 of 2 approvals."}},
		{"rejected", "not_approved", "request #7 is rejected", ptr(in("rejected", func(r *webhook.Request) {
			r.Decisions = []webhook.Decision{{Action: "reject", Name: "bea", Reason: "not today"}}
		})), []string{"rejected by bea: not today.", "Next: rerun"}},
		{"not released", "not_approved", "request #7 is approved, but …", ptr(in("approved", nil)), []string{"Next: let this job require the success of the approval job. If it does already, rerun the workflow from start"}},
		{"overtaken a moment later", "not_approved", "request #7 is approved, but …", ptr(in("approved", nil)), []string{
			"trace ID REQ. CircleCI's approval job approve_deploy_production was opened by mallory. Card: https://acme.slack.com/archives/C1/p1 . Next: rerun the workflow from start",
		}},
		{"expired", "approval_expired", "the approval of request #7 was not used in time", ptr(in("expired", func(r *webhook.Request) { r.ApprovedAt = &at })), []string{"Next: rerun the workflow from start"}},
		{"other commit", "commit_not_approved", "request #7 is for commit …", ptr(in("released", nil)), []string{"Next: deploy the commit that was approved"}},
		{"none", "not_approved", "no request was made for this workflow", nil, []string{"Next: file a request before the approval job"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			page := webhook.Page{Requests: []webhook.Request{}}
			if tt.request != nil {
				old := request("superseded")
				page.Requests = []webhook.Request{old, *tt.request}
				if tt.request.Status == "expired" {
					page.Requests = []webhook.Request{*tt.request, old}
				}
			}
			answers := map[string][]reply{"POST /verify": {problem(409, tt.code, tt.detail)}, "GET ": {{200, page}}}
			switch tt.name {
			case "seen a moment later":
				answers["GET /R1"] = []reply{{200, in("bypassed", func(r *webhook.Request) { r.Gate.ApprovedBy = "mallory" })}}
			case "overtaken a moment later":
				answers["GET /R1"] = []reply{{200, in("bypassed", func(r *webhook.Request) { r.Gate.ApprovedBy, r.ApprovedAt = "mallory", &at })}}
			}
			g := serve(t, answers)
			for _, args := range []string{"deploy --app myapp -- false", "deploy-approval verify --app myapp"} {
				got := run(t, g.env(circle...), strings.Fields(args)...)
				if got.code != 9 || got.stdout != "" {
					t.Errorf("%s: got %+v; want exit 9", args, got)
				}
				for _, want := range tt.want {
					if !strings.Contains(got.stderr, want) {
						t.Errorf("%s: got %s\nwant %q in it", args, got.stderr, want)
					}
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }
