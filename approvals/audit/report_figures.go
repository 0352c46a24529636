package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// ending is what became of a request, coarsely.
type ending int

const (
	endApproved ending = iota
	endRejected
	endNobody
	endBypassed
	endOpen
	endings // how many there are
)

var endingNames = [endings]string{"approved", "rejected", "ended without a decision", "opened past the gateway", "still open"}

// String is the word for people.
func (e ending) String() string { return endingNames[e] }

// Class is how the page colours it.
func (e ending) Class() string { return [endings]string{"ok", "no", "none", "past", "open"}[e] }

// Ending is what became of the request.
func (d *deploy) Ending() ending {
	switch {
	case d.Status == approvals.Bypassed || d.Gate.Bypassed:
		return endBypassed
	case d.decision == "approved":
		return endApproved
	case d.decision == "rejected":
		return endRejected
	case d.Status == approvals.Pending:
		return endOpen
	}
	return endNobody
}

// took is how long the decision took, from the request on.
func (d *deploy) took() (time.Duration, bool) {
	if d.decision == "" || d.retries > 0 {
		return 0, false
	}
	return max(0, d.at.Sub(d.CreatedAt)), true
}

// total is a row of a table of totals.
type total struct {
	Name                   string
	Requests               int
	Ended                  [endings]int
	Deployed, DeployFailed int
	times                  []time.Duration
}

func (t *total) add(d *deploy) {
	t.Requests++
	t.Ended[d.Ending()]++
	switch d.Status {
	case approvals.Deployed:
		t.Deployed++
	case approvals.DeployFailed:
		t.DeployFailed++
	}
	if took, ok := d.took(); ok {
		t.times = append(t.times, took)
	}
}

// Median is the time in which half of the decisions were taken.
func (t *total) Median() string { return orNone(quantile(t.times, 2, 1)) }

// Most is the time in which nine of ten decisions were taken.
func (t *total) Most() string { return orNone(quantile(t.times, 10, 9)) }

// Decisions is how many times there are.
func (t *total) Decisions() int { return len(t.times) }

