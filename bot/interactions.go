package bot

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const (
	// openTime is how long opening a modal may take: Slack's trigger id is valid for 3
	// s.
	openTime = 2500 * time.Millisecond
	// How often, and with which pause, a click is judged again until the gateway has
	// recorded where its card was posted. All of it takes far less than 3 s.
	unsettledLooks = 75
	unsettledPause = 10 * time.Millisecond
	// submitTime is what a submission may take: Slack waits 3 s for its answer.
	submitTime = 2500 * time.Millisecond
	// tellTime is for telling somebody why nothing happened.
	tellTime = 10 * time.Second
)

// ack answers a payload; the first call counts. nil is the empty answer.
type ack func(payload any)

// once makes an ack safe to call again, for the ways out of a panic.
func once(a ack) ack {
	var done sync.Once
	return func(payload any) { done.Do(func() { a(payload) }) }
}

// interact takes in one interaction payload and sees to it that it is
// acknowledged. It never waits: what there is to do is done by a worker.
func (b *Bot) interact(raw []byte, answer ack) {
	answer = once(answer)
	p, err := parseInteraction(raw)
	if err != nil {
		b.log.Warn("a Slack interaction cannot be read", "err", err)
		answer(nil)
		return
	}
	started := time.Now()
	work := func() {}
	switch p.Type {
	case typeBlockActions:
		work = func() { b.clicked(p, answer) }
	case typeViewSubmission:
		work = func() { b.submitted(p, answer) }
	}
	task := func() {
		defer b.observe(p.Type, started)
		// After a panic too, nobody may be left with an open question.
		defer func() { answer(b.failed(p)) }()
		work()
	}
	switch {
	case !b.introduced():
		b.putOff(p, answer, notConnected)
	case !b.workers.try(task):
		b.putOff(p, answer, "I’m overloaded; nothing was recorded. Please try again.")
	}
}

// notConnected is said until Slack has answered who we are: before, nobody can be told
// from a stranger.
const notConnected = "I’m not connected to Slack yet; nothing was counted. Please try again in a moment."

// failed is the answer to a payload whose handler ended without answering.
func (b *Bot) failed(p interaction) any {
	if p.Type == typeViewSubmission {
		return slack.NewUpdateViewSubmissionResponse(ended("Not recorded", unrecorded()))
	}
	return nil
}

func unrecorded() line {
	return say("I could not record your decision. Look at the card, then press again.")
}

// putOff answers a payload that cannot be worked on now, without waiting.
func (b *Bot) putOff(p interaction, answer ack, why string) {
	if p.Type == typeViewSubmission {
		block := BlockCode
		if _, ok := p.typed(BlockCode, InputCode); !ok {
			block = BlockReason
		}
		answer(inline(block, say(why)))
		return
	}
	answer(nil)
	if _, ok := p.action(); !ok {
		return
	}
	if !b.spare.try(func() { b.tell(p, say(why)) }) {
		b.log.Error("too many Slack events at once: nobody was told that a click was not counted")
	}
}

func (b *Bot) observe(kind string, started time.Time) {
	if b.metrics.Event != nil {
		b.metrics.Event(kind, time.Since(started))
	}
}

// buttonActions is what the buttons of a card ask for, by their action ids.
var buttonActions = map[string]approvals.Action{
	ActionApprove: approvals.ActionApprove, ActionRetry: approvals.ActionApprove,
	ActionReject: approvals.ActionReject, ActionBreakGlass: approvals.ActionBreakGlass,
}

// action is what was pressed; ok is false for a link, and for a button of a time long ago.
func (p interaction) action() (action approvals.Action, ok bool) {
	if p.Type == typeBlockActions && len(p.Actions) > 0 {
		action, ok = buttonActions[p.Actions[0].ActionID]
	}
	return action, ok
}

// settled judges a click. Somebody quick may press before the gateway has recorded
// where the card was posted, which takes milliseconds, so it waits for that.
func (b *Bot) settled(ctx context.Context, who approvals.Clicker, id string, action approvals.Action) (approvals.Prompt, error) {
	prompt, err := b.service.MayDecide(ctx, who, id, action)
	for range unsettledLooks {
		if err != nil || prompt.Request.Slack.TS != "" {
			break
		}
		time.Sleep(unsettledPause)
		prompt, err = b.service.MayDecide(ctx, who, id, action)
	}
	return prompt, err
}

