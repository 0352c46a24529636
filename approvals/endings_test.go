package approvals_test

import (
	"slices"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// While no POST is under way, an approval that waits for Slack can be withdrawn.
func TestWithdraw(t *testing.T) {
	withdraw := func(w *world, r approvals.Request) error {
		_, err := w.svc.Withdraw(w.ctx, w.token, r.ID, " wrong branch ")
		w.wait(0)
		return err
	}
	t.Run("pending, twice", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.must(withdraw(w, r))
			w.must(withdraw(w, r))
			if got := w.is(r, approvals.Canceled, approvals.FailWithdrawn); got.Failure.Detail != "wrong branch" || w.count(r, approvals.EventCanceled) != 1 {
				t.Errorf("got %+v", got)
			}
		})
	})
	t.Run("approved, blocked", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.must(withdraw(w, r))
			w.ci.hold(r.Facts.WorkflowID)
			w.wait(time.Minute)
			w.is(r, approvals.Canceled)
			if len(w.ci.posted()) != 0 {
				t.Error("posted after it was withdrawn")
			}
		})
	})
	t.Run("during an attempt", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("approve", &fault{slow: 10 * time.Second, times: 1})
			w.must(w.approve("U01", r))
			w.wait(time.Second)
			w.fails(withdraw(w, r), approvals.CodeConflict)
			w.wait(10 * time.Second)
			w.is(r, approvals.Released)
			w.fails(withdraw(w, r), approvals.CodeConflict)
		})
	})
	t.Run("after a call whose effect nobody saw", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.onPost = func(string, string) { w.ci.breaks("jobs", &fault{status: 503, times: -1}) }
			w.must(w.approve("U01", r))
			w.wait(40 * time.Second)
			w.fails(withdraw(w, r), approvals.CodeConflict)
			w.ci.breaks("jobs", nil)
			w.fails(withdraw(w, r), approvals.CodeConflict)
			w.wait(20 * time.Second)
			w.is(r, approvals.Released)
		})
	})
	t.Run("after an attempt that did nothing", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("approve", &fault{status: 500, times: 1})
			w.must(w.approve("U01", r))
			w.cfg.Hold = func() string { return "the clock" } // no further attempt
			w.restart()
			w.wait(time.Minute)
			w.must(withdraw(w, r))
		})
	})
	t.Run("not ours", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			_, err := w.svc.Withdraw(w.ctx, approvals.Token{Role: approvals.RoleCICD, Apps: []string{"x"}}, r.ID, "")
			w.fails(err, approvals.CodeNotFound)
			_, err = w.svc.Withdraw(w.ctx, approvals.Token{Role: approvals.RoleAuditor}, r.ID, "")
			w.fails(err, approvals.CodeForbidden)
		})
	})
}

func TestFactsChanged(t *testing.T) {
	for name, change := range map[string]func(*flow){
		"revision": func(f *flow) { f.facts.Revision = "f" + f.facts.Revision[1:] }, "starter": func(f *flow) { f.facts.StartedBy = "other" }, "gate gone": func(f *flow) { f.job("hold").Name = "held" },
	} {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.ci.do(r.Facts.WorkflowID, change)
			if name != "gate gone" {
				w.ci.hold(r.Facts.WorkflowID)
			}
			w.wait(time.Minute)
			w.is(r, approvals.Canceled, approvals.FailFactsChanged)
			if len(w.ci.posted()) != 0 {
				t.Errorf("%s: posted", name)
			}
		})
	}
}

