package totp

import "time"

const (
	freeFailures     = 4
	shortWaits       = 9  // failures 5 to 9 wait a minute, doubling
	disablingFailure = 20 // at 3 live codes of 10⁶ the total chance stays below 6·10⁻⁵
	firstWait        = time.Minute
	longestShortWait = 15 * time.Minute
	longWait         = time.Hour
)

// Throttle is what one person's failed codes have led to. The zero value is a
// clean record, and a right code leads back to it. It follows NIST SP 800-63B-4
// section 3.2.2: waits that grow, then a stop.
//
//	1 to 4 failures in a row   nothing
//	5 to 9                     1 minute, doubling up to 15
//	10 to 19                   1 hour each
//	20                         disabled until the operator enrols anew
//
// An attempt is counted and stored before its code is compared, so that a
// crash in between refunds nothing.
type Throttle struct {
	Failures  int       // attempts in a row that were counted
	WaitUntil time.Time // no code is looked at before this moment
	Disabled  bool      // no code is looked at ever again
}

// Waiting reports whether codes must be refused unseen at now, be it for a
// while or because the authenticator is disabled. Such refusals are not
// counted.
func (t Throttle) Waiting(now time.Time) bool {
	return t.Disabled || now.Before(t.WaitUntil)
}

// Counted returns the record after one more attempt at now. It is unchanged
// while Waiting.
func (t Throttle) Counted(now time.Time) Throttle {
	if t.Waiting(now) {
		return t
	}
	switch t.Failures++; {
	case t.Failures >= disablingFailure:
		t.Disabled = true
	case t.Failures > shortWaits:
		t.WaitUntil = now.Add(longWait)
	case t.Failures > freeFailures:
		t.WaitUntil = now.Add(min(firstWait<<(t.Failures-freeFailures-1), longestShortWait))
	}
	return t
}

// Uncounted takes one attempt back that turned out not to be a guess (a code
// whose step was used already). before is the record that the attempt was
// counted on. If other attempts were counted since, theirs stay.
func (t Throttle) Uncounted(before Throttle) Throttle {
	switch {
	case t.Failures == before.Failures+1:
		return before
	case t.Failures > before.Failures:
		t.Failures--
	}
	return t // cleared in the meantime: nothing to take back
}

// Left returns how many wrong codes in a row it takes until the next pause, at
// least 1, or 0 when disabled.
func (t Throttle) Left() int {
	if t.Disabled {
		return 0
	}
	return max(freeFailures+1-t.Failures, 1)
}
