package attack_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// collect reads everything that can be read of the running product.
func (c *canary) collect() {
	c.t.Helper()
	for _, args := range [][]string{
		{"check"}, {"settings", "show", "--app", stage.App}, {"user", "list"}, {"user", "list", "-o", "json"}, {"token", "list"}, {"token", "list", "-o", "json"},
		{"access-review"}, {"audit", "checkpoint"}, {"audit", "key"}, {"audit", "export"}, {"audit", "export", "--format", "csv"},
		{"keys", "rotate"}, {"backup", filepath.Join(c.Dir, "copy")}, {"manifest"}, {"version"},
	} {
		if r := c.operator("", args...); r.Code != 0 {
			c.t.Errorf("%v: got exit %d: %s%s; want 0", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	for _, path := range []string{"/audit", "/audit?format=csv", "/audit/checkpoint", "/audit/key", "/deploy-approval-requests"} {
		req, err := http.NewRequest(http.MethodGet, c.URL+"/api/v1"+path, nil)
		must(c.t, err)
		req.Header.Set("Authorization", "Bearer "+c.lastCode["auditor"])
		c.call(req, nil)
	}
	c.call(http.NewRequest(http.MethodGet, c.URL+"/readyz", nil))
	metrics := c.call(http.NewRequest(http.MethodGet, c.Health+"/metrics", nil))
	if !strings.Contains(metrics, "rgw_requests") {
		c.t.Error("got no metrics")
	}
	for channel := range c.Slack.Channels() {
		for _, m := range c.Slack.AllMessages(channel) {
			c.sawJSON("messages in Slack", c.Slack.Revisions(channel, m.TS))
		}
	}
	for _, user := range []string{stage.Ana, stage.Bea, stage.Alice, stage.Carl} {
		c.sawJSON("ephemerals and Home", []any{c.Slack.Ephemerals(user), c.Slack.DMs(user), c.Slack.Home(user)})
	}
	for _, call := range c.Slack.Calls() {
		c.sawJSON("calls to Slack", call.Args)
	}
	c.files("running")
}

// files reads the database as it is on disk.
func (c *canary) files(when string) {
	c.t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if raw, err := os.ReadFile(c.file() + suffix); err == nil {
			c.saw("database"+suffix+", "+when, raw)
		}
	}
	for _, name := range []string{"anchor", "copy"} {
		c.saw(name, read(c.t, filepath.Join(c.Dir, name)))
	}
	if len(c.places["database-wal, "+when]) == 0 {
		c.t.Errorf("%s: got no write-ahead log", when)
	}
}

// search looks for every secret and code in every place. It never prints one.
func (c *canary) search() {
	c.t.Helper()
	whole := 0
	for place, text := range c.places {
		whole += len(text)
		for secret, what := range c.secrets {
			if at := bytes.Index(text, []byte(secret)); at >= 0 {
				c.t.Errorf("%s: got the %s after %q", place, what, text[max(0, at-120):at])
			}
		}
		for code, whose := range c.codes {
			if at := alone(text, code); at >= 0 {
				c.t.Errorf("%s: got a code (%s) after %q", place, whose, text[max(0, at-120):at])
			}
		}
		if bytes.Contains(text, []byte("ticket=")) {
			c.t.Errorf("%s: got the ticket of a socket", place)
		}
	}
	for _, place := range []string{"log", "database, running", "output of audit export", "messages in Slack", "modals", "arguments", "answers of the API"} {
		if len(c.places[place]) == 0 {
			c.t.Errorf("got nothing of %s", place)
		}
	}
	c.t.Logf("%d secrets and %d codes searched for in %d places, %d bytes", len(c.secrets), len(c.codes), len(c.places), whole)
}

// alone finds a code that stands for itself: six digits inside of a longer number or
// hash are something else.
func alone(text []byte, code string) int {
	inside := func(b byte) bool { return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' }
	for from := 0; ; {
		at := bytes.Index(text[from:], []byte(code))
		if at < 0 {
			return -1
		}
		at += from
		end := at + len(code)
		if (at == 0 || !inside(text[at-1]) && text[at-1] != '.') && (end == len(text) || !inside(text[end])) {
			return at
		}
		from = end
	}
}