// clicked answers a button: the modal, or in private why not. Nothing slow may
// come before the modal.
func (b *Bot) clicked(p interaction, answer ack) {
	answer(nil)
	action, ok := p.action()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(b.working, openTime)
	defer cancel()
	id := p.Actions[0].Value
	who := approvals.Clicker{Team: p.team(), User: p.User.ID}
	if !validRequestID(id) || !userID.MatchString(who.User) {
		b.refused(p, who, "", action, &approvals.Refusal{Code: approvals.RefusedUnknownRequest})
		return
	}
	switch foreign, err := b.foreign(ctx, p.AppID, who.User, p.User.TeamID, p.Team.ID); {
	case err != nil:
		b.log.Warn("ask Slack who pressed a button", "user", who.User, "err", err)
		b.tell(p, say(notChecked))
		return
	case foreign:
		b.refused(p, who, id, action, &approvals.Refusal{Code: approvals.RefusedWorkspace})
		return
	}
	who.Team = b.ws.Identity().Team
	if !b.presses.allow(who.User) {
		b.tell(p, say("You pressed buttons more than ten times within a minute, so I ignored this one. Wait a minute, then press again."))
		return
	}
	prompt, err := b.settled(ctx, who, id, action)
	var why *approvals.Refusal
	switch {
	case errors.As(err, &why):
		b.refused(p, who, id, action, why)
		return
	case err != nil:
		b.log.Error("judge a click", "request", id, "err", err)
		b.tell(p, say("I could not look this request up just now. Nothing was counted. Press again."))
		return
	}
	if elsewhere := standsElsewhere(prompt.Request, p.channel(), p.messageTS()); elsewhere != nil {
		b.tell(p, elsewhere)
		if prompt.Request.Slack.TS != "" {
			b.log.Warn("a click came from a message that is not the card of its request", "request", id, "user", who.User)
			b.recordRefusal(who, id, action, &approvals.Refusal{Code: approvals.RefusedUnknownRequest})
		}
		return
	}
	b.open(ctx, p, who, action, prompt)
}

// open shows the modal of a click that was found good, and records that it opened.
func (b *Bot) open(ctx context.Context, p interaction, who approvals.Clicker, action approvals.Action, prompt approvals.Prompt) {
	id, card := prompt.Request.ID, prompt.Request.Slack
	modal := b.view.modal(prompt, action, origin{Request: id, Channel: card.Channel, TS: card.TS})
	err := b.call("views.open", func() error {
		_, err := b.ws.api.OpenViewContext(ctx, p.TriggerID, modal)
		return err
	})
	if err != nil {
		b.log.Warn("open a modal", "request", id, "why", explain(err))
		b.tell(p, b.unopened(err))
		return
	}
	b.health.good(subjectModals)
	b.record("record an opened modal", id, func(ctx context.Context) error { return b.service.Opened(ctx, who, id, action) })
}

// standsElsewhere says where to decide when the message that was acted on is not the card
// of its request; nil when it is.
func standsElsewhere(r approvals.Request, channel, ts string) line {
	switch {
	case r.Slack.TS == "":
		return say("The card is not ready yet. Press again in a moment.")
	case r.Slack.TS != ts || r.Slack.Channel != channel:
		return say("This is not the card of this request. Decide on ", number(r.Number, r.Slack.Permalink), ".")
	}
	return nil
}

// unopened says why the modal did not open, and whether it is worth pressing again.
func (b *Bot) unopened(err error) line {
	switch f := diagnose(err); f.kind {
	case limited:
		return say("Slack asks me to slow down. Nothing was counted. Press the button again in ", duration(f.after), ".")
	case denied, malformed:
		b.health.bad(subjectModals, "Slack does not let them open: "+f.words(""))
		return say("Slack does not let me open the window. Nothing was counted. Ask the operator.")
	}
	return say("Slack took too long to open the window. Nothing was counted. Press the button again.")
}

// subjectModals stands for the windows of the buttons in what the operator sees.
const subjectModals = "modals"

