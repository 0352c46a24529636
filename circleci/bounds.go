package circleci

import (
	"fmt"
	"strings"
	"unicode"
)

// The longest texts that are taken over from an answer, in bytes. The bound on the facts as a whole is measured as JSON,
// where one character can take six bytes: it leaves half of an event, which takes 16 KiB, to everything else.
const (
	maxName  = 300   // of a job or a workflow
	maxRef   = 1_024 // a branch or a tag
	maxURL   = 2_048
	maxLogin = 100
	maxWord  = 100 // a status, a type, a revision and the like
	maxFacts = 8 << 10

	maxSubject = 120       // characters of a commit's subject; what is longer is cut
	maxConfig  = 8 << 20   // bytes of a configuration, with what CircleCI made of it
	maxParsed  = 256 << 10 // bytes of a configuration that is read for its defaults
)

// bounded says what is wrong with a text of an answer; it is empty when the text can be used.
func bounded(what, text string, most int) string {
	switch {
	case len(text) > most:
		return fmt.Sprintf("%s is longer than %d bytes", what, most)
	case strings.ContainsFunc(text, unicode.IsControl):
		return what + " holds control characters"
	}
	return ""
}
