package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// ProxyVariable is the client's own variable for a proxy. It exists because the
// standard ones also reach every other program of a job: the deploy's command
// would then talk to its cloud through the tailnet of the gateway.
const ProxyVariable = "RACK_GATEWAY_PROXY"

// ProxyFromEnv picks the proxy for a URL. RACK_GATEWAY_PROXY wins over
// everything. Without it HTTPS_PROXY, HTTP_PROXY and NO_PROXY count, and
// ALL_PROXY where the first two are not set; net/http alone does not know the
// last one. Names in lower case work too, and loopback is not proxied then.
// Schemes are http, https, socks5 and socks5h.
//
// A value that is no proxy is an error that names the variable and not the
// value, which may hold a password. httpproxy alone would go without a proxy.
func ProxyFromEnv(getenv func(string) string) func(*url.URL) (*url.URL, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := strings.TrimSpace(getenv(name)); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	return func(target *url.URL) (*url.URL, error) {
		if _, value := first(ProxyVariable); value != "" {
			return parseProxy(ProxyVariable, value)
		}
		names := []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}
		if target.Scheme == "http" {
			names = []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}
		}
		name, value := first(names...)
		if value == "" {
			return nil, nil
		}
		proxy, err := parseProxy(name, value)
		if err != nil {
			return nil, err
		}
		_, exceptions := first("NO_PROXY", "no_proxy")
		standard := httpproxy.Config{HTTPProxy: proxy.String(), HTTPSProxy: proxy.String(), NoProxy: exceptions}
		return standard.ProxyFunc()(target)
	}
}

// parseProxy reads a proxy's URL. Without a scheme it is http, as everywhere.
func parseProxy(name, value string) (*url.URL, error) {
	if strings.ContainsAny(value[:1]+value[len(value)-1:], `"'`) {
		return nil, fmt.Errorf("%s has quotes around its value: remove them", name)
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err == nil {
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
			if u.Hostname() != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" {
				return u, nil
			}
		}
	}
	return nil, fmt.Errorf("%s must be a proxy's URL with the scheme http, https, socks5 or socks5h, such as socks5h://localhost:1055", name)
}

// proxyRefusal is the error for a call that a proxy did not pass on.
func proxyRefusal(proxy *url.URL, target string, status int) *ForeignAnswer {
	fault := "it did not connect us to " + target
	switch {
	case status == http.StatusProxyAuthRequired:
		fault = "it asks for a user and a password, or does not accept those in its URL; the call did not get to " + target
	case status/100 == 5:
		fault = "it could not reach " + target
	}
	return &ForeignAnswer{Status: status, By: "the proxy at " + address(proxy), Fault: fault, Proxy: true}
}

// forwarded reports whether an HTTP proxy sees whole calls and answers them
// itself, which it does for plain http. For https it only connects.
func (c *Client) forwarded() bool {
	return c.via != nil && strings.HasPrefix(c.via.Scheme, "http") && strings.HasPrefix(c.base, "http://")
}

// noAnswer turns the failure of a call into an error that says whom it could
// not reach.
func (c *Client) noAnswer(err error) error {
	var refused *ForeignAnswer
	if errors.As(err, &refused) {
		return refused
	}
	// The text of url.Error repeats the URL, which is said already.
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	e := &ConnectionError{To: c.base, Err: err}
	if c.via != nil {
		e.Proxy = address(c.via)
	}
	return e
}
