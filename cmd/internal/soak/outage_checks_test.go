package soak_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/proof"
)

// TestOutageJudgesWhatItAskedFor doctors a request that went well; what proof's
// own tests doctor is not repeated.
func TestOutageJudgesWhatItAskedFor(t *testing.T) {
	t.Parallel()
	told := func(seq string) slacktest.Message {
		return slacktest.Message{Metadata: &slacktest.Metadata{EventType: bot.MetadataReply, EventPayload: map[string]any{"seq": seq}}}
	}
	for _, tt := range []struct {
		name  string
		spoil func(*asked, *proof.Case)
		want  string // "" = nothing is found
	}{
		{"all is well", func(*asked, *proof.Case) {}, ""},
		{"a second vote", func(_ *asked, c *proof.Case) { c.Events = append(c.Events, c.Events[1]) }, "I2"},
		{"a code that left no vote", func(a *asked, _ *proof.Case) { a.votes++ }, "I2"},
		{"another end", func(a *asked, _ *proof.Case) { a.want = approvals.Canceled }, "I5"},
		{"a second card", func(_ *asked, c *proof.Case) { c.Cards = append(c.Cards, slacktest.Message{}) }, "I5"},
		{"a line that is lost", func(_ *asked, c *proof.Case) { c.Thread = c.Thread[1:] }, "I5"},
		{"a second call", func(_ *asked, c *proof.Case) { c.Tries = append(c.Tries, circlecitest.Approval{UserID: "us"}) }, "I4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const at = "2026-01-05T12:00:00.000Z"
			data := map[string]string{"round": "1"}
			c := proof.Case{ID: "R", Status: approvals.Deployed, Required: 1, Auto: true, OnClose: approvals.CloseCancelJob, Self: "us", Gate: "success"}
			for i, e := range []approvals.EventType{approvals.EventRequested, approvals.EventVoted, approvals.EventApproved, approvals.EventAttempt, approvals.EventReleased, approvals.EventDeployed} {
				c.Events = append(c.Events, approvals.Event{Seq: int64(i), Type: e, Time: at, Data: data, MFA: "totp", Actor: approvals.Actor{ID: "ana"}})
			}
			for _, seq := range []string{"0", "1", "2", "4", "5"} {
				c.Thread = append(c.Thread, told(seq))
			}
			c.Cards = []slacktest.Message{{}}
			c.Tries = []circlecitest.Approval{{UserID: "us", Took: true}}
			a := &asked{votes: 1, want: approvals.Deployed}
			tt.spoil(a, &c)
			found := strings.Join(a.wrong(c), "\n")
			if tt.want == "" && found != "" || !strings.Contains(found, tt.want) {
				t.Errorf("got %q; want %q", found, tt.want)
			}
		})
	}
}

func TestDisorder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		numbers []int64
		want    int
		first   string
	}{
		{nil, 0, ""},
		{[]int64{1, 3, 7}, 0, ""},
		{[]int64{1, 7, 3, 8}, 1, "#3 stands behind #7"},
		{[]int64{5, 4, 3}, 2, "#4 stands behind #5"},
	} {
		if n, first := disorder(tt.numbers); n != tt.want || first != tt.first {
			t.Errorf("%v: got %d, %q; want %d, %q", tt.numbers, n, first, tt.want, tt.first)
		}
	}
}

func TestLookout(t *testing.T) {
	t.Parallel()
	degraded := func(part string) webhook.Readiness {
		return webhook.Readiness{Status: webhook.StatusDegraded, Parts: map[string]webhook.Part{part: {Status: webhook.StatusDegraded}}}
	}
	well := webhook.Readiness{Status: webhook.StatusOK}
	type look struct {
		ready  webhook.Readiness
		status int
	}
	for _, tt := range []struct {
		name  string
		age   time.Duration
		looks []look
		want  string // "" = nothing is found
	}{
		{"named", 0, []look{{degraded("slack"), 200}}, ""},
		{"named soon", 0, []look{{well, 200}, {degraded("slack"), 200}}, ""},
		{"not named in time", time.Hour, []look{{well, 200}}, "does not name slack within"},
		{"another is named", time.Hour, []look{{degraded("circleci"), 200}}, "does not name slack within"},
		{"forgotten", 0, []look{{degraded("slack"), 200}, {well, 200}}, "any more"},
		{"not ready", 0, []look{{degraded("slack"), 503}}, "answered 503"},
	} {
		l := newLookout("", []*service{{name: "slack", namedWithin: nameSlackWithin}})
		l.since = l.since.Add(-tt.age)
		for _, look := range tt.looks {
			l.judge(look.ready, look.status, nil)
		}
		found := ""
		for what := range l.broken {
			found += what
		}
		if tt.want == "" && found != "" || !strings.Contains(found, tt.want) {
			t.Errorf("%s: got %q; want %q", tt.name, found, tt.want)
		}
	}
}
