package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

const (
	envURL         = "RACK_GATEWAY_URL"
	envToken       = "RACK_GATEWAY_API_TOKEN"
	envTokenFile   = "RACK_GATEWAY_API_TOKEN_FILE"
	envEnvironment = "RACK_GATEWAY_ENV"

	defaultRetryFor = 2 * time.Minute
)

// connect makes the client from the environment. No connection is opened yet.
func (c *cli) connect() (*webhook.Client, error) {
	for _, name := range []string{envURL, envToken} {
		// CircleCI passes `NAME: $NAME` below environment: on as it is written.
		if v := strings.Trim(c.env[name], "{}"); strings.HasPrefix(v, "$") {
			return nil, usage("%s is the name of a variable, not its value: CircleCI does not expand variables below environment:; "+
				"remove the line and set %s in a context or in the project's settings", name, name)
		}
	}
	if c.env[envURL] == "" {
		return nil, usage("%s is not set", envURL)
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	retryFor := time.Duration(c.retryFor)
	if retryFor == 0 {
		retryFor = -1 // to the client 0 means its default
	}
	client, err := webhook.NewClient(webhook.ClientConfig{
		URL: c.env[envURL], Token: token, UserAgent: "rack-gateway/" + programVersion(), RetryFor: retryFor,
		Proxy: webhook.ProxyFromEnv(func(name string) string { return c.env[name] }),
		Retrying: func(err error, pause time.Duration) {
			c.say("%s; trying again in %s", err, pause.Round(100*time.Millisecond))
		},
	})
	if err != nil {
		return nil, usage("%s or %s: %w", envURL, envToken, err)
	}
	if exposed(client.URL()) {
		c.say("Warning: the API token travels unencrypted to %s", client.URL())
	}
	return client, nil
}

func (c *cli) token() (string, error) {
	if token := c.env[envToken]; token != "" {
		return strings.TrimSpace(token), nil
	}
	name := c.env[envTokenFile]
	if name == "" {
		return "", usage("%s is not set", envToken)
	}
	f, err := os.Open(name)
	if err != nil {
		return "", usage("%s: %w", envTokenFile, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err == nil && len(text) == 0 {
		err = errors.New("the file is empty")
	}
	if err != nil {
		return "", usage("%s: %w", envTokenFile, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// tailnets are the addresses of Tailscale (https://tailscale.com/kb/1304), whose
// connections are encrypted below HTTP.
var tailnets = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd7a:115c:a1e0::/48")}

// exposed reports whether a call to base can be read on its way.
func exposed(base string) bool {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" || strings.HasSuffix(u.Hostname(), ".ts.net") {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return true
	}
	for _, p := range tailnets {
		if p.Contains(a.Unmap()) {
			return false
		}
	}
	return !a.IsLoopback()
}

// durationFlag is a duration that is not negative.
type durationFlag time.Duration

func (d *durationFlag) String() string { return time.Duration(*d).String() }
func (d *durationFlag) Type() string   { return "duration" }
func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("must be a duration such as 90s or 20m")
	}
	*d = durationFlag(v)
	return nil
}

// choiceFlag is one of some words.
type choiceFlag struct {
	value   string
	choices []string
}

func (f *choiceFlag) String() string { return f.value }
func (f *choiceFlag) Type() string   { return strings.Join(f.choices, "|") }
func (f *choiceFlag) Set(s string) error {
	for _, c := range f.choices {
		if s == c {
			f.value = s
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", strings.Join(f.choices, ", "))
}
