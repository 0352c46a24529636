package approvals

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Freeze lists the windows in which nobody may approve a deploy. A window holds
// its beginning and not its end. Both are times on the clocks of its zone, so
// that "Fri 16:00-Mon 07:00" is an hour longer or shorter in the night in which
// the clocks change.
//
// A time that the clocks skip (02:30 in the night to summer time) means the moment
// of the change. Of a time that comes twice, a window begins at the first and
// ends at the second: a freeze is never shorter than people read it.
type Freeze []freezeWindow

// freezeWindow is one window: from first to last in every week or, when its times
// have dates, once.
type freezeWindow struct {
	weekly      bool
	first, last time.Time // what the clocks show, written as UTC; weekly: in the week of firstSunday
	zone        *time.Location
}

// firstSunday is the day from which weekly windows count their times.
var firstSunday = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	dateLayout  = "2006-01-02 15:04"
	daySpan     = 24 * time.Hour
	weekDays    = 7
	freezeChain = 60 // ours: how many windows that adjoin are added up
)

var (
	windowForm = regexp.MustCompile(`^([A-Za-z]{3}|\d{4}-\d\d-\d\d) (\d\d:\d\d) ?- ?([A-Za-z]{3}|\d{4}-\d\d-\d\d) (\d\d:\d\d) (\S+)$`)
	daysOfWeek = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// ParseFreeze reads windows that are separated by semicolons. What it says of a
// fault does not repeat the text.
func ParseFreeze(text string) (Freeze, error) {
	var f Freeze
	for entry := range strings.SplitSeq(text, ";") {
		if entry = strings.Join(strings.Fields(entry), " "); entry == "" {
			continue
		}
		w, err := parseWindow(entry)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(f, func(had freezeWindow) bool { return had.String() == w.String() }) {
			f = append(f, w)
		}
	}
	if len(f) == 0 {
		return nil, errors.New("is a list without windows: name some, or leave the value empty")
	}
	return f, nil
}

func parseWindow(entry string) (w freezeWindow, err error) {
	m := windowForm.FindStringSubmatch(entry)
	if m == nil || len(m[1]) != len(m[3]) {
		return w, errors.New("must be windows such as Fri 16:00-Mon 07:00 Europe/Berlin; 2026-12-24 12:00-2027-01-02 09:00 Europe/Berlin")
	}
	w.weekly = len(m[1]) == len(daysOfWeek[0])
	var bad, bad2 error
	w.first, bad = clockTime(m[1], m[2])
	w.last, bad2 = clockTime(m[3], m[4])
	if w.weekly && !w.last.After(w.first) {
		w.last = w.last.AddDate(0, 0, weekDays)
	}
	w.zone, err = time.LoadLocation(m[5])
	switch bad = cmp.Or(bad, bad2); {
	case w.weekly && bad != nil:
		return w, errors.New("has a window with a day other than Mon to Sun, or a time other than 00:00 to 23:59")
	case bad != nil:
		return w, errors.New("has a window with a date or a time that does not exist")
	case w.weekly && w.last.Sub(w.first) == weekDays*daySpan:
		return w, errors.New("has a window that ends when it begins, so nothing could ever be approved")
	case !w.last.After(w.first):
		return w, errors.New("has a window that ends before it begins")
	case err != nil || w.zone == time.Local:
		return w, errors.New("has a window with a time zone that is not known: write one of IANA's names, such as Europe/Berlin or UTC")
	}
	return w, nil
}

// clockTime reads a time of a date or of a day, which is that of the week of firstSunday.
func clockTime(day, clock string) (time.Time, error) {
	if i := slices.Index(daysOfWeek, strings.ToLower(day)); i >= 0 {
		day = firstSunday.AddDate(0, 0, i).Format(time.DateOnly)
	}
	return time.Parse(dateLayout, day+" "+clock)
}

func (w freezeWindow) String() string {
	layout := dateLayout
	if w.weekly {
		layout = "Mon 15:04"
	}
	return fmt.Sprintf("%s-%s %s", w.first.Format(layout), w.last.Format(layout), w.zone)
}

// String lists the windows as a variable would hold them.
func (f Freeze) String() string {
	texts := make([]string, len(f))
	for i, w := range f {
		texts[i] = w.String()
	}
	return strings.Join(texts, "; ")
}

// Until reports whether now is in a window, and until when nobody may approve, in
// the zone of the window that ends then. Windows that overlap or adjoin count as
// one.
func (f Freeze) Until(now time.Time) (until time.Time, frozen bool) {
	until = now
	for range freezeChain {
		before := until
		for first, last := range f.around(until) {
			if !first.After(until) && last.After(until) {
				until, frozen = last, true
			}
		}
		if until.Equal(before) {
			break
		}
	}
	return until, frozen
}

// Says names the end of the freeze that holds now, for people and on the clocks of
// its zone: "Mon 07:00 (Europe/Berlin)", with the date when that is not within a
// week. It is empty when nothing is frozen.
func (f Freeze) Says(now time.Time) string {
	until, frozen := f.Until(now)
	if !frozen {
		return ""
	}
	layout := "Mon 15:04"
	if until.Sub(now) >= weekDays*daySpan {
		layout = "Mon 2 Jan 2006 15:04"
	}
	return fmt.Sprintf("%s (%s)", until.Format(layout), until.Location())
}

// Turns is when the freeze that holds now ends or, if none does, the next one
// begins; zero = never.
func (f Freeze) Turns(now time.Time) (next time.Time) {
	if until, frozen := f.Until(now); frozen {
		return until
	}
	for first, last := range f.around(now) {
		if first.After(now) && last.After(first) && (next.IsZero() || first.Before(next)) {
			next = first
		}
	}
	return next
}

// around yields first and last of the occurrences that may hold t, and of the next one
// of each window.
func (f Freeze) around(t time.Time) iter.Seq2[time.Time, time.Time] {
	return func(yield func(first, last time.Time) bool) {
		for _, w := range f {
			weeks := []int{0}
			if w.weekly {
				n := int(clockOf(t.In(w.zone)).Sub(firstSunday) / (weekDays * daySpan))
				weeks = []int{n - 2, n - 1, n, n + 1}
			}
			for _, n := range weeks {
				first, last := w.first.AddDate(0, 0, n*weekDays), w.last.AddDate(0, 0, n*weekDays)
				if !yield(instant(first, w.zone, false), instant(last, w.zone, true)) {
					return
				}
			}
		}
	}
}

// clockOf is what the clocks of a time's zone show, written as UTC.
func clockOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant is when the clocks of a zone show a time: the first or the last such
// moment, or the moment of the change when they skip it.
func instant(clock time.Time, zone *time.Location, last bool) time.Time {
	guess := time.Date(clock.Year(), clock.Month(), clock.Day(), clock.Hour(), clock.Minute(), 0, 0, zone)
	from, to := guess.ZoneBounds()
	var found time.Time
	for _, near := range []time.Time{from.Add(-time.Second), guess, to} {
		_, offset := near.In(zone).Zone()
		t := clock.Add(-time.Duration(offset) * time.Second).In(zone)
		if clockOf(t).Equal(clock) && (found.IsZero() || last == t.After(found)) {
			found = t
		}
	}
	switch {
	case !found.IsZero():
		return found
	case clockOf(guess).After(clock):
		return from
	}
	return to
}
