// Package story plays what CI, people and CircleCI do about deploy requests, and
// has the outcome judged by package proof. It knows no clock but time.Now and no
// way to the product but a [Gateway], so that the same stories are played in
// simulated time (the tests of package proof) and against the real daemon in a
// process that is killed (package soak).
//
// It is no part of the product: only tests import it.
package story

import (
	"context"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// Gateway is the product as CI and people reach it. An error other than a *Refusal
// means that it did not answer, or that its answer was lost.
type Gateway interface {
	// File files a request and returns its id and number.
	File(ctx context.Context, ask Ask) (id string, number int64, err error)
	Withdraw(ctx context.Context, id string) error
	// Cases returns what the gateway itself says of requests, all at one moment
	// where that is possible: status, events, end of Retry. It returns the time
	// stamp of each card, too.
	Cases(ctx context.Context, ids ...string) (cases []proof.Case, cards []string, err error)
	// Click and Submit carry what a person does in Slack.
	Click(ctx context.Context, click slacktest.ButtonClick) error
	Submit(ctx context.Context, user, view string, values slacktest.Values) (slacktest.SubmitResult, error)
}

// Refusal is an answer that asking again does not change.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }

// Ask is what CI asks for.
type Ask struct{ App, Revision, Workflow string }

// Branch is what every story deploys.
const Branch = "main"

// Script is what is done in a lane, and the settings of its app.
type Script struct {
	OnHold             bool // gates are reached at once
	Auto, CodeOnReject bool
	Required           int
	OnClose            approvals.OnClose
	Acts               []Act
}

// Act is one thing that somebody does, after a pause.
type Act struct {
	What  string
	Who   int // of the lane's admins
	Pause time.Duration
}

// What people, CI and CircleCI do.
const (
	Request   = "request"
	Approve   = "approve"
	WrongCode = "wrong code"
	Replay    = "replayed code"
	Reject    = "reject"
	Emergency = "emergency release"
	Withdraw  = "withdraw"
	Hold      = "the gate is reached"
	Bypass    = "bypass"
	Cancel    = "cancel in CircleCI"
	Deploy    = "deploy ends"
	Fail      = "deploy fails"
	Push      = "new pipeline"
	Again     = "request again"
	Guess     = "guess codes"
	Hand      = "approved by hand, and deployed"
	Deny      = "CircleCI refuses the next approval"
	Lose      = "the answer to the next approval is lost"
)

// guesses is one wrong code more than it takes to be paused.
const guesses = 6

// seconds draws a pause; most are short.
func seconds(t *rapid.T, name string, most int) time.Duration {
	return time.Duration(rapid.IntRange(0, most*10).Draw(t, name)) * 100 * time.Millisecond
}

// Draw chooses a script; its first act files a request.
func Draw(t *rapid.T) Script {
	s := Script{
		OnHold: rapid.Bool().Draw(t, "on hold"), Auto: rapid.IntRange(0, 4).Draw(t, "auto") > 0, CodeOnReject: rapid.Bool().Draw(t, "code on reject"),
		Required: rapid.IntRange(1, 2).Draw(t, "required"),
		OnClose:  rapid.SampledFrom([]approvals.OnClose{approvals.CloseCancelJob, approvals.CloseCancelWorkflow, approvals.CloseNothing}).Draw(t, "on close"),
	}
	what := rapid.SampledFrom([]string{
		Approve, Approve, Approve, Approve, Hold, Hold, Hold, Deploy, Deploy, Fail,
		WrongCode, Replay, Reject, Withdraw, Bypass, Cancel, Push, Again, Guess, Hand, Emergency, Deny, Lose,
	})
	s.Acts = append(s.Acts, Act{What: Request, Pause: seconds(t, "pause", 1)})
	for range rapid.IntRange(0, 7).Draw(t, "acts") {
		s.Acts = append(s.Acts, Act{What: what.Draw(t, "act"), Who: rapid.IntRange(0, Admins-1).Draw(t, "who"), Pause: seconds(t, "pause", 3)})
	}
	return s
}
