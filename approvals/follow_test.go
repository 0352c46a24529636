package approvals_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// enrol gives somebody a new authenticator.
func (w *world) enrol(user string) {
	w.t.Helper()
	w.secrets[user] = totp.NewSecret()
	w.must(w.admin.Enrol(w.ctx, user, w.secrets[user], "", approvals.EnrolledByImport))
	w.wait(2 * time.Second)
}

// A quorum that is complete again decides by itself.
func TestVotesAreJudgedAgain(t *testing.T) {
	t.Run("authenticator reset and enrolled again", func(t *testing.T) {
		bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
			r := w.request(1, "on_hold")
			w.must(w.approve("U01", r))
			w.must(w.admin.Reset(w.ctx, "U01"))
			w.must(w.approve("U02", r))
			w.is(r, approvals.Pending)
			if got := w.card(r); got.Valid != 1 {
				t.Errorf("the card says that %d votes count; want 1", got.Valid)
			}
			w.enrol("U01")
			w.is(r, approvals.Released)
		})
	})
	t.Run("deactivated in Slack for a while", func(t *testing.T) {
		bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
			r := w.request(1, "on_hold")
			w.must(w.approve("U01", r))
			w.dir.mu.Lock()
			w.dir.problems["U01"] = "deactivated"
			w.dir.mu.Unlock()
			w.wait(6 * time.Minute)
			w.must(w.approve("U02", r))
			w.is(r, approvals.Pending)
			w.dir.mu.Lock()
			delete(w.dir.problems, "U01")
			w.dir.mu.Unlock()
			w.wait(6 * time.Minute)
			w.is(r, approvals.Released)
		})
	})
	t.Run("removed and added again", func(t *testing.T) {
		bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
			r := w.request(1, "on_hold")
			w.must(w.approve("U01", r))
			w.must(w.admin.RemovePerson(w.ctx, "U01"))
			_, err := w.admin.AddPerson(w.ctx, "U01", "", "login-U01")
			w.must(err)
			w.enrol("U01")
			w.must(w.approve("U02", r))
			w.wait(time.Minute)
			w.is(r, approvals.Pending)
			if len(w.ci.posted()) != 0 {
				t.Fatal("a vote of somebody who was removed completed the quorum")
			}
			w.must(w.approve("U01", r)) // they may vote anew
			w.is(r, approvals.Released)
		})
	})
}

// One odd answer of the provider ends nothing; one that is confirmed later does.
func TestOddLists(t *testing.T) {
	type jobs = []approvals.Job
	for name, change := range map[string]func(jobs) jobs{
		"empty":        func(jobs) jobs { return nil },
		"without gate": func(j jobs) jobs { return slices.Delete(slices.Clone(j), 1, 2) },
	} {
		for _, status := range []approvals.Status{approvals.Pending, approvals.Approved} {
			t.Run(fmt.Sprintf("%s while %s", name, status), func(t *testing.T) {
				bubble(t, "", func(w *world) {
					r := w.request(1, "blocked")
					if status == approvals.Approved {
						w.must(w.approve("U01", r))
					}
					w.ci.odd(r.Facts.WorkflowID, change, 1)
					w.wait(time.Minute)
					w.is(r, status)
					w.ci.odd(r.Facts.WorkflowID, change, -1)
					w.wait(time.Minute)
					w.is(r, approvals.Canceled, approvals.FailFactsChanged)
				})
			})
		}
	}
	t.Run("right after our accepted call", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.onPost = func(string, string) { w.ci.odd(r.Facts.WorkflowID, func(jobs) jobs { return nil }, 1) }
			w.must(w.approve("U01", r))
			w.wait(time.Minute)
			w.is(r, approvals.Released)
			if n := len(w.ci.posted()); n != 1 {
				t.Errorf("got %d calls; want one", n)
			}
		})
	})
	t.Run("for a while after our accepted call", func(t *testing.T) {
		bubble(t, "ON_CLOSE=nothing", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.onPost = func(string, string) { w.ci.odd(r.Facts.WorkflowID, func(jobs) jobs { return nil }, -1) }
			w.must(w.approve("U01", r))
			w.wait(time.Minute)
			w.is(r, approvals.Approved)
			w.ci.odd(r.Facts.WorkflowID, nil, 0)
			w.wait(20 * time.Second)
			w.is(r, approvals.Released)
		})
	})
	t.Run("until the end after our accepted call", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.onPost = func(string, string) { w.ci.odd(r.Facts.WorkflowID, func(jobs) jobs { return nil }, -1) }
			w.must(w.approve("U01", r))
			w.wait(2*time.Hour + time.Minute)
			w.is(r, approvals.Canceled, approvals.FailFactsChanged)
		})
	})
	t.Run("facts that are other ones for once", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.facts.Revision = "f" + f.facts.Revision[1:] })
			w.ci.hold(r.Facts.WorkflowID)
			w.wait(5 * time.Second)
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.facts.Revision = r.Facts.Revision })
			w.wait(time.Minute)
			w.is(r, approvals.Released)
		})
	})
	t.Run("a starter that could not be read before", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			id := w.ci.newFlow(1, 1, "blocked")
			w.ci.do(id, func(f *flow) { f.facts.StartedBy, f.facts.StartedByID = "", "" })
			r, _, err := w.ask(id)
			w.must(err)
			w.must(w.approve("U01", r))
			w.ci.do(id, func(f *flow) { f.facts.StartedBy, f.facts.StartedByID = "dev", "user-dev" })
			w.ci.hold(id)
			w.wait(time.Minute)
			w.is(r, approvals.Released)
		})
	})
	t.Run("a starter that cannot be read", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "blocked")
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.facts.StartedBy = "" })
			w.ci.hold(r.Facts.WorkflowID)
			w.wait(time.Minute)
			w.is(r, approvals.Released)
		})
	})
}

