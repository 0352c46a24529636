// Package identity tells which CircleCI job holds an OIDC token, by the rules of
// OpenID Connect Core 1.0, 3.1.3.7, and those that CircleCI's own claims need.
//
// The library checks form, signature and issuer. What it leaves out is checked here:
// exactly one audience, the times, reruns with SSH, and that the token names a
// project and a workflow. Whether these are the right ones, the core decides.
//
// See https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/.
package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	maxLife = 2 * time.Hour   // of a token; CircleCI's live for one hour
	skew    = time.Minute     // between our clock and the issuer's
	patient = 2 * time.Second // how long a call waits for the issuer; the fetch goes on
	fetch   = 5 * time.Second // how long a fetch may take
)

// Verifier checks the OIDC tokens of CircleCI jobs. It is safe for concurrent use.
type Verifier struct {
	issuer, audience string
	client           *http.Client
	discovery        singleflight.Group

	mu   sync.Mutex
	keys *oidc.RemoteKeySet // nil until the issuer said where they are
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
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	return &Verifier{
		issuer: c.Issuer, audience: c.Audience,
		client: &http.Client{Transport: &sparing{next: next, asked: map[string]asked{}}, Timeout: fetch},
	}
}

// Job implements [approvals.Identity].
func (v *Verifier) Job(ctx context.Context, token string) (approvals.CIJob, error) {
	if !approvals.IsJWT(token) {
		return approvals.CIJob{}, refuse(approvals.ReasonMalformed, "the OIDC token is not a JSON Web Token")
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	if err := wellFormed(token); err != nil {
		return approvals.CIJob{}, err
	}
	id, err := v.verify(ctx, token)
	if err != nil {
		return approvals.CIJob{}, err
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return approvals.CIJob{}, refuse(approvals.ReasonMalformed, "the OIDC token has claims of another type than CircleCI's")
	}
	if err := v.check(id, c, time.Now()); err != nil {
		return approvals.CIJob{}, err
	}
	return c.job(), nil
}

// wellFormed refuses what is no signed token, and every algorithm but RS256, before
// anybody is asked for keys.
func wellFormed(token string) error {
	_, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return refuse(approvals.ReasonAlgorithm, "the OIDC token is not signed with RS256")
	case err != nil:
		return refuse(approvals.ReasonMalformed, "the OIDC token cannot be read")
	}
	return nil
}

// verify checks the signature.
func (v *Verifier) verify(ctx context.Context, token string) (*oidc.IDToken, error) {
	remote, err := v.remote(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	keys := &keySet{remote: remote}
	id, err := oidc.NewVerifier(v.issuer, keys, &oidc.Config{
		SupportedSigningAlgs: []string{oidc.RS256},
		// Checked by [Verifier.check], each with a reason of its own.
		SkipIssuerCheck: true, SkipClientIDCheck: true, SkipExpiryCheck: true,
	}).Verify(ctx, token)
	var resting *restingError
	switch {
	case err == nil:
		return id, nil
	case errors.As(keys.err, &resting) && resting.failed == nil:
		// The key may be newer than what was read, so that this is no refusal yet.
		return nil, &approvals.Error{
			Code: approvals.CodeUnavailable, Reason: approvals.ReasonKey, RetryAfter: resting.again,
			Message: "the OIDC token is signed with a key that its issuer did not have less than a minute ago, when its keys were read last: try again",
		}
	case resting != nil, ctx.Err() != nil:
		return nil, unavailable(keys.err)
	case keys.err != nil:
		return nil, refuse(approvals.ReasonKey, "the OIDC token is signed with a key that its issuer does not have")
	}
	return nil, refuse(approvals.ReasonMalformed, "the claims of the OIDC token cannot be read")
}

// keySet remembers what the signature failed for: the library passes on only a text.
type keySet struct {
	remote *oidc.RemoteKeySet
	err    error
}

func (k *keySet) VerifySignature(ctx context.Context, jwt string) (payload []byte, err error) {
	payload, k.err = k.remote.VerifySignature(ctx, jwt)
	return payload, k.err
}

// remote finds out where the keys of the issuer are.
func (v *Verifier) remote(ctx context.Context) (*oidc.RemoteKeySet, error) {
	v.mu.Lock()
	known := v.keys
	v.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found := v.discovery.DoChan("", func() (any, error) {
		// For all callers, so that the first of them does not end it.
		ctx := oidc.ClientContext(context.WithoutCancel(ctx), v.client)
		p, err := oidc.NewProvider(ctx, v.issuer)
		if err != nil {
			return nil, err
		}
		var document struct {
			KeysURL string `json:"jwks_uri"`
		}
		if err := p.Claims(&document); err != nil {
			return nil, err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.keys = oidc.NewRemoteKeySet(ctx, document.KeysURL)
		return v.keys, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-found:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*oidc.RemoteKeySet), nil
	}
}

// Reach reads the issuer's keys, so that an operator learns whether it can be done.
func (v *Verifier) Reach(ctx context.Context) error {
	if _, err := v.remote(ctx); err != nil {
		return fmt.Errorf("read %s/.well-known/openid-configuration: %w", v.issuer, err)
	}
	return nil
}

// unavailable says that the token could not be judged.
func unavailable(cause error) error {
	e := &approvals.Error{Code: approvals.CodeUnavailable, Message: "the issuer of OIDC tokens does not answer now: try again"}
	var resting *restingError
	if errors.As(cause, &resting) {
		e.RetryAfter = resting.again
	}
	return e
}

func refuse(reason approvals.Reason, format string, args ...any) error {
	return &approvals.Error{Code: approvals.CodeUnauthorized, Reason: reason, Message: fmt.Sprintf(format, args...)}
}
