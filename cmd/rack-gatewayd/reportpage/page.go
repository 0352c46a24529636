// Package reportpage draws the report of an audit as one HTML page that stands alone:
// it has no scripts and loads nothing.
//
// What comes from CI or people is text in it, which is escaped and in which nothing is
// hidden, or the address of a link to the web. It is nothing else.
package reportpage

import (
	_ "embed"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

//go:embed page.css
var style string

// policy has browsers load nothing, whatever the page says.
const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

// Write writes the page. An error is one of w.
func Write(w io.Writer, r *audit.Reading) error {
	title := "Deploy approvals"
	if r.App != "" {
		title += " of " + r.App
	}
	figures, found := r.Figures(), r.Exceptions()
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(g.Attr("http-equiv", "Content-Security-Policy"), h.Content(policy)),
			h.Meta(h.Name("referrer"), h.Content("no-referrer")),
			h.Link(h.Rel("icon"), h.Href("data:,")),
			h.TitleEl(text(title+": "+period(r))),
			h.StyleEl(g.Raw(style)),
		),
		h.Body(
			h.Header(
				h.H1(text(title)),
				h.P(text(period(r)+". Days and times are UTC.")),
				soft(fmt.Sprintf("Made %s from the first %d events of the log %s. A request counts in the period in which it was made, an exception on the day on which it happened; each request is shown as it stood at the end of these events.",
					audit.At(r.Now), r.Checkpoint.Size, r.Checkpoint.Origin)),
			),
			tiles(figures.All, found),
			h.Section(h.Class("plots"), h.Aria("label", "Plots"), each([]plot{weeks(r), times(figures.All.Times), waited(figures.Approvers)}, plot.draw)),
			totals(figures),
			h.H2(h.ID("exceptions"), text("Exceptions")), each(found, exceptions),
			h.H2(h.ID("circleci"), text("Compared with CircleCI")), compared(r),
			evidence(r.Checkpoint),
			requests(r.Deploys),
		),
	)).Render(w)
}

// ends are the first and the last moment of the period, or of the log where none is
// given.
func ends(r *audit.Reading) (from, to time.Time) {
	from, to = r.From, r.To
	if from.IsZero() {
		from = r.First
	}
	if to.IsZero() || to.After(r.Last) {
		to = r.Last
	}
	return from, to
}

// period says which days the report is about.
func period(r *audit.Reading) string {
	day := func(t time.Time) string { return t.UTC().Format("2 January 2006") }
	from, to := "From "+day(r.From), " to "+day(r.To)+", both days included"
	if r.From.IsZero() {
		from = "From the first event of the log on " + day(r.First)
	}
	if r.To.IsZero() {
		to = " until the report was made on " + day(r.Last)
	}
	return from + to
}

func tiles(all *audit.Total, found []audit.ExceptionList) g.Node {
	tile := func(number any, words ...g.Node) g.Node {
		return h.Li(h.B(text(fmt.Sprint(number))), text(" "), g.Group(words))
	}
	list := g.Group{tile(all.Requests, text("requests"))}
	for ending, n := range all.Ended {
		if n > 0 {
			list = append(list, tile(n, text(audit.Ending(ending).String())))
		}
	}
	took := "median time to decision"
	if len(all.Times) > 0 {
		took += "; 9 of 10 within " + orNone(quantile(all.Times, 10, 9))
	}
	exceptional := 0
	for _, x := range found {
		exceptional += len(x.Found)
	}
	return h.Ul(h.Class("tiles"), list,
		tile(all.Deployed, text("deployed")),
		tile(all.DeployFailed, text("deploys failed")),
		tile(median(all.Times), text(took)),
		tile(exceptional, h.A(h.Href("#exceptions"), text("exceptions"))),
	)
}

