package attack_test

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// canary is a whole story with a marker in every secret, and everything that somebody
// could read of it.
type canary struct {
	*world
	t       *testing.T
	secrets map[string]string // marker → what it is
	codes   map[string]string // code → whose
	keys    map[string]totp.Secret
	places  map[string][]byte // place → what stands there
}

// hide takes a secret in, in all the forms in which it could show up.
func (c *canary) hide(what, secret string) {
	if secret == "" {
		c.t.Fatalf("no %s", what)
	}
	c.secrets[secret] = what
	if escaped := url.QueryEscape(secret); escaped != secret {
		c.secrets[escaped] = what + ", escaped"
	}
}

func (c *canary) saw(place string, text []byte) {
	c.places[place] = append(append(c.places[place], text...), '\n')
}

func (c *canary) sawJSON(place string, v any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	must(c.t, e.Encode(v))
	c.saw(place, b.Bytes())
}

// operator runs a command whose output is no secret.
func (c *canary) operator(stdin string, args ...string) stage.Result {
	r := c.Operator(c.ctx, stdin, args...)
	place := "output of " + args[0]
	if len(args) > 1 {
		place += " " + args[1]
	}
	c.saw(place, []byte(r.Stdout+r.Stderr))
	return r
}

// product runs a command whose stdout is the secret itself.
func (c *canary) product(what string, args ...string) string {
	r := c.Operator(c.ctx, "", args...)
	if r.Code != 0 {
		c.t.Fatalf("%s: exit %d", args[0], r.Code)
	}
	c.saw("stderr of "+strings.Join(args[:min(2, len(args))], " "), []byte(r.Stderr))
	secret := strings.TrimSpace(r.Stdout)
	c.hide(what, secret)
	return secret
}

func (c *canary) gateway(token, workflow string, args ...string) {
	r := c.ClientAs(c.ctx, token, workflow, args...)
	c.saw("output of rack-gateway", []byte(r.Stdout+r.Stderr))
}

// call keeps the answer with its headers.
func (c *canary) call(req *http.Request, err error) string {
	c.t.Helper()
	must(c.t, err)
	res, err := http.DefaultClient.Do(req.WithContext(c.ctx))
	must(c.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	must(c.t, err)
	var head bytes.Buffer
	must(c.t, res.Header.Write(&head))
	c.saw("answers of the API", append(head.Bytes(), raw...))
	return string(raw)
}

// give types a code into the open modal.
func (c *canary) give(user, code, reason string) {
	c.t.Helper()
	c.codes[code] = user
	view := c.Slack.View(user)
	if view == nil {
		c.t.Fatalf("%s has no modal", user)
	}
	c.sawJSON("modals", view)
	values := slacktest.Values{"totp": {"code": code}}
	if reason != "" {
		values["reason"] = map[string]string{"text": reason}
	}
	got, err := c.Slack.Submit(c.ctx, user, view.ID, values)
	must(c.t, err)
	c.sawJSON("modals", []any{got.Errors, got.Updated})
}

func (c *canary) press(user string, f *flow, action string) {
	c.t.Helper()
	_, err := c.Press(c.ctx, user, f.card, action)
	must(c.t, err)
}

// TestSecretsStayInside plays the whole story at debug level in both transports, with
// everything going wrong that can echo a secret, and then reads everything that leaves
// the process: no secret and no code is in it. (Threats 19, 20)
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	for name, overHTTP := range map[string]bool{"socket": false, "http": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCanary(t, stage.Options{HTTP: overHTTP, Env: []string{"RGW_LOG_LEVEL=debug", "RGW_APP_MYAPP_SETTING_MFA_ON_REJECT=true", "RGW_APP_MYAPP_SETTING_SUPERSEDE=off"}})
			daemon := c.spawn(t)
			must(t, c.Confirmed(c.ctx))
			c.saw("arguments", read(t, fmt.Sprintf("/proc/%d/cmdline", daemon.PID())))
			c.enrolByPage()
			c.story()
			c.trouble()
			c.mistakes()
			c.collect()
			daemon.Kill() // leaves the write-ahead log as it is
			c.files("after SIGKILL")
			c.saw("log", read(t, filepath.Join(c.Dir, "log")))
			c.search()
		})
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	return raw
}

