package approvals_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func TestDeployOutcome(t *testing.T) {
	for _, c := range []struct {
		status approvals.JobStatus
		want   approvals.Status
	}{{"success", approvals.Deployed}, {"failed", approvals.DeployFailed}, {"unauthorized", approvals.DeployFailed}, {"hibernating", approvals.Released}} {
		bubble(t, "", func(w *world) {
			r := w.approved(1, "on_hold")
			w.ci.set(r.Facts.WorkflowID, "deploy", c.status)
			w.wait(20 * time.Second)
			got := w.is(r, c.want)
			if got.ClosedAt.IsZero() != (c.want == approvals.Released) || got.Deploy.FinishedAt.IsZero() != (c.want == approvals.Released) {
				t.Errorf("%s: got %+v", c.status, got.Deploy)
			}
		})
	}
	t.Run("no job behind it", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.jobs = f.jobs[:2] })
			w.must(w.approve("U01", r))
			w.wait(time.Hour)
			w.is(r, approvals.Released)
		})
	})
}

func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		settings string
		setup    func(*world) approvals.Request
		commit   string
		want     approvals.Code
	}{
		"pending":        {"", func(w *world) approvals.Request { return w.request(1, "on_hold") }, "", approvals.CodeNotApproved},
		"no attempt yet": {"", func(w *world) approvals.Request { return w.approved(1, "blocked") }, "", approvals.CodeNotApproved},
		"not automatic":  {"CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) approvals.Request { return w.approved(1, "on_hold") }, "", ""},
		"released":       {"", func(w *world) approvals.Request { return w.approved(1, "on_hold") }, "", ""},
		"short commit":   {"", func(w *world) approvals.Request { return w.approved(1, "on_hold") }, "0000000", ""},
		"another commit": {"", func(w *world) approvals.Request { return w.approved(1, "on_hold") }, "fffffff", approvals.CodeCommitNotApproved},
		"after the window": {"", func(w *world) approvals.Request {
			r := w.approved(1, "on_hold")
			w.wait(15*time.Minute + time.Second)
			return r
		}, "", approvals.CodeApprovalExpired},
		"inside the window":  {"", func(w *world) approvals.Request { r := w.approved(1, "on_hold"); w.wait(14 * time.Minute); return r }, "", ""},
		"attempt under way":  {"", func(w *world) approvals.Request { w.ci.lag = 9 * time.Second; return w.approved(1, "on_hold") }, "", ""},
		"rejected":           {"", func(w *world) approvals.Request { r := w.request(1, "on_hold"); w.must(w.reject("U01", r)); return r }, "", approvals.CodeNotApproved},
		"expired, approved":  {"CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) approvals.Request { r := w.approved(1, "on_hold"); w.wait(16 * time.Minute); return r }, "", approvals.CodeApprovalExpired},
		"expired, undecided": {"PENDING_TTL=1m", func(w *world) approvals.Request { r := w.request(1, "on_hold"); w.wait(61 * time.Second); return r }, "", approvals.CodeNotApproved},
		"deployed": {"", func(w *world) approvals.Request {
			r := w.approved(1, "on_hold")
			w.ci.set(r.Facts.WorkflowID, "deploy", "success")
			w.wait(20 * time.Second)
			w.is(r, approvals.Deployed)
			return r
		}, "", ""},
		"bypassed": {"", func(w *world) approvals.Request {
			r := w.request(1, "on_hold")
			w.ci.humanApproves(r.Facts.WorkflowID)
			w.wait(20 * time.Second)
			return r
		}, "", approvals.CodeNotApproved},
		"another workflow": {"", func(w *world) approvals.Request {
			r := w.approved(1, "on_hold")
			r.Facts.WorkflowID = workflowID(2)
			return r
		}, "", approvals.CodeNotApproved},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.settings, func(w *world) {
				r := c.setup(w)
				commit := c.commit
				if commit == "" {
					commit = r.Facts.Revision
				}
				got, err := w.svc.Verify(context.Background(), w.token, approvals.NewRequest{App: "shop", GitCommit: commit, WorkflowID: r.Facts.WorkflowID})
				w.fails(err, c.want)
				if c.want != "" {
					return
				}
				w.must(err)
				w.must(got.Receipt.Verify(w.svc.VerifierKey()))
				if e, err := approvals.ParseEvent([]byte(got.Receipt.Leaf)); err != nil || e.Type != approvals.EventApproved || e.Request != r.ID {
					t.Errorf("the receipt is for %+v, %v", e, err)
				}
			})
		})
	}
}