// One list that lacks jobs behind the gate ends no watch of a deploy; a second one, some
// time later, does.
func TestListsThatLackJobs(t *testing.T) {
	type jobs = []approvals.Job
	lacks := func(name string) func(jobs) jobs {
		return func(j jobs) jobs {
			return slices.DeleteFunc(slices.Clone(j), func(j approvals.Job) bool { return j.Name == name })
		}
	}
	released := func(w *world) approvals.Request {
		r := w.request(1, "on_hold")
		w.ci.do(r.Facts.WorkflowID, func(f *flow) {
			f.jobs = append(f.jobs, approvals.Job{ID: "s", Name: "smoke", Type: "build", Status: "blocked", Needs: map[string][]string{f.job("hold").ID: {"success"}}})
		})
		w.must(w.approve("U01", r))
		return w.is(r, approvals.Released)
	}
	t.Run("all, for once", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := released(w)
			w.ci.odd(r.Facts.WorkflowID, func(j jobs) jobs { return lacks("smoke")(lacks("deploy")(j)) }, 1)
			w.wait(time.Minute)
			w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
			w.ci.set(r.Facts.WorkflowID, "smoke", approvals.JobSuccess)
			w.wait(20 * time.Second)
			w.is(r, approvals.Deployed)
		})
	})
	t.Run("the one that runs, for once", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := released(w)
			w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
			w.ci.odd(r.Facts.WorkflowID, lacks("smoke"), 1)
			w.wait(time.Minute)
			w.is(r, approvals.Released)
			w.ci.set(r.Facts.WorkflowID, "smoke", approvals.JobFailed)
			w.wait(20 * time.Second)
			w.is(r, approvals.DeployFailed)
		})
	})
	t.Run("for good", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := released(w)
			w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
			w.ci.odd(r.Facts.WorkflowID, lacks("smoke"), -1)
			w.wait(time.Minute)
			w.is(r, approvals.Deployed)
		})
	})
	t.Run("one that accepts a cancelled gate, for once", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.job("deploy").Needs[f.job("hold").ID] = []string{"success", "canceled"} })
			w.wait(20 * time.Second)
			w.ci.odd(r.Facts.WorkflowID, lacks("deploy"), 1)
			w.must(w.reject("U01", r))
			w.wait(time.Minute)
			if got := w.ci.canceled(); !slices.Equal(got, []string{"workflow"}) {
				t.Errorf("got %q cancelled; want the workflow", got)
			}
		})
	})
}

// A list that does not show the gate after the decision is no proof that it was opened
// after the decision.
func TestOddListAfterTheDecision(t *testing.T) {
	bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
		r := w.request(1, "on_hold")
		w.wait(2 * time.Second)
		w.ci.humanApproves(r.Facts.WorkflowID)
		w.wait(time.Second)
		w.ci.odd(r.Facts.WorkflowID, func([]approvals.Job) []approvals.Job { return nil }, 1)
		w.must(w.approve("U01", r))
		w.is(r, approvals.Approved)
		w.wait(time.Minute)
		w.is(r, approvals.Bypassed)
	})
}

