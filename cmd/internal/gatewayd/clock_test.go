package gatewayd

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// said is one answer: by how much we are ahead of it, and when it came.
type said struct {
	after time.Duration // since the answer before
	by    time.Duration
	fine  bool // what is thought afterwards
	holds bool
	logs  int // so far
}

// The clock is compared with CircleCI's: a little is nothing, more is told once,
// and too much forbids decisions until it is right again. One answer alone changes
// nothing.
func TestClock(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, answers := range map[string][]said{
		"a Date is cut to the second": {{0, 999 * time.Millisecond, true, false, 0}, {3 * time.Second, 6 * time.Second, true, false, 0}},
		"drift": {
			{0, 0, true, false, 0},
			{time.Minute, 5 * time.Second, true, false, 0},
			{time.Minute, 6*time.Second + time.Millisecond, false, false, 1},
			{time.Minute, 11 * time.Second, false, false, 1},
			{time.Minute, 16 * time.Second, false, false, 1},
			{time.Minute, 21 * time.Second, false, false, 1},
			{time.Minute, 26 * time.Second, false, false, 1},
			{time.Minute, 31 * time.Second, false, false, 1},
			{time.Minute, 31*time.Second + time.Millisecond, false, true, 1},
		},
		"one odd answer": {
			{0, 0, true, false, 0},
			{time.Second, time.Hour, true, false, 0},
			{time.Second, 0, true, false, 0},
			{time.Second, time.Hour, true, false, 0},
			{time.Second, time.Hour, true, false, 0}, // the second one comes too soon
			{time.Second, time.Hour, false, true, 1},
			{time.Second, 0, false, true, 1}, // and neither does one end it
			{2 * time.Second, 0, true, false, 1},
			{time.Minute, -31 * time.Second, true, false, 1},
			{time.Minute, -31 * time.Second, false, true, 2},
		},
		"two odd answers that do not agree": {
			{0, 0, true, false, 0},
			{10 * time.Second, time.Hour, true, false, 0},
			{10 * time.Second, day, true, false, 0},
			{10 * time.Second, time.Hour, true, false, 0},
			{10 * time.Second, time.Hour + 5*time.Second, false, true, 1},
		},
		"nothing is known before, and the first answer is odd": {
			{0, 365 * day, false, true, 0},
			{time.Second, 365 * day, false, true, 0},
			{time.Second, 0, true, false, 0},
		},
		"wrong from the start": {
			{0, 10 * time.Minute, false, true, 0},
			{2 * time.Second, 10 * time.Minute, false, true, 1},
			{time.Hour, 10 * time.Minute, false, true, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			again := 0
			c := &clock{log: slog.New(slog.NewTextHandler(&log, nil)), again: func() { again++ }}
			if c.fault() == "" {
				t.Error("an unknown clock allows decisions")
			}
			at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
			for n, s := range answers {
				at = at.Add(s.after)
				c.observe(at.Add(-s.by), at)
				ok, detail := c.state()
				if ok != s.fine || (detail == "") != s.fine {
					t.Errorf("answer %d, ahead by %s: got %v, %q; want %v", n, s.by, ok, detail, s.fine)
				}
				if why := c.fault(); (why != "") != s.holds {
					t.Errorf("answer %d, ahead by %s: got the fault %q; want one: %v", n, s.by, why, s.holds)
				}
				if got := strings.Count(log.String(), "\n"); got != s.logs {
					t.Errorf("answer %d, ahead by %s: got %d log lines; want %d", n, s.by, got, s.logs)
				}
			}
			if strings.Contains(name, "odd") && again == 0 {
				t.Error("nobody was asked again after an odd answer")
			}
		})
	}
}

// Slack's time counts until CircleCI has told its own, so that a start without
// CircleCI does not wait for ever.
func TestClockWithoutCircleCI(t *testing.T) {
	t.Parallel()
	c := &clock{log: slog.New(slog.DiscardHandler)}
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	c.observeSlack(at, at)
	if why := c.fault(); why != "" {
		t.Errorf("after Slack's first answer: got %q; want decisions", why)
	}
	c.observe(at, at.Add(time.Minute))
	c.observe(at.Add(3*time.Second), at.Add(time.Minute+3*time.Second))
	c.observeSlack(at.Add(6*time.Second), at.Add(6*time.Second))
	c.observeSlack(at.Add(9*time.Second), at.Add(9*time.Second))
	if c.fault() == "" {
		t.Error("after CircleCI said twice that the clock is off, Slack's answers allowed decisions")
	}
}

// Only an answer of the API itself tells the time.
func TestDatesOfOthersDoNotCount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		kind   string
		counts bool
	}{
		{200, "application/json; charset=utf-8", true},
		{429, "application/json", true},
		{404, "application/json", true},
		{200, "text/html", false},
		{502, "application/json", false},
		{200, "", false},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{tt.kind}
			w.WriteHeader(tt.status)
		}))
		seen := 0
		client := &http.Client{Transport: datedTransport{s.Client().Transport, func(_, _ time.Time) { seen++ }}}
		resp, err := client.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		s.Close()
		if (seen == 1) != tt.counts {
			t.Errorf("%d %q: got %d dates; want one: %t", tt.status, tt.kind, seen, tt.counts)
		}
	}
}

func TestClockOfTheServer(t *testing.T) {
	for skew, want := range map[time.Duration][2]bool{
		0: {}, 4 * time.Second: {}, -6 * time.Second: {true, false}, 20 * time.Second: {true, false}, 31 * time.Second: {true, true}, -time.Minute: {true, true},
	} {
		if got := [2]bool{apart(skew, skewWarn) != "", apart(skew, skewHold) != ""}; got != want {
			t.Errorf("%v: got warned and held %v; want %v", skew, got, want)
		}
	}
}

// check judges the clock by which codes and windows go.
func TestCheckJudgesTheClockThatCounts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		local, skew time.Duration // of this machine, and of the database server against it
		want        string
	}{
		{"all agree", 0, 0, ""},
		{"all agree on a server", time.Second, -time.Second, ""},
		{"this machine alone", time.Minute, 0, "differs from CircleCI's by 59s"},
		{"this machine, not the server", time.Minute, -time.Minute, "the clock of this machine differs from the database server's by -1m"},
		{"the server, not this machine", 0, time.Minute, "that of the database server differs from CircleCI's by "},
		{"both", time.Minute, time.Second, "that of the database server differs from CircleCI's by 1m"},
	} {
		k := checker{skew: tt.skew}
		server := time.Now()
		k.clock(server, server.Add(tt.local))
		if len(k.board) != 1 || (k.board[0].State == stateOK) != (tt.want == "") || !strings.Contains(k.board[0].Text, tt.want) {
			t.Errorf("%s: got %+v; want %q", tt.name, k.board, tt.want)
		}
	}
}
