package bot_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// The worked example of https://docs.slack.dev/authentication/verifying-requests-from-slack
const (
	exampleSecret    = "8f742231b10e8888abcd99yyyzzz85a5"
	exampleTime      = "1531420618"
	exampleSignature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
	exampleBody      = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)

func TestSignature(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path, stamp, signature, body, secret string
		late                                       time.Duration
		want                                       int
	}{
		{name: "as documented", want: 200},
		{name: "almost too late", late: 299 * time.Second, want: 200},
		{name: "too late", late: 301 * time.Second, want: 401},
		{name: "too early", late: -301 * time.Second, want: 401},
		{name: "other body", body: exampleBody + " ", want: 401},
		{name: "other secret", secret: "x", want: 401},
		{name: "no signature", signature: "-", want: 401},
		{name: "short signature", signature: exampleSignature[:20], want: 401},
		{name: "other version", signature: "v1" + exampleSignature[2:], want: 401},
		{name: "time is no number", stamp: "soon", want: 401},
		{name: "too large", body: strings.Repeat("x", 1<<20+1), want: 413},
		{name: "other path", path: "/slack/elsewhere", want: 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Unix(1531420618, 0).Add(tt.late))) // the bubble's clock jumps
				or := func(text, otherwise string) string {
					if text == "" {
						return otherwise
					}
					return text
				}
				b := bot.New(bot.Config{Workspace: bot.Open(bot.Settings{SigningSecret: or(tt.secret, exampleSecret)}), Service: newService()})
				defer b.Close()
				r := httptest.NewRequest(http.MethodPost, or(tt.path, "/slack/commands"), strings.NewReader(or(tt.body, exampleBody)))
				r.Header.Set("X-Slack-Request-Timestamp", or(tt.stamp, exampleTime))
				r.Header.Set("X-Slack-Signature", or(tt.signature, exampleSignature))
				w := httptest.NewRecorder()
				b.Handler().ServeHTTP(w, r)
				if w.Code != tt.want {
					t.Errorf("got %d %q; want %d", w.Code, w.Body, tt.want)
				}
			})
		})
	}
}

func TestWithoutASecretNothingPasses(t *testing.T) {
	t.Parallel()
	b := bot.New(bot.Config{Workspace: bot.Open(bot.Settings{}), Service: newService()})
	r := httptest.NewRequest(http.MethodPost, "/slack/events", strings.NewReader("{}"))
	stamp := time.Now().Unix()
	r.Header.Set("X-Slack-Request-Timestamp", time.Unix(stamp, 0).Format("x"))
	r.Header.Set("X-Slack-Signature", slacktest.Sign("", "x", []byte("{}")))
	w := httptest.NewRecorder()
	b.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("got %d; want 401", w.Code)
	}
}

func TestRequestURLHandshake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	if err := w.slack.VerifyRequestURL(deadline(t)); err != nil {
		t.Error(err)
	}
}

func TestAnEventTwiceIsOneEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	d, err := w.slack.PrepareHome(ana)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := w.slack.Deliver(deadline(t), d); err != nil {
			t.Fatal(err)
		}
	}
	w.bot.Close() // after what was taken in
	if got := len(w.slack.CallsOf("views.publish")); got != 1 {
		t.Errorf("the home was published %d times; want once", got)
	}
}

