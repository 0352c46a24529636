package circleci

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	maxMessage    = 200 // characters of an error text that is not ours
	maxRetryAfter = time.Hour
)

// invalid is the error of a call that is not sent.
func invalid(doing, message string) *approvals.CIError {
	return &approvals.CIError{Op: doing, Message: message, Err: approvals.ErrCIInvalid}
}

// unusable is the error of a 2xx answer that is not what the API promises. The message says so of "it", the answer.
func unusable(doing, message string) *approvals.CIError {
	return &approvals.CIError{Op: doing, Status: http.StatusOK, Message: "the answer from CircleCI cannot be used: " + message, Err: approvals.ErrCIUnusable}
}

// check is the error of an answer with faults, of which the first counts that is not empty; nil when there is none.
func check(doing string, faults ...string) error {
	if fault := cmp.Or(faults...); fault != "" {
		return unusable(doing, fault)
	}
	return nil
}

func (c *Client) noAnswer(doing string, err error) *approvals.CIError {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // without the URL, which adds length and no news
	}
	// The words go without addresses, so that one fault has one name.
	plain := err
	for op, ok := errors.AsType[*net.OpError](plain); ok; op, ok = errors.AsType[*net.OpError](plain) {
		plain = op.Err
	}
	if dns, ok := errors.AsType[*net.DNSError](plain); ok {
		plain = &net.DNSError{Err: dns.Err, Name: dns.Name}
	}
	return &approvals.CIError{Op: doing, Message: "no answer from CircleCI: " + c.clean(plain.Error()), Err: err}
}

// refusal turns an answer outside 2xx into an error that reads like "403 Forbidden: Permission denied".
func (c *Client) refusal(doing string, resp *http.Response, body []byte) *approvals.CIError {
	status := http.StatusText(resp.StatusCode)
	message := strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, status))
	if resp.StatusCode == http.StatusForbidden {
		message += " (token lacks permissions or expired)"
	}
	words := c.clean(errorText(resp.Header.Get("Content-Type"), body))
	if resp.StatusCode >= 300 && resp.StatusCode <= 399 {
		words = "redirect not followed"
	}
	if words != "" && !strings.EqualFold(words, status) {
		message += ": " + words
	}
	return &approvals.CIError{Op: doing, Status: resp.StatusCode, Message: message, RetryAfter: retryAfter(resp.Header, time.Now())}
}

// errorText finds the words in an error body: {"message"}, {"error"} or plain text. A page of HTML has none.
func errorText(contentType string, body []byte) string {
	var known struct{ Message, Error any }
	if json.Unmarshal(body, &known) == nil {
		message, _ := known.Message.(string)
		other, _ := known.Error.(string)
		return cmp.Or(message, other)
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
	text = strings.ReplaceAll(text, c.cfg.Token, "REDACTED")
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
