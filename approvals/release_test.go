package approvals_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// approved makes a request that U01 approved.
func (w *world) approved(n int, gate approvals.JobStatus) approvals.Request {
	w.t.Helper()
	r := w.request(n, gate)
	w.must(w.approve("U01", r))
	return r
}

func TestReleaseFaults(t *testing.T) {
	for name, c := range map[string]struct {
		kind  string
		fault fault
		lag   time.Duration
		wait  time.Duration
		posts int
	}{
		"all well":               {"", fault{}, 0, 0, 1},
		"slow to take effect":    {"", fault{}, 5 * time.Second, 6 * time.Second, 1},
		"slower than it settles": {"", fault{}, 20 * time.Second, 25 * time.Second, 2},
		"500, nothing done":      {"approve", fault{status: 500, times: 1}, 0, 30 * time.Second, 2},
		"500, but done":          {"approve", fault{status: 500, times: 1, done: true}, 0, 5 * time.Second, 1},
		"no answer, but done":    {"approve", fault{times: 1, done: true}, 3 * time.Second, 10 * time.Second, 1},
		"429":                    {"approve", fault{status: 429, times: 2, retry: 3 * time.Second}, 0, 30 * time.Second, 3},
		"403, but done":          {"approve", fault{status: 403, times: 1, done: true}, 0, 5 * time.Second, 1},
		"400, but done":          {"approve", fault{status: 400, times: 1, done: true}, 0, 5 * time.Second, 1},
		"look-ups 403":           {"jobs", fault{status: 403, times: 5}, 0, time.Minute, 1},
		"facts 404":              {"facts", fault{status: 404, times: 3}, 0, time.Minute, 1},
		"self 401":               {"self", fault{status: 401, times: 3}, 0, time.Minute, 1},
		"very slow":              {"approve", fault{slow: 55 * time.Second, times: 1}, 0, 90 * time.Second, 1},
		"slower than a delivery": {"approve", fault{slow: 80 * time.Second, times: 1}, 0, 2 * time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "on_hold")
				w.ci.lag = c.lag
				if c.kind != "" {
					w.ci.breaks(c.kind, &c.fault)
				}
				w.must(w.approve("U01", r))
				w.wait(c.wait)
				got := w.is(r, approvals.Released)
				if n := len(w.ci.posted()); n != c.posts || w.ci.posted()[0].id != r.Facts.WorkflowID+"-ar" {
					t.Errorf("got %d calls (%v); want %d", n, w.ci.posted(), c.posts)
				}
				if !got.ApprovalExpiresAt().Equal(got.ReleasedAt.Add(15*time.Minute)) || w.count(r, approvals.EventReleased) != 1 {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestWindowRules(t *testing.T) {
	t.Parallel()
	t.Run("blocked time does not count", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.wait(40 * time.Minute)
			w.is(r, approvals.Approved)
			w.ci.hold(r.Facts.WorkflowID)
			w.wait(30 * time.Second)
			w.is(r, approvals.Released)
		})
	})
	t.Run("an outage longer than the window", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("jobs", &fault{status: 503, times: -1})
			w.must(w.approve("U01", r))
			w.wait(40 * time.Minute)
			w.is(r, approvals.Approved)
			w.ci.breaks("jobs", nil)
			w.wait(time.Minute)
			w.is(r, approvals.Released)
			if w.count(r, approvals.EventDelayed) != 1 {
				t.Error("want one line about the delay")
			}
		})
	})
	t.Run("throttled for longer than the window", func(t *testing.T) {
		bubble(t, "DEPLOY_APPROVAL_WINDOW_MINUTES=1", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("jobs", &fault{status: 429, times: 1, retry: 3 * time.Minute})
			w.must(w.approve("U01", r))
			w.wait(4 * time.Minute)
			w.is(r, approvals.Released)
		})
	})
	t.Run("an outage longer than the window, and a restart in it", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("jobs", &fault{status: 503, times: -1})
			w.must(w.approve("U01", r))
			w.wait(20 * time.Minute)
			w.halt()
			time.Sleep(5 * time.Minute)
			w.restart()
			w.wait(20 * time.Minute)
			w.is(r, approvals.Approved)
			w.ci.breaks("jobs", nil)
			w.wait(time.Minute)
			w.is(r, approvals.Released)
		})
	})
	t.Run("an outage until the end", func(t *testing.T) {
		bubble(t, "PENDING_TTL=30m", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("jobs", &fault{status: 503, times: -1})
			w.must(w.approve("U01", r))
			w.wait(31 * time.Minute)
			got := w.is(r, approvals.Expired, approvals.FailWindowOver)
			if got.CanRetry(time.Now()) {
				t.Error("a retry is offered after the end")
			}
			w.ci.breaks("jobs", nil)
			w.wait(time.Minute)
			if len(w.ci.posted()) != 0 || w.ci.status(r.Facts.WorkflowID, "hold") != "canceled" {
				t.Error("want nothing posted and the gate cancelled")
			}
		})
	})
	t.Run("daemon down, then retry", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "blocked")
			w.must(w.approve("U01", r))
			w.halt()
			time.Sleep(20 * time.Minute)
			w.ci.hold(r.Facts.WorkflowID)
			w.restart()
			w.wait(30 * time.Second)
			got := w.is(r, approvals.Expired, approvals.FailWindowOver)
			if len(w.ci.posted()) != 0 || got.ClosedAt.IsZero() || !got.CanRetry(time.Now()) {
				t.Errorf("got %+v", got)
			}
			w.wait(5 * time.Minute)
			if w.ci.status(r.Facts.WorkflowID, "hold") != "on_hold" {
				t.Error("the gate was closed although a retry is offered")
			}
			w.refused(w.reject("U02", r), approvals.RefusedClosed)
			w.must(w.approve("U01", r))
			got = w.is(r, approvals.Released)
			if got.Round != 2 || len(got.Decisions) != 1 || !got.ClosedAt.IsZero() || w.count(r, approvals.EventApproved) != 2 {
				t.Errorf("got %+v", got)
			}
			w.wait(2 * time.Hour)
			if w.ci.status(r.Facts.WorkflowID, "hold") != "success" {
				t.Error("the released gate was closed")
			}
		})
	})
}

