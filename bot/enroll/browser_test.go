package enroll_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/enroll"
)

// posts remembers what a browser sent with its forms.
type posts struct {
	mu      sync.Mutex
	headers []http.Header
}

func (p *posts) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			p.mu.Lock()
			p.headers = append(p.headers, r.Header.Clone())
			p.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

func (p *posts) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.headers)
}

// A person goes from the link to an authenticator in a real browser, on
// loopback and under a name for which browsers send less: plain http.
func TestBrowser(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), browserTime)
	defer cancel()
	b := startBrowser(t, ctx, "gate.example")
	if b == nil {
		return
	}
	for _, host := range []string{"127.0.0.1", "gate.example"} {
		admin, path := enrolment(t)
		log, sent := &safe{}, &posts{}
		server := httptest.NewServer(sent.watch(enroll.New(enroll.Config{Service: admin, Log: slog.New(slog.NewJSONHandler(log, nil))})))
		defer server.Close()
		base := strings.Replace(server.URL, "127.0.0.1", host, 1)
		on := func(page, title string) {
			t.Helper()
			if got := b.eval(`document.querySelector('main')?.dataset.page + ' | ' + document.querySelector('h1')?.textContent`); got != page+" | "+title {
				t.Fatalf("%s: page: got %q; want %q", host, got, page+" | "+title)
			}
			if wide := b.eval(`document.documentElement.scrollWidth > innerWidth`); wide != "false" {
				t.Errorf("%s: %s is wider than the screen", host, page)
			}
			if host == "127.0.0.1" {
				b.photograph(page)
			}
		}
		b.screen(390, 844, true, "light")
		b.open(base + path)
		on("start", "Set up your authenticator")
		if got := b.eval(`getComputedStyle(document.querySelector('button')).borderTopLeftRadius`); got == "0px" || got == "" {
			t.Errorf("the style did not arrive: got radius %q", got)
		}

		b.screen(1280, 900, false, "light")
		b.press("button", 2) // as people do
		b.loaded()
		on("key", "Add the key to your app")
		if got := sent.count(); got != 1 {
			t.Errorf("%s: a double click sent %d forms; want one", host, got)
		}
		key := b.eval(`document.querySelector('#key').textContent`)
		secret, err := totp.ParseSecret(key)
		if err != nil {
			t.Fatal(err)
		}
		if link := b.eval(`document.querySelector('#app-link').href`); link != secret.URL("Rack Gateway", "Ana López") {
			t.Error("the link is not that of the key")
		}
		if label := b.eval(`document.querySelector('#code').labels[0].textContent`); label != "Code that the app shows now" {
			t.Errorf("label: got %q", label)
		}

		b.press("#code", 1)
		b.write("12345") // the browser itself refuses this
		if got := sent.count(); got != 1 {
			t.Errorf("%s: five digits were sent", host)
		}
		b.eval(`document.querySelector('#code').value = ''`)
		b.write(wrongCode(secret))
		b.loaded()
		on("wrong", "Type the next code")
		if got := b.eval(`document.activeElement.id + ' ' + document.querySelector('[role=alert]').textContent`); got != "code That code is not right." {
			t.Errorf("%s: after a wrong code: got %q", host, got)
		}
		b.open(base + path)
		on("shown", "The key was shown already")

		code := secret.At(time.Now())
		b.press("#code", 1)
		b.write(code[:3] + " " + code[3:])
		b.loaded()
		on("done", "Your authenticator is ready")
		if got, err := authenticator(t, admin); err != nil || got.Secret.Base32() != secret.Base32() {
			t.Errorf("%s: authenticator: got %v; want the one shown", host, err)
		}
		b.open(base + path)
		on("gone", "This link does not work any more")
		if got := b.eval(`performance.getEntriesByType('navigation')[0].responseStatus`); got != "410" {
			t.Errorf("%s: status of a used link: got %s; want 410", host, got)
		}
		for _, h := range sent.headers {
			if h.Get("Referer") != "" {
				t.Errorf("%s: the browser told where it came from", host)
			}
		}
		if text := log.String(); strings.Contains(text, strings.TrimPrefix(path, "/enroll/")) || strings.Contains(text, code) {
			t.Errorf("%s: the log holds a secret", host)
		}
		t.Logf("%s: Sec-Fetch-Site %q, Origin %q", host, sent.headers[0].Get("Sec-Fetch-Site"), sent.headers[0].Get("Origin"))
	}
}
