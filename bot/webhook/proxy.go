package webhook

import (
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// ProxyFromEnv picks proxies as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say, and
// ALL_PROXY where those are not set; net/http alone does not know the last one.
// Names in lower case work too. Schemes: http, https, socks5, socks5h. Loopback
// is never proxied.
func ProxyFromEnv(getenv func(string) string) func(*url.URL) (*url.URL, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := getenv(name); v != "" {
				return v
			}
		}
		return ""
	}
	return (&httpproxy.Config{
		HTTPProxy:  first("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
		HTTPSProxy: first("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
		NoProxy:    first("NO_PROXY", "no_proxy"),
	}).ProxyFunc()
}