// quantile is the smallest time that at least part of parts do not exceed; -1 without any.
func quantile(times []time.Duration, parts, part int) time.Duration {
	if len(times) == 0 {
		return -1
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[(len(sorted)*part+parts-1)/parts-1]
}

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

// approver is a row of the table of people.
type approver struct {
	Name                             string
	Votes, Rejects, Emergencies, Own int
	waits                            []time.Duration
}

// Median is how long half of the requests waited for the vote.
func (a *approver) Median() string { return orNone(quantile(a.waits, 2, 1)) }

// figures are the totals of a report.
type figures struct {
	All       *total
	Apps      []*total
	Statuses  []statusCount
	Approvers []*approver
}

type statusCount struct {
	Status   approvals.Status
	Requests int
}

func (r *reading) figures() figures {
	f := figures{All: &total{}}
	apps, statuses, people := map[string]*total{}, map[approvals.Status]int{}, map[string]*approver{}
	for _, d := range r.Deploys {
		f.All.add(d)
		statuses[d.Status]++
		place := d.Place()
		if apps[place] == nil {
			apps[place] = &total{Name: place}
		}
		apps[place].add(d)
		d.credit(func(user string) *approver {
			if people[user] == nil {
				people[user] = &approver{Name: r.name(user)}
			}
			return people[user]
		})
	}
	for _, s := range approvals.Statuses() {
		if statuses[s] > 0 {
			f.Statuses = append(f.Statuses, statusCount{s, statuses[s]})
		}
	}
	f.Apps = slices.SortedFunc(maps.Values(apps), func(a, b *total) int { return cmp.Compare(a.Name, b.Name) })
	f.Approvers = slices.SortedFunc(maps.Values(people), func(a, b *approver) int {
		return cmp.Or(cmp.Compare(b.Votes, a.Votes), cmp.Compare(a.Name, b.Name))
	})
	return f
}

// credit counts what people did with a request.
func (d *deploy) credit(of func(user string) *approver) {
	for _, e := range d.acts {
		switch a := of(e.Actor.ID); e.Type {
		case approvals.EventVoted:
			a.Votes++
		case approvals.EventRejected:
			a.Rejects++
		case approvals.EventBreakGlass:
			a.Emergencies++
		}
	}
	// Of several people the log says only that one of them had started the workflow.
	if d.self == approvals.SelfYes && len(d.people) == 1 {
		of(d.people[0]).Own++
	}
	for _, w := range d.waits {
		a := of(w.user)
		a.waits = append(a.waits, w.time)
	}
}

// Measures of the plots, in units of their pictures. The page makes them as wide as
// the screen allows.
const (
	plotWidth  = 448
	plotTop    = 18  // room for a number above the highest bar
	plotHeight = 150 // of the highest bar
)

// bar is a rectangle of a plot.
type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

// label is a text of a plot.
type label struct {
	X, Y float64
	Text string
}

// plot is a picture.
type plot struct {
	Title, About  string
	Width, Height int
	Bars          []bar
	Above         []label // numbers at bars
	Below         []label // names on the axis
	Left, Right   []label // the names of the rows, and the values beside them
	Legend        []ending
	Base          float64 // height of the base line; 0 = none
}

// weeks plots the requests of each week by what became of them.
func (r *reading) weeks() plot {
	p := plot{
		Title: "Requests per week", About: "Weeks begin on Monday. What became of the requests that were made in them.",
		Width: plotWidth, Height: plotTop + plotHeight + 24, Base: plotTop + plotHeight,
	}
	if len(r.Deploys) == 0 {
		return p
	}
	start := monday(r.from())
	count := make([][endings]int, int(r.to().Sub(start)/week)+1)
	seen := [endings]bool{}
	for _, d := range r.Deploys {
		count[d.CreatedAt.Sub(start)/week][d.Ending()]++
		seen[d.Ending()] = true
	}
	most := 1
	for _, w := range count {
		most = max(most, sum(w))
	}
	step := float64(plotWidth) / float64(len(count))
	width := min(max(step-3, 1), 36)
	every := (len(count)*46 + plotWidth - 1) / plotWidth // a name needs 46
	for i, w := range count {
		x, y := step*float64(i)+(step-width)/2, p.Base
		from := start.AddDate(0, 0, 7*i)
		for e, n := range w {
			if n == 0 {
				continue
			}
			h := float64(plotHeight*n) / float64(most)
			y -= h
			p.Bars = append(p.Bars, bar{x, y, width, h, ending(e).Class(), fmt.Sprintf("Week of %s: %d %s", from.Format(time.DateOnly), n, ending(e))})
		}
		if step >= 18 && sum(w) > 0 {
			p.Above = append(p.Above, label{x + width/2, y - 4, strconv.Itoa(sum(w))})
		}
		if i%every == 0 {
			p.Below = append(p.Below, label{max(x+width/2, 18), p.Base + 16, from.Format("2 Jan")})
		}
	}
	for e, there := range seen {
		if there {
			p.Legend = append(p.Legend, ending(e))
		}
	}
	return p
}

const week = 7 * 24 * time.Hour

func monday(t time.Time) time.Time {
	return t.Truncate(24*time.Hour).AddDate(0, 0, -(int(t.Weekday())+6)%7)
}

func sum(counts [endings]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
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
func (f figures) times() plot {
	p := plot{
		Title: "Time to decision", About: "From the request to the approval or the reject; a decision after a Retry is not counted.",
		Width: plotWidth, Height: plotTop + plotHeight + 24, Base: plotTop + plotHeight,
	}
	if len(f.All.times) == 0 {
		return p
	}
	count := make([]int, len(decisionTimes))
	for _, d := range f.All.times {
		for i, class := range decisionTimes {
			if d < class.below {
				count[i]++
				break
			}
		}
	}
	most := slices.Max(count)
	step := float64(plotWidth) / float64(len(count))
	for i, n := range count {
		h := float64(plotHeight*n) / float64(most)
		name := decisionTimes[i].name
		p.Bars = append(p.Bars, bar{step*float64(i) + step*.15, p.Base - h, step * .7, h, "ok", fmt.Sprintf("%s: %d decisions", name, n)})
		p.Above = append(p.Above, label{step * (float64(i) + .5), p.Base - h - 4, strconv.Itoa(n)})
		p.Below = append(p.Below, label{step * (float64(i) + .5), p.Base + 16, name})
	}
	return p
}

// mostWaited is how many people the plot of waiting shows.
const mostWaited = 20

// waited plots for whom requests waited.
func (f figures) waited() plot {
	const row = 34
	p := plot{
		Title: "Who was waited for", About: "Median time from the request, or from the vote before, to the vote of this person.",
		Width: plotWidth,
	}
	people := slices.DeleteFunc(slices.Clone(f.Approvers), func(a *approver) bool { return len(a.waits) == 0 })
	longest := time.Second
	for _, a := range people {
		longest = max(longest, quantile(a.waits, 2, 1))
	}
	slices.SortStableFunc(people, func(a, b *approver) int {
		return cmp.Compare(quantile(b.waits, 2, 1), quantile(a.waits, 2, 1))
	})
	people = people[:min(len(people), mostWaited)]
	for i, a := range people {
		y, w := float64(i*row), plotWidth*float64(quantile(a.waits, 2, 1))/float64(longest)
		text := fmt.Sprintf("%s, %d votes", a.Median(), len(a.waits))
		if len(a.waits) == 1 {
			text = a.Median() + ", 1 vote"
		}
		p.Left = append(p.Left, label{0, y + 12, plain.Cut(a.Name, 32)})
		p.Right = append(p.Right, label{plotWidth, y + 12, text})
		p.Bars = append(p.Bars, bar{0, y + 17, max(w, 2), 9, "ok", a.Name + ": " + text})
	}
	p.Height = row * len(people)
	return p
}
