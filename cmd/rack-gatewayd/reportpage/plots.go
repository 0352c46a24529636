package reportpage

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// plot is a picture of bars, which stand side by side or, when they are long, lie
// below each other. The page draws them as wide as the screen allows.
type plot struct {
	title, about string
	long         bool
	bars         []bar
	legend       []audit.Ending
}

// bar has a name on the axis and a number, "" where there is no room for it.
type bar struct {
	name, number string
	parts        []part
}

// part is a part of a bar: its size in percent of the longest bar, its colour, and
// what it says to who points at it.
type part struct {
	size  float64
	of    audit.Ending
	title string
}

func (p plot) draw() g.Node {
	direction := "bars tall"
	if p.long {
		direction = "bars long"
	}
	bars := h.Div(h.Class(direction), h.Role("img"), h.Aria("label", p.title), each(p.bars, bar.draw))
	if len(p.bars) == 0 {
		bars = h.P(text("Nothing to show."))
	}
	legend := g.Map(p.legend, func(e audit.Ending) g.Node { return h.Li(dot(e), text(e.String())) })
	return h.Figure(h.FigCaption(h.H3(text(p.title)), text(p.about)), bars, g.If(len(legend) > 0, h.Ul(h.Class("legend"), legend)))
}

func (b bar) draw() g.Node {
	return h.Div(each(b.parts, part.draw), h.B(text(b.number)), h.Span(text(b.name)))
}

func (p part) draw() g.Node {
	return h.I(h.Class("is-"+colour(p.of)), h.Style(fmt.Sprintf("--size: %.1f%%", p.size)), h.Title(plain.Visible(p.title)))
}

func dot(e audit.Ending) g.Node { return h.I(h.Class("dot is-" + colour(e))) }

// colour is the name that the style sheet has for one.
func colour(e audit.Ending) string {
	switch e {
	case audit.EndApproved:
		return "ok"
	case audit.EndRejected:
		return "no"
	case audit.EndBypassed:
		return "past"
	case audit.EndOpen:
		return "open"
	}
	return "none"
}

// percent is how much of most n is.
func percent[T int | time.Duration](n, most T) float64 { return 100 * float64(n) / float64(most) }

// Of so many weeks each can have its number, and so many names have room.
const mostNumbers, mostNames = 24, 9

// weeks plots the requests of each week by what became of them.
func weeks(r *audit.Reading) plot {
	p := plot{title: "Requests per week", about: "Weeks begin on Monday. What became of the requests that were made in them."}
	if len(r.Deploys) == 0 {
		return p
	}
	const week = 7 * 24 * time.Hour
	first, last := ends(r)
	monday := first.Truncate(24*time.Hour).AddDate(0, 0, -(int(first.Weekday())+6)%7)
	weeks := make([]audit.Total, int(last.Sub(monday)/week)+1)
	var all audit.Total
	most := 1
	for _, d := range r.Deploys {
		w, e := &weeks[d.CreatedAt.Sub(monday)/week], d.Ending()
		w.Requests++
		w.Ended[e]++
		all.Ended[e]++
		most = max(most, w.Requests)
	}
	for i, w := range weeks {
		var b bar
		from := monday.AddDate(0, 0, 7*i)
		for i, n := range w.Ended {
			if e := audit.Ending(i); n > 0 {
				b.parts = append(b.parts, part{percent(n, most), e, fmt.Sprintf("Week of %s: %d %s", from.Format(time.DateOnly), n, e)})
			}
		}
		if len(weeks) <= mostNumbers && w.Requests > 0 {
			b.number = strconv.Itoa(w.Requests)
		}
		if i%((len(weeks)+mostNames-1)/mostNames) == 0 {
			b.name = from.Format("2 Jan")
		}
		p.bars = append(p.bars, b)
	}
	for e, n := range all.Ended {
		if n > 0 {
			p.legend = append(p.legend, audit.Ending(e))
		}
	}
	return p
}

// decisionTimes are the classes of the plot of times to decision.
var decisionTimes = []struct {
	below time.Duration
	name  string
}{
	{time.Minute, "< 1 min"}, {5 * time.Minute, "1–5 min"}, {15 * time.Minute, "5–15 min"}, {time.Hour, "15–60 min"},
	{4 * time.Hour, "1–4 h"}, {24 * time.Hour, "4–24 h"}, {1 << 62, "> 1 d"},
}

// times plots how long decisions took.
func times(all []time.Duration) plot {
	p := plot{title: "Time to decision", about: "From the request to the approval or the reject; a decision after a Retry is not counted."}
	if len(all) == 0 {
		return p
	}
	count := make([]int, len(decisionTimes))
	for _, d := range all {
		count[sort.Search(len(count), func(i int) bool { return d < decisionTimes[i].below })]++
	}
	for i, n := range count {
		name := decisionTimes[i].name
		p.bars = append(p.bars, bar{name, strconv.Itoa(n), []part{{percent(n, slices.Max(count)), audit.EndApproved, fmt.Sprintf("%s: %d decisions", name, n)}}})
	}
	return p
}

// mostWaited is how many people the plot of waiting shows.
const mostWaited = 20

// waited plots for whom requests waited.
func waited(approvers []*audit.Approver) plot {
	p := plot{title: "Who was waited for", about: "Median time from the request, or from the vote before, to the vote of this person.", long: true}
	people := slices.DeleteFunc(slices.Clone(approvers), func(a *audit.Approver) bool { return len(a.Waits) == 0 })
	half := func(a *audit.Approver) time.Duration { return quantile(a.Waits, 2, 1) }
	slices.SortStableFunc(people, func(a, b *audit.Approver) int { return cmp.Compare(half(b), half(a)) })
	for _, a := range people[:min(len(people), mostWaited)] {
		text := fmt.Sprintf("%s, %d votes", median(a.Waits), len(a.Waits))
		if len(a.Waits) == 1 {
			text = median(a.Waits) + ", 1 vote"
		}
		size := percent(half(a), max(half(people[0]), time.Second))
		p.bars = append(p.bars, bar{plain.Cut(a.Name, 32), text, []part{{size, audit.EndApproved, a.Name + ": " + text}}})
	}
	return p
}

// quantile is the smallest time that at least part of parts do not exceed; -1 without any.
func quantile(times []time.Duration, parts, part int) time.Duration {
	if len(times) == 0 {
		return -1
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[(len(sorted)*part+parts-1)/parts-1]
}

// median is the time that half of times do not exceed.
func median(times []time.Duration) string { return orNone(quantile(times, 2, 1)) }

func orNone(d time.Duration) string {
	if d < 0 {
		return "–"
	}
	return span(d)
}

// span shows a duration in at most two units.
func span(d time.Duration) string {
	two := func(n time.Duration, big string, rest time.Duration, small string) string {
		if rest == 0 {
			return fmt.Sprintf("%d %s", n, big)
		}
		return fmt.Sprintf("%d %s %d %s", n, big, rest, small)
	}
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 10*time.Minute:
		return two(d/time.Minute, "min", d%time.Minute/time.Second, "s")
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 24*time.Hour:
		return two(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	}
	return two(d/(24*time.Hour), "d", d%(24*time.Hour)/time.Hour, "h")
}
