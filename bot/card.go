package bot

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// card renders the one message of a request in its present state: first the
// question or the answer, then the same facts in every state, then what to do.
func (v view) card(c approvals.Card) message {
	r := c.Request
	title := headline(r)
	blocks := append([]slack.Block{header(title)}, v.subject(r)...)
	blocks = append(blocks, status(c).block())
	for _, note := range notes(r, decidable(c), c.Stranger) {
		blocks = append(blocks, note.small())
	}
	if c.Frozen != "" && decidable(c) {
		blocks = append(blocks, frozen(r.App, c.Frozen).small())
	}
	if len(c.Notify) > 0 {
		blocks = append(blocks, say("cc ", mentions(c.Notify, "and")).small())
	}
	if buttons := v.buttons(c); buttons != nil {
		blocks = append(blocks, buttons)
	}
	return newMessage(inShort(c), blocks...)
}

// inShort is a card in one sentence or two.
func inShort(c approvals.Card) line {
	r := c.Request
	if r.Status == approvals.Pending {
		return say(headline(r), " ", brief(r), ". ", progress(c), ". #", r.Number)
	}
	return say(headline(r), ". ", brief(r), ". ", wordingOf(r.Status).card(c), ". #", r.Number)
}

func pending(c approvals.Card) line {
	from := say(" with a code from ", canApprove(c.Approvers, needed(c)))
	if len(c.Request.Approvals()) > 0 {
		from = nil
	}
	return say(progress(c), from, " · expires ", at(c.Request.ExpiresAt()))
}

// progress is what is still needed, or who approved so far.
func progress(c approvals.Card) line {
	votes := c.Request.Approvals()
	if len(votes) == 0 {
		return say("Needs ", plural(needed(c), "approval"))
	}
	return say(tally(c), voters(votes))
}

func approved(c approvals.Card) line {
	r := c.Request
	gate := literal(r.GateName)
	switch {
	case !r.AutoApprove && r.GateStatus != approvals.JobOnHold:
		return say(approvedBy(r), " · approve ", gate, " in CircleCI as soon as it is on hold there")
	case !r.AutoApprove:
		return say(approvedBy(r), " · now approve ", gate, " in CircleCI (until ", atClock(r.ApprovalExpiresAt()), ")")
	case r.Gate.Silent:
		return say(approvedBy(r), " · CircleCI is not answering; the approval is kept and will be delivered")
	case r.GateStatus == approvals.JobOnHold:
		return say(approvedBy(r), " · CircleCI is being asked to approve ", gate)
	}
	return say(approvedBy(r), " · waiting for CircleCI to reach ", gate)
}

func released(c approvals.Card) line {
	r := c.Request
	if r.Gate.ApprovedBy != "" && !r.AutoApprove {
		return say(approvedAt(r), " · released in CircleCI by ", name(r.Gate.ApprovedBy))
	}
	return say(approvedAt(r), " · CircleCI is deploying")
}

func deployed(c approvals.Card) line {
	r := c.Request
	l := say(approvedAt(r), " · deployed", when(r.Deploy.FinishedAt))
	if took := deployTook(r); took > 0 {
		l = say(l, " (", duration(took), ")")
	}
	return l
}

// deployTook is the time from the release to the end of the deploy, 0 when it is not
// known.
func deployTook(r approvals.Request) time.Duration {
	if r.ReleasedAt.IsZero() {
		return 0
	}
	return max(0, r.Deploy.FinishedAt.Sub(r.ReleasedAt))
}

func deployFailed(c approvals.Card) line {
	r := c.Request
	l := say(approvedAt(r), " · ", quoted(cmp.Or(r.Deploy.Detail, "the deploy failed"), limitMessage))
	if !r.Deploy.FinishedAt.IsZero() {
		l = say(l, " (", at(r.Deploy.FinishedAt), ")")
	}
	return l
}

// tally is how far the quorum is. A vote stops counting when its voter loses
// the right.
func tally(c approvals.Card) string {
	need := needed(c)
	if c.Valid < len(c.Request.Approvals()) {
		return fmt.Sprintf("%d of %d approvals still count: ", c.Valid, need)
	}
	return fmt.Sprintf("%d of %d approvals: ", c.Valid, need)
}

// needed is how many approvals the request needs.
func needed(c approvals.Card) int { return max(c.Needs, c.Request.Required, 1) }

// canApprove names the approvers of an app; none means every admin.
func canApprove(ids []string, needed int) line {
	switch {
	case len(ids) > 0:
		return mentions(ids, "or")
	case needed > 1:
		return say("different admins")
	}
	return say("an admin")
}

