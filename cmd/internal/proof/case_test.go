package proof_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

var noon = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

func event(seq int64, t approvals.EventType, actor string) approvals.Event {
	e := approvals.Event{
		Seq: seq, Type: t, Time: noon.Add(time.Duration(seq) * time.Second).Format("2006-01-02T15:04:05.000Z"),
		Actor: approvals.Actor{ID: actor}, Data: map[string]string{"round": "1"}, Request: "R",
	}
	if t == approvals.EventVoted || t == approvals.EventBreakGlass {
		e.MFA = "totp"
	}
	return e
}

func reply(seq string) slacktest.Message {
	return slacktest.Message{Metadata: &slacktest.Metadata{EventType: bot.MetadataReply, EventPayload: map[string]any{"seq": seq}}}
}

// deployed is a case in which all went well.
func deployed() proof.Case {
	call := noon.Add(3500 * time.Millisecond)
	return proof.Case{
		ID: "R", Status: approvals.Deployed, Required: 1, Auto: true, OnClose: approvals.CloseCancelJob, Self: "us", Gate: "success",
		Events: []approvals.Event{
			event(0, approvals.EventRequested, ""), event(1, approvals.EventVoted, "ana"), event(2, approvals.EventApproved, ""),
			event(3, approvals.EventAttempt, ""), event(4, approvals.EventReleased, ""), event(5, approvals.EventDeployed, ""),
		},
		Cards:    []slacktest.Message{{TS: "1"}},
		Thread:   []slacktest.Message{reply("0"), reply("1"), reply("2"), reply("4"), reply("5")},
		Tries:    []circlecitest.Approval{{UserID: "us", Took: true, At: call}},
		Released: []time.Time{call},
	}
}

// emergency makes the decision of a case one that ana made alone.
func emergency(c *proof.Case) {
	c.Required, c.Emergency = 2, []string{"ana"}
	c.Events[1] = event(1, approvals.EventBreakGlass, "ana")
	c.Events[1].Reason = "the site is down"
	c.Events = slices.Delete(c.Events, 2, 3)
	c.Thread = slices.Delete(c.Thread, 2, 3)
	c.Channel = append(c.Channel, reply("1"))
}

