package proof_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// script is everything that is chosen about one world.
type script struct {
	Lanes   []laneScript
	Crashes []int // after how many commits each life ends; the one after the last goes on
	Faults  []fault
	// Processes live on one database at once, as when an old deploy of the gateway
	// overlaps with the new one; 0 = 1.
	Processes int
	Lost      []lostAnswer

	Blind, RateLimits     bool
	Lag                   int // readings for which the job list stays as it was
	HideID, CancelBlocked bool
}

// orderly reports whether the cards of a channel have to stand in the order of
// their requests. They need not if something makes one card look like the fault of
// its own that others need not wait for: Slack refuses it often, and answers
// otherwise. Nor if a claim may be left to its lease: by a process that ends beside
// another, or because the answer to the claim was lost.
func (s script) orderly() bool {
	if s.Processes > 1 || len(s.Lost) > 0 {
		return false
	}
	refused := 0
	for _, f := range s.Faults {
		if f.Kind == failBroken {
			refused++
		}
	}
	return refused < 3
}

type laneScript struct {
	OnHold, Auto, CodeOnReject bool
	Required                   int
	OnClose                    approvals.OnClose
	Acts                       []act
}

// act is one thing that somebody does, after a pause.
type act struct {
	What  string
	Who   int
	Pause time.Duration
}

// What people, CI and CircleCI do.
const (
	actRequest   = "request"
	actApprove   = "approve"
	actWrongCode = "wrong code"
	actReplay    = "replayed code"
	actReject    = "reject"
	actEmergency = "emergency release"
	actWithdraw  = "withdraw"
	actHold      = "the gate is reached"
	actBypass    = "bypass"
	actCancel    = "cancel in CircleCI"
	actDeploy    = "deploy ends"
	actFail      = "deploy fails"
	actPush      = "new pipeline"
	actAgain     = "request again"
	actGuess     = "guess codes"
	actHand      = "approved by hand, and deployed"
)

// guesses is one wrong code more than it takes to be paused.
const guesses = 6

// seconds draws a pause; most are short.
func seconds(t *rapid.T, name string, most int) time.Duration {
	return time.Duration(rapid.IntRange(0, most*10).Draw(t, name)) * 100 * time.Millisecond
}

func drawScript(t *rapid.T, lanes int) script {
	s := script{
		Blind: rapid.IntRange(0, 5).Draw(t, "blind") == 0, RateLimits: rapid.Bool().Draw(t, "rate limits"),
		Lag: rapid.IntRange(0, 2).Draw(t, "lag"), HideID: rapid.Bool().Draw(t, "hide id"), CancelBlocked: rapid.Bool().Draw(t, "cancel blocked"),
		Crashes:   rapid.SliceOfN(rapid.IntRange(1, 150), 0, 5).Draw(t, "crashes"),
		Processes: rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "processes"),
	}
	if rapid.Bool().Draw(t, "loses") {
		for range rapid.IntRange(1, 4).Draw(t, "lost") {
			s.Lost = append(s.Lost, lostAnswer{At: rapid.IntRange(0, 250).Draw(t, "at"), Made: rapid.Bool().Draw(t, "made")})
		}
	}
	ops, kinds := operations(), faultKinds()
	for range rapid.IntRange(0, 10).Draw(t, "faults") {
		s.Faults = append(s.Faults, fault{
			Op: rapid.SampledFrom(ops).Draw(t, "op"), Nth: rapid.SampledFrom([]int{1, 1, 1, 2, 2, 3, 5, 8, 13, 21}).Draw(t, "nth"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
		})
	}
	for range lanes {
		s.Lanes = append(s.Lanes, drawLane(t))
	}
	return s
}

