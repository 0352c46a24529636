package enroll_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/enroll"
)

func TestStory(t *testing.T) {
	f := newFake("Ana López")
	s := newSite(t, f)

	for range 3 {
		want(t, "open", s.get(), 200, "start")
	}
	if f.link.Shown {
		t.Fatal("opening the link changed it")
	}
	want(t, "code before the key", s.send("123456"), 409, "start")
	if f.link.Shown || f.tries != 0 {
		t.Fatal("a code before the key changed the link")
	}

	shown := s.show()
	want(t, "show", shown, 200, "key")
	groups := keyPattern.FindStringSubmatch(shown.Body.String())
	if groups == nil || strings.ReplaceAll(groups[1], " ", "") != f.secret.Base32() {
		t.Error("the key on the page is not the secret in groups of four")
	}
	if !strings.Contains(shown.Body.String(), `href="otpauth://totp/Rack%20Gateway:Ana%20L%C3%B3pez?secret=`+f.secret.Base32()+`&amp;issuer=Rack%20Gateway`) {
		t.Error("the page has no otpauth link")
	}

	for step, got := range map[string]*httptest.ResponseRecorder{"shown again": s.show(), "opened again": s.get()} {
		want(t, step, got, 410, "shown")
	}
	for _, slip := range []string{"", "12345", "1234567", "abcdef", "１２３４５６"} {
		want(t, "slip", s.send(slip), 422, "wrong")
	}
	if f.tries != 0 {
		t.Errorf("slips: got %d tries spent; want none", f.tries)
	}
	want(t, "wrong code", s.send(wrongCode(f.secret)), 422, "wrong")

	now := f.secret.At(time.Now())
	want(t, "right code", s.send(" "+now[:3]+" "+now[3:]+"\u00a0"), 200, "done")
	for step, got := range map[string]*httptest.ResponseRecorder{"open": s.get(), "show": s.show(), "code": s.send(now)} {
		want(t, step+" after the end", got, 410, "gone")
	}
}

func TestLinkEndsAfterWrongCodes(t *testing.T) {
	f := newFake("Ana")
	s := newSite(t, f)
	want(t, "show", s.show(), 200, "key")
	code := wrongCode(f.secret)
	for range 4 {
		want(t, "wrong code", s.send(code), 422, "wrong")
	}
	want(t, "last wrong code", s.send(code), 410, "gone")
	want(t, "right code", s.send(f.secret.At(time.Now())), 410, "gone")
}

// Whatever else is asked, no answer but one holds the key.
func TestKeyIsShownOnce(t *testing.T) {
	f := newFake("Ana")
	s := newSite(t, f)
	var wg sync.WaitGroup
	answers := make([]*httptest.ResponseRecorder, 16)
	for i := range answers {
		wg.Go(func() { answers[i] = s.show() })
	}
	wg.Wait()
	answers = append(answers, s.get(), s.show(), s.send("12"), s.send(wrongCode(f.secret)), s.send(f.secret.At(time.Now())), s.get())
	shown := 0
	for _, a := range answers {
		text := strings.ReplaceAll(a.Body.String(), " ", "")
		if a.Code == http.StatusOK && keyPattern.MatchString(a.Body.String()) {
			shown++
		} else if strings.Contains(text, f.secret.Base32()) || strings.Contains(text, "otpauth:") || strings.Contains(text, `class="qr"`) {
			t.Errorf("an answer with status %d holds the key", a.Code)
		}
	}
	if shown != 1 {
		t.Errorf("the key was shown %d times; want once", shown)
	}
}

