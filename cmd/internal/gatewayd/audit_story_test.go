package gatewayd_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/bot/browsertest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// history is a product with one deploy of every kind behind it.
type history struct {
	*stage.Stage
	t   *testing.T
	ctx context.Context

	approved, bypassed, rejected string // workflows with a request
	past, waiting                string // without
	rerun                        string // of a pipeline made long before, without
}

func newHistory(t *testing.T) *history {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	s, err := stage.New(t.TempDir(), stage.Options{Log: t.Output(), Env: []string{
		"RGW_APP_MYAPP_SETTING_SUPERSEDE=off", "RGW_APP_OTHER_SETTING_VCS_REPO=MyOrg/other", "RGW_APP_OTHER_SETTING_CIRCLECI_APPROVAL_JOB_NAME=go",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Circle.AddProject(circlecitest.Project{Slug: "gh/MyOrg/other"})
	h := &history{Stage: s, t: t, ctx: ctx}
	h.ok(s.Start(ctx))
	h.ok(s.People(ctx))

	h.approved = s.Pipeline(stage.Number)
	id, card := h.ask(h.approved)
	view, err := s.Press(ctx, stage.Ana, card, "approve")
	h.ok(err)
	_, err = s.Submit(ctx, stage.Ana, view, s.Code(stage.Ana, time.Now()))
	h.ok(err)
	h.ok(s.Circle.Succeed(h.approved, "request_approval"))
	h.ok(s.Circle.Wait(ctx, func() bool { return s.Circle.JobStatus(h.approved, stage.Gate) == "success" }))
	h.ok(s.Circle.Succeed(h.approved, "deploy"))
	h.ends(id, 0)

	h.bypassed = s.Pipeline(stage.Number + 1)
	id, _ = h.ask(h.bypassed)
	h.ok(s.Circle.Succeed(h.bypassed, "request_approval"))
	h.ok(s.Circle.ApproveAs("mallory", h.bypassed, stage.Gate))
	h.ends(id, 6)

	h.rejected = s.Pipeline(stage.Number + 2)
	id, card = h.ask(h.rejected)
	view, err = s.Press(ctx, stage.Bea, card, "reject")
	h.ok(err)
	_, err = s.Slack.Submit(ctx, stage.Bea, view.ID, slacktest.Values{"reason": {"text": "=HYPERLINK(\"https://evil.example\")\tno"}})
	h.ok(err)
	h.ends(id, 3)

	h.past = s.Pipeline(stage.Number + 3)
	h.ok(s.Circle.Succeed(h.past, "request_approval"))
	h.ok(s.Circle.ApproveAs("mallory", h.past, stage.Gate))
	h.waiting = s.Pipeline(stage.Number + 4)
	old := s.Circle.AddPipeline(circlecitest.Pipeline{Project: stage.Project, Number: 7, ActorLogin: stage.Starter, CreatedAt: time.Now().AddDate(0, 0, -40)})
	s.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: old.ID, Tag: "setup", Jobs: []circlecitest.Job{{Name: stage.Gate, Type: "approval"}}})
	h.rerun = s.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: old.ID, Jobs: circlecitest.DeployJobs(stage.Gate)})
	return h
}

func (h *history) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) ask(workflow string) (string, slacktest.Message) {
	h.t.Helper()
	id, err := h.Request(h.ctx, workflow)
	h.ok(err)
	card, err := h.Card(h.ctx, id)
	h.ok(err)
	return id, card
}

func (h *history) ends(id string, code int) {
	h.t.Helper()
	if r := h.Client(h.ctx, "", "deploy-approval", "wait", id, "--until", "finished"); r.Code != code {
		h.t.Fatalf("wait %s: got exit %d, %s; want %d", id, r.Code, r.Stderr, code)
	}
}

func (h *history) operator(args ...string) string {
	h.t.Helper()
	r := h.Operator(h.ctx, "", args...)
	if r.Code != 0 {
		h.t.Fatalf("%q: got exit %d, %s; want 0", args, r.Code, r.Stderr)
	}
	return r.Stdout
}

