package gateway

import (
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

// The exit codes.
const (
	exitDone          = 0
	exitUnexpected    = 1 // or the deploy failed
	exitUsage         = 2
	exitRejected      = 3
	exitExpired       = 4
	exitCanceled      = 5 // or superseded
	exitBypassed      = 6
	exitTimedOut      = 7
	exitDenied        = 8  // 401, 403
	exitRefused       = 9  // any other 4xx
	exitUnreachable   = 10 // no connection, 429 or 5xx after retries
	exitUndeliverable = 11
)

const exitHelp = `Exit codes:
  0 done or approved   1 unexpected, or deploy failed   2 usage
  3 rejected   4 expired   5 canceled or superseded   6 bypassed   11 undeliverable
  7 timed out waiting   8 token refused (401, 403)   9 refused (other 4xx)
  10 no connection, 429 or 5xx after retries
deploy exits with the code of its command. Whether the command ran can be told by
stderr: "Not deploying: …" says that it did not, "The deploy command ended with
exit code …" that it did.`

// exit ends a command with a code; err may be nil when all was said.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func usage(format string, args ...any) *exit {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// failed puts the error of a call into an exit code.
func failed(err error) error {
	var p *webhook.Problem
	var foreign *webhook.ForeignAnswer
	var connection *webhook.ConnectionError
	code := exitUnexpected
	switch {
	case errors.As(err, &p):
		code = statusCode(p.Status)
		if p.RequestID != "" {
			err = fmt.Errorf("%w, trace ID %s", err, p.RequestID)
		}
	case errors.As(err, &foreign) && foreign.Proxy, errors.As(err, &connection):
		code = exitUnreachable
	case foreign != nil:
		code = statusCode(foreign.Status)
	}
	return &exit{code: code, err: err}
}

// statusCode is the exit code for a call that was answered with a status of HTTP.
func statusCode(status int) int {
	switch {
	case status == 401 || status == 403:
		return exitDenied
	case status == 429 || status/100 == 5:
		return exitUnreachable
	case status/100 == 4:
		return exitRefused
	}
	return exitUnexpected // a success or a redirect that is not the gateway's
}

// The stages that a wait can be for.
const (
	untilApproved = "approved"
	untilReleased = "released"
	untilFinished = "finished"
)

// verdict says whether a wait for a stage is over in that status, and how.
func verdict(status approvals.Status, until string) (over bool, code int) {
	switch status {
	case approvals.Pending:
		return false, 0
	case approvals.Approved:
		return until == untilApproved, exitDone
	case approvals.Released:
		return until != untilFinished, exitDone
	case approvals.Deployed:
		return true, exitDone
	case approvals.DeployFailed:
		if until == untilFinished {
			return true, exitUnexpected
		}
		return true, exitDone
	case approvals.Rejected:
		return true, exitRejected
	case approvals.Expired:
		return true, exitExpired
	case approvals.Canceled, approvals.Superseded:
		return true, exitCanceled
	case approvals.Bypassed:
		return true, exitBypassed
	case approvals.Undeliverable:
		return true, exitUndeliverable
	}
	return true, exitUnexpected // a status that only a newer gateway knows
}
