package gateway

import (
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// The exit codes besides those of [cli].
const (
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
  10 no connection, 429 or 5xx after retries`

const deployExitHelp = `An exit code of deploy from 1 to 11 can be its command's or one of those above. A
line "Not deploying: …" on stderr says that the command was not run; "The deploy
command ended with exit code …" says that it was.`

// failed puts the error of a call into an exit code.
func failed(err error) error {
	var known *cli.Exit
	if errors.As(err, &known) {
		return known // there was no call without a token
	}
	var p *webhook.Problem
	var foreign *webhook.ForeignAnswer
	var connection *webhook.ConnectionError
	code := cli.ExitFault
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
	return &cli.Exit{Code: code, Err: err}
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
	return cli.ExitFault // a success or a redirect that is not the gateway's
}

// stage is what a wait can be for.
type stage string

const (
	untilApproved stage = "approved"
	untilReleased stage = "released"
	untilFinished stage = "finished"
)

// verdict says whether a wait for a stage is over in that status, and how.
func verdict(status approvals.Status, until stage) (over bool, code int) {
	switch status {
	case approvals.Pending:
		return false, 0
	case approvals.Approved:
		return until == untilApproved, cli.ExitDone
	case approvals.Released:
		return until != untilFinished, cli.ExitDone
	case approvals.Deployed:
		return true, cli.ExitDone
	case approvals.DeployFailed:
		if until == untilFinished {
			return true, cli.ExitFault
		}
		return true, cli.ExitDone
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
	return true, cli.ExitFault // a status that only a newer gateway knows
}
