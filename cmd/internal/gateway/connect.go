package gateway

import (
	"errors"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

const (
	envURL         = "RACK_GATEWAY_URL"
	envToken       = "RACK_GATEWAY_API_TOKEN"
	envTokenFile   = "RACK_GATEWAY_API_TOKEN_FILE"
	envEnvironment = "RACK_GATEWAY_ENV"
	envProxy       = webhook.ProxyVariable

	defaultRetryFor = 2 * time.Minute
)

// connect makes the client from the environment. No connection is opened yet.
func (c *program) connect() (*webhook.Client, error) { return c.connectFor(time.Duration(c.retryFor)) }

// connectFor makes a client that repeats failing calls for so long; 0 = not at all.
func (c *program) connectFor(retryFor time.Duration) (*webhook.Client, error) {
	base, err := c.setting(envURL)
	if err != nil {
		return nil, err
	}
	if base == "" {
		return nil, cli.Usage("%s is not set", envURL)
	}
	if base, err = webhook.BaseURL(base); err != nil {
		return nil, cli.Usage("%w", err)
	}
	token, mint, err := c.credential(base)
	if err != nil {
		return nil, err
	}
	if retryFor == 0 {
		retryFor = -1 // to the client 0 means its default
	}
	client, err := webhook.NewClient(webhook.ClientConfig{
		URL: base, Token: token, Mint: mint, UserAgent: "rack-gateway/" + cli.Version(), RetryFor: retryFor,
		Proxy: webhook.ProxyFromEnv(func(name string) string { return c.env[name] }),
		Retrying: func(err error, pause time.Duration) {
			c.Say("%s; trying again in %s", err, cli.Duration(pause.Round(100*time.Millisecond)))
		},
	})
	if err != nil {
		return nil, cli.Usage("%w", err)
	}
	if c.exposed(client) {
		c.Say("Warning: the token travels unencrypted to %s", client.URL())
	}
	return client, nil
}

// setting reads a variable that names the gateway or opens it. Blanks and line
// ends around a value come from copying and from files, so they do not count.
// Quotes and names of variables come from configuration files that do not expand
// them; the value would never work, so this is a fault with a sentence.
func (c *program) setting(name string) (string, error) {
	v := strings.TrimSpace(c.env[name])
	if v == "" {
		return "", nil
	}
	// CircleCI passes `NAME: $NAME` below environment: on as it is written.
	if strings.HasPrefix(strings.Trim(v, "{}\"'"), "$") {
		return "", cli.Usage("%s is the name of a variable, not its value: CircleCI does not expand variables below environment:; "+
			"remove the line and set %s in a context or in the project's settings", name, name)
	}
	if strings.ContainsAny(v[:1]+v[len(v)-1:], `"'`) {
		return "", cli.Usage("%s has quotes around its value: remove them", name)
	}
	return v, nil
}

// token reads the API token from its variable or its file; "" when neither is set.
func (c *program) token() (string, error) {
	if token, err := c.setting(envToken); token != "" || err != nil {
		return token, err
	}
	name := strings.TrimSpace(c.env[envTokenFile])
	if name == "" {
		return "", nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", cli.Usage("%s: %w", envTokenFile, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	token := strings.TrimSpace(string(text))
	switch {
	case err != nil:
	case token == "":
		err = errors.New("the file is empty")
	case strings.ContainsAny(token[:1]+token[len(token)-1:], `"'`):
		err = errors.New("the file has quotes around the token: remove them")
	}
	if err != nil {
		return "", cli.Usage("%s: %w", envTokenFile, err)
	}
	return token, nil
}

// tailnets are the addresses of Tailscale (https://tailscale.com/kb/1304), whose
// connections are encrypted below HTTP.
var tailnets = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fd7a:115c:a1e0::/48")}

// exposed reports whether the token can be read on its way to the gateway.
func (c *program) exposed(client *webhook.Client) bool {
	u, err := url.Parse(client.URL())
	if err != nil || u.Scheme != "http" {
		return false
	}
	// A proxy on this machine that was set for us alone is the tailnet's
	// (tailscaled --socks5-server), which encrypts.
	if v := strings.TrimSpace(c.env[envProxy]); v != "" && private(hostOf(client.Proxy())) {
		return false
	}
	return !private(u.Hostname())
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// private reports whether nobody can listen between us and a host: it is this
// machine, or a node of a tailnet. Names without a dot are MagicDNS's, or of
// another network that knows its hosts by short names, such as Docker's.
func private(host string) bool {
	host = strings.TrimSuffix(host, ".")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host != "" && !strings.Contains(host, ".") || strings.HasSuffix(strings.ToLower(host), ".ts.net")
	}
	a = a.Unmap().WithZone("")
	for _, p := range tailnets {
		if p.Contains(a) {
			return true
		}
	}
	return a.IsLoopback()
}