func TestBypass(t *testing.T) {
	t.Run("pending", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(20 * time.Second)
			if got := w.is(r, approvals.Bypassed); got.Gate.ApprovedBy != "eve" || got.ClosedAt.IsZero() || w.count(r, approvals.EventBypassed) != 1 {
				t.Errorf("got %+v", got)
			}
		})
	})
	t.Run("approved, before the call", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.open(f.job("hold"), "user-eve") })
			w.wait(20 * time.Second)
			w.is(r, approvals.Bypassed)
		})
	})
	t.Run("by our user without a call", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.open(f.job("hold"), botUser) })
			w.wait(20 * time.Second)
			w.is(r, approvals.Bypassed)
		})
	})
	t.Run("closed", func(t *testing.T) {
		bubble(t, "ON_CLOSE=nothing", func(w *world) {
			r := w.request(1, "on_hold")
			w.must(w.reject("U01", r))
			w.wait(time.Minute)
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(6 * time.Minute)
			if got := w.is(r, approvals.Rejected); !got.Gate.Bypassed || got.Gate.ApprovedBy != "eve" || w.count(r, approvals.EventGateBypassed) != 1 {
				t.Errorf("got %+v", got)
			}
			w.wait(20 * time.Minute)
			if w.count(r, approvals.EventGateBypassed) != 1 {
				t.Error("the alarm was repeated")
			}
		})
	})
	t.Run("by hand, after the decision", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
			r := w.approved(1, "on_hold")
			w.wait(time.Minute)
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(20 * time.Second)
			if got := w.is(r, approvals.Released); got.Gate.ApprovedBy != "eve" || len(w.ci.posted()) != 0 {
				t.Errorf("got %+v", got)
			}
		})
	})
	t.Run("by hand, before the decision but not seen yet", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(10 * time.Second)
			w.must(w.approve("U01", r))
			w.wait(20 * time.Second)
			w.is(r, approvals.Bypassed)
		})
	})
	t.Run("by hand, too late", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false ON_CLOSE=nothing", func(w *world) {
			r := w.approved(1, "on_hold")
			w.wait(16 * time.Minute)
			w.is(r, approvals.Expired, approvals.FailWindowOver)
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(6 * time.Minute)
			if got := w.is(r, approvals.Expired); !got.Gate.Bypassed {
				t.Errorf("got %+v", got)
			}
		})
	})
	t.Run("by hand, in a window that the daemon slept through", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
			r := w.approved(1, "on_hold")
			w.halt()
			time.Sleep(10 * time.Minute)
			w.ci.humanApproves(r.Facts.WorkflowID)
			time.Sleep(20 * time.Minute)
			w.restart()
			w.wait(30 * time.Second)
			w.is(r, approvals.Released)
		})
	})
}

func TestCanceledInCircleCI(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(*flow)
		by, told string
	}{
		"gate":                   {func(f *flow) { f.job("hold").Status, f.job("hold").CanceledBy = "canceled", "user-eve" }, "eve", "hold was cancelled in CircleCI"},
		"gate, by nobody named":  {func(f *flow) { f.job("hold").Status = "canceled" }, "", "hold was cancelled in CircleCI"},
		"not run":                {func(f *flow) { f.job("hold").Status = "not_run" }, "", "hold is not_run in CircleCI"},
		"workflow, gate blocked": {func(f *flow) { f.facts.WorkflowStatus = "failed"; f.job("ask").Status = "failed" }, "", "The workflow failed in CircleCI before it reached hold"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "blocked")
				w.ci.do(r.Facts.WorkflowID, tt.change)
				w.wait(30 * time.Second) // the end of a workflow takes a second look
				got := w.is(r, approvals.Canceled, approvals.FailCIEnded)
				if got.DecidedBy != tt.by || got.Failure.Detail != tt.told || got.ClosedAt.IsZero() {
					t.Errorf("got %+v; want %q by %q", got, tt.told, tt.by)
				}
			})
		})
	}
}

