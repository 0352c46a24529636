// Package totp computes and compares time-based one-time codes (RFC 6238:
// SHA-1, six digits, 30 seconds, one step of skew either way) and holds the
// table that slows down guessing.
//
// It is pure: it reads no clock and keeps no state. It does not remember which
// step was used last, does not count attempts on its own and does not seal
// secrets; its callers do all three inside their transactions.
package totp

import (
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const (
	digits        = 6
	periodSeconds = 30
	// maxCodeInput bounds what ParseCode looks at: six digits and generous
	// white space.
	maxCodeInput = 64
)

// ErrCode says that the input cannot be a code. It does not repeat the input.
var ErrCode = errors.New("a code is six digits")

// Code is a one-time code as somebody typed it. It prints, logs and marshals
// as REDACTED. The zero Code matches nothing.
type Code struct {
	plain.Redacted
	digits func() string
}

// ParseCode reads a code. White space of any kind is dropped, because apps
// show "123 456"; what remains must be exactly six ASCII digits.
func ParseCode(input string) (Code, error) {
	if len(input) > maxCodeInput {
		return Code{}, ErrCode
	}
	text := folded(input)
	if len(text) != digits || strings.Trim(text, "0123456789") != "" {
		return Code{}, ErrCode
	}
	return Code{digits: func() string { return text }}, nil
}

// Step returns the number of the 30-second step that holds t (RFC 6238
// section 4.2, T0 = 0).
func Step(t time.Time) int64 {
	seconds := t.Unix()
	step := seconds / periodSeconds
	if seconds%periodSeconds < 0 {
		step--
	}
	return step
}

// StepEnd returns the moment at which the step is over and the next code
// begins.
func StepEnd(step int64) time.Time {
	return time.Unix((step+1)*periodSeconds, 0).UTC()
}

// Match looks for the code in the step of now and its two neighbours (RFC 6238
// section 5.2 allows one step of delay; one ahead covers a fast phone clock).
// All three are computed and compared in constant time. When several steps
// have the same code, the greatest is returned. The caller must still refuse a
// step that is not greater than the last one this person used.
func (s Secret) Match(c Code, now time.Time) (step int64, ok bool) {
	current := Step(now)
	// A clock this far off proves nothing, and a step below zero is none.
	if c.digits == nil || s.base32 == nil || current < 1 {
		return 0, false
	}
	typed, found, offset := []byte(c.digits()), 0, 0
	for i := -1; i <= 1; i++ {
		equal := subtle.ConstantTimeCompare([]byte(s.at(current+int64(i))), typed)
		offset = subtle.ConstantTimeSelect(equal, i, offset)
		found |= equal
	}
	if found == 0 {
		return 0, false
	}
	return current + int64(offset), true
}

// At returns the code of the step that holds t, as an authenticator app shows
// it. It is empty for the zero Secret and for times before 1970.
func (s Secret) At(t time.Time) string {
	step := Step(t)
	if s.base32 == nil || step < 0 {
		return ""
	}
	return s.at(step)
}

func (s Secret) at(step int64) string {
	code, err := hotp.GenerateCodeCustom(s.Base32(), uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil { // only for text that is not base32, and ours is
		return ""
	}
	return code
}