func totals(f audit.Figures) g.Node {
	return g.Group{
		h.H2(h.ID("totals"), text("Totals")),
		soft("Every request is counted once in the five columns from “Approved” to “Still open”: one whose gate was opened past the gateway counts there, whatever had been decided about it. “Deployed” and “Deploy failed” are what CircleCI says of the jobs behind the gate; an approved request is in neither of them when its gate was not opened, or its deploy had not ended."),
		table("totals", numbered("App", "Requests", "Approved", "Rejected", "No decision", "Opened past the gateway", "Still open", "Deployed", "Deploy failed", "Median time to decision"),
			each(f.Apps, func(t *audit.Total) g.Node {
				ended := g.Map(t.Ended[:], number[int])
				return h.Tr(h.Th(text(t.Name)), number(t.Requests), ended, number(t.Deployed), number(t.DeployFailed), number(median(t.Times)))
			}),
			g.If(len(f.Apps) == 0, empty("10", "No request was made in the period."))),
		h.Div(h.Class("pair"),
			table("totals narrow", numbered("Status", "Requests"),
				each(f.Statuses, func(s audit.StatusCount) g.Node { return h.Tr(h.Th(text(string(s.Status))), number(s.Requests)) })),
			table("totals", numbered("Approver", "Approvals", "Rejects", "Emergency releases", "Own deploys", "Waited for (median)"),
				each(f.Approvers, func(a *audit.Approver) g.Node {
					return h.Tr(h.Th(text(a.Name)), number(a.Votes), number(a.Rejects), number(a.Emergencies), number(a.Own), number(median(a.Waits)))
				}),
				g.If(len(f.Approvers) == 0, empty("6", "Nobody decided anything."))),
		),
		soft("“Own deploys” are requests that this person alone approved, for workflows that they had started. “Waited for” is the median time from the request, or from the vote before, to this person’s vote."),
	}
}

// exceptions are those of one kind.
func exceptions(x audit.ExceptionList) g.Node {
	class, found := "box", h.Ul(h.Class("found"), each(x.Found, exception))
	if len(x.Found) == 0 {
		class, found = "box empty", h.P(text("None."))
	}
	return h.Section(h.Class(class), h.H3(text(x.Title+" "), h.Span(text(strconv.Itoa(len(x.Found))))), soft(x.About), found)
}

func exception(e audit.ExceptionEvent) g.Node {
	line := g.Group{h.Time(text(audit.At(e.At)))}
	if d := e.Deploy; d != nil {
		number := fmt.Sprintf("#%d", d.Number)
		which := text(number + " (made before the period)")
		if d.InPeriod {
			which = h.A(h.Href(fmt.Sprintf("#r%d", d.Number)), text(number))
		}
		line = append(line, text(" · "), which, text(" "+d.Place()))
	}
	line = append(line, text(": "+e.Text))
	if d := e.Deploy; d != nil {
		line = append(line, after(". ", d.Stopped()), card(d))
	}
	if len(e.Changes) > 0 {
		line = append(line, h.Ul(each(e.Changes, change)))
	}
	return h.Li(line)
}

func change(c approvals.SettingChange) g.Node {
	value := func(v string) string {
		if v == "" {
			return "(none)"
		}
		return v
	}
	return h.Li(text(place(c.App, c.Environment)+" "), h.Code(text(c.Key)), text(": "+value(c.From)+" → "+value(c.To)))
}

// place is an environment as settings name it.
func place(app, environment string) string {
	if environment == "default" {
		return app
	}
	return app + "/" + environment
}

// findings says in a sentence what each finding means.
var findings = []struct {
	finding audit.Finding
	text    string
}{
	{audit.FindingNoRequest, "Nobody asked this gateway about the gate, whether it was opened or not."},
	{audit.FindingNotOurs, "The gate is open, and the log has no approval that it was opened by."},
	{audit.FindingNotOpen, "The log says that the gate was opened, and CircleCI says that it was not."},
	{audit.FindingUnreadable, "CircleCI did not say which gates there are in this place, or who opened one, so some may be missing from the list."},
}