func TestOnClose(t *testing.T) {
	for name, c := range map[string]struct {
		settings string
		gate     approvals.JobStatus
		accepts  string
		hold     bool
		want     []string
	}{
		"job":                           {"", "on_hold", "", false, []string{"job:hold"}},
		"nothing":                       {"ON_CLOSE=nothing", "on_hold", "", false, nil},
		"workflow":                      {"ON_CLOSE=cancel_workflow", "on_hold", "", false, []string{"workflow"}},
		"workflow, blocked":             {"ON_CLOSE=cancel_workflow", "blocked", "", false, []string{"workflow"}},
		"blocked for ever":              {"", "blocked", "", false, nil},
		"blocked, then on hold":         {"", "blocked", "", true, []string{"job:hold"}},
		"a job wants it canceled":       {"", "on_hold", "canceled", false, []string{"workflow"}},
		"a job wants any end, blocked":  {"", "blocked", "terminal", false, []string{"workflow"}},
		"canceled accepted and nothing": {"ON_CLOSE=nothing", "on_hold", "canceled", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.settings, func(w *world) {
				r := w.request(1, c.gate)
				if c.accepts != "" {
					w.ci.do(r.Facts.WorkflowID, func(f *flow) {
						f.job("deploy").Needs[f.job("hold").ID] = []string{"success", c.accepts}
					})
				}
				w.ci.breaks("cancel", &fault{status: 500, times: 1})
				w.must(w.reject("U01", r))
				w.wait(time.Minute)
				if c.hold {
					w.ci.hold(r.Facts.WorkflowID)
				}
				w.wait(7 * time.Minute)
				if got := w.ci.canceled(); !slices.Equal(got, c.want) {
					t.Errorf("got %q; want %q", got, c.want)
				}
				if act := w.get(r).Closing.Act; len(c.want) == 1 && (act == approvals.CloseCancelWorkflow) != (c.want[0] == "workflow") {
					t.Errorf("the card says that CircleCI was asked for %q; want %q", act, c.want[0])
				}
				if got := w.count(r, approvals.EventGateClosed); got != len(c.want) {
					t.Errorf("got %d events; want %d", got, len(c.want))
				}
			})
		})
	}
}

// A gate that has to be stopped is stopped, however long CircleCI cannot take the call or
// takes it without effect, and meanwhile the calls become rare.
func TestOnCloseGoesOn(t *testing.T) {
	for name, f := range map[string]*fault{"503": {status: 503, times: -1}, "429": {status: 429, times: -1}, "no answer": {times: -1}, "no effect": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "on_hold")
				w.ci.breaks("cancel", f)
				if f == nil {
					w.ci.odd(r.Facts.WorkflowID, func(jobs []approvals.Job) []approvals.Job {
						jobs = slices.Clone(jobs)
						jobs[1].Status = approvals.JobOnHold
						return jobs
					}, -1)
				}
				w.must(w.reject("U01", r))
				w.wait(9 * time.Hour)
				if n := w.count(r, approvals.EventClosing); n < 20 || n > 30 {
					t.Errorf("got %d calls in nine hours; want them to go on, and to become rare", n)
				}
				if n := w.count(r, approvals.EventGateClosed); f != nil && n != 0 || w.toldOf(approvals.EventGateClosed) > 1 {
					t.Errorf("the thread was told %d times that the call was made; want at most once", n)
				}
				w.ci.breaks("cancel", nil)
				w.ci.odd(r.Facts.WorkflowID, nil, 0)
				before := w.ci.looks()
				w.wait(31 * time.Minute)
				if got := w.ci.status(r.Facts.WorkflowID, "hold"); got != approvals.JobCanceled {
					t.Errorf("the gate is %s; want it cancelled", got)
				}
				if n := w.ci.looks() - before; n > 20 {
					t.Errorf("got %d looks in half an hour between two calls; want them to become rare", n)
				}
			})
		})
	}
}

