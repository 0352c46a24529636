package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const (
	defaultRetryFor = 2 * time.Minute
	attemptTime     = 45 * time.Second // longer than the server takes for any call
	maxAnswer       = 8 << 20
)

// ClientConfig builds a [Client].
type ClientConfig struct {
	// URL is the gateway's base, such as https://gateway.example.ts.net. Without
	// a scheme it is https.
	URL string
	// Token is the API token; it is sent in a header only and never shown.
	Token string
	// Mint gives the token of each call instead, such as one that has to be renewed.
	// Its error is that of the call. nil = Token.
	Mint func(context.Context) (string, error)
	// UserAgent names the program.
	UserAgent string
	// RetryFor is how long a failing call is repeated; 0 = 2 minutes, negative =
	// not at all.
	RetryFor time.Duration
	// Proxy picks the proxy of a request; nil = none. See [ProxyFromEnv].
	Proxy func(*url.URL) (*url.URL, error)
	// Retrying is told of every failure that is followed by another try; nil =
	// nobody.
	Retrying func(err error, pause time.Duration)
}

// Client calls the API. Its errors are *[Problem] when the gateway refused,
// *[ForeignAnswer] when what came back does not count as the gateway's answer
// to the call, and *[ConnectionError] when nothing came back.
type Client struct {
	base      string
	via       *url.URL // the proxy; nil = none
	token     func(context.Context) (string, error)
	userAgent string
	retryFor  time.Duration
	retrying  func(error, time.Duration)
	http      *http.Client
}

// ConnectionError is a call that got no answer.
type ConnectionError struct {
	To    string // the gateway's base URL
	Proxy string // the proxy that the call went through; "" = none
	Err   error
}

func (e *ConnectionError) Error() string {
	text := "no answer from the gateway at " + e.To
	if e.Proxy != "" {
		text += " through the proxy at " + e.Proxy
	}
	return text + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *ConnectionError) Unwrap() error { return e.Err }

var tokenPattern = regexp.MustCompile(`^[!-~]+$`)

// maxToken is the longest API token, in bytes.
const maxToken = 512

