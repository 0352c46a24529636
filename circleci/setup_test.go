package circleci_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

const (
	token = "CCIPAT_machine_0123456789"
	gate  = "approve_deploy_production"
)

// world is a simulated CircleCI with one deploy workflow, and a client of its machine user.
type world struct {
	*circlecitest.Server
	*circleci.Client
	url      string
	bot      circlecitest.User
	alice    circlecitest.User
	project  circlecitest.Project
	pipeline circlecitest.Pipeline
	workflow string
}

func setup(t *testing.T, change ...func(*circleci.Config)) *world {
	t.Helper()
	w := &world{Server: circlecitest.New()}
	w.bot = w.AddUser(circlecitest.User{Login: "rack-gateway-bot", Name: "Rack Gateway"})
	w.alice = w.AddUser(circlecitest.User{Login: "alice"})
	w.AddToken(token, "rack-gateway-bot")
	w.project = w.AddProject(circlecitest.Project{Slug: "gh/MyOrg/myapp"})
	w.pipeline = w.AddPipeline(circlecitest.Pipeline{Project: "gh/MyOrg/myapp", Number: 1234, ActorLogin: "alice", Subject: "Fix it"})
	w.workflow = w.AddWorkflow(circlecitest.Workflow{Pipeline: w.pipeline.ID, Jobs: circlecitest.DeployJobs(gate)})

	var stop func()
	w.url, stop = w.Start()
	t.Cleanup(stop)
	w.Client = w.client(t, change...)
	return w
}

func (w *world) client(t *testing.T, change ...func(*circleci.Config)) *circleci.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := circleci.Config{URL: w.url, Token: token, HTTP: &http.Client{Transport: transport}}
	for _, f := range change {
		f(&cfg)
	}
	c, err := circleci.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hold brings the workflow to its gate and returns the gate's approval request id.
func (w *world) hold(t *testing.T) string {
	t.Helper()
	for _, job := range []string{"test", "build", "request_approval"} {
		if err := w.Succeed(w.workflow, job); err != nil {
			t.Fatal(err)
		}
	}
	j, _ := w.Job(w.workflow, gate)
	if j.Status != "on_hold" {
		t.Fatalf("gate is %s; want on_hold", j.Status)
	}
	return j.ApprovalRequestID
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

func asError(t *testing.T, err error) *approvals.CIError {
	t.Helper()
	var e *approvals.CIError
	if !errors.As(err, &e) {
		t.Fatalf("got error %v of type %T; want *approvals.CIError", err, err)
	}
	return e
}
