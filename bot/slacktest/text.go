package slacktest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Slack makes <…> live in mrkdwn and message text, and links bare web addresses unless the text object is verbatim.
// Source: https://docs.slack.dev/messaging/formatting-message-text
var (
	liveToken = regexp.MustCompile(`<(?:[@#!][^<>\n]+|[a-zA-Z][a-zA-Z0-9+.-]*:[^<>\n]+)>`)
	bareURL   = regexp.MustCompile(`https?://[^\s<>|]+`)
)

// Text renders blocks for a reader of test output. Live mentions, links and dates stand in ⟦ ⟧ with their markup, so
// an escaped mention can be told from a real one. Buttons are [ Name ], inputs are label: [____].
func Text(blocks []Block) string {
	var lines []string
	for _, b := range blocks {
		if line := blockText(b); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// PlainText renders mrkdwn in the same way.
func PlainText(mrkdwn string) string {
	marked := liveToken.ReplaceAllString(mrkdwn, "⟦$0⟧")
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(marked)
}

// LiveMarkup lists what Slack would make live in a message: mentions, broadcasts, links and dates, as written, in the
// text, in mrkdwn objects and in rich text. Link buttons are not listed.
func LiveMarkup(m Message) []string {
	live := append([]string{}, liveIn(m.Text, false)...)
	return append(live, LiveInBlocks(m.Blocks)...)
}

// LiveInBlocks is LiveMarkup for the blocks of a view.
func LiveInBlocks(blocks []Block) []string {
	var live []string
	walk(blocks, func(o map[string]any) {
		text, _ := o["text"].(string)
		switch o["type"] {
		case "mrkdwn":
			live = append(live, liveIn(text, o["verbatim"] == true)...)
		case "user":
			live = append(live, fmt.Sprintf("<@%v>", o["user_id"]))
		case "usergroup":
			live = append(live, fmt.Sprintf("<!subteam^%v>", o["usergroup_id"]))
		case "link":
			live = append(live, fmt.Sprintf("<%v>", o["url"]))
		}
	})
	return live
}

func liveIn(text string, verbatim bool) []string {
	live := liveToken.FindAllString(text, -1)
	if !verbatim {
		live = append(live, bareURL.FindAllString(liveToken.ReplaceAllString(text, " "), -1)...)
	}
	return live
}

// walk visits every object inside blocks in the order of lists, and of names inside an object.
func walk(value any, visit func(map[string]any)) {
	switch v := value.(type) {
	case []Block:
		for _, b := range v {
			walk(b, visit)
		}
	case []any:
		for _, item := range v {
			walk(item, visit)
		}
	case map[string]any:
		visit(v)
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			walk(v[name], visit)
		}
	}
}

func blockText(b Block) string {
	switch b["type"] {
	case "divider":
		return "---"
	case "header", "section":
		return objectText(b["text"])
	case "context", "actions":
		list, _ := b["elements"].([]any)
		var parts []string
		for _, e := range list {
			parts = append(parts, elementText(asObject(e)))
		}
		return joined(parts, " ")
	case "input":
		return joined([]string{objectText(b["label"]) + ": [____]", objectText(b["hint"])}, "\n")
	case "rich_text":
		return richText(b)
	}
	return ""
}

func joined(parts []string, with string) string {
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), with)
}

func elementText(e map[string]any) string {
	switch e["type"] {
	case "plain_text", "mrkdwn":
		return objectText(e)
	case "button":
		return "[ " + objectText(e["text"]) + " ]"
	}
	return fmt.Sprintf("[%v]", e["type"])
}

func objectText(value any) string {
	o := asObject(value)
	text, _ := o["text"].(string)
	if o["type"] == "mrkdwn" {
		return PlainText(text)
	}
	return text
}

func richText(o map[string]any) string {
	list, _ := o["elements"].([]any)
	var parts []string
	separator := ""
	for _, item := range list {
		e := asObject(item)
		switch e["type"] {
		case "text":
			text, _ := e["text"].(string)
			parts = append(parts, text)
		case "rich_text_section", "rich_text_quote":
			separator = "\n"
			parts = append(parts, richText(e))
		case "link":
			parts = append(parts, fmt.Sprintf("⟦<%v|%v>⟧", e["url"], e["text"]))
		case "date":
			at, _ := e["timestamp"].(float64)
			parts = append(parts, fmt.Sprintf("⟦<!date^%d^%v|%v>⟧", int64(at), e["format"], e["fallback"]))
		default:
			for _, live := range LiveInBlocks([]Block{e}) {
				parts = append(parts, "⟦"+live+"⟧")
			}
		}
	}
	return strings.Join(parts, separator)
}
