package circlecitest_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
)

// The official OpenAPI document is not part of the repository; where it lies beside it, the answers are held against it.
var openAPI = filepath.Join("..", "..", "..", "shared", "data", "circleci-openapi.json")

func TestAnswersFollowTheOfficialSchemas(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(openAPI)
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("the official OpenAPI document is not here: nothing to compare with")
		return
	}
	must(t, err)
	var doc map[string]any
	must(t, json.Unmarshal(data, &doc))

	w := setup(t)
	w.Configure(func(o *circlecitest.Options) { o.PageSize = 3 })
	setupFlow := w.AddWorkflow(circlecitest.Workflow{Pipeline: w.pipeline.ID, Tag: "setup", Jobs: []circlecitest.Job{
		{Name: "generate"},
		{Name: "notify", Requires: []circlecitest.Require{{Job: "generate", Statuses: []string{"terminal"}}}},
	}})
	tagged := w.AddPipeline(circlecitest.Pipeline{
		Project: "gh/MyOrg/myapp", Tag: "v1", TriggerType: "api", SetupConfig: "setup: true\n",
		Defaults: map[string]any{"debug": false, "rounds": 3, "where": "here"}, Parameters: map[string]any{"rounds": 4, "where": "there", "debug": true},
	})
	w.AddProject(circlecitest.Project{Slug: "circleci/4tXr/9pLk"})
	app := w.AddPipeline(circlecitest.Pipeline{Project: "circleci/4tXr/9pLk", NoVCS: true, Event: "push", Subject: "Fix", PullRequest: "https://github.com/MyOrg/myapp/pull/77"})
	g := w.hold(t)

	type check struct{ method, path, schema, status string }
	var checks []check
	add := func(method, path, schema, status string) {
		checks = append(checks, check{method, path, schema, status})
	}
	add("get", "/me", "/me", "200")
	add("get", "/user/"+w.bot.ID, "/user/{id}", "200")
	add("get", "/project/gh/MyOrg/myapp", "/project/{project-slug}", "200")
	add("get", "/project/circleci/4tXr/9pLk", "/project/{project-slug}", "200")
	add("get", "/project/gh/MyOrg/myapp/pipeline", "/project/{project-slug}/pipeline", "200")
	add("get", "/project/circleci/4tXr/9pLk/pipeline", "/project/{project-slug}/pipeline", "200")
	for _, id := range []string{w.pipeline.ID, tagged.ID, app.ID} {
		add("get", "/pipeline/"+id, "/pipeline/{pipeline-id}", "200")
		add("get", "/pipeline/"+id+"/values", "/pipeline/{pipeline-id}/values", "200")
		add("get", "/pipeline/"+id+"/config", "/pipeline/{pipeline-id}/config", "200")
		add("get", "/pipeline/"+id+"/workflow", "/pipeline/{pipeline-id}/workflow", "200")
	}
	look := func() {
		for _, id := range []string{w.workflow, setupFlow} {
			add("get", "/workflow/"+id, "/workflow/{id}", "200")
			add("get", "/workflow/"+id+"/job", "/workflow/{id}/job", "200")
		}
	}
	look()
	add("post", "/workflow/"+w.workflow+"/approve/"+g.ApprovalRequestID, "/workflow/{id}/approve/{approval_request_id}", "202")
	deploy, _ := w.Job(w.workflow, "deploy")
	look()
	add("post", "/jobs/"+deploy.ID+"/cancel", "/jobs/{job-id}/cancel", "200")
	add("post", "/workflow/"+setupFlow+"/cancel", "/workflow/{id}/cancel", "202")
	look()

	for _, k := range checks {
		op := doc["paths"].(map[string]any)[k.schema].(map[string]any)[k.method].(map[string]any)
		answer := op["responses"].(map[string]any)[k.status].(map[string]any)
		schema := answer["content"].(map[string]any)["application/json"].(map[string]any)["schema"]
		method := map[string]string{"get": "GET", "post": "POST"}[k.method]
		_, body := w.call(t, "bot-token", method, "/api/v2"+k.path)
		if err := compile(t, schema).Validate(body); err != nil {
			t.Errorf("%s %s: %v", method, k.path, err)
		}
	}
}

func compile(t *testing.T, schema any) *jsonschema.Schema {
	t.Helper()
	nullable("", schema)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	must(t, c.AddResource("answer.json", schema))
	s, err := c.Compile("answer.json")
	must(t, err)
	return s
}

// nullable tells JSON Schema what OpenAPI says with x-nullable, and allows the one null that only real answers have: the
// started_at of jobs that have not started, gates above all.
func nullable(name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if typ, ok := v["type"].(string); ok && (v["x-nullable"] == true || name == "started_at") {
			v["type"] = []any{typ, "null"}
		}
		for key, sub := range v {
			nullable(key, sub)
		}
	case []any:
		for _, sub := range v {
			nullable("", sub)
		}
	}
}