// A workflow that ends after its jobs were listed and before its facts are read says
// nothing of these jobs.
func TestListsFromBeforeTheEnd(t *testing.T) {
	// past has the lists show how things stand now until the facts are read once more.
	past := func(w *world, r approvals.Request) {
		facts := &fault{slow: time.Nanosecond, times: 1}
		w.ci.breaks("facts", facts)
		w.ci.do(r.Facts.WorkflowID, func(f *flow) {
			before := slices.Clone(f.jobs)
			f.odd, f.oddLists = func(now []approvals.Job) []approvals.Job {
				if facts.times > 0 {
					return before
				}
				return now
			}, -1
			if g := f.job("hold"); g.Status != approvals.JobSuccess {
				f.open(g, "user-eve")
			}
			f.job("deploy").Status, f.facts.WorkflowStatus = approvals.JobSuccess, approvals.WorkflowSuccess
		})
		w.wait(10 * time.Minute)
		if facts.times > 0 {
			t.Fatal("the facts were not read")
		}
	}
	t.Run("of a deploy that ran", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "on_hold")
			past(w, w.is(r, approvals.Released))
			w.is(r, approvals.Deployed)
		})
	})
	t.Run("of a gate that was blocked", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "blocked")
			past(w, r)
			w.is(r, approvals.Bypassed)
		})
	})
}

// A workflow that the provider has forgotten is left after a bounded number of
// looks.
func TestForgottenWorkflow(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world, r approvals.Request){
		"rejected": func(w *world, r approvals.Request) { w.must(w.reject("U01", r)) },
		"pending":  func(*world, approvals.Request) {},
		"approved": func(w *world, r approvals.Request) { w.must(w.approve("U01", r)) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "PENDING_TTL=48h", func(w *world) {
				r := w.request(1, "blocked")
				w.ci.mu.Lock()
				delete(w.ci.flows, r.Facts.WorkflowID)
				w.ci.looked = 0
				w.ci.mu.Unlock()
				end(w, r)
				w.wait(72 * time.Hour)
				w.ci.mu.Lock()
				looks := w.ci.looked
				w.ci.mu.Unlock()
				if looks > 300 {
					t.Errorf("got %d looks in three days; want them to become rare and end", looks)
				}
				if got := w.get(r); got.Status.Open() {
					t.Errorf("the request still is %s", got.Status)
				}
				w.ci.mu.Lock()
				w.ci.looked = 0
				w.ci.mu.Unlock()
				w.wait(24 * time.Hour)
				w.ci.mu.Lock()
				defer w.ci.mu.Unlock()
				if w.ci.looked > 2 {
					t.Errorf("got %d more looks on the fourth day; want next to none", w.ci.looked)
				}
			})
		})
	}
}

// What cannot be called, or is accepted and has no effect, is tried again more and more
// slowly, and told once, however the answers differ.
func TestCallsThatFailForHours(t *testing.T) {
	for name, answers := range map[string][]fault{
		"503": {{status: 503}}, "several ways to fail": {{status: 502}, {status: 503}, {}, {status: 429}}, "accepted, without effect": nil,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "PENDING_TTL=10h DEPLOY_APPROVAL_WINDOW_MINUTES=120", func(w *world) {
				r := w.request(1, "on_hold")
				told := approvals.EventAccepted
				w.ci.lag = 100 * time.Minute
				if answers != nil {
					told = approvals.EventGateRefused
				}
				w.ci.onPost = func(string, string) {
					if n := len(w.ci.posted()); answers != nil {
						f := answers[n%len(answers)]
						f.times = 1
						w.ci.breaks("approve", &f)
					}
				}
				w.must(w.approve("U01", r))
				w.wait(95 * time.Minute)
				w.is(r, approvals.Approved)
				if n := len(w.ci.posted()); n > 30 {
					t.Errorf("got %d calls in 95 minutes; want them to become rare", n)
				}
				if n := w.toldOf(told); n != 1 {
					t.Errorf("the thread was told %d times of %s; want once", n, told)
				}
				answers, w.ci.lag = nil, 0
				w.wait(6 * time.Minute)
				w.is(r, approvals.Released)
			})
		})
	}
}