func TestBrokenPromisesAreFound(t *testing.T) {
	t.Parallel()
	button := func(name string) slacktest.Message {
		return slacktest.Message{Blocks: []slacktest.Block{{"type": "actions", "elements": []any{map[string]any{"type": "button", "action_id": name}}}}}
	}
	for _, tt := range []struct {
		name  string
		spoil func(*proof.Case)
		want  string // "" = nothing is found
	}{
		{"all is well", func(*proof.Case) {}, ""},
		{"made twice", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventRequested, "")) }, "I1"},
		{"too few voters", func(c *proof.Case) { c.Required = 2 }, "I2"},
		{"vote without code", func(c *proof.Case) { c.Events[1].MFA = "" }, "I2"},
		{"call without attempt", func(c *proof.Case) { c.Events = append(c.Events[:3:3], c.Events[4:]...) }, "I2"},
		{"call before the decision", func(c *proof.Case) { c.Events[3].Seq, c.Events[2].Seq = 2, 3 }, "I2"},
		{"call that is not ours to make", func(c *proof.Case) { c.Auto = false }, "I2"},
		{"an emergency release", func(c *proof.Case) { emergency(c) }, ""},
		{"an emergency release by somebody else", func(c *proof.Case) { emergency(c); c.Emergency = []string{"bea"} }, "I2"},
		{"an emergency release without a code", func(c *proof.Case) { emergency(c); c.Events[1].MFA = "" }, "I2"},
		{"an emergency release without a reason", func(c *proof.Case) { emergency(c); c.Events[1].Reason = "" }, "I2"},
		{"an emergency release after the decision", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventBreakGlass, "ana")) }, "I3"},
		{"a vote that the decision tells", func(c *proof.Case) { c.Thread = slices.Delete(c.Thread, 1, 2) }, ""},
		{"reminded twice", func(c *proof.Case) {
			c.Events = slices.Insert(c.Events, 1, event(-2, approvals.EventReminded, ""), event(-1, approvals.EventReminded, ""))
		}, "I5"},
		{"reminded after the decision", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventReminded, "")) }, "I5"},
		{"decided twice", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventApproved, "")) }, "I3"},
		{"approved and rejected", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventRejected, "")) }, "I3"},
		{"rejected in a second round", func(c *proof.Case) {
			c.Events = append(c.Events[:3:3], event(9, approvals.EventReopened, "ana"), event(10, approvals.EventRejected, "ana"))
			c.Status, c.Gate, c.Tries, c.Released, c.OnClose = approvals.Rejected, "on_hold", nil, nil, approvals.CloseNothing
			c.Thread = []slacktest.Message{reply("0"), reply("1"), reply("2"), reply("9"), reply("10")}
		}, ""},
		{"approved after a reject", func(c *proof.Case) {
			c.Events = append(c.Events, event(9, approvals.EventRejected, "ana"), event(10, approvals.EventReopened, ""))
		}, "I3"},
		{"an answer that came again", func(c *proof.Case) {
			e := event(9, approvals.EventGateRefused, "")
			e.Data["again"] = "true"
			c.Events = append(c.Events, e)
		}, ""},
		{"an answer that came for the first time", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventGateRefused, "")) }, "I5"},
		{"noise is told", func(c *proof.Case) {
			c.Events, c.Thread = append(c.Events, event(9, approvals.EventWaiting, "")), append(c.Thread, reply("9"))
		}, "I5"},
		{"call after the gate was open", func(c *proof.Case) { c.Tries = append(c.Tries, circlecitest.Approval{UserID: "us"}) }, "I4"},
		{"call after the release", func(c *proof.Case) { c.Released = append(c.Released, noon.Add(9*time.Second)) }, "I4"},
		{"released without a call", func(c *proof.Case) { c.Tries = nil }, "I4"},
		{"our release taken for a bypass", func(c *proof.Case) { c.Status = approvals.Bypassed }, "I4"},
		{"no end", func(c *proof.Case) { c.Status = approvals.Approved }, "I5"},
		{"silent end", func(c *proof.Case) { c.Thread = c.Thread[:4] }, "I5"},
		{"end without event", func(c *proof.Case) { c.Events = c.Events[:5] }, "I5"},
		{"no card", func(c *proof.Case) { c.Cards = nil }, "I5"},
		{"two cards", func(c *proof.Case) { c.Cards = append(c.Cards, slacktest.Message{TS: "2"}) }, "I5"},
		{"Retry is left", func(c *proof.Case) { c.Cards[0], c.RetryUntil = button("retry"), noon }, "I5"},
		{"Retry is on offer", func(c *proof.Case) { c.Cards[0] = button("retry") }, ""},
		{"opened after the close, and nobody was told", func(c *proof.Case) { c.Status, c.Tries, c.Released = approvals.Rejected, nil, nil }, "I5: the gate of"},
		{"the channel is not told", func(c *proof.Case) { c.Events = append(c.Events, event(9, approvals.EventCodeLocked, "ana")) }, "I5: the channel does not hear"},
		{"the person is not told", func(c *proof.Case) {
			c.Events, c.Channel = append(c.Events, event(9, approvals.EventCodeLocked, "ana")), []slacktest.Message{reply("9")}
		}, "I5: ana does not hear"},
		{"the channel is told twice", func(c *proof.Case) { c.Channel = []slacktest.Message{reply("5"), reply("5")} }, "I5: the channel hears"},
		{"buttons are left", func(c *proof.Case) { c.Cards[0] = button("approve") }, "I5"},
		{"told twice", func(c *proof.Case) { c.Thread = append(c.Thread, reply("5")) }, "I5"},
		{"told in another order", func(c *proof.Case) { c.Thread[1], c.Thread[2] = c.Thread[2], c.Thread[1] }, "I5"},
		{"another's event", func(c *proof.Case) { c.Thread = append(c.Thread, reply("77")) }, "I5"},
		{"gate left on hold", func(c *proof.Case) { c.Status, c.Gate = approvals.Rejected, "on_hold" }, "on_close"},
		{"told twice where history may not be read", func(c *proof.Case) { c.Blind, c.Thread = true, append(c.Thread, reply("5")) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := deployed()
			tt.spoil(&c)
			found := strings.Join(append(c.Broken(), c.Unsettled()...), "\n")
			if tt.want == "" && found != "" || !strings.Contains(found, tt.want) {
				t.Errorf("got %q; want %q", found, tt.want)
			}
		})
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	vote := event(5, approvals.EventVoted, "ana")
	sent := func(step int64, a proof.Answer) proof.Submission {
		return proof.Submission{User: "ana", Request: "R", Step: step, Sent: noon, Answer: a}
	}
	for _, tt := range []struct {
		name string
		sent []proof.Submission
		log  []approvals.Event
		want string
	}{
		{"accepted", []proof.Submission{sent(7, proof.Accepted)}, []approvals.Event{vote}, ""},
		{"the answer was lost", []proof.Submission{sent(7, proof.Unknown)}, []approvals.Event{vote}, ""},
		{"lost, and not recorded", []proof.Submission{sent(7, proof.Unknown)}, nil, ""},
		{"accepted, and not recorded", []proof.Submission{sent(7, proof.Accepted)}, nil, "I1"},
		{"recorded without a code", nil, []approvals.Event{vote}, "I2"},
		{"refused, and recorded", []proof.Submission{sent(7, proof.Refused)}, []approvals.Event{vote}, "I2"},
		{"a wrong code", []proof.Submission{sent(0, proof.Accepted)}, []approvals.Event{vote}, "I2"},
		{"one step twice", []proof.Submission{sent(7, proof.Accepted), sent(7, proof.Accepted)}, []approvals.Event{vote, event(6, approvals.EventVoted, "ana")}, "I6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c proof.Codes
			for _, s := range tt.sent {
				c.Send(s)(s.Answer)
			}
			found := strings.Join(c.Broken(tt.log), "\n")
			if tt.want == "" && found != "" || !strings.Contains(found, tt.want) {
				t.Errorf("got %q; want %q", found, tt.want)
			}
		})
	}
}