// The gate of a closed request is followed no more once its workflow is over, though the
// list goes on leaving it blocked, and ever more rarely while it cannot be looked at.
func TestClosedGatesCostLittle(t *testing.T) {
	failed := func(f *flow) { f.job("ask").Status, f.facts.WorkflowStatus = "failed", "failed" }
	for name, c := range map[string]struct {
		onClose string
		change  func(*flow)
		fault   *fault
		most    int // looks on the third day
	}{
		"over, cancel_job":              {"cancel_job", failed, nil, 0},
		"over, cancel_workflow":         {"cancel_workflow", failed, nil, 0},
		"over, nothing":                 {"nothing", failed, nil, 0},
		"cancelled by us":               {"cancel_workflow", func(f *flow) { f.blocked = true }, nil, 0},
		"over, and no need of it ended": {"cancel_job", func(f *flow) { f.facts.WorkflowStatus = "canceled" }, nil, 0},
		"stuck, but other jobs go on":   {"cancel_job", func(f *flow) { f.job("ask").Status = "failed" }, nil, 50},
		"goes on":                       {"cancel_job", func(*flow) {}, nil, 30},
		"403":                           {"cancel_job", func(*flow) {}, &fault{status: 403, times: -1}, 20},
		"a list that cannot be used":    {"cancel_job", func(*flow) {}, &fault{status: 200, times: -1}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "ON_CLOSE="+c.onClose, func(w *world) {
				r := w.request(1, "blocked")
				w.must(w.reject("U01", r))
				w.ci.do(r.Facts.WorkflowID, c.change)
				w.ci.breaks("jobs", c.fault)
				w.wait(48 * time.Hour)
				before := w.ci.looks()
				w.wait(24 * time.Hour)
				if n := w.ci.looks() - before; n > c.most {
					t.Errorf("got %d looks on the third day; want at most %d", n, c.most)
				}
				if n := w.count(r, approvals.EventGateEnded); n != 1 && c.most == 0 {
					t.Errorf("got %d events about the end of the gate; want one", n)
				}
			})
		})
	}
}

// One odd list ends no watch, however late it comes.
func TestOneOddListOfAClosedGate(t *testing.T) {
	bubble(t, "ON_CLOSE=nothing", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.reject("U01", r))
		w.wait(48 * time.Hour)
		w.ci.odd(r.Facts.WorkflowID, func([]approvals.Job) []approvals.Job { return nil }, 1)
		w.wait(10 * time.Minute)
		w.ci.humanApproves(r.Facts.WorkflowID)
		w.wait(6 * time.Minute)
		if n := w.count(r, approvals.EventGateBypassed); n != 1 {
			t.Errorf("got %d alarms; want one", n)
		}
	})
}

// Another request for the same workflow needs the gate.
func TestNewerRequestKeepsTheGate(t *testing.T) {
	t.Run("pending", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "blocked")
			_, err := w.svc.Withdraw(w.ctx, w.token, r.ID, "")
			w.must(err)
			newer, created, err := w.ask(r.Facts.WorkflowID)
			if err != nil || !created {
				w.t.Fatal(created, err)
			}
			w.ci.hold(r.Facts.WorkflowID)
			w.wait(time.Minute)
			if len(w.ci.canceled()) != 0 {
				w.t.Fatal("the gate of the newer request was cancelled")
			}
			w.must(w.approve("U01", newer))
			w.is(newer, approvals.Released)
			w.wait(10 * time.Minute)
			if n := w.count(r, approvals.EventGateBypassed); n != 0 || w.get(r).Gate.Bypassed {
				w.t.Fatalf("got %d alarms about a gate that the newer request opened", n)
			}
		})
	})
	t.Run("opened by somebody else after both ended", func(t *testing.T) {
		bubble(t, "ON_CLOSE=nothing PENDING_TTL=1h", func(w *world) {
			r := w.request(1, "on_hold")
			w.wait(time.Hour + time.Minute)
			w.is(r, approvals.Expired)
			newer, created, err := w.ask(r.Facts.WorkflowID)
			if err != nil || !created {
				w.t.Fatal(created, err)
			}
			w.wait(time.Hour + time.Minute)
			w.is(newer, approvals.Expired)
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(10 * time.Minute)
			if n := w.count(r, approvals.EventGateBypassed) + w.count(newer, approvals.EventGateBypassed); n != 1 {
				w.t.Fatalf("got %d alarms about one gate", n)
			}
		})
	})
	t.Run("with a retry on offer", func(t *testing.T) {
		bubble(t, "PENDING_TTL=1h", func(w *world) {
			r := w.approved(1, "blocked")
			w.halt()
			time.Sleep(20 * time.Minute)
			w.ci.hold(r.Facts.WorkflowID)
			w.restart()
			w.wait(30 * time.Second)
			w.is(r, approvals.Expired)
			newer, created, err := w.ask(r.Facts.WorkflowID)
			if err != nil || !created {
				w.t.Fatal(created, err)
			}
			w.refused(w.approve("U02", r), approvals.RefusedTaken)
			w.ci.breaks("approve", &fault{status: 403, times: 1})
			w.must(w.approve("U01", newer))
			w.is(newer, approvals.Undeliverable)
			w.wait(45 * time.Minute) // the older one's retry is over, the newer one's is not
			if !w.get(newer).CanRetry(time.Now()) || len(w.ci.canceled()) != 0 {
				w.t.Fatalf("got %q cancelled; want nothing: a retry of the newer request is on offer", w.ci.canceled())
			}
			w.must(w.approve("U01", newer))
			w.is(newer, approvals.Released)
		})
	})
}

