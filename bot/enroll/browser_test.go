package enroll_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/browsertest"
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

// A person goes from the link to an authenticator in a real browser, on
// loopback and under a name for which browsers send less: plain http.
func TestBrowser(t *testing.T) {
	b := browsertest.Open(t, "gate.example")
	for _, host := range []string{"127.0.0.1", "gate.example"} {
		t.Run(host, func(t *testing.T) { enrolInBrowser(t, b.Of(t), host) })
	}
}

func enrolInBrowser(t *testing.T, b *browsertest.Tab, host string) {
	admin, path := enrolment(t)
	log, sent := &safe{}, &posts{}
	server := httptest.NewServer(sent.watch(enroll.New(enroll.Config{Service: admin, Log: slog.New(slog.NewJSONHandler(log, nil))})))
	t.Cleanup(server.Close)
	base := strings.Replace(server.URL, "127.0.0.1", host, 1)
	on := func(page, title string) {
		t.Helper()
		b.Await(`document.readyState + ' | ' + document.querySelector('main')?.dataset.page + ' | ' + document.querySelector('h1')?.textContent`, "complete | "+page+" | "+title)
		b.Screen(320, 600, true, "light")
		if wide := b.Eval(`document.documentElement.scrollWidth`); wide != "320" {
			t.Errorf("%s is %s wide; want the 320 of the screen", page, wide)
		}
		b.Screen(1280, 900, false, "light")
		if host == "127.0.0.1" {
			b.Readable()
			b.Photograph(page)
		}
	}
	b.Do(chromedp.Navigate(base + path))
	on("start", "Set up your authenticator")
	if got := b.Eval(`getComputedStyle(document.querySelector('button')).borderTopLeftRadius`); got == "0px" || got == "" {
		t.Errorf("the style did not arrive: got radius %q", got)
	}

	// While the answer is on its way, a second press must do nothing.
	b.Eval(`sends = 0; hold = e => { e.preventDefault(); sends++ }; addEventListener('submit', hold)`)
	b.Press("button")
	b.Press("button")
	if got := b.Eval(`sends`); got != "1" {
		t.Errorf("a double click sends the form %s times; want once", got)
	}
	b.Eval(`removeEventListener('submit', hold)`)
	b.Press("h1")
	b.Press("button")
	on("key", "Add the key to your app")
	key := b.Eval(`document.querySelector('#key').textContent`)
	secret, err := totp.ParseSecret(key)
	if err != nil {
		t.Fatal(err)
	}
	if link := b.Eval(`document.querySelector('#app-link').href`); link != secret.URL("Rack Gateway", "Ana López") {
		t.Error("the link is not that of the key")
	}
	if label := b.Eval(`document.querySelector('#code').labels[0].textContent`); label != "Code that the app shows now" {
		t.Errorf("label: got %q", label)
	}

	b.Press("#code")
	b.Do(chromedp.KeyEvent("12345" + kb.Enter)) // the browser itself refuses this
	b.Eval(`document.querySelector('#code').value = ''`)
	b.Do(chromedp.KeyEvent(wrongCode(secret) + kb.Enter))
	on("wrong", "Type the next code")
	if got := b.Eval(`document.activeElement.id + ' ' + document.querySelector('[role=alert]').textContent`); got != "code That code is not right." {
		t.Errorf("after a wrong code: got %q", got)
	}
	b.Do(chromedp.Navigate(base + path))
	on("shown", "The key was shown already")

	code := secret.At(time.Now())
	b.Press("#code")
	b.Do(chromedp.KeyEvent(code[:3] + " " + code[3:] + kb.Enter))
	on("done", "Your authenticator is ready")
	if got, ok := authenticator(t, admin); !ok || got.Secret != secret.Base32() {
		t.Errorf("authenticator: got %v; want the one shown", ok)
	}
	b.Do(chromedp.Navigate(base + path))
	on("gone", "This link does not work any more")
	if got := b.Eval(`performance.getEntriesByType('navigation')[0].responseStatus`); got != "410" {
		t.Errorf("status of a used link: got %s; want 410", got)
	}
	sent.mu.Lock()
	defer sent.mu.Unlock()
	if len(sent.headers) != 3 {
		t.Errorf("got %d forms; want the button, the wrong code and the right one", len(sent.headers))
	}
	for _, h := range sent.headers {
		if h.Get("Referer") != "" {
			t.Error("the browser told where it came from")
		}
	}
	if text := log.String(); strings.Contains(text, strings.TrimPrefix(path, "/enroll/")) || strings.Contains(text, code) {
		t.Error("the log holds a secret")
	}
}