// Until Slack has said who we are, nobody can be told from a stranger: people are asked
// to try again, nothing is recorded, and events are left for Slack to send again.
func TestBeforeSlackSaidWhoWeAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	card := w.postCard(t)
	approving, rejecting := w.open(t, ana, "approve"), w.open(t, bea, "reject")
	w.service.wait(t, "two opened modals on record", func() bool { return len(w.service.opened) == 2 })
	w.ws = bot.Open(w.settings)
	w.bot = w.fresh()
	w.overHTTP(t)
	const words = "not connected to Slack yet"
	if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "view_pipeline"); err != nil {
		t.Error(err)
	}
	if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "approve"); err != nil {
		t.Error(err)
	}
	w.whispered(t, ana, words)
	if got, err := w.slack.Submit(deadline(t), ana, approving.ID, code(goodCode)); err != nil || !strings.Contains(got.Errors["totp"], words) {
		t.Errorf("an approval: got %+v, %v; want %q under the code", got, err, words)
	}
	if got, err := w.slack.Submit(deadline(t), bea, rejecting.ID, slacktest.Values{"reason": {"text": "x"}}); err != nil || !strings.Contains(got.Errors["reason"], words) {
		t.Errorf("a reject: got %+v, %v; want %q under the reason", got, err, words)
	}
	if got, err := w.slack.Slash(deadline(t), ana, deploys, "list"); err != nil || !strings.Contains(got.Text, words) || got.InChannel {
		t.Errorf("a command: got %+v, %v; want %q", got, err, words)
	}
	d, err := w.slack.PrepareHome(ana)
	if err != nil {
		t.Fatal(err)
	}
	event := func() int {
		r, err := w.slack.SignedRequest(t.Context(), d, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		w.bot.Handler().ServeHTTP(answer, r)
		return answer.Code
	}
	if got := event(); got != http.StatusServiceUnavailable {
		t.Errorf("an event: got %d; want 503, so that Slack sends it again", got)
	}
	if _, err := w.ws.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := event(); got != http.StatusOK {
		t.Errorf("the event again: got %d; want 200", got)
	}
	if got, err := w.slack.Submit(deadline(t), ana, approving.ID, code(goodCode)); err != nil || !got.Closed {
		t.Errorf("the approval again: got %+v, %v; want it taken", got, err)
	}
	w.bot.Close() // after what was taken in
	if got := len(w.slack.CallsOf("views.publish")); got != 1 {
		t.Errorf("the home was published %d times; want once", got)
	}
	if len(w.slack.Ephemerals(ana)) != 2 || len(w.service.refused) > 0 {
		t.Errorf("ana was told %+v, and on record is %q; want two sentences and nothing", w.slack.Ephemerals(ana), w.service.refused)
	}
}

func TestUnreadableBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	for path, body := range map[string]string{
		"/slack/interactions": "payload=", "/slack/events": "{", "/slack/commands": "%zz",
	} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		stamp := time.Now()
		signed, err := w.slack.SignedRequest(t.Context(), slacktest.Delivery{Kind: slacktest.EventsAPI, Payload: []byte(body)}, stamp)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = signed.Header
		answer := httptest.NewRecorder()
		w.bot.Handler().ServeHTTP(answer, r)
		if text, _ := io.ReadAll(answer.Body); answer.Code != http.StatusBadRequest || len(text) > 20 {
			t.Errorf("%s: got %d %q; want 400 without detail", path, answer.Code, text)
		}
	}
	if _, err := w.slack.Deliver(deadline(t), slacktest.Delivery{Kind: slacktest.Interactive, Payload: []byte(`{"type":"nothing_known"}`)}); err != nil {
		t.Errorf("an unknown interaction was not acknowledged: %v", err)
	}
}

// post sends a request by hand and returns the status of its answer, 0 for none.
func post(t *testing.T, address string, header, body string) (conn net.Conn, status func() int) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "POST /slack/interactions HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return conn, func() int {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		return res.StatusCode
	}
}

func plausible(at time.Time) string {
	return fmt.Sprintf("X-Slack-Request-Timestamp: %d\r\nX-Slack-Signature: v0=%064x\r\n", at.Unix(), 1)
}

