package stage_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// again files for a workflow once more and returns status and id.
func (p *play) again(workflow string, change func(*webhook.CreateBody)) (created bool, id string) {
	p.t.Helper()
	f := filing{CreateBody: webhook.CreateBody{App: stage.App, GitCommit: stage.Revision}, workflow: workflow}
	f.Metadata = []byte(f.metadata())
	if change != nil {
		change(&f.CreateBody)
	}
	r, created, err := p.client().Create(p.ctx, f.CreateBody)
	p.ok(err)
	return created, r.ID
}

func TestSecondCreateForAWorkflowGivesTheSameRequest(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	same := func(t *testing.T, change func(*webhook.CreateBody)) {
		t.Helper()
		if created, id := p.again(a.workflow, change); created || id != a.id {
			t.Errorf("got id %s, created %t; want %s and 200", id, created, a.id)
		}
	}
	for name, change := range map[string]func(*webhook.CreateBody){
		"same":           nil,
		"other message":  func(b *webhook.CreateBody) { b.Message = "another" },
		"short commit":   func(b *webhook.CreateBody) { b.GitCommit = stage.Revision[:7] },
		"capital commit": func(b *webhook.CreateBody) { b.GitCommit = strings.ToUpper(stage.Revision) },
		"branch":         func(b *webhook.CreateBody) { b.Branch = stage.Branch },
		"named default":  func(b *webhook.CreateBody) { b.Environment = "default" },
		"other number": func(b *webhook.CreateBody) {
			b.Metadata = []byte(`{"workflow_id":"` + a.workflow + `","pipeline_number":"9"}`)
		},
		"capital workflow": func(b *webhook.CreateBody) {
			b.Metadata = []byte(`{"workflow_id":"` + strings.ToUpper(a.workflow) + `"}`)
		},
		"more in metadata":  func(b *webhook.CreateBody) { b.Metadata = []byte(`{"workflow_id":"` + a.workflow + `","x":{"y":[1]}}`) },
		"empty environment": func(b *webhook.CreateBody) { b.Environment, b.Tag = "", "" },
	} {
		t.Run(name, func(t *testing.T) { same(t, change) })
	}
	if r := p.Client(p.ctx, a.workflow, stage.RequestArgs(a.workflow)...); r.Code != 0 || r.Stdout != a.id+"\n" || !strings.Contains(r.Stderr, "already exists") {
		t.Errorf("client: got %+v; want the id alone on stdout", r)
	}
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	same(t, nil)
	p.ok(p.Circle.Succeed(a.workflow, "deploy"))
	p.becomes(a, approvals.Deployed)
	same(t, nil)
	if r := p.get(a.id); r.Message != "Deploy main@1a2b3c4 to production" || r.GitCommit != stage.Revision {
		t.Errorf("got message %q, commit %s; want the first ones", r.Message, r.GitCommit)
	}
	if n := len(p.cards()); n != 1 {
		t.Errorf("got %d cards; want 1", n)
	}
}

func TestManyCreatesAtOnceMakeOneRequest(t *testing.T) {
	p := setup(t, stage.Options{})
	workflow := p.Pipeline(stage.Number)
	ids := make(chan string)
	const n = 10
	for range n {
		go func() { ids <- p.Client(p.ctx, workflow, stage.RequestArgs(workflow)...).Stdout }()
	}
	first := <-ids
	for range n - 1 {
		if id := <-ids; id != first || strings.TrimSpace(id) == "" {
			t.Errorf("got id %q; want %q", id, first)
		}
	}
	p.card(strings.TrimSpace(first))
	if cards := len(p.cards()); cards != 1 {
		t.Errorf("got %d cards; want 1", cards)
	}
}