func compared(r *audit.Reading) g.Node {
	if r.Compared == nil {
		return h.P(h.B(text("Not compared:")), text(" "+r.NotCompared))
	}
	holes, gates := r.Compared.Holes, slices.DeleteFunc(slices.Clone(r.Compared.Gates), func(g audit.ReconciledGate) bool { return g.Finding == audit.FindingNone })
	list := g.Group{h.P(
		text(fmt.Sprintf("Every gate of the settings that CircleCI lists for the period was compared with the log: %d gates, %d of them with a finding.", len(r.Compared.Gates), len(gates))),
		g.If(len(holes) > 0, g.Group{text(" "), h.B(text("The list is not complete:")), text(fmt.Sprintf(" %d parts of it could not be read from CircleCI.", len(holes)))}),
	)}
	if len(holes)+len(gates) == 0 {
		return list
	}
	var texts g.Group
	for _, x := range findings {
		if x.finding == audit.FindingUnreadable && len(holes) > 0 || slices.ContainsFunc(gates, func(g audit.ReconciledGate) bool { return g.Finding == x.finding }) {
			texts = append(texts, h.Dt(text(string(x.finding))), h.Dd(text(x.text)))
		}
	}
	return append(list,
		table("compared stack", headed("Finding", "App", "Gate", "Approved in CircleCI by", "Request", "Where"), each(holes, hole), each(gates, gate)),
		h.Dl(h.Class("soft"), texts))
}

func hole(x audit.Hole) g.Node {
	where := x.Project
	if x.PipelineNumber != 0 {
		where += fmt.Sprintf(", pipeline %d", x.PipelineNumber)
	}
	if x.WorkflowID != "" {
		where += ", workflow " + x.WorkflowID
	}
	return h.Tr(h.Th(text("unreadable")), h.Td(), h.Td(), h.Td(), h.Td(), h.Td(text(where+": "+x.Why)))
}

func gate(x audit.ReconciledGate) g.Node {
	named := func(name, value string) g.Node { return h.Td(h.Data("name", name), text(value)) }
	request := "none"
	if x.Request != 0 {
		request = fmt.Sprintf("#%d (%s)", x.Request, x.RequestStatus)
	}
	return h.Tr(h.Th(text(string(x.Finding))), named("App", place(x.App, x.Environment)), named("Gate", fmt.Sprintf("%s (%s)", x.Gate, x.Status)),
		named("Approved in CircleCI by", x.ApprovedBy), named("Request", request), h.Td(text(fmt.Sprintf("%s, pipeline %d, workflow %s", x.Project, x.PipelineNumber, x.WorkflowID))))
}

func evidence(c audit.Signed) g.Node {
	return g.Group{
		h.H2(h.ID("evidence"), text("What this page rests on")),
		h.P(text("The page is for people; the evidence is the log. Its events were read from the first one on and make exactly the tree that this checkpoint signs:")),
		h.Pre(g.Text(c.Note)),
		h.P(text("To check it, keep the text above as "), h.Code(text("report.checkpoint")), text(", take the key from somebody else than this page, and export the log:")),
		h.Pre(text("rack-gatewayd audit export > log.jsonl\nrack-gatewayd audit verify log.jsonl --checkpoint report.checkpoint --key KEY")),
		h.P(h.Class("soft"), text("The key that signed it is "), h.Code(text(c.Key)),
			text(". Names of people and links to cards are not part of the log. Each row below can be followed with "), h.Code(text("audit export --format csv")), text(", which names the events of every request.")),
	}
}

// requests are all of the period. People look for the newest first.
func requests(deploys []*audit.Deploy) g.Node {
	newest := slices.Clone(deploys)
	slices.Reverse(newest)
	return g.Group{
		h.H2(h.ID("requests"), text("All requests")),
		table("requests stack", headed("Request", "What", "Decision", "What came of it"), each(newest, request),
			g.If(len(newest) == 0, empty("4", "No request was made in the period."))),
	}
}

