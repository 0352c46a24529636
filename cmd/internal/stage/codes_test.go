package stage_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// inline checks that a code was refused under its field.
func (p *play) inline(user string, a asked, code, want string) {
	p.t.Helper()
	view := p.Slack.View(user)
	if view == nil {
		view = p.press(user, a, "approve")
	}
	got := p.submit(user, view, code)
	if got.Closed || got.Local || !strings.Contains(got.Errors["totp"], want) {
		p.t.Fatalf("got %+v; want %q under the code", got, want)
	}
}

func TestWrongCodesAreAnsweredInline(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	now := time.Now()
	p.inline(stage.Ana, a, p.WrongCode(stage.Ana, now), "4 tries left")
	p.inline(stage.Ana, a, p.Code(stage.Bea, now), "3 tries left")
	p.inline(stage.Ana, a, p.Code(stage.Ana, now.Add(-60*time.Second)), "2 tries left")
	for _, malformed := range []string{"12345x", "１２３４５６", "12 34 5", "-12345"} {
		p.inline(stage.Ana, a, malformed, "six digits")
	}
	p.untouched(a)
	if n := p.count(a, approvals.EventCodeFailed); n != 3 {
		t.Errorf("got %d failures; want 3", n)
	}
	p.replied(a, "gave a wrong code (3 in a row)")
	code := p.code(stage.Ana)
	if got := p.submit(stage.Ana, p.Slack.View(stage.Ana), code[:3]+" "+code[3:]); !got.Closed {
		t.Errorf("code with a space: got %+v; want it accepted", got)
	}
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
}

func TestCodeTwoStepsAheadIsWrong(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.inline(stage.Ana, a, p.Code(stage.Ana, time.Now().Add(90*time.Second)), "not right")
	p.untouched(a)
}

func TestUsedCodeIsRefusedOnAnotherRequest(t *testing.T) {
	p := setup(t, settings("SUPERSEDE=off"))
	a := p.askOnHold()
	code := p.code(stage.Ana)
	if got := p.submit(stage.Ana, p.press(stage.Ana, a, "approve"), code); !got.Closed {
		t.Fatalf("got %+v; want it accepted", got)
	}
	b := p.askOnHold()
	for range 6 { // is never counted, so there is no pause
		p.inline(stage.Ana, b, code, "already used")
	}
	if r := p.get(b.id); r.Status != approvals.Pending || len(r.Decisions) != 0 {
		t.Errorf("got %s %+v; want pending", r.Status, r.Decisions)
	}
	p.replied(b, "already used")
	if got := p.submit(stage.Ana, p.Slack.View(stage.Ana), p.code(stage.Ana)); !got.Closed {
		t.Errorf("next code: got %+v; want it accepted", got)
	}
}

func TestUsedCodeIsRefusedAfterARestart(t *testing.T) {
	p := setup(t, settings("SUPERSEDE=off"))
	a := p.askOnHold()
	code := p.code(stage.Ana)
	p.submit(stage.Ana, p.press(stage.Ana, a, "approve"), code)
	p.becomes(a, approvals.Released)
	p.Stop()
	p.start()
	p.inline(stage.Ana, p.askOnHold(), code, "already used")
}

func TestFiveWrongCodesPauseOnePersonAlsoAfterARestart(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	for _, want := range []string{"4 tries left", "3 tries left", "2 tries left", "1 try left", "Too many wrong codes. Try again at"} {
		p.inline(stage.Ana, a, p.WrongCode(stage.Ana, time.Now()), want)
	}
	p.inline(stage.Ana, a, p.Code(stage.Ana, time.Now()), "ask another admin")
	p.untouched(a)
	p.ok(p.Slack.Wait(p.ctx, func() bool {
		return slices.ContainsFunc(p.Slack.DMs(stage.Ana), func(m slacktest.Message) bool { return strings.Contains(m.Text, "refused until") })
	}))
	p.Stop()
	p.start()
	p.ok(p.Slack.CloseView(stage.Ana))
	p.inline(stage.Ana, a, p.Code(stage.Ana, time.Now()), "Too many wrong codes")
	p.operator("user", "unlock", "--slack-id", stage.Ana)
	if got := p.submit(stage.Ana, p.Slack.View(stage.Ana), p.code(stage.Ana)); !got.Closed {
		t.Errorf("after unlock: got %+v; want it accepted", got)
	}
	p.becomes(a, approvals.Released)
}

func TestPauseOfOneAdminDoesNotHinderAnother(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	for range 5 {
		p.inline(stage.Ana, a, p.WrongCode(stage.Ana, time.Now()), "")
	}
	p.approve(stage.Bea, a, "approve")
	p.becomes(a, approvals.Released)
}

func TestNoCodeReachesLogThreadOrHistory(t *testing.T) {
	var log bytes.Buffer
	p := setup(t, stage.Options{Log: &log, Env: []string{"RGW_LOG_LEVEL=debug"}})
	a := p.askOnHold()
	wrong, right := p.WrongCode(stage.Ana, time.Now()), p.code(stage.Ana)
	p.inline(stage.Ana, a, wrong, "not right")
	p.submit(stage.Ana, p.Slack.View(stage.Ana), right)
	p.becomes(a, approvals.Released)
	p.replied(a, "Released")
	events, thread := p.log(), p.thread(a)
	p.Stop()
	for _, e := range events {
		fmt.Fprintf(&log, "%s %s %s %v\n", e.Type, e.Outcome, e.Reason, e.Data)
	}
	for _, secret := range []string{wrong, right, p.Token} {
		if strings.Contains(log.String()+thread, secret) {
			t.Error("a code or token stands in the log, the thread or the history")
		}
	}
}
