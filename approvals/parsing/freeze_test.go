package parsing_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func freeze(t *testing.T, text string) approvals.Freeze {
	t.Helper()
	f, err := approvals.ParseFreeze(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return f
}

const (
	weekend   = "Fri 16:00-Mon 07:00 Europe/Berlin"
	christmas = "2026-12-24 12:00-2027-01-02 09:00 Europe/Berlin"
)

// The times are UTC; an empty want means that nothing is frozen.
func TestFreeze(t *testing.T) {
	for _, c := range []struct{ windows, now, want, turns string }{
		{weekend, "2026-11-27 14:59", "", "2026-11-27 15:00"},
		{weekend, "2026-11-27 15:00", "Mon 07:00 (Europe/Berlin)", "2026-11-30 06:00"},
		{weekend, "2026-11-29 23:30", "Mon 07:00 (Europe/Berlin)", "2026-11-30 06:00"},
		{weekend, "2026-11-30 05:59", "Mon 07:00 (Europe/Berlin)", "2026-11-30 06:00"},
		{weekend, "2026-11-30 06:00", "", "2026-12-04 15:00"},
		{christmas, "2026-12-24 10:59", "", "2026-12-24 11:00"},
		{christmas, "2026-12-24 11:00", "Sat 2 Jan 2027 09:00 (Europe/Berlin)", "2027-01-02 08:00"},
		{christmas, "2026-12-28 11:00", "Sat 09:00 (Europe/Berlin)", "2027-01-02 08:00"},
		{christmas, "2027-01-02 08:00", "", ""},
		// Windows that overlap or adjoin are one; the weekend of 2 January goes on.
		{weekend + ";" + christmas, "2026-12-24 11:00", "Mon 4 Jan 2027 07:00 (Europe/Berlin)", "2027-01-04 06:00"},
		{"Mon 00:00-Tue 00:00 UTC; Tue 00:00-Wed 12:00 Asia/Tokyo", "2026-11-30 01:00", "Wed 12:00 (Asia/Tokyo)", "2026-12-02 03:00"},
		// The week of the window begins at any day, and in the zone's own days.
		{"Sat 20:00-Sun 20:00 Pacific/Auckland", "2026-11-28 07:30", "Sun 20:00 (Pacific/Auckland)", "2026-11-29 07:00"},
		{"Wed 12:00-Wed 11:00 UTC", "2026-11-25 11:30", "", "2026-11-25 12:00"},
		{"Wed 12:00-Wed 11:00 UTC", "2026-11-25 10:30", "Wed 11:00 (UTC)", "2026-11-25 11:00"},
		// 02:30 is skipped on 29 March 2026 in Berlin: it means 01:00 UTC, the change.
		{"Sun 02:30-Sun 12:00 Europe/Berlin", "2026-03-29 00:59", "", "2026-03-29 01:00"},
		{"Sun 02:30-Sun 12:00 Europe/Berlin", "2026-03-29 01:00", "Sun 12:00 (Europe/Berlin)", "2026-03-29 10:00"},
		{"Sat 12:00-Sun 02:30 Europe/Berlin", "2026-03-29 00:59", "Sun 03:00 (Europe/Berlin)", "2026-03-29 01:00"},
		{"Sat 12:00-Sun 02:30 Europe/Berlin", "2026-03-29 01:00", "", "2026-04-04 10:00"},
		// Both ends are skipped: this week the window is empty.
		{"Sun 02:10-Sun 02:50 Europe/Berlin", "2026-03-29 00:59", "", "2026-04-05 00:10"},
		{"Sun 02:10-Sun 02:50 Europe/Berlin", "2026-03-29 01:00", "", "2026-04-05 00:10"},
		// 02:30 comes twice on 25 October 2026: at 00:30 and at 01:30 UTC.
		{"Sun 02:30-Sun 12:00 Europe/Berlin", "2026-10-25 00:29", "", "2026-10-25 00:30"},
		{"Sun 02:30-Sun 12:00 Europe/Berlin", "2026-10-25 00:30", "Sun 12:00 (Europe/Berlin)", "2026-10-25 11:00"},
		{"Sat 12:00-Sun 02:30 Europe/Berlin", "2026-10-25 00:31", "Sun 02:30 (Europe/Berlin)", "2026-10-25 01:30"},
		{"Sat 12:00-Sun 02:30 Europe/Berlin", "2026-10-25 01:30", "", "2026-10-31 11:00"},
		// The clocks of Lord Howe Island change by half an hour.
		{"Sun 02:15-Sun 04:00 Australia/Lord_Howe", "2026-10-03 15:29", "", "2026-10-03 15:30"},
		{"Sun 02:15-Sun 04:00 Australia/Lord_Howe", "2026-10-03 15:30", "Sun 04:00 (Australia/Lord_Howe)", "2026-10-03 17:00"},
		// Samoa skipped the whole of 30 December 2011.
		{"2011-12-30 06:00-2011-12-31 06:00 Pacific/Apia", "2011-12-30 09:59", "", "2011-12-30 10:00"},
		{"2011-12-30 06:00-2011-12-31 06:00 Pacific/Apia", "2011-12-30 10:00", "Sat 06:00 (Pacific/Apia)", "2011-12-30 16:00"},
		// The change is in the middle of the night from Saturday to Sunday.
		{"Sat 23:00-Sun 01:00 America/Havana", "2026-03-08 04:59", "Sun 01:00 (America/Havana)", "2026-03-08 05:00"},
	} {
		f := freeze(t, c.windows)
		now, err := time.Parse("2006-01-02 15:04", c.now)
		if err != nil {
			t.Fatal(err)
		}
		turns := ""
		if next := f.Turns(now); !next.IsZero() {
			turns = next.UTC().Format("2006-01-02 15:04")
		}
		if got := f.Says(now); got != c.want || turns != c.turns {
			t.Errorf("%s at %s: got %q until %s; want %q until %s", c.windows, c.now, got, turns, c.want, c.turns)
		}
	}
}

// A freeze that never ends is a freeze all the same.
func TestFreezeForEver(t *testing.T) {
	f := freeze(t, "Mon 00:00-Fri 00:00 UTC; Fri 00:00-Mon 00:00 UTC")
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	if until, frozen := f.Until(now); !frozen || until.Sub(now) < 8*24*time.Hour {
		t.Errorf("got %v until %v; want a freeze of more than a week", frozen, until)
	}
	if (approvals.Freeze{}).Says(now) != "" || !(approvals.Freeze{}).Turns(now).IsZero() {
		t.Error("no windows, but a freeze")
	}
}

// FuzzFreeze reads windows, and checks that what they say of a time holds together.
func FuzzFreeze(f *testing.F) {
	for _, s := range []string{
		weekend, christmas, weekend + "; " + christmas, "Sat 00:00-Sun 23:59 UTC", "sun 02:30 - sun 02:31 Australia/Lord_Howe;",
		"2026-03-29 02:30-2026-03-29 03:30 Europe/Berlin", "0000-01-01 00:00-9999-12-31 23:59 Asia/Kathmandu", "Fri 16:00-Mon 07:00 EST5EDT",
	} {
		f.Add(s, int64(1_795_000_000))
		f.Add(s, int64(1_774_746_000)) // an hour before summer time in Berlin
		f.Add(s, int64(1_792_886_400)) // the hour before winter time
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		windows, err := approvals.ParseFreeze(text)
		if err != nil {
			return
		}
		again, err := approvals.ParseFreeze(windows.String())
		if err != nil || again.String() != windows.String() {
			t.Fatalf("%q is shown as %q, which reads as %q, %v", text, windows, again, err)
		}
		const most = 200 << 30 // the year 8800: what the calendar can show
		if unix < 0 || unix > most {
			return
		}
		now := time.Unix(unix, 0).UTC()
		until, frozen := windows.Until(now)
		if frozen != (windows.Says(now) != "") || frozen && !until.After(now) || !frozen && !until.Equal(now) {
			t.Fatalf("%s at %v: frozen %v until %v, in words %q", windows, now, frozen, until, windows.Says(now))
		}
		next := windows.Turns(now)
		if next.IsZero() {
			if frozen {
				t.Fatalf("%s at %v: a freeze without an end", windows, now)
			}
			return
		}
		if !next.After(now) {
			t.Fatalf("%s at %v: turns at %v", windows, now, next)
		}
		// Nothing changes before, and what holds changes then.
		middle := now.Add(next.Sub(now) / 2)
		if _, then := windows.Until(middle); then != frozen {
			t.Fatalf("%s: frozen is %v at %v, %v at %v, but turns at %v only", windows, frozen, now, then, middle, next)
		}
		if _, then := windows.Until(next); !frozen && !then {
			t.Fatalf("%s at %v: a freeze was to begin at %v", windows, now, next)
		}
	})
}

// A reminder that can never come is a fault of its variable.
func TestReminderAfterTheExpiry(t *testing.T) {
	for after, want := range map[string]string{
		"1h":  "RGW_SETTING_REMIND_AFTER: no reminder comes, because the request expires before: write less than pending_ttl",
		"59m": "", "0": "",
	} {
		_, faults := approvals.ParseSettings(append(slices.Clone(shop), "RGW_SETTING_REMIND_AFTER="+after, "RGW_SETTING_PENDING_TTL=1h"), defaultChannel)
		if got := strings.Join(faults, "\n"); got != want {
			t.Errorf("remind_after %s: got %q; want %q", after, got, want)
		}
	}
}