// While the facts cannot be read, an approval loses no time, people are told once, and
// CircleCI is asked more and more slowly.
func TestFactsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, c := range []fault{{status: 503}, {status: 403}, {status: 404}, {status: 429, retry: time.Minute}} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "on_hold")
				c.times = -1
				w.ci.breaks("facts", &c)
				w.must(w.approve("U01", r))
				w.wait(40 * time.Minute)
				w.is(r, approvals.Approved)
				if n := -1 - c.times; n > 200 {
					t.Errorf("the facts were asked for %d times in 40 minutes", n)
				}
				if n := w.count(r, approvals.EventDelayed); n != 1 {
					t.Errorf("got %d lines about the delay; want one", n)
				}
				w.ci.breaks("facts", nil)
				w.wait(time.Minute)
				w.is(r, approvals.Released)
				if n := w.count(r, approvals.EventAnswers); n != 1 {
					t.Errorf("got %d lines about the end of the delay; want one", n)
				}
			})
		})
	}
}

// While decisions are on hold, the facts are not read over and over.
func TestFactsWhileOnHold(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(w *world) {
		r := w.request(1, "blocked")
		w.must(w.approve("U01", r))
		w.cfg.Hold = func() string { return "the clock" }
		w.restart()
		w.ci.hold(r.Facts.WorkflowID)
		facts := &fault{slow: time.Nanosecond, times: -1}
		w.ci.breaks("facts", facts)
		w.wait(10 * time.Minute)
		w.is(r, approvals.Approved)
		if n := -1 - facts.times; n > 3 {
			t.Errorf("the facts were read %d times in 10 minutes", n)
		}
	})
}

func TestExpiryOfPending(t *testing.T) {
	for _, down := range []bool{false, true} {
		bubble(t, "PENDING_TTL=20m", func(w *world) {
			r := w.request(1, "on_hold")
			if down {
				w.halt()
			}
			w.wait(20*time.Minute - time.Second)
			w.is(r, approvals.Pending)
			w.wait(time.Second)
			if down {
				w.refused(w.approve("U01", r), approvals.RefusedClosed)
				w.restart()
			}
			w.wait(time.Second)
			got := w.is(r, approvals.Expired, approvals.FailNoDecision)
			if got.CanRetry(time.Now()) || !got.ApprovedAt.IsZero() || w.count(r, approvals.EventExpired) != 1 {
				t.Errorf("got %+v", got)
			}
			w.wait(30 * time.Second)
			if w.ci.status(r.Facts.WorkflowID, "hold") != "canceled" {
				t.Error("want the gate cancelled")
			}
		})
	}
}

