package audit

import (
	"cmp"
	_ "embed" // for the page
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

//go:embed report.html
var reportText string

// reportPage shows a page. What comes from CI or people is text in it: html/template
// escapes it, and shown makes visible what would not show.
var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"at": at, "day": day, "shown": plain.Visible, "span": span, "subject": subject, "short": short,
}).Parse(reportText))

// page is what the template sees.
type page struct {
	*reading
	Figures    figures
	Plots      []plot
	Exceptions []exceptionList
	Findings   int              // how many in all lists
	Gates      []ReconciledGate // those with a finding
}

// FindingTexts explains the findings that the page lists.
func (p page) FindingTexts() (list []findingText) {
	for _, t := range findingTexts {
		if t.Finding == FindingUnreadable && len(p.Compared.Holes) > 0 ||
			slices.ContainsFunc(p.Gates, func(g ReconciledGate) bool { return g.Finding == t.Finding }) {
			list = append(list, t)
		}
	}
	return list
}

type exceptionList struct {
	Title, About string
	Found        []finding
}

func (r *reading) write(w io.Writer) error {
	p := page{reading: r, Figures: r.figures()}
	p.Plots = []plot{r.weeks(), p.Figures.times(), p.Figures.waited()}
	slices.Reverse(r.Deploys) // people look for the newest first
	for _, x := range exceptions {
		p.Exceptions = append(p.Exceptions, exceptionList{x.Title, x.About, r.found[x]})
		p.Findings += len(r.found[x])
	}
	if r.Compared != nil {
		for _, g := range r.Compared.Gates {
			if g.Finding != FindingNone {
				p.Gates = append(p.Gates, g)
			}
		}
	}
	return reportPage.Execute(w, p)
}

// from and to are the ends of the period, or of the log where none is given.
func (r *reading) from() time.Time { return cmp.Or(r.From, r.first) }

func (r *reading) to() time.Time {
	if r.To.IsZero() || r.To.After(r.last) {
		return r.last
	}
	return r.To
}

// Period says which days the report is about.
func (r *reading) Period() string {
	from, to := "From "+day(r.from()), " to "+day(r.To)+", both days included"
	if r.From.IsZero() {
		from = "From the first event of the log on " + day(r.first)
	}
	if r.To.IsZero() {
		to = " until the report was made on " + day(r.last)
	}
	return from + to
}

// EndingNames are the words for what became of requests.
func (r *reading) EndingNames() [endings]string { return endingNames }

// Card is the link to the card in Slack.
func (d *deploy) Card() string { return d.of.cards[d.ID] }

// PipelineURL and CommitURL are pages for people; "" = none.
func (d *deploy) PipelineURL() string {
	if d.of.Report.PipelineURL == nil {
		return ""
	}
	return d.of.Report.PipelineURL(d.Facts.Project, d.Facts.PipelineNumber)
}

// CommitURL is the page of the commit.
func (d *deploy) CommitURL() string {
	if d.of.Report.CommitURL == nil {
		return ""
	}
	return d.of.Report.CommitURL(d.Facts, d.Facts.Revision)
}

// Ref is the branch or tag.
func (d *deploy) Ref() string {
	if d.Facts.Tag != "" {
		return "tag " + d.Facts.Tag
	}
	return d.Facts.Branch
}

// StartedBy names who set the workflow off.
func (d *deploy) StartedBy() string {
	if who := d.Facts.Starters(); len(who) > 0 {
		return strings.Join(who, ", ")
	}
	if d.Facts.Scheduled() {
		return "a schedule"
	}
	return "nobody on record"
}

// Message is what CI wrote, else the subject of the commit.
func (d *deploy) Message() string { return cmp.Or(d.Asked.Message, d.Facts.Subject) }

// Unusual says what is not a plain push.
func (d *deploy) Unusual() string {
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
func (d *deploy) Acts() []string {
	var lines []string
	for _, e := range d.acts {
		factor := "without a code"
		if e.MFA != "" {
			factor = "with a code (" + e.MFA + ")"
		}
		line := fmt.Sprintf("%s %s %s, %s", d.of.name(e.Actor.ID), map[approvals.EventType]string{
			approvals.EventVoted: "approved", approvals.EventRejected: "rejected", approvals.EventBreakGlass: "released in an emergency",
		}[e.Type], factor, at(e.At()))
		if e.Reason != "" {
			line += ": “" + e.Reason + "”"
		}
		lines = append(lines, line)
	}
	return lines
}

// Quorum says what was asked for, and whose deploy it was.
func (d *deploy) Quorum() string {
	return map[approvals.SelfApproval]string{
		approvals.SelfYes: "own deploy", approvals.SelfNo: "not their own deploy", approvals.SelfUnknown: "not known whose deploy it was",
	}[d.self]
}

// Release says whether the gate was opened by this approval.
func (d *deploy) Release() string {
	switch {
	case !d.ReleasedAt.IsZero():
		return fmt.Sprintf("Released in CircleCI by %s, %s", plain.Visible(d.Gate.ApprovedBy), at(d.ReleasedAt))
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
func (d *deploy) Outcome() string {
	switch d.Status {
	case approvals.Deployed:
		return fmt.Sprintf("Deployed, %s to %s", at(d.Deploy.StartedAt), at(d.Deploy.FinishedAt))
	case approvals.DeployFailed:
		return fmt.Sprintf("Deploy failed, %s: %s", at(d.Deploy.FinishedAt), d.Deploy.Detail)
	case approvals.Released:
		return "The deploy had not ended when the report was made, or no job depends on the gate"
	}
	return ""
}

// Stopped says whether somebody was told not to deploy, and whether no job asked. Who
// was told no need not be the deploy job: others have its token, too.
func (d *deploy) Stopped() string {
	var said []string
	if n := d.refusals(); n > 0 {
		times := map[bool]string{true: "once", false: fmt.Sprintf("%d times, the last time", n)}[n == 1]
		said = append(said, fmt.Sprintf("Somebody asked whether to deploy and was told no %s at %s", times, at(d.refused[len(d.refused)-1].At())))
	}
	switch past := d.Ending() == endBypassed && d.verified.IsZero(); {
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
func (d *deploy) Verified() string {
	if d.verified.IsZero() {
		return ""
	}
	return "The deploy job asked, and its answer was yes, " + at(d.verified)
}

// at shows a time of the page, which is in UTC throughout.
func at(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

func short(revision string) string { return revision[:min(len(revision), 12)] }

// mostSubject is how many characters of a message a row shows.
const mostSubject = 200

// subject is the first line of a message.
func subject(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return plain.Cut(plain.Visible(line), mostSubject)
}