// Retry opens the request for votes again, under the rules for pending requests.
func TestRetryAfterANewerRelease(t *testing.T) {
	bubble(t, "", func(w *world) {
		old := w.request(1, "on_hold")
		w.ci.breaks("approve", &fault{status: 403, times: 1})
		w.must(w.approve("U01", old))
		w.is(old, approvals.Undeliverable)
		offered := func(want bool) {
			t.Helper()
			var why *approvals.Refusal
			if errors.As(w.reject("U02", old), &why); why == nil || why.Code != approvals.RefusedClosed || why.Retry != want {
				t.Errorf("a reject got %+v; want it refused, and pointed to Retry: %t", why, want)
			}
			w.wait(time.Second)
			if w.card(old).RetryOffered != want {
				t.Errorf("the card offers Retry: %t", !want)
			}
		}
		offered(true)
		newer := w.request(2, "on_hold")
		w.wait(time.Minute)
		w.must(w.approve("U01", newer))
		w.ci.set(newer.Facts.WorkflowID, "deploy", "success")
		w.wait(20 * time.Second)
		w.is(newer, approvals.Deployed)
		offered(false)
		w.wait(30 * time.Second)
		var why *approvals.Refusal
		if errors.As(w.approve("U02", old), &why); why == nil || why.Code != approvals.RefusedTaken || why.Status != approvals.Deployed {
			t.Errorf("got %+v; want it refused because of the deploy", why)
		}
		w.is(old, approvals.Undeliverable)
	})
	t.Run("released while the second round is open", func(t *testing.T) {
		bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
			old := w.request(1, "on_hold")
			w.ci.breaks("approve", &fault{status: 403, times: 1})
			w.must(w.approve("U01", old))
			w.must(w.approve("U02", old))
			w.is(old, approvals.Undeliverable)
			w.wait(time.Minute)
			w.must(w.approve("U01", old))
			w.is(old, approvals.Pending)
			w.request(2, "on_hold")
			w.is(old, approvals.Superseded)
		})
	})
	t.Run("released before the second round is looked at", func(t *testing.T) {
		bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
			old := w.request(1, "on_hold")
			w.ci.breaks("approve", &fault{status: 403, times: 1})
			w.must(w.approve("U01", old))
			w.must(w.approve("U02", old))
			w.is(old, approvals.Undeliverable)
			newer := w.request(2, "on_hold")
			w.wait(time.Minute)
			w.must(w.approve("U02", newer))
			w.must(w.approve("U01", old))
			w.is(old, approvals.Pending)
			w.must(w.approve("U03", newer))
			w.ci.set(newer.Facts.WorkflowID, "deploy", "success")
			w.wait(20 * time.Second)
			w.is(newer, approvals.Deployed)
			w.wait(6 * time.Minute)
			w.is(old, approvals.Superseded)
		})
	})
}

// Our own release that shows late is no alarm.
func TestLateRelease(t *testing.T) {
	bubble(t, "DEPLOY_APPROVAL_WINDOW_MINUTES=1 ON_CLOSE=nothing", func(w *world) {
		r := w.request(1, "on_hold")
		w.ci.lag = 5 * time.Minute
		w.must(w.approve("U01", r))
		w.wait(12 * time.Minute)
		w.is(r, approvals.Released)
		if n := w.count(r, approvals.EventGateBypassed, approvals.EventBypassed); n != 0 {
			t.Errorf("got %d alarms about our own release", n)
		}
	})
}

// A list that does not say for once who opened the gate raises no alarm about our own
// release, neither before nor after the approval has expired.
func TestReleaseByNobodyForOnce(t *testing.T) {
	for name, lag := range map[string]time.Duration{"at once": time.Minute, "late": 5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "DEPLOY_APPROVAL_WINDOW_MINUTES=2 ON_CLOSE=nothing", func(w *world) {
				r := w.request(1, "on_hold")
				w.ci.lag = lag
				w.must(w.approve("U01", r))
				unnamed := 0
				w.ci.odd(r.Facts.WorkflowID, func(jobs []approvals.Job) []approvals.Job {
					jobs = slices.Clone(jobs)
					for i := range jobs {
						if jobs[i].Status == approvals.JobSuccess && jobs[i].ApprovedBy != "" && unnamed == 0 {
							jobs[i].ApprovedBy = ""
							unnamed++
						}
					}
					return jobs
				}, -1)
				w.wait(12 * time.Minute)
				w.is(r, approvals.Released)
				if n := w.count(r, approvals.EventGateBypassed, approvals.EventBypassed); n != 0 || unnamed != 1 {
					t.Errorf("got %d alarms about our own release, after %d lists without a name", n, unnamed)
				}
			})
		})
	}
}

