package bot

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// message is what Slack is to show: blocks, and one sentence that says it all
// in notifications and to screen readers.
type message struct {
	Text   string        `json:"text"`
	Blocks []slack.Block `json:"blocks"`

	shows string // names the content
}

// view is what rendering knows beside the state.
type view struct {
	links CILinks
}

// maxBlocks per message. Source: https://docs.slack.dev/reference/block-kit/blocks
const maxBlocks = 50

// newMessage puts a message together. Slack asks for new block ids when a message
// changes, so they are made of what the whole message shows.
func newMessage(text line, blocks ...slack.Block) message {
	var kept []slack.Block
	for _, b := range blocks {
		if b != nil && len(kept) < maxBlocks {
			kept = append(kept, b)
		}
	}
	m := message{Text: text.mrkdwn(limitText), Blocks: kept}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("bot: cannot encode a message: %v", err)) // a fault of ours, found by any test
	}
	m.shows = fmt.Sprintf("%x", sha256.Sum256(raw))[:16]
	for i, b := range kept {
		setBlockID(b, fmt.Sprintf("%s-%d", m.shows, i))
	}
	return m
}

func setBlockID(b slack.Block, id string) {
	switch b := b.(type) {
	case *slack.HeaderBlock:
		b.BlockID = id
	case *slack.SectionBlock:
		b.BlockID = id
	case *slack.RichTextBlock:
		b.BlockID = id
	case *slack.ContextBlock:
		b.BlockID = id
	case *slack.ActionBlock:
		b.BlockID = id
	case *slack.DividerBlock:
		b.BlockID = id
	}
}

func header(text string) slack.Block {
	return slack.NewHeaderBlock(plainText(text, limitHeader))
}

// own is a section of plain text from outside.
func own(text string, limit int) slack.Block {
	return slack.NewSectionBlock(plainText(text, limit), nil, nil)
}

func button(action, value, text string, style slack.Style) *slack.ButtonBlockElement {
	b := slack.NewButtonBlockElement(action, value, plainText(text, limitButton))
	if style != "" {
		b.WithStyle(style)
	}
	return b
}

// facts is what is deployed: commit, branch or tag, pipeline, starter.
func (v view) facts(r approvals.Request) line {
	f := r.Facts
	l := say(link(commitURL(r.Project, f.Revision), short(f.Revision)))
	switch {
	case f.Tag != "":
		l = append(l, say(" tagged ", name(f.Tag))...)
	case f.Branch != "":
		l = append(l, say(" on ", name(f.Branch))...)
	}
	l = append(l, say(" · ", link(v.pipelineURL(r), fmt.Sprintf("pipeline %d", f.PipelineNumber)))...)
	if starters := f.Starters(); len(starters) > 0 {
		l = append(l, say(" · started by ", name(starters[0]))...)
		if len(starters) > 1 {
			l = append(l, say(", workflow by ", name(starters[1]))...)
		}
	}
	return l
}

// brief is the facts in the words of a sentence: main@1a2b3c4, started by alice.
func brief(r approvals.Request) line {
	f := r.Facts
	l := say(quoted(short(f.Revision), limitName))
	switch {
	case f.Tag != "":
		l = say(span{kind: theirs, text: cut(bare(f.Tag), limitName)}, "@", l, remark(f.Tag))
	case f.Branch != "":
		l = say(span{kind: theirs, text: cut(bare(f.Branch), limitName)}, "@", l, remark(f.Branch))
	}
	if starters := f.Starters(); len(starters) > 0 {
		return say(l, ", started by ", name(starters[0]))
	}
	return say(l, ", asked by ", name(r.Requester.TokenName))
}

// number is the request's number, linked to its card where that is known.
func number(n int64, permalink string) span {
	return link(permalink, fmt.Sprintf("#%d", n))
}