// The deploy job is told the end of the window that really counts, before the follower
// has seen the gate opened, too.
func TestVerifyInALateWindow(t *testing.T) {
	verify := func(w *world, r approvals.Request, want approvals.Code) {
		w.t.Helper()
		got, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: r.App, GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
		w.fails(err, want)
		if want == "" && !time.Now().Before(got.Request.ApprovalExpiresAt()) {
			w.t.Fatalf("a yes that could be used until %s only", got.Request.ApprovalExpiresAt())
		}
	}
	t.Run("a gate that was reached late", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
			r := w.approved(1, "blocked")
			w.wait(25 * time.Minute)
			w.ci.hold(r.Facts.WorkflowID)
			w.wait(20 * time.Second)
			if left := time.Until(w.get(r).ApprovalExpiresAt()); left < 14*time.Minute || left > 15*time.Minute {
				t.Errorf("the approval can be used for %v; want the whole window", left)
			}
			w.wait(2*time.Minute + 2*time.Second)
			w.ci.humanApproves(r.Facts.WorkflowID)
			verify(w, r, "")
			w.is(r, approvals.Approved)
			w.wait(20 * time.Second)
			w.is(r, approvals.Released)
			verify(w, r, "")
		})
	})
	t.Run("reached and opened between two looks", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
			r := w.approved(1, "blocked")
			w.wait(25 * time.Minute)
			w.ci.hold(r.Facts.WorkflowID)
			w.ci.humanApproves(r.Facts.WorkflowID)
			verify(w, r, approvals.CodeUnavailable)
			w.wait(20 * time.Second)
			w.is(r, approvals.Released)
			verify(w, r, "")
		})
	})
	t.Run("reached and opened while nobody looked", func(t *testing.T) {
		bubble(t, "CIRCLECI_AUTO_APPROVE_ON_APPROVAL=false", func(w *world) {
			r := w.approved(1, "blocked")
			w.wait(25 * time.Minute)
			w.halt()
			time.Sleep(20 * time.Minute)
			w.ci.hold(r.Facts.WorkflowID)
			w.ci.humanApproves(r.Facts.WorkflowID)
			verify(w, r, approvals.CodeUnavailable)
			w.restart()
			w.wait(20 * time.Second)
			w.is(r, approvals.Bypassed)
		})
	})
	t.Run("our call at the end of the window, and no look since", func(t *testing.T) {
		bubble(t, "DEPLOY_APPROVAL_WINDOW_MINUTES=1", func(w *world) {
			r := w.request(1, "on_hold")
			w.ci.breaks("facts", &fault{status: 503, times: -1})
			w.ci.onPost = func(string, string) { w.ci.breaks("jobs", &fault{status: 503, times: -1}) }
			w.must(w.approve("U01", r))
			w.wait(50 * time.Second)
			w.ci.breaks("facts", nil)
			w.wait(20 * time.Second)
			verify(w, r, "")
			w.wait(50 * time.Second)
			verify(w, r, approvals.CodeApprovalExpired)
			w.is(r, approvals.Approved)
			w.ci.breaks("jobs", nil)
			w.wait(20 * time.Second)
			w.is(r, approvals.Released)
			verify(w, r, "")
		})
	})
}

