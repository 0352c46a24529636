package story

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// TestJudge doctors a story that went well; what proof's own tests doctor is not
// repeated.
func TestJudge(t *testing.T) {
	t.Parallel()
	told := func(seq string) slacktest.Message {
		return slacktest.Message{Metadata: &slacktest.Metadata{EventType: bot.MetadataReply, EventPayload: map[string]any{"seq": seq}}}
	}
	for _, tt := range []struct {
		name        string
		spoil       func(*Story, *proof.Case)
		found, open string // "" = nothing is
	}{
		{"all is well", func(*Story, *proof.Case) {}, "", ""},
		{"another end", func(s *Story, _ *proof.Case) { s.Want = approvals.Canceled }, "acknowledged as canceled but it is deployed", ""},
		{"no end yet", func(s *Story, c *proof.Case) {
			s.Want, c.Status = approvals.Canceled, approvals.Pending
		}, "", "the request is pending"},
		{"a second card", func(_ *Story, c *proof.Case) { c.Cards = append(c.Cards, slacktest.Message{}) }, "2 cards", ""},
		{"a line that is lost", func(_ *Story, c *proof.Case) { c.Thread = c.Thread[1:] }, "", "the thread does not tell event 0"},
		{"a second call", func(_ *Story, c *proof.Case) { c.Tries = append(c.Tries, circlecitest.Approval{UserID: "us"}) }, "I4", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const at = "2026-01-05T12:00:00.000Z"
			c := proof.Case{ID: "R", Status: approvals.Deployed, Required: 1, Auto: true, OnClose: approvals.CloseCancelJob, Self: "us", Gate: "success"}
			for i, e := range []approvals.EventType{approvals.EventRequested, approvals.EventVoted, approvals.EventApproved, approvals.EventAttempt, approvals.EventReleased, approvals.EventDeployed} {
				c.Events = append(c.Events, approvals.Event{Seq: int64(i), Type: e, Time: at, Data: map[string]string{"round": "1"}, MFA: "totp", Actor: approvals.Actor{ID: "ana"}})
			}
			for _, seq := range []string{"0", "1", "2", "4", "5"} {
				c.Thread = append(c.Thread, told(seq))
			}
			c.Cards = []slacktest.Message{{}}
			c.Tries = []circlecitest.Approval{{UserID: "us", Took: true}}
			s := &Story{ID: "R", Want: approvals.Deployed}
			tt.spoil(s, &c)
			found, open := s.judge(c)
			for what, pair := range map[string][2]string{"found": {strings.Join(found, "\n"), tt.found}, "open": {strings.Join(open, "\n"), tt.open}} {
				if got, want := pair[0], pair[1]; want == "" && got != "" || !strings.Contains(got, want) {
					t.Errorf("%s: got %q; want %q", what, got, want)
				}
			}
			if s.Status != c.Status {
				t.Errorf("the story is %q; want %q", s.Status, c.Status)
			}
		})
	}
}

func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	var messages []slacktest.Message
	for i, id := range []string{"a", "b", "c", "a"} { // a second card, where it is tolerated, is late
		messages = append(messages, slacktest.Message{TS: fmt.Sprintf("%d.0", i), Metadata: &slacktest.Metadata{EventType: bot.MetadataCard, EventPayload: map[string]any{"request_id": id}}})
	}
	for asked, want := range map[string]bool{"": false, "abc": false, "a-c": false, "bac": true, "cb": true, "acb": true} {
		var stories []*Story
		for _, id := range asked {
			stories = append(stories, &Story{ID: strings.Trim(string(id), "-")})
		}
		if got := outOfOrder(stories, messages); got != want {
			t.Errorf("asked for in the order %q: got %t; want %t", asked, got, want)
		}
	}
}
