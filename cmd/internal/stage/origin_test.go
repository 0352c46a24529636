package stage_test

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github/githubtest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// started is a workflow of a pipeline that somebody started in their own way. Its
// gate is on hold as soon as it was asked for.
func (p *play) started(pipe circlecitest.Pipeline, by string) string {
	p.t.Helper()
	pipe.Project, pipe.ActorLogin = stage.Project, by
	if pipe.Revision == "" {
		pipe.Revision = stage.Revision
	}
	id := p.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: p.Circle.AddPipeline(pipe).ID, Jobs: circlecitest.DeployJobs(stage.Gate)})
	return p.ready(id)
}

// says checks that card and modal say something.
func (p *play) says(a asked, want ...string) {
	p.t.Helper()
	view := p.press(stage.Ana, a, "approve")
	for where, text := range map[string]string{"card": words(a.card.Blocks), "modal": words(view.Blocks)} {
		for _, w := range want {
			if !strings.Contains(text, w) {
				p.t.Errorf("the %s does not say %q:\n%s", where, w, text)
			}
		}
	}
	p.ok(p.Slack.CloseView(stage.Ana))
}

var shownLink = regexp.MustCompile(`⟦<[^|>]*\|([^>]*)>⟧`)

// words are what blocks say, without the addresses of their links.
func words(blocks []slacktest.Block) string {
	return shownLink.ReplaceAllString(slacktest.Text(blocks), "$1")
}

// needs checks how many approvals the card asks for.
func (p *play) needs(a asked, want string) {
	p.t.Helper()
	if text := words(a.card.Blocks); !strings.Contains(text, want) {
		p.t.Errorf("the card does not say %q:\n%s", want, text)
	}
}

// row is the row of a request in the CSV.
func (p *play) row(id string) map[string]string {
	p.t.Helper()
	r := p.Operator(p.ctx, "", "audit", "export", "--format", "csv")
	rows, err := csv.NewReader(strings.NewReader(r.Stdout)).ReadAll()
	if r.Code != 0 || err != nil || len(rows) < 2 {
		p.t.Fatalf("audit export: exit %d, %v, %s", r.Code, err, r.Stderr)
	}
	for _, cells := range rows[1:] {
		row := map[string]string{}
		for i, name := range rows[0] {
			row[name] = cells[i]
		}
		if row["request_id"] == id {
			return row
		}
	}
	p.t.Fatalf("the CSV has no row for %s", id)
	return nil
}

// What is not a plain push by somebody on record is said on card and modal, and stands in log and CSV.
func TestWhatIsNoPlainPush(t *testing.T) {
	const source = "version: 2.1\nparameters:\n  run_migrations:\n    type: boolean\n    default: true\n"
	sum := sha256.Sum256([]byte(source))
	p := setup(t, settings("CONFIG_CHANGE_APPROVALS=2", "SUPERSEDE=off"))
	declared := map[string]any{"run_migrations": true}

	first := p.askFor(p.started(circlecitest.Pipeline{Number: 1, Config: source}, "alice"))
	p.approve(stage.Ana, first, "approve")
	p.until("the first is deployed", func() bool {
		_ = p.Circle.Succeed(first.workflow, "deploy") // it fails until the gate is open
		return p.get(first.id).Status == approvals.Deployed
	})
	if row := p.row(first.id); row["trigger"] != "webhook" || row["config_sha256"] != hex.EncodeToString(sum[:]) || row["config_changed"] != "no" || row["self_approval"] != "no" || row["required"] != "1" {
		t.Errorf("the CSV says of a push: %v", row)
	}

	t.Run("by the API with parameters", func(t *testing.T) {
		p := p.in(t)
		a := p.askFor(p.started(circlecitest.Pipeline{
			Number: 2, Config: source, TriggerType: "api", Defaults: declared, Parameters: map[string]any{"run_migrations": false},
		}, "mallory"))
		p.says(a, "Started through the API by mallory, with parameters: run_migrations=false.", "The starter, mallory, is nobody I know", "pipeline 2")
		p.approve(stage.Bea, a, "approve")
		p.until("it is released", func() bool { return p.get(a.id).Status.Passed() })
		if row := p.row(a.id); row["trigger"] != "api" || row["parameters"] != "run_migrations=false" || row["config_changed"] != "no" || row["self_approval"] != "unknown" {
			t.Errorf("the CSV says %v", row)
		}
	})
	t.Run("by a merge queue", func(t *testing.T) {
		p := p.in(t)
		p.Circle.AddUser(circlecitest.User{Login: "github-merge-queue[bot]"})
		a := p.askFor(p.started(circlecitest.Pipeline{Number: 3, Config: source}, "github-merge-queue[bot]"))
		p.says(a, "The starter, github-merge-queue[bot], is nobody I know, so I can’t tell whose deploy this is.")
	})
	t.Run("with another configuration", func(t *testing.T) {
		p := p.in(t)
		a := p.askFor(p.started(circlecitest.Pipeline{Number: 4, Config: source + "# and more\n"}, "alice"))
		p.says(a, "The CI configuration changed since the last deploy.")
		p.needs(a, "Needs 2 approvals")
		if row := p.row(a.id); row["config_changed"] != "yes" || row["required"] != "2" {
			t.Errorf("the CSV says %v", row)
		}
	})
	t.Run("unreadable configuration", func(t *testing.T) {
		p := p.in(t)
		id := p.started(circlecitest.Pipeline{Number: 5, Config: source}, "alice")
		p.Circle.Inject(circlecitest.Fault{Op: "config", Count: -1, Status: 500})
		defer p.Circle.ClearFaults()
		a := p.askFor(id)
		p.says(a, "I couldn’t read the CI configuration")
		p.needs(a, "Needs 2 approvals")
		if row := p.row(a.id); row["config_changed"] != "unknown" || row["config_sha256"] != "" {
			t.Errorf("the CSV says %v", row)
		}
	})
}