// get asks the API.
func (h *history) get(path, token string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.ctx, "GET", h.URL+"/api/v1"+path, nil)
	h.ok(err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	h.ok(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	h.ok(err)
	return res.StatusCode, string(body)
}

// table reads CSV with a heading.
func (h *history) table(text string) []map[string]string {
	h.t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	h.ok(err)
	var out []map[string]string
	for _, row := range rows[1:] {
		line := map[string]string{}
		for i, name := range rows[0] {
			line[name] = row[i]
		}
		out = append(out, line)
	}
	return out
}

func TestAuditOfAHistory(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	auditor, err := h.NewToken(h.ctx, "auditor", "--role", "auditor", "--all-apps")
	h.ok(err)
	limited, err := h.NewToken(h.ctx, "limited", "--role", "auditor", "--app", "other")
	h.ok(err)
	t.Run("csv", func(t *testing.T) { h.csv(t, auditor, limited) })
	t.Run("jsonl", func(t *testing.T) { h.jsonl(t, auditor, limited) })
	t.Run("report", h.report)
	t.Run("metrics", h.metrics)
	t.Run("reconcile", h.reconcile)
}

func (h *history) csv(t *testing.T, auditor, limited string) {
	h.t = t
	status, text := h.get("/audit?format=csv", auditor)
	rows := h.table(text)
	if status != 200 || len(rows) != 3 {
		t.Fatalf("got %d %s; want the 3 requests", status, text)
	}
	type part struct{ Number, Workflow, Status, Decision, Approvers, RejectedBy, MFA, Self, Approver, Reason string }
	var got []part
	for _, r := range rows {
		got = append(got, part{r["number"], r["workflow_id"], r["status"], r["decision"], r["approvers"], r["rejected_by"], r["mfa"], r["self_approval"], r["circleci_approver"], r["reason"]})
		if r["app"] != "myapp" || r["environment"] != "default" || r["repository"] != "https://github.com/MyOrg/myapp" || r["commit"] != stage.Revision || r["branch"] != "main" || r["tag"] != "" ||
			r["requester"] != "ci-myapp" || r["started_by"] != stage.Starter || !strings.HasPrefix(r["permalink"], "https://") ||
			r["pipeline_url"] != "https://app.circleci.com/pipelines/gh/MyOrg/myapp/"+strconv.Itoa(stage.Number-1+number(t, r["number"])) {
			t.Errorf("got %v; want what CircleCI and Slack say", r)
		}
		if at, err := time.Parse(time.DateTime, r["requested_at_utc"]); err != nil || time.Since(at) > time.Hour {
			t.Errorf("got requested at %q; want a time of now", r["requested_at_utc"])
		}
		if released := r["released_at_utc"] != ""; released != (r["decision"] == "approved") {
			t.Errorf("request %s: got released at %q", r["number"], r["released_at_utc"])
		}
		if r["message"] == "" || r["gate"] != stage.Gate || r["trigger"] == "" || r["required"] != "1" || r["break_glass"] != "no" || r["retries"] != "0" || r["refused_verifies"] != "0" {
			t.Errorf("got %v; want the message, the gate and an ordinary course", r)
		}
		times, deployed := []string{"released_at_utc", "deploy_started_at_utc", "deploy_ended_at_utc"}, r["status"] == "deployed"
		for _, name := range times {
			if at, err := time.Parse(time.DateTime, r[name]); deployed && (err != nil || time.Since(at) > time.Hour) || !deployed && r[name] != "" {
				t.Errorf("request %s, %s: got %s %q", r["number"], r["status"], name, r[name])
			}
		}
		if want := map[bool]string{true: "succeeded"}[deployed]; r["deploy_result"] != want {
			t.Errorf("request %s: got the result %q; want %q", r["number"], r["deploy_result"], want)
		}
		seqs := strings.Fields(r["seqs"])
		if len(seqs) < 3 || number(t, seqs[len(seqs)-1])+1 != number(t, r["checkpoint_size"]) {
			t.Errorf("request %s: got seqs %s, checkpoint size %s; want one more than the last", r["number"], r["seqs"], r["checkpoint_size"])
		}
	}
	want := []part{
		{"3", h.rejected, "rejected", "rejected", "", "Bea (U0BEA)", "none", "", "", "'=HYPERLINK(\"https://evil.example\") no"},
		{"2", h.bypassed, "bypassed", "", "", "", "", "", "mallory", got[1].Reason},
		{"1", h.approved, "deployed", "approved", "Ana (U0ANA)", "", "totp", "no", stage.MachineUser, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}

	if cli := h.operator("audit", "export", "--format", "csv", "--app", "myapp", "--with-checkpoint", filepath.Join(h.Dir, "csv.checkpoint")); cli != text {
		t.Errorf("the command says\n%s; want as the API\n%s", cli, text)
	}
	if r := h.Operator(h.ctx, "", "audit", "export", "--format", "csv", "--app", "myap"); r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, `there is no request of an app "myap"`) {
		t.Errorf("of a misspelt app: got exit %d, %q, %s; want 1 and no rows", r.Code, r.Stdout, r.Stderr)
	}
	heading, _, _ := strings.Cut(text, "\n")
	for query, token := range map[string]string{
		"?format=csv": limited, "?format=csv&app=other": auditor, "?format=csv&to=2020-01-01": auditor, "?format=csv&from=2090-01-01": auditor,
	} {
		if status, body := h.get("/audit"+query, token); status != 200 || strings.TrimSpace(body) != heading {
			t.Errorf("%s: got %d %s; want the heading alone", query, status, body)
		}
	}
	for query, token := range map[string]string{"?format=csv&app=myapp": limited, "": limited, "?format=csv": h.Token} {
		if status, body := h.get("/audit"+query, token); status != 403 {
			t.Errorf("%q: got %d %s; want 403", query, status, body)
		}
	}
}

// report has what reconcile finds; its readers can tell what was not looked at.
func (h *history) report(t *testing.T) {
	h.t = t
	file := filepath.Join(h.Dir, "report.html")
	read := func(args ...string) string {
		h.operator(append([]string{"audit", "report", "-o", file}, args...)...)
		text, err := os.ReadFile(file)
		h.ok(err)
		return string(text)
	}
	whole := read()
	for _, want := range []string{
		"3</b> requests", "<th>no_request</th>", "<th>not_approved_here</th>", "workflow " + h.past, "workflow " + h.rerun, "No deploy job asked the gateway whether this is what was approved", "Ana (U0ANA) approved with a code (totp)",
		"https://app.circleci.com/pipelines/gh/MyOrg/myapp/", "https://github.com/MyOrg/myapp/commit/" + stage.Revision, ">card</a>",
	} {
		if !strings.Contains(whole, want) {
			t.Errorf("the report does not say %s", want)
		}
	}
	t.Run("in a browser", func(t *testing.T) { inBrowser(t, file) })
	if part := read("--skip-circleci"); strings.Contains(part, "no_request") || !strings.Contains(part, "it was left out") {
		t.Error("without CircleCI: the report does not say that it was left out, or has findings")
	}
	if r := h.Operator(h.ctx, "", "audit", "report", "-o", filepath.Join(h.Dir, "none", "report.html"), "--skip-circleci"); r.Code != 1 || !strings.Contains(r.Stderr, "no such file or directory") {
		t.Errorf("got exit %d, %s; want 1 and that the directory is missing", r.Code, r.Stderr)
	}
	h.Circle.Inject(circlecitest.Fault{Op: "jobs", ID: h.bypassed, Status: 403, Count: -1})
	defer h.Circle.ClearFaults()
	r := h.Operator(h.ctx, "", "audit", "report", "-o", file)
	text, err := os.ReadFile(file)
	h.ok(err)
	if r.Code != 1 || !strings.Contains(r.Stderr, "the comparison is not complete") || !strings.Contains(string(text), "The list is not complete:") || !strings.Contains(string(text), "<th>unreadable</th>") {
		t.Errorf("with a hole: got exit %d, %s; want 1 and a page that says so", r.Code, r.Stderr)
	}
}

// inBrowser opens the page as its readers do: it loads nothing, fits a phone, can be
// read in light and dark, and can be printed.
func inBrowser(t *testing.T, file string) {
	b := browsertest.Open(t)
	b.Do(chromedp.Navigate("file://" + file))
	b.Await(`document.readyState`, "complete")
	if loaded := b.Eval(`performance.getEntriesByType('resource').length + document.scripts.length`); loaded != "0" {
		t.Errorf("the page loads or runs %s things; want none", loaded)
	}
	b.Screen(390, 844, true, "light")
	if wide := b.Eval(`document.documentElement.scrollWidth`); wide != "390" {
		t.Errorf("the page is %s wide; want the 390 of the screen", wide)
	}
	b.Readable()
	b.Photograph("report")
	b.Paper()
	shown := `[...document.querySelectorAll('.requests tbody tr, .tiles b, figure .bars')].map((e) => getComputedStyle(e).display + (e.getBoundingClientRect().height > 10)).filter((d, i, all) => all.indexOf(d) === i).sort().join()`
	if got := b.Eval(shown); got != "blocktrue,flextrue,table-rowtrue" {
		t.Errorf("on paper rows, figures and plots are %s; want a table, and that they are seen", got)
	}
	kept := `[...document.querySelectorAll('h2, .box h3, .box h3 + p')].every((e) => getComputedStyle(e).breakAfter == 'avoid') && getComputedStyle(document.querySelector('.box.empty')).breakInside`
	if got := b.Eval(kept); got != "avoid" {
		t.Error("on paper a page may end between a heading, or what it is about, and what stands below")
	}
	if wide := b.Eval(`document.documentElement.scrollWidth`); wide != "718" {
		t.Errorf("the page is %s wide on paper; want 718", wide)
	}
}

// metrics has every series that the alert rules and the dashboard ask for.
func (h *history) metrics(t *testing.T) {
	h.t = t
	res, err := http.Get(h.Health + "/metrics")
	h.ok(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	h.ok(err)
	page := metricsOfPage(t)
	delete(page, "rgw_nodes") // there is no PostgreSQL here
	if diff := cmp.Diff(page, metricsIn(string(body))); diff != "" {
		t.Errorf("/metrics is not what the page lists (-page +got):\n%s", diff)
	}
	there := map[string]bool{}
	for line := range strings.Lines(string(body)) {
		name, _, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		there[name] = true
	}
	there["rgw_nodes"] = true
	if !strings.Contains(string(body), "\nrgw_deciding 1\n") {
		t.Error("/metrics does not say that decisions are taken")
	}
	asked := regexp.MustCompile(`\b(?:rgw|process)_[a-z_]+\b`)
	for _, file := range []string{"prometheus/alerts.yml", "grafana-dashboard.json"} {
		text, err := os.ReadFile("../../rack-gatewayd/deploy/" + file)
		h.ok(err)
		names := asked.FindAllString(string(text), -1)
		if len(names) < 5 {
			t.Errorf("%s asks for %q; want more", file, names)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s asks for %s, which /metrics does not have", file, name)
			}
		}
		// An event that is alarming is there before it happens.
		for _, kinds := range regexp.MustCompile(`\btype=~?\\?"([a-z_.|]+)\\?"`).FindAllStringSubmatch(string(text), -1) {
			for kind := range strings.SplitSeq(kinds[1], "|") {
				if !strings.Contains(string(body), `rgw_events_total{type="`+kind+`"}`) {
					t.Errorf("%s asks for events %s, which /metrics does not have", file, kind)
				}
			}
		}
	}
}

// metricsOfPage are the types and labels of the gateway's own metrics, by name, as the
// page lists them.
func metricsOfPage(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../rack-gatewayd/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- metrics -->\n")
	table, _, _ = strings.Cut(table, "\n\n")
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(rgw_[a-z_]+)` \\| ([a-z]+) \\| (.*?) ?\\| .+ \\|$").FindAllStringSubmatch(table, -1) {
		listed[row[1]] = row[2] + " " + strings.ReplaceAll(row[3], "`", "")
	}
	return listed
}