func newCanary(t *testing.T, o stage.Options) *canary {
	c := &canary{world: newWorld(t, o), t: t, secrets: map[string]string{}, codes: map[string]string{}, keys: map[string]totp.Secret{}, places: map[string][]byte{}}
	const circle = "CCIPAT_canary_5fd1c7_circleci"
	c.Circle.AddToken(circle, stage.MachineUser)
	ring := c.Variable("RGW_SECRET_KEYS") + "," + c.product("key", "keygen", "--kid", "older")
	c.SetEnv("CIRCLECI_TOKEN="+circle, "RGW_SECRET_KEYS="+ring)
	c.hide("CIRCLECI_TOKEN", circle)
	c.hide("GITHUB_TOKEN", hostileGitHub(t, c))
	c.hide("SLACK_BOT_TOKEN", c.Slack.Config().BotToken)
	c.hide("SLACK_APP_TOKEN", c.Slack.Config().AppToken)
	c.hide("SLACK_SIGNING_SECRET", c.Slack.Config().SigningSecret)
	for part := range strings.SplitSeq(ring, ",") {
		_, key, _ := strings.Cut(part, ":")
		raw, err := base64.StdEncoding.DecodeString(key)
		must(t, err)
		c.hide("key of RGW_SECRET_KEYS", key)
		c.hide("raw key of RGW_SECRET_KEYS", string(raw))
	}
	c.hide("API token", c.Token)
	c.lastCode["auditor"] = c.product("API token of an auditor", "token", "create", "--name", "auditor", "--role", "auditor", "--all-apps")
	secret := totp.NewSecret()
	c.operator(secret.Base32()+"\n", "user", "enroll", "--slack-id", stage.Ana, "--secret-stdin")
	c.key(stage.Ana, secret)
	return c
}

// hostileGitHub answers with the token that it is given, and returns that token.
func hostileGitHub(t *testing.T, c *canary) (token string) {
	token = "github_pat_canary_5fd1c7"
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "per_page=1" { // the question of check whether it may read
			fmt.Fprint(w, "[]")
			return
		}
		w.Header().Set("Location", "http://"+token+"@localhost:1/?"+r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"message":%q}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(hub.Close)
	c.SetEnv("GITHUB_TOKEN="+token, "GITHUB_API_URL="+hub.URL)
	return token
}

func (c *canary) key(user string, secret totp.Secret) {
	c.keys[user] = secret
	c.hide("TOTP secret of "+user, secret.Base32())
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret.Base32())
	if err != nil {
		c.t.Fatal(err)
	}
	c.hide("raw TOTP secret of "+user, string(raw))
}

// enrolByPage gives Bea her authenticator in a browser, with a slip.
func (c *canary) enrolByPage() {
	c.t.Helper()
	link := c.product("enrolment link", "user", "enroll", "--slack-id", stage.Bea)
	token := link[strings.LastIndex(link, "/")+1:]
	c.hide("token of the enrolment link", token)
	_, random, _ := strings.Cut(token, ".")
	c.hide("random part of the enrolment link", random)
	post := func(form url.Values) string {
		req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, link, strings.NewReader(form.Encode()))
		must(c.t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := http.DefaultClient.Do(req)
		must(c.t, err)
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		must(c.t, err)
		return string(raw)
	}
	shown := shownKey.FindStringSubmatch(post(nil)) // the one page that shows it
	if shown == nil {
		c.t.Fatal("the page shows no key")
	}
	secret, err := totp.ParseSecret(strings.ReplaceAll(shown[1], " ", ""))
	must(c.t, err)
	c.key(stage.Bea, secret)
	wrong := c.wrong(stage.Bea)
	c.codes[wrong] = "wrong at the page"
	c.saw("later enrolment pages", []byte(post(url.Values{"code": {wrong}})))
	code := secret.At(time.Now())
	c.codes[code] = "page"
	c.saw("later enrolment pages", []byte(post(url.Values{"code": {code}})))
	c.saw("later enrolment pages", []byte(post(url.Values{"code": {code}})))
}

