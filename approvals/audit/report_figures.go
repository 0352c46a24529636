package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
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

// total is a row of a table of totals.
type total struct {
	Name                   string
	Requests               int
	Ended                  [endings]int
	Deployed, DeployFailed int
	times                  // from the request to the decision, but none after a Retry
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
	if d.decision != "" && d.retries == 0 {
		t.times = append(t.times, max(0, d.at.Sub(d.CreatedAt)))
	}
}

// times are how long something took.
type times []time.Duration

// Median is the time in which half of it was done.
func (t times) Median() string { return orNone(t.quantile(2, 1)) }

// Most is the time in which nine tenths of it were done.
func (t times) Most() string { return orNone(t.quantile(10, 9)) }

// Decisions is how many times there are.
func (t times) Decisions() int { return len(t) }

// quantile is the smallest time that at least part of parts do not exceed; -1 without any.
func (t times) quantile(parts, part int) time.Duration {
	if len(t) == 0 {
		return -1
	}
	return slices.Sorted(slices.Values(t))[(len(t)*part+parts-1)/parts-1]
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
	times                            // that requests waited for the vote
}

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
	// Where several people approved, the log says that one of them had started the
	// workflow, and not who it was.
	if d.self == approvals.SelfYes && len(d.people) == 1 {
		of(d.people[0]).Own++
	}
	for _, w := range d.waits {
		a := of(w.user)
		a.times = append(a.times, w.time)
	}
}

// plot is a picture of bars, which stand side by side or, when they are long, lie
// below each other. The page draws them as wide as the screen allows.
type plot struct {
	Title, About string
	Long         bool
	Bars         []bar
	Legend       []ending
}

// bar has a name on the axis and a number, "" where there is no room for it.
type bar struct {
	Name, Number string
	Parts        []part
}

// part is a part of a bar: its size in percent of the longest bar, its colour, and
// what it says to who points at it.
type part struct {
	Size         float64
	Class, Title string
}

// percent is how much of most n is.
func percent[T int | time.Duration](n, most T) float64 { return 100 * float64(n) / float64(most) }

// Of so many weeks each can have its number, and so many names have room.
const mostNumbers, mostNames = 24, 9

// weeks plots the requests of each week by what became of them.
func (r *reading) weeks() plot {
	p := plot{Title: "Requests per week", About: "Weeks begin on Monday. What became of the requests that were made in them."}
	if len(r.Deploys) == 0 {
		return p
	}
	const week = 7 * 24 * time.Hour
	first := r.from()
	monday := first.Truncate(24*time.Hour).AddDate(0, 0, -(int(first.Weekday())+6)%7)
	weeks := make([]total, int(r.to().Sub(monday)/week)+1)
	var all total
	most := 1
	for _, d := range r.Deploys {
		w := &weeks[d.CreatedAt.Sub(monday)/week]
		w.add(d)
		all.add(d)
		most = max(most, w.Requests)
	}
	for i, w := range weeks {
		var b bar
		from := monday.AddDate(0, 0, 7*i)
		for e, n := range w.Ended {
			if n > 0 {
				b.Parts = append(b.Parts, part{percent(n, most), ending(e).Class(), fmt.Sprintf("Week of %s: %d %s", from.Format(time.DateOnly), n, ending(e))})
			}
		}
		if len(weeks) <= mostNumbers && len(b.Parts) > 0 {
			b.Number = strconv.Itoa(w.Requests)
		}
		if i%((len(weeks)+mostNames-1)/mostNames) == 0 {
			b.Name = from.Format("2 Jan")
		}
		p.Bars = append(p.Bars, b)
	}
	for e, n := range all.Ended {
		if n > 0 {
			p.Legend = append(p.Legend, ending(e))
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
func (f figures) times() plot {
	p := plot{Title: "Time to decision", About: "From the request to the approval or the reject; a decision after a Retry is not counted."}
	if len(f.All.times) == 0 {
		return p
	}
	count := make([]int, len(decisionTimes))
	for _, d := range f.All.times {
		count[sort.Search(len(count), func(i int) bool { return d < decisionTimes[i].below })]++
	}
	for i, n := range count {
		name := decisionTimes[i].name
		p.Bars = append(p.Bars, bar{name, strconv.Itoa(n), []part{{percent(n, slices.Max(count)), "ok", fmt.Sprintf("%s: %d decisions", name, n)}}})
	}
	return p
}

// mostWaited is how many people the plot of waiting shows.
const mostWaited = 20

// waited plots for whom requests waited.
func (f figures) waited() plot {
	p := plot{Title: "Who was waited for", About: "Median time from the request, or from the vote before, to the vote of this person.", Long: true}
	people := slices.DeleteFunc(slices.Clone(f.Approvers), func(a *approver) bool { return len(a.times) == 0 })
	median := func(a *approver) time.Duration { return a.quantile(2, 1) }
	slices.SortStableFunc(people, func(a, b *approver) int { return cmp.Compare(median(b), median(a)) })
	for _, a := range people[:min(len(people), mostWaited)] {
		text := fmt.Sprintf("%s, %d votes", a.Median(), len(a.times))
		if len(a.times) == 1 {
			text = a.Median() + ", 1 vote"
		}
		size := percent(median(a), max(median(people[0]), time.Second))
		p.Bars = append(p.Bars, bar{plain.Cut(a.Name, 32), text, []part{{size, "ok", a.Name + ": " + text}}})
	}
	return p
}
