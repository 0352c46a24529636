package attack_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// mistakes are calls, texts and configurations with secrets in the wrong places.
func (c *canary) mistakes() {
	c.t.Helper()
	api := c.URL + "/api/v1/deploy-approval-requests"
	for _, header := range []string{"Bearer " + c.Token + "x", "Basic " + c.Token, "Bearer xoxb-simulated", c.Token} {
		req, err := http.NewRequest(http.MethodGet, api, nil)
		must(c.t, err)
		req.Header.Set("Authorization", header)
		c.call(req, nil)
	}
	for _, path := range []string{"?token=" + c.Token, "/" + c.Token, "?status=" + c.Token, "?limit=" + c.Token} {
		req, err := http.NewRequest(http.MethodGet, api+path, nil)
		must(c.t, err)
		c.call(req, nil)
	}
	for _, body := range []string{`{"app":"` + c.Token + `"}`, `{"app":"myapp","app":"x"}`, c.Token, `{"app":"myapp","git_commit":"` + c.Token + `"}`} {
		req, err := http.NewRequest(http.MethodPost, api, strings.NewReader(body))
		must(c.t, err)
		req.Header.Set("Authorization", "Bearer "+c.Token)
		req.Header.Set("Content-Type", "application/json")
		if answer := c.call(req, nil); strings.Contains(answer, `"status":20`) {
			c.t.Errorf("%s: got it accepted", answer)
		}
	}
	for _, raw := range []string{"GET /" + c.Token + " HTTP/9.9\r\n\r\n", c.Token + "\r\n\r\n", "GET / HTTP/1.1\r\n" + c.Token + "\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.URL, "http://"))
		must(c.t, err)
		fmt.Fprint(conn, raw)
		answer, _ := io.ReadAll(conn) // closed or reset: both are answers
		conn.Close()
		c.saw("answers to what is no HTTP", answer)
	}
	c.operator("", "token", "revoke", "nobody")
	c.operator("not base32: "+c.keys[stage.Ana].Base32()+"!\n", "user", "enroll", "--slack-id", stage.Carl, "--secret-stdin")
	// A configuration with everything in the wrong place is reported by name alone.
	circle, bot := c.Variable("CIRCLECI_TOKEN"), c.Variable("SLACK_BOT_TOKEN")
	env := append(slices.Clone(c.Environ()), "CIRCLECI_URL="+circle, "SLACK_API_URL="+bot, "SLACK_BOT_TOKEN="+circle, "SLACK_APP_TOKEN="+bot, "SLACK_CHANNEL="+bot,
		"RGW_LISTEN="+circle, "RGW_SECRET_KEYS=k:"+circle, "RGW_POLL_INTERVAL="+bot, "RGW_PUBLIC_URL=http://u:"+circle+"@x/?t="+bot,
		"RGW_LOG_LEVEL="+circle, "RGW_RATE_LIMIT="+bot, "RGW_TRUSTED_PROXIES="+circle, "RGW_APP_MYAPP_SETTING_PENDING_TTL="+bot)
	for _, args := range [][]string{{"serve"}, {"check"}, {"settings", "show", "--app", stage.App}, {"user", "list"}, {"user", "enroll", "--slack-id", stage.Ana}} {
		var out bytes.Buffer
		if code := gatewayd.Run(c.ctx, args, env, strings.NewReader(""), &out, &out); code == 0 {
			c.t.Errorf("%v with a wrong configuration: got exit 0", args)
		}
		c.saw("report on a wrong configuration", out.Bytes())
	}
}

// TestSecretsInTheWrongPlaceAreNotRepeated: somebody pastes a token where a name or an id
// belongs. (Threat 19)
func TestSecretsInTheWrongPlaceAreNotRepeated(t *testing.T) {
	t.Parallel()
	var log buffer
	w := newWorld(t, stage.Options{Log: &log, Env: []string{"RGW_LOG_LEVEL=debug"}})
	must(t, w.Start(w.ctx))
	t.Run("token revoke with the token's text", func(t *testing.T) {
		r := w.Operator(w.ctx, "", "token", "revoke", w.Token)
		if strings.Contains(r.Stdout+r.Stderr, w.Token) {
			t.Errorf("got the token on the terminal (exit %d)", r.Code)
		}
	})
	for _, tt := range []struct{ name, id, body string }{
		{"X-Request-Id", w.Token, ""},
		{"name of a field", "", `{"` + w.Token + `":1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.URL+"/api/v1/deploy-approval-requests", strings.NewReader(tt.body))
			must(t, err)
			req.Header.Set("Authorization", "Bearer "+w.Token)
			req.Header.Set("Content-Type", "application/json")
			if tt.id != "" {
				req.Header.Set("X-Request-Id", tt.id)
			}
			before := len(log.String())
			res, err := http.DefaultClient.Do(req)
			must(t, err)
			res.Body.Close()
			// The line of a call is written before its answer ends.
			if strings.Contains(log.String()[before:], w.Token) {
				t.Error("got the token in the log")
			}
		})
	}
}