// The clocks of the provider and ours may differ: what counts is what a look saw.
func TestByHandWithAnotherClock(t *testing.T) {
	for _, skew := range []time.Duration{-10 * time.Second, 10 * time.Second} {
		t.Run(fmt.Sprint("opened after the decision, their clock ", skew), func(t *testing.T) {
			bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
				r := w.approved(1, "on_hold")
				w.wait(5 * time.Second)
				w.ci.humanApproves(r.Facts.WorkflowID)
				w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.job("hold").StoppedAt = time.Now().Add(skew) })
				w.wait(30 * time.Second)
				w.is(r, approvals.Released)
			})
		})
		t.Run(fmt.Sprint("opened before it, their clock ", skew), func(t *testing.T) {
			bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
				r := w.request(1, "on_hold")
				w.wait(time.Second)
				w.ci.humanApproves(r.Facts.WorkflowID)
				w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.job("hold").StoppedAt = time.Now().Add(skew) })
				w.wait(5 * time.Second)
				w.must(w.approve("U01", r))
				w.wait(30 * time.Second)
				w.is(r, approvals.Bypassed)
			})
		})
	}
}

// What was deployed last is what was released last, whatever the numbers say.
func TestLastDeployedIsTheLastRelease(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		older, newer := w.request(1, "on_hold"), w.request(2, "on_hold")
		for i, r := range []approvals.Request{newer, older} {
			w.must(w.approve(fmt.Sprintf("U0%d", i+1), r))
			w.ci.set(r.Facts.WorkflowID, "deploy", "success")
			w.wait(20 * time.Second)
			w.is(r, approvals.Deployed)
		}
		next := w.request(3, "on_hold")
		if next.Last == nil || next.Last.Revision != older.Facts.Revision {
			t.Errorf("got %+v; want the older pipeline, which was deployed last", next.Last)
		}
	})
}

// A deploy that was skipped is no deploy.
func TestSkippedDeploy(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		w.ci.do(r.Facts.WorkflowID, func(f *flow) {
			f.jobs = append(f.jobs, approvals.Job{ID: "u", Name: "unlock", Type: "build", Status: approvals.JobSuccess, Needs: map[string][]string{f.job("deploy").ID: {"terminal"}}})
			f.job("deploy").Status = approvals.JobNotRun
		})
		w.wait(20 * time.Second)
		got := w.is(r, approvals.DeployFailed, approvals.FailDeploy)
		if !strings.Contains(got.Deploy.Detail, "skipped") {
			t.Errorf("got %q", got.Deploy.Detail)
		}
	})
}

// The jobs that are the deploy may be named: others do not decide.
func TestNamedDeployJobs(t *testing.T) {
	bubble(t, "CIRCLECI_DEPLOY_JOBS=deploy", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		w.ci.do(r.Facts.WorkflowID, func(f *flow) {
			f.jobs = append(f.jobs, approvals.Job{ID: "n", Name: "notify", Type: "build", Status: approvals.JobFailed, Needs: map[string][]string{f.job("deploy").ID: {"success"}}})
			f.job("deploy").Status = approvals.JobSuccess
		})
		w.wait(20 * time.Second)
		w.is(r, approvals.Deployed)
	})
}

// Two hundred jobs with long names fit into the event.
func TestManyLongJobs(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		w.ci.do(r.Facts.WorkflowID, func(f *flow) {
			f.job("deploy").Status = approvals.JobSuccess
			for i := range 200 {
				f.jobs = append(f.jobs, approvals.Job{ID: fmt.Sprint("j", i), Name: strings.Repeat("<", 200) + fmt.Sprint(i), Type: "build", Status: approvals.JobSuccess, Needs: map[string][]string{f.job("deploy").ID: {"success"}}})
			}
		})
		w.wait(20 * time.Second)
		w.is(r, approvals.Deployed)
	})
}

// A request whose texts do not fit into the log is refused, and nothing is stored.
func TestRequestTooLongForTheLog(t *testing.T) {
	bubble(t, "", func(w *world) {
		id := w.ci.newFlow(1, 1, "blocked")
		w.ci.do(id, func(f *flow) { f.facts.WorkflowName = strings.Repeat("<", 2500) })
		_, _, err := w.svc.Request(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: "0000000", WorkflowID: id, Message: strings.Repeat("<", 2000)})
		w.fails(err, approvals.CodeInvalid)
		if found, err := w.svc.Recent(w.ctx, approvals.Filter{}); err != nil || len(found) != 0 {
			t.Errorf("got %d requests, %v", len(found), err)
		}
	})
}

