package bot

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// Limits of Slack in characters.
// Source: https://docs.slack.dev/reference/block-kit/blocks and …/chat.update
const (
	limitHeader   = 150
	limitSection  = 3000
	limitText     = 3500 // chat.update refuses more than 4,000
	limitButton   = 75
	limitTitle    = 24
	limitURL      = 3000
	limitError    = 300 // ours: an inline error is one sentence
	limitName     = 80  // ours: a branch, a login, a job
	limitMessage  = 300 // ours: what the card shows of a message
	limitLines    = 3   // ours: likewise
	limitWhole    = 2800
	limitMentions = 10 // ours: more people than that are counted
)

// span is a piece of a line. Only this file turns spans into markup, so that
// nothing else has to escape.
type span struct {
	kind   spanKind
	text   string // words, theirs, code: the text; link: the label
	id     string // person, group
	url    string // link
	at     time.Time
	format dateFormat
}

type spanKind int

const (
	ours   spanKind = iota // our own words
	theirs                 // text from outside
	code                   // text from outside, in code style
	typed                  // a command to copy, in code style
	linked
	person
	group
	date
)

// dateFormat is how Slack shows a time in the reader's own zone.
type dateFormat string

const (
	clock  dateFormat = "{time}"
	moment dateFormat = "{date_short_pretty} at {time}"
)

// line is one line of text for people.
type line []span

// say puts a line together: a string is our own text, all else are spans and lines.
func say(parts ...any) line {
	var l line
	for _, part := range parts {
		switch p := part.(type) {
		case string:
			if p != "" {
				l = append(l, span{kind: ours, text: p})
			}
		case int:
			l = append(l, span{kind: ours, text: fmt.Sprint(p)})
		case int64:
			l = append(l, span{kind: ours, text: fmt.Sprint(p)})
		case span:
			l = append(l, p)
		case line:
			l = append(l, p...)
		default:
			panic(fmt.Sprintf("bot: cannot say a %T", part)) // a fault of ours, found by any test
		}
	}
	return l
}

// quoted is text from outside, cut to one line of at most n characters.
func quoted(text string, n int) span {
	return span{kind: theirs, text: plain.Cut(plain.OneLine(text), n)}
}

// paragraph is text from outside that keeps its line breaks.
func paragraph(text string, n int) span {
	if text = plain.Visible(text); text == "" {
		text = "–"
	}
	return span{kind: theirs, text: plain.Cut(text, n)}
}

// name is a name from outside that somebody decides by, such as a branch or a login.
// What looks like something else in it is pointed out.
func name(text string) line { return named(theirs, text) }

// literal is such a name shown as code, such as a job's.
func literal(text string) line { return named(code, text) }

func named(kind spanKind, text string) line {
	return say(span{kind: kind, text: plain.Cut(plain.Name(text), limitName)}, remark(text))
}

// commandLine is something to type, shown as code. Nothing in it is broken up, so that
// it can be copied; what could be read as markup makes it a literal.
func commandLine(text string) span {
	text = plain.Cut(plain.OneLine(text), limitMessage)
	if strings.ContainsAny(text, "&<>`*~@…") || strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
		return span{kind: code, text: text}
	}
	return span{kind: typed, text: text}
}

// link is a label with a link that we built; without a link it is the label.
func link(url, label string) span {
	label = plain.Cut(plain.OneLine(label), limitName)
	if url = webURL(url); url == "" {
		return span{kind: theirs, text: label}
	}
	return span{kind: linked, url: url, text: label}
}

var (
	userID  = regexp.MustCompile(`^[UW][A-Z0-9]{2,30}$`)
	groupID = regexp.MustCompile(`^S[A-Z0-9]{2,30}$`)
)

// mention names a person or a group so that Slack shows the name and tells
// them. What is no id of either is a name.
func mention(id string) line {
	switch {
	case userID.MatchString(id):
		return line{{kind: person, id: id}}
	case groupID.MatchString(id):
		return line{{kind: group, id: id}}
	}
	return name(id)
}

// mentions joins people and groups with commas and a last word.
func mentions(ids []string, last string) line {
	var l line
	for i, id := range ids {
		switch {
		case i == limitMentions:
			return append(l, say(fmt.Sprintf(" %s %d more", last, len(ids)-i))...)
		case i == 0:
		case i == len(ids)-1:
			l = append(l, say(" "+last+" ")...)
		default:
			l = append(l, say(", ")...)
		}
		l = append(l, mention(id)...)
	}
	return l
}

// at is a moment, shown with its day.
func at(t time.Time) span { return span{kind: date, at: t, format: moment} }

// atClock is a moment of which the hour says enough.
func atClock(t time.Time) span { return span{kind: date, at: t, format: clock} }

func (s span) fallback() string {
	if s.format == clock {
		return s.at.UTC().Format("15:04 UTC")
	}
	return s.at.UTC().Format("Mon 2 Jan 2006 15:04 UTC")
}

// plain renders a line without any markup, for inline errors and titles.
func (l line) plain() string {
	var b strings.Builder
	for _, s := range l {
		switch s.kind {
		case person, group:
			b.WriteString(s.id)
		case date:
			b.WriteString(s.fallback())
		default:
			b.WriteString(s.text)
		}
	}
	return b.String()
}

