package gatewayd

import (
	"crypto/tls"
	"net/http"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/identity"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// outbound makes the transport for calls to one service.
//
// A router may forget a connection and drop what is sent over it. HTTP/2 would put
// call after call on such a connection, and all of them would time out, until TCP
// gives it up after a quarter of an hour. A ping finds out within 25 seconds.
func outbound() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.MaxIdleConnsPerHost = 16 // as many as there are calls side by side
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}

func userAgent() string { return "rack-gatewayd/" + cli.Version() }

// circle says where CircleCI is and who we are there.
func (c *config) circle() circleci.Config {
	return circleci.Config{
		URL: c.CircleURL, AppURL: c.CircleAppURL, Token: c.CircleToken.reveal(), UserAgent: userAgent(),
		HTTP: &http.Client{Transport: outbound()},
	}
}

// gitHub says where GitHub is. Without a token it is not asked.
func (c *config) gitHub() github.Config {
	return github.Config{
		URL: c.GitHubURL, Token: c.GitHubToken.reveal(), UserAgent: userAgent(),
		HTTP: &http.Client{Transport: outbound()},
	}
}

// issuer says whose OIDC tokens are taken.
func (c *config) issuer() identity.Config {
	return identity.Config{Issuer: c.OIDCIssuer, Audience: c.audience, Transport: outbound()}
}