func voters(votes []approvals.Decision) line {
	ids := make([]string, len(votes))
	for i, d := range votes {
		ids[i] = d.SlackUser
	}
	return mentions(ids, "and")
}

// approvedBy says who decided. An emergency release comes with its time and reason.
func approvedBy(r approvals.Request) line {
	if d, ok := r.Emergency(); ok {
		return say("Emergency release by ", mention(d.SlackUser), when(d.At), inQuotes(d.Reason))
	}
	votes := r.Approvals()
	if len(votes) == 0 {
		return say("Approved")
	}
	return say("Approved by ", voters(votes))
}

// approvedAt says who decided, and when.
func approvedAt(r approvals.Request) line {
	if _, ok := r.Emergency(); ok {
		return approvedBy(r)
	}
	return say(approvedBy(r), when(r.ApprovedAt))
}

func rejected(c approvals.Card) line {
	r := c.Request
	l := say("Rejected by ", mention(r.DecidedBy))
	for _, d := range r.Decisions {
		if d.Action == approvals.ActionReject {
			l = say("Rejected by ", mention(d.SlackUser), inQuotes(d.Reason))
		}
	}
	// A gate that was not reached yet is not listed as cancelled.
	switch canceled := r.GateStatus == approvals.JobCanceled || r.Closing.Accepted(); {
	case canceled && r.Closing.Act == approvals.CloseCancelWorkflow:
		l = say(l, " · the CircleCI workflow was cancelled")
	case canceled:
		l = say(l, " · the CircleCI job was cancelled")
	}
	return l
}

func expired(c approvals.Card) line {
	r := c.Request
	switch {
	case r.ApprovedAt.IsZero():
		return say("Nobody decided by ", at(r.ExpiresAt()))
	case r.AutoApprove:
		return retry(c, say(approvedBy(r), " · the approval expired ", at(r.ClosedAt), " before CircleCI could be reached"))
	}
	return retry(c, say(approvedBy(r), " · nobody approved ", literal(r.GateName), " in CircleCI by ", at(r.ClosedAt)))
}

func undeliverable(c approvals.Card) line {
	detail := cmp.Or(c.Request.Failure.Detail, c.Request.Attempt.Detail, "The approval could not be delivered")
	return retry(c, say(quoted(detail, limitMessage)))
}

// retry says how a request comes back.
func retry(c approvals.Card, l line) line {
	if !c.RetryOffered {
		return l
	}
	return say(l, " · Retry asks for another round of approvals until ", at(c.Request.RetryUntil()))
}

func canceled(r approvals.Request) line {
	detail := quoted(r.Failure.Detail, limitMessage)
	switch {
	case r.Failure.Code == approvals.FailWithdrawn:
		by := say("CI")
		if r.DecidedBy == r.Requester.TokenID && r.Requester.TokenName != "" {
			by = asker(r)
		}
		return say("Withdrawn by ", by, inQuotes(r.Failure.Detail))
	case r.Failure.Code == approvals.FailCIEnded && r.DecidedBy != "":
		return say(detail, " by ", name(r.DecidedBy))
	case r.Failure.Detail != "":
		return say(detail)
	}
	return say("It cannot be approved any more")
}

// notes are remarks that appear only when they matter. open: people can decide.
// stranger: nobody on record set the workflow off.
func notes(r approvals.Request, open, stranger bool) []line {
	var l []line
	if r.Status == approvals.Pending {
		if r.Round > 1 {
			l = append(l, say("This is round ", r.Round, ": the approvals of the round before no longer count."))
		}
		if r.Newer > 0 {
			l = append(l, say("A newer request is open (#", r.Newer, ")."))
		}
	}
	if open {
		l = append(l, origins(r.Facts, stranger)...)
		if r.Commits != nil && r.Commits.Behind > 0 {
			l = append(l, say("⚠️ This is a step back: ", plural(r.Commits.Behind, "commit"), " of the last deploy would be undone."))
		}
		if changed, known := r.ConfigChanged(); changed {
			l = append(l, say("⚠️ The CI configuration changed since the last deploy."))
		} else if !known {
			l = append(l, say("I couldn’t read the CI configuration, so I can’t tell whether it changed since the last deploy."))
		}
	}
	for _, d := range r.Decisions {
		if !d.NewAuth.IsZero() {
			l = append(l, say(mention(d.SlackUser), " set up a new authenticator ", at(d.NewAuth), "; this is their first approval with it."))
		}
	}
	if r.Gate.Bypassed {
		l = append(l, say("⚠️ ", literal(r.GateName), " was approved in CircleCI after this request was closed."))
	}
	switch {
	case !r.Gate.Bypassed && r.Status != approvals.Bypassed:
	case !r.Deploy.Asked.IsZero():
		l = append(l, say("The deploy job asked before that, and its answer was yes."))
	case r.Deploy.Stopped.IsZero():
		l = append(l, say("The deploy job has not asked whether it may deploy, so nothing has stopped it."))
	case r.Status == approvals.Bypassed && !r.Deploy.Stopped.Before(r.ClosedAt):
		l = append(l, say("The deploy job asked and was stopped."))
	default: // before the gate was open, perhaps: whoever has the token of CI may ask
		l = append(l, say("Somebody asked for the deploy job ", at(r.Deploy.Stopped), " and was told no."))
	}
	return l
}