func TestStatuses(t *testing.T) {
	const path = "/enroll/" + token
	none := func(*fake) {}
	for _, tt := range []struct {
		name               string
		method, path, kind string
		body               string
		header             []string
		change             func(*fake)
		status             int
		page               string
		calls              bool // reaches the service
	}{
		{"head", "HEAD", path, "", "", nil, none, 200, "start", true},
		{"unknown link", "GET", "/enroll/U9.x", "", "", nil, none, 410, "gone", true},
		{"hostile link", "GET", "/enroll/%3Cscript%3E%00%ff", "", "", nil, none, 410, "gone", true},
		{"no token", "GET", "/enroll/", "", "", nil, none, 404, "problem", false},
		{"more than a token", "GET", path + "/more", "", "", nil, none, 404, "problem", false},
		{"show an unknown link", "POST", "/enroll/U9.x", form, "", nil, none, 410, "gone", true},
		{"code for an unknown link", "POST", "/enroll/U9.x", form, "code=123456", nil, none, 410, "gone", true},
		{"no body at all", "POST", path, "", "", nil, none, 200, "key", true},
		{"put", "PUT", path, form, "code=1", nil, none, 405, "problem", false},
		{"options", "OPTIONS", path, "", "", nil, none, 405, "problem", false},
		{"JSON", "POST", path, "application/json", "{}", nil, none, 415, "problem", false},
		{"no type", "POST", path, "", "code=1", nil, none, 415, "problem", false},
		{"bad form", "POST", path, form, "code=%zz", nil, none, 400, "problem", false},
		{"large", "POST", path, form, "code=" + strings.Repeat("1", 5000), nil, none, 413, "problem", false},
		{"code in the query", "POST", path + "?code=123456", form, "", nil, none, 200, "key", true},
		{"own form", "POST", path, form, "", []string{"Sec-Fetch-Site", "same-origin", "Origin", "null"}, none, 200, "key", true},
		{"own form, old browser", "POST", path, form, "", []string{"Origin", "http://gate.example"}, none, 200, "key", true},
		{"own form, plain http", "POST", path, form, "", []string{"Origin", "null"}, none, 200, "key", true},
		{"foreign form", "POST", path, form, "", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, none, 403, "problem", false},
		{"foreign form without an origin", "POST", path, form, "", []string{"Sec-Fetch-Site", "cross-site", "Origin", "null"}, none, 403, "problem", false},
		{"sister site", "POST", path, form, "", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://other.example"}, none, 403, "problem", false},
		{"foreign form, old browser", "POST", path, form, "", []string{"Origin", "https://evil.example"}, none, 403, "problem", false},
		{"store fails", "GET", path, "", "", nil, func(f *fake) { f.broken = errors.New("disk full") }, 503, "problem", true},
		{"store fails at show", "POST", path, form, "", nil, func(f *fake) { f.broken = errors.New("disk full") }, 503, "problem", true},
		{"store fails at code", "POST", path, form, "code=123456", nil, func(f *fake) { f.broken = errors.New("disk full") }, 503, "problem", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake("Ana")
			tt.change(f)
			s := newSite(t, f)
			got := s.do(tt.method, tt.path, tt.kind, tt.body, tt.header...)
			want(t, "answer", got, tt.status, tt.page)
			if (f.calls > 0) != tt.calls {
				t.Errorf("service: got %d calls; want some: %v", f.calls, tt.calls)
			}
			if allow := got.Header().Get("Allow"); tt.status == 405 && allow != "GET, HEAD, POST" {
				t.Errorf("Allow: got %q; want GET, HEAD, POST", allow)
			}
			if strings.Contains(got.Body.String(), "disk full") {
				t.Error("the page tells an inner fault")
			}
			if tt.status == 503 && (got.Header().Get("Retry-After") == "" || !strings.Contains(s.log.String(), "disk full")) {
				t.Error("a fault of ours: want Retry-After and a log line with the cause")
			}
		})
	}
}

func TestHTTPSWantsAnOrigin(t *testing.T) {
	f := newFake("Ana")
	s := &site{t: t, page: enroll.New(enroll.Config{Service: f, PublicURL: "https://gate.example/approvals"}), log: &safe{}}
	want(t, "no origin", s.do("POST", "/enroll/"+token, form, "", "Origin", "null"), 403, "problem")
	// The proxy in front talks to us under another name.
	r := httptest.NewRequest("POST", "http://10.0.0.7:8080/enroll/"+token, nil)
	r.Header.Set("Origin", "https://gate.example")
	w := httptest.NewRecorder()
	s.page.ServeHTTP(w, r)
	want(t, "public origin", w, 200, "key")
}

func TestHeaders(t *testing.T) {
	f := newFake("Ana")
	s := newSite(t, f)
	secure := &site{t: t, page: enroll.New(enroll.Config{Service: f, PublicURL: "https://gate.example"})}
	answers := map[string]*httptest.ResponseRecorder{
		"start": s.get(), "over https": secure.get(), "foreign": s.do("POST", "/enroll/"+token, form, "", "Sec-Fetch-Site", "cross-site"), "not found": s.do("GET", "/enroll/", "", ""),
		"method": s.do("PUT", "/enroll/"+token, "", ""), "key": s.show(), "shown": s.get(), "wrong": s.send("1"), "done": s.send(f.secret.At(time.Now())), "gone": s.get(),
	}
	for name, a := range answers {
		for header, value := range map[string]string{
			"Content-Type":                 "text/html; charset=utf-8",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Cache-Control":                "no-store",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   map[bool]string{true: "same-origin"}[name == "over https"],
			"Cross-Origin-Resource-Policy": "same-origin",
			"X-Robots-Tag":                 "noindex, nofollow",
			"Strict-Transport-Security":    map[bool]string{true: "max-age=31536000"}[name == "over https"],
		} {
			if got := a.Header().Get(header); got != value {
				t.Errorf("%s: %s: got %q; want %q", name, header, got, value)
			}
		}
		policy := a.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || !strings.HasSuffix(policy, "='; form-action 'self'; frame-ancestors 'none'; base-uri 'none'") {
			t.Errorf("%s: policy: got %q", name, policy)
		}
		if a.Header().Get("Permissions-Policy") == "" {
			t.Errorf("%s: no Permissions-Policy", name)
		}
		body := a.Body.String()
		for _, bad := range []string{"<script", "<img", " style=", "<link", "http://", "https://", "ZgotmplZ", "<no value>"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s: the page holds %q", name, bad)
			}
		}
		for _, good := range []string{`<html lang="en">`, `name="viewport"`, "<main", "<h1>", "Rack Gateway Approvals"} {
			if !strings.Contains(body, good) {
				t.Errorf("%s: the page lacks %q", name, good)
			}
		}
	}
}