// What cannot be Slack's is refused before its body, and what could be takes
// little memory while it is being read: bodies that stall give way to those that
// come.
func TestStalledBodiesGiveWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	server := httptest.NewServer(w.bot.Handler())
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	const large = "Content-Length: 1048576\r\n"
	for _, header := range []string{
		large, large + plausible(time.Now().Add(-6*time.Minute)), large + plausible(time.Now().Add(6*time.Minute)),
		large + "X-Slack-Signature: v0=12\r\nX-Slack-Request-Timestamp: 1\r\n", "Transfer-Encoding: chunked\r\n",
	} {
		if _, status := post(t, address, header, ""); status() != http.StatusUnauthorized {
			t.Errorf("%q without its body: got no 401 at once", header)
		}
	}
	if _, status := post(t, address, "Content-Length: 1048577\r\n"+plausible(time.Now()), ""); status() != http.StatusRequestEntityTooLarge {
		t.Error("a body that is announced as too large: got no 413 at once")
	}
	var stalled []func() int
	for range 40 {
		_, status := post(t, address, large+plausible(time.Now()), strings.Repeat("x", 1000))
		stalled = append(stalled, status)
	}
	// 8 MiB are for bodies under way. The first ones are given up long before they
	// have had their time.
	for n, status := range stalled[:40-8] {
		if got := status(); got != http.StatusBadRequest {
			t.Fatalf("stalled body %d: got %d; want 400", n, got)
		}
	}
	if err := w.slack.VerifyRequestURL(deadline(t)); err != nil {
		t.Errorf("a signed request beside stalled ones: %v", err)
	}
}

// A wrong secret is seen: in the log, now and then, and in the state.
func TestWrongSigningSecretIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := bot.New(bot.Config{Workspace: bot.Open(bot.Settings{SigningSecret: "right"}), Service: newService(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer b.Close()
		h := b.Handler()
		send := func(secret string) int {
			body := `{"type":"url_verification","challenge":"x"}`
			stamp := fmt.Sprint(time.Now().Unix())
			r := httptest.NewRequest(http.MethodPost, "/slack/events", strings.NewReader(body))
			r.Header.Set("X-Slack-Request-Timestamp", stamp)
			r.Header.Set("X-Slack-Signature", slacktest.Sign(secret, stamp, []byte(body)))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for range 50 {
			if got := send(`"right"`); got != http.StatusUnauthorized {
				t.Fatalf("got %d; want 401", got)
			}
			time.Sleep(time.Second)
		}
		const words = "50 requests were refused because their signature does not fit SLACK_SIGNING_SECRET"
		if ok, detail := b.Health(); ok || !strings.Contains(detail, words) {
			t.Errorf("health: got %t %q; want %q", ok, detail, words)
		}
		if got := strings.Count(log.String(), "does not fit SLACK_SIGNING_SECRET"); got != 1 {
			t.Errorf("it was logged %d times in a minute; want once:\n%s", got, &log)
		}
		time.Sleep(time.Minute)
		send(`"right"`)
		if !strings.Contains(log.String(), "count=50") {
			t.Errorf("a minute later the log has no count:\n%s", &log)
		}
		if got := send("right"); got != http.StatusOK {
			t.Fatalf("signed rightly: got %d; want 200", got)
		}
		if _, detail := b.Health(); strings.Contains(detail, "SLACK_SIGNING_SECRET") {
			t.Errorf("after a signature that fits: got %q", detail)
		}
	})
}

// stuck answers nobody before it must.
type stuck struct {
	*service
	ended bool
}

func (s *stuck) Recent(ctx context.Context, _ approvals.Filter) ([]approvals.Request, error) {
	<-ctx.Done()
	s.ended = true
	return nil, ctx.Err()
}

// What is still worked on when the bot is closed is canceled before Close returns:
// the database is closed next.
func TestCloseEndsWhatIsWorkedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := slacktest.New(slacktest.Config{})
		s.SetBaseURL("http://slack.test")
		var hangs stuck
		w := connect(t, s, inProcess{s}, func(c *bot.Config) { hangs.service = newService(); c.Service = &hangs })
		d, err := s.PrepareHome(ana)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.SignedRequest(t.Context(), d, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		w.bot.Handler().ServeHTTP(answer, r)
		if answer.Code != http.StatusOK {
			t.Fatalf("got %d %s; want 200", answer.Code, answer.Body)
		}
		began := time.Now()
		w.bot.Close()
		if took := time.Since(began); !hangs.ended || took > 6*time.Second {
			t.Errorf("closed after %s, ended: %t; want it ended within 6 s", took, hangs.ended)
		}
	})
}