// leaf is the line of the exported log with which a request began.
func (p *play) leaf(id string) string {
	p.t.Helper()
	r := p.Operator(p.ctx, "", "audit", "export")
	for line := range strings.Lines(r.Stdout) {
		if strings.Contains(line, `"type":"request.created"`) && strings.Contains(line, id) {
			return line
		}
	}
	p.t.Fatalf("audit export: exit %d, no line for %s", r.Code, id)
	return ""
}

// unusual are pipelines that are not what they seem to be at first sight.
func (p *play) unusual() map[string]string {
	const source = "version: 2.1\nparameters:\n  run_migrations:\n    type: boolean\n    default: true\n"
	declared := map[string]any{"run_migrations": true}
	p.Circle.AddUser(circlecitest.User{Login: "github-merge-queue[bot]"})
	return map[string]string{
		"by the API":       p.started(circlecitest.Pipeline{Number: 12, Config: source, TriggerType: "api"}, "ana"),
		"other parameters": p.started(circlecitest.Pipeline{Number: 13, Config: source, Defaults: declared, Parameters: map[string]any{"run_migrations": false}}, "alice"),
		"changed":          p.started(circlecitest.Pipeline{Number: 14, Config: source + "# and more\n"}, "alice"),
		"by a merge queue": p.started(circlecitest.Pipeline{Number: 15, Config: source}, "github-merge-queue[bot]"),
		"pull/77":          p.started(circlecitest.Pipeline{Number: 16, Config: source, Branch: "pull/77"}, "alice"),
		"pull/77 of a fork": p.started(circlecitest.Pipeline{
			Number: 17, Config: source, Branch: "pull/77", OriginURL: "https://github.com/mallory/myapp",
		}, "mallory"),
		"pull/77 of nobody": p.started(circlecitest.Pipeline{Number: 18, Config: source, Branch: "pull/77", NoVCS: true}, "mallory"),
		"a plain push":      p.started(circlecitest.Pipeline{Number: 11, Config: source}, "alice"),
	}
}

// file asks for a workflow on the branch that the pipeline has.
func (p *play) file(workflow string) stage.Result {
	return p.Client(p.ctx, "", "deploy-approval", "request", "--app", stage.App, "--git-commit", stage.Revision, "--ci-metadata", fmt.Sprintf(`{"workflow_id":%q}`, workflow))
}