// A call of an earlier round that takes effect late releases the request while people
// vote again: its deploy job has the window of that decision.
func TestVerifyAfterALateReleaseInARetry(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2 DEPLOY_APPROVAL_WINDOW_MINUTES=2 ON_CLOSE=nothing", func(w *world) {
		r := w.request(1, "on_hold")
		w.ci.lag = 8 * time.Minute
		w.must(w.approve("U01", r))
		w.must(w.approve("U02", r))
		w.wait(7 * time.Minute)
		w.is(r, approvals.Expired, approvals.FailWindowOver)
		w.must(w.approve("U01", r))
		w.is(r, approvals.Pending)
		w.wait(2 * time.Minute)
		if got := w.is(r, approvals.Released); got.ApprovalExpiresAt() != got.ReleasedAt.Add(2*time.Minute) {
			t.Errorf("released at %s, usable until %s; want 2 minutes", got.ReleasedAt, got.ApprovalExpiresAt())
		}
		_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: r.App, GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
		w.must(err)
	})
}

// A yes is an event, once for each round, and says who asked.
func TestPassedVerifyIsRecordedOnce(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.approved(1, "on_hold")
		for range 3 {
			_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision[:8], WorkflowID: r.Facts.WorkflowID})
			w.must(err)
		}
		if n := w.count(r, approvals.EventVerified); n != 1 {
			t.Errorf("got %d events; want one", n)
		}
		events, err := w.svc.History(w.ctx, w.token, r.ID)
		w.must(err)
		last := events[len(events)-1]
		if last.Type != approvals.EventVerified || last.Actor.ID != w.token.ID || last.Data["commit"] != r.Facts.Revision || last.Data["workflow_id"] != r.Facts.WorkflowID {
			t.Errorf("the newest event is %+v; want the yes to %s", last, w.token.Name)
		}
	})
}

// Who is told not to deploy appears in the log and in the thread, once for each
// reason, however often the job asks.
func TestRefusedVerifyIsTold(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		ask := func(commit, workflow string) {
			t.Helper()
			_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: commit, WorkflowID: workflow})
			if err == nil {
				t.Fatal("verify passed; want it refused")
			}
			w.wait(0)
		}
		w.ci.humanApproves(r.Facts.WorkflowID)
		for range 3 {
			ask(r.Facts.Revision, r.Facts.WorkflowID)
		}
		ask("fffffff", r.Facts.WorkflowID)
		r = w.is(r, approvals.Bypassed) // it was looked at, long before the next poll
		if r.Deploy.Stopped.IsZero() {
			t.Error("the request does not say that its deploy was stopped")
		}
		w.wait(10 * time.Minute)
		ask(r.Facts.Revision, r.Facts.WorkflowID)

		events, err := w.svc.History(w.ctx, w.token, r.ID)
		w.must(err)
		var got []string
		for _, e := range events {
			if e.Type == approvals.EventVerifyRefused {
				got = append(got, e.Reason+" "+e.Outcome+" "+e.Data["count"])
			}
		}
		want := []string{"not_approved pending ", "commit_not_approved bypassed ", "not_approved bypassed 3"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if told := w.toldOf(approvals.EventVerifyRefused); told != 2 {
			t.Errorf("the thread tells %d refusals; want one of each reason", told)
		}
		for n := 8; n <= 9; n++ { // each that has no request
			ask("fffffff", workflowID(n))
			last := w.events()[len(w.events())-1]
			if last.Type != approvals.EventVerifyRefused || last.Request != "" || last.Data["workflow_id"] != workflowID(n) {
				t.Errorf("the newest event is %+v; want the refusal without a request", last)
			}
		}
		size := len(w.events())
		if ask("fffffff", workflowID(9)); len(w.events()) != size {
			t.Error("a refusal is recorded twice")
		}
	})
}

// A log that does not continue what was signed before is not signed, not in a
// receipt either.
func TestVerifyDoesNotSignABrokenLog(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.approved(1, "on_hold")
		w.cfg.Rolled = "the log is behind its anchor"
		w.restart()
		if _, err := w.svc.Checkpoint(w.ctx, 0); code(err) != approvals.CodeUnavailable {
			t.Errorf("checkpoint: got %v; want it refused", err)
		}
		_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
		if code(err) != approvals.CodeUnavailable {
			t.Errorf("verify: got %v; want it refused: the receipt holds a signed checkpoint", err)
		}
	})
}

