package bot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// faultKind says what to do about a call that did not succeed.
type faultKind int

const (
	transient   faultKind = iota // the network, Slack's servers: try again; the outcome is unknown
	limited                      // too fast: certainly not done
	unreachable                  // the channel: the operator has to act
	denied                       // the token or its scopes: the operator has to act
	gone                         // the message cannot be changed any more
	malformed                    // what we sent is not allowed: a fault of ours
	nobody                       // the person cannot be written to
)

// fault is what a failed call means.
type fault struct {
	kind  faultKind
	code  string // Slack's name of the error, or the HTTP status, or ""
	after time.Duration
	said  bool // that Slack itself named after
	err   error
	needs string // scope that is missing
}

// limitedFor is the pause after a 429 that does not say how long.
const limitedFor = 30 * time.Second

// longestRest bounds the pause that a 429 asks for. Slack's own window is a minute;
// what stands between us and Slack may ask for a day.
const longestRest = time.Hour

// diagnose reads an error of the library. Slack answers most faults with HTTP
// 200 and a name. Source: the "Errors" of each method's page under
// https://docs.slack.dev/reference/methods
func diagnose(err error) fault {
	var (
		slow   *slack.RateLimitedError
		status slack.StatusCodeError
		answer slack.SlackErrorResponse
	)
	switch {
	case errors.As(err, &slow):
		return fault{kind: limited, code: "ratelimited", after: min(max(slow.RetryAfter, time.Second), longestRest), said: slow.RetryAfter > 0, err: err}
	case errors.As(err, &status):
		f := fault{kind: transient, code: fmt.Sprint(status.Code), err: err}
		if status.Code == http.StatusTooManyRequests {
			f.kind, f.after = limited, limitedFor
		}
		return f
	case errors.As(err, &answer):
		f := fault{kind: kindOf(answer.Err), code: answer.Err, err: err, needs: answer.Needed}
		if f.kind == limited {
			f.after = limitedFor
		}
		return f
	}
	return fault{kind: transient, err: err}
}

func kindOf(code string) faultKind {
	switch code {
	case "ratelimited", "rate_limited":
		return limited
	case "not_in_channel", "channel_not_found", "is_archived", "is_inactive", "team_access_not_granted", "channel_is_limited_access":
		return unreachable
	case "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "no_permission", "missing_scope",
		"not_allowed_token_type", "org_login_required", "ekm_access_denied", "access_denied", "team_disabled",
		"user_removed_from_team", "two_factor_setup_required":
		return denied
	case "message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found", "cannot_reply_to_message", "as_user_not_supported":
		return gone
	case "invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long", "no_text", "invalid_arguments",
		"invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "block_mismatch", "invalid_form_data",
		"invalid_json", "view_too_large":
		return malformed
	case "user_not_found", "user_disabled", "cannot_dm_bot", "user_not_visible", "messages_tab_disabled":
		return nobody
	}
	if strings.HasPrefix(code, restrictedAction) {
		return unreachable
	}
	return transient
}

// restrictedAction begins the names of refusals that the workspace's owner chose,
// some for replies or for one thread only.
const restrictedAction = "restricted_action"

// threadless reports whether there is no thread to reply in, though the channel
// takes messages.
func (f fault) threadless() bool {
	switch f.code {
	case "thread_not_found", "message_not_found", "cannot_reply_to_message", "restricted_action_thread_locked", "restricted_action_non_threadable_channel":
		return true
	}
	return false
}

func (f fault) restricted() bool { return strings.HasPrefix(f.code, restrictedAction) }

// words says to the operator what is wrong and what to do. They never hold a
// token, a URL or what was sent.
func (f fault) words(channel string) string {
	if channel == "" {
		channel = "the channel"
	}
	switch f.code {
	case "not_in_channel":
		return "not_in_channel: the bot is not in " + channel + ": invite it there with /invite"
	case "channel_not_found":
		return "channel_not_found: " + channel + " does not exist, or is private and the bot is not in it: check the id, or invite the bot there with /invite"
	case "is_archived":
		return "is_archived: " + channel + " is archived: unarchive it or set another one"
	case "is_inactive":
		return "is_inactive: " + channel + " is archived or frozen, so that its cards cannot be changed: unarchive it"
	case "invalid_auth", "not_authed", "token_revoked", "token_expired":
		return f.code + ": Slack does not accept the token: install the app again, set its new SLACK_BOT_TOKEN and restart"
	case "account_inactive":
		return "account_inactive: the app was removed from the workspace: install it again, set the new SLACK_BOT_TOKEN and restart"
	case "missing_scope":
		if f.needs != "" {
			return "missing_scope: the app lacks the scope " + plain.Cut(plain.OneLine(f.needs), limitName) + ": add it and re-install the app"
		}
		return "missing_scope: the app lacks a scope: add it and re-install the app"
	case "not_allowed_token_type":
		return "not_allowed_token_type: bot token (xoxb-…) and app token (xapp-…) are mixed up, or one is of another kind"
	case "user_removed_from_team", "team_disabled", "org_login_required", "two_factor_setup_required":
		return f.code + ": the workspace does not let the app in: ask its owner"
	case "ratelimited":
		return "ratelimited: Slack asks for fewer calls; they wait"
	}
	if f.restricted() {
		return f.code + ": the workspace's settings forbid posting in " + channel + ": ask its owner"
	}
	if f.kind == transient && f.code != "" {
		return plain.Cut(plain.OneLine(f.code), limitName) + ": trouble at Slack; it is tried again"
	}
	if f.code != "" {
		return plain.Cut(plain.OneLine(f.code), limitName)
	}
	return noAnswer(f.err)
}

// noAnswer describes a call that did not come back, without its URL.
func noAnswer(err error) string {
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "Slack did not answer in time"
	}
	// Without the addresses of a connection, so that one fault has one name.
	var op *net.OpError
	if errors.As(err, &op) {
		return "Slack cannot be reached: " + op.Op + ": " + plain.Cut(plain.OneLine(op.Err.Error()), limitError)
	}
	return "Slack cannot be reached: " + plain.Cut(plain.OneLine(err.Error()), limitError)
}

// ctxOrNetwork tells a call that did not get through from an answer that could
// not be read.
func ctxOrNetwork(err error) bool {
	var in *url.Error
	return errors.As(err, &in) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// hopeless lists the refusals that no repetition changes.
func hopeless(code string) bool {
	switch code {
	case "missing_scope", "token_expired", "not_allowed_token_type", "user_removed_from_team", "team_disabled",
		"invalid_auth", "account_inactive", "not_authed", "token_revoked", "404":
		return true
	}
	return false
}

// fatalWords say what to do about a refused app token.
func fatalWords(err error) string {
	switch f := diagnose(err); f.code {
	case "missing_scope":
		return "missing_scope: the app token (xapp-…) lacks connections:write: generate a new one with it, set SLACK_APP_TOKEN and restart"
	case "invalid_auth", "not_authed", "token_revoked", "token_expired":
		return f.code + ": Slack does not accept the app token (xapp-…): generate a new one, set SLACK_APP_TOKEN and restart"
	case "404":
		return "404: SLACK_API_URL leads nowhere, or Slack does not know the app token (xapp-…)"
	default:
		return f.words("")
	}
}
