package slacktest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestLiveMarkup(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, blocks string
		want               []string
	}{
		{"nothing", "Deploy myapp? &lt;!channel&gt; a < b > c", `{"type":"header","text":{"type":"plain_text","text":"<!channel> <@U1>"}}`, []string{}},
		{"broadcast", "<!channel> <!here|x>", "", []string{"<!channel>", "<!here|x>"}},
		{"people", "<@U1|ana b> <!subteam^S1>", "", []string{"<@U1|ana b>", "<!subteam^S1>"}},
		{"links", "<https://evil|app> https://bare.example/x", "", []string{"<https://evil|app>", "https://bare.example/x"}},
		{"section", "", `{"type":"section","text":{"type":"mrkdwn","text":"<@U2> &lt;@U3&gt;"}}`, []string{"<@U2>"}},
		{"context", "", `{"type":"context","elements":[{"type":"mrkdwn","text":"<#C1>"}]},{"type":"context","elements":[{"type":"mrkdwn","text":"http://a"}]}`, []string{"<#C1>", "http://a"}},
		{"verbatim", "", `{"type":"section","text":{"type":"mrkdwn","text":"http://a","verbatim":true}}`, []string{}},
		{"date", "", `{"type":"section","text":{"type":"mrkdwn","text":"<!date^1^{time}|12:00 UTC>"}}`, []string{"<!date^1^{time}|12:00 UTC>"}},
		{"rich text", "", `{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[
			{"type":"text","text":"<!channel>"},{"type":"user","user_id":"U1"},{"type":"link","url":"https://c"}]}]}`,
			[]string{"<@U1>", "<https://c>"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := slacktest.Message{Text: test.text, Blocks: blocks(t, test.blocks)}
			if diff := cmp.Diff(test.want, slacktest.LiveMarkup(m)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	list := `{"type":"header","text":{"type":"plain_text","text":"Deploy <b>?"}},
		{"type":"section","text":{"type":"mrkdwn","text":"by <@U1> &lt;@U2&gt; &amp; co"}},
		{"type":"divider"},
		{"type":"context","elements":[{"type":"mrkdwn","text":"a"},{"type":"plain_text","text":"b"}]},
		{"type":"actions","elements":[{"type":"button","text":{"type":"plain_text","text":"Approve deploy"}},{"type":"button","text":{"type":"plain_text","text":"Reject"}}]},
		{"type":"input","label":{"type":"plain_text","text":"Code"},"hint":{"type":"plain_text","text":"six digits"},"element":{"type":"plain_text_input"}},
		{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":"x "},{"type":"user","user_id":"U3"}]}]}`
	want := `Deploy <b>?
by ⟦<@U1>⟧ <@U2> & co
---
a b
[ Approve deploy ] [ Reject ]
Code: [____]
six digits
x ⟦<@U3>⟧`
	if diff := cmp.Diff(want, slacktest.Text(blocks(t, list))); diff != "" {
		t.Error(diff)
	}
}
