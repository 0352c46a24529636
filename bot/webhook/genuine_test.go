package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// requestJSON is a request object as the gateway gives it, with changes.
func requestJSON(changes map[string]any) map[string]any {
	r := map[string]any{
		"id": "R1", "number": 7, "app": "myapp", "environment": "production", "status": "approved", "git_commit": commit,
		"pipeline": map[string]any{"number": 1234, "workflow_id": workflow}, "approval_expires_at": time.Now().Add(time.Minute),
	}
	for name, value := range changes {
		if value == nil {
			delete(r, name)
		} else {
			r[name] = value
		}
	}
	return r
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only plain values
	}
	return string(b)
}

func verifiedJSON(changes map[string]any) string {
	return text(map[string]any{
		"request": requestJSON(changes),
		"receipt": map[string]any{"leaf": `{"seq":7,"request":"R1"}`, "seq": 7, "checkpoint": "rack-gateway\n8\nabc\n"},
	})
}

// impostors are answers that no gateway gives. Each call must fail on each.
var impostors = map[string]func(http.ResponseWriter){
	"object without members": answer(200, `{}`),
	"null":                   answer(200, `null`),
	"status ok":              answer(200, `{"status":"ok"}`),
	"list":                   answer(200, `[]`),
	"word":                   answer(200, `"approved"`),
	"page":                   answer(200, `<!doctype html><title>Sign in</title>`, "Content-Type", "text/html"),
	"text":                   answer(200, `OK`),
	"empty":                  answer(200, ``),
	"cut":                    answer(200, `{"request":{"id":"R1","number":7,"status":"appro`),
	"two documents":          answer(200, verifiedJSON(nil)+`{}`),
	"no content":             answer(204, ``),
	"accepted":               answer(202, verifiedJSON(nil)),
	"changed by a proxy":     answer(203, verifiedJSON(nil)),
	"moved":                  answer(301, ``, "Location", "https://elsewhere.example/"),
	"moved for now":          answer(307, ``, "Location", "https://elsewhere.example/"),
	"page 401":               answer(401, `<html>`),
	"page 403":               answer(403, `<html>`),
	"page 404":               answer(404, `<html>`),
	"page 500":               answer(500, `<html>`),
	"unknown code":           answer(409, `{"code":"nonsense","detail":"x"}`, "Content-Type", problemType),
	"no code":                answer(409, `{"detail":"x"}`, "Content-Type", problemType),
	"problem without type":   answer(409, `{"code":"not_approved","detail":"x"}`, "Content-Type", "application/json"),
	"success as problem":     answer(200, `{"code":"not_approved","detail":"x"}`, "Content-Type", problemType),
}

func TestImpostorsAreNotBelieved(t *testing.T) {
	t.Parallel()
	for name, reply := range impostors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, new(atomic.Int64), func(w http.ResponseWriter) { w.Header().Set("Server", "nginx"); reply(w) })
			c, err := webhook.NewClient(webhook.ClientConfig{URL: s.URL, Token: "x", RetryFor: -1})
			if err != nil {
				t.Fatal(err)
			}
			for call, err := range everyCall(t, c) {
				var f *webhook.ForeignAnswer
				if !errors.As(err, &f) || !strings.Contains(err.Error(), s.URL+" (server: nginx) answered") {
					t.Errorf("%s: got %v; want a foreign answer that says who gave it", call, err)
				}
			}
		})
	}
}

// everyCall makes each call of the API once.
func everyCall(t *testing.T, c *webhook.Client) map[string]error {
	t.Helper()
	errs := map[string]error{}
	ctx := t.Context()
	_, _, errs["create"] = c.Create(ctx, webhook.CreateBody{App: "myapp", Environment: "production", GitCommit: commit, Metadata: json.RawMessage(`{"workflow_id":"` + workflow + `"}`)})
	_, errs["get"] = c.Get(ctx, "R1")
	_, errs["list"] = c.List(ctx, webhook.ListQuery{})
	_, errs["cancel"] = c.Cancel(ctx, "R1", "x")
	_, errs["verify"] = c.Verify(ctx, webhook.VerifyBody{App: "myapp", Environment: "production", GitCommit: commit, WorkflowID: workflow})
	_, errs["report"] = c.ReportDeploy(ctx, "R1", webhook.DeployBody{Phase: "started"})
	return errs
}

