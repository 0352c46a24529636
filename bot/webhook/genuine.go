package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// ForeignAnswer is an answer that does not count as the gateway's. A proxy, a
// load balancer or a wrong web server may have given it, or it is about
// something else than what was asked. Nobody may act on it.
type ForeignAnswer struct {
	Status int    // of HTTP
	By     string // who answered: an address, never with a password
	Fault  string // what is wrong with the answer

	// Proxy says that a proxy refused to pass the call on. The gateway has not
	// seen it.
	Proxy bool
	// RetryAfter is the Retry-After header; 0 = none.
	RetryAfter time.Duration
}

func (e *ForeignAnswer) Error() string {
	return fmt.Sprintf("%s answered %s: %s", e.By, statusText(e.Status), e.Fault)
}

// cloudflare names the statuses that only Cloudflare gives. Each of them means
// that the gateway itself has not answered.
// https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
var cloudflare = map[int]string{
	520: "Cloudflare got an answer from the gateway's server that it does not understand",
	521: "Cloudflare was refused a connection by the gateway's server",
	522: "Cloudflare's connection to the gateway's server timed out",
	523: "Cloudflare cannot reach the gateway's server",
	524: "Cloudflare is connected to the gateway's server, but got no answer in time",
	525: "Cloudflare's TLS handshake with the gateway's server failed",
	526: "Cloudflare does not accept the certificate of the gateway's server",
	527: "Cloudflare's connection to the gateway's server was interrupted (Railgun)",
	530: "Cloudflare cannot find or reach the gateway's server (Cloudflare's error 1xxx, named on its page)",
}

func statusText(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// foreign makes the error for an answer that is not the gateway's. fault says
// why it is not.
func (c *Client) foreign(res *http.Response, fault string) *ForeignAnswer {
	e := &ForeignAnswer{
		Status: res.StatusCode, By: c.base, Fault: fault,
		RetryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now()),
	}
	if server := res.Header.Get("Server"); server != "" {
		e.By += " (server: " + plain.Cut(server, 60) + ")"
	}
	if c.via != nil {
		e.By += " through the proxy at " + address(c.via)
	}
	return e
}

// refusal makes an error of an answer that is no success.
func (c *Client) refusal(res *http.Response, body []byte) error {
	if p := ownProblem(res, body); p != nil {
		return p
	}
	status := res.StatusCode
	// A call to a plain http URL goes through an HTTP proxy as a whole, so these
	// statuses are the proxy's: the gateway gives all but the first only with a
	// problem document of its own.
	if c.forwarded() {
		switch status {
		case http.StatusProxyAuthRequired, http.StatusForbidden, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			e := proxyRefusal(c.via, c.base, status)
			e.RetryAfter = retryAfter(res.Header.Get("Retry-After"), time.Now())
			return e
		}
	}
	if text, ok := cloudflare[status]; ok {
		return c.foreign(res, text)
	}
	if status/100 == 3 {
		fault := "this is a redirect, and the API token follows none; set the gateway's URL to where the gateway really is"
		if to := res.Header.Get("Location"); to != "" {
			fault += " (the redirect leads to " + plain.Cut(to, 200) + ")"
		}
		return c.foreign(res, fault)
	}
	return c.foreign(res, "this is not the gateway's own refusal, because "+kind(body)+" came with it instead of the gateway's problem document")
}

// ownProblem reads the problem document with which the gateway refuses a call.
// It is nil when somebody else refused it.
func ownProblem(res *http.Response, body []byte) *Problem {
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" {
		return nil
	}
	p := &Problem{}
	if json.Unmarshal(body, p) != nil {
		return nil
	}
	if _, known := kinds[p.Code]; !known {
		return nil
	}
	p.Status = res.StatusCode
	if p.RequestID == "" {
		p.RequestID = res.Header.Get("X-Request-Id")
	}
	p.RetryAfter = retryAfter(res.Header.Get("Retry-After"), time.Now())
	return p
}

// decode reads a successful answer.
func (c *Client) decode(res *http.Response, body []byte, into any) error {
	// The API answers with no other success, and a proxy that changed an answer
	// says 203.
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusCreated {
		return c.foreign(res, "the gateway never answers this")
	}
	switch err := json.Unmarshal(body, into); {
	case err == nil:
		return nil
	case cutOff(body):
		return c.foreign(res, "the answer begins as JSON and ends in the middle")
	default:
		return c.foreign(res, "the gateway answers with JSON of its API, but this is "+kind(body))
	}
}

