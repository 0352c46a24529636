package totp

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const (
	// newSecretBytes is the length that RFC 4226 section 4 R6 recommends.
	newSecretBytes = 20
	// minSecretBytes is the least that RFC 4226 section 4 R6 allows.
	minSecretBytes = 16
	// maxSecretBytes keeps imported secrets inside one QR code. No issuer
	// uses more than 64 bytes, the block size of SHA-1.
	maxSecretBytes = 128
)

// Errors of ParseSecret. None carries any part of the secret.
var (
	ErrSecretBase32 = errors.New("secret is not base32")
	ErrSecretShort  = fmt.Errorf("secret is shorter than %d bytes", minSecretBytes)
	ErrSecretLong   = fmt.Errorf("secret is longer than %d bytes", maxSecretBytes)
)

// encoding is that of secrets in texts.
var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Secret is the key that an authenticator app and the bot share. It prints,
// logs and marshals as REDACTED; Base32 and URL are the ways out. The zero Secret
// is no secret: it matches no code.
type Secret struct {
	plain.Redacted
	base32 func() string
}

// NewSecret draws a fresh secret of 20 bytes.
func NewSecret() Secret {
	key := make([]byte, newSecretBytes)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return secretOf(key)
}

func secretOf(key []byte) Secret {
	text := encoding.EncodeToString(key)
	return Secret{base32: func() string { return text }}
}

// ParseSecret reads a secret as people copy it: base32 in any case, in groups
// or not, with or without padding.
func ParseSecret(text string) (Secret, error) {
	if len(text) > 8*maxSecretBytes {
		return Secret{}, ErrSecretLong
	}
	text = strings.TrimRight(folded(text), "=")
	switch len(text) % 8 {
	case 1, 3, 6: // no number of bytes encodes to this; Go would drop the rest
		return Secret{}, ErrSecretBase32
	}
	key, err := encoding.DecodeString(text)
	switch {
	case err != nil:
		return Secret{}, ErrSecretBase32
	case len(key) < minSecretBytes:
		return Secret{}, ErrSecretShort
	case len(key) > maxSecretBytes:
		return Secret{}, ErrSecretLong
	}
	return secretOf(key), nil
}

// Base32 returns the secret for sealing it, and as a person types it into an app,
// without padding: show it once, at enrolment. It is empty for the zero Secret.
func (s Secret) Base32() string {
	if s.base32 == nil {
		return ""
	}
	return s.base32()
}

// URL returns the otpauth link that a QR code carries, in the form of
// https://github.com/google/google-authenticator/wiki/Key-Uri-Format. It
// contains the secret. A colon ends the issuer there, so colons in the names
// become spaces. It is empty for the zero Secret.
func (s Secret) URL(issuer, account string) string {
	if s.base32 == nil {
		return ""
	}
	issuer, account = labelPart(issuer), labelPart(account)
	label, query := escape(account), "secret="+s.Base32()
	if issuer != "" {
		label = escape(issuer) + ":" + label
		query += "&issuer=" + escape(issuer)
	}
	return "otpauth://totp/" + label + "?" + query + "&algorithm=SHA1&digits=6&period=30"
}

// labelPart makes a name fit to be shown by an authenticator app.
func labelPart(name string) string {
	apart := func(r rune) bool { return r == ':' || unicode.IsControl(r) || unicode.IsSpace(r) }
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, ""), apart), " ")
}

// escape percent-encodes everything, spaces too: apps disagree on whether a
// plus sign is a space.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// folded removes white space, no-break spaces among it, and the invisible spaces that
// come along when text is copied on a phone. Only ASCII letters are put in upper case:
// Unicode case mapping would turn a dotless i or a long s into a letter of the alphabet.
func folded(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), r == '\u200b', r == '\u2060', r == '\ufeff':
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, s)
}
