package audit

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// Card is the link to the card in Slack.
func (d *Deploy) Card() string { return d.of.cards[d.ID] }

// PipelineURL and CommitURL are pages for people; "" = none.
func (d *Deploy) PipelineURL() string {
	if d.of.Report.PipelineURL == nil {
		return ""
	}
	return d.of.Report.PipelineURL(d.Facts.Project, d.Facts.PipelineNumber)
}

// CommitURL is the page of the commit.
func (d *Deploy) CommitURL() string {
	if d.of.Report.CommitURL == nil {
		return ""
	}
	return d.of.Report.CommitURL(d.Facts, d.Facts.Revision)
}

// Ref is the branch or tag.
func (d *Deploy) Ref() string {
	if d.Facts.Tag != "" {
		return "tag " + d.Facts.Tag
	}
	return d.Facts.Branch
}

// StartedBy names who set the workflow off.
func (d *Deploy) StartedBy() string {
	if who := d.Facts.Starters(); len(who) > 0 {
		return strings.Join(who, ", ")
	}
	if d.Facts.Scheduled() {
		return "a schedule"
	}
	return "nobody on record"
}

// Message is what CI wrote, else the subject of the commit.
func (d *Deploy) Message() string { return cmp.Or(d.Asked.Message, d.Facts.Subject) }

// Unusual says what is not a plain push.
func (d *Deploy) Unusual() string {
	var said []string
	if !d.Facts.Push() {
		said = append(said, "triggered by "+cmp.Or(d.Facts.Trigger, "something that CircleCI does not name"))
	}
	if list := parametersOf(d.Facts.Parameters); list != "" {
		said = append(said, "with the parameters "+list)
	}
	if changed, _ := d.ConfigChanged(); changed {
		said = append(said, "with another CI configuration than the deploy before")
	}
	return strings.Join(said, ", ")
}

// Acts says what people did, in order.
func (d *Deploy) Acts() []string {
	var lines []string
	for _, e := range d.acts {
		factor := "without a code"
		if e.MFA != "" {
			factor = "with a code (" + e.MFA + ")"
		}
		line := fmt.Sprintf("%s %s %s, %s", d.of.name(e.Actor.ID), map[approvals.EventType]string{
			approvals.EventVoted: "approved", approvals.EventRejected: "rejected", approvals.EventBreakGlass: "released in an emergency",
		}[e.Type], factor, At(e.At()))
		if e.Reason != "" {
			line += ": “" + e.Reason + "”"
		}
		lines = append(lines, line)
	}
	return lines
}

// Quorum says what was asked for, and whose deploy it was.
func (d *Deploy) Quorum() string {
	return map[approvals.SelfApproval]string{
		approvals.SelfYes: "own deploy", approvals.SelfNo: "not their own deploy", approvals.SelfUnknown: "not known whose deploy it was",
	}[d.self]
}

// Release says whether the gate was opened by this approval.
func (d *Deploy) Release() string {
	switch {
	case !d.ReleasedAt.IsZero():
		return fmt.Sprintf("Released in CircleCI by %s, %s", plain.Visible(d.Gate.ApprovedBy), At(d.ReleasedAt))
	case d.Status == approvals.Bypassed:
		return fmt.Sprintf("Not released here: %s opened the gate in CircleCI", plain.Visible(d.Gate.ApprovedBy))
	case d.Gate.Bypassed:
		return fmt.Sprintf("Not released here: %s opened the gate in CircleCI after the request had ended", plain.Visible(d.Gate.ApprovedBy))
	}
	if d.Failure.Detail != "" {
		return "Not released: " + plain.Visible(d.Failure.Detail)
	}
	return "Not released"
}

// Outcome says what came of the deploy.
func (d *Deploy) Outcome() string {
	switch d.Status {
	case approvals.Deployed:
		return fmt.Sprintf("Deployed, %s to %s", At(d.Deploy.StartedAt), At(d.Deploy.FinishedAt))
	case approvals.DeployFailed:
		return fmt.Sprintf("Deploy failed, %s: %s", At(d.Deploy.FinishedAt), d.Deploy.Detail)
	case approvals.Released:
		return "The deploy had not ended when the report was made, or no job depends on the gate"
	}
	return ""
}

// Stopped says whether somebody was told not to deploy, and whether no job asked. Who
// was told no need not be the deploy job: others have its token, too.
func (d *Deploy) Stopped() string {
	var said []string
	if n := d.refusals(); n > 0 {
		times := map[bool]string{true: "once", false: fmt.Sprintf("%d times, the last time", n)}[n == 1]
		said = append(said, fmt.Sprintf("Somebody asked whether to deploy and was told no %s at %s", times, At(d.refused[len(d.refused)-1].At())))
	}
	switch past := d.Ending() == EndBypassed && d.verified.IsZero(); {
	case past && len(said) > 0:
		said = append(said, "if that was not the deploy job, find out what was deployed")
	case past:
		said = append(said, "No deploy job asked the gateway: find out what was deployed")
	case d.unasked && len(said) > 0:
		said = append(said, "the deploy ran, and no job was told that it may")
	case d.unasked:
		said = append(said, "No deploy job asked the gateway whether this is what was approved")
	}
	return strings.Join(said, "; ")
}

// Verified says when a deploy job was told that it may deploy.
func (d *Deploy) Verified() string {
	if d.verified.IsZero() {
		return ""
	}
	return "The deploy job asked, and its answer was yes, " + At(d.verified)
}

// At shows a time of a report, which is in UTC throughout.
func At(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}