// refused tells the person, and records it.
func (b *Bot) refused(p interaction, who approvals.Clicker, id string, action approvals.Action, why *approvals.Refusal) {
	b.tell(p, refusal(why, who.User, action, time.Now()))
	if id != "" {
		b.recordRefusal(who, id, action, why)
	}
}

func (b *Bot) recordRefusal(who approvals.Clicker, id string, action approvals.Action, why *approvals.Refusal) {
	b.record("record a refused click", id, func(ctx context.Context) error { return b.service.ClickRefused(ctx, who, id, action, why) })
}

// record writes down what somebody pressed. On a slow disk that takes a while, in
// which the worker is free for the next click.
func (b *Bot) record(what, id string, write func(context.Context) error) {
	task := func() {
		ctx, cancel := context.WithTimeout(b.working, tellTime)
		defer cancel()
		if err := write(ctx); err != nil {
			b.log.Error(what, "request", id, "err", err)
		}
	}
	if !b.records.try(task) {
		task()
	}
}

// submitted takes a modal. The answer leaves only after the commit.
func (b *Bot) submitted(p interaction, answer ack) {
	ctx, cancel := context.WithTimeout(b.working, submitTime)
	defer cancel()
	var action approvals.Action
	var title string
	switch p.View.CallbackID {
	case CallbackApprove:
		action, title = approvals.ActionApprove, "Not approved"
	case CallbackReject:
		action, title = approvals.ActionReject, "Not rejected"
	case CallbackBreakGlass:
		action, title = approvals.ActionBreakGlass, "Not released"
	default:
		answer(nil)
		return
	}
	refuse := func(why *approvals.Refusal) { answer(p.refusal(why, action, title)) }
	from, err := parseOrigin(p.View.PrivateMetadata)
	if err != nil || !userID.MatchString(p.User.ID) {
		refuse(&approvals.Refusal{Code: approvals.RefusedUnknownRequest})
		return
	}
	switch foreign, err := b.foreign(ctx, p.AppID, p.User.ID, p.User.TeamID, p.Team.ID, p.View.TeamID); {
	case err != nil:
		b.log.Warn("ask Slack who sent a modal", "user", p.User.ID, "err", err)
		b.putOff(p, answer, notChecked)
		return
	case foreign:
		refuse(&approvals.Refusal{Code: approvals.RefusedWorkspace})
		return
	}
	who := approvals.Clicker{Team: b.ws.Identity().Team, User: p.User.ID}
	prompt, err := b.service.MayDecide(ctx, who, from.Request, action)
	if err == nil {
		// The modal may have been opened on a card that was lost since.
		if elsewhere := standsElsewhere(prompt.Request, from.Channel, from.TS); elsewhere != nil {
			answer(slack.NewUpdateViewSubmissionResponse(ended(title, elsewhere)))
			return
		}
		err = b.decide(ctx, who, p, from.Request, action)
	}
	var why *approvals.Refusal
	switch {
	case err == nil:
		answer(slack.NewClearViewSubmissionResponse())
	case errors.As(err, &why):
		refuse(why)
	default:
		b.log.Error("take a decision", "request", from.Request, "err", err)
		answer(b.failed(p))
	}
}

// refusal is the answer to a modal that was refused: at the field that was wrong, so that
// people can try again, or in place of the modal. title is that of what did not happen.
func (p interaction) refusal(why *approvals.Refusal, action approvals.Action, title string) any {
	text := refusal(why, p.User.ID, action, time.Now())
	_, asked := p.typed(BlockCode, InputCode)
	switch {
	case why.AboutCode() && asked:
		return inline(BlockCode, text)
	case why.Code == approvals.RefusedReason && action != approvals.ActionApprove:
		return inline(BlockReason, text)
	case why.AboutCode():
		text = say("A code is needed by now. Press the button on the card again.")
	case why.Code == approvals.RefusedClosed && !why.Retry:
		title = "Nothing more to do"
	}
	return slack.NewUpdateViewSubmissionResponse(ended(title, text))
}

func (b *Bot) decide(ctx context.Context, who approvals.Clicker, p interaction, id string, action approvals.Action) error {
	code, _ := p.typed(BlockCode, InputCode)
	reason, _ := p.typed(BlockReason, InputReason)
	return b.service.Decide(ctx, who, id, action, reason, code)
}