func TestVerifyBelievesOnlyWhatWasAsked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		body string
		want string // "" = it may be deployed
	}{
		{"right", verifiedJSON(nil), ""},
		{"released", verifiedJSON(map[string]any{"status": "released"}), ""},
		{"upper case commit", verifiedJSON(map[string]any{"git_commit": strings.ToUpper(commit)}), ""},
		{"rejected", verifiedJSON(map[string]any{"status": "rejected"}), "request #7 is rejected"},
		{"pending", verifiedJSON(map[string]any{"status": "pending"}), "request #7 is pending"},
		{"expired", verifiedJSON(map[string]any{"status": "expired"}), "request #7 is expired"},
		{"unknown status", verifiedJSON(map[string]any{"status": "approvedish"}), "does not know"},
		{"no status", verifiedJSON(map[string]any{"status": nil}), "no status"},
		{"no id", verifiedJSON(map[string]any{"id": nil}), "no request id"},
		{"no number", verifiedJSON(map[string]any{"number": nil}), "no request number"},
		{"other app", verifiedJSON(map[string]any{"app": "other"}), "for app other, not myapp"},
		{"other environment", verifiedJSON(map[string]any{"environment": "staging"}), "for environment staging, not production"},
		{"no environment", verifiedJSON(map[string]any{"environment": nil}), "does not name the app and the environment"},
		{"other workflow", verifiedJSON(map[string]any{"pipeline": map[string]any{"workflow_id": job}}), "for workflow " + job},
		{"no workflow", verifiedJSON(map[string]any{"pipeline": nil}), "for workflow (none)"},
		{"other commit", verifiedJSON(map[string]any{"git_commit": strings.Repeat("0", 40)}), "for commit 0000"},
		{"short commit", verifiedJSON(map[string]any{"git_commit": commit[:7]}), "full commit"},
		{"window over", verifiedJSON(map[string]any{"approval_expires_at": time.Now().Add(-time.Second)}), "could be used until"},
		{"no window", verifiedJSON(map[string]any{"approval_expires_at": nil}), "until when"},
		{"no receipt", text(map[string]any{"request": requestJSON(nil)}), "no receipt"},
		{"empty receipt", text(map[string]any{"request": requestJSON(nil), "receipt": map[string]any{}}), "no receipt"},
		{"receipt without checkpoint", text(map[string]any{"request": requestJSON(nil), "receipt": map[string]any{"leaf": "{}", "seq": 1}}), "no receipt"},
		{"receipt of another request", text(map[string]any{"request": requestJSON(nil), "receipt": map[string]any{"leaf": `{"request":"R2"}`, "checkpoint": "x"}}), "for another request"},
		{"receipt that is no leaf", text(map[string]any{"request": requestJSON(nil), "receipt": map[string]any{"leaf": `nonsense`, "checkpoint": "x"}}), "not an entry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := script(t, new(atomic.Int64), answer(200, tt.body))
			for _, asked := range []string{commit, strings.ToUpper(commit[:7])} {
				v, err := newClient(t, s.URL).Verify(t.Context(), webhook.VerifyBody{App: "myapp", Environment: "production", GitCommit: asked, WorkflowID: strings.ToUpper(workflow)})
				var f *webhook.ForeignAnswer
				switch {
				case tt.want == "" && (err != nil || v.Request.ID != "R1"):
					t.Errorf("got %v; want success", err)
				case tt.want != "" && (!errors.As(err, &f) || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("got %v; want a foreign answer with %q", err, tt.want)
				case tt.want != "" && v.Request.ID != "":
					t.Errorf("got %+v along with the error; want nothing that could be used", v)
				}
			}
		})
	}
}

// A request that nobody asked for is no answer either.
func TestAnswersAboutAnotherRequest(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]map[string]any{
		"other app": {"app": "other"}, "other workflow": {"pipeline": map[string]any{"workflow_id": job}},
		"other commit": {"git_commit": strings.Repeat("0", 40)}, "other request": {"id": "R2", "number": 8},
	} {
		body := text(requestJSON(changes))
		if name == "other request" {
			c := newClient(t, script(t, new(atomic.Int64), answer(200, body)).URL)
			for call, err := range everyCall(t, c) {
				if err == nil && call != "create" {
					t.Errorf("%s: %s got no error", name, call)
				}
			}
			continue
		}
		c := newClient(t, script(t, new(atomic.Int64), answer(201, body)).URL)
		if err := everyCall(t, c)["create"]; err == nil || !strings.Contains(err.Error(), "request #7 is for") {
			t.Errorf("%s: got %v; want that it is for something else", name, err)
		}
		list := newClient(t, script(t, new(atomic.Int64), answer(200, `{"requests":[`+body+`]}`)).URL)
		if _, err := list.List(t.Context(), webhook.ListQuery{App: "myapp", WorkflowID: workflow, GitCommit: commit[:7]}); err == nil {
			t.Errorf("%s: the list was believed", name)
		}
	}
	still := newClient(t, script(t, new(atomic.Int64), answer(200, text(requestJSON(nil)))).URL)
	if _, err := still.Cancel(t.Context(), "R1", "x"); err == nil || !strings.Contains(err.Error(), "approved and not cancelled") {
		t.Errorf("cancel that did not cancel: got %v; want an error", err)
	}
	if _, err := newClient(t, script(t, new(atomic.Int64), answer(200, text(requestJSON(nil)))).URL).Get(t.Context(), "7"); err != nil {
		t.Errorf("get by number: %v", err)
	}
}