func drawLane(t *rapid.T) laneScript {
	l := laneScript{
		OnHold: rapid.Bool().Draw(t, "on hold"), Auto: rapid.IntRange(0, 4).Draw(t, "auto") > 0, CodeOnReject: rapid.Bool().Draw(t, "code on reject"),
		Required: rapid.IntRange(1, 2).Draw(t, "required"),
		OnClose:  rapid.SampledFrom([]approvals.OnClose{approvals.CloseCancelJob, approvals.CloseCancelWorkflow, approvals.CloseNothing}).Draw(t, "on close"),
	}
	what := rapid.SampledFrom([]string{
		actApprove, actApprove, actApprove, actApprove, actHold, actHold, actHold, actDeploy, actDeploy, actFail,
		actWrongCode, actReplay, actReject, actWithdraw, actBypass, actCancel, actPush, actAgain, actGuess, actHand, actEmergency,
	})
	l.Acts = append(l.Acts, act{What: actRequest, Pause: seconds(t, "pause", 1)})
	for range rapid.IntRange(0, 7).Draw(t, "acts") {
		l.Acts = append(l.Acts, act{What: what.Draw(t, "act"), Who: rapid.IntRange(0, admins-1).Draw(t, "who"), Pause: seconds(t, "pause", 3)})
	}
	return l
}

// perform does one act.
func (l *lane) perform(ctx context.Context, a act) {
	if !rest(ctx, a.Pause) {
		return
	}
	s := l.newest()
	if a.What == actRequest || a.What == actPush {
		s = l.push()
		l.note("%s: workflow %s", a.What, s.workflow)
		l.file(ctx, s)
		return
	}
	if s == nil || s.id == "" {
		return
	}
	l.note("%s by %d", a.What, a.Who)
	switch a.What {
	case actApprove, actWrongCode, actReplay, actReject, actEmergency:
		l.decide(ctx, s, a.Who, a.What)
	case actGuess:
		for range guesses {
			l.decide(ctx, s, a.Who, actWrongCode)
		}
	case actAgain:
		l.again(ctx, s)
	case actWithdraw:
		l.withdraw(ctx, s)
	case actHold:
		l.end(s, "request_approval")
	case actBypass:
		_ = l.circle.ApproveAs("mallory", s.workflow, gateName) // refused unless it is on hold
	case actHand:
		_ = l.circle.ApproveAs("alice", s.workflow, gateName) // refused unless it is on hold
		l.end(s, "deploy")
	case actCancel:
		_ = l.circle.CancelWorkflowAs("mallory", s.workflow)
	case actDeploy:
		l.end(s, "deploy")
	case actFail:
		if l.circle.JobStatus(s.workflow, "deploy") == "running" {
			_ = l.circle.Fail(s.workflow, "deploy")
		}
	}
}

// play does all acts and judges after each, then sees to it that nothing is left
// that people or CI would have to do.
func (l *lane) play(ctx context.Context) {
	for _, a := range l.script.Acts {
		l.perform(ctx, a)
		l.judge(ctx, false)
		l.anchor(ctx)
	}
}

// push on what waits for people or CI: then only the product can be in the way.
func (l *lane) nudge(ctx context.Context) {
	for _, s := range l.stories {
		if s.id == "" {
			continue
		}
		l.end(s, "request_approval", "deploy")
		var r approvals.Request
		err := l.db.View(ctx, func(tx approvals.Tx) (err error) { r, err = tx.Request(s.id); return err })
		if err == nil && r.Status == approvals.Approved && !r.AutoApprove {
			_ = l.circle.ApproveAs("alice", s.workflow, gateName) // the card asks for it
		}
	}
}

