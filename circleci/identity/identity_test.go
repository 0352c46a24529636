package identity_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/identity"
)

const (
	audience = "https://gateway.example"
	project  = "c0ffee00-1111-4222-8333-444455556666"
	workflow = "5034460f-c7c4-4c43-9457-de07e2029e7b"
	job      = "11111111-2222-4333-8444-555555555555"
	claim    = "oidc.circleci.com/"
)

// direct reaches an issuer without a network, so that its time can be simulated.
type direct struct {
	mu     sync.Mutex
	answer http.Handler
	calls  int
}

func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	d.calls++
	answer := d.answer
	d.mu.Unlock()
	if answer == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	answer.ServeHTTP(w, r)
	return w.Result(), nil
}

func (d *direct) set(answer http.Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

func (d *direct) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// issued runs fn with a simulated clock, an issuer and a verifier of its tokens.
func issued(t *testing.T, fn func(t *testing.T, i *circlecitest.Issuer, at *direct, v *identity.Verifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		i := circlecitest.NewIssuer("https://issuer.example")
		at := &direct{answer: i}
		fn(t, i, at, identity.New(identity.Config{Issuer: i.URL(), Audience: audience, Transport: at}))
	})
}

func claimsOf(i *circlecitest.Issuer, changed map[string]any) map[string]any {
	return circlecitest.With(i.Claims(audience, project, workflow, job), changed)
}

// refusal is the code of a refusal and its reason.
func refusal(err error) string {
	var why *approvals.Error
	if !errors.As(err, &why) {
		return "no refusal"
	}
	return strings.TrimSpace(string(why.Code) + " " + string(why.Reason))
}

func TestJob(t *testing.T) {
	issued(t, func(t *testing.T, i *circlecitest.Issuer, at *direct, v *identity.Verifier) {
		got, err := v.Job(t.Context(), i.Token(claimsOf(i, map[string]any{
			claim + "project-id": strings.ToUpper(project), claim + "vcs-origin": "https://github.com/acme/shop", claim + "pipeline-id": workflow,
		}), nil))
		want := approvals.CIJob{ProjectID: project, WorkflowID: workflow, PipelineID: workflow, JobID: job, Origin: "github.com/acme/shop"}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("got %v; want none (-want +got):\n%s", err, diff)
		}
		if at.count() != 2 {
			t.Errorf("the issuer was asked %d times; want once for each document", at.count())
		}
	})
}