func TestCloudflareIsNamed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{520, 521, 522, 523, 524, 525, 526, 527, 530} {
		var calls atomic.Int64
		s := script(t, &calls, answer(status, "<html>", "Server", "cloudflare"), answer(200, text(requestJSON(nil))))
		var told string
		c, err := webhook.NewClient(webhook.ClientConfig{URL: s.URL, Token: "x", Retrying: func(err error, _ time.Duration) { told = err.Error() }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "R1"); err != nil || calls.Load() != 2 {
			t.Errorf("%d: got %v after %d calls; want success at the second", status, err, calls.Load())
		}
		if !strings.Contains(told, fmt.Sprintf("answered %d: Cloudflare", status)) {
			t.Errorf("%d: told %q; want Cloudflare named", status, told)
		}
	}
}

// proxyThat answers every call and every CONNECT with one status.
func proxyThat(t *testing.T, status int) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestProxiesAreNamed(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct {
		name, target, proxy string
		refused             bool // the proxy answered
		want                string
	}{
		{"connect 407", "https://gateway.invalid", proxyThat(t, 407).URL, true, "asks for a user and a password"},
		{"connect 502", "https://gateway.invalid", proxyThat(t, 502).URL, true, "could not reach https://gateway.invalid"},
		{"connect 403", "https://gateway.invalid", proxyThat(t, 403).URL, true, "did not connect us to https://gateway.invalid"},
		{"forward 407", "http://gateway.invalid", proxyThat(t, 407).URL, true, "asks for a user and a password"},
		{"forward 403", "http://gateway.invalid", proxyThat(t, 403).URL, true, "did not connect us to http://gateway.invalid"},
		{"forward 502", "http://gateway.invalid", proxyThat(t, 502).URL, true, "could not reach http://gateway.invalid"},
		{"forward 504", "http://gateway.invalid", proxyThat(t, 504).URL, true, "could not reach http://gateway.invalid"},
		{"no http proxy", "https://gateway.invalid", "http://" + closed.Addr().String(), false, "through the proxy at http://" + closed.Addr().String()},
		{"no socks proxy", "https://gateway.invalid", "socks5h://" + closed.Addr().String(), false, "through the proxy at socks5h://" + closed.Addr().String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(tt.proxy)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.UserPassword("user", "s3cr3t")
			c, err := webhook.NewClient(webhook.ClientConfig{URL: tt.target, Token: "x", RetryFor: -1, Proxy: func(*url.URL) (*url.URL, error) { return u, nil }})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Get(t.Context(), "R1")
			var f *webhook.ForeignAnswer
			if errors.As(err, &f) != tt.refused || tt.refused && !f.Proxy || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "the proxy at "+tt.proxy) {
				t.Errorf("got %v; want the proxy named and %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error shows the proxy's password: %v", err)
			}
		})
	}
}

func TestBadProxies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"RACK_GATEWAY_PROXY": "ftp://s3cr3t@p:1"}, "RACK_GATEWAY_PROXY must be"},
		{map[string]string{"RACK_GATEWAY_PROXY": "socks4://p:1"}, "RACK_GATEWAY_PROXY must be"},
		{map[string]string{"RACK_GATEWAY_PROXY": "http://p:port"}, "RACK_GATEWAY_PROXY must be"},
		{map[string]string{"RACK_GATEWAY_PROXY": "http://"}, "RACK_GATEWAY_PROXY must be"},
		{map[string]string{"RACK_GATEWAY_PROXY": "http://a b"}, "RACK_GATEWAY_PROXY must be"},
		{map[string]string{"RACK_GATEWAY_PROXY": `"socks5://p:1"`}, "RACK_GATEWAY_PROXY has quotes"},
		{map[string]string{"HTTPS_PROXY": "://"}, "HTTPS_PROXY must be"},
		{map[string]string{"all_proxy": "'http://p'"}, "all_proxy has quotes"},
	} {
		_, err := webhook.NewClient(webhook.ClientConfig{URL: "https://gateway", Token: "x", Proxy: webhook.ProxyFromEnv(func(name string) string { return tt.env[name] })})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%v: got %v; want %q", tt.env, err, tt.want)
		}
	}
}