// wrong is a code that is not right soon, and no number that stands elsewhere.
func (c *canary) wrong(user string) string {
	for n := 483_917; ; n += 7_919 {
		code := fmt.Sprintf("%06d", n%1_000_000)
		parsed, err := totp.ParseCode(code)
		must(c.t, err)
		if _, right := c.keys[user].Match(parsed, time.Now()); !right && c.codes[code] == "" {
			return code
		}
	}
}

// story is what happens every day: approve with a slip, reject with a slip.
func (c *canary) story() {
	c.t.Helper()
	f := c.requested(c.t, 1234)
	c.press(stage.Ana, f, "approve")
	c.give(stage.Ana, c.wrong(stage.Ana), "")
	right := c.keys[stage.Ana].At(time.Now())
	c.give(stage.Ana, right, "")
	must(c.t, c.becomes(f, approvals.Released))
	c.gateway(c.Token, f.workflow, "deploy-approval", "verify", "--app", stage.App)
	c.gateway(c.Token, f.workflow, "deploy-approval", "show", f.id, "-o", "json")

	g := c.requested(c.t, 1235)
	c.press(stage.Ana, g, "approve")
	c.give(stage.Ana, right, "") // used
	c.press(stage.Bea, g, "reject")
	c.give(stage.Bea, c.wrong(stage.Bea), "not today")
	c.give(stage.Bea, c.keys[stage.Bea].At(time.Now().Add(30*time.Second)), "not today")
	must(c.t, c.becomes(g, approvals.Rejected))
	_, err := c.Slack.Slash(c.ctx, stage.Ana, stage.Channel, "whoami")
	must(c.t, err)
	must(c.t, c.Slack.OpenHome(c.ctx, stage.Ana))
}

// trouble lets CircleCI and Slack fail with answers that repeat the token.
func (c *canary) trouble() {
	c.t.Helper()
	echo := `{"message":"Token ` + c.Variable("CIRCLECI_TOKEN") + ` is not valid."}`
	for _, status := range []int{401, 403, 500, 302} {
		f := c.pushed(c.t, 1300+int64(status))
		fault := circlecitest.Fault{Op: "workflow", ID: f.workflow, Status: status, Body: echo, Count: -1}
		if status == 302 {
			fault.Header = http.Header{"Location": {"http://user:" + c.Variable("CIRCLECI_TOKEN") + "@localhost:1/?circle-token=" + c.Variable("CIRCLECI_TOKEN")}}
		}
		c.Circle.Inject(fault)
		c.gateway(c.Token, f.workflow, append(stage.RequestArgs(f.workflow), "--retry-for", "0")...)
	}
	f, g := c.requested(c.t, 1400), c.requested(c.t, 1401)
	c.Circle.Inject(
		circlecitest.Fault{Op: "jobs", Status: 401, Body: echo, Count: 2}, circlecitest.Fault{Op: "jobs", Drop: true},
		circlecitest.Fault{Op: "approve", Status: 403, Body: echo, Count: -1})
	for _, fault := range []slacktest.Fault{
		{Method: "chat.postMessage", Error: "invalid_auth", Times: 1}, {Method: "chat.postMessage", Status: 500, Times: 1},
		{Method: "chat.postMessage", Drop: slacktest.DropBefore, Times: 1}, {Method: "chat.update", Error: "token_revoked", Times: 1},
		{Method: "apps.connections.open", Drop: slacktest.DropBefore, Times: 1}, {Method: "response_url", Status: 500, Times: 1},
		{Method: "users.info", Drop: slacktest.DropAfter, Times: 1},
	} {
		c.Slack.AddFault(fault)
	}
	if _, err := c.Press(c.ctx, stage.Carl, f.card, "reject"); err == nil {
		c.t.Error("Carl: got a modal; want words")
	}
	for c.Slack.View(stage.Ana) != nil { // that of the used code
		must(c.t, c.Slack.CloseView(stage.Ana))
	}
	c.press(stage.Ana, f, "approve")
	c.give(stage.Ana, c.keys[stage.Ana].At(time.Now().Add(30*time.Second)), "")
	must(c.t, c.becomes(f, approvals.Undeliverable))
	for n := range 5 { // one code for each guess, until the pause
		if n == 0 {
			c.press(stage.Bea, g, "approve")
		}
		c.give(stage.Bea, c.wrong(stage.Bea), "")
	}
	c.operator("", "check") // meets the fault of apps.connections.open
}