// cutOff reports whether JSON is right up to its end, where something is missing.
func cutOff(body []byte) bool {
	var v any
	err := json.NewDecoder(bytes.NewReader(body)).Decode(&v)
	return errors.Is(err, io.ErrUnexpectedEOF)
}

// kind says in words what a body is that should have been the gateway's.
func kind(body []byte) string {
	text := strings.TrimSpace(string(body))
	switch {
	case text == "":
		return "an empty body"
	case strings.HasPrefix(text, "<"):
		return "a web page (HTML)"
	case text == "null":
		return "null"
	case json.Valid(body):
		return "JSON of another kind"
	default:
		return "text that is not JSON"
	}
}

var revisionPattern = regexp.MustCompile(`^[0-9a-fA-F]{40}$`)

// fault says what keeps r from being a request object of the gateway; "" = nothing.
func (r Request) fault() string {
	switch {
	case r.ID == "":
		return "it names no request id"
	case r.Status == "":
		return "it names no status"
	case !r.Status.Known():
		return fmt.Sprintf("it names the status %q, which this version of the client does not know", plain.Cut(string(r.Status), 40))
	case r.Number < 1:
		return "it names no request number"
	case r.App == "" || r.Environment == "":
		return "it does not name the app and the environment"
	case !revisionPattern.MatchString(r.GitCommit):
		return "it does not name the full commit"
	}
	return ""
}

// asked is what a request has to be about. Empty members say nothing.
type asked struct {
	app, environment, commit, workflow string
}

// askedFor completes the environment as the gateway does.
func askedFor(app, environment, commit, workflow string) asked {
	if environment == "" {
		environment = approvals.DefaultEnvironment
	}
	return asked{app, environment, commit, workflow}
}

// fault says what makes r another request than the one that was asked for.
func (a asked) fault(r Request) string {
	other := func(what, got, want string) string {
		return fmt.Sprintf("request #%d is for %s %s, not %s", r.Number, what, plain.Cut(got, 80), want)
	}
	switch {
	case a.app != "" && r.App != a.app:
		return other("app", r.App, a.app)
	case a.environment != "" && r.Environment != a.environment:
		return other("environment", r.Environment, a.environment)
	case a.workflow != "" && !strings.EqualFold(r.Pipeline.WorkflowID, a.workflow):
		return other("workflow", orNone(r.Pipeline.WorkflowID), a.workflow)
	case a.commit != "" && !strings.HasPrefix(strings.ToLower(r.GitCommit), strings.ToLower(a.commit)):
		return other("commit", r.GitCommit, a.commit)
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// fault says why v does not allow the deploy that was asked for; "" = it does.
// Each condition stands alone, so an answer that lacks something never counts.
func (v Verified) fault(a asked, now time.Time) string {
	r := v.Request
	if fault := r.fault(); fault != "" {
		return fault
	}
	if fault := a.fault(r); fault != "" {
		return fault
	}
	switch {
	case !r.Status.Passed():
		return fmt.Sprintf("request #%d is %s", r.Number, r.Status)
	case r.ApprovalExpiresAt == nil:
		return fmt.Sprintf("it does not say until when the approval of request #%d may be used", r.Number)
	case !now.Before(*r.ApprovalExpiresAt):
		return fmt.Sprintf("the approval of request #%d could be used until %s, and this machine's clock says %s",
			r.Number, r.ApprovalExpiresAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	var leaf struct {
		Request string `json:"request"`
	}
	switch {
	case v.Receipt.Leaf == "" || v.Receipt.Checkpoint == "":
		return "it brings no receipt"
	case json.Unmarshal([]byte(v.Receipt.Leaf), &leaf) != nil:
		return "its receipt is not an entry of the gateway's log"
	case leaf.Request != "" && leaf.Request != r.ID:
		return "its receipt is for another request"
	}
	return ""
}

// address is where a proxy is, without its user and password.
func address(u *url.URL) string { return u.Scheme + "://" + u.Host }
