package approvals

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"hash/crc32"
	"slices"
	"strings"
	"time"
)

// Roles of a token. No role can approve.
const (
	RoleCICD    = "cicd"
	RoleAuditor = "auditor"
)

// Token is an API token as it is kept: never its text.
type Token struct {
	ID         string
	Name       string
	Role       string
	Apps       []string // nil = all apps
	Hash       [sha256.Size]byte
	CreatedAt  time.Time
	ExpiresAt  time.Time
	RevokedAt  time.Time // zero = in force
	LastUsedAt time.Time // to the minute
}

// Covers reports whether the token is for the app.
func (t Token) Covers(app string) bool { return t.Apps == nil || slices.Contains(t.Apps, app) }

// Usable reports whether the token is in force.
func (t Token) Usable(now time.Time) bool {
	return t.RevokedAt.IsZero() && now.Before(t.ExpiresAt)
}

const (
	tokenPrefix   = "rgw_"
	tokenIDLength = 10
	tokenChecksum = 7 // base32 of a CRC-32
)

var tokenEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// newTokenText makes rgw_<id><secret><checksum>: 50 random bits of id, 160 of
// secret. The checksum lets scanners and clients tell a token from a typo.
func newTokenText() (text, id string, hash [sha256.Size]byte) {
	id = rand.Text()[:tokenIDLength]
	secret := make([]byte, 20)
	rand.Read(secret)
	body := id + tokenEncoding.EncodeToString(secret)
	text = tokenPrefix + body + checksum(body)
	return text, id, sha256.Sum256([]byte(text))
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return tokenEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// ParseToken splits a token's text into its id and its hash. ok is false when
// the text is no token at all.
func ParseToken(text string) (id string, hash [sha256.Size]byte, ok bool) {
	body, found := strings.CutPrefix(text, tokenPrefix)
	if !found || len(body) != tokenIDLength+32+tokenChecksum {
		return "", hash, false
	}
	body, sum := body[:len(body)-tokenChecksum], body[len(body)-tokenChecksum:]
	if subtle.ConstantTimeCompare([]byte(sum), []byte(checksum(body))) != 1 {
		return "", hash, false
	}
	return body[:tokenIDLength], sha256.Sum256([]byte(text)), true
}
