package gatewayd_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// read has the variables that the daemon reads.
var read = []string{
	"RGW_LISTEN", "RGW_METRICS_LISTEN", "RGW_PUBLIC_URL", "RGW_DATABASE_URL", "RGW_DATABASE_CA_FILE", "RGW_SECRET_KEYS", "RGW_ANCHOR_FILE", "CIRCLECI_TOKEN", "CIRCLECI_URL",
	"CIRCLECI_APP_URL", "GITHUB_TOKEN", "GITHUB_API_URL", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_API_URL", "SLACK_CHANNEL", "RGW_TRUSTED_PROXIES", "RGW_RATE_LIMIT",
	"RGW_POLL_INTERVAL", "RGW_OIDC_ISSUER", "RGW_OIDC_AUDIENCE", "RGW_LOG_FORMAT", "RGW_LOG_LEVEL", "SLACK_SIGNING_SECRET",
}

// reportOn runs a command that stops at its configuration and returns the lines
// of the report.
func reportOn(t *testing.T, env []string, args ...string) []string {
	t.Helper()
	var errs bytes.Buffer
	if code := gatewayd.Run(t.Context(), args, env, strings.NewReader(""), io.Discard, &errs); code != 1 {
		t.Errorf("%q: got exit %d, %s; want 1", args, code, &errs)
	}
	_, report, found := strings.Cut(errs.String(), "fault(s):\n")
	if !found {
		t.Errorf("%q: got %s; want a report on the configuration", args, &errs)
	}
	var lines []string
	for line := range strings.Lines(report) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// complete is a configuration without faults, up to one: the log level stops a
// serve before it does anything, so that reports can be compared in full.
func complete(t *testing.T, more ...string) []string {
	return append([]string{
		"RGW_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "db"), "RGW_SECRET_KEYS=" + storetest.Keys, "CIRCLECI_TOKEN=token",
		"SLACK_BOT_TOKEN=xoxb-1", "SLACK_APP_TOKEN=xapp-1", "SLACK_CHANNEL=C0123", "RGW_LOG_LEVEL=stop",
		"RGW_APP_A_SETTING_VCS_REPO=acme/a", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
	}, more...)
}

const stopped = "RGW_LOG_LEVEL: must be debug, info, warn or error"

// A later variable of the same name counts, so more replaces what complete says.
func checkReport(t *testing.T, env []string, want ...string) {
	t.Helper()
	want = append(want, stopped)
	slices.Sort(want)
	if got := reportOn(t, env, "serve"); !slices.Equal(got, want) {
		t.Errorf("got the report\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"RGW_PUBLIC_URI":      "is not a known variable: did you mean RGW_PUBLIC_URL?",
		"RGW_LISTN":           "is not a known variable: did you mean RGW_LISTEN?",
		"RGW_SECRET_KEY":      "is not a known variable: did you mean RGW_SECRET_KEYS?",
		"RGW_SECRET_KEY_FILE": "is not a known variable: did you mean RGW_SECRET_KEYS_FILE?",
		"RGW_TRUSTED_PROXY":   "is not a known variable: did you mean RGW_TRUSTED_PROXIES?",
		"RGW_POLL":            "is not a known variable: did you mean RGW_POLL_INTERVAL?",
		"RGW_LISTEN_FILE":     "is not a known variable: did you mean RGW_LISTEN?",
		"RGW_Listen":          "is not a known variable: did you mean RGW_LISTEN?",
		"RGW_SLACK_CHANNEL":   "is not a known variable: did you mean SLACK_CHANNEL?",
		"RGW_SETTINGS_NOTIFY": "is not a known variable: did you mean RGW_SETTING_NOTIFY?",
		"RGW_SUPERSEDE":       "is not a known variable: did you mean RGW_SETTING_SUPERSEDE?",
		"RGW_A_SETTING_X":     "is not a known variable: did you mean RGW_APP_A_SETTING_X?",
		// A setting of security that does nothing yet must not look as if it did.
		"RGW_GATE_KEEPER":                       "is not a known variable: cmd/rack-gatewayd/README.md lists all of them",
		"RGW_":                                  "is not a known variable: cmd/rack-gatewayd/README.md lists all of them",
		"RGW_SETTING_PENDING_TTLS":              "is not a known setting: did you mean RGW_SETTING_PENDING_TTL?",
		"RGW_APP_A_SETTING_ALLOWED_BRANCH":      "is not a known setting: did you mean RGW_APP_A_SETTING_ALLOWED_BRANCHES?",
		"RGW_APP_A_ENV_B_SETTING_APPROVER":      "is not a known setting: did you mean RGW_APP_A_ENV_B_SETTING_APPROVERS?",
		"RGW_APP_A_SETTING_Notify":              "is not a known setting: did you mean RGW_APP_A_SETTING_NOTIFY?",
		"RGW_APP_A_SETTING_DEPLOY_JOBS":         "is not a known setting: did you mean RGW_APP_A_SETTING_CIRCLECI_DEPLOY_JOBS?",
		"RGW_APP_A_SETTING_WHATEVER_ELSE_IT_IS": "is not a known setting: cmd/rack-gatewayd/README.md lists all of them",
		"RGW_APP_A_NOTIFY":                      "has no _SETTING_<KEY> part",
	} {
		for _, value := range []string{"secretvalue", ""} {
			checkReport(t, complete(t, name+"="+value), name+": "+want)
		}
	}
	// None of these is ours, or Kubernetes makes it for a service.
	checkReport(t, complete(t, "RGW_PORT=tcp://10.0.0.1:80", "RGW_PORT_80_TCP=tcp://10.0.0.1:80", "RGW_PORT_80_TCP_PROTO=tcp", "RGW_SERVICE_HOST=10.0.0.1",
		"RGW_APP_PORT=tcp://10.0.0.1:80", "RGW_APP_PORT_53_UDP_ADDR=10.0.0.1", "RGW_APP_SERVICE_PORT=80", "RGW_APP_SERVICE_PORT_HTTP=80",
		"RACK_GATEWAY_URL=x", "RGWX=1", "GITHUB_TOKEN=x", "SLACK_TOKEN=x", "=C:=x", "novalue"))
}

// The operator's commands read a part of the variables and know all: a typo in the
// URL of the database must not lead to an empty one.
func TestOperatorCommandsKnowAllVariables(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.must("user", "add", "--slack-id", "U0ANA")
	o.env = append(o.env, "RGW_LISTEN=bad", "RGW_METRICS_LISTEN=bad", "RGW_APP_A_SETTING_NOPE=1", "RGW_SETTING_NOPE=1", "RGW_PORT=tcp://10.0.0.1:80", "SLACK_CHANNEL='x'")
	o.must("user", "list")
	for _, args := range [][]string{{"user", "list"}, {"token", "list"}, {"audit", "export"}, {"audit", "reconcile", "--from", "2026-01-01"}, {"settings", "show", "--app", "a"}} {
		got := reportOn(t, append(slices.Clone(o.env), "RGW_DATABASE_URI=sqlite:x"), args...)
		if !slices.Contains(got, "RGW_DATABASE_URI: is not a known variable: did you mean RGW_DATABASE_URL?") {
			t.Errorf("%q: got the report %q; want the unknown variable in it", args, got)
		}
	}
	for _, args := range [][]string{{"version"}, {"keygen"}, {"manifest"}} {
		var errs bytes.Buffer
		if code := gatewayd.Run(t.Context(), args, []string{"RGW_NOPE=1"}, strings.NewReader(""), io.Discard, &errs); code != 0 {
			t.Errorf("%q: got exit %d, %s; want 0: it needs no variable", args, code, &errs)
		}
	}
}

// Each variable that is read, quoted: one fault, which says so and no more.
func TestVariablesInQuotes(t *testing.T) {
	t.Parallel()
	for _, name := range read {
		if name == "RGW_LOG_LEVEL" || name == "SLACK_SIGNING_SECRET" {
			continue // complete has a fault of the first and the other of the second
		}
		for _, value := range []string{`"secretvalue"`, `'secretvalue'`, `"secretvalue`, " \"secretvalue\"\r\n", `""`} {
			checkReport(t, complete(t, name+"="+value), name+": is in quotes: write the value without them")
		}
	}
	file := filepath.Join(t.TempDir(), "token")
	for _, text := range []string{`"xoxb-secretvalue"`, "'xoxb-secretvalue'\r\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		checkReport(t, complete(t, "SLACK_BOT_TOKEN=", "SLACK_BOT_TOKEN_FILE="+file), "SLACK_BOT_TOKEN_FILE: what the file holds is in quotes: write the value without them")
	}
	checkReport(t, complete(t, "SLACK_BOT_TOKEN=", `SLACK_BOT_TOKEN_FILE="`+file+`"`), "SLACK_BOT_TOKEN_FILE: is in quotes: write the value without them")
}

// Blanks and line ends around a value are not a part of it.
func TestVariablesAreTrimmed(t *testing.T) {
	t.Parallel()
	env := complete(t)
	for i := range env {
		name, value, _ := strings.Cut(env[i], "=")
		env[i] = name + "= \t" + value + " \r\n"
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("\ufeff xoxb-1 \r\n\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkReport(t, append(env, "RGW_LISTEN= 127.0.0.1:1\r", "RGW_METRICS_LISTEN=127.0.0.1:2 ", "RGW_PUBLIC_URL=https://x\n", "RGW_TRUSTED_PROXIES= 10.0.0.0/8\r", "RGW_RATE_LIMIT=5\r",
		"RGW_POLL_INTERVAL= 5s", "RGW_LOG_FORMAT=json\r", "CIRCLECI_URL=https://x \r", "CIRCLECI_APP_URL=https://x\r", "SLACK_API_URL= https://x/ ",
		"SLACK_BOT_TOKEN= \r\n", "SLACK_BOT_TOKEN_FILE= "+file+"\r\n", "SLACK_SIGNING_SECRET=\r\n"))

	show := func(env ...string) (channel string) {
		var out, errs bytes.Buffer
		env = append([]string{"RGW_APP_A_SETTING_VCS_REPO=acme/a\r", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold"}, env...)
		code := gatewayd.Run(t.Context(), []string{"settings", "show", "--app", "a", "-o", "json"}, env, strings.NewReader(""), &out, &errs)
		var rows []struct{ Key, Value, Source string }
		if err := json.Unmarshal(out.Bytes(), &rows); code != 0 || err != nil {
			t.Errorf("settings show: got exit %d, %v, %s; want 0", code, err, &errs)
		}
		for _, r := range rows {
			if r.Key == "slack_channel" {
				channel = r.Value + " from " + r.Source
			}
		}
		return channel
	}
	if got := show("SLACK_CHANNEL= C0123\r\n"); got != "C0123 from SLACK_CHANNEL" {
		t.Errorf("settings show: got the channel %q; want it trimmed", got)
	}
}

// What is not set is told in words, so that nobody takes it for nothing at all.
func TestSettingsInWords(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	env := []string{"RGW_APP_A_SETTING_VCS_REPO=acme/a", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold", "RGW_APP_A_SETTING_NOTIFY=U0ANA", "SLACK_CHANNEL=C0123"}
	if code := gatewayd.Run(t.Context(), []string{"settings", "show", "--app", "a"}, env, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("got exit %d, %s; want 0", code, &errs)
	}
	for key, want := range map[string]string{
		"approvers": "every admin default", "notify": "U0ANA RGW_APP_A_SETTING_NOTIFY", "allowed_branches": "all default", "freeze": "none default",
		"remind_after": "none default", "break_glass": "nobody default", "circleci_deploy_jobs": "all behind the gate default", "circleci_project_id": "- default",
	} {
		if got := strings.Join(strings.Fields(out.String()), " ") + " "; !strings.Contains(got, " "+key+" "+want+" ") {
			t.Errorf("got %s; want %s: %s", &out, key, want)
		}
	}
}

func TestTokensAreOneWord(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"CIRCLECI_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"} {
		for _, value := range []string{"xoxb-1 secretvalue", "xapp-1\r\nsecretvalue", "a\x00b"} {
			checkReport(t, complete(t, name+"="+value), name+": must be one word: there is a blank, a line end or a control character in it")
		}
	}
}

func TestPathsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, path := range []string{`"x"`, `'x`, " x", "\tx", "file:x", "file:///x", "FILE:x"} {
		checkReport(t, complete(t, "RGW_DATABASE_URL=sqlite:"+path), "RGW_DATABASE_URL: the path behind sqlite: begins with a quote, a blank or file:; write the path alone")
	}
	checkReport(t, complete(t, "RGW_ANCHOR_FILE=file:///x"), "RGW_ANCHOR_FILE: must be a path, without file:")
}

// A fault between variables names all of them, as they were given.
func TestFaultsBetweenVariables(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("xapp-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	const only = ": set only one of them, the first for Socket Mode, the second for HTTP"
	checkReport(t, complete(t, "SLACK_SIGNING_SECRET=s"), "SLACK_APP_TOKEN and SLACK_SIGNING_SECRET"+only)
	checkReport(t, complete(t, "SLACK_APP_TOKEN=", "SLACK_APP_TOKEN_FILE="+file, "SLACK_SIGNING_SECRET=s"), "SLACK_APP_TOKEN_FILE and SLACK_SIGNING_SECRET"+only)
	checkReport(t, complete(t, "SLACK_APP_TOKEN="), "SLACK_APP_TOKEN: required: set it for Socket Mode, or SLACK_SIGNING_SECRET for HTTP")
	checkReport(t, complete(t, "SLACK_APP_TOKEN_FILE="+file), "SLACK_APP_TOKEN and SLACK_APP_TOKEN_FILE: set only one of them")
	checkReport(t, complete(t, "RGW_LISTEN=:1", "RGW_METRICS_LISTEN=:1"), "RGW_LISTEN and RGW_METRICS_LISTEN: must differ")
	checkReport(t, complete(t, "RGW_APP_B_SETTING_VCS_REPO=acme/a", "RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold"),
		"RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME and RGW_APP_B_SETTING_CIRCLECI_APPROVAL_JOB_NAME: a/default and b/default share one project "+
			"(RGW_APP_A_SETTING_VCS_REPO and RGW_APP_B_SETTING_VCS_REPO) and one gate: give each a gate of its own")
}

// The page of the daemon has a row for each setting and each variable.
func TestTablesOfTheREADME(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../rack-gatewayd/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(approvals.SettingKeys(), read...) {
		if !regexp.MustCompile("(?m)^\\| `" + name + "`( ◆)? \\| [^|]+ \\| ").Match(text) {
			t.Errorf("cmd/rack-gatewayd/README.md has no row for %s", name)
		}
	}
}

// Tokens travel encrypted, or not at all beyond this machine.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	for url, open := range map[string]bool{
		"http://circleci.com/api/v2": true, "http://10.0.0.7:8080": true, "http://localhost.evil.example": true, "http://[2001:db8::1]/": true,
		"http://localhost:8080/": false, "http://slack.localhost/": false, "http://127.1.2.3/": false, "http://[::1]:1/": false, "http://[::ffff:127.0.0.1]/": false, "https://slack.com/api/": false,
	} {
		var want []string
		if open {
			want = []string{"CIRCLECI_URL: must be an https URL: the token would travel unencrypted", "SLACK_API_URL: must be an https URL: the token would travel unencrypted"}
		}
		checkReport(t, complete(t, "CIRCLECI_URL="+url, "SLACK_API_URL="+url), want...)
	}
}

// A fault names the variable that has to change.
func TestFaultsNameTheirOwnVariable(t *testing.T) {
	t.Parallel()
	const server = "RGW_DATABASE_URL=postgres://u@db.example/rgw"
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"no CA":          {[]string{server, "RGW_DATABASE_CA_FILE=/nonexistent"}, []string{"RGW_DATABASE_CA_FILE: the CA file cannot be read: open /nonexistent: no such file or directory"}},
		"no URL, no CA":  {[]string{"RGW_DATABASE_URL=nonsense", "RGW_DATABASE_CA_FILE=/nonexistent"}, []string{"RGW_DATABASE_URL: must be sqlite:PATH or postgres://…"}},
		"listen":         {[]string{"RGW_LISTEN=:http", "RGW_METRICS_LISTEN=:65536"}, []string{"RGW_LISTEN: must be host:port", "RGW_METRICS_LISTEN: must be host:port"}},
		"longest poll":   {[]string{"RGW_POLL_INTERVAL=24h"}, nil},
		"poll too short": {[]string{"RGW_POLL_INTERVAL=999ms"}, []string{"RGW_POLL_INTERVAL: must be a duration from 1s to 24h"}},
		"poll too long":  {[]string{"RGW_POLL_INTERVAL=24h1s"}, []string{"RGW_POLL_INTERVAL: must be a duration from 1s to 24h"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkReport(t, complete(t, c.env...), c.want...)
		})
	}
}

func TestOIDCVariables(t *testing.T) {
	t.Parallel()
	const org, project = "8d7a5c0e-1b2f-4a3c-9d4e-5f6a7b8c9d0e", "c0ffee00-1111-4222-8333-444455556666"
	takes := []string{"RGW_SETTING_CI_IDENTITY=oidc", "RGW_APP_A_SETTING_CIRCLECI_PROJECT_ID=" + project}
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"right":          {append(takes, "RGW_OIDC_ISSUER=https://oidc.circleci.com/org/"+org), nil},
		"audience":       {append(takes, "RGW_OIDC_ISSUER=https://oidc.circleci.com/org/"+org, "RGW_OIDC_AUDIENCE=gateway"), nil},
		"no issuer":      {takes, []string{"RGW_OIDC_ISSUER: required, because RGW_SETTING_CI_IDENTITY takes OIDC tokens: https://oidc.circleci.com/org/<organisation id>"}},
		"audience alone": {[]string{"RGW_OIDC_AUDIENCE=gateway"}, []string{"RGW_OIDC_AUDIENCE and RGW_OIDC_ISSUER: set the issuer as well, or none of them"}},
		"organisation as audience": {append(takes, "RGW_OIDC_ISSUER=https://oidc.circleci.com/org/"+org, "RGW_OIDC_AUDIENCE="+org),
			[]string{"RGW_OIDC_AUDIENCE: must not be the organisation's id: every job of CircleCI has a token for that audience"}},
		"root issuer": {append(takes, "RGW_OIDC_ISSUER=https://oidc.circleci.com"),
			[]string{"RGW_OIDC_ISSUER: must name your organisation: https://oidc.circleci.com/org/<organisation id>"}},
		"unprotected": {append(takes, "RGW_OIDC_ISSUER=http://oidc.circleci.com/org/"+org),
			[]string{"RGW_OIDC_ISSUER: must be an https URL: the keys would travel unprotected"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkReport(t, complete(t, c.env...), c.want...)
		})
	}
}