func TestUndeliverableAndRetry(t *testing.T) {
	for _, status := range []int{401, 403, 404} {
		bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("approve", &fault{status: status, times: -1})
			w.must(w.approve("U01", r))
			w.must(w.approve("U02", r))
			got := w.is(r, approvals.Undeliverable, approvals.FailRefused)
			if got.ClosedAt.IsZero() || len(w.ci.posted()) != 1 {
				t.Errorf("got %+v after %d calls", got, len(w.ci.posted()))
			}
			w.wait(10 * time.Minute)
			if w.ci.status(r.Facts.WorkflowID, "hold") != "on_hold" {
				t.Error("the gate was closed")
			}
			w.ci.breaks("approve", nil)
			if w.fails(w.verify(r), approvals.CodeNotApproved); w.get(r).Deploy.Stopped.IsZero() {
				t.Error("the request does not say that its deploy was stopped")
			}
			w.must(w.approve("U01", r))
			if got = w.is(r, approvals.Pending); got.Deploy != (approvals.Deploy{}) {
				t.Errorf("the new round knows of the old one's deploy: %+v", got.Deploy)
			}
			w.wait(30 * time.Second)
			w.refused(w.approve("U01", r), approvals.RefusedVoted)
			w.restart()
			w.must(w.approve("U03", r))
			if got = w.is(r, approvals.Released); got.Round != 2 || len(got.Approvals()) != 2 || got.Failure.Code != "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestQuorumLost(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.approved(1, "blocked")
		w.must(w.admin.RemovePerson(w.ctx, "U01"))
		w.ci.hold(r.Facts.WorkflowID)
		w.wait(time.Minute)
		w.is(r, approvals.Undeliverable, approvals.FailQuorumLost)
		if len(w.ci.posted()) != 0 {
			t.Error("posted without a valid voter")
		}
		w.must(w.approve("U02", r))
		w.is(r, approvals.Released)
	})
}

func TestStalePeopleAtThePost(t *testing.T) {
	bubble(t, "DEPLOY_APPROVAL_WINDOW_MINUTES=120 PENDING_TTL=10h", func(w *world) {
		r := w.approved(1, "blocked")
		w.dir.set(true)
		w.wait(40 * time.Minute)
		w.ci.hold(r.Facts.WorkflowID)
		w.wait(2 * time.Minute)
		w.is(r, approvals.Approved)
		if len(w.ci.posted()) != 0 {
			w.t.Fatal("posted although nobody is confirmed")
		}
		w.dir.set(false)
		w.wait(time.Minute)
		w.is(r, approvals.Released)
	})
}

// A time in which nobody looked is no outage of CircleCI, whether it comes after a
// look that failed or before one: an approval whose window is over by it is not used.
func TestWindowWhileNobodyLooks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gate   approvals.JobStatus
		before int           // looks that fail before the daemon goes down
		after  time.Duration // for how long they fail when it is back
	}{
		"no look failed":                {"on_hold", 0, 0},
		"one look failed before":        {"on_hold", 1, 0},
		"looks fail before and after":   {"on_hold", -1, 5 * time.Minute},
		"the gate is reached meanwhile": {"blocked", 0, 0},
		"and looks fail after":          {"blocked", 0, 5 * time.Minute},
	} {
		for _, byHand := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, by hand %v", name, byHand), func(t *testing.T) {
				bubble(t, fmt.Sprintf("ON_CLOSE=nothing CIRCLECI_AUTO_APPROVE_ON_APPROVAL=%v", !byHand), func(w *world) {
					r := w.request(1, c.gate)
					if c.before == 0 && c.gate == "on_hold" {
						w.ci.breaks("facts", &fault{status: 503, times: 1}) // so that no call is made
					}
					if c.before != 0 {
						w.ci.breaks("jobs", &fault{status: 503, times: c.before})
					}
					w.must(w.approve("U01", r))
					w.halt()
					w.ci.hold(r.Facts.WorkflowID)
					time.Sleep(50 * time.Minute)
					w.ci.breaks("jobs", nil)
					if byHand {
						w.ci.humanApproves(r.Facts.WorkflowID)
					}
					if c.after > 0 {
						w.ci.breaks("jobs", &fault{status: 503, times: -1})
					}
					w.restart()
					w.wait(c.after)
					w.ci.breaks("jobs", nil)
					w.wait(time.Minute)
					want := approvals.Expired
					if byHand {
						want = approvals.Bypassed
					}
					w.is(r, want)
					if len(w.ci.posted()) != 0 {
						t.Error("a call was made for an approval whose window was over")
					}
				})
			})
		}
	}
}
