package bot

import (
	"fmt"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// card renders the one message of a request in its present state: first the
// question or the answer, then the same facts in every state, then what to do.
func (v view) card(c approvals.Card) message {
	r := c.Request
	title, status := v.headline(c), v.status(c)
	blocks := []slack.Block{header(title)}
	if visible(r.Message) != "" {
		blocks = append(blocks, own(r.Message, limitMessage))
	}
	blocks = append(blocks, v.facts(r).block())
	if changes := v.changes(r); changes != nil {
		blocks = append(blocks, changes.block())
	}
	blocks = append(blocks, status.block())
	for _, note := range notes(c) {
		blocks = append(blocks, note.small())
	}
	id := say("Request #", r.Number)
	if len(c.Notify) > 0 {
		id = say(id, " · cc ", mentions(c.Notify, "and"))
	}
	blocks = append(blocks, id.small())
	if buttons := v.buttons(c); buttons != nil {
		blocks = append(blocks, buttons)
	}
	sentence := say(title)
	if r.Status != approvals.Pending {
		sentence = say(title, ".")
	}
	return newMessage(say(sentence, " ", brief(r), ". ", status, ". Request #", r.Number, "."), blocks...)
}

// headline answers in words what stands.
func (v view) headline(c approvals.Card) string {
	place := c.Request.Place()
	switch c.Request.Status {
	case approvals.Pending:
		return fmt.Sprintf("Deploy %s?", place)
	case approvals.Approved:
		return "Approved: " + place
	case approvals.Released:
		return "Released: " + place
	case approvals.Deployed:
		return "Deployed: " + place + " ✅"
	case approvals.DeployFailed:
		return "Deploy failed: " + place + " ❌"
	case approvals.Rejected:
		return "Rejected: " + place
	case approvals.Expired:
		return "Expired: " + place
	case approvals.Superseded:
		return "Superseded: " + place
	case approvals.Canceled:
		return "Withdrawn: " + place
	case approvals.Bypassed:
		return "Approved outside: " + place + " ⚠️"
	case approvals.Undeliverable:
		return "Could not release: " + place + " ⚠️"
	}
	return fmt.Sprintf("%s: %s", c.Request.Status, place)
}

// status is the line under the facts.
func (v view) status(c approvals.Card) line {
	r := c.Request
	switch r.Status {
	case approvals.Pending:
		return v.pending(c)
	case approvals.Approved:
		switch {
		case r.AutoApprove && r.Gate.Silent:
			return say(approvedBy(r), " · CircleCI is not answering; the approval is kept and will be delivered")
		case r.AutoApprove && r.GateStatus == approvals.JobOnHold:
			return say(approvedBy(r), " · CircleCI is asked to open ", literal(r.GateName))
		case r.AutoApprove:
			return say(approvedBy(r), " · waiting for CircleCI to reach ", literal(r.GateName))
		}
		return say(approvedBy(r), " · now approve ", literal(r.GateName), " in CircleCI (until ", atClock(r.ApprovalExpiresAt()), ")")
	case approvals.Released:
		by := say(approvedBy(r), " ", at(r.ApprovedAt))
		if r.Gate.ApprovedBy != "" && !r.AutoApprove {
			return say(by, " · released in CircleCI by ", name(r.Gate.ApprovedBy))
		}
		return say(by, " · CircleCI is deploying")
	case approvals.Deployed:
		l := say(approvedBy(r), " ", at(r.ApprovedAt), " · deployed")
		if r.Deploy.FinishedAt.IsZero() {
			return l
		}
		l = say(l, " ", at(r.Deploy.FinishedAt))
		if d := r.Deploy.FinishedAt.Sub(r.ReleasedAt); !r.ReleasedAt.IsZero() && d > 0 {
			l = say(l, " (", duration(d), ")")
		}
		return l
	case approvals.DeployFailed:
		l := say(approvedBy(r), " ", at(r.ApprovedAt), " · ", quoted(firstOf(r.Deploy.Detail, "the deploy failed"), limitMessage))
		if !r.Deploy.FinishedAt.IsZero() {
			l = say(l, " (", at(r.Deploy.FinishedAt), ")")
		}
		return l
	case approvals.Rejected:
		return rejected(r)
	case approvals.Expired:
		return expired(c)
	case approvals.Superseded:
		if c.SupersededByNumber > 0 {
			return say("A newer request took its place: ", number(c.SupersededByNumber, c.SupersededByLink))
		}
		return say("A newer request took its place")
	case approvals.Canceled:
		return canceled(r)
	case approvals.Bypassed:
		by := say("an unknown user")
		if r.Gate.ApprovedBy != "" {
			by = say(name(r.Gate.ApprovedBy))
		}
		return say(literal(r.GateName), " was approved in CircleCI by ", by, ", not here")
	case approvals.Undeliverable:
		return undeliverable(c)
	}
	return say("Nothing is known of this state")
}

func (v view) pending(c approvals.Card) line {
	r := c.Request
	votes := r.Approvals()
	l := say("Needs ", plural(max(c.Needs, r.Required, 1), "approval"), " with a code from ", canApprove(c.Approvers))
	if len(votes) > 0 {
		l = say(tally(c), voters(votes))
	}
	return say(l, " · expires ", at(r.ExpiresAt()))
}

// tally is how far the quorum is. A vote stops counting when its voter loses
// the right.
func tally(c approvals.Card) string {
	need := max(c.Needs, c.Request.Required, 1)
	if c.Valid < len(c.Request.Approvals()) {
		return fmt.Sprintf("%d of %d approvals still count: ", c.Valid, need)
	}
	return fmt.Sprintf("%d of %d approvals: ", c.Valid, need)
}

// canApprove names the approvers of an app; none means every admin.
func canApprove(ids []string) line {
	if len(ids) == 0 {
		return say("an admin")
	}
	return mentions(ids, "or")
}

func voters(votes []approvals.Decision) line {
	ids := make([]string, len(votes))
	for i, d := range votes {
		ids[i] = d.SlackUser
	}
	return mentions(ids, "and")
}

func approvedBy(r approvals.Request) line {
	votes := r.Approvals()
	if len(votes) == 0 {
		return say("Approved")
	}
	return say("Approved by ", voters(votes))
}

func rejected(r approvals.Request) line {
	l := say("Rejected by ", mention(r.DecidedBy))
	for _, d := range r.Decisions {
		if d.Action == approvals.ActionReject {
			l = say("Rejected by ", mention(d.SlackUser), ": “", quoted(d.Reason, limitMessage), "”")
		}
	}
	// A gate that was not reached yet is not listed as cancelled.
	if r.GateStatus == approvals.JobCanceled || r.Closing.Accepted() {
		l = say(l, " · the CircleCI job was cancelled")
	}
	return l
}

func expired(c approvals.Card) line {
	r := c.Request
	if r.ApprovedAt.IsZero() {
		return say("Nobody decided by ", at(r.ExpiresAt()))
	}
	l := say(approvedBy(r), " · the approval expired ", at(r.ClosedAt), " before CircleCI could be reached")
	if !r.AutoApprove {
		l = say(approvedBy(r), " · nobody approved ", literal(r.GateName), " in CircleCI by ", at(r.ClosedAt))
	}
	return retry(c, l)
}

func undeliverable(c approvals.Card) line {
	r := c.Request
	detail := r.Failure.Detail
	if detail == "" {
		detail = r.Attempt.Detail
	}
	l := say("The approval could not be delivered")
	if detail != "" {
		l = say(quoted(detail, limitMessage))
	}
	return retry(c, l)
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
		by := "CI"
		if r.DecidedBy == r.Requester.TokenID && r.Requester.TokenName != "" {
			by = r.Requester.TokenName
		}
		l := say("Withdrawn by ", name(by))
		if r.Failure.Detail != "" {
			l = say(l, ": “", detail, "”")
		}
		return l
	case r.Failure.Code == approvals.FailCIEnded && r.DecidedBy != "":
		return say(detail, " by ", name(r.DecidedBy))
	case r.Failure.Detail != "":
		return say(detail)
	}
	return say("It cannot be approved any more")
}

