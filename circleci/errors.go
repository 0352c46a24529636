package circleci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrInvalid marks a call that was never sent, because an id or slug cannot be right.
	ErrInvalid = errors.New("invalid argument")
	// ErrUnusable marks a 2xx answer that is not what the API promises: no JSON, too large, endless, of another object.
	ErrUnusable = errors.New("unusable answer")
)

const (
	maxMessage    = 200 // characters of an error text that is not ours
	maxRetryAfter = 24 * time.Hour
)

// Error is what every method of Client returns when it fails.
type Error struct {
	Op         string        // what was tried: "approve gate", "read workflow"
	Status     int           // HTTP status; 0 = no answer, or nothing was sent
	Message    string        // CircleCI's words, cleaned and cut, or ours; never holds the token
	RetryAfter time.Duration // from Retry-After, at most a day; 0 = none given
	Err        error         // the cause, when there is one
}

// Error reads like "approve gate: 403 Forbidden: Permission denied".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	switch {
	case e.Status != 0:
		fmt.Fprintf(&b, ": %d", e.Status)
		if text := http.StatusText(e.Status); text != "" {
			b.WriteString(" " + text)
		}
	case !errors.Is(e.Err, ErrInvalid):
		b.WriteString(": no answer from CircleCI")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary tells whether the same call may succeed later: no answer, 429, 5xx, and a 2xx that could not be used. A
// POST that failed so may have taken effect: read the state before sending it again.
func (e *Error) Temporary() bool {
	switch {
	case errors.Is(e.Err, ErrInvalid):
		return false
	case errors.Is(e.Err, ErrUnusable):
		return true
	}
	return e.Status == 0 || e.Status == http.StatusTooManyRequests || e.Status >= 500
}

func invalid(doing, message string) *Error {
	return &Error{Op: doing, Message: message, Err: ErrInvalid}
}

func unusable(doing, message string) *Error {
	return &Error{Op: doing, Status: http.StatusOK, Message: message, Err: ErrUnusable}
}

func (c *Client) noAnswer(doing string, err error) *Error {
	cause := err
	var ue *url.Error
	if errors.As(err, &ue) {
		cause = ue.Err // without the URL, which adds length and no news
	}
	return &Error{Op: doing, Message: c.clean(cause.Error()), Err: cause}
}

// refusal turns an answer outside 2xx into an Error.
func (c *Client) refusal(doing string, resp *http.Response, body []byte) *Error {
	e := &Error{Op: doing, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	if resp.StatusCode >= 300 && resp.StatusCode <= 399 {
		e.Message = "redirect not followed"
		return e
	}
	e.Message = c.clean(errorText(resp.Header.Get("Content-Type"), body))
	return e
}

// errorText finds the words in an error body: {"message"}, {"error"} or plain text. A page of HTML has none.
func errorText(contentType string, body []byte) string {
	var known struct{ Message, Error any }
	if json.Unmarshal(body, &known) == nil {
		for _, v := range []any{known.Message, known.Error} {
			if s, ok := v.(string); ok && s != "" {
				return s
			}
		}
		return ""
	}
	plain := contentType == "" || strings.HasPrefix(contentType, "text/plain")
	text := strings.TrimSpace(string(body))
	if !plain || !utf8.ValidString(text) || strings.HasPrefix(text, "<") || strings.HasPrefix(text, "{") {
		return ""
	}
	return text
}

// clean makes foreign text fit for a log line or a message: one line, no control or direction characters, no token. The
// token is looked for last, because dropping characters can join its pieces.
func (c *Client) clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsGraphic(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	text = strings.ReplaceAll(text, c.token, "REDACTED")
	if runes := []rune(text); len(runes) > maxMessage {
		text = string(runes[:maxMessage]) + "…"
	}
	return text
}

// retryAfter reads Retry-After in both forms of RFC 9110 §10.2.3. A date is measured against the server's own clock
// when it tells that.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if secs, err := strconv.ParseInt(v, 10, 64); err == nil {
		return time.Duration(min(max(secs, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if server, err := http.ParseTime(h.Get("Date")); err == nil {
		now = server
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}