// mrkdwn renders a line in Slack's markup, at most limit characters long.
func (l line) mrkdwn(limit int) string {
	var b strings.Builder
	room := limit - 1 // for the ellipsis
	for _, s := range l {
		piece := s.mrkdwn()
		if n := utf8.RuneCountInString(piece); n > room {
			return b.String() + "…"
		} else {
			room -= n
		}
		b.WriteString(piece)
	}
	return b.String()
}

func (s span) mrkdwn() string {
	switch s.kind {
	case theirs, code:
		return escape(s.text)
	case linked:
		return "<" + escapeOurs(s.url) + "|" + strings.ReplaceAll(escape(s.text), "|", "¦") + ">"
	case person:
		return "<@" + s.id + ">"
	case group:
		return "<!subteam^" + s.id + ">"
	case date:
		return fmt.Sprintf("<!date^%d^%s|%s>", s.at.Unix(), s.format, s.fallback())
	}
	return escapeOurs(s.text)
}

// foreign reports whether a line holds text from outside, or is too long for a section.
func (l line) foreign() bool {
	for _, s := range l {
		if s.kind == theirs || s.kind == code || s.kind == typed {
			return true
		}
	}
	return utf8.RuneCountInString(l.mrkdwn(10*limitSection)) >= limitSection
}

// block renders a line as a block of its own: our words as mrkdwn, anything
// with text from outside as rich text, where nothing is ever interpreted.
func (l line) block() slack.Block {
	if !l.foreign() {
		return slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, l.mrkdwn(limitSection), false, true), nil, nil)
	}
	return slack.NewRichTextBlock("", slack.NewRichTextSection(l.rich()...))
}

// small renders a line in small type.
func (l line) small() slack.Block {
	text := slack.NewTextBlockObject(slack.MarkdownType, l.mrkdwn(limitSection), false, true)
	if l.foreign() {
		text = plainText(l.plain(), limitSection)
	}
	return slack.NewContextBlock("", text)
}

func (l line) rich() []slack.RichTextSectionElement {
	var out []slack.RichTextSectionElement
	for _, s := range l {
		switch s.kind {
		case linked:
			out = append(out, slack.NewRichTextSectionLinkElement(s.url, s.text, nil))
		case person:
			out = append(out, slack.NewRichTextSectionUserElement(s.id, nil))
		case group:
			out = append(out, slack.NewRichTextSectionUserGroupElement(s.id))
		case date:
			fallback := s.fallback()
			out = append(out, slack.NewRichTextSectionDateElement(s.at.Unix(), string(s.format), nil, &fallback))
		case code, typed:
			out = append(out, slack.NewRichTextSectionTextElement(s.text, &slack.RichTextSectionTextStyle{Code: true}))
		default:
			out = append(out, slack.NewRichTextSectionTextElement(s.text, nil))
		}
	}
	return out
}

// quote is text from outside in a block that our own lines never use: Slack draws a
// bar beside it, so that nothing in it can pass for what we say.
func quote(text string) slack.Block {
	return slack.NewRichTextBlock("", &slack.RichTextQuote{
		Type: slack.RTEQuote, Elements: []slack.RichTextSectionElement{slack.NewRichTextSectionTextElement("“"+text+"”", nil)},
	})
}

// excerpt is the start of a message, and whether it is all of it.
func excerpt(message string) (text string, whole bool) {
	text = plain.Visible(message)
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	short := plain.Cut(strings.Join(lines[:min(len(lines), limitLines)], "\n"), limitMessage)
	if len(lines) > limitLines && !strings.HasSuffix(short, "…") {
		short = plain.Cut(short, limitMessage-2) + " …"
	}
	return short, short == strings.Join(lines, "\n")
}

// plainText is a text object in which nothing is interpreted, emoji names included.
func plainText(text string, limit int) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, paragraph(text, limit).text, false, false)
}

var ourEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func escapeOurs(text string) string { return ourEscapes.Replace(text) }

// joiner (WORD JOINER) has no width. Put behind a character that could open
// formatting, an emoji name or a link, it keeps Slack from seeing one.
const joiner = '\u2060'

// escape makes text from outside inert in Slack's markup. Slack has escapes
// for & < > only; what else could be read as markup is broken up invisibly.
// Source: https://docs.slack.dev/messaging/formatting-message-text
func escape(text string) string {
	var b strings.Builder
	previous := ' '
	for i, r := range text {
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '`':
			b.WriteRune(r)
			b.WriteRune(joiner)
		case ':':
			b.WriteRune(r)
			if next, _ := utf8.DecodeRuneInString(text[i+1:]); next != ' ' && next != utf8.RuneError {
				b.WriteRune(joiner)
			}
		case '*', '_', '~', '@':
			b.WriteRune(r)
			if !unicode.IsLetter(previous) && !unicode.IsDigit(previous) {
				b.WriteRune(joiner)
			}
		default:
			b.WriteRune(r)
		}
		previous = r
	}
	return b.String()
}

// duration puts a span of time into words: 45 s, 7 min, 2 h 5 min.
func duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second).Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
	d = d.Round(time.Minute)
	if minutes := int(d.Minutes()) % 60; minutes > 0 {
		return fmt.Sprintf("%d h %d min", int(d.Hours()), minutes)
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}

// plural is "1 approval", "2 approvals".
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