// metricsIn are the same in what was scraped.
func metricsIn(scraped string) map[string]string {
	found := map[string]string{}
	for _, family := range regexp.MustCompile(`(?m)^# TYPE (rgw_[a-z_]+) ([a-z]+)\n[a-z_]+(?:\{(.*)\})? `).FindAllStringSubmatch(scraped, -1) {
		var labels []string
		for _, label := range regexp.MustCompile(`([a-z]+)="`).FindAllStringSubmatch(family[3], -1) {
			if label[1] != "le" {
				labels = append(labels, label[1])
			}
		}
		found[family[1]] = family[2] + " " + strings.Join(labels, ", ")
	}
	return found
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (h *history) jsonl(t *testing.T, auditor, limited string) {
	h.t = t
	_, checkpoint := h.get("/audit/checkpoint", auditor)
	_, key := h.get("/audit/key", auditor)
	status, log := h.get("/audit", auditor)
	o := &operator{t: t, dir: t.TempDir()}
	file := o.write("log", log)
	code, out, err := o.run("audit", "verify", file, "--checkpoint", o.write("checkpoint", checkpoint), "--key", key)
	if status != 200 || code != 0 || !strings.Contains(out, "events not anchored yet") {
		t.Fatalf("got %d, exit %d, %s%s; want an intact log", status, code, out, err)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"type":"log.exported"`) || !strings.Contains(last, `"kind":"token"`) || !strings.Contains(last, `"source":"api"`) {
		t.Errorf("got the last event %s; want this export by the token", last)
	}
	for _, secret := range []string{auditor, limited, h.Token, h.Variable("RGW_SECRET_KEYS"), h.Variable("CIRCLECI_TOKEN"), h.Variable("SLACK_BOT_TOKEN")} {
		if strings.Contains(log, secret) {
			t.Error("a secret is in the log")
		}
	}
}

func (h *history) reconcile(t *testing.T) {
	h.t = t
	type finding struct {
		Finding, App, Gate string
		Status             string `json:"gate_status"`
		By                 string `json:"circleci_approver"`
		Request            int
		RequestStatus      string `json:"request_status"`
		Workflow           string `json:"workflow_id"`
		Pipeline           int
	}
	run := func(args ...string) (found []finding) {
		t.Helper()
		h.ok(json.Unmarshal([]byte(h.operator(append([]string{"audit", "reconcile", "-o", "json"}, args...)...)), &found))
		slices.SortFunc(found, func(a, b finding) int { return a.Pipeline - b.Pipeline })
		return found
	}
	today := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	all := []finding{
		{"no_request", "myapp", stage.Gate, "blocked", "", 0, "", h.rerun, 7},
		{"", "myapp", stage.Gate, "success", stage.MachineUser, 1, "deployed", h.approved, stage.Number},
		{"not_approved_here", "myapp", stage.Gate, "success", "mallory", 2, "bypassed", h.bypassed, stage.Number + 1},
		{"", "myapp", stage.Gate, h.Circle.JobStatus(h.rejected, stage.Gate), "", 3, "rejected", h.rejected, stage.Number + 2},
		{"no_request", "myapp", stage.Gate, "success", "mallory", 0, "", h.past, stage.Number + 3},
		{"no_request", "myapp", stage.Gate, "blocked", "", 0, "", h.waiting, stage.Number + 4},
	}
	bad := func(f finding) bool { return f.Finding == "" }
	if diff := cmp.Diff(all, run("--from", today, "--all")); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(slices.DeleteFunc(slices.Clone(all), bad), run("--from", today, "--app", "myapp")); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(slices.DeleteFunc(slices.Clone(all[1:]), bad), run("--from", today, "--lookback", "0")); diff != "" {
		t.Errorf("without a look back (-want +got):\n%s", diff)
	}
	for _, none := range [][]string{{"--from", today, "--app", "other", "--all"}, {"--from", "2020-01-01", "--to", "2020-02-01", "--all"}} {
		if got := run(none...); len(got) != 0 {
			t.Errorf("%q: got %v; want nothing", none, got)
		}
	}
	if rows := h.table(h.operator("audit", "reconcile", "--from", today, "-o", "csv")); len(rows) != 4 {
		t.Errorf("csv: got %v; want 4 findings", rows)
	}
	if r := h.Operator(h.ctx, "", "audit", "reconcile", "--from", today, "--app", "nothing"); r.Code != 1 || !strings.Contains(r.Stderr, `no app "nothing"`) {
		t.Errorf("unknown app: got exit %d, %s; want 1", r.Code, r.Stderr)
	}

	// CircleCI is busy for a moment.
	h.Circle.Inject(circlecitest.Fault{Op: "jobs", Status: 429, RetryAfter: "1"}, circlecitest.Fault{Op: "project-pipelines", Status: 502})
	if diff := cmp.Diff(all, run("--from", today, "--all")); diff != "" {
		t.Errorf("after faults (-want +got):\n%s", diff)
	}
	h.Circle.Inject(circlecitest.Fault{Op: "pipeline-workflows", Status: 403, Count: -1})
	if r := h.Operator(h.ctx, "", "audit", "reconcile", "--from", today); r.Code != 1 || strings.Count(r.Stdout, "unreadable") != 6 || !strings.Contains(r.Stderr, "403 Forbidden") {
		t.Errorf("refused: got exit %d, %s%s; want 1 and every pipeline as unreadable", r.Code, r.Stdout, r.Stderr)
	}
	h.Circle.ClearFaults()

	// One workflow that cannot be read is named, in every format; the rest is listed.
	broken := circlecitest.Fault{Op: "jobs", ID: h.bypassed, Status: 200, Body: `{"items": [{"id": "none"}]}`, Count: -1}
	h.Circle.Inject(broken)
	named := "gh/MyOrg/myapp, pipeline " + strconv.Itoa(stage.Number+1) + ", workflow " + h.bypassed + ": "
	for _, format := range []string{"text", "csv", "json"} {
		r := h.Operator(h.ctx, "", "audit", "reconcile", "--from", today, "-o", format)
		if r.Code != 1 || !strings.Contains(r.Stderr, named) || !strings.Contains(r.Stderr, "the list is not complete") || strings.Count(r.Stdout, "unreadable") != 1 || strings.Count(r.Stdout, "no_request") != 3 {
			t.Errorf("%s with a hole: got exit %d, %s%s; want 1, the hole named, and the other findings", format, r.Code, r.Stdout, r.Stderr)
		}
		if format != "csv" {
			continue
		}
		if row := h.table(r.Stdout)[0]; row["finding"] != "unreadable" || row["workflow_id"] != h.bypassed || row["pipeline"] != strconv.Itoa(stage.Number+1) || !strings.Contains(row["detail"], "has no id") || row["created_at_utc"] != "" {
			t.Errorf("got the row %v; want the hole first, and why", row)
		}
	}
	h.Circle.ClearFaults()

	// A row that says more than the log accounts for nothing.
	h.Stop()
	o := &operator{t: t, dir: h.Dir}
	o.raw("rack-gateway.db", `UPDATE requests SET status = 'released', body = json_set(body, '$.Status', 'released') WHERE number = 2`)
	found := run("--from", today)
	if i := slices.IndexFunc(found, func(f finding) bool { return f.Request == 2 }); i < 0 || found[i].Finding != "not_approved_here" {
		t.Errorf("altered row: got %v; want it found", found)
	}
	o.raw("rack-gateway.db", `UPDATE requests SET workflow_id = '`+h.waiting+`' WHERE number = 1`)
	found = run("--from", today)
	for _, f := range found {
		if f.Workflow == h.waiting && f.Finding != "not_open" || f.Workflow == h.approved && f.Finding != "no_request" {
			t.Errorf("moved row: got %v; want not_open and no_request", f)
		}
	}
}