// NewClient makes a client. It opens no connection yet.
func NewClient(c ClientConfig) (*Client, error) {
	base, err := BaseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Mint == nil {
		if len(c.Token) > maxToken || !tokenPattern.MatchString(c.Token) {
			return nil, errors.New("the API token (RACK_GATEWAY_API_TOKEN) must be one word of printable characters")
		}
		c.Mint = func(context.Context) (string, error) { return c.Token, nil }
	}
	if c.RetryFor == 0 {
		c.RetryFor = defaultRetryFor
	}
	if c.Retrying == nil {
		c.Retrying = func(error, time.Duration) {}
	}
	var via *url.URL
	if c.Proxy != nil {
		target, err := url.Parse(base)
		if err == nil {
			via, err = c.Proxy(target)
		}
		if err != nil {
			return nil, fmt.Errorf("choose a proxy: %w", err)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(via)
	transport.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode == http.StatusOK {
			return nil
		}
		return proxyRefusal(proxy, base, res.StatusCode)
	}
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	// Without pings HTTP/2 would put poll after poll on a connection that a router has
	// forgotten, until TCP gives it up after a quarter of an hour.
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second}
	transport.MaxResponseHeaderBytes = 64 << 10
	return &Client{
		base: base, via: via, token: c.Mint, userAgent: c.UserAgent, retryFor: c.RetryFor, retrying: c.Retrying,
		http: &http.Client{
			Transport: transport,
			// The token must not follow a redirect, and a POST would become a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// BaseURL checks the gateway's URL and completes it: https is its default scheme, and
// it ends without a slash. Errors do not repeat it: it may hold what was not meant to be
// shown.
func BaseURL(raw string) (string, error) {
	if raw != "" && !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("the gateway's URL (RACK_GATEWAY_URL) must be like https://gateway.example.ts.net")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the gateway's URL (RACK_GATEWAY_URL) must have no user, query or fragment")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// URL is the gateway's base, as it is used.
func (c *Client) URL() string { return c.base }

// Proxy is the address of the proxy that calls go through; "" = none.
func (c *Client) Proxy() string {
	if c.via == nil {
		return ""
	}
	return address(c.via)
}

// Create files a request. created is false when it stood already; repeating
// the call is safe.
func (c *Client) Create(ctx context.Context, body CreateBody) (r Request, created bool, err error) {
	var metadata struct {
		WorkflowID string `json:"workflow_id"`
	}
	_ = json.Unmarshal(body.Metadata, &metadata) // the gateway judges it
	about := askedFor(body.App, body.Environment, body.GitCommit, metadata.WorkflowID)
	status, err := c.request(ctx, http.MethodPost, requestsPath, body, &r, about.fault)
	return r, status == http.StatusCreated, err
}

// Get reads a request by id or number.
func (c *Client) Get(ctx context.Context, id string) (r Request, err error) {
	_, err = c.request(ctx, http.MethodGet, requestPath(id), nil, &r, sameRequest(id))
	return r, err
}

// request makes a call that is answered with one request. other says why a
// request is not the one that was asked for; "" = it is.
func (c *Client) request(ctx context.Context, method, path string, body any, r *Request, other func(Request) string) (int, error) {
	return c.call(ctx, method, path, body, r, r.about(other))
}

// about judges a request that is read later: it must be one, and the one that
// was asked for.
func (r *Request) about(other func(Request) string) func() string {
	return func() string {
		if fault := r.fault(); fault != "" {
			return fault
		}
		return other(*r)
	}
}

// sameRequest wants the request that an id or a number names.
func sameRequest(id string) func(Request) string {
	return func(r Request) string {
		if strings.EqualFold(r.ID, id) || strconv.FormatInt(r.Number, 10) == id {
			return ""
		}
		return fmt.Sprintf("it is about request %s (#%d), not %s", plain.Cut(r.ID, 60), r.Number, plain.Cut(id, 60))
	}
}

// ListQuery selects requests; zero fields select all.
type ListQuery struct {
	App         string
	Environment string
	Status      string // a status, open or closed
	GitCommit   string
	Branch      string
	WorkflowID  string
	Limit       int // 1 to 200; 0 = 50
	Cursor      string
}

// List reads one page, newest first.
func (c *Client) List(ctx context.Context, q ListQuery) (p Page, err error) {
	values := url.Values{}
	for name, value := range map[string]string{
		"app": q.App, "environment": q.Environment, "status": q.Status, "git_commit": q.GitCommit, "branch": q.Branch,
		"workflow_id": q.WorkflowID, "cursor": q.Cursor,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	path := requestsPath
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	_, err = c.call(ctx, http.MethodGet, path, nil, &p, func() string {
		if p.Requests == nil {
			return "it holds no list of requests"
		}
		about := asked{app: q.App, environment: q.Environment, commit: q.GitCommit, workflow: q.WorkflowID}
		for _, r := range p.Requests {
			if fault := r.fault(); fault != "" {
				return "one request of the list does not count: " + fault
			}
			if fault := about.fault(r); fault != "" {
				return fault
			}
		}
		return ""
	})
	return p, err
}

// Cancel withdraws a request.
func (c *Client) Cancel(ctx context.Context, id, reason string) (r Request, err error) {
	_, err = c.request(ctx, http.MethodPost, requestPath(id)+"/cancel", CancelBody{Reason: reason}, &r, func(r Request) string {
		if r.Status != approvals.Canceled {
			return fmt.Sprintf("request #%d is %s and not cancelled", r.Number, r.Status)
		}
		return sameRequest(id)(r)
	})
	return r, err
}

// Verify asks whether exactly this may be deployed now. Without an error it
// may: the answer names this app, environment, workflow and commit, a passing
// status, a window that is not over, and a receipt.
func (c *Client) Verify(ctx context.Context, body VerifyBody) (v Verified, err error) {
	about := askedFor(body.App, body.Environment, body.GitCommit, body.WorkflowID)
	if about.app == "" || len(about.commit) < 7 || about.workflow == "" {
		return v, errors.New("verify needs an app, at least 7 digits of the commit, and a workflow")
	}
	_, err = c.call(ctx, http.MethodPost, requestsPath+"/verify", body, &v, func() string { return v.fault(about, time.Now()) })
	if err != nil {
		return Verified{}, err
	}
	return v, nil
}

// ReportDeploy tells what the deploy job does. A call whose answer was lost is
// repeated, so a report may show up twice.
func (c *Client) ReportDeploy(ctx context.Context, id string, body DeployBody) (r Request, err error) {
	_, err = c.request(ctx, http.MethodPost, requestPath(id)+"/deploy", body, &r, sameRequest(id))
	return r, err
}

func requestPath(id string) string { return requestsPath + "/" + url.PathEscape(id) }

// call repeats a call until it succeeds, is refused, or RetryFor is over. An
// answer counts only when fault, which judges what was read into into, finds
// nothing wrong.
func (c *Client) call(ctx context.Context, method, path string, body, into any, fault func() string) (status int, err error) {
	var raw []byte
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return 0, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
	}
	return status, retry(ctx, c.retryFor, c.retrying, func(ctx context.Context) error {
		status, err = c.once(ctx, attemptTime, method, path, raw, into, fault)
		return err
	})
}

// once makes one call.
func (c *Client) once(ctx context.Context, most time.Duration, method, path string, body []byte, into any, fault func() string) (status int, err error) {
	token, err := c.token(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("build %s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, c.noAnswer(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, c.noAnswer(fmt.Errorf("the answer broke off: %w", err))
	case res.StatusCode/100 != 2:
		return res.StatusCode, c.refusal(res, answer)
	case len(answer) > maxAnswer:
		return 0, c.foreign(res, fmt.Sprintf("the answer is longer than %d bytes", maxAnswer))
	}
	if err := c.decode(res, answer, into); err != nil {
		return res.StatusCode, err
	}
	if text := fault(); text != "" {
		return res.StatusCode, c.foreign(res, "this answer does not count: "+text)
	}
	return res.StatusCode, nil
}
