package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// configuration is a .circleci/config.yml.
type configuration struct {
	orb
	Orbs      map[string]any `json:"orbs"`
	Workflows map[string]struct {
		Jobs []any `json:"jobs"`
	} `json:"workflows"`
}

// entry is one job of a workflow.
type entry struct {
	Name     string
	Type     string   `json:"type"`
	Requires []string `json:"requires"`
	Context  any      `json:"context"` // a name, or several
	given    map[string]any
}

// entries are the jobs of the workflow deploy. What is not CircleCI's own is a
// parameter of the job.
func (c *configuration) entries(t *testing.T) (all []entry) {
	t.Helper()
	for _, job := range c.Workflows["deploy"].Jobs {
		var e entry
		switch job := job.(type) {
		case string:
			e.Name = job
		case map[string]any:
			for name, v := range job { // there is one
				into(t, v, &e)
				e.Name, e.given = name, maps.Clone(v.(map[string]any))
			}
		}
		for _, own := range []string{"type", "requires", "context", "filters"} {
			delete(e.given, own)
		}
		all = append(all, e)
	}
	return all
}

// project is a git repository that CircleCI builds at each push, by the
// configuration that stands in it.
type project struct {
	*play
	dir      string
	contexts map[string][]string // variables by context; those of "" are the project's own
	orbs     map[string]*orb     // by URL
	config   *configuration
	workflow string
	revision string
}

// newProject is an empty repository.
func newProject(p *play) *project {
	p.t.Helper()
	pr := &project{play: p, dir: p.t.TempDir(), contexts: map[string][]string{}, orbs: map[string]*orb{}}
	pr.git("init", "-q", "-b", stage.Branch)
	return pr
}