// Each is seen on card and modal, in the exported log and in the CSV. A fork, and what
// may be one, is refused whatever the settings are.
func TestUnusualPipelinesAreSeen(t *testing.T) {
	p := setup(t, settings("CONFIG_CHANGE_APPROVALS=2", "SUPERSEDE=off"))
	flows := p.unusual()
	first := asked{workflow: flows["a plain push"], id: strings.TrimSpace(p.file(flows["a plain push"]).Stdout)}
	first.card = p.card(first.id)
	p.approve(stage.Ana, first, "approve")
	p.until("the first is deployed", func() bool {
		_ = p.Circle.Succeed(first.workflow, "deploy") // it fails until the gate is open
		return p.get(first.id).Status == approvals.Deployed
	})
	for name, want := range map[string]struct {
		said, leaf string
		row        map[string]string
	}{
		"by the API":       {"Started through the API by ana", `"trigger":"api"`, map[string]string{"trigger": "api", "parameters": "", "config_changed": "no"}},
		"other parameters": {"run_migrations=false", `"list":["run_migrations=false"]`, map[string]string{"trigger": "webhook", "parameters": "run_migrations=false"}},
		"changed":          {"The CI configuration changed since the last deploy.", `"config_sha256":"`, map[string]string{"config_changed": "yes", "required": "2"}},
		"by a merge queue": {"The starter, github-merge-queue[bot], is nobody I know", `"actor":"github-merge-queue[bot]"`, map[string]string{"config_changed": "no", "required": "1"}},
		"pull/77":          {"pull/77", `"branch":"pull/77"`, map[string]string{"branch": "pull/77"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := p.in(t)
			r := p.file(flows[name])
			if r.Code != 0 {
				t.Fatalf("request: got %+v", r)
			}
			a := asked{flows[name], strings.TrimSpace(r.Stdout), p.card(strings.TrimSpace(r.Stdout))}
			if name == "by the API" { // who started it sees the card, too, and cannot open the modal
				a.card = p.card(a.id)
				view := p.press(stage.Bea, a, "approve")
				if !strings.Contains(words(view.Blocks), want.said) || !strings.Contains(words(a.card.Blocks), want.said) {
					t.Errorf("card or modal do not say %q", want.said)
				}
				p.ok(p.Slack.CloseView(stage.Bea))
				if told := p.refused(stage.Ana, a, "approve"); !strings.Contains(told, "You started this pipeline") {
					t.Errorf("ana is told %q", told)
				}
			} else {
				p.says(a, want.said)
			}
			if leaf := p.leaf(a.id); !strings.Contains(leaf, want.leaf) {
				t.Errorf("the log does not have %s: %s", want.leaf, leaf)
			}
			row := p.row(a.id)
			for column, value := range want.row {
				if row[column] != value {
					t.Errorf("the CSV says %s=%q; want %q", column, row[column], value)
				}
			}
		})
	}
	for _, name := range []string{"pull/77 of a fork", "pull/77 of nobody"} {
		p.refuses(name, flows[name], "workflow_wrong_project")
	}
}

// refuses checks that a request for a workflow is refused, and that the log says so.
func (p *play) refuses(name, workflow, code string) {
	p.t.Helper()
	before := len(p.refusals())
	if r := p.file(workflow); r.Code != 9 || !strings.Contains(r.Stderr, code) || r.Stdout != "" {
		p.t.Errorf("%s: got %+v; want exit 9 and %s", name, r, code)
	}
	if got := p.refusals()[before:]; !slices.Equal(got, []string{code}) {
		p.t.Errorf("%s: the log has the refusals %q; want %s", name, got, code)
	}
	if exported := p.Operator(p.ctx, "", "audit", "export").Stdout; !strings.Contains(exported, workflow) {
		p.t.Errorf("%s: the exported log does not name the workflow", name)
	}
}

