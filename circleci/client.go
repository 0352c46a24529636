// Package circleci is a client for the calls of the CircleCI API v2 that reading, approving and cancelling a held
// workflow need. It answers in the types of package approvals and builds the links that people follow.
//
// The package does not retry and decides nothing: an approve that was accepted is not yet done, and only the job list
// tells whether a gate is open. It remembers only what does not change: logins, the ids of projects and its own user.
//
// What CircleCI answers is checked here, once: ids are UUIDs, and every text is free of control characters and no longer
// than its bound. An answer that breaks these rules is an error.
//
// See https://circleci.com/docs/api/v2.
package circleci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	// DefaultURL is the API base of circleci.com.
	DefaultURL = "https://circleci.com/api/v2"
	// DefaultAppURL is the base of the pages for people on circleci.com.
	DefaultAppURL = "https://app.circleci.com"

	timeout      = 10 * time.Second // of one exchange, its body included
	maxAnswer    = 1 << 20          // bytes of one answer, decompressed
	maxRedirects = 3
)

// Config says where CircleCI is and who we are there.
type Config struct {
	// URL is the API base, path included; empty means DefaultURL.
	URL string
	// AppURL is the base of links for people; empty means DefaultAppURL.
	AppURL string
	// Token is a personal token of the machine user. Project tokens do not work with API v2.
	Token string
	// HTTP supplies the transport; nil, or one without a transport, means http.DefaultTransport. Its redirect policy,
	// cookies and time-out are not used.
	HTTP *http.Client
	// UserAgent is sent with each call; empty means the name of this product.
	UserAgent string
	// OnCall is told about each HTTP exchange: a short fixed name of the operation ("workflow", "approve"), the HTTP
	// status (0 when there was no answer) and how long it took. Optional; must be safe for concurrent use.
	OnCall func(op string, status int, took time.Duration)
	// OnDate is told the Date header of each answer and our time when the answer arrived. An answer counts only if it is
	// CircleCI's own, and not the error page of a proxy: JSON, and no 5xx. Optional; must be safe for concurrent use.
	OnDate func(server, local time.Time)
}

// Client calls CircleCI. It implements approvals.CI and the CIHistory of package audit, and is safe for concurrent use. All
// its errors are *approvals.CIError.
type Client struct {
	cfg   Config
	base  *url.URL
	links Links
	http  *http.Client

	own      memo // our own user id, under the empty key
	logins   memo // by user id
	projects memo // project ids by slug
}

var _ approvals.CI = (*Client)(nil)

// New checks the configuration and makes a client; it calls nobody. Its errors name the faulty field, never a value of
// the token.
func New(cfg Config) (*Client, error) {
	base, err := baseURL(cmp.Or(cfg.URL, DefaultURL))
	if err != nil {
		return nil, fmt.Errorf("circleci API URL: %w", err)
	}
	app, err := baseURL(cmp.Or(cfg.AppURL, DefaultAppURL))
	if err != nil {
		return nil, fmt.Errorf("circleci app URL: %w", err)
	}
	if cfg.Token == "" {
		return nil, errors.New("circleci token: is empty")
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("circleci token: holds blanks or characters that a header cannot carry")
	}
	cfg.UserAgent = cmp.Or(cfg.UserAgent, "rack-gateway-approvals")
	if cfg.OnCall == nil {
		cfg.OnCall = func(string, int, time.Duration) {}
	}
	c := &Client{cfg: cfg, base: base, links: Links{AppURL: app.String()}, http: &http.Client{CheckRedirect: checkRedirect}}
	if cfg.HTTP != nil {
		c.http.Transport = cfg.HTTP.Transport
	}
	return c, nil
}

// Links builds the links for people on the configured app.
func (c *Client) Links() Links { return c.links }

// String keeps the token out of a careless print.
func (c *Client) String() string { return "circleci client for " + c.base.Host }

// GoString keeps the token out of %#v.
func (c *Client) GoString() string { return c.String() }

func baseURL(given string) (*url.URL, error) {
	u, err := url.Parse(given)
	if err != nil {
		// The parser's own error repeats the text, which may hold a password.
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must begin with https:// or http://")
	case u.Hostname() == "":
		return nil, errors.New("has no host")
	case u.User != nil:
		return nil, errors.New("must not hold a user or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must not hold a query or fragment")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// checkRedirect lets only a GET follow, and only on the same scheme and host: net/http would send our token header
// along, and would turn a redirected POST into a GET whose 200 looks like success.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet || len(via) > maxRedirects ||
		req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// call is one HTTP exchange.
type call struct {
	op     string // short name for metrics
	doing  string // the same in words, for errors
	method string
	path   string // below the base; each %s stands for one of the ids
	ids    []id
	query  url.Values
	most   int // bytes of the answer; 0 = maxAnswer
}

// id is a UUID that goes into a path.
type id struct{ name, value string }

// url checks the ids and builds the address.
func (c *Client) url(k call) (string, error) {
	values := make([]any, len(k.ids))
	for i, id := range k.ids {
		if !approvals.IsUUID(id.value) {
			return "", invalid(k.doing, "the "+id.name+" is not a UUID")
		}
		values[i] = id.value
	}
	address := c.base.String() + fmt.Sprintf(k.path, values...)
	if len(k.query) > 0 {
		address += "?" + k.query.Encode()
	}
	return address, nil
}

// do makes one exchange and returns the body of a 2xx answer. Every error is an *approvals.CIError.
func (c *Client) do(ctx context.Context, k call) ([]byte, error) {
	address, err := c.url(k)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, k.method, address, nil)
	if err != nil {
		return nil, invalid(k.doing, "cannot be put into a request")
	}
	req.Header.Set("Circle-Token", c.cfg.Token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.cfg.UserAgent)

	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		c.cfg.OnCall(k.op, 0, time.Since(start))
		return nil, c.noAnswer(k.doing, err)
	}
	defer resp.Body.Close()
	c.dated(resp, time.Now())
	most := cmp.Or(k.most, maxAnswer)
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	ok := resp.StatusCode >= 200 && resp.StatusCode <= 299
	if err != nil && ok && k.method == http.MethodGet {
		// Headers without the whole body tell nothing: the same as no answer. For a POST the status is the answer.
		c.cfg.OnCall(k.op, 0, time.Since(start))
		return nil, c.noAnswer(k.doing, err)
	}
	c.cfg.OnCall(k.op, resp.StatusCode, time.Since(start))
	switch {
	case !ok:
		return nil, c.refusal(k.doing, resp, body)
	case len(body) > most && k.method == http.MethodGet:
		return nil, unusable(k.doing, fmt.Sprintf("it is larger than %d MiB", most>>20))
	}
	return body, nil
}

func (c *Client) dated(resp *http.Response, local time.Time) {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if c.cfg.OnDate == nil || err != nil || kind != "application/json" || resp.StatusCode >= 500 {
		return
	}
	if server, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		c.cfg.OnDate(server, local)
	}
}
