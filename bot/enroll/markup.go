package enroll

import (
	_ "embed"
	"fmt"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

//go:embed page.css
var style string

// The drawings of the page: a gate in its head, and a tick for what is done.
const (
	gate = `<path d="M4 21V6l8-3 8 3v15M2 21h20M8.5 12.5l2.5 2.5 4.5-5"/>`
	tick = `<circle cx="12" cy="12" r="10"/><path d="M7.5 12.5l3 3 6-6.5"/>`
)

// markup is the whole page. What people typed stands in the text of elements alone,
// which is escaped, and in the link to the app, of which [totp.Secret.URL] makes
// nothing but an otpauth link.
func (p page) markup() g.Node {
	title := p.Title + " – Rack Gateway Approvals"
	if p.Problem != "" {
		title = "Error: " + title
	}
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.TitleEl(g.Text(title)),
			h.StyleEl(g.Raw(style)),
		),
		h.Body(
			h.Header(drawing(gate), h.Span(g.Text("Rack Gateway Approvals"))),
			h.Main(h.Data("page", p.Name), p.content()),
			g.If(p.Until != "", p.footer()),
		),
	))
}

func (p page) content() g.Node {
	switch p.Name {
	case "start":
		return p.startMarkup()
	case "key":
		return p.keyMarkup()
	case "wrong":
		return p.wrongMarkup()
	case "shown":
		return p.shownMarkup()
	case "done":
		return p.doneMarkup()
	case "gone":
		return p.goneMarkup()
	}
	return g.Group{p.heading(), says(p.Text)}
}

func (p page) footer() g.Node {
	left := fmt.Sprintf("about %d minutes", p.Minutes)
	if p.Minutes == 1 {
		left = "about a minute"
	}
	return h.Footer(h.P(
		g.Text("This link works until "), h.Time(g.Text(p.Until)), g.Text(", "+left+" from now. Keep it to yourself."),
	))
}

func (p page) startMarkup() g.Node {
	return g.Group{
		g.If(p.Problem != "", p.alert()),
		p.heading(),
		says("You approve deploys in Slack with a six-digit code from an app on your phone. Setting that up takes about a minute. This link is for:"),
		p.whose(),
		says("Before you go on:"),
		h.Ul(
			item("Have an authenticator app on your phone: Google Authenticator, Microsoft Authenticator, 1Password, Aegis, or any other for time-based codes."),
			h.Li(g.Text("The key is shown "), h.Strong(g.Text("once")), g.Text(". Make sure that nobody else sees your screen.")),
			g.If(p.Person.Enrolled, item("Your current authenticator keeps working until you have confirmed the new one. Then it ends.")),
		),
		h.Form(h.Method("post"), button("Show the key")),
		soft("Not you? Close this page and tell the operator: the link was meant for somebody else."),
	}
}

func (p page) keyMarkup() g.Node {
	return g.Group{
		p.heading(),
		h.P(h.Class("soft"),
			g.Text("For "), p.called(), g.Text(". This page is shown once: do not close or reload it before you are done, and take no picture of it."),
		),
		section("add", "1. Add the key",
			says("In your authenticator app, add an account in one of these ways:"),
			h.Div(h.Class("ways"),
				h.Div(h.Class("scan"), h.H3(g.Text("With the app’s camera")), p.Picture.markup()),
				h.Div(h.Class("here"), h.H3(g.Text("On this device")), h.A(h.Class("button"), h.ID("app-link"), h.Href(p.Link), g.Text("Open in your app"))),
				h.Div(
					h.H3(g.Text("By hand")),
					h.Code(h.Class("key"), h.ID("key"), g.Text(p.Key)),
					soft("Time based, six digits, 30 seconds."),
				),
			),
		),
		section("confirm", "2. Confirm with a code", p.form()),
	}
}

// markup draws the QR code.
func (c picture) markup() g.Node {
	size := strconv.Itoa(c.Size)
	return h.SVG(h.Class("qr"), g.Attr("viewBox", "0 0 "+size+" "+size), h.Role("img"), h.Aria("labelledby", "qr-title"), g.Attr("shape-rendering", "crispEdges"),
		h.TitleEl(h.ID("qr-title"), g.Text("QR code with the key, for the camera of your authenticator app. The same key is below as text.")),
		g.El("rect", h.Width("100%"), h.Height("100%"), g.Attr("fill", "#fff")),
		g.El("path", g.Attr("d", c.Path), g.Attr("fill", "#000")),
	)
}

// form asks for a code.
func (p page) form() g.Node {
	described, again := "code-hint", g.Group{}
	if p.Problem != "" {
		described, again = "problem code-hint", g.Group{h.Aria("invalid", "true"), h.AutoFocus()}
	}
	return h.Form(h.Method("post"),
		h.Label(h.For("code"), g.Text("Code that the app shows now")),
		h.Input(h.ID("code"), h.Name("code"), h.Type("text"), g.Attr("inputmode", "numeric"), h.AutoComplete("one-time-code"),
			h.Pattern(`\s*([0-9]\s*){6}`), h.MaxLength("16"), h.Title("Six digits"), g.Attr("spellcheck", "false"),
			g.Attr("autocapitalize", "off"), h.Required(), h.Aria("describedby", described), again),
		h.P(h.Class("soft"), h.ID("code-hint"), g.Text("Six digits, named “Rack Gateway” in the app. It changes every 30 seconds.")),
		button("Confirm"),
	)
}

