package webhook_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// FuzzCreateBody: whatever is sent is a request or a refusal with a reason, and
// what gets through reads the same for every JSON reader.
func FuzzCreateBody(f *testing.F) {
	f.Add([]byte(createBody("")))
	f.Add([]byte(createBody(`,"APP":"x"`)))
	f.Add([]byte(`{"app":"a","ci_metadata":{"workflow_id":"x","pipeline_number":7,"\u212aey":1,"key":2}}`))
	f.Add([]byte(`{"a":[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}`))
	f.Add([]byte("{\"app\":\"\xff\"}{}"))
	f.Add([]byte(`{"message":"\ud800","ci_metadata":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fake := newFake(t)
		h := webhook.New(webhook.Config{Service: fake, Links: fakeLinks{}})
		r := httptest.NewRequest("POST", requests, strings.NewReader(string(body)))
		r.Header.Set("Authorization", "Bearer "+ciToken)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r) // the fake service takes what the description does not allow
		switch w.Code {
		case 201:
			if !utf8.Valid(body) || !json.Valid(body) {
				t.Fatalf("accepted %q", body)
			}
			var lax map[string]any
			if json.Unmarshal(body, &lax) != nil {
				t.Fatalf("accepted %q, which is no object", body)
			}
			if app, _ := lax["app"].(string); app != fake.requests[0].App {
				t.Fatalf("took app %q out of %q", fake.requests[0].App, body)
			}
		case 400, 413:
			var p webhook.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || w.Code == 400 && len(p.Errors) == 0 {
				t.Fatalf("%q: got %s; want a problem that names the fault", body, w.Body)
			}
			if len(fake.refused) != 1 {
				t.Fatalf("%q: refused %q; want one refusal recorded", body, fake.refused)
			}
		default:
			t.Fatalf("%q: got %d %s", body, w.Code, w.Body)
		}
	})
}

// FuzzQuery: no query and no header makes the handler fail.
func FuzzQuery(f *testing.F) {
	f.Add("limit=2&cursor=YmVmb3JlOjQ&status=open,pending", "Bearer "+ciToken, "203.0.113.9, 10.0.0.1")
	f.Add("a=%zz;b", "bearer x", "[::1]:80")
	f.Fuzz(func(t *testing.T, query, authorization, forwarded string) {
		h := webhook.New(webhook.Config{Service: newFake(t), Links: fakeLinks{}})
		for _, path := range []string{requests, requests + "/1"} {
			r := httptest.NewRequest("GET", path, nil)
			r.URL.RawQuery = strings.ReplaceAll(query, "wait", "")
			r.Header.Set("Authorization", authorization)
			r.Header.Set("X-Forwarded-For", forwarded)
			w := httptest.NewRecorder()
			checked(t, h).ServeHTTP(w, r.WithContext(context.Background()))
			if w.Code >= 500 {
				t.Fatalf("%s?%s: got %d %s", path, query, w.Code, w.Body)
			}
		}
	})
}