func (p *project) git(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.ctx, "git", append([]string{"-C", p.dir, "-c", "user.name=Alice", "-c", "user.email=alice@example.org", "-c", "commit.gpgsign=false"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// push commits files and starts their workflow.
func (p *project) push(files map[string]string) {
	p.t.Helper()
	for name, text := range files {
		p.ok(os.MkdirAll(filepath.Dir(filepath.Join(p.dir, name)), 0o755))
		p.ok(os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o755))
	}
	p.git("add", "-A")
	p.git("commit", "-q", "-m", "Deploy by approval")
	p.revision = p.git("rev-parse", "HEAD")

	number := int64(len(p.Circle.Snapshot().Pipelines) + 1)
	source := p.git("show", "HEAD:.circleci/config.yml") + "\n"
	p.config = &configuration{}
	into(p.t, readYAML(p.t, []byte(strings.ReplaceAll(source, "<< pipeline.number >>", strconv.FormatInt(number, 10)))), p.config)
	pipe := p.Circle.AddPipeline(circlecitest.Pipeline{
		Project: stage.Project, Number: number, Revision: p.revision, Branch: stage.Branch, Subject: "Deploy by approval", ActorLogin: stage.Starter, Config: source,
	})
	var jobs []circlecitest.Job
	for _, e := range p.config.entries(p.t) {
		jobs = append(jobs, circlecitest.Job{Name: e.Name, Type: e.Type, Requires: circlecitest.Requires(e.Requires...)})
	}
	p.workflow = p.Circle.AddWorkflow(circlecitest.Workflow{Pipeline: pipe.ID, Name: "deploy", Jobs: jobs})
}

// steps compiles a job, which may be one of an orb.
func (p *project) steps(e entry) ([]step, map[string]any) {
	p.t.Helper()
	alias, job, ofOrb := strings.Cut(e.Name, "/")
	if !ofOrb {
		return p.config.job(p.t, e.Name, e.given), p.config.Jobs[e.Name].Environment
	}
	if url, ok := p.config.Orbs[alias].(string); ok {
		found := p.orbs[url]
		if found == nil {
			p.t.Fatalf("there is no orb at %s", url)
		}
		return found.job(p.t, job, e.given), nil
	}
	var inlined orb
	into(p.t, p.config.Orbs[alias], &inlined)
	return inlined.job(p.t, job, e.given), nil
}

// run runs what CircleCI starts, each job in a container of its own, until nothing
// runs any more. It returns how the jobs ended, by name.
func (p *project) run(programs map[string]string) map[string]outcome {
	p.t.Helper()
	ended := map[string]outcome{}
	for {
		i := slices.IndexFunc(p.config.entries(p.t), func(e entry) bool { return p.Circle.JobStatus(p.workflow, e.Name) == "running" })
		if i < 0 {
			return ended
		}
		e := p.config.entries(p.t)[i]
		m := newMachine(p.t, bash)
		m.source = p.dir
		for name, does := range programs {
			p.ok(os.WriteFile(filepath.Join(m.bin, name), []byte("#!/bin/sh\n"+does+"\n"), 0o755))
		}
		steps, environment := p.steps(e)
		m.env = append([]string{
			"CIRCLECI=true", "CIRCLE_WORKFLOW_ID=" + p.workflow, "CIRCLE_SHA1=" + p.revision, "CIRCLE_BRANCH=" + stage.Branch, "CIRCLE_JOB=" + e.Name,
			"CIRCLE_WORKFLOW_JOB_ID=" + circlecitest.NewID(), "CIRCLE_BUILD_NUM=" + strconv.Itoa(i), "CIRCLE_PROJECT_REPONAME=myapp",
		}, p.contexts[""]...)
		names, several := e.Context.([]any)
		if !several && e.Context != nil {
			names = []any{e.Context}
		}
		for _, name := range names {
			of, known := p.contexts[name.(string)]
			if !known {
				p.t.Fatalf("%s has the context %s, which nobody made", e.Name, name)
			}
			m.env = append(m.env, of...)
		}
		m.env = append(m.env, environ(environment)...) // it wins over contexts
		o := m.run(p.ctx, steps)
		ended[e.Name] = o
		if o.failed == "" {
			p.ok(p.Circle.Succeed(p.workflow, e.Name))
		} else {
			p.ok(p.Circle.Fail(p.workflow, e.Name))
		}
	}
}

// firstCard waits for the card of the workflow.
func (p *project) firstCard() slacktest.Message {
	p.t.Helper()
	_, card := p.card(p.workflow)
	return card
}

// approved decides on the card, and waits until the gate is open.
func (p *project) approved(card slacktest.Message) {
	p.t.Helper()
	view, err := p.Press(p.ctx, stage.Ana, card, "approve")
	p.ok(err)
	got, err := p.Submit(p.ctx, stage.Ana, view, p.Code(stage.Ana, time.Now()))
	p.ok(err)
	if !got.Closed {
		p.t.Fatalf("got %+v; want the modal closed", got)
	}
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.JobStatus(p.workflow, stage.Gate) == "success" }))
}