func request(d *audit.Deploy) g.Node {
	acts := g.Map(d.Acts(), line)
	if len(acts) == 0 {
		acts = g.Group{line("Nobody decided.")}
	}
	return h.Tr(h.ID(fmt.Sprintf("r%d", d.Number)),
		h.Th(text(fmt.Sprintf("#%d", d.Number)), h.Div(h.Class("soft"), text(audit.At(d.CreatedAt)))),
		what(d),
		h.Td(h.Class("decision"), acts, h.Div(h.Class("soft"), text(fmt.Sprintf("%d needed", d.Required)), after(" · ", d.Quorum()))),
		h.Td(h.Class("outcome"),
			h.Div(dot(d.Ending()), h.B(text(string(d.Status)))),
			line(d.Release()), line(d.Verified()), line(d.Outcome()), line(d.Stopped())),
	)
}

// what is asked for, and where it comes from.
func what(d *audit.Deploy) g.Node {
	message := subject(d.Message())
	if message != "" {
		message = "“" + message + "”"
	}
	return h.Td(h.Class("what"),
		h.Div(h.B(text(d.Place())), text(" · "), link(d.CommitURL(), h.Code(h.Title(plain.Visible(d.Facts.Revision)), text(short(d.Facts.Revision)))), after(" on ", d.Ref())),
		line(message),
		h.Div(h.Class("soft"), link(d.PipelineURL(), text(fmt.Sprintf("pipeline %d", d.Facts.PipelineNumber))),
			text(", started by "+d.StartedBy()), after(", ", d.Unusual()), card(d)),
	)
}

// card leads to the card in Slack, if there is one.
func card(d *audit.Deploy) g.Node {
	return g.If(d.Card() != "", g.Group{text(" · "), link(d.Card(), text("card"))})
}

// link leads to a page of the web. With any other address, or none, it is what it
// shows and leads nowhere.
func link(address string, shows g.Node) g.Node {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return shows
	}
	return h.A(h.Href(u.String()), shows)
}

// text shows what would hide or turn text around.
func text(s string) g.Node {
	shown := plain.Visible("|" + s + "|") // without the ends, blanks there would be cut off
	return g.Text(shown[1 : len(shown)-1])
}

func soft(s string) g.Node { return h.P(h.Class("soft"), text(s)) }

// line is a line of a cell; of nothing there is none.
func line(s string) g.Node { return g.If(s != "", h.Div(text(s))) }

// after is a text with what stands before it; of nothing there is nothing.
func after(before, s string) g.Node { return g.If(s != "", text(before+s)) }

// each shows items one after the other, so that the nodes of a long list are never
// all there at once.
func each[T any](items []T, show func(T) g.Node) g.Node {
	return g.NodeFunc(func(w io.Writer) error {
		for _, item := range items {
			if err := show(item).Render(w); err != nil {
				return err
			}
		}
		return nil
	})
}

func table(class string, head g.Node, rows ...g.Node) g.Node {
	return h.Table(h.Class(class), h.THead(h.Tr(head)), h.TBody(rows...))
}

func headed(names ...string) g.Node {
	return g.Map(names, func(name string) g.Node { return h.Th(text(name)) })
}

// numbered heads a column of names and those of their numbers.
func numbered(name string, numbers ...string) g.Node {
	return g.Group{h.Th(text(name)), g.Map(numbers, func(name string) g.Node { return h.Th(h.Class("n"), text(name)) })}
}

func number[T any](n T) g.Node { return h.Td(h.Class("n"), text(fmt.Sprint(n))) }

func empty(columns, s string) g.Node { return h.Tr(h.Td(h.ColSpan(columns), text(s))) }

func short(revision string) string { return revision[:min(len(revision), 12)] }

// mostSubject is how many characters of a message a row shows.
const mostSubject = 200

// subject is the first line of a message.
func subject(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return plain.Cut(plain.Visible(line), mostSubject)
}
