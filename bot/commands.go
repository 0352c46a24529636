package bot

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// command is what we read of a slash command.
// Source: https://docs.slack.dev/interactivity/implementing-slash-commands
type command struct {
	Team        string `json:"team_id"`
	App         string `json:"api_app_id"`
	User        string `json:"user_id"`
	Channel     string `json:"channel_id"`
	Text        string `json:"text"`
	ResponseURL string `json:"response_url"`
}

const (
	listLimit  = 15
	storyLimit = 30
)

// commanded answers /approvals, in private.
func (b *Bot) commanded(c command, answer ack) {
	started := time.Now()
	putOff := func(why string) { answer(map[string]string{"response_type": "ephemeral", "text": why}) }
	if !b.introduced() {
		putOff(notConnected)
		return
	}
	ok := b.workers.try(func() {
		defer b.observe("slash_command", started)
		answer(nil)
		ctx, cancel := context.WithTimeout(b.working, tellTime)
		defer cancel()
		if !userID.MatchString(c.User) {
			return
		}
		said := only(say(notChecked))
		switch foreign, err := b.foreign(ctx, c.App, c.User, c.Team); {
		case err != nil:
			b.log.Warn("ask Slack who gave a command", "user", c.User, "err", err)
		case foreign:
			return // whoever it is, they are not told anything
		default:
			said = b.answer(ctx, c.User, c.Text)
		}
		b.whisper(ctx, c.ResponseURL, c.Channel, c.User, said)
	})
	if !ok {
		putOff("I’m overloaded. Please try again.")
	}
}

// answer renders what a command asks for.
func (b *Bot) answer(ctx context.Context, user, text string) message {
	if problem := b.outsider(ctx, user); problem != nil {
		return only(problem)
	}
	verb, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	rest = strings.TrimSpace(rest)
	if strings.HasPrefix(verb, "#") && rest == "" {
		verb, rest = "show", verb
	}
	var sentence line
	var blocks []slack.Block
	var err error
	switch strings.ToLower(verb) {
	case "list":
		sentence, blocks, err = b.list(ctx, "Open requests", "Nothing is waiting.", approvals.Filter{Statuses: approvals.OpenStatuses(), Limit: listLimit})
	case "history":
		if !approvals.ValidName(rest) {
			return only(say("Which app? Say, for example, " + CommandName + " history myapp."))
		}
		sentence, blocks, err = b.list(ctx, "Requests of "+rest, "I have no requests of an app with this name. An app’s name is the one in the gateway’s settings, as on its cards.", approvals.Filter{Apps: []string{rest}, Limit: listLimit})
	case "show":
		n, bad := strconv.ParseInt(strings.TrimPrefix(rest, "#"), 10, 64)
		if bad != nil || n <= 0 {
			return only(say("Which request? Say its number, for example " + CommandName + " show 12."))
		}
		sentence, blocks, err = b.show(ctx, n)
	case "whoami":
		sentence, blocks, err = b.whoami(ctx, user)
	case "help", "":
		sentence, blocks = paragraphs(help())
	default:
		return only(say("I don’t know “", name(verb), "”. I know list, show N, history APP, whoami and help."))
	}
	if err != nil {
		b.log.Error("answer a slash command", "err", err)
		return only(say(notLookedUp))
	}
	return newMessage(sentence, blocks...)
}

// paragraphs are lines below each other, and all in one sentence after the other.
func paragraphs(lines []line) (sentences line, blocks []slack.Block) {
	for _, l := range lines {
		sentences, blocks = say(sentences, l, " "), append(blocks, l.block())
	}
	return sentences, blocks
}

// notLookedUp is said while the database does not answer.
const notLookedUp = "I could not look that up just now. Please try again."

// notChecked is said while Slack does not tell who somebody is.
const notChecked = "I could not check your Slack account just now. Please try again."

// outsider says why somebody gets no answer; nil for full, active members of
// this workspace.
func (b *Bot) outsider(ctx context.Context, user string) line {
	problem, err := b.ws.Member(ctx, user)
	switch {
	case err != nil:
		b.log.Warn("ask Slack who asks", "err", err)
		return say(notChecked)
	case problem != "":
		return say("Only full members of this workspace get an answer. Slack says about your account: ", quoted(problem, limitMessage), ".")
	}
	return nil
}

func help() []line {
	return []line{
		say(CommandName + " list shows what is waiting for approval."),
		say(CommandName + " show 12 tells the story of request 12."),
		say(CommandName + " history myapp lists the last requests of an app."),
		say(CommandName + " whoami shows your rights and your authenticator."),
	}
}

