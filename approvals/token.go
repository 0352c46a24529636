package approvals

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"hash/crc32"
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

// Token is an API token as it is kept: never its text.
type Token struct {
	ID         string
	Name       string
	Role       Role
	Apps       []string // nil = all apps
	Hash       string   // SHA-256 of its text, hex
	CreatedAt  time.Time
	ExpiresAt  time.Time
	RevokedAt  time.Time // zero = in force
	LastUsedAt time.Time // to the minute; observed
	Seq        int64     // number of the newest event
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
