package enroll_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/enroll"
)

const token = "U012ABCDEF.c2VjcmV0LXRva2VuLW9mLXRoZS1saW5r"

var keyPattern = regexp.MustCompile(`<code class="key" id="key">([A-Z2-7]{4}(?: [A-Z2-7]{4})*)</code>`)

// fake is a service with one link, true to the contract of [enroll.Service].
type fake struct {
	mu     sync.Mutex
	link   approvals.Enrolment
	secret totp.Secret
	tries  int
	gone   bool
	broken error
	calls  int
}

func newFake(name string) *fake {
	return &fake{link: approvals.Enrolment{
		Person:  approvals.Person{SlackID: "U012ABCDEF", Name: name},
		Expires: time.Now().Add(9*time.Minute + 30*time.Second),
	}}
}

func (f *fake) find(t string) error {
	f.calls++
	switch {
	case f.broken != nil:
		return f.broken
	case f.gone || t != token:
		return approvals.ErrLinkGone
	}
	return nil
}

func (f *fake) Enrolment(_ context.Context, t string) (approvals.Enrolment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.find(t); err != nil {
		return approvals.Enrolment{}, err
	}
	return f.link, nil
}

func (f *fake) ShowSecret(_ context.Context, t string) (approvals.Person, totp.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.find(t); err != nil {
		return approvals.Person{}, totp.Secret{}, err
	}
	if f.link.Shown {
		return approvals.Person{}, totp.Secret{}, approvals.ErrLinkGone
	}
	f.link.Shown, f.secret = true, totp.NewSecret()
	return f.link.Person, f.secret, nil
}

func (f *fake) ConfirmSecret(_ context.Context, t, code string) (approvals.Person, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.find(t); err != nil {
		return approvals.Person{}, err
	}
	if !f.link.Shown {
		return approvals.Person{}, approvals.ErrLinkGone
	}
	c, err := totp.ParseCode(code)
	if err == nil {
		if _, ok := f.secret.Match(c, time.Now()); ok {
			f.gone = true
			return f.link.Person, nil
		}
	}
	if f.tries++; f.tries >= 5 {
		f.gone = true
		return approvals.Person{}, approvals.ErrLinkGone
	}
	return f.link.Person, &approvals.Error{Code: approvals.CodeInvalid, Message: "that code is not right"}
}

// wrongCode is a code that the secret does not have now or soon.
func wrongCode(s totp.Secret) string {
	for _, code := range []string{"000000", "111111", "222222", "333333", "444444"} {
		right := false
		for step := -2; step <= 4; step++ {
			right = right || s.At(time.Now().Add(time.Duration(step)*30*time.Second)) == code
		}
		if !right {
			return code
		}
	}
	panic("no wrong code")
}

// safe lets the log be read while calls write to it.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type site struct {
	t    *testing.T
	page http.Handler
	log  *safe
}

func newSite(t *testing.T, s enroll.Service) *site {
	log := &safe{}
	return &site{t, enroll.New(enroll.Config{Service: s, PublicURL: "http://gate.example", Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}), log}
}

func (s *site) do(method, path, kind, body string, header ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, "http://gate.example"+path, strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.page.ServeHTTP(w, r)
	return w
}

const form = "application/x-www-form-urlencoded"

func (s *site) get() *httptest.ResponseRecorder {
	return s.do("GET", "/enroll/"+token, "", "")
}

func (s *site) show() *httptest.ResponseRecorder {
	return s.do("POST", "/enroll/"+token, form, "")
}

func (s *site) send(code string) *httptest.ResponseRecorder {
	return s.do("POST", "/enroll/"+token, form, url.Values{"code": {code}}.Encode())
}

// want checks status and page. It never prints the body: it may hold a key.
func want(t *testing.T, step string, got *httptest.ResponseRecorder, status int, page string) {
	t.Helper()
	if got.Code != status || !strings.Contains(got.Body.String(), `data-page="`+page+`"`) {
		name := regexp.MustCompile(`data-page="[a-z]*"`).FindString(got.Body.String())
		t.Fatalf("%s: got %d, %s; want %d, %s", step, got.Code, name, status, page)
	}
}
