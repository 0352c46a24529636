package circlecitest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

const gate = "approve_deploy"

type world struct {
	*circlecitest.Server
	bot      circlecitest.User
	pipeline circlecitest.Pipeline
	workflow string
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{Server: circlecitest.New()}
	w.bot = w.AddUser(circlecitest.User{Login: "bot", Groups: []string{"deployers"}})
	w.AddUser(circlecitest.User{Login: "alice"})
	w.AddUser(circlecitest.User{Login: "reader", Access: circlecitest.Read})
	w.AddToken("bot-token", "bot")
	w.AddToken("reader-token", "reader")
	w.AddProject(circlecitest.Project{Slug: "gh/MyOrg/myapp"})
	w.pipeline = w.AddPipeline(circlecitest.Pipeline{Project: "gh/MyOrg/myapp", ActorLogin: "alice"})
	w.workflow = w.add(circlecitest.DeployJobs(gate)...)
	return w
}

func (w *world) add(jobs ...circlecitest.Job) string {
	return w.AddWorkflow(circlecitest.Workflow{Pipeline: w.pipeline.ID, Jobs: jobs})
}

func (w *world) hold(t *testing.T) circlecitest.JobView {
	t.Helper()
	for _, job := range []string{"test", "build", "request_approval"} {
		must(t, w.Succeed(w.workflow, job))
	}
	j, _ := w.Job(w.workflow, gate)
	return j
}

// statuses lists the status of each job, and the workflow's last.
func (w *world) statuses(id string) []string {
	var out []string
	for _, p := range w.Snapshot().Pipelines {
		for _, wf := range p.Workflows {
			if wf.ID != id {
				continue
			}
			for _, j := range wf.Jobs {
				out = append(out, j.Status)
			}
		}
	}
	return append(out, w.WorkflowStatus(id))
}

// call makes one call in memory and decodes the answer.
func (w *world) call(t *testing.T, token, method, path string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), method, path, nil)
	r.Header.Set("Circle-Token", token)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec.Code, decode(t, rec.Result())
}

func decode(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	var out map[string]any
	if len(data) > 0 {
		must(t, json.Unmarshal(data, &out))
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gateStatus is what the API's job list says, which may lag.
func (w *world) gateStatus(t *testing.T) string {
	t.Helper()
	_, body := w.call(t, "bot-token", "GET", "/api/v2/workflow/"+w.workflow+"/job")
	for _, item := range body["items"].([]any) {
		if j := item.(map[string]any); j["name"] == gate {
			return j["status"].(string)
		}
	}
	return ""
}