func TestClaims(t *testing.T) {
	now := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		changed func() map[string]any
		want    approvals.Reason // "" = accepted
	}{
		"as CircleCI makes them":   {func() map[string]any { return nil }, ""},
		"one audience in a list":   {func() map[string]any { return map[string]any{"aud": []string{audience}} }, ""},
		"no word on SSH":           {func() map[string]any { return map[string]any{claim + "ssh-rerun": nil} }, ""},
		"issued a minute ahead":    {func() map[string]any { return map[string]any{"iat": now(time.Minute)} }, ""},
		"ended within the skew":    {func() map[string]any { return map[string]any{"iat": now(-time.Hour), "exp": now(-59 * time.Second)} }, ""},
		"two hours":                {func() map[string]any { return map[string]any{"exp": now(2 * time.Hour)} }, ""},
		"begins now":               {func() map[string]any { return map[string]any{"nbf": now(time.Minute)} }, ""},
		"no job and no pipeline":   {func() map[string]any { return map[string]any{claim + "job-id": nil} }, ""},
		"the default audience":     {func() map[string]any { return map[string]any{"aud": circlecitest.Org} }, approvals.ReasonAudience},
		"an audience that begins":  {func() map[string]any { return map[string]any{"aud": audience + "/x"} }, approvals.ReasonAudience},
		"no audience":              {func() map[string]any { return map[string]any{"aud": nil} }, approvals.ReasonAudience},
		"an empty list":            {func() map[string]any { return map[string]any{"aud": []string{}} }, approvals.ReasonAudience},
		"ours among others":        {func() map[string]any { return map[string]any{"aud": []string{audience, circlecitest.Org}} }, approvals.ReasonAudiences},
		"ours twice":               {func() map[string]any { return map[string]any{"aud": []string{audience, audience}} }, approvals.ReasonAudiences},
		"other organisation":       {func() map[string]any { return map[string]any{"iss": "https://issuer.example/org/" + project} }, approvals.ReasonIssuer},
		"root issuer":              {func() map[string]any { return map[string]any{"iss": "https://issuer.example"} }, approvals.ReasonIssuer},
		"expired":                  {func() map[string]any { return map[string]any{"iat": now(-2 * time.Hour), "exp": now(-time.Minute)} }, approvals.ReasonExpired},
		"from the future":          {func() map[string]any { return map[string]any{"iat": now(61 * time.Second)} }, approvals.ReasonNotYet},
		"begins in the future":     {func() map[string]any { return map[string]any{"nbf": now(61 * time.Second)} }, approvals.ReasonNotYet},
		"ten years":                {func() map[string]any { return map[string]any{"exp": now(10 * 365 * 24 * time.Hour)} }, approvals.ReasonLifetime},
		"more than any year":       {func() map[string]any { return map[string]any{"exp": 1e300} }, approvals.ReasonLifetime},
		"a second over two hours":  {func() map[string]any { return map[string]any{"exp": now(2*time.Hour + time.Second)} }, approvals.ReasonLifetime},
		"ends before it begins":    {func() map[string]any { return map[string]any{"exp": now(-time.Second)} }, approvals.ReasonLifetime},
		"no end":                   {func() map[string]any { return map[string]any{"exp": nil} }, approvals.ReasonLifetime},
		"no beginning":             {func() map[string]any { return map[string]any{"iat": nil} }, approvals.ReasonLifetime},
		"run again with SSH":       {func() map[string]any { return map[string]any{claim + "ssh-rerun": true} }, approvals.ReasonSSH},
		"SSH as a text":            {func() map[string]any { return map[string]any{claim + "ssh-rerun": "false"} }, approvals.ReasonMalformed},
		"no project":               {func() map[string]any { return map[string]any{claim + "project-id": nil} }, approvals.ReasonProject},
		"a project with a newline": {func() map[string]any { return map[string]any{claim + "project-id": project + "\n"} }, approvals.ReasonProject},
		"no workflow":              {func() map[string]any { return map[string]any{claim + "workflow-id": nil} }, approvals.ReasonWorkflow},
		"a job that is none":       {func() map[string]any { return map[string]any{claim + "job-id": "deploy"} }, approvals.ReasonMalformed},
		"a workflow that is a list": {func() map[string]any {
			return map[string]any{claim + "workflow-id": []string{workflow}}
		}, approvals.ReasonMalformed},
		"an end that is a text": {func() map[string]any { return map[string]any{"exp": "tomorrow"} }, approvals.ReasonMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			issued(t, func(t *testing.T, i *circlecitest.Issuer, _ *direct, v *identity.Verifier) {
				token := i.Token(claimsOf(i, c.changed()), nil)
				_, err := v.Job(t.Context(), token)
				if c.want == "" {
					if err != nil {
						t.Errorf("got %v; want it accepted", err)
					}
					return
				}
				if got, want := refusal(err), "unauthorized "+string(c.want); got != want {
					t.Errorf("got %s; want %s", got, want)
				}
				if strings.Contains(err.Error(), token) || strings.Contains(err.Error(), workflow) {
					t.Errorf("got %v; want nothing of the token in it", err)
				}
			})
		})
	}
}