// A newer request for the workflow takes the button to retry away from the older one's
// card while it may be decided.
func TestRetryIsTakenByANewerRequest(t *testing.T) {
	bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false ON_CLOSE=nothing", func(w *world) {
		r := w.approved(1, "on_hold")
		w.wait(20 * time.Minute)
		w.is(r, approvals.Expired)
		offered := func(when string, want bool) {
			t.Helper()
			w.wait(time.Second)
			if w.card(r).RetryOffered != want {
				t.Errorf("%s the card offers Retry: %t", when, !want)
			}
		}
		offered("at first", true)
		newer, created, err := w.ask(r.Facts.WorkflowID)
		if err != nil || !created {
			t.Fatal(created, err)
		}
		offered("beside a newer request", false)
		_, err = w.svc.Withdraw(w.ctx, w.token, newer.ID, "")
		w.must(err)
		offered("after that was withdrawn", true)
	})
}

// A request that is rejected has its gate stopped, though an older one of the workflow
// would still be offered for Retry: it cannot be retried any more.
func TestRejectStopsTheGateOfARetry(t *testing.T) {
	bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
		r := w.approved(1, "on_hold")
		w.wait(20 * time.Minute)
		if got := w.is(r, approvals.Expired, approvals.FailWindowOver); !got.CanRetry(time.Now()) || len(w.ci.canceled()) != 0 {
			t.Fatalf("got %q cancelled; want a gate that waits for a retry", w.ci.canceled())
		}
		newer, created, err := w.ask(r.Facts.WorkflowID)
		if err != nil || !created {
			t.Fatal(created, err)
		}
		w.must(w.reject("U02", newer))
		w.wait(time.Minute)
		if got := w.ci.canceled(); !slices.Equal(got, []string{"job:hold"}) {
			t.Errorf("got %q cancelled; want the gate", got)
		}
		w.refused(w.approve("U01", r), approvals.RefusedClosed)
	})
}

func TestAppGoneAtStart(t *testing.T) {
	bubble(t, "", func(w *world) {
		pending, decided := w.request(1, "on_hold"), w.request(2, "blocked")
		_ = pending
		w.is(pending, approvals.Superseded)
		w.must(w.approve("U01", decided))
		other := w.ci.newFlow(3, 3, "on_hold")
		open, _, err := w.ask(other)
		w.must(err)
		w.cfg.Settings = approvals.Settings{}
		w.restart()
		w.is(open, approvals.Canceled, approvals.FailAppGone)
		w.is(decided, approvals.Approved)
		w.ci.hold(decided.Facts.WorkflowID)
		w.wait(time.Minute)
		w.is(decided, approvals.Canceled, approvals.FailAppGone)
		if len(w.ci.posted()) != 0 {
			t.Error("posted for an app that is gone")
		}
	})
}