// An admin who was added a moment ago is looked up when they press.
func TestClickOfANewAdmin(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.halt()
		_, err := w.admin.AddPerson(w.ctx, "U07", "", "login-U07")
		w.must(err)
		w.secrets["U07"] = totp.NewSecret()
		w.must(w.admin.Enrol(w.ctx, "U07", w.secrets["U07"], "", approvals.EnrolledByImport))
		if err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U07"}, r.ID, approvals.ActionApprove, "", w.code("U07")); err != nil {
			t.Errorf("got %v; want it taken", err)
		}
	})
}

// A flood of refused clicks is one event, then a count.
func TestRefusedClicksAreCounted(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		why := &approvals.Refusal{Code: approvals.RefusedNotAdmin}
		for range 500 {
			w.must(w.svc.ClickRefused(w.ctx, approvals.Clicker{Team: team, User: "U66"}, r.ID, approvals.ActionApprove, why))
		}
		if n := w.count(r, approvals.EventClickRefused); n != 1 {
			t.Errorf("got %d events of 500 clicks; want one", n)
		}
		w.wait(11 * time.Minute)
		w.must(w.svc.ClickRefused(w.ctx, approvals.Clicker{Team: team, User: "U66"}, r.ID, approvals.ActionApprove, why))
		_, events, err := w.svc.Story(w.ctx, r.ID)
		w.must(err)
		if last := events[len(events)-1]; last.Data["count"] != "500" {
			t.Errorf("got %v; want the count", last.Data)
		}
		w.restart() // or another process got the next click
		w.must(w.svc.ClickRefused(w.ctx, approvals.Clicker{Team: team, User: "U66"}, r.ID, approvals.ActionApprove, why))
		w.must(w.svc.ClickRefused(w.ctx, approvals.Clicker{Team: team, User: "U67"}, r.ID, approvals.ActionApprove, why))
		w.wait(time.Second)
		if n := w.count(r, approvals.EventClickRefused); n != 4 {
			t.Errorf("got %d events; want the first, two counts, and that of somebody else", n)
		}
		if told := w.toldOf(approvals.EventClickRefused); told != 2 {
			t.Errorf("the thread was told %d times; want once of each person", told)
		}
	})
}

// A report that says nothing new is neither recorded nor told.
func TestReportsThatSayNothingNew(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		for range 50 {
			_, err := w.svc.ReportDeploy(w.ctx, w.token, r.ID, approvals.PhaseStarted, "", "")
			w.must(err)
		}
		if n := w.count(r, approvals.EventDeployReport); n != 1 {
			t.Errorf("got %d events of 50 equal reports; want one", n)
		}
	})
}

// A request that was filed between the look and the call keeps its gate.
func TestGateIsNotTakenFromANewRequest(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.ci.breaks("jobs", &fault{slow: 3 * time.Second, times: 1})
		w.must(w.reject("U01", r))
		_, _, err := w.ask(r.Facts.WorkflowID)
		if err != nil {
			t.Fatal(err) // a rejected request stands for its workflow
		}
		w.wait(time.Minute)
		if got := w.ci.canceled(); len(got) != 1 {
			t.Errorf("got %v; want the gate of the rejected request closed", got)
		}
	})
	t.Run("withdrawn and asked again", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("jobs", &fault{slow: 3 * time.Second, times: 1})
			_, err := w.svc.Withdraw(w.ctx, w.token, r.ID, "")
			w.must(err)
			w.wait(time.Second)
			w.ci.breaks("jobs", nil)
			_, created, err := w.ask(r.Facts.WorkflowID)
			if err != nil || !created {
				t.Fatal(created, err)
			}
			w.wait(time.Minute)
			if got := w.ci.canceled(); len(got) != 0 {
				t.Errorf("got %v; want the gate left to the new request", got)
			}
		})
	})
}

// A note that a hand in the database spoilt costs second looks, no more.
func TestFollowsWithAnyNote(t *testing.T) {
	for _, note := range []string{"null", `{"Trails":null}`, `{"Trails":[]}`, "{"} {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.sql("UPDATE due SET note = '" + note + "' WHERE kind = 'follow'")
			w.must(w.approve("U01", r))
			w.is(r, approvals.Released)
		})
	}
}
