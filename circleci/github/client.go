// Package github is a client for the few calls of GitHub's REST API that tell people what a deploy brings: the commits
// since the last deploy, the pull request, and whether the CI configuration is the file of the commit. It only reads.
//
// Nothing waits for GitHub: while it does not answer, or asks to wait, calls fail at once for a while. Answers are
// bounded, and texts hold no control characters.
//
// See https://docs.github.com/en/rest.
package github

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// DefaultURL is the API base of github.com.
const DefaultURL = "https://api.github.com"

const (
	apiVersion   = "2022-11-28"
	timeout      = 10 * time.Second // of one exchange
	maxAnswer    = 4 << 20          // bytes of one answer
	maxRedirects = 3

	restDown    = 10 * time.Second // after no answer, or a 5xx
	restLimited = time.Minute      // when GitHub limits the rate and does not say for how long
	restMost    = time.Hour
)

// Config says where GitHub is.
type Config struct {
	// URL is the API base; empty means DefaultURL. For GitHub Enterprise Server it ends in /api/v3.
	URL string
	// Token needs read access to the contents and pull requests of the repositories.
	Token string
	// HTTP supplies the transport; nil means http.DefaultTransport.
	HTTP *http.Client
	// UserAgent is sent with each call; empty means the name of this product. GitHub refuses calls without one.
	UserAgent string
}

// Client asks GitHub. It implements approvals.CodeHost and is safe for concurrent use. All its errors are
// *approvals.CIError.
type Client struct {
	cfg  Config
	http *http.Client

	mu    sync.Mutex
	until time.Time // no call is made before
	why   string
}

var _ approvals.CodeHost = (*Client)(nil)

// New checks the configuration and makes a client; it calls nobody. Its errors never hold the token.
func New(cfg Config) (*Client, error) {
	cfg.URL, cfg.UserAgent = cmp.Or(cfg.URL, DefaultURL), cmp.Or(cfg.UserAgent, "rack-gateway-approvals")
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("GitHub API URL: must be an http or https URL without user and query")
	}
	if cfg.Token == "" || strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("GitHub token: is empty, or holds characters that a header cannot carry")
	}
	cfg.URL = strings.TrimRight(u.String(), "/")
	c := &Client{cfg: cfg, http: &http.Client{CheckRedirect: checkRedirect}}
	if cfg.HTTP != nil {
		c.http.Transport = cfg.HTTP.Transport
	}
	return c, nil
}

// String keeps the token out of a careless print.
func (c *Client) String() string { return "github client for " + c.cfg.URL }

// GoString keeps the token out of %#v.
func (c *Client) GoString() string { return c.String() }

// checkRedirect follows a renamed repository, and nobody to another host: net/http would send the token along.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.URL.Scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// object reads the JSON that answers a GET.
func (c *Client) object(ctx context.Context, doing, path string, v any) error {
	return c.ask(ctx, doing, path, acceptJSON, func(_ string, body io.Reader) error { return json.NewDecoder(body).Decode(v) })
}

// ask makes one GET of a path, which is escaped and has its query. doing says so in words, for errors. read takes in the
// body of a 200, whose media type it is told. It may stop before the end.
func (c *Client) ask(ctx context.Context, doing, path, accept string, read func(mediaType string, body io.Reader) error) error {
	if err := c.resting(doing); err != nil {
		return err
	}
	begun := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.URL+path, nil)
	if err != nil {
		return invalid(doing, "cannot be put into a request")
	}
	req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	req.Header.Set("X-GitHub-Api-Version", apiVersion)
	resp, err := c.http.Do(req)
	if err != nil {
		// That our caller went away, or waits no longer, says nothing of GitHub.
		if begun.Err() == nil {
			c.rest(restDown, "GitHub did not answer")
		}
		return &approvals.CIError{Op: doing, Message: "no answer from GitHub", Err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.refused(doing, resp)
	}
	body := &io.LimitedReader{R: resp.Body, N: maxAnswer + 1}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // "" is none that anybody wants
	err = read(mediaType, body)
	switch {
	case ctx.Err() != nil:
		return &approvals.CIError{Op: doing, Message: "no answer from GitHub", Err: ctx.Err()}
	case body.N <= 0:
		return unusable(doing, fmt.Sprintf("it is larger than %d MiB", maxAnswer>>20))
	case err != nil:
		return unusable(doing, "it is not what the API promises")
	}
	return nil
}

// invalid is the error of a call that is not made.
func invalid(doing, message string) *approvals.CIError {
	return &approvals.CIError{Op: doing, Message: message, Err: approvals.ErrCIInvalid}
}

// unusable is the error of an answer that will not be another one when it is asked for again.
func unusable(doing, why string) *approvals.CIError {
	return &approvals.CIError{Op: doing, Status: http.StatusUnprocessableEntity, Message: "the answer from GitHub cannot be used: " + why}
}

const tooMany = "GitHub limits the rate of calls"

// refused is the error of an answer that is no 200. Both of GitHub's limits answer with 403 or 429.
// Source: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
func (c *Client) refused(doing string, resp *http.Response) *approvals.CIError {
	e := &approvals.CIError{Op: doing, Status: resp.StatusCode, Message: fmt.Sprintf("GitHub answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
	limited := resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusForbidden && (resp.Header.Get("X-RateLimit-Remaining") == "0" || resp.Header.Get("Retry-After") != "")
	switch {
	case limited:
		e.Status = http.StatusTooManyRequests // what 403 means otherwise does not go away
		e.Message, e.RetryAfter = tooMany, limit(resp.Header, time.Now())
	case resp.StatusCode >= 500:
		e.RetryAfter = restDown
	}
	c.rest(e.RetryAfter, e.Message)
	return e
}

// limit is how long GitHub asks to wait.
func limit(h http.Header, now time.Time) time.Duration {
	wait := restLimited
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil {
		wait = time.Duration(s) * time.Second
	} else if at, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil && h.Get("X-RateLimit-Remaining") == "0" {
		wait = time.Unix(at, 0).Sub(now)
	}
	return min(max(wait, time.Second), restMost)
}

// Rest implements approvals.CodeHost.
func (c *Client) Rest(d time.Duration) { c.rest(d, tooMany) }

// rest makes no calls for a while.
func (c *Client) rest(pause time.Duration, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := time.Now().Add(pause); until.After(c.until) {
		c.until, c.why = until, why
	}
}

// resting says why no call is made now, nil when it is.
func (c *Client) resting(doing string) *approvals.CIError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.until); left > 0 {
		return &approvals.CIError{Op: doing, Status: http.StatusTooManyRequests, Message: c.why + " and is not asked again yet", RetryAfter: left, Err: approvals.ErrCIResting}
	}
	return nil
}