func (p page) wrongMarkup() g.Node {
	return g.Group{
		p.alert(),
		p.heading(),
		h.P(g.Text("Wait until the app shows a new code and type that one. Take the entry “Rack Gateway” with the name "), p.called(), g.Text(".")),
		p.form(),
		h.H2(g.Text("Does it still not work?")),
		h.Ul(
			item("Set the clock of your phone to automatic: the codes depend on it."),
			item("If the key is not in your app, it cannot be shown again. Ask the operator for a new link."),
			item("After several wrong codes this link ends, and you need a new one."),
		),
	}
}

func (p page) shownMarkup() g.Node {
	return g.Group{
		p.heading(),
		says("For your safety each link shows its key only once, and this one has done so. If that was not you, type nothing here and tell the operator."),
		p.whose(),
		section("have", "Is the key in your app?", says("Then go on: type the code that the app shows."), p.form()),
		section("have-not", "Is the key not in your app?",
			says("Ask the operator for a new link, which ends this one. This is what they run:"), enrolCommand(p.Person.SlackID)),
	}
}

func (p page) doneMarkup() g.Node {
	return g.Group{
		drawing(tick, h.Class("tick")),
		p.heading(),
		h.P(h.Role("status"), p.called(), g.Text(", your app and Rack Gateway agree on the key.")),
		h.H2(g.Text("What happens next")),
		h.Ul(
			h.Li(g.Text("When you press "), h.Strong(g.Text("Approve deploy")), g.Text(" in Slack, you are asked for a code. Type the one that the app shows then.")),
			item("Each code works once. The one you have just typed is used: the next one comes within 30 seconds."),
			item("You get a message from the bot in Slack, and the channel is told that you have a new authenticator."),
			g.If(p.Person.Enrolled, item("Your earlier authenticator has ended. Delete its old entry in the app.")),
		),
		h.P(h.Class("good"), h.Strong(g.Text("You can close this page."))),
	}
}

func (p page) goneMarkup() g.Node {
	return g.Group{
		p.heading(),
		says("A link works once and for ten minutes. This one was used already, its time is over, too many wrong codes were typed, or you have a newer link."),
		h.H2(g.Text("Did you just confirm a code?")),
		h.P(g.Text("Then all is well. Type "), h.Code(h.Class("whole"), g.Text("/approvals whoami")), g.Text(" in Slack to see your authenticator.")),
		h.H2(g.Text("Do you still need an authenticator?")),
		says("Ask the operator for a new link. This is what they run, with your Slack ID:"),
		enrolCommand("U…"),
	}
}

func (p page) heading() g.Node { return h.H1(g.Text(p.Title)) }

// alert says what was wrong with the last try.
func (p page) alert() g.Node {
	return h.P(h.Class("alert"), h.Role("alert"), g.If(p.Name == "wrong", h.ID("problem")), g.Text(p.Problem))
}

// called keeps the direction of a name from what stands around it.
func (p page) called() g.Node { return g.El("bdi", g.Text(p.Who)) }

// whose says whom the link is for.
func (p page) whose() g.Node {
	return h.P(h.Class("who"), h.Strong(p.called()),
		g.If(p.Who != p.Person.SlackID, g.Group{g.Text(" "), h.Span(h.Class("soft"), g.Text("Slack ID "+p.Person.SlackID))}))
}

func enrolCommand(slackID string) g.Node {
	return h.P(h.Code(g.Text("rack-gatewayd user enroll "), h.Span(h.Class("whole"), g.Text("--slack-id "+slackID))))
}

// drawing is a picture of lines, which says nothing that the page does not say.
func drawing(lines string, attrs ...g.Node) g.Node {
	return h.SVG(g.Group(attrs), g.Attr("viewBox", "0 0 24 24"), g.Attr("fill", "none"), g.Attr("stroke", "currentColor"), g.Attr("stroke-width", "2"),
		g.Attr("stroke-linecap", "round"), g.Attr("stroke-linejoin", "round"), h.Aria("hidden", "true"), g.Attr("focusable", "false"), g.Raw(lines))
}

func section(id, title string, content ...g.Node) g.Node {
	return h.Section(h.Aria("labelledby", id), h.H2(h.ID(id), g.Text(title)), g.Group(content))
}

func says(text string) g.Node   { return h.P(g.Text(text)) }
func soft(text string) g.Node   { return h.P(h.Class("soft"), g.Text(text)) }
func item(text string) g.Node   { return h.Li(g.Text(text)) }
func button(text string) g.Node { return h.Button(h.Class("button"), h.Type("submit"), g.Text(text)) }
