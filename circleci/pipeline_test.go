package circleci_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

func sha(text string) approvals.Digest {
	sum := sha256.Sum256([]byte(text))
	return approvals.Digest(hex.EncodeToString(sum[:]))
}

// of starts a pipeline and reads its facts.
func (w *world) of(t *testing.T, p circlecitest.Pipeline) approvals.Facts {
	t.Helper()
	if p.Project == "" {
		p.Project = "gh/MyOrg/myapp"
	}
	p.ActorLogin = "alice"
	p = w.AddPipeline(p)
	id := w.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Jobs: circlecitest.DeployJobs(gate)})
	f, err := w.Facts(ctx(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParameters(t *testing.T) {
	t.Parallel()
	declared := map[string]any{"run_migrations": true, "rounds": 3, "where": "eu"}
	for name, tt := range map[string]struct {
		given map[string]any
		want  []string
	}{
		"none":        {nil, nil},
		"one":         {map[string]any{"run_migrations": false}, []string{"run_migrations=false"}},
		"the default": {map[string]any{"run_migrations": true, "rounds": 3, "where": "eu"}, nil},
		"several":     {map[string]any{"where": "us east", "rounds": 4}, []string{"rounds=4", "where=us east"}},
		"an empty":    {map[string]any{"where": ""}, []string{"where="}},
	} {
		for _, list := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, defaults listed %v", name, list), func(t *testing.T) {
				t.Parallel()
				w := setup(t)
				w.Configure(func(o *circlecitest.Options) { o.ListDefaults = list })
				f := w.of(t, circlecitest.Pipeline{TriggerType: "api", Defaults: declared, Parameters: tt.given})
				var got []string
				if f.Parameters != nil {
					got = f.Parameters.List
				}
				if diff := cmp.Diff(tt.want, got); diff != "" || f.Trigger != "api" {
					t.Errorf("trigger %s, parameters (-want +got):\n%s", f.Trigger, diff)
				}
			})
		}
	}
}

// While the configuration cannot be read, nothing is known to be a default. That is no change of what the pipeline was given.
func TestParametersWithoutConfiguration(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p := w.AddPipeline(circlecitest.Pipeline{
		Project: "gh/MyOrg/myapp", TriggerType: "api", ActorLogin: "alice",
		Defaults: map[string]any{"a": 1, "b": 2}, Parameters: map[string]any{"a": 1, "b": 3},
	})
	id := w.AddWorkflow(circlecitest.Workflow{Pipeline: p.ID, Jobs: circlecitest.DeployJobs(gate)})
	before, err := w.Facts(ctx(t), id)
	if err != nil || before.Config != sha(p.Config) || !cmp.Equal(before.Parameters.List, []string{"b=3"}) {
		t.Fatalf("got %+v, %v; want the configuration's hash and b=3", before, err)
	}
	w.Inject(circlecitest.Fault{Op: "config", Count: -1, Status: 500})
	now, err := w.Facts(ctx(t), id)
	if err != nil || now.Config != "" || !cmp.Equal(now.Parameters.List, []string{"a=1", "b=3"}) {
		t.Errorf("got %+v, %v; want no hash, and both parameters", now, err)
	}
	if now.Parameters.Hash != before.Parameters.Hash {
		t.Error("the parameters have another hash although they are the same")
	}
}

func TestParametersAreBounded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	declared, given := map[string]any{}, map[string]any{}
	for i := range 100 {
		name := fmt.Sprintf("p%02d%s", i, strings.Repeat("x", 100))
		declared[name], given[name] = "", strings.Repeat("\u2028", 500)
	}
	f := w.of(t, circlecitest.Pipeline{TriggerType: "api", Defaults: declared, Parameters: given})
	if p := f.Parameters; len(p.List) == 0 || len(p.List)+p.More != 100 || len(strings.Join(p.List, "")) > 1000 || utf8.RuneCountInString(p.List[0]) != 80 {
		t.Errorf("got %d of 100 parameters and %d more: %q; want few, cut, and the rest counted", len(p.List), p.More, p.List)
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	const source, first = "version: 2.1\n# made by the setup workflow\n", "version: 2.1\nsetup: true\n"
	const other = "99999999999999999999999999999999999999aa"
	for name, tt := range map[string]struct {
		p         circlecitest.Pipeline
		elsewhere string
	}{
		"of the commit":      {circlecitest.Pipeline{Config: source}, ""},
		"of the same commit": {circlecitest.Pipeline{Config: source, Revision: other, ConfigSource: "github", ConfigRevision: other, ConfigRepository: "https://github.com/MyOrg/myapp.git"}, ""},
		"sent by the API":    {circlecitest.Pipeline{Config: source, ConfigSource: "api"}, "it was sent through the API"},
		"of another commit":  {circlecitest.Pipeline{Config: source, ConfigRevision: other}, "it comes from the commit " + other},
		"of another repository": {
			circlecitest.Pipeline{Config: source, ConfigRepository: "https://github.com/MyOrg/ci"}, "it comes from the repository https://github.com/MyOrg/ci",
		},
		"after a setup workflow": {circlecitest.Pipeline{Config: source, SetupConfig: first}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t).of(t, tt.p)
			var setup approvals.Digest
			if tt.p.SetupConfig != "" {
				setup = sha(first)
			}
			if f.Config != sha(source) || f.SetupConfig != setup || f.ConfigElsewhere() != tt.elsewhere {
				t.Errorf("got %s, %s, elsewhere %q; want %s, %s, %q", f.Config, f.SetupConfig, f.ConfigElsewhere(), sha(source), setup, tt.elsewhere)
			}
		})
	}
}

func TestConfigurationThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]circlecitest.Fault{
		"gone":      {Status: 404},
		"forbidden": {Status: 403},
		"broken":    {Status: 500, Body: "<html>"},
		"no answer": {Drop: true},
		"none":      {Status: 200, Body: `{"source":"","compiled":""}`},
		"too large": {Status: 200, Body: `{"source":"` + strings.Repeat("x", 8<<20) + `","compiled":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			fault.Op, fault.Count = "config", -1
			w.Inject(fault)
			if f, err := w.Facts(ctx(t), w.workflow); err != nil || f.Config != "" || f.Revision == "" {
				t.Errorf("got %+v, %v; want facts without the hash of the configuration", f, err)
			}
		})
	}
	w := setup(t)
	w.Inject(circlecitest.Fault{Op: "config", Status: 200, Body: `{"source":"` + strings.Repeat("x", 2<<20) + `","compiled":""}`})
	if f, err := w.Facts(ctx(t), w.workflow); err != nil || f.Config != sha(strings.Repeat("x", 2<<20)) {
		t.Errorf("a configuration of 2 MiB: got %q, %v; want its hash", f.Config, err)
	}
}

// What the pipeline was given says whether it is a plain push: without it there are no facts.
func TestValuesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Inject(circlecitest.Fault{Op: "values", Count: -1, Status: 503})
	if f, err := w.Facts(ctx(t), w.workflow); asError(t, err).Status != 503 {
		t.Errorf("got %+v, %v; want 503", f, err)
	}
}

func TestSubjectAndPullRequest(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	f := w.of(t, circlecitest.Pipeline{
		Project: "circleci/4tXr/9pLk", NoVCS: true, Event: "pull_request", Subject: "Fix\nthe \u0085 rounding", PullRequest: "https://github.com/MyOrg/myapp/pull/77",
		RepoURL: "https://github.com/MyOrg/myapp",
	})
	if f.Subject != "Fix the rounding" || f.PullRequest != "77" || f.Event != "pull_request" || f.Target != "https://github.com/MyOrg/myapp" {
		t.Errorf("got %q, pull request %q, event %q, repository %q; want one line, 77, pull_request, that of myapp", f.Subject, f.PullRequest, f.Event, f.Target)
	}
	f = w.of(t, circlecitest.Pipeline{Project: "circleci/4tXr/9pLk", NoVCS: true, Subject: strings.Repeat("é", 500), PullRequest: "https://github.com/MyOrg/myapp/pull/7x"})
	if n := utf8.RuneCountInString(f.Subject); n != 120 || !strings.HasSuffix(f.Subject, "…") || f.PullRequest != "" {
		t.Errorf("got %d characters, pull request %q; want 120 and none", n, f.PullRequest)
	}
}

// A pipeline of a pull request may be a fork's, where CircleCI does not name the repository.
func TestForkWithoutRepository(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	for branch, want := range map[string]bool{"pull/77": true, "pull/77/head": true, "main": false, "pulled": false} {
		if f := w.of(t, circlecitest.Pipeline{Project: "circleci/4tXr/9pLk", NoVCS: true, Branch: branch}); f.Fork() != want {
			t.Errorf("%s: fork is %v; want %v", branch, f.Fork(), want)
		}
	}
	if f := w.of(t, circlecitest.Pipeline{Branch: "pull/77"}); f.Fork() {
		t.Error("CircleCI names the repository itself as the origin; want no fork")
	}
}

// Whoever may push writes the configuration: it must not keep the gateway busy.
func TestHostileConfigurations(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"many parameters": "parameters:\n" + strings.Repeat("  a:\n    default: 1\n", 12_000),
		"deep":            "parameters: " + strings.Repeat("[", 1<<17),
		"many anchors":    strings.Repeat("a: &a 1\n", 30_000),
		"large":           "parameters: " + strings.Repeat("x", 8<<20),
	} {
		begun := time.Now()
		circleci.ParametersOf(source, map[string]string{"a": "2"})
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func FuzzConfiguration(f *testing.F) {
	f.Add("version: 2.1\nparameters:\n  a:\n    type: string\n    default: x\n", "a", "x")
	f.Add("parameters: {a: {default: [1]}, b: &b {default: *b}}", "a", "1")
	f.Add("parameters: 3", "", "")
	f.Add("a: &a [x,x]\nb: &b [*a,*a]\nparameters: {c: {default: *b}}", "c", "\x00")
	f.Fuzz(func(t *testing.T, source, name, value string) {
		p := circleci.ParametersOf(source, map[string]string{name: value})
		if p == nil || len(p.List)+p.More > 1 || p.Hash == "" {
			t.Errorf("%q with %q=%q: got %+v", source, name, value, p)
		}
		for _, text := range p.List {
			if !utf8.ValidString(text) || utf8.RuneCountInString(text) > 80 {
				t.Errorf("got parameter %q", text)
			}
		}
		if p2 := circleci.ParametersOf("", map[string]string{name: value}); p2.Hash != p.Hash || len(p2.List) != 1 {
			t.Errorf("without a configuration: got %+v; want the same hash, and the parameter", p2)
		}
	})
}

func TestFactsNeedValuesOfThePipeline(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Inject(circlecitest.Fault{Op: "values", Status: 200, Body: `{"pipeline.event.name":"` + strings.Repeat("x", 101) + `"}`})
	if _, err := w.Facts(ctx(t), w.workflow); !errors.Is(err, approvals.ErrCIUnusable) {
		t.Errorf("an event of 101 characters: got %v; want an error", err)
	}
}