// Settings can refuse them.
func TestUnusualPipelinesThatSettingsRefuse(t *testing.T) {
	p := setup(t, settings("ALLOWED_TRIGGERS=webhook", "UNKNOWN_STARTER=refuse", "ALLOWED_BRANCHES=main", "SUPERSEDE=off"))
	flows := p.unusual()
	p.refuses("by the API", flows["by the API"], "trigger_not_allowed")
	p.refuses("pull/77", flows["pull/77"], "branch_not_allowed")
	r := p.file(flows["by a merge queue"])
	if r.Code != 0 {
		t.Fatalf("request: got %+v", r)
	}
	a := asked{flows["by a merge queue"], strings.TrimSpace(r.Stdout), p.card(strings.TrimSpace(r.Stdout))}
	if told := p.refused(stage.Ana, a, "approve"); !strings.Contains(told, "github-merge-queue[bot], is nobody I know") {
		t.Errorf("ana is told %q", told)
	}
	if r := p.file(flows["a plain push"]); r.Code != 0 {
		t.Errorf("a plain push: got %+v", r)
	}
}

// in is the same product in a subtest.
func (p *play) in(t *testing.T) *play {
	return &play{Stage: p.Stage, t: t, ctx: p.ctx, codes: p.codes}
}

// parent was deployed before the commit of the stage.
const parent = "5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80"

// withGitHub is a product beside a GitHub that knows the stage's repository.
func withGitHub(t *testing.T, kv ...string) (*play, *githubtest.Server) {
	t.Helper()
	hub := githubtest.New()
	const name = "MyOrg/myapp"
	hub.AddCommit(name, githubtest.Commit{SHA: parent, Message: "Deployed", Login: "bob", Files: map[string]string{".circleci/config.yml": "version: 2.1\n"}})
	hub.AddCommit(name, githubtest.Commit{SHA: strings.Repeat("a", 40), Parent: parent, Message: "Begin <!channel> *now*", Login: "bob"})
	hub.AddCommit(name, githubtest.Commit{SHA: stage.Revision, Parent: strings.Repeat("a", 40), Message: "Fix the invoice rounding", Login: "alice"})
	hub.AddPull(name, githubtest.Pull{Number: 77, Title: "Round invoices", Merged: true, Commits: []string{stage.Revision}, Reviews: []githubtest.Review{{Login: "bea", State: "APPROVED"}}})
	url, stop := hub.Start()
	t.Cleanup(stop)
	o := settings(append(kv, "SUPERSEDE=off")...)
	o.Env = append(o.Env, "GITHUB_TOKEN="+githubtest.Token, "GITHUB_API_URL="+url)
	return setup(t, o), hub
}

// deployParent deploys the commit before the one of the stage.
func (p *play) deployParent() {
	p.t.Helper()
	id := p.started(circlecitest.Pipeline{Number: 1, Revision: parent}, "alice")
	r := p.Client(p.ctx, "", "deploy-approval", "request", "--app", stage.App, "--git-commit", parent, "--ci-metadata", fmt.Sprintf(`{"workflow_id":%q}`, id))
	if r.Code != 0 {
		p.t.Fatalf("request: exit %d, %s", r.Code, r.Stderr)
	}
	a := asked{id, strings.TrimSpace(r.Stdout), p.card(strings.TrimSpace(r.Stdout))}
	p.approve(stage.Ana, a, "approve")
	p.until("the parent is deployed", func() bool {
		_ = p.Circle.Succeed(id, "deploy") // it fails until the gate is open
		return p.get(a.id).Status == approvals.Deployed
	})
}

func TestCheckReadsGitHub(t *testing.T) {
	p, hub := withGitHub(t)
	const line = "github repository MyOrg/myapp"
	if r := p.Operator(p.ctx, "", "check"); !strings.Contains(r.Stdout, line) || !strings.Contains(r.Stdout, "readable by the token") || strings.Contains(r.Stdout, "FAULT "+line) {
		t.Errorf("got exit %d, %s%s; want the repository to be readable", r.Code, r.Stdout, r.Stderr)
	}
	hub.Inject(githubtest.Fault{Path: "/pulls", Count: -1, Status: 403, Body: `{"message":"Resource not accessible by personal access token"}`})
	if r := p.Operator(p.ctx, "", "check"); r.Code != 1 || !strings.Contains(r.Stdout, "FAULT "+line) || !strings.Contains(r.Stdout, "403 Forbidden") || !strings.Contains(r.Stdout, "GITHUB_TOKEN needs read access") {
		t.Errorf("got exit %d, %s; want a fault that says what the token needs", r.Code, r.Stdout)
	}
}

