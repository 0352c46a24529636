package slacktest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func x(n int) string { return strings.Repeat("é", n) }

// items repeats a JSON value n times; %d in it becomes the index.
func items(n int, item string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(item, "%d", fmt.Sprint(i))
	}
	return strings.Join(all, ",")
}

func text(kind string, n int) string { return fmt.Sprintf(`{"type":%q,"text":%q}`, kind, x(n)) }

func buttonJSON(n int, extra string) string {
	return `{"type":"button","text":` + text("plain_text", n) + extra + `}`
}

func actions(elements string) string { return `{"type":"actions","elements":[` + elements + `]}` }

func inputJSON(element string) string {
	return `{"type":"input","label":` + text("plain_text", 5) + `,"element":` + element + `}`
}

// TestLengths wants each limit accepted and one more refused, by the real client through the Web API.
func TestLengths(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		limit int
		block func(n int) string
		modal bool
	}{
		{"header", 150, func(n int) string { return `{"type":"header","text":` + text("plain_text", n) + `}` }, false},
		{"section text", 3000, func(n int) string { return `{"type":"section","text":` + text("mrkdwn", n) + `}` }, false},
		{"context", 10, func(n int) string { return `{"type":"context","elements":[` + items(n, text("mrkdwn", 1)) + `]}` }, false},
		{"actions", 25, func(n int) string { return actions(items(n, buttonJSON(1, `,"action_id":"a%d"`))) }, false},
		{"button text", 75, func(n int) string { return actions(buttonJSON(n, "")) }, false},
		{"button value", 2000, func(n int) string { return actions(buttonJSON(1, `,"value":"`+x(n)+`"`)) }, false},
		{"button url", 3000, func(n int) string { return actions(buttonJSON(1, `,"url":"`+x(n)+`"`)) }, false},
		{"action id", 255, func(n int) string { return actions(buttonJSON(1, `,"action_id":"`+x(n)+`"`)) }, false},
		{"block id", 255, func(n int) string { return `{"type":"divider","block_id":"` + x(n) + `"}` }, false},
		{"label", 2000, func(n int) string {
			return `{"type":"input","label":` + text("plain_text", n) + `,"element":{"type":"plain_text_input"}}`
		}, true},
		{"hint", 2000, func(n int) string {
			return `{"type":"input","label":` + text("plain_text", 1) + `,"hint":` + text("plain_text", n) + `,"element":{"type":"plain_text_input"}}`
		}, true},
		{"max_length", 3000, func(n int) string { return inputJSON(fmt.Sprintf(`{"type":"plain_text_input","max_length":%d}`, n)) }, true},
		{"min_length", 3000, func(n int) string { return inputJSON(fmt.Sprintf(`{"type":"plain_text_input","min_length":%d}`, n)) }, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, api := start(t, slacktest.Config{})
			send := func(n int) error {
				if test.modal {
					_, err := api.OpenViewContext(t.Context(), triggerOf(t, s), rawView(test.block(n)))
					return err
				}
				return postTo(deploys, slack.MsgOptionBlocks(rawBlock(test.block(n))))(t.Context(), api, "")
			}
			if err := send(test.limit); err != nil {
				t.Errorf("%d: got %v; want accepted", test.limit, err)
			}
			code := "invalid_blocks"
			if test.modal {
				code = "invalid_arguments"
			}
			wantRefused(t, send(test.limit+1), code, "[ERROR] ")
		})
	}
}

// triggerOf makes a fresh trigger by a click that is never delivered.
func triggerOf(t *testing.T, s *slacktest.Server) string {
	t.Helper()
	m, err := s.Post(s.Config().BotUserID, deploys, "", "a place to click")
	if err != nil {
		t.Fatal(err)
	}
	m.Blocks = []slacktest.Block{{"type": "actions", "block_id": "b", "elements": []any{map[string]any{"type": "button", "action_id": "any"}}}}
	d, err := s.PrepareClick(slacktest.ButtonClick{User: ana, Channel: deploys, TS: m.TS, ActionID: "any", Seen: &m})
	if err != nil {
		t.Fatal(err)
	}
	return d.TriggerID
}

func TestBlocksRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, blocks, want string
		surface            slacktest.Surface
	}{
		{"51 in a message", items(51, `{"type":"divider"}`), "no more than 50 items", slacktest.InMessage},
		{"101 in a modal", items(101, `{"type":"divider"}`), "no more than 100 items", slacktest.InModal},
		{"101 in a home", items(101, `{"type":"divider"}`), "no more than 100 items", slacktest.InHome},
		{"empty text", `{"type":"section","text":{"type":"mrkdwn","text":""}}`, "must be more than 0 characters", slacktest.InMessage},
		{"empty button", actions(buttonJSON(0, "")), "must be more than 0 characters", slacktest.InMessage},
		{"empty section", `{"type":"section"}`, "missing required field", slacktest.InMessage},
		{"no elements", actions(""), "no fewer than 1", slacktest.InMessage},
		{"empty context", `{"type":"context","elements":[]}`, "no fewer than 1", slacktest.InMessage},
		{"mrkdwn header", `{"type":"header","text":` + text("mrkdwn", 1) + `}`, "plain_text", slacktest.InMessage},
		{"mrkdwn button", actions(`{"type":"button","text":` + text("mrkdwn", 1) + `}`), "plain_text", slacktest.InMessage},
		{"unknown text", `{"type":"section","text":{"type":"html","text":"a"}}`, "unsupported type: html", slacktest.InMessage},
		{"unknown element", actions(`{"type":"knob"}`), "unsupported type: knob", slacktest.InMessage},
		{"input among actions", actions(`{"type":"plain_text_input"}`), "unsupported type", slacktest.InMessage},
		{"button as input", inputJSON(buttonJSON(1, "")), "unsupported type", slacktest.InModal},
		{"markdown", `{"type":"markdown","text":"a"}`, "unsupported type: markdown", slacktest.InMessage},
		{"style", actions(buttonJSON(1, `,"style":"green"`)), "primary or danger", slacktest.InMessage},
		{"property", `{"type":"divider","color":"red"}`, "invalid additional property: color", slacktest.InMessage},
		{"emoji in mrkdwn", `{"type":"section","text":{"type":"mrkdwn","text":"a","emoji":true}}`, "additional property: emoji", slacktest.InMessage},
		{"same block id", items(2, `{"type":"divider","block_id":"b"}`), "must be unique", slacktest.InMessage},
		{"same action id", actions(items(2, buttonJSON(1, `,"action_id":"a"`))), "must be unique", slacktest.InMessage},
		{"two focused", items(2, inputJSON(`{"type":"plain_text_input","focus_on_load":true}`)), "only one element", slacktest.InModal},
		{"min above max", inputJSON(`{"type":"plain_text_input","min_length":5,"max_length":4}`), "less than or equal", slacktest.InModal},
		{"max 0", inputJSON(`{"type":"plain_text_input","max_length":0}`), "between 1 and", slacktest.InModal},
		{"rich text", `{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"text","text":""}]}]}`, "more than 0", slacktest.InMessage},
		{"rich text type", `{"type":"rich_text","elements":[{"type":"video"}]}`, "unsupported type: video", slacktest.InMessage},
		{"number for text", `{"type":"header","text":{"type":"plain_text","text":5}}`, "must provide a string", slacktest.InMessage},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := slacktest.CheckBlocks(test.surface, blocks(t, test.blocks))
			if len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), test.want) {
				t.Errorf("got %q; want %q", got, test.want)
			}
		})
	}
}

func blocks(t *testing.T, list string) []slacktest.Block {
	t.Helper()
	var out []slacktest.Block
	if err := json.Unmarshal([]byte("["+list+"]"), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBlocksAccepted(t *testing.T) {
	t.Parallel()
	_, api := start(t, slacktest.Config{})
	rich := slack.NewRichTextBlock("r", slack.NewRichTextSection(
		slack.NewRichTextSectionTextElement("<!channel> is only text", nil), slack.NewRichTextSectionUserElement(ana, nil)))
	link := slack.NewButtonBlockElement("view_pipeline", "", plain("View pipeline")).WithURL("https://app.circleci.com/")
	post(t, api, deploys, slack.MsgOptionText("t", false), slack.MsgOptionBlocks(
		slack.NewHeaderBlock(plain("Deploy?")), section("*a*"), rich, slack.NewDividerBlock(),
		slack.NewContextBlock("c", plain("small"), slack.NewTextBlockObject(slack.MarkdownType, "print", false, true)),
		buttons(), slack.NewActionBlock("links", link)))
}

func TestViewsRefused(t *testing.T) {
	t.Parallel()
	input := inputJSON(`{"type":"plain_text_input"}`)
	tests := []struct {
		name string
		edit func(*slack.ModalViewRequest)
		want string
	}{
		{"blocks null", func(v *slack.ModalViewRequest) { v.Blocks.BlockSet = nil }, "missing required field: blocks"},
		{"no title", func(v *slack.ModalViewRequest) { v.Title = nil }, "/view/title"},
		{"long title", func(v *slack.ModalViewRequest) { v.Title = plain(x(25)) }, "must be less than 25"},
		{"long submit", func(v *slack.ModalViewRequest) { v.Submit = plain(x(25)) }, "must be less than 25"},
		{"long close", func(v *slack.ModalViewRequest) { v.Close = plain(x(25)) }, "must be less than 25"},
		{"private metadata", func(v *slack.ModalViewRequest) { v.PrivateMetadata = x(3001) }, "must be less than 3001"},
		{"callback id", func(v *slack.ModalViewRequest) { v.CallbackID = x(256) }, "must be less than 256"},
		{"home", func(v *slack.ModalViewRequest) { v.Type = slack.VTHomeTab }, "must be modal"},
		{"input without submit", func(v *slack.ModalViewRequest) {
			v.Submit = nil
			v.Blocks.BlockSet = []slack.Block{rawBlock(input)}
		}, "missing required field: submit"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, api := start(t, slacktest.Config{})
			v := rawView(`{"type":"divider"}`)
			test.edit(&v)
			trigger := triggerOf(t, s)
			_, err := api.OpenViewContext(t.Context(), trigger, v)
			wantRefused(t, err, "invalid_arguments", test.want)
			if _, err := api.OpenViewContext(t.Context(), trigger, rawView()); err != nil {
				t.Errorf("a refused view must not use up the trigger: %v", err)
			}
		})
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add(`[{"type":"section","text":{"type":"mrkdwn","text":"<!channel> &lt;x"}}]`)
	f.Add(`[{"type":"actions","elements":[{"type":"button"},null,7]}]`)
	f.Add(`[{"type":"input","element":{"type":"plain_text_input","max_length":1e9}},null]`)
	f.Add(`[{"type":"rich_text","elements":[{"type":"rich_text_section","elements":[{"type":"user"}]}]}]`)
	f.Fuzz(func(t *testing.T, list string) {
		var out []slacktest.Block
		if json.Unmarshal([]byte(list), &out) != nil {
			return
		}
		for _, surface := range []slacktest.Surface{slacktest.InMessage, slacktest.InModal, slacktest.InHome} {
			slacktest.CheckBlocks(surface, out)
		}
		slacktest.Text(out)
		slacktest.LiveMarkup(slacktest.Message{Text: list, Blocks: out})
	})
}