// frozen says that nobody may approve, and until when.
func frozen(app, until string) line {
	return say("Deploys of ", name(app), " are frozen until ", until, ".")
}

// origins tell what is not a plain push by somebody on record.
func origins(f approvals.Facts, stranger bool) []line {
	var l []line
	switch how := howStarted(f); {
	case how != nil:
		l = append(l, how)
	case len(f.Starters()) == 0 && stranger:
		l = append(l, say("CircleCI does not say who started this."))
	}
	if starters := f.Starters(); stranger && len(starters) > 0 && !f.Scheduled() {
		l = append(l, say("The starter, ", name(starters[0]), ", is nobody I know, so I can’t tell whose deploy this is."))
	}
	return l
}

// howStarted tells how a pipeline came to run, nil for a plain push.
func howStarted(f approvals.Facts) line {
	given := parameters(f.Parameters)
	var by line
	if starters := f.Starters(); len(starters) > 0 {
		by = say(" by ", name(starters[0]))
	}
	switch {
	case f.Scheduled() && given == nil:
		return say("Nobody started this by hand (scheduled pipeline).")
	case f.Scheduled():
		return say("⚠️ Nobody started this by hand (scheduled pipeline). It runs with parameters: ", given, ".")
	case f.Push() && given == nil:
		return nil
	case f.Push():
		return say("⚠️ Started with parameters: ", given, ".")
	}
	how := say("⚠️ Started by the trigger ", name(cmp.Or(f.Event, f.Trigger, "unknown")), by)
	switch cmp.Or(f.Event, f.Trigger) {
	case "api":
		how = say("⚠️ Started through the API", by)
	case "explicit":
		how = say("⚠️ Started by hand in CircleCI", by)
	case "custom_webhook":
		how = say("⚠️ Started by a custom webhook")
	}
	if given != nil {
		how = say(how, ", with parameters: ", given)
	}
	return say(how, ".")
}

// parameters lists those other than the defaults; nil when there are none.
func parameters(p *approvals.Parameters) line {
	if p == nil {
		return nil
	}
	var l line
	for i, text := range p.List {
		if i > 0 {
			l = say(l, ", ")
		}
		whole, isCut := strings.CutSuffix(text, "…")
		if l = say(l, name(whole)); isCut {
			l = say(l, "…")
		}
	}
	switch {
	case p.More > 0 && len(l) > 0:
		l = say(l, " and ", p.More, " more")
	case p.More > 0:
		l = say(plural(p.More, "one"), " too long to show")
	}
	return l
}

// buttons are what can be pressed: none but the link once it is decided.
func (v view) buttons(c approvals.Card) slack.Block {
	r := c.Request
	var elements []slack.BlockElement
	switch {
	case r.Status == approvals.Pending:
		elements = append(elements,
			button(ActionApprove, r.ID, "Approve deploy", slack.StylePrimary),
			button(ActionReject, r.ID, "Reject", slack.StyleDanger))
	case c.RetryOffered:
		elements = append(elements, button(ActionRetry, r.ID, "Retry", slack.StylePrimary))
	}
	if u := v.pipelineURL(r); u != "" {
		b := button(ActionViewPipeline, "", "View pipeline", "")
		b.URL = u
		elements = append(elements, b)
	}
	if c.BreakGlass && decidable(c) {
		elements = append(elements, button(ActionBreakGlass, r.ID, "Emergency release", ""))
	}
	if len(elements) == 0 {
		return nil
	}
	return slack.NewActionBlock("", elements...)
}

// spare is the card in the simplest form there is, for the case that Slack
// refuses the other: who can decide must be able to.
func (v view) spare(c approvals.Card) message {
	full, r := v.card(c), c.Request
	blocks := []slack.Block{own(headline(r)+"\n"+v.facts(r).plain()+"\n"+status(c).plain(), limitWhole)}
	if b := v.buttons(c); b != nil {
		blocks = append(blocks, b)
	}
	spare := newMessage(nil, blocks...)
	spare.Text = full.Text
	return spare
}