func TestGitHubOnTheCard(t *testing.T) {
	p, _ := withGitHub(t)
	p.deployParent()
	a := p.askFor(p.started(circlecitest.Pipeline{Number: 2, Subject: "Fix the invoice rounding"}, "alice"))
	p.says(a, "Fix the invoice rounding (PR #77 “Round invoices”, approved)", "2 commits by alice and bob since the last deploy (5d6e7f8")
	reply, err := p.Replied(p.ctx, a.card, "CI configuration: as in the commit.")
	p.ok(err)
	if text := words(reply.Blocks); !strings.Contains(text, "1a2b3c4 Fix the invoice rounding (alice)") || !strings.Contains(text, "aaaaaaa Begin <!channel> *now* (bob)") {
		t.Errorf("the thread does not list the commits:\n%s", text)
	}
	if strings.Contains(reply.Text, "<!channel>") {
		t.Errorf("the text of the reply calls the channel: %s", reply.Text)
	}
}

// explain asks GitHub, too, and waits for it a short time only.
func TestExplainAsksGitHub(t *testing.T) {
	p, hub := withGitHub(t, "UNKNOWN_STARTER=refuse")
	p.deployParent()
	p.Circle.AddUser(circlecitest.User{Login: "merge[bot]"})
	p.ok(p.Admin(p.ctx, "U0BOB", "Bob", "bob"))
	id := p.started(circlecitest.Pipeline{Number: 2}, "merge[bot]")
	explain := func(id string) string {
		t.Helper()
		r := p.Operator(p.ctx, "", "explain", "--app", stage.App, "--workflow", id)
		if r.Code != 0 || r.Stderr != "" {
			t.Fatalf("explain: got %+v", r)
		}
		return strings.Join(strings.Fields(r.Stdout), " ")
	}
	for _, want := range []string{
		"yes the code host tells the commits 2 since 5d6e7f8, by alice, bob: 1a2b3c4 Fix the invoice rounding (alice); aaaaaaa Begin <!channel> *now* (bob)",
		"yes the code host tells the pull request #77 “Round invoices”: approved",
		"yes the CI configuration is the one in the commit .circleci/config.yml",
		"Alice no yes no You started this pipeline", // all authors are on record, so that the starter is none unknown
	} {
		if got := explain(id); !strings.Contains(got, want) {
			t.Errorf("got %s; want %q", got, want)
		}
	}
	foreign := p.started(circlecitest.Pipeline{Number: 3, Config: "version: 2.1\n# mine\n"}, "mallory")
	if got, want := explain(foreign), "no the CI configuration is the one in the commit it is not the file .circleci/config.yml of the commit"; !strings.Contains(got, want) {
		t.Errorf("got %s; want %q", got, want)
	}
	hub.Inject(githubtest.Fault{Count: -1, Delay: time.Minute})
	begun := time.Now()
	if got := explain(id); !strings.Contains(got, "unknown the code host tells the commits") || strings.Contains(got, "the pull request") {
		t.Errorf("got %s; want what GitHub does not tell to be unknown", got)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// Whatever GitHub does, the card comes, and shows later what it says.
func TestGitHubInTrouble(t *testing.T) {
	for name, fault := range map[string]githubtest.Fault{
		"down":         {Count: -1, Drop: true},
		"slow":         {Count: -1, Delay: 30 * time.Second},
		"forbidden":    {Count: -1, Status: 403, Body: `{"message":"Resource not accessible"}`},
		"rate-limited": {Count: -1, Status: 429, Header: map[string]string{"Retry-After": "2"}},
		"out of calls": {Count: -1, Status: 403, Body: `{"message":"API rate limit exceeded"}`, Header: map[string]string{
			"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": strconv.FormatInt(time.Now().Add(3*time.Second).Unix(), 10),
		}},
		"in pieces":     {Count: -1, Status: 200, Body: `{"total_commits": 3, "behind_by": 0, "commits": [{"sha": "bb`},
		"somebody else": {Count: -1, Status: 200, Body: "<html>Sign in</html>", Header: map[string]string{"Content-Type": "text/html"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, hub := withGitHub(t)
			p.deployParent()
			hub.Inject(fault)
			// A query that was not made before, so that nothing is remembered of it.
			hub.AddCommit("MyOrg/myapp", githubtest.Commit{SHA: strings.Repeat("b", 40), Parent: stage.Revision, Message: "More", Login: "alice"})
			id, card := p.firstCard(2, strings.Repeat("b", 40))
			if text := words(card.Blocks); !strings.Contains(text, "Changes since the last deploy") {
				t.Errorf("the card does not link the changes:\n%s", text)
			}
			hub.ClearFaults()
			if _, err := p.Replied(p.ctx, card, "3 commits since the last deploy:"); err != nil {
				t.Error(err)
			}
			p.until("the card is completed", func() bool {
				return strings.Contains(words(p.card(id).Blocks), "3 commits by alice and bob since the last deploy")
			})
		})
	}
}

// firstCard files a request for a commit and says when its card came.
func (p *play) firstCard(number int64, revision string) (id string, card slacktest.Message) {
	p.t.Helper()
	workflow := p.started(circlecitest.Pipeline{Number: number, Revision: revision}, "alice")
	begun := time.Now()
	r := p.Client(p.ctx, "", "deploy-approval", "request", "--app", stage.App, "--git-commit", revision, "--ci-metadata", fmt.Sprintf(`{"workflow_id":%q}`, workflow))
	if r.Code != 0 {
		p.t.Fatalf("request: exit %d, %s", r.Code, r.Stderr)
	}
	id = strings.TrimSpace(r.Stdout)
	card = p.card(id)
	p.t.Logf("the card came after %v", time.Since(begun).Round(time.Millisecond)) // package proof checks it in simulated time
	return id, card
}

// However many commits there are, and whatever stands in them, the card comes, and
// nothing in them acts or hides.
func TestGitHubCommitsOfAllKinds(t *testing.T) {
	const name = "MyOrg/myapp"
	shown := func(p *play, id, text string) {
		p.t.Helper()
		p.until("the card says "+text, func() bool { return strings.Contains(words(p.card(id).Blocks), text) })
	}
	t.Run("ten thousand", func(t *testing.T) {
		p, hub := withGitHub(t)
		p.deployParent()
		id, _ := p.firstCard(2, hub.AddHistory(name, parent, 10_000))
		shown(p, id, "10000 commits by bob and others since the last deploy")
	})
	for kind, message := range map[string]string{
		"control characters": "Fix\x1b[31m it\x00\a\u0085\u2028 now",
		"bidi":               "Fix \u202e}gnp\u2066 it",
		"markup":             "<!channel> <@U0ANA> <https://evil.example|Approve> *bold* `x` &lt;",
		"one megabyte":       strings.Repeat("x", 1<<20),
		"nothing":            "",
	} {
		t.Run(kind, func(t *testing.T) {
			p, hub := withGitHub(t)
			p.deployParent()
			hostile := strings.Repeat("d", 40)
			hub.AddCommit(name, githubtest.Commit{SHA: hostile, Parent: parent, Message: message, Author: message, Login: "bob"})
			hub.AddPull(name, githubtest.Pull{Number: 78, Title: message, Commits: []string{hostile}})
			id, card := p.firstCard(2, hostile)
			shown(p, id, "1 commit by bob since the last deploy")
			for _, m := range append(p.Slack.Thread(card.Channel, card.TS), p.card(id)) {
				text := slacktest.Text(m.Blocks) + m.Text
				if strings.ContainsAny(text, "\x1b\x00\a\u0085\u2028\u202e\u2066") {
					t.Errorf("something is hidden in %q", text)
				}
				if strings.Contains(text, "⟦<!channel") || strings.Contains(text, "⟦<@U0ANA") || strings.Contains(text, "⟦<https://evil") || strings.Contains(m.Text, "<!channel>") {
					t.Errorf("a commit acts in %q", text)
				}
				if len(text) > 8<<10 {
					t.Errorf("a message has %d bytes", len(text))
				}
			}
		})
	}
}

func TestGitHubRefusesAForeignConfiguration(t *testing.T) {
	p, hub := withGitHub(t)
	f := filing{token: p.Token, workflow: p.started(circlecitest.Pipeline{Number: 2, Config: "version: 2.1\n# mine\n"}, "mallory")}
	f.App, f.GitCommit = stage.App, stage.Revision
	if r := p.Client(p.ctx, "", f.args()...); r.Code != 9 || !strings.Contains(r.Stderr, "config_not_from_commit") || !strings.Contains(r.Stderr, "not the file .circleci/config.yml of its commit") {
		t.Errorf("got exit %d, %s; want 9 and why", r.Code, r.Stderr)
	}
	if got := p.refusals(); !slices.Equal(got, []string{"config_not_from_commit"}) {
		t.Errorf("the log has the refusals %q", got)
	}
	p.nothingFiled()

	// It comes out when the card stands already.
	hub.Inject(githubtest.Fault{Count: 3, Delay: 3 * time.Second, Path: "/contents/"})
	hub.AddCommit("MyOrg/myapp", githubtest.Commit{SHA: strings.Repeat("c", 40), Parent: stage.Revision, Message: "x", Login: "mallory"})
	id := p.started(circlecitest.Pipeline{Number: 3, Revision: strings.Repeat("c", 40), Config: "version: 2.1\n# mine\n"}, "mallory")
	r := p.Client(p.ctx, "", "deploy-approval", "request", "--app", stage.App, "--git-commit", "ccccccc", "--ci-metadata", fmt.Sprintf(`{"workflow_id":%q}`, id))
	late := strings.TrimSpace(r.Stdout)
	if r.Code != 0 {
		t.Fatalf("request: exit %d, %s", r.Code, r.Stderr)
	}
	p.until("it is closed", func() bool { return p.get(late).Status == approvals.Canceled })
	p.until("the card says why", func() bool {
		return strings.Contains(words(p.card(late).Blocks), "The CI configuration is not the file in the commit")
	})
}

// Behind a merge queue everybody who wrote the commits may stand.
func TestGitHubAuthors(t *testing.T) {
	p, _ := withGitHub(t, "UNKNOWN_STARTER=refuse")
	p.deployParent()
	p.Circle.AddUser(circlecitest.User{Login: "merge[bot]"})
	a := p.askFor(p.started(circlecitest.Pipeline{Number: 2}, "merge[bot]"))
	if got := p.refused(stage.Ana, a, "approve"); !strings.Contains(got, "merge[bot], is nobody I know") {
		t.Errorf("bob is not on record: %s is told %q", stage.Ana, got)
	}
	p.ok(p.Admin(p.ctx, "U0BOB", "Bob", "bob"))
	if got := p.refused(stage.Alice, a, "approve"); !strings.Contains(got, "You started this pipeline") && !strings.Contains(got, "someone else has to approve") {
		t.Errorf("alice wrote a commit, and is told %q", got)
	}
	p.approve(stage.Ana, a, "approve")
	p.until("it is released", func() bool { return p.get(a.id).Status.Passed() })
	if row := p.row(a.id); row["self_approval"] != "no" {
		t.Errorf("the CSV says self_approval=%s; want no", row["self_approval"])
	}
}

// A project of the GitHub App has a slug that names no repository. Card, modal and
// report link the commit all the same.
func TestLinksOfTheGitHubApp(t *testing.T) {
	const slug, commit = "circleci/4tXr/9pLk", "https://github.com/MyOrg/myapp/commit/" + stage.Revision
	p := setup(t, settings("CIRCLECI_PROJECT_SLUG="+slug))
	p.Circle.AddProject(circlecitest.Project{Slug: slug})
	a := p.askFor(p.ready(p.plain(circlecitest.Pipeline{Project: slug, NoVCS: true, RepoURL: "https://github.com/MyOrg/myapp", Event: "push"})))
	view := p.press(stage.Ana, a, "approve")
	for where, text := range map[string]string{"card": slacktest.Text(a.card.Blocks), "modal": slacktest.Text(view.Blocks)} {
		if !strings.Contains(text, "<"+commit+"|") {
			t.Errorf("the %s has no link to the commit:\n%s", where, text)
		}
	}
	file := filepath.Join(p.Dir, "report.html")
	p.operator("audit", "report", "--skip-circleci", "-o", file)
	page, err := os.ReadFile(file)
	p.ok(err)
	if !strings.Contains(string(page), `<a href="`+commit+`">`) {
		t.Error("the report has no link to the commit")
	}
}
