package approvals

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"hash/crc32"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Role is what a token may do. No role can approve.
type Role string

// The roles of a token.
const (
	RoleCICD    Role = "cicd"
	RoleAuditor Role = "auditor"
)

// Token is an API token as it is kept: never its text. A CI job that proves who it
// is needs none: what it may do is a Token that is made for the call and not kept.
type Token struct {
	ID         string
	Name       string
	Role       Role
	Apps       []string // nil = all apps
	Hash       string   // SHA-256 of its text, hex
	CreatedAt  time.Time
	ExpiresAt  time.Time
	RevokedAt  time.Time // from when it is no longer in force, at a rotation later than now; zero = not revoked
	LastUsedAt time.Time // to the minute; observed
	Seq        int64     // number of the newest event

	Job *CIJob `json:"-"` // the CI job that calls; nil = the caller holds an API token

	unproven bool // only a row tells of it: it may read
}

// Covers reports whether the token is for the app.
func (t Token) Covers(app string) bool { return t.Apps == nil || slices.Contains(t.Apps, app) }

// sees reports whether the caller may know of a request: a CI job only of those of
// its own workflow.
func (t Token) sees(r Request) bool {
	return t.Covers(r.App) && (t.Job == nil || t.Job.WorkflowID == r.Facts.WorkflowID)
}

// jobPrefix begins the name of a CI job in the log, which an API token's id cannot.
const jobPrefix = "ci:"

// actor is the caller as the log names it.
func (t Token) actor() Actor {
	if t.Job != nil {
		return Actor{Kind: ActorJob, ID: t.ID}
	}
	return Actor{Kind: ActorToken, ID: t.ID}
}

// mayUse refuses a kind of credential that the settings do not take at a place, and
// a CI job that asks for another workflow than its own.
func (t Token) mayUse(p Policy, workflowID string) error {
	switch {
	case t.Job == nil && !p.takes(CredentialToken):
		return notThis(ReasonCredential, "app %q takes OIDC tokens of CircleCI jobs here, and no API token (ci_identity)", p.App)
	case t.Job == nil:
		return nil
	case !p.takes(CredentialOIDC):
		return notThis(ReasonCredential, "app %q takes API tokens here, and no OIDC token (ci_identity)", p.App)
	case t.Job.ProjectID != p.ProjectID:
		return notThis(ReasonProject, "the OIDC token is of another project than app %q here (circleci_project_id)", p.App)
	case t.Job.WorkflowID != workflowID:
		return notThis(ReasonWorkflow, "the OIDC token is of another workflow than the one that was asked for")
	}
	return nil
}

// Reason is the stable name of what is wrong with a credential.
type Reason string

// The reasons. Those that begin with oidc name the check that an OIDC token did not
// pass.
const (
	ReasonCredential Reason = "credential_not_accepted"
	ReasonMalformed  Reason = "oidc_malformed"
	ReasonAlgorithm  Reason = "oidc_algorithm"
	ReasonKey        Reason = "oidc_key_unknown"
	ReasonIssuer     Reason = "oidc_issuer"
	ReasonAudience   Reason = "oidc_audience"
	ReasonAudiences  Reason = "oidc_audience_not_single"
	ReasonExpired    Reason = "oidc_expired"
	ReasonNotYet     Reason = "oidc_not_yet_valid"
	ReasonLifetime   Reason = "oidc_lifetime"
	ReasonSSH        Reason = "oidc_ssh_rerun"
	ReasonProject    Reason = "oidc_project"
	ReasonOrigin     Reason = "oidc_origin"
	ReasonWorkflow   Reason = "oidc_workflow"
)

// notThis refuses what a valid credential does not allow.
func notThis(reason Reason, format string, args ...any) error {
	e := refuse(CodeForbidden, format, args...)
	e.Reason = reason
	return e
}

// mayAct refuses a token whose role only reads, or that cannot be proven now; what is what
// it was used for.
func (t Token) mayAct(what string) error {
	if t.unproven {
		return later(5*time.Second, "the token cannot be compared with the log now, so that it cannot %s", what)
	}
	if t.Role != RoleCICD {
		return refuse(CodeForbidden, "a token with the role %s cannot %s: use one with the role %s", t.Role, what, RoleCICD)
	}
	return nil
}

// Usable reports whether the token is in force.
func (t Token) Usable(now time.Time) bool {
	return (t.RevokedAt.IsZero() || now.Before(t.RevokedAt)) && now.Before(t.ExpiresAt)
}

const (
	tokenPrefix   = "rgw_"
	tokenIDLength = 10
	tokenChecksum = 7 // base32 of a CRC-32
)

var tokenEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// newTokenText makes rgw_<id><secret><checksum>: 50 random bits of id, 160 of
// secret. The checksum lets scanners and clients tell a token from a typo.
func newTokenText() (text, id, hash string) {
	id = rand.Text()[:tokenIDLength]
	secret := make([]byte, 20)
	rand.Read(secret)
	body := id + tokenEncoding.EncodeToString(secret)
	text = tokenPrefix + body + checksum(body)
	return text, id, hashOf([]byte(text))
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return tokenEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

var jwtPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// IsJWT reports whether a text has the form of a JSON Web Token in its compact
// form (RFC 7519, 3).
func IsJWT(text string) bool { return jwtPattern.MatchString(text) }

// ParseToken splits a token's text into its id and its hash (SHA-256, hex). ok is false when
// the text is no token at all.
func ParseToken(text string) (id, hash string, ok bool) {
	body, found := strings.CutPrefix(text, tokenPrefix)
	if !found || len(body) != tokenIDLength+32+tokenChecksum {
		return "", "", false
	}
	body, sum := body[:len(body)-tokenChecksum], body[len(body)-tokenChecksum:]
	if subtle.ConstantTimeCompare([]byte(sum), []byte(checksum(body))) != 1 {
		return "", "", false
	}
	return body[:tokenIDLength], hashOf([]byte(text)), true
}