// The gate is left alone at the close, so that it still waits.
func TestNewRequestAfterOneThatEndedUndecided(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*play, asked) approvals.Status{
		"withdrawn": func(p *play, a asked) approvals.Status {
			p.client().Cancel(p.ctx, a.id, "wrong message")
			return approvals.Canceled
		},
		"expired": func(*play, asked) approvals.Status { return approvals.Expired },
		"superseded": func(p *play, a asked) approvals.Status {
			p.askFor(p.Pipeline(stage.Number + 1))
			return approvals.Superseded
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := settings("ON_CLOSE=nothing")
			if name == "expired" {
				o.Env = append(o.Env, briefly().Env...)
			}
			p := setup(t, o)
			a := p.askOnHold()
			p.becomes(a, end(p, a))
			created, id := p.again(a.workflow, nil)
			if !created || id == a.id {
				t.Fatalf("got id %s, created %t; want another one than %s", id, created, a.id)
			}
			b := asked{a.workflow, id, p.card(id)}
			p.approve(stage.Ana, b, "approve")
			p.becomes(b, approvals.Released)
			p.releasedOnce(b, 1)
		})
	}
}

func TestNoNewRequestWhenTheGateWasClosed(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	_, err := p.client().Cancel(p.ctx, a.id, "not now")
	p.ok(err)
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.JobStatus(a.workflow, stage.Gate) == "canceled" }))
	r := p.Client(p.ctx, a.workflow, stage.RequestArgs(a.workflow)...)
	if r.Code != 9 || !strings.Contains(r.Stderr, "workflow_finished") {
		t.Errorf("got %+v; want exit 9 and workflow_finished", r)
	}
}

func TestRejectedStaysRejectedForItsWorkflow(t *testing.T) {
	p := setup(t, settings("ON_CLOSE=nothing"))
	a := p.askOnHold()
	p.reject(stage.Bea, a, "wait for the migration")
	p.becomes(a, approvals.Rejected)
	if created, id := p.again(a.workflow, nil); created || id != a.id {
		t.Errorf("got id %s, created %t; want %s again", id, created, a.id)
	}
	if r := p.Client(p.ctx, a.workflow, append(stage.RequestArgs(a.workflow), "--wait")...); r.Code != 3 || r.Stdout != a.id+"\n" {
		t.Errorf("request --wait: got %+v; want exit 3 and the id on stdout", r)
	}
}

func TestRerunOfARejectedWorkflowIsAskedAnew(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.reject(stage.Bea, a, "wait for the migration")
	p.ok(p.Circle.Wait(p.ctx, func() bool { return p.Circle.WorkflowStatus(a.workflow) == "canceled" }))
	second, err := p.Circle.Rerun(a.workflow, false)
	p.ok(err)
	b := p.askFor(p.ready(second))
	if b.id == a.id {
		t.Fatal("got the old request; want a new one")
	}
	p.approve(stage.Ana, b, "approve")
	p.becomes(b, approvals.Released)
	p.releasedOnce(b, 1)
}

func TestFactsOfCircleCIAreShownAndStored(t *testing.T) {
	p := setup(t, stage.Options{})
	p.Circle.Configure(func(o *circlecitest.Options) { o.PageSize = 2 })
	workflow := p.plain(circlecitest.Pipeline{Number: 77, Tag: "v1.2.3"})
	_, id := p.again(workflow, func(b *webhook.CreateBody) { b.GitCommit = stage.Revision[:10] })
	r := p.get(id)
	if r.GitCommit != stage.Revision || r.Tag != "v1.2.3" || r.Branch != "" || r.Pipeline.Number != 77 || r.Requester.Actor != stage.Starter {
		t.Errorf("got %+v; want the pipeline's own facts", r)
	}
	if want := webhook.Text("https://app.circleci.com/pipelines/gh/MyOrg/myapp/77"); r.Pipeline.URL != want {
		t.Errorf("got link %s; want %s", r.Pipeline.URL, want)
	}
	a := asked{workflow, id, p.card(id)}
	p.cardSays(a, open, "Deploy myapp?", "v1.2.3", "pipeline 77", "started by alice", "https://github.com/MyOrg/myapp/commit/"+stage.Revision)
}
