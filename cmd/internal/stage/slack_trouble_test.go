package stage_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func TestRequestDuringAnOutageOfSlackGetsItsCardAfterwards(t *testing.T) {
	p := setup(t, stage.Options{})
	p.Slack.SetOutage(true)
	workflow := p.Pipeline(stage.Number)
	id, err := p.Request(p.ctx, workflow)
	p.ok(err)
	for p.get(id).Failure.Code != "card_not_posted" {
		select {
		case <-p.ctx.Done():
			t.Fatalf("got failure %+v; want card_not_posted", p.get(id).Failure)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if r := p.get(id); r.Status != approvals.Pending {
		t.Errorf("got %s; want pending", r.Status)
	}
	p.ok(p.Circle.Succeed(workflow, "request_approval"))
	p.Slack.SetOutage(false)
	a := asked{workflow, id, p.card(id)}
	p.ok(p.Slack.WaitSockets(p.ctx, 1))
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
	p.inOrder(a, "Asked by", "approved with a code", "Released")
	if r := p.get(id); r.Failure.Code != "" {
		t.Errorf("got failure %+v; want none any more", r.Failure)
	}
	if n := len(p.cards()); n != 1 {
		t.Errorf("got %d cards; want 1", n)
	}
}

// inOrder waits for lines and checks that the thread holds them once each, in order.
func (p *play) inOrder(a asked, texts ...string) {
	p.t.Helper()
	p.replied(a, texts...)
	thread := p.thread(a)
	last := -1
	for _, text := range texts {
		at := strings.Index(thread, text)
		if at < last || strings.Count(thread, text) != 1 {
			p.t.Fatalf("%q is out of order or doubled:\n%s", text, thread)
		}
		last = at
	}
}

func TestOutageOfSlackDuringTheReleaseDelaysOnlyTheTelling(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.ask()
	p.approve(stage.Ana, a, "approve")
	p.replied(a, "CircleCI may run")
	p.Slack.SetOutage(true)
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	p.becomes(a, approvals.Released)
	p.ok(p.Circle.Succeed(a.workflow, "deploy"))
	p.becomes(a, approvals.Deployed)
	p.Slack.SetOutage(false)
	p.inOrder(a, "Asked by", "approved with a code", "Released", "Deployed")
	p.cardSays(a, closed, "Deployed: myapp")
	p.releasedOnce(a, 1)
}

// TestOneCardThroughTroubleOfSlack lets the post of the card go wrong.
func TestOneCardThroughTroubleOfSlack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault slacktest.Fault
	}{
		{"429", slacktest.Fault{Status: http.StatusTooManyRequests, RetryAfter: 2}},
		{"500", slacktest.Fault{Status: 500}},
		{"lost before", slacktest.Fault{Drop: slacktest.DropBefore}},
		{"answer lost", slacktest.Fault{Drop: slacktest.DropAfter}},
		{"internal_error", slacktest.Fault{Error: "internal_error"}},
		{"not in the channel", slacktest.Fault{Error: "not_in_channel"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			tt.fault.Method, tt.fault.Times = "chat.postMessage", 1
			p.Slack.AddFault(tt.fault)
			a := p.askOnHold()
			p.replied(a, "Asked by")
			p.approve(stage.Ana, a, "approve")
			p.becomes(a, approvals.Released)
			p.inOrder(a, "Asked by", "CircleCI may run", "Released")
			if n := len(p.cards()); n != 1 {
				t.Errorf("got %d cards; want 1", n)
			}
			if r := p.get(a.id); string(r.Slack.TS) != a.card.TS || r.Slack.Permalink == "" {
				t.Errorf("got %+v; want the card at %s with a permalink", r.Slack, a.card.TS)
			}
		})
	}
}

func TestReplyWhoseAnswerWasLostIsNotDoubled(t *testing.T) {
	p := setup(t, stage.Options{})
	p.Slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Times: 1, Drop: slacktest.DropAfter, Match: func(c slacktest.Call) bool {
		return c.Args["thread_ts"] != ""
	}})
	a := p.askOnHold()
	p.approve(stage.Ana, a, "approve")
	p.inOrder(a, "Asked by", "approved with a code", "Released")
}

func TestDeletedCardDoesNotStopARelease(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.replied(a, "Asked by")
	view := p.press(stage.Ana, a, "approve")
	p.Slack.RemoveMessage(a.card.Channel, a.card.TS)
	if got := p.submit(stage.Ana, view, p.code(stage.Ana)); !got.Closed {
		t.Fatalf("got %+v; want it accepted", got)
	}
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
	_, err := p.Slack.WaitMessage(p.ctx, stage.Channel, func(m slacktest.Message) bool {
		return strings.Contains(slacktest.Text(m.Blocks), "Released")
	})
	p.ok(err)
}