// What people are called is text and nothing else: the page has the elements and
// attributes that it has for a plain name, and what would not show is shown.
func TestHostileName(t *testing.T) {
	all := func(name, id string) (pages []string) {
		f := newFake(name)
		f.link.Person.SlackID = id
		s := newSite(t, f)
		for _, a := range []*httptest.ResponseRecorder{s.get(), s.show(), s.send("1"), s.get(), s.send(f.secret.At(time.Now()))} {
			if a.Code >= 500 {
				t.Errorf("%q: got %d", name, a.Code)
			}
			pages = append(pages, a.Body.String())
		}
		return pages
	}
	plain := all("Ana", "U012ABCDEF")
	for _, hostile := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title></style><svg onload=alert(1)>`, `{{.Key}}`, `' autofocus onfocus='alert(1)`,
		"javascript:alert(1)//", "&lt;b&gt;", "--></bdi></p></main><base href=//evil.example>", "Ana\u202egnp.exe", "\u2066Ana\u2069\u200f", "Ana\r\nSet-Cookie: a=b",
		"\x00\xff\xfe", strings.Repeat("很", 500), "a:b?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&x=",
	} {
		for i, body := range append(all(hostile, "U012ABCDEF"), all("Ana", hostile)...) {
			if got, want := marks(t, body), marks(t, plain[i%len(plain)]); !slices.Equal(got, want) {
				t.Errorf("%q: the page has other elements than for a plain name", hostile)
			}
			for _, bad := range []string{"\x00", "Gateway:a%20b?secret=JBSW"} {
				if strings.Contains(body, bad) {
					t.Errorf("%q: the page holds %q", hostile, bad)
				}
			}
			if i < len(plain) && strings.ContainsAny(body, "\u202e\u2066\u2069\u200f\r") {
				t.Errorf("%q: the page holds a character that does not show", hostile)
			}
		}
	}
}

// marks are the elements and attributes of a page. The link to the app has to be one,
// and is left out like the key and its picture, which are never the same.
func marks(t *testing.T, body string) (all []string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type == html.TextNode {
			continue
		}
		all = append(all, n.Data)
		for _, a := range n.Attr {
			switch {
			case a.Key == "href" && !strings.HasPrefix(a.Val, "otpauth://totp/Rack%20Gateway:"):
				t.Error("a link leads elsewhere than to the authenticator app")
			case a.Key == "href" || a.Key == "d" || n.Data == "svg" && a.Key == "viewBox":
				a.Val = ""
			}
			all = append(all, a.Key+"="+a.Val)
		}
	}
	return all
}

func TestNameless(t *testing.T) {
	f := newFake(" ")
	if body := newSite(t, f).get().Body.String(); strings.Count(body, f.link.Person.SlackID) != 1 {
		t.Error("without a name: want the Slack id in its place, once")
	}
}

func TestPresentAuthenticatorIsMentioned(t *testing.T) {
	for _, enrolled := range []bool{true, false} {
		f := newFake("Ana")
		f.link.Person.Enrolled = enrolled
		if got := strings.Contains(newSite(t, f).get().Body.String(), "current authenticator keeps working"); got != enrolled {
			t.Errorf("enrolled %v: mentioned %v", enrolled, got)
		}
	}
}

func TestLog(t *testing.T) {
	f := newFake("Ana")
	s := newSite(t, f)
	s.get()
	s.show()
	bad, good := wrongCode(f.secret), f.secret.At(time.Now())
	s.send(bad)
	s.send("98765")
	s.send(good)
	s.do("GET", "/enroll/"+token+"/more", "", "")
	s.do("POST", "/enroll/"+token, form, "code=%zz"+token)
	f.broken = errors.New("disk full")
	s.get()
	log := s.log.String()
	for _, secret := range []string{token, strings.Split(token, ".")[1], f.secret.Base32(), `"` + bad + `"`, `"` + good + `"`, "98765", "otpauth"} {
		if strings.Contains(log, secret) {
			t.Error("the log holds a secret")
		}
	}
	if got := strings.Count(log, "\n"); got != 8 {
		t.Errorf("got %d lines; want one per call, 8", got)
	}
	for _, part := range []string{`"route":"/enroll/{token}"`, `"page":"done"`, `"status":422`, `"user":"U012ABCDEF"`, `"err":"disk full"`} {
		if !strings.Contains(log, part) {
			t.Errorf("the log lacks %s", part)
		}
	}
}

var _ enroll.Service = approvals.Admin{}