// readmeConfigurations are the whole configurations that a README shows.
func readmeConfigurations(t *testing.T, file string) (all []string) {
	t.Helper()
	for _, m := range yamlBlock.FindAllStringSubmatch(string(must(os.ReadFile(file))), -1) {
		if strings.HasPrefix(m[1], "version:") {
			all = append(all, m[1])
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s shows no configuration", file)
	}
	return all
}

const (
	clientPage = "../../rack-gateway/README.md"
	orbPage    = "../../../circleci/orb/README.md"
)

// Each configuration that the README files show, as it stands there, takes an empty
// repository to a card, an approval and a deploy.
func TestEveryConfigurationOfTheREADMEs(t *testing.T) {
	t.Parallel()
	shown := map[string]string{}
	for page, file := range map[string]string{"client": clientPage, "orb": orbPage} {
		for i, text := range readmeConfigurations(t, file) {
			shown[fmt.Sprintf("%s page, %d", page, i+1)] = text
		}
	}
	_, workflows, _ := strings.Cut(readmeConfigurations(t, orbPage)[0], "\nworkflows:")
	shown["inline"] = inlineOrb(t) + "workflows:" + workflows
	if len(shown) < 4 {
		t.Fatalf("got %d configurations; want the orb by URL on both pages, inline, and the one without it", len(shown))
	}
	const commit = "5034460fc7c44c439457de07e2029e7b5034460f"
	for name, text := range shown {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			p := newProject(setup(t))
			p.contexts["rack-gateway"] = []string{"RACK_GATEWAY_URL=" + p.URL, "RACK_GATEWAY_API_TOKEN=" + p.Token}
			p.contexts["deploy-production"] = []string{"DEPLOY_KEY=of-production"}
			p.orbs["https://raw.githubusercontent.com/rack-gateway/rack-gateway-approvals/"+commit+"/circleci/orb.yml"] = p.orb
			deployed := filepath.Join(t.TempDir(), "deployed")
			p.push(map[string]string{
				".circleci/config.yml": strings.ReplaceAll(text, "<commit>", commit),
				"deploy.sh":            "#!/bin/sh\necho \"with $DEPLOY_KEY, token ${RACK_GATEWAY_API_TOKEN:-none}\" >'" + deployed + "'\n",
			})
			p.played(p.run(map[string]string{"npm": "exit 0"}))
			card := p.firstCard()
			t.Logf("from an empty repository to the card: %s", time.Since(began).Round(10*time.Millisecond))
			if status := p.Circle.JobStatus(p.workflow, stage.Gate); status != "on_hold" {
				t.Fatalf("the gate is %s; want it on hold", status)
			}
			p.approved(card)
			p.played(p.run(nil))
			if got, want := string(must(os.ReadFile(deployed))), "with of-production, token none\n"; got != want {
				t.Errorf("the deploy ran %q; want %q", got, want)
			}
			_, err := p.Replied(p.ctx, card, "Deployed")
			p.ok(err)
		})
	}
}

// played checks that jobs ran, and well.
func (p *project) played(jobs map[string]outcome) {
	p.t.Helper()
	for name, o := range jobs {
		if o.failed != "" {
			p.t.Fatalf("%s: got %+v; want it to succeed", name, o)
		}
	}
	if len(jobs) == 0 {
		p.t.Fatal("no job ran")
	}
}

// The configuration of Rack Gateway's own documentation works as written, except for
// the two blocks below environment:, which CircleCI does not expand. The client says
// so; without them the variables of the project, or of a context, get through.
func TestTheOriginalConfiguration(t *testing.T) {
	t.Parallel()
	text := string(must(os.ReadFile("testdata/original.yml")))
	p := newProject(setup(t))
	p.contexts[""] = []string{"RACK_GATEWAY_URL=" + p.URL, "RACK_GATEWAY_API_TOKEN=" + p.Token}
	npm := map[string]string{"npm": "exit 0"}
	p.push(map[string]string{".circleci/config.yml": text})
	const advice = "is the name of a variable, not its value: CircleCI does not expand variables below environment:"
	if o := p.run(npm)["request_approval"]; o.code != 2 || !o.says(advice) {
		t.Fatalf("got %+v; want exit code 2 and what to change", o)
	}

	p.push(map[string]string{".circleci/config.yml": regexp.MustCompile(`(?m)^    environment:\n(      .*\n)+`).ReplaceAllString(text, "")})
	p.played(p.run(npm))
	card := p.firstCard()
	deployed := filepath.Join(t.TempDir(), "deployed")
	p.approved(card)
	p.played(p.run(map[string]string{"convox": "echo \"$@\" >'" + deployed + "'"}))
	if got := string(must(os.ReadFile(deployed))); got != "deploy --app myapp --wait\n" {
		t.Errorf("convox ran with %q", got)
	}
	_, err := p.Replied(p.ctx, card, "Deployed")
	p.ok(err)
}