func TestForgeries(t *testing.T) {
	issued(t, func(t *testing.T, i *circlecitest.Issuer, at *direct, v *identity.Verifier) {
		good := i.Token(claimsOf(i, nil), nil)
		parts := strings.Split(good, ".")
		head := func(v any) string {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString(b)
		}
		// The classic: the public key, which everybody has, as the secret of an HMAC.
		w := httptest.NewRecorder()
		i.ServeHTTP(w, httptest.NewRequest("GET", "/org/"+circlecitest.Org+"/.well-known/jwks-pub.json", nil))
		hs := head(map[string]any{"alg": "HS256", "kid": "0"}) + "." + parts[1]
		mac := hmac.New(sha256.New, w.Body.Bytes())
		mac.Write([]byte(hs))
		foreign := circlecitest.NewIssuer("https://issuer.example")
		foreign.Rotate()
		for _, c := range []struct {
			name, token string
			want        approvals.Reason
		}{
			{"good", good, "no refusal"},
			{"alg none", head(map[string]any{"alg": "none"}) + "." + parts[1] + ".", approvals.ReasonAlgorithm},
			{"alg HS256", hs + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), approvals.ReasonAlgorithm},
			{"alg RS512", i.Token(claimsOf(i, nil), map[string]any{"alg": "RS512"}), approvals.ReasonAlgorithm},
			{"no alg", i.Token(claimsOf(i, nil), map[string]any{"alg": nil}), approvals.ReasonAlgorithm},
			{"claims of another token", parts[0] + "." + head(claimsOf(i, map[string]any{claim + "workflow-id": job})) + "." + parts[2], approvals.ReasonKey},
			{"foreign key under a known id", foreign.Token(claimsOf(i, nil), map[string]any{"kid": "0"}), approvals.ReasonKey},
			{"a key of its own", i.Token(claimsOf(i, nil), map[string]any{"kid": "9", "jwk": map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB"}}), approvals.ReasonKey},
			{"no signature", parts[0] + "." + parts[1] + ".", approvals.ReasonKey},
			{"two parts", parts[0] + "." + parts[1], approvals.ReasonMalformed},
			{"five parts", good + ".x.y", approvals.ReasonMalformed},
			{"no JSON", "e30.e30.e30", approvals.ReasonAlgorithm},
			{"blanks", good + " ", approvals.ReasonMalformed},
			{"empty", "", approvals.ReasonMalformed},
		} {
			judge := func(code string) {
				t.Helper()
				_, err := v.Job(t.Context(), c.token)
				if got := strings.TrimPrefix(refusal(err), code+" "); got != string(c.want) {
					t.Errorf("%s: got %s (%v); want %s", c.name, got, err, c.want)
				}
			}
			asked := at.count()
			if c.want == approvals.ReasonKey {
				judge("unavailable") // until the keys were read anew
				time.Sleep(time.Minute)
				asked++
			}
			judge("unauthorized")
			if first := c.name == "good"; at.count() != asked && !first {
				t.Errorf("%s: the issuer was asked %d times in all; want %d", c.name, at.count(), asked)
			}
		}
	})
}

// Whoever makes keys up cannot make the gateway call the issuer more than once a
// minute. New keys are found within that time, and until then nobody is refused for good.
func TestKeysAreFetchedOnceAMinute(t *testing.T) {
	issued(t, func(t *testing.T, i *circlecitest.Issuer, _ *direct, v *identity.Verifier) {
		judge := func(want string, header map[string]any) {
			t.Helper()
			if _, err := v.Job(t.Context(), i.Token(claimsOf(i, nil), header)); refusal(err) != want {
				t.Fatalf("got %v; want %s", err, want)
			}
		}
		const perhapsNew = "unavailable " + string(approvals.ReasonKey)
		judge("no refusal", nil)
		for range 50 {
			judge(perhapsNew, map[string]any{"kid": "made-up"})
		}
		if got := i.Fetches(); got != 1 {
			t.Errorf("50 tokens with an unknown key: the keys were fetched %d times; want 1", got)
		}
		time.Sleep(20 * time.Second)
		i.Rotate()
		judge(perhapsNew, nil)
		_, err := v.Job(t.Context(), i.Token(claimsOf(i, nil), nil))
		var why *approvals.Error
		if !errors.As(err, &why) || why.RetryAfter != 40*time.Second {
			t.Errorf("got %+v; want that the client comes back in 40 s", err)
		}
		time.Sleep(why.RetryAfter)
		judge("no refusal", nil)
		for range 50 {
			judge(perhapsNew, map[string]any{"kid": "made-up"})
		}
		if got := i.Fetches(); got != 2 {
			t.Errorf("after the keys changed: they were fetched %d times; want 2", got)
		}
		time.Sleep(time.Minute)
		judge("unauthorized "+string(approvals.ReasonKey), map[string]any{"kid": "made-up"})
	})
}

func TestIssuerIsDown(t *testing.T) {
	issued(t, func(t *testing.T, i *circlecitest.Issuer, at *direct, v *identity.Verifier) {
		judge := func(want string, header map[string]any) {
			t.Helper()
			if _, err := v.Job(t.Context(), i.Token(claimsOf(i, nil), header)); refusal(err) != want {
				t.Fatalf("got %v; want %s", err, want)
			}
		}
		i.SetDown(true)
		for range 50 {
			judge("unavailable", nil)
		}
		if at.count() != 1 {
			t.Errorf("it was asked %d times within a minute; want 1", at.count())
		}
		i.SetDown(false)
		time.Sleep(time.Minute)
		judge("no refusal", nil)
		at.set(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }))
		time.Sleep(time.Minute)
		judge("unavailable", map[string]any{"kid": "perhaps new"})
		judge("no refusal", nil) // by the keys that are known
		at.set(i)
		i.SetDown(true)
		time.Sleep(24 * time.Hour)
		judge("no refusal", nil)
		judge("unavailable", map[string]any{"kid": "perhaps new"})
		judge("unavailable", map[string]any{"kid": "perhaps new"})
		judge("no refusal", nil)
		i.SetDown(false)
		time.Sleep(time.Minute)
		judge("unauthorized "+string(approvals.ReasonKey), map[string]any{"kid": "made-up"})
	})
}