// While nodes have different settings, an app that one of them does not know is not
// gone: it may have just been added.
func TestAppThatAnotherNodeKnows(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2 DEPLOY_APPROVAL_WINDOW_MINUTES=30", func(w *world) {
		decided := w.request(1, "blocked")
		w.must(w.approve("U01", decided))
		w.must(w.approve("U02", decided))
		pending := w.request(2, "on_hold")
		w.wait(30 * time.Second)
		w.must(w.approve("U01", pending))
		hold, known := "nodes have different settings", w.cfg.Settings
		w.cfg.Settings, w.cfg.Hold = approvals.Settings{}, func() string { return hold }
		w.restart()
		w.ci.hold(decided.Facts.WorkflowID)
		w.wait(5 * time.Minute)
		w.is(decided, approvals.Approved)
		w.is(pending, approvals.Pending)
		w.refused(w.approve("U02", pending), approvals.RefusedOnHold)
		w.refused(w.reject("U02", pending), approvals.RefusedOnHold)
		w.halt()
		w.cfg.Settings, hold = known, ""
		w.restart()
		w.wait(time.Minute)
		w.is(decided, approvals.Released)
		w.must(w.approve("U02", pending))
		w.is(pending, approvals.Released)
		if got := w.ci.canceled(); len(got) > 0 {
			t.Errorf("got %q cancelled; want nothing", got)
		}
	})
}

// The button to retry goes away when Retry ends, though nothing else happens then.
func TestRetryEndsOnTheCard(t *testing.T) {
	for name, how := range map[string]struct {
		settings string
		end      func(w *world, r approvals.Request)
		want     approvals.Status
	}{
		"undeliverable": {"", func(w *world, r approvals.Request) {
			w.ci.breaks("approve", &fault{status: 403, times: 1})
			w.must(w.approve("U01", r))
		}, approvals.Undeliverable},
		"window over": {"CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false ON_CLOSE=nothing", func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			w.wait(20 * time.Minute)
		}, approvals.Expired},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, how.settings, func(w *world) {
				r := w.request(1, "on_hold")
				how.end(w, r)
				w.wait(time.Minute)
				w.is(r, how.want)
				if !w.card(r).RetryOffered {
					t.Fatal("the card does not offer Retry")
				}
				w.wait(time.Until(r.CreatedAt.Add(2*time.Hour)) + 3*time.Second)
				if w.card(r).RetryOffered {
					t.Error("the card still offers Retry")
				}
			})
		})
	}
}

// A gate that is known to be over takes Retry away: nothing would come of another round.
func TestNoRetryOfAGateThatIsOver(t *testing.T) {
	for name, ends := range map[string]func(*flow){
		"opened":         func(f *flow) { f.open(f.job("hold"), "user-eve") },
		"cancelled":      func(f *flow) { f.job("hold").Status, f.job("hold").CanceledBy = "canceled", "user-eve" },
		"workflow ended": func(f *flow) { f.job("hold").Status, f.facts.WorkflowStatus = "not_run", "failed" },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "on_hold")
				w.ci.breaks("approve", &fault{status: 403, times: 1})
				w.must(w.approve("U01", r))
				if w.is(r, approvals.Undeliverable); !w.card(r).RetryOffered {
					t.Fatal("the card does not offer Retry")
				}
				w.ci.do(r.Facts.WorkflowID, ends)
				w.wait(6 * time.Minute)
				if w.card(r).RetryOffered {
					t.Error("the card offers Retry for a gate that is over")
				}
				w.refused(w.approve("U02", r), approvals.RefusedClosed)
				w.wait(48 * time.Hour)
				if n := w.count(r, approvals.EventGateEnded, approvals.EventGateBypassed); n != 1 {
					t.Errorf("got %d events about the end of the gate; want one", n)
				}
				w.is(r, approvals.Undeliverable)
			})
		})
	}
}

// A gate that is reached only after the request was closed is dealt with then,
// whatever an older look saw.
func TestGateReachedAfterTheClose(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "blocked")
		w.must(w.reject("U01", r))
		w.wait(10 * time.Minute)
		if got := w.ci.canceled(); len(got) != 0 {
			t.Fatalf("cancelled %v; a gate that is blocked cannot be", got)
		}
		w.ci.hold(r.Facts.WorkflowID)
		w.wait(20 * time.Second)
		if got := w.ci.canceled(); len(got) != 1 {
			t.Errorf("cancelled %v; want the gate once", got)
		}
	})
}