// changes links what is new since the last deploy, where that is known.
func (v view) changes(r approvals.Request) line {
	if r.Last == nil {
		return nil
	}
	last := r.Last.Revision
	compare := compareURL(r.Project, last, r.Facts.Revision)
	if compare == "" {
		return nil
	}
	return say(link(compare, "Changes since the last deploy"), " (", link(commitURL(r.Project, last), short(last)), ", ", at(r.Last.At), ")")
}

// notes are remarks that appear only when they matter.
func notes(c approvals.Card) []line {
	r := c.Request
	var l []line
	if r.Status == approvals.Pending {
		if r.Round > 1 {
			l = append(l, say(fmt.Sprintf("This is round %d of approvals: those of the round before do not count any more.", r.Round)))
		}
		if r.Newer > 0 {
			l = append(l, say(fmt.Sprintf("A newer request is open (#%d).", r.Newer)))
		}
		switch {
		case len(r.Facts.Starters()) > 0:
		case r.Facts.Scheduled():
			l = append(l, say("Nobody started this by hand (scheduled pipeline)."))
		default:
			l = append(l, say("CircleCI does not say who started this."))
		}
	}
	for _, d := range r.Approvals() {
		if !d.NewAuth.IsZero() {
			l = append(l, say(mention(d.SlackUser), " set up a new authenticator ", at(d.NewAuth), "; this is their first approval with it."))
		}
	}
	if r.Gate.Bypassed {
		l = append(l, say("⚠️ ", literal(r.GateName), " was approved in CircleCI after this request was closed."))
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
	if len(elements) == 0 {
		return nil
	}
	return slack.NewActionBlock("", elements...)
}

// spare is the card in the simplest form there is, for the case that Slack
// refuses the other: who can decide must be able to.
func (v view) spare(c approvals.Card) message {
	full := v.card(c)
	blocks := []slack.Block{own(v.headline(c)+"\n"+v.facts(c.Request).plain()+"\n"+v.status(c).plain(), limitWhole)}
	if b := v.buttons(c); b != nil {
		blocks = append(blocks, b)
	}
	spare := newMessage(nil, blocks...)
	spare.Text = full.Text
	return spare
}