// Who opened a gate past the bot is named, and that nobody approved is said only
// where it is true.
func TestVerifySaysWhoOpenedTheGate(t *testing.T) {
	for name, tt := range map[string]struct {
		request func(*world) approvals.Request
		want    string
	}{
		"nobody approved":          {func(w *world) approvals.Request { return w.request(1, "on_hold") }, "nobody approved request #1 here; its gate was opened in CircleCI by eve"},
		"approved, not yet opened": {func(w *world) approvals.Request { return w.approved(1, "blocked") }, "request #1 was approved here, but its gate was opened in CircleCI by eve"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := tt.request(w)
				w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.open(f.job("hold"), "user-eve") })
				w.wait(20 * time.Second)
				w.is(r, approvals.Bypassed)
				_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: r.App, GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
				if err == nil || code(err) != approvals.CodeNotApproved || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v; want %q", err, tt.want)
				}
			})
		})
	}
}

func TestReportDeploy(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		report := func(phase approvals.Phase) error {
			_, err := w.svc.ReportDeploy(w.ctx, w.token, r.ID, phase, "detail", "")
			w.wait(0)
			return err
		}
		w.fails(report("started"), approvals.CodeNotApproved)
		w.must(w.approve("U01", r))
		w.fails(report("done"), approvals.CodeInvalid)
		w.must(report("started"))
		w.must(report("succeeded"))
		if got := w.is(r, approvals.Released); got.Deploy.Phase != approvals.PhaseSucceeded || got.Deploy.FinishedAt.IsZero() || w.count(r, approvals.EventDeployReport) != 2 {
			t.Errorf("got %+v; want what was reported, and a report must not decide the outcome", got.Deploy)
		}
		w.must(report("started"))
		if got := w.is(r, approvals.Released); got.Deploy.Phase != approvals.PhaseStarted || got.Deploy.StartedAt.IsZero() || !got.Deploy.FinishedAt.IsZero() {
			t.Errorf("got %+v; want a deploy that runs again", got.Deploy)
		}
		w.must(report("succeeded"))
		w.ci.set(r.Facts.WorkflowID, "deploy", "failed")
		w.wait(20 * time.Second)
		w.is(r, approvals.DeployFailed)
		w.must(report("succeeded"))
		if got := w.is(r, approvals.DeployFailed); got.Deploy.Phase != "failed" {
			t.Errorf("got %+v; a late report must not change the outcome", got.Deploy)
		}
	})
}

// A report that was sent again is one report. Two deploy jobs behind one gate make two.
func TestReportsOfTwoDeployJobs(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		for want, job := range []string{"", "11111111-2222-4333-8444-555555555555", "AAAAAAAA-2222-4333-8444-555555555555"} {
			for range 2 {
				_, err := w.svc.ReportDeploy(w.ctx, w.token, r.ID, approvals.PhaseStarted, "", job)
				w.must(err)
			}
			if got := w.count(r, approvals.EventDeployReport); got != want+1 {
				t.Errorf("job %q: got %d reports in all; want %d", job, got, want+1)
			}
		}
	})
}

// A refusal that the database did not take is recorded, and told, when it happens again.
func TestRefusalIsRecordedOnceItCan(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.halt()
		refused := func() {
			_, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: r.App, GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
			if code(err) != approvals.CodeNotApproved {
				t.Errorf("verify: got %v; want a no", err)
			}
			why := &approvals.Refusal{Code: approvals.RefusedNotAdmin}
			err = w.svc.ClickRefused(w.ctx, approvals.Clicker{Team: team, User: "U66"}, r.ID, approvals.ActionApprove, why)
			if (err != nil) != (w.store.crash != nil) {
				t.Errorf("record a click: got %v", err)
			}
		}
		w.store.crash = func() (before, after bool) { return true, false }
		refused()
		w.store.crash = nil
		refused()
		refused()
		w.run()
		w.wait(time.Second)
		for _, kind := range []approvals.EventType{approvals.EventVerifyRefused, approvals.EventClickRefused} {
			if told := w.toldOf(kind); told != 1 {
				t.Errorf("the thread tells %d lines of %s; want 1", told, kind)
			}
		}
	})
}
