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

// Reach reads the issuer's keys, so that an operator learns whether it can be done.
func (v *Verifier) Reach(ctx context.Context) error {
	newest, _ := v.keys.read()
	_, err := newest.wait(ctx)
	return err
}

func refuse(reason approvals.Reason, format string, args ...any) error {
	return &approvals.Error{Code: approvals.CodeUnauthorized, Reason: reason, Message: fmt.Sprintf(format, args...)}
}
