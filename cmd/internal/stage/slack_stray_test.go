package stage_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// TestRepliesWithoutAThreadStandInTheChannelOnce takes the thread away in each way
// there is: every line still comes, once, and names its request.
func TestRepliesWithoutAThreadStandInTheChannelOnce(t *testing.T) {
	t.Parallel()
	refusedThread := func(code string) func(*play, asked) {
		return func(p *play, a asked) {
			p.Slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: code, Match: func(c slacktest.Call) bool { return c.Args["thread_ts"] == a.card.TS }})
		}
	}
	for _, tt := range []struct {
		name string
		lose func(*play, asked)
	}{
		{"answer lost after the card was deleted", func(p *play, a asked) {
			p.Slack.RemoveMessage(a.card.Channel, a.card.TS)
			p.Slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Drop: slacktest.DropAfter, Times: 1})
		}},
		{"thread_not_found", refusedThread("thread_not_found")},
		{"message_not_found", refusedThread("message_not_found")},
		{"cannot_reply_to_message", refusedThread("cannot_reply_to_message")},
		{"thread locked", refusedThread("restricted_action_thread_locked")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			p.replied(a, "Asked by")
			view := p.press(stage.Ana, a, "approve")
			tt.lose(p, a)
			if got := p.submit(stage.Ana, view, p.code(stage.Ana)); !got.Closed {
				t.Fatalf("got %+v; want it accepted", got)
			}
			p.becomes(a, approvals.Released)
			for _, text := range []string{"approved with a code", "Released: CircleCI accepted"} {
				told := func() (all, named int) {
					for _, m := range p.Slack.Messages(stage.Channel) {
						if strings.Contains(m.Text, text) {
							all++
							if strings.Contains(m.Text, "#1") {
								named++
							}
						}
					}
					return all, named
				}
				err := p.Slack.Wait(p.ctx, func() bool { _, named := told(); return named > 0 })
				if all, named := told(); err != nil || all != 1 || named != 1 {
					t.Errorf("%q: got %d lines, %d of them with the request's number; want 1", text, all, named)
				}
			}
		})
	}
}

// TestDeletedCardOfAnOpenRequestComesAgain deletes the only card on which people
// can decide: with whatever changes it next, or when CI asks once more, another one
// takes its place.
func TestDeletedCardOfAnOpenRequestComesAgain(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(*play, asked){
		"CI asks again": func(p *play, a asked) {
			if created, id := p.again(a.workflow, nil); created || id != a.id {
				p.t.Fatalf("got created %t, %s; want the request that stands", created, id)
			}
		},
		"a line that changes nothing on the card": func(p *play, a asked) {
			if _, err := p.client().Verify(p.ctx, webhook.VerifyBody{App: stage.App, GitCommit: stage.Revision, WorkflowID: a.workflow}); err == nil {
				p.t.Fatal("a pending request may be deployed")
			}
		},
		"the settings change": func(p *play, a asked) { p.restart("REQUIRED_APPROVALS=1", "APPROVERS="+stage.Ana) },
	} {
		t.Run(name, func(t *testing.T) {
			p := setup(t, stage.Options{})
			a := p.askOnHold()
			p.replied(a, "Asked by")
			old := a.card
			p.Slack.RemoveMessage(old.Channel, old.TS)
			next(p, a)
			m, err := p.Slack.WaitMessage(p.ctx, stage.Channel, func(m slacktest.Message) bool {
				return m.TS != old.TS && m.ThreadTS == "" && len(slacktest.Buttons(m)) > 1
			})
			p.ok(err)
			a.card = m
			p.approve(stage.Ana, a, "approve")
			p.released(a)
			p.replied(a, "CircleCI may run", "Released") // below the new card
			// A thread is told in order, so its first line stands by now.
			if got := p.thread(a); !strings.HasPrefix(got, "Asked by") {
				t.Errorf("the new thread does not begin with the request:\n%s", got)
			}
			if n := len(p.cards()); n != 1 {
				t.Errorf("got %d cards; want 1", n)
			}
		})
	}
}
