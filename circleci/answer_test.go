package circleci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
)

const someID = "5034460f-c7c4-4c43-9457-de07e2029e7b"

// answers is a transport that gives each request the answer of a function, nil = none.
type answers func(*http.Request) *http.Response

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r)
	if resp == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	resp.Request = r
	return resp, nil
}

func answer(status int, contentType, body string) *http.Response {
	h := http.Header{}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func clientOf(t testing.TB, f answers) *circleci.Client {
	t.Helper()
	c, err := circleci.New(circleci.Config{URL: "https://ci.example/api/v2", Token: token, HTTP: &http.Client{Transport: f}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUnusableAnswers(t *testing.T) {
	t.Parallel()
	const other = `6034460f-c7c4-4c43-9457-de07e2029e7b`
	list := func(fields string) string { return `{"items":[` + fields + `],"next_page_token":null}` }
	job := func(name, more string) string {
		return `{"id":"` + someID + `","name":"` + name + `","type":"approval","status":"on_hold"` + more + `}`
	}
	for name, tt := range map[string]struct{ body, want string }{ // want: of the list of jobs
		"empty":              {"", "it is not a JSON object"},
		"HTML":               {"<html>Sign in</html>", "it is not a JSON object"},
		"list":               {"[]", "it is not a JSON object"},
		"null":               {"null", "it is not a JSON object"},
		"two documents":      {`{"id":"` + someID + `"}{}`, "it is not a JSON object"},
		"no UTF-8":           {"{\"id\":\"\xff\"}", "it is not valid UTF-8"},
		"wrong type":         {`{"id":5,"items":5}`, "it has fields of another type than documented"},
		"too large":          {`{"id":"` + someID + `","name":"` + strings.Repeat("x", 1<<20) + `"}`, "it is larger than 1 MiB"},
		"no id":              {`{}`, "it has no list of items"},
		"another object":     {`{"id":"` + other + `"}`, "it has no list of items"},
		"null in a list":     {list(job("gate", "") + ",null"), "item 2 on page 1: it has no id"},
		"no UUID in a list":  {list(`{"id":"x","name":"a","type":"b","status":"c"}`), "item 1 on page 1: it has no id"},
		"no name":            {list(job("", "")), "item 1 on page 1: the job has no name, type or status"},
		"long name":          {list(job(strings.Repeat("x", 301), "")), "item 1 on page 1: the name of the job is longer than 300 bytes"},
		"NUL in the name":    {list(job(`a\u0000b`, "")), "item 1 on page 1: the name of the job holds control characters"},
		"long project":       {list(job("gate", `,"project_slug":"`+strings.Repeat("x", 301)+`"`)), "item 1 on page 1: the project of the job is longer than 300 bytes"},
		"long approver":      {list(job("gate", `,"approved_by":"`+strings.Repeat("x", 101)+`"`)), "item 1 on page 1: the user id of the approver is longer than 100 bytes"},
		"request id no UUID": {list(job("gate", `,"approval_request_id":"x"`)), "item 1 on page 1: the approval request id of the job is not a UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientOf(t, func(*http.Request) *http.Response { return answer(200, "application/json", tt.body) })
			_, errFacts := c.Facts(ctx(t), someID)
			_, errUser := c.Login(ctx(t), someID)
			_, errProject := c.ProjectID(ctx(t), "gh/MyOrg/myapp")
			_, errJobs := c.Jobs(ctx(t), someID)
			for _, err := range []error{errFacts, errUser, errProject, errJobs} {
				if err == errProject && name == "another object" {
					continue // the id of a project is what we ask for
				}
				if e := asError(t, err); !errors.Is(err, approvals.ErrCIUnusable) || !e.Temporary() || e.Status != 200 {
					t.Errorf("got %+v; want an unusable answer", e)
				}
			}
			if want := "list jobs: the answer from CircleCI cannot be used: " + tt.want; errJobs.Error() != want {
				t.Errorf("got %q; want %q", errJobs, want)
			}
		})
	}
	c := clientOf(t, func(*http.Request) *http.Response { return answer(200, "", `{}`) })
	if me, err := c.Me(ctx(t)); err == nil {
		t.Errorf("me without id: got %+v; want an error", me)
	}
}

// Whatever the facts hold has a bound, so that they fit into an event.
func TestFactsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ workflow, pipeline, want string }{
		"workflow name": {`"name":"` + strings.Repeat("x", 301) + `"`, ``, "the name of the workflow is longer than 300 bytes"},
		"slug":          {`"project_slug":"MyOrg/myapp"`, ``, "is not of the form provider/organisation/project"},
		"no time":       {``, `"created_at":null`, "the pipeline has no time"},
		"branch":        {``, `"vcs":{"revision":"1","branch":"` + strings.Repeat("x", 1025) + `"}`, "the branch is longer than 1024 bytes"},
		"branch name":   {``, `"vcs":{"revision":"1","branch":"a\nb"}`, "the branch holds control characters"},
		"tag":           {``, `"vcs":{"revision":"1","tag":"` + strings.Repeat("x", 1025) + `"}`, "the tag is longer than 1024 bytes"},
		"origin":        {``, `"vcs":{"revision":"1","origin_repository_url":"` + strings.Repeat("x", 2049) + `"}`, "the URL of the origin is longer than 2048 bytes"},
		"everything":    {``, `"vcs":{"revision":"1","origin_repository_url":"` + strings.Repeat("<", 2048) + `"}`, "the facts are larger than 8 KiB"},
		"actor":         {``, `"trigger":{"actor":{"login":"` + strings.Repeat("x", 101) + `"}}`, "the login of the actor is longer than 100 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workflow := `{"id":"` + someID + `","status":"running","pipeline_id":"` + someID + `","project_slug":"gh/MyOrg/myapp",` + tt.workflow
			pipeline := `{"id":"` + someID + `",` + tt.pipeline
			if name != "no time" {
				pipeline = strings.TrimSuffix(pipeline, ",") + `,"created_at":"2026-11-24T09:51:00Z"`
			}
			c := clientOf(t, func(r *http.Request) *http.Response {
				body := pipeline
				if strings.Contains(r.URL.Path, "/workflow/") {
					body = workflow
				}
				return answer(200, "", strings.TrimSuffix(body, ",")+"}")
			})
			_, err := c.Facts(ctx(t), someID)
			if e := asError(t, err); !errors.Is(err, approvals.ErrCIUnusable) || !strings.HasSuffix(e.Message, tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}

// A body that breaks off tells nothing about a look-up, but a POST was answered by its status.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	c := clientOf(t, func(r *http.Request) *http.Response {
		resp := answer(202, "application/json", "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"mess`), errReader{}))
		return resp
	})
	_, err := c.Facts(ctx(t), someID)
	if e := asError(t, err); e.Status != 0 || !e.Temporary() {
		t.Errorf("look-up: got %+v; want no answer", e)
	}
	if err := c.Approve(ctx(t), someID, someID); err != nil {
		t.Errorf("approve: got %v; want accepted", err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestPagesThatMoveOrRepeat(t *testing.T) {
	t.Parallel()
	item := func(id, status string) string {
		return fmt.Sprintf(`{"id":%q,"name":"gate","type":"approval","status":%q,"started_at":"","stopped_at":null}`, id, status)
	}
	pages := map[string]string{
		"":      `{"items":[` + item(someID, "blocked") + `],"next_page_token":"a&b=c"}`,
		"a&b=c": `{"items":[` + item(someID, "on_hold") + `],"next_page_token":""}`,
	}
	c := clientOf(t, func(r *http.Request) *http.Response {
		return answer(200, "text/plain", pages[r.URL.Query().Get("page-token")])
	})
	jobs, err := c.Jobs(ctx(t), someID)
	if err != nil || len(jobs) != 1 || jobs[0].Status != "on_hold" {
		t.Errorf("moved job: got %+v, %v; want it once, as last seen", jobs, err)
	}
	pages["a&b=c"] = pages[""]
	if _, err := c.Jobs(ctx(t), someID); !errors.Is(err, approvals.ErrCIUnusable) {
		t.Errorf("repeating pages: got %v; want an error", err)
	}
}

// A branch may be called 2026, and the value of an unknown kind is no branch.
func TestValuesAreScalars(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{`"text"`: "text", `12345678901234567890`: "12345678901234567890", `1.50`: "1.50", `true`: "true", `null`: "", `{"x":1}`: "", `[1]`: ""} {
		c := clientOf(t, func(r *http.Request) *http.Response {
			if strings.HasSuffix(r.URL.Path, "/values") {
				return answer(200, "", `{"pipeline.git.revision":"1","pipeline.git.branch":`+value+`}`)
			}
			return answer(200, "", `{"id":"`+someID+`","status":"running","pipeline_id":"`+someID+`","project_slug":"gh/MyOrg/myapp","created_at":"2026-11-24T09:51:00Z"}`)
		})
		if f, err := c.Facts(ctx(t), someID); err != nil || f.Branch != want || f.Revision != "1" {
			t.Errorf("%s: got %+v, %v; want branch %q", value, f, err, want)
		}
	}
}

// FuzzAnswer gives every call the same odd answer: no panic, and no error text that could hurt a log or a terminal.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", "", `{"id":"`+someID+`","status":"running","pipeline_id":"`+someID+`","project_slug":"gh/a/b","created_at":"2026-11-24T09:51:00Z","vcs":{"revision":"1","branch":"b"},"trigger":{"type":"api","actor":{"login":"a"}}}`)
	f.Add(200, "application/json", "", `{"items":[{"id":"`+someID+`","name":"gate","type":"approval","status":"on_hold","started_at":null}],"next_page_token":null}`)
	f.Add(200, "", "", `{"items":[],"next_page_token":"again"}`)
	f.Add(403, "application/json", "", `{"message":"Permission denied."}`)
	f.Add(400, "application/json", "", `{"error":"\u001b[2J \u202e `+token+`"}`)
	f.Add(400, "", "", `{"error":"`+token[:3]+`\u0000`+token[3:]+`"}`)
	f.Add(429, "text/plain", "30", "Rate exceeded")
	f.Add(503, "text/html", "Wed, 21 Oct 2026 07:28:00 GMT", "<html>")
	f.Add(302, "", "", "")
	f.Fuzz(func(t *testing.T, status int, contentType, retryAfter, body string) {
		if status < 200 || status > 999 {
			return // net/http reports no others
		}
		c := clientOf(t, func(*http.Request) *http.Response {
			resp := answer(status, contentType, body)
			resp.Header.Set("Retry-After", retryAfter)
			return resp
		})
		ctx := t.Context()
		var errs [9]error
		var jobs []approvals.Job
		var facts approvals.Facts
		var self string
		self, errs[0] = c.Self(ctx)
		facts, errs[1] = c.Facts(ctx, someID)
		jobs, errs[2] = c.Jobs(ctx, someID)
		_, errs[3] = c.Workflows(ctx, someID)
		_, errs[4] = c.Pipelines(ctx, "gh/MyOrg/myapp", time.Time{})
		_, errs[5] = c.SameProject(ctx, "gh/MyOrg/myapp", "circleci/a/b")
		_, errs[6] = c.Login(ctx, someID)
		errs[7] = c.Approve(ctx, someID, someID)
		errs[8] = c.CancelWorkflow(ctx, someID)
		if errs[0] == nil && self == "" {
			t.Error("got a user without an id")
		}
		if text, err := json.Marshal(facts); err != nil || len(text) > 8<<10 {
			t.Errorf("got facts of %d bytes, %v; want no more than an event takes", len(text), err)
		}
		for _, j := range jobs {
			if j.ID == "" || j.Name == "" || j.Status == "" || j.Type == "" {
				t.Errorf("got job %+v; want id, name, status and type", j)
			}
		}
		for _, err := range errs {
			if err == nil {
				continue
			}
			e := asError(t, err)
			text := e.Error()
			if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("got %q; want printable text", text)
			}
			if strings.Contains(text, token) || utf8.RuneCountInString(e.Message) > 300 {
				t.Error("got a text that is too long or holds the token")
			}
			if e.RetryAfter < 0 || e.RetryAfter > time.Hour {
				t.Errorf("got Retry-After %v; want 0 to 1 h", e.RetryAfter)
			}
		}
	})
}