func TestRealRateLimitsOfSlackAreKept(t *testing.T) {
	p := setup(t, settings("SUPERSEDE=off"))
	p.Slack.SetRateLimits(true)
	for n := range 4 {
		a := p.askFor(p.Pipeline(stage.Number + int64(n)))
		p.replied(a, "Asked by")
	}
	for _, c := range p.Slack.CallsOf("chat.postMessage") {
		if c.Status == http.StatusTooManyRequests {
			t.Errorf("got a post refused with 429 at %s; want none", c.At)
		}
	}
}

func TestModalThatSlackDidNotOpenIsTold(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Slack.AddFault(slacktest.Fault{Method: "views.open", Times: 1, Error: "expired_trigger_id"})
	if said := p.refused(stage.Ana, a, "approve"); !strings.Contains(said, "Press the button again") {
		t.Errorf("got %q; want to press again", said)
	}
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
}

func TestRefusalIsToldThoughTheResponseURLIsDead(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	p.Slack.AddFault(slacktest.Fault{Method: "response_url", Status: 404})
	if said := p.refused(stage.Carl, a, "approve"); !strings.Contains(said, "Only admins") {
		t.Errorf("got %q; want why", said)
	}
}

func TestClicksGoOnAfterSlackReplacesTheSocket(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{slacktest.Warning, slacktest.RefreshRequested} {
		t.Run(reason, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			opened := len(p.Slack.CallsOf("apps.connections.open"))
			p.Slack.Disconnect(reason)
			p.ok(p.Slack.Wait(p.ctx, func() bool { return len(p.Slack.CallsOf("apps.connections.open")) > opened }))
			// Who clicks in the moment between two sockets is told by Slack to press again.
			view, err := p.Press(p.ctx, stage.Ana, a.card, "approve")
			for errors.Is(err, slacktest.ErrTimeout) || errors.Is(err, slacktest.ErrNoConnection) {
				p.ok(p.Slack.WaitSockets(p.ctx, 1))
				view, err = p.Press(p.ctx, stage.Ana, a.card, "approve")
			}
			p.ok(err)
			if got := p.submit(stage.Ana, view, p.code(stage.Ana)); !got.Closed {
				t.Fatalf("got %+v; want it accepted", got)
			}
			p.becomes(a, approvals.Released)
		})
	}
}

func TestUndecodablePayloadDoesNotStopTheBot(t *testing.T) {
	p := setup(t, stage.Options{})
	a := p.askOnHold()
	_, err := p.Slack.Deliver(p.ctx, p.Slack.Undecodable(stage.Ana, stage.Channel))
	p.ok(err)
	p.approve(stage.Ana, a, "approve")
	p.becomes(a, approvals.Released)
}

// TestForgedOrReplayedHTTPHasNoEffect sends Slack's own payload as others would.
func TestForgedOrReplayedHTTPHasNoEffect(t *testing.T) {
	p := setup(t, stage.Options{HTTP: true})
	a := p.askOnHold()
	view := p.press(stage.Ana, a, "approve")
	d, _, err := p.Slack.PrepareSubmit(stage.Ana, view.ID, slacktest.Values{"totp": {"code": p.code(stage.Ana)}})
	p.ok(err)
	send := func(at time.Time, change func(http.Header)) int {
		t.Helper()
		req, err := p.Slack.SignedRequest(p.ctx, d, at)
		p.ok(err)
		if change != nil {
			change(req.Header)
		}
		res, err := http.DefaultClient.Do(req)
		p.ok(err)
		res.Body.Close()
		return res.StatusCode
	}
	for _, tt := range []struct {
		name   string
		at     time.Time
		change func(http.Header)
	}{
		{"bad signature", time.Now(), func(h http.Header) { h.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64)) }},
		{"no signature", time.Now(), func(h http.Header) { h.Del("X-Slack-Signature") }},
		{"no timestamp", time.Now(), func(h http.Header) { h.Del("X-Slack-Request-Timestamp") }},
		{"other timestamp", time.Now(), func(h http.Header) { h.Set("X-Slack-Request-Timestamp", "1700000000") }},
		{"too old", time.Now().Add(-6 * time.Minute), nil},
		{"too new", time.Now().Add(6 * time.Minute), nil},
	} {
		if got := send(tt.at, tt.change); got != http.StatusUnauthorized {
			t.Errorf("%s: got %d; want 401", tt.name, got)
		}
	}
	p.untouched(a)
	for range 3 {
		if got := send(time.Now(), nil); got != http.StatusOK {
			t.Errorf("signed: got %d; want 200", got)
		}
	}
	p.becomes(a, approvals.Released)
	p.releasedOnce(a, 1)
	if n := p.count(a, approvals.EventVoted); n != 1 {
		t.Errorf("got %d votes; want 1", n)
	}
}

func TestSlackEndpointsAreClosedInSocketMode(t *testing.T) {
	p := setup(t, stage.Options{})
	for _, path := range []string{"interactions", "commands", "events"} {
		res, err := http.Post(p.URL+"/slack/"+path, "application/json", strings.NewReader("{}"))
		p.ok(err)
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d; want 404", path, res.StatusCode)
		}
	}
}