// evidence is all that is known of a story.
func (l *lane) evidence(ctx context.Context, s *story) (proof.Case, error) {
	messages := l.slack.AllMessages(l.channel)
	c := proof.Case{
		ID: s.id, Emergency: []string{adminID(l.number, 0)}, Required: l.script.Required, Auto: l.script.Auto, OnClose: l.script.OnClose, Self: l.self, Blind: l.blind,
	}
	tries := l.circle.Approvals(s.workflow)
	gate, _ := l.circle.Job(s.workflow, gateName)
	c.Gate, c.GateBy = gate.Status, gate.ApprovedBy
	var r approvals.Request
	var others []proof.Case
	err := l.db.View(ctx, func(tx approvals.Tx) (err error) {
		if r, err = tx.Request(s.id); err != nil {
			return err
		}
		if c.Events, err = proof.History(tx, s.id); err != nil {
			return err
		}
		for _, o := range l.stories {
			if o.workflow != s.workflow || o.id == s.id || o.id == "" {
				continue
			}
			var other proof.Case
			if other.Events, err = proof.History(tx, o.id); err != nil {
				return err
			}
			others = append(others, other)
		}
		return nil
	})
	c.Status, c.RetryUntil = r.Status, r.RetryUntil()
	c.AskedAgain = slices.IndexFunc(l.stories, func(o *story) bool { return o.id == s.id }) < lastOf(l.stories, s.workflow)
	for _, try := range tries {
		ours := try.UserID == l.self
		if ours && slices.ContainsFunc(others, func(o proof.Case) bool { return o.Attempted(try.At).After(c.Attempted(try.At)) }) {
			continue
		}
		c.Tries = append(c.Tries, try)
		if ours {
			c.Released = append(c.Released, try.At)
		}
	}
	c.Read(messages, r.Slack.TS)
	c.ReadDMs(l.slack)
	return c, err
}

// lastOf is the index of the newest acknowledged story of a workflow.
func lastOf(stories []*story, workflow string) int {
	last := -1
	for i, s := range stories {
		if s.workflow == workflow && s.id != "" {
			last = i
		}
	}
	return last
}

// again files a request for a workflow that has one already.
func (l *lane) again(ctx context.Context, s *story) {
	next := &story{workflow: s.workflow, revision: s.revision}
	l.file(ctx, next)
	if next.id != "" && next.id != s.id {
		l.stories = append(l.stories, next)
	}
}

// outOfOrder reports whether cards of the channel stand in another order than that
// in which they were asked for.
func (l *lane) outOfOrder() bool {
	last := ""
	for _, s := range l.stories {
		for _, m := range l.slack.Messages(l.channel) {
			if s.id == "" || !proof.IsCard(m, s.id) {
				continue
			}
			if m.TS < last {
				return true
			}
			last = m.TS
			break // a second one, where it is tolerated, is late
		}
	}
	return false
}

// judge checks what must hold at any moment, or with final that nothing is still
// to come. It returns what is.
func (l *lane) judge(ctx context.Context, final bool) (open []string) {
	if l.orderly && l.outOfOrder() {
		l.violation("I5: the cards stand in another order than the requests\n" + strings.Join(l.trace, "\n") + "\n" + l.calls())
	}
	for _, s := range l.stories {
		if s.id == "" {
			continue
		}
		c, err := l.evidence(ctx, s)
		if err != nil {
			l.violation(fmt.Sprintf("I1: acknowledged request %s: %v", s.id, err))
			continue
		}
		found := c.Broken()
		left := c.Unsettled()
		if s.want != "" && len(left) == 0 && c.Status != s.want {
			found = append(found, fmt.Sprintf("I1: acknowledged as %s but it is %s", s.want, c.Status))
		}
		if final {
			found = append(found, left...)
		}
		if len(found) > 0 {
			l.violation(strings.Join(found, "\n") + "\n" + strings.Join(l.trace, "\n") + "\n" + c.Story() + l.calls())
		}
		open = append(open, left...)
	}
	return open
}

// calls lists what was said in Slack's and CircleCI's logs, for people.
func (l *lane) calls() string {
	var b strings.Builder
	for _, c := range l.slack.Calls() {
		if c.Args["channel"] == l.channel || c.Args["channel"] == "" {
			fmt.Fprintf(&b, "  slack %s %s %s\n", c.At.UTC().Format("15:04:05.000"), c.Method, c.Error)
		}
	}
	for _, m := range l.slack.Thread(l.channel, "") {
		fmt.Fprintf(&b, "  message %s %s\n", m.TS, strings.ReplaceAll(slacktest.Text(m.Blocks), "\n", " / "))
	}
	return b.String()
}
