package approvals

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const maxReason = 500 // characters of a reason or another short text

// now is the wall clock in UTC at the precision that is stored.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// bounded cuts text from outside to at most n characters.
func bounded(s string, n int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// hashOf is the SHA-256 of b in hex, "" for nothing.
func hashOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// only lists those of all that are as described; nil when none is.
func only[T any](all []T, is func(T) bool) (some []T) {
	for _, one := range all {
		if is(one) {
			some = append(some, one)
		}
	}
	return some
}

// list bounds a list of names from outside, so that every event fits into a leaf.
func list(names []string) string {
	const most = 1000 // bytes
	var b strings.Builder
	for i, n := range names {
		if b.Len()+len(n) > most {
			return b.String() + " and " + strconv.Itoa(len(names)-i) + " more"
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	return b.String()
}