// list shows requests, the newest first. The line says how many, and which is the
// newest.
func (b *Bot) list(ctx context.Context, title, none string, f approvals.Filter) (line, []slack.Block, error) {
	found, err := b.service.Recent(ctx, f)
	if err != nil {
		return nil, nil, fmt.Errorf("list requests: %w", err)
	}
	if len(found) == 0 {
		return say(title, ": ", none), []slack.Block{header(title), say(none).block()}, nil
	}
	blocks := []slack.Block{header(title)}
	for _, r := range found {
		blocks = append(blocks, summary(r).block())
	}
	return say(title, ": ", len(found), ". The newest is ", summary(found[0]), "."), blocks, nil
}

// summary is a request on one line.
func summary(r approvals.Request) line {
	l := say(number(r.Number, r.Slack.Permalink), " ", r.Place(), " · ", words(string(r.Status)), " · ", brief(r), " · ", at(r.CreatedAt))
	if d, ok := r.Emergency(); ok {
		l = say(l, " · emergency release by ", mention(d.SlackUser))
	} else if r.Status == approvals.Rejected {
		l = say(l, " · rejected by ", mention(r.DecidedBy))
	} else if votes := r.Approvals(); len(votes) > 0 {
		l = say(l, " · approved by ", voters(votes))
	}
	return l
}

func (b *Bot) show(ctx context.Context, n int64) (line, []slack.Block, error) {
	r, events, err := b.service.Story(ctx, strconv.FormatInt(n, 10))
	if isMissing(err) {
		l := say("There is no request #", n, ".")
		return l, []slack.Block{l.block()}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read request: %w", err)
	}
	c, err := b.service.Card(ctx, r.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("read card: %w", err)
	}
	blocks := []slack.Block{header(headline(r)), say(number(r.Number, r.Slack.Permalink), " · ", b.view.facts(r)).block(), wordingOf(r.Status).card(c).block()}
	if more := len(events) - storyLimit; more > 0 {
		blocks = append(blocks, say("The log’s export holds ", plural(more, "earlier event"), ".").small())
		events = events[more:]
	}
	for _, e := range events {
		text, _ := b.view.tell(approvals.Told{Event: e, Request: r}, time.Now())
		blocks = append(blocks, say(at(e.At()), " · ", text).block())
	}
	return inShort(c), blocks, nil
}

func isMissing(err error) bool {
	var e *approvals.Error
	return errors.Is(err, approvals.ErrNotFound) || errors.As(err, &e) && e.Code == approvals.CodeNotFound
}

func (b *Bot) whoami(ctx context.Context, user string) (line, []slack.Block, error) {
	p, info, err := b.service.Person(ctx, user)
	if err != nil && !isMissing(err) {
		return nil, nil, fmt.Errorf("read person: %w", err)
	}
	l, blocks := paragraphs(aboutMe(user, p, info, isMissing(err), time.Now()))
	return l, blocks, nil
}

// aboutMe says what somebody may do and how their authenticator is.
func aboutMe(user string, p approvals.Person, info *approvals.AuthenticatorInfo, unknown bool, now time.Time) []line {
	if unknown || !p.RemovedAt.IsZero() {
		return []line{
			say("You are ", mention(user), ". You are not an admin of this gateway, so you cannot approve or reject."),
			say("If you should, ask the operator to add you: ", commandLine("rack-gatewayd user add --slack-id "+user)),
		}
	}
	l := []line{say("You are ", mention(user), ", an admin of this gateway.")}
	if p.VCSLogin == "" {
		l = append(l, say("I don’t know your GitHub or Bitbucket username. Until the operator sets it, you can reject deploys, but approve them only where people may approve their own."))
	} else {
		l = append(l, say("Your username at the code host is ", name(p.VCSLogin), "."))
	}
	if p.Standing.Problem != "" {
		l = append(l, say("Slack says about your account: ", quoted(p.Standing.Problem, limitMessage), "."))
	}
	switch {
	case info == nil:
		l = append(l, say("You have no authenticator yet. Ask the operator for a link: ", commandLine("rack-gatewayd user enroll --slack-id "+user)))
	case info.Disabled:
		l = append(l, say("Your authenticator is disabled after too many wrong codes. Ask the operator for a new one."))
	case now.Before(info.WaitUntil):
		l = append(l, say("You gave too many wrong codes, so yours are refused until ", atClock(info.WaitUntil), "."))
	case info.FirstUsed.IsZero():
		l = append(l, say("You set up your authenticator ", at(info.EnrolledAt), " and have not used it yet."))
	default:
		l = append(l, say("You set up your authenticator ", at(info.EnrolledAt), "."))
	}
	return l
}