// An issuer that does not answer, answers too much or something else keeps nobody
// waiting and lets nobody in.
func TestIssuerMisbehaves(t *testing.T) {
	documents := func(i *circlecitest.Issuer, keys http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "jwks-pub.json") {
				keys(w, r)
				return
			}
			i.ServeHTTP(w, r)
		}
	}
	for name, c := range map[string]struct {
		answer func(i *circlecitest.Issuer) http.Handler
		want   string
	}{
		"silent": {func(*circlecitest.Issuer) http.Handler { return nil }, "unavailable"},
		"another issuer": {func(*circlecitest.Issuer) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"issuer":"https://evil.example","jwks_uri":"https://evil.example/keys"}`)
			})
		}, "unavailable"},
		"endless keys": {func(i *circlecitest.Issuer) http.Handler {
			return documents(i, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"keys":[],"x":"`+strings.Repeat("x", 1<<20)+`"}`)
			})
		}, "unavailable"},
		"keys elsewhere": {func(i *circlecitest.Issuer) http.Handler {
			return documents(i, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://evil.example/keys", http.StatusFound)
			})
		}, "unavailable"},
		"no keys": {func(i *circlecitest.Issuer) http.Handler {
			return documents(i, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) })
		}, "unavailable"},
		"a page in place of keys": {func(i *circlecitest.Issuer) http.Handler {
			return documents(i, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>Be right back`) })
		}, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			issued(t, func(t *testing.T, i *circlecitest.Issuer, at *direct, v *identity.Verifier) {
				at.set(c.answer(i))
				began := time.Now()
				_, err := v.Job(context.Background(), i.Token(claimsOf(i, nil), nil))
				if got := refusal(err); got != c.want {
					t.Errorf("got %v; want %s", err, c.want)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %s; want 2s at most", took)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestCheckIssuer(t *testing.T) {
	for issuer, good := range map[string]bool{
		"https://oidc.circleci.com/org/" + circlecitest.Org:       true,
		"https://circleci.acme.example/org/" + circlecitest.Org:   true,
		"http://127.0.0.1:8080/org/" + circlecitest.Org:           true,
		"https://oidc.circleci.com":                               false,
		"https://oidc.circleci.com/org/acme":                      false,
		"https://oidc.circleci.com/org/" + circlecitest.Org + "/": false,
		"http://oidc.circleci.com/org/" + circlecitest.Org:        false,
		"https://user@oidc.example/x":                             false,
		"https://oidc.example/x?y":                                false,
		"oidc.circleci.com/org/" + circlecitest.Org:               false,
		"": false,
	} {
		if err := identity.CheckIssuer(issuer); (err == nil) != good {
			t.Errorf("%q: got %v; want it good: %t", issuer, err, good)
		}
	}
}

// FuzzJob feeds what callers may send. Only tokens that the issuer signed pass, and
// every refusal has a reason.
func FuzzJob(f *testing.F) {
	i := circlecitest.NewIssuer("https://issuer.example")
	v := identity.New(identity.Config{Issuer: i.URL(), Audience: audience, Transport: &direct{answer: i}})
	good := i.Token(claimsOf(i, nil), nil)
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(`{"payload":"e30","signatures":[]}`)
	f.Fuzz(func(t *testing.T, token string) {
		job, err := v.Job(t.Context(), token)
		var why *approvals.Error
		switch {
		case err == nil && strings.TrimRight(token, "=") != good:
			t.Errorf("%q passed as %+v", token, job)
		case err != nil && (!errors.As(err, &why) || why.Code == approvals.CodeUnauthorized && why.Reason == ""):
			t.Errorf("%q: got %v; want a refusal with a reason", token, err)
		}
	})
}

// FuzzClaims signs claims that are not CircleCI's.
func FuzzClaims(f *testing.F) {
	i := circlecitest.NewIssuer("https://issuer.example")
	v := identity.New(identity.Config{Issuer: i.URL(), Audience: audience, Transport: &direct{answer: i}})
	for _, c := range []map[string]any{nil, {"aud": []string{audience, "x"}}, {"exp": -1}, {claim + "ssh-rerun": true}, {claim + "workflow-id": "x"}} {
		b, err := json.Marshal(claimsOf(i, c))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, claims []byte) {
		if !json.Valid(claims) {
			return
		}
		job, err := v.Job(t.Context(), i.Sign(claims, nil))
		var why *approvals.Error
		if err != nil && (!errors.As(err, &why) || why.Reason == "") {
			t.Errorf("%s: got %v; want a refusal with a reason", claims, err)
		}
		if err == nil && (len(job.ProjectID) != 36 || len(job.WorkflowID) != 36) {
			t.Errorf("%s: passed as %+v", claims, job)
		}
	})
}
