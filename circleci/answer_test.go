package circleci_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
)

const someID = "5034460f-c7c4-4c43-9457-de07e2029e7b"

// answers is a transport that gives each request the answer of a function.
type answers func(*http.Request) *http.Response

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r)
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
	for name, body := range map[string]string{
		"empty":          "",
		"HTML":           "<html>Sign in</html>",
		"list":           "[]",
		"null":           "null",
		"no id":          `{}`,
		"two documents":  `{"id":"` + someID + `"}{}`,
		"wrong type":     `{"id":5}`,
		"no UUID":        `{"id":"x"}`,
		"another object": `{"id":"6034460f-c7c4-4c43-9457-de07e2029e7b"}`,
		"too large":      `{"id":"` + someID + `","name":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clientOf(t, func(*http.Request) *http.Response { return answer(200, "application/json", body) })
			_, errWorkflow := c.Workflow(ctx(t), someID)
			_, errUser := c.User(ctx(t), someID)
			_, errJobs := c.Jobs(ctx(t), someID)
			for _, err := range []error{errWorkflow, errUser, errJobs} {
				if e := asError(t, err); !errors.Is(err, circleci.ErrUnusable) || !e.Temporary() || e.Status != 200 {
					t.Errorf("got %+v; want an unusable answer", e)
				}
			}
		})
	}
	c := clientOf(t, func(*http.Request) *http.Response { return answer(200, "", `{}`) })
	if me, err := c.Me(ctx(t)); err == nil {
		t.Errorf("me without id: got %+v; want an error", me)
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
	_, err := c.Workflow(ctx(t), someID)
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
	if _, err := c.Jobs(ctx(t), someID); !errors.Is(err, circleci.ErrUnusable) {
		t.Errorf("repeating pages: got %v; want an error", err)
	}
}

func TestValuesRenderScalars(t *testing.T) {
	t.Parallel()
	c := clientOf(t, func(*http.Request) *http.Response {
		return answer(200, "application/json", `{"s":"text","n":12345678901234567890,"f":1.50,"b":true,"z":null,"o":{"x":1},"l":[1]}`)
	})
	got, err := c.PipelineValues(ctx(t), someID)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"s": "text", "n": "12345678901234567890", "f": "1.50", "b": "true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

// FuzzAnswer gives every call the same odd answer: no panic, and no error text that could hurt a log or a terminal.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", "", `{"id":"`+someID+`","status":"running","pipeline_id":"`+someID+`"}`)
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
		var jobs []circleci.Job
		var me circleci.User
		me, errs[0] = c.Me(ctx)
		_, errs[1] = c.Workflow(ctx, someID)
		jobs, errs[2] = c.Jobs(ctx, someID)
		_, errs[3] = c.Pipeline(ctx, someID)
		_, errs[4] = c.PipelineValues(ctx, someID)
		_, errs[5] = c.PipelineWorkflows(ctx, someID)
		_, errs[6] = c.Project(ctx, "gh/MyOrg/myapp")
		errs[7] = c.Approve(ctx, someID, someID)
		_, errs[8] = c.User(ctx, someID)
		if errs[0] == nil && me.ID == "" {
			t.Error("got a user without an id")
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
			if strings.Contains(text, token) || utf8.RuneCountInString(e.Message) > 201 {
				t.Error("got a text that is too long or holds the token")
			}
			if e.RetryAfter < 0 || e.RetryAfter > 24*time.Hour {
				t.Errorf("got Retry-After %v; want 0 to 24 h", e.RetryAfter)
			}
		}
	})
}
