// Package identity tells which CircleCI job holds an OIDC token, by the rules of
// OpenID Connect Core 1.0, 3.1.3.7, and those that CircleCI's own claims need.
//
// The library checks form and signature. The rest is checked here: the issuer, exactly
// one audience, the times, reruns with SSH, and that the token names a project and a
// workflow. Whether these are the right ones, the core decides.
//
// See https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/.
package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	maxLife = 2 * time.Hour   // of a token; CircleCI's live for one hour
	skew    = time.Minute     // between our clock and the issuer's
	patient = 2 * time.Second // how long a call waits for the issuer
)

// Verifier checks the OIDC tokens of CircleCI jobs. It is safe for concurrent use.
type Verifier struct {
	audience string
	keys     keySet
}

var _ approvals.Identity = (*Verifier)(nil)

// Config says whose tokens are taken.
type Config struct {
	// Issuer is the iss claim, https://oidc.circleci.com/org/<id of the organisation>.
	Issuer string
	// Audience is the aud claim that a token needs.
	Audience string
	// Transport reaches the issuer; nil means http.DefaultTransport.
	Transport http.RoundTripper
}

var orgPath = regexp.MustCompile(`^/org/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// CheckIssuer says what keeps a text from being an issuer: nil when nothing does.
// Plain http is for a loopback address only.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(issuer, "/") {
		return errors.New("must be a URL such as https://oidc.circleci.com/org/<organisation id>")
	}
	ip, bad := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || bad == nil && ip.IsLoopback()
	switch {
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback):
		return errors.New("must be an https URL: the keys would travel unprotected")
	case u.Host == "oidc.circleci.com" && !orgPath.MatchString(u.Path):
		return errors.New("must name your organisation: https://oidc.circleci.com/org/<organisation id>")
	}
	return nil
}

// OrgID is the id of the organisation that an issuer is for; empty when its URL
// does not say.
func OrgID(issuer string) string {
	_, id, _ := strings.Cut(issuer, "/org/")
	return id
}

// New makes a verifier; it calls nobody.
func New(c Config) *Verifier {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: c.Transport, CheckRedirect: stay}
	return &Verifier{audience: c.Audience, keys: keySet{issuer: c.Issuer, client: client}}
}

// Job implements [approvals.Identity].
func (v *Verifier) Job(ctx context.Context, token string) (approvals.CIJob, error) {
	if !approvals.IsJWT(token) {
		return approvals.CIJob{}, refuse(approvals.ReasonMalformed, "the OIDC token is not a JSON Web Token")
	}
	// What is no signed token, and every algorithm but RS256, is refused before anybody is asked for keys.
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if _, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return approvals.CIJob{}, refuse(approvals.ReasonAlgorithm, "the OIDC token is not signed with RS256")
	}
	if err != nil {
		return approvals.CIJob{}, refuse(approvals.ReasonMalformed, "the OIDC token cannot be read")
	}
	payload, err := v.verify(ctx, signed)
	if err != nil {
		return approvals.CIJob{}, err
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return approvals.CIJob{}, refuse(approvals.ReasonMalformed, "the OIDC token has claims of another type than CircleCI's")
	}
	if err := v.check(c, time.Now()); err != nil {
		return approvals.CIJob{}, err
	}
	return c.job(), nil
}

// verify checks the signature and returns what is signed.
func (v *Verifier) verify(ctx context.Context, token *jose.JSONWebSignature) ([]byte, error) {
	if payload, ok := signedBy(v.keys.last(), token); ok {
		return payload, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	newest, begun := v.keys.read()
	keys, err := newest.wait(ctx)
	if err != nil {
		e := &approvals.Error{Code: approvals.CodeUnavailable, Message: "the issuer of OIDC tokens does not answer now: try again"}
		if ctx.Err() == nil { // the reading is over
			e.RetryAfter = newest.again()
		}
		return nil, e
	}
	if payload, ok := signedBy(keys, token); ok {
		return payload, nil
	}
	if !begun { // the key may be newer than what was read, so that this is no refusal yet
		return nil, &approvals.Error{
			Code: approvals.CodeUnavailable, Reason: approvals.ReasonKey, RetryAfter: newest.again(),
			Message: "the OIDC token is signed with a key that its issuer did not have less than a minute ago, when its keys were read last: try again",
		}
	}
	return nil, refuse(approvals.ReasonKey, "the OIDC token is signed with a key that its issuer does not have")
}

// signedBy returns what is signed by one of the keys. A token may name it.
func signedBy(keys []jose.JSONWebKey, token *jose.JSONWebSignature) (payload []byte, ok bool) {
	id := token.Signatures[0].Header.KeyID
	for _, key := range keys {
		if id == "" || id == key.KeyID {
			if payload, err := token.Verify(&key); err == nil {
				return payload, true
			}
		}
	}
	return nil, false
}

// claims are those of CircleCI's tokens that count. NotBefore hides the library's, into which no large number fits.
type claims struct {
	jwt.Claims
	NotBefore  *float64 `json:"nbf"`
	ProjectID  string   `json:"oidc.circleci.com/project-id"`
	PipelineID string   `json:"oidc.circleci.com/pipeline-id"`
	WorkflowID string   `json:"oidc.circleci.com/workflow-id"`
	JobID      string   `json:"oidc.circleci.com/job-id"`
	Origin     string   `json:"oidc.circleci.com/vcs-origin"`
	SSHRerun   bool     `json:"oidc.circleci.com/ssh-rerun"`
}

// check judges the claims of a token whose signature is right.
func (v *Verifier) check(c claims, now time.Time) error {
	if c.Issuer != v.keys.issuer {
		return refuse(approvals.ReasonIssuer, "the OIDC token is of another issuer than RGW_OIDC_ISSUER, such as that of another organisation")
	}
	switch {
	case len(c.Audience) > 1:
		return refuse(approvals.ReasonAudiences, "the OIDC token has several audiences: it needs exactly one, this gateway")
	case len(c.Audience) == 0 || c.Audience[0] != v.audience:
		return refuse(approvals.ReasonAudience, "the OIDC token is for another audience: this gateway's is %s", v.audience)
	}
	if err := checkTimes(c, now); err != nil {
		return err
	}
	switch {
	case c.SSHRerun:
		return refuse(approvals.ReasonSSH, "the job was run again with SSH, so a person may be at work in it")
	case !approvals.IsUUID(c.ProjectID):
		return refuse(approvals.ReasonProject, "the OIDC token names no project")
	case !approvals.IsUUID(c.WorkflowID):
		return refuse(approvals.ReasonWorkflow, "the OIDC token names no workflow")
	case !optional(c.PipelineID), !optional(c.JobID), len(c.Origin) > 500:
		return refuse(approvals.ReasonMalformed, "the OIDC token names a pipeline, a job or a repository that cannot be one")
	}
	return nil
}

func optional(id string) bool { return id == "" || approvals.IsUUID(id) }

// checkTimes refuses a token that is not valid now, or that lives longer than those
// of CircleCI do.
func checkTimes(c claims, now time.Time) error {
	issued, expiry := c.IssuedAt.Time(), c.Expiry.Time()
	switch {
	// A time that is absent is the zero time, which makes the life none or too long.
	case !expiry.After(issued) || expiry.Sub(issued) > maxLife:
		return refuse(approvals.ReasonLifetime, "the OIDC token does not say from when to when it is valid, or for longer than %d hours", maxLife/time.Hour)
	case issued.After(now.Add(skew)), c.NotBefore != nil && *c.NotBefore > float64(now.Add(skew).Unix()):
		return refuse(approvals.ReasonNotYet, "the OIDC token is not valid yet: compare the gateway's clock with CircleCI's")
	case !now.Add(-skew).Before(expiry):
		return refuse(approvals.ReasonExpired, "the OIDC token expired at %s", expiry.UTC().Format(time.RFC3339))
	}
	return nil
}

// job is what the rest of the product needs of the claims.
func (c claims) job() approvals.CIJob {
	lower := strings.ToLower
	return approvals.CIJob{
		ProjectID: lower(c.ProjectID), WorkflowID: lower(c.WorkflowID), PipelineID: lower(c.PipelineID), JobID: lower(c.JobID),
		Origin: strings.TrimPrefix(c.Origin, "https://"),
	}
}

// Reach reads the issuer's keys, so that an operator learns whether it can be done.
func (v *Verifier) Reach(ctx context.Context) error {
	newest, _ := v.keys.read()
	_, err := newest.wait(ctx)
	return err
}

func refuse(reason approvals.Reason, format string, args ...any) error {
	return &approvals.Error{Code: approvals.CodeUnauthorized, Reason: reason, Message: fmt.Sprintf(format, args...)}
}
