package circlecitest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Org is the organisation whose tokens an [Issuer] signs.
const Org = "8d7a5c0e-1b2f-4a3c-9d4e-5f6a7b8c9d0e"

// Issuer is a simulated issuer of CircleCI's OIDC tokens: the discovery document,
// the keys, and tokens with the claims of
// https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/.
// All methods are safe for concurrent use.
type Issuer struct {
	url string // of the issuer, without a path at its end

	mu      sync.Mutex
	key     *rsa.PrivateKey
	kid     int
	down    bool
	fetches map[string]int
}

// NewIssuer makes an issuer that is reached at base, such as http://127.0.0.1:8080.
func NewIssuer(base string) *Issuer {
	return &Issuer{url: base + "/org/" + Org, key: firstKey(), fetches: map[string]int{}}
}

// firstKey is what every issuer begins with: a new one takes its time.
var firstKey = sync.OnceValue(newKey)

func newKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// StartIssuer serves an issuer on loopback until stop is called.
func StartIssuer() (i *Issuer, stop func()) {
	var handler http.Handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	i = NewIssuer(s.URL)
	handler = i
	return i, s.Close
}

// URL is the iss claim.
func (i *Issuer) URL() string { return i.url }

// Rotate signs with a new key from now on; the old one is not published any more.
func (i *Issuer) Rotate() {
	key := newKey()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = key
	i.kid++
}

// SetDown has the issuer answer 503, or answer again.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Fetches counts how often the keys were asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches["jwks-pub.json"]
}

// ServeHTTP answers the two documents.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	name, ok := strings.CutPrefix(r.URL.Path, "/org/"+Org+"/.well-known/")
	i.fetches[name]++
	var document any
	switch {
	case i.down:
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
		return
	case ok && name == "openid-configuration":
		document = map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/.well-known/jwks-pub.json", "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public", "pairwise"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		}
	case ok && name == "jwks-pub.json":
		document = map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": strconv.Itoa(i.kid),
			"n": encode(i.key.N.Bytes()), "e": encode(big.NewInt(int64(i.key.E)).Bytes()),
		}}}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document) // a caller that is gone is nobody's fault
}

// Claims are those of a job's token at this moment.
func (i *Issuer) Claims(audience, projectID, workflowID, jobID string) map[string]any {
	const prefix = "oidc.circleci.com/"
	now := time.Now().Unix()
	return map[string]any{
		"iss": i.url, "sub": "org/" + Org + "/project/" + projectID + "/user/2b1f1c1e-0d5c-4c64-9c6a-7b3a5f1f2c11", "aud": audience,
		"iat": now, "exp": now + 3600,
		prefix + "org-id": Org, prefix + "project-id": projectID, prefix + "workflow-id": workflowID, prefix + "job-id": jobID,
		prefix + "context-ids": []string{}, prefix + "ssh-rerun": false,
	}
}

// With returns claims with some changed; nil removes one.
func With(claims map[string]any, changed map[string]any) map[string]any {
	out := maps.Clone(claims)
	for name, value := range changed {
		if out[name] = value; value == nil {
			delete(out, name)
		}
	}
	return out
}

// Token signs claims as CircleCI does. The members of header win over its own, but
// the signature is always RS256 with the newest key.
func (i *Issuer) Token(claims, header map[string]any) string {
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return i.Sign(b, header)
}

// Sign is Token for claims as bytes, which need not be claims.
func (i *Issuer) Sign(claims []byte, header map[string]any) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	head, err := json.Marshal(With(map[string]any{"typ": "JWT", "alg": "RS256", "kid": strconv.Itoa(i.kid)}, header))
	if err != nil {
		panic(err)
	}
	signed := encode(head) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, i.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signed + "." + encode(signature)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
