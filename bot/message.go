package bot

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
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
	links Links
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

// limitBlocks is what we let the blocks of a message come to as JSON when it does not go
// through a response URL. Slack does not document how it counts; it says that it takes
// 12,000 characters of text.
// Source: https://github.com/slackapi/bolt-js/issues/2509
const limitBlocks = 12_000

// parts divides a message into such as chat.postEphemeral takes.
func (m message) parts() []message {
	parts := []message{{Text: m.Text}}
	room := limitBlocks
	for _, b := range m.Blocks {
		raw, err := json.Marshal(b)
		if err != nil {
			panic(fmt.Sprintf("bot: cannot encode a block: %v", err)) // a fault of ours, found by any test
		}
		last := &parts[len(parts)-1]
		if n := utf8.RuneCount(raw); n > room && len(last.Blocks) > 0 {
			parts = append(parts, message{Text: m.Text, Blocks: []slack.Block{b}})
			room = limitBlocks - n
		} else {
			last.Blocks = append(last.Blocks, b)
			room -= n
		}
	}
	return parts
}

// only is a message of one line.
func only(l line) message { return newMessage(l, l.block()) }

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

// subject is what a decision is about: the facts as CircleCI tells them, what is new
// since the last deploy, and then what CI wrote, which nobody vouches for.
func (v view) subject(r approvals.Request) []slack.Block {
	blocks := []slack.Block{v.facts(r).block()}
	if commit := v.commit(r); commit != nil {
		blocks = append(blocks, commit.block())
	}
	if changes := v.changes(r); changes != nil {
		blocks = append(blocks, changes.block())
	}
	if text, _ := excerpt(r.Message); text != "" && !saysNoMore(r) {
		blocks = append(blocks, quote(text))
	}
	return blocks
}

// facts is what is deployed: commit, branch or tag, pipeline, starter.
func (v view) facts(r approvals.Request) line {
	f := r.Facts
	l := say(link(CommitURL(f, f.Revision), short(f.Revision)))
	switch {
	case f.Tag != "":
		l = say(l, " tagged ", name(f.Tag))
	case f.Branch != "":
		l = say(l, " on ", name(f.Branch))
	}
	l = say(l, " · ", link(v.pipelineURL(r), fmt.Sprintf("pipeline %d", f.PipelineNumber)))
	if starters := f.Starters(); len(starters) > 0 {
		l = say(l, " · started by ", name(starters[0]))
		if len(starters) > 1 {
			l = say(l, ", workflow by ", name(starters[1]))
		}
	}
	return l
}

// saysNoMore reports whether a message only repeats the facts, as in "Deploy
// main@1a2b3c4 to production", or the subject of the commit.
func saysNoMore(r approvals.Request) bool {
	f := r.Facts
	if strings.TrimSpace(r.Message) == f.Subject {
		return true
	}
	plain := []string{"deploy", "to", "of", "on", "from", "branch", "tag", "commit", "pipeline"}
	known := []string{r.App, r.Environment, fmt.Sprint(f.PipelineNumber), f.Branch, f.Tag}
	for _, word := range strings.FieldsFunc(r.Message, func(r rune) bool { return r == ' ' || r == '@' }) {
		word = strings.TrimRight(word, ".,:!")
		hash := len(word) >= 7 && strings.HasPrefix(f.Revision, word)
		if !hash && !slices.Contains(known, word) && !slices.Contains(plain, strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// brief is the facts in the words of a sentence: main@1a2b3c4, started by alice.
func brief(r approvals.Request) line {
	f := r.Facts
	l := name(short(f.Revision))
	if ref := cmp.Or(f.Tag, f.Branch); ref != "" {
		l = say(span{kind: theirs, text: plain.Cut(plain.Name(ref), limitName)}, "@", l, remark(ref))
	}
	if starters := f.Starters(); len(starters) > 0 {
		return say(l, ", started by ", name(starters[0]))
	}
	return say(l, ", asked by ", asker(r))
}

// asker is who filed a request.
func asker(r approvals.Request) line {
	if r.Requester.IsJob() {
		return say("its CircleCI job")
	}
	return name(r.Requester.TokenName)
}

// number is the request's number, linked to its card where that is known.
func number(n int64, permalink string) span {
	return link(permalink, fmt.Sprintf("#%d", n))
}
