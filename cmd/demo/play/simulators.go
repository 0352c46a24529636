package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// simulatorsPort is where the page of --simulators is; Slack and CircleCI are above it.
const simulatorsPort = 7070

// variables tells how to run one's own daemon and client against the simulators.
func (b *browser) variables() string {
	var text strings.Builder
	text.WriteString("A simulated Slack and CircleCI wait for your own rack-gatewayd. Its variables, for two terminals in one directory:\n\n")
	for _, kv := range b.Environ() {
		for _, prefix := range []string{"SLACK_", "CIRCLECI_", "RGW_APP_", "RGW_POLL_INTERVAL", "RGW_SECRET_KEYS"} {
			if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, prefix) {
				fmt.Fprintf(&text, "export %s='%s'\n", name, value)
			}
		}
	}
	fmt.Fprintf(&text, `
In the first terminal: rack-gatewayd serve
In the second one:

rack-gatewayd user add --slack-id %[1]s --name Ana --vcs-login ana
rack-gatewayd user enroll --slack-id %[1]s   # open the link, and type its key into Ana's phone on the page
rack-gatewayd token create --name ci-%[2]s --role cicd --app %[2]s   # put it into the context of CircleCI on the page
rack-gatewayd check

With the token in the context, the jobs on the page run rack-gateway. Without it each job tells what to run in your own
terminal, after: export RACK_GATEWAY_URL=http://127.0.0.1:8080 RACK_GATEWAY_API_TOKEN=rgw_…
RGW_SECRET_KEYS is new at each start of the simulators; to keep a database for longer, keep its key.
In this Slack are:`, stage.Ana, stage.App)
	for _, p := range cast {
		fmt.Fprintf(&text, " %s (%s)", p.Name, p.ID)
	}
	text.WriteString(". Mallory has a login at CircleCI only.\n\n")
	return text.String()
}

// setContext sets what the jobs are told of the gateway from now on.
func (b *browser) setContext(_ context.Context, _ person, a act) (outcome, error) {
	if !b.opts.simulators {
		return outcome{}, fmt.Errorf("the context is the demo's own")
	}
	u, err := url.Parse(strings.TrimSpace(a.URL))
	if err != nil || a.URL != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return outcome{}, fmt.Errorf("RACK_GATEWAY_URL is no web address")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.url, b.key = u.String(), strings.TrimSpace(a.Token)
	b.bell.ring()
	return outcome{}, nil
}

// scan gives a person's phone a key, as the camera or the keyboard does.
func (b *browser) scan(_ context.Context, who person, a act) (outcome, error) {
	secret, err := totp.ParseSecret(a.Text)
	if err != nil {
		return outcome{}, err
	}
	b.SetSecret(who.ID, secret)
	b.bell.ring()
	return outcome{}, nil
}
