package totp_test

import (
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestThrottleTable(t *testing.T) {
	waits := []time.Duration{
		0, 0, 0, 0,
		1 * time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute,
		time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour,
	}
	left := []int{4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	var r totp.Throttle
	if got := r.Left(); got != 5 {
		t.Errorf("clean record: got %d left; want 5", got)
	}
	now := start
	for i, want := range waits {
		r = r.Counted(now)
		if r.Failures != i+1 || r.Disabled {
			t.Fatalf("failure %d: got %+v", i+1, r)
		}
		if r.Left() != left[i] {
			t.Errorf("failure %d: got %d left; want %d", i+1, r.Left(), left[i])
		}
		if want == 0 {
			if r.Waiting(now) {
				t.Errorf("failure %d: got a wait; want none", i+1)
			}
			continue
		}
		if got := r.WaitUntil.Sub(now); got != want {
			t.Errorf("failure %d: got wait %v; want %v", i+1, got, want)
		}
		if !r.Waiting(now.Add(want-1)) || r.Waiting(now.Add(want)) {
			t.Errorf("failure %d: wait does not end after %v", i+1, want)
		}
		if got := r.Counted(now.Add(want - 1)); got != r {
			t.Errorf("failure %d: an attempt during the wait was counted", i+1)
		}
		now = now.Add(want)
	}
	r = r.Counted(now)
	if !r.Disabled || r.Left() != 0 || !r.Waiting(now.AddDate(100, 0, 0)) {
		t.Errorf("failure 20: got %+v; want disabled for good", r)
	}
}

func TestUncounted(t *testing.T) {
	before := totp.Throttle{Failures: 6, WaitUntil: start.Add(-time.Minute)}
	if got := before.Counted(start).Uncounted(before); got != before {
		t.Errorf("got %+v; want %+v", got, before)
	}
	last := totp.Throttle{Failures: 19, WaitUntil: start}
	if got := last.Counted(start).Uncounted(last); got != last {
		t.Errorf("got %+v; want %+v", got, last)
	}
	clean := totp.Throttle{}
	two := clean.Counted(start).Counted(start)
	if got := two.Uncounted(clean); got.Failures != 1 {
		t.Errorf("the other attempt must stay: got %+v; want 1 failure", got)
	}
	if got := clean.Uncounted(totp.Throttle{Failures: 3}); got != clean {
		t.Errorf("cleared meanwhile: got %+v; want %+v", got, clean)
	}
}

// Whoever guesses at whatever pace never gets more than 20 tries, nor more
// than five without a pause.
func TestThrottleBoundsGuessing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r totp.Throttle
		now, tries := start, 0
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, 3*3600), 0, 100).Draw(t, "gaps") {
			now = now.Add(time.Duration(gap) * time.Second)
			if !r.Waiting(now) {
				tries++
			}
			before := r
			r = r.Counted(now)
			if r.Failures < before.Failures || r.WaitUntil.Before(before.WaitUntil) || before.Disabled && !r.Disabled {
				t.Fatalf("record got better by failing: %+v to %+v", before, r)
			}
			if r.Failures != tries {
				t.Fatalf("got %d counted; want %d", r.Failures, tries)
			}
		}
		if tries > 20 || tries >= 20 != r.Disabled {
			t.Errorf("got %d tries, disabled %v", tries, r.Disabled)
		}
	})
}
