package stage_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func TestStory(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]stage.Options{"socket": {}, "http": {HTTP: true}} {
		t.Run(name, func(t *testing.T) {
			s := setup(t, o)
			ctx, must := s.ctx, s.ok
			workflow := s.Pipeline(stage.Number)
			id, err := s.Request(ctx, workflow)
			must(err)
			card, err := s.Card(ctx, id)
			must(err)
			view, err := s.Press(ctx, stage.Ana, card, "approve")
			must(err)
			got, err := s.Submit(ctx, stage.Ana, view, s.WrongCode(stage.Ana, time.Now()))
			must(err)
			if got.Closed || !strings.Contains(got.Errors["totp"], "not right") {
				t.Fatalf("wrong code: got %+v; want an inline error", got)
			}
			got, err = s.Submit(ctx, stage.Ana, view, s.Code(stage.Ana, time.Now()))
			must(err)
			if !got.Closed {
				t.Fatalf("right code: got %+v; want the modal closed", got)
			}
			must(s.Circle.Succeed(workflow, "request_approval"))
			must(s.Circle.Wait(ctx, func() bool { return s.Circle.JobStatus(workflow, stage.Gate) == "success" }))
			must(s.Circle.Succeed(workflow, "deploy"))
			for _, text := range []string{"Asked by", "wrong code", "approved with a code", "Released", "Deployed"} {
				_, err := s.Replied(ctx, card, text)
				must(err)
			}
			if r := s.Client(ctx, workflow, "deploy-approval", "wait", id, "--until", "finished"); r.Code != 0 {
				t.Fatalf("wait: got exit %d, %s; want 0", r.Code, r.Stderr)
			}
			tries := s.Circle.Approvals(workflow)
			if len(tries) != 1 || !tries[0].Took {
				t.Fatalf("got approvals %+v; want exactly one", tries)
			}
			must(s.Slack.Wait(ctx, func() bool {
				m, _ := s.Slack.Message(card.Channel, card.TS)
				return strings.Contains(slacktest.Text(m.Blocks), "Deployed: myapp") && len(slacktest.Buttons(m)) == 1
			}))
			m, _ := s.Slack.Message(card.Channel, card.TS)
			t.Log(slacktest.Text(m.Blocks))
			for _, r := range s.Slack.Thread(card.Channel, card.TS) {
				t.Log(slacktest.Text(r.Blocks))
			}
			if code := s.Stop(); code != 0 {
				t.Fatalf("stop: got exit %d; want 0", code)
			}
		})
	}
}
