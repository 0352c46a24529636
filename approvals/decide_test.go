package approvals_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

func TestQuorum(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		w.is(r, approvals.Pending)
		w.wait(30 * time.Second)
		w.refused(w.approve("U01", r), approvals.RefusedVoted)
		if len(w.ci.posted()) != 0 {
			w.t.Fatal("posted before the quorum")
		}
		w.must(w.approve("U02", r))
		got := w.is(r, approvals.Released)
		if len(got.Approvals()) != 2 || got.Approvals()[0].NewAuth.IsZero() || len(w.ci.posted()) != 1 || got.Gate.ApprovedBy != "bot" {
			t.Errorf("got %+v", got)
		}
		w.refused(w.approve("U03", r), approvals.RefusedClosed)
		if w.count(r, approvals.EventApproved) != 1 || w.count(r, approvals.EventVoted) != 2 || w.count(r, approvals.EventReleased) != 1 {
			t.Error("want two votes, one decision, one release")
		}
	})
}

// A voter who is removed before the quorum does not count towards it.
func TestQuorumVoterRemovedBefore(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		w.must(w.admin.RemovePerson(w.ctx, "U01"))
		w.must(w.approve("U02", r))
		w.is(r, approvals.Pending)
		w.must(w.approve("U03", r))
		w.is(r, approvals.Released)
	})
}

func TestSettingsThatCountLive(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.cfg.Settings = parse(w.t, "REQUIRED_APPROVALS=2 APPROVERS=U02,U03")
		w.restart()
		w.wait(0)
		w.refused(w.approve("U01", r), approvals.RefusedNotApprover)
		w.must(w.approve("U02", r))
		w.is(r, approvals.Pending)
		w.must(w.approve("U03", r))
		w.is(r, approvals.Released)
	})
}

func TestCodes(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		one, two := w.request(1, "blocked"), w.request(2, "blocked")
		w.must(w.approve("U01", two))
		err := w.approve("U01", one)
		w.refused(err, approvals.RefusedCodeUsed)
		var r *approvals.Refusal
		if errors.As(err, &r); !r.Until.After(time.Now()) || time.Until(r.Until) > time.Minute {
			t.Errorf("the next code comes at %v; it is %v", r.Until, time.Now())
		}
		// An older step, too, and in a new process.
		w.restart()
		err = w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, one.ID, approvals.ActionApprove, "", w.secrets["U01"].At(time.Now().Add(-30*time.Second)))
		w.refused(err, approvals.RefusedCodeUsed)
		err = w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, one.ID, approvals.ActionApprove, "", "12345")
		w.refused(err, approvals.RefusedCodeMalformed)
		w.wait(30 * time.Second)
		text := w.code("U01")
		err = w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, one.ID, approvals.ActionApprove, "", " "+text[:3]+" "+text[3:]+" ")
		w.must(err)
		if got := w.factor("U01").Throttle; got != (totp.Throttle{}) {
			t.Errorf("used and malformed codes were counted: %+v", got)
		}
	})
}

// wrong is a code that is none of the three that would match.
func (w *world) wrong(user string) string {
	right := []string{}
	for d := -30; d <= 30; d += 30 {
		right = append(right, w.secrets[user].At(time.Now().Add(time.Duration(d)*time.Second)))
	}
	for _, c := range []string{"000000", "111111", "222222", "333333"} {
		if !slices.Contains(right, c) {
			return c
		}
	}
	panic("unreachable")
}

func TestThrottle(t *testing.T) {
	bubble(t, "PENDING_TTL=100h", func(w *world) {
		r := w.request(1, "blocked")
		w.halt()
		click := func(code string) error {
			err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove, "", code)
			return err
		}
		refresh := func() { // the worker stands still, so keep Slack's word fresh
			w.write(func(tx approvals.Tx) error {
				return approvals.SetStanding(tx, "U01", func(s *approvals.Standing) { s.CheckedAt = time.Now() })
			})
		}
		var until time.Time
		for i := 1; i <= 20; i++ {
			refresh()
			if !until.IsZero() {
				w.refused(click(w.code("U01")), approvals.RefusedCodeWaiting) // a right code during the pause
				time.Sleep(time.Until(until))
				refresh()
			}
			err := click(w.wrong("U01"))
			var got *approvals.Refusal
			errors.As(err, &got)
			wait := map[int]time.Duration{5: 1, 6: 2, 7: 4, 8: 8, 9: 15}[i] * time.Minute
			if i >= 10 && i < 20 {
				wait = time.Hour
			}
			want := approvals.RefusedCodeWrong
			if wait > 0 {
				want = approvals.RefusedCodeWaiting
			}
			if i == 20 {
				want = approvals.RefusedDisabled
			}
			if got == nil || got.Code != want || wait > 0 && got.Until.Sub(wall()) != wait || i < 5 && got.Left != 5-i {
				w.t.Fatalf("failure %d: got %+v; want %s, pause %v", i, got, want, wait)
			}
			until = got.Until
		}
		w.refused(click(w.code("U01")), approvals.RefusedDisabled)
		if fails, locks := w.count(r, approvals.EventCodeFailed), w.count(r, approvals.EventCodeLocked); fails != 20 || locks != 16 {
			t.Errorf("got %d failures and %d locks recorded; want 20 and 16", fails, locks)
		}
		w.is(r, approvals.Pending)
	})
}

func TestThrottleClears(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "blocked")
		c := approvals.Clicker{Team: team, User: "U01"}
		for range 4 {
			err := w.svc.Decide(w.ctx, c, r.ID, approvals.ActionApprove, "", w.wrong("U01"))
			w.refused(err, approvals.RefusedCodeWrong)
		}
		w.must(w.approve("U01", r))
		if got := w.factor("U01").Throttle; got != (totp.Throttle{}) {
			t.Errorf("a right code must clear the count; got %+v", got)
		}
	})
}

func TestWhoMayDecide(t *testing.T) {
	type setup func(*world, *approvals.Clicker)
	dev := func(w *world, _ *approvals.Clicker) {
		w.must(func() error { _, err := w.admin.AddPerson(w.ctx, "U01", "", "DEV"); return err }())
	}
	direct := func(fn func(approvals.Tx) error) setup {
		return func(w *world, _ *approvals.Clicker) {
			w.halt()
			w.write(fn)
		}
	}
	standing := func(change func(*approvals.Standing)) setup {
		return direct(func(tx approvals.Tx) error { return approvals.SetStanding(tx, "U01", change) })
	}
	noLogin := func(w *world, c *approvals.Clicker) {
		_, err := w.admin.AddPerson(w.ctx, "U04", "", "")
		w.must(err)
		w.secrets["U04"] = totp.NewSecret()
		w.must(w.admin.Enrol(w.ctx, "U04", w.secrets["U04"], "", approvals.EnrolledByImport))
		w.wait(2 * time.Second)
		c.User = "U04"
	}
	for name, c := range map[string]struct {
		settings        string
		setup           setup
		approve, reject approvals.RefusalCode
	}{
		"an admin":             {"", nil, "", ""},
		"another workspace":    {"", func(_ *world, c *approvals.Clicker) { c.Team = "T2" }, "wrong_workspace", "wrong_workspace"},
		"no workspace":         {"", func(_ *world, c *approvals.Clicker) { c.Team = "" }, "wrong_workspace", "wrong_workspace"},
		"nobody":               {"", func(_ *world, c *approvals.Clicker) { c.User = "U99" }, "not_admin", "not_admin"},
		"removed":              {"", func(w *world, _ *approvals.Clicker) { w.must(w.admin.RemovePerson(w.ctx, "U01")) }, "not_admin", "not_admin"},
		"no approver":          {"APPROVERS=U02", nil, "not_approver", "not_approver"},
		"in a group":           {"APPROVERS=S01", func(_ *world, c *approvals.Clicker) { c.User = "U02" }, "", ""},
		"in no group":          {"APPROVERS=S01", nil, "not_approver", "not_approver"},
		"stale group":          {"APPROVERS=S01", direct(func(tx approvals.Tx) error { return approvals.ForgetGroup(tx, "S01") }), "stale_group", "stale_group"},
		"guest":                {"", standing(func(s *approvals.Standing) { s.Problem = "a guest" }), "standing", "standing"},
		"stale":                {"", standing(func(s *approvals.Standing) { s.CheckedAt = wall().Add(-30*time.Minute - time.Second) }), "stale_person", "stale_person"},
		"the starter":          {"", dev, "self_approval", ""},
		"the starter, allowed": {"ALLOW_SELF_APPROVAL=true", dev, "", ""},
		"no login":             {"", noLogin, "no_vcs_login", ""},
		"no login, allowed":    {"ALLOW_SELF_APPROVAL=true", noLogin, "", ""},
		"not enrolled":         {"", func(w *world, _ *approvals.Clicker) { w.must(w.admin.Reset(w.ctx, "U01")) }, "no_authenticator", ""},
		"not enrolled, mfa":    {"MFA_ON_REJECT=true", func(w *world, _ *approvals.Clicker) { w.must(w.admin.Reset(w.ctx, "U01")) }, "no_authenticator", "no_authenticator"},
		"app gone": {"", func(w *world, _ *approvals.Clicker) {
			w.halt()
			w.cfg.Settings = approvals.Settings{}
			w.start()
		}, "app_gone", "app_gone"},
		"on hold": {"", func(w *world, _ *approvals.Clicker) {
			w.cfg.Hold = func() string { return "the clock" }
			w.svc = approvals.New(w.cfg)
		}, "decisions_on_hold", ""},
		"broken seal": {"", direct(func(tx approvals.Tx) error { return approvals.SpoilFactor(tx, "U01") }), "authenticator_unreadable", ""},
	} {
		for _, action := range []approvals.Action{approvals.ActionApprove, approvals.ActionReject} {
			t.Run(name+"/"+string(action), func(t *testing.T) {
				bubble(t, c.settings, func(w *world) {
					r := w.request(1, "blocked")
					clicker := approvals.Clicker{Team: team, User: "U01"}
					if c.setup != nil {
						c.setup(w, &clicker)
					}
					want := map[approvals.Action]approvals.RefusalCode{approvals.ActionApprove: c.approve, approvals.ActionReject: c.reject}[action]
					_, click := w.svc.MayDecide(w.ctx, clicker, r.ID, action)
					if want != "authenticator_unreadable" {
						w.refused(click, want)
					}
					var err error
					if action == approvals.ActionApprove {
						err = w.svc.Decide(w.ctx, clicker, r.ID, approvals.ActionApprove, "", w.code(clicker.User))
					} else {
						err = w.svc.Decide(w.ctx, clicker, r.ID, approvals.ActionReject, "because", w.code(clicker.User))
					}
					w.refused(err, want)
					if want == "" && err != nil {
						t.Errorf("got %v; want it done", err)
					}
					if want != "" {
						w.is(r, approvals.Pending)
					}
				})
			})
		}
	}
}

func TestReject(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2", func(w *world) {
		r := w.request(1, "on_hold")
		for _, reason := range []string{"", "  \n", string(make([]byte, 501))} {
			err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionReject, reason, "")
			w.refused(err, approvals.RefusedReason)
		}
		w.must(w.approve("U02", r))
		w.must(w.reject("U02", r)) // even after an own vote
		got := w.is(r, approvals.Rejected)
		if got.DecidedBy != "U02" || got.ClosedAt.IsZero() || len(got.Decisions) != 2 {
			t.Errorf("got %+v", got)
		}
		w.refused(w.approve("U01", r), approvals.RefusedClosed)
		w.refused(w.reject("U01", r), approvals.RefusedClosed)
		w.wait(time.Minute)
		if w.ci.status(r.Facts.WorkflowID, "hold") != "canceled" || len(w.ci.posted()) != 0 {
			t.Error("want the gate cancelled and nothing posted")
		}
	})
}

// A right code uses its step although the decision came too late.
func TestLateCode(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.reject("U02", r))
		w.refused(w.approve("U01", r), approvals.RefusedClosed)
		if w.factor("U01").LastStep != 0 {
			t.Error("the code of a request that was closed at the click must not be looked at")
		}
	})
}

// The same secret imported again does not make a used code good.
func TestEnrolSameSecretAgain(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		one, two := w.request(1, "blocked"), w.request(2, "blocked")
		w.must(w.approve("U01", two))
		w.must(w.admin.Enrol(w.ctx, "U01", w.secrets["U01"], "", approvals.EnrolledByImport))
		if err := w.approve("U01", one); err == nil {
			t.Error("a code was accepted twice; want it refused")
		}
	})
}

// Two admins approve and one rejects at the same moment, some of them twice:
// one decision, and whoever came too late is told so.
func TestRaceOfDecisions(t *testing.T) {
	for range 20 {
		bubble(t, "", func(w *world) {
			r := w.request(1, "on_hold")
			var wg sync.WaitGroup
			errs := make([]error, 6)
			for i, user := range []string{"U01", "U02", "U03", "U01", "U02", "U03"} {
				wg.Go(func() {
					c := approvals.Clicker{Team: team, User: user}
					if user == "U03" {
						errs[i] = w.svc.Decide(w.ctx, c, r.ID, approvals.ActionReject, "no", "")
					} else {
						errs[i] = w.svc.Decide(w.ctx, c, r.ID, approvals.ActionApprove, "", w.code(user))
					}
				})
			}
			wg.Wait()
			w.wait(time.Second)
			done := 0
			for _, err := range errs {
				if err == nil {
					done++
				} else if c := why(err); c != approvals.RefusedClosed && c != approvals.RefusedCodeUsed {
					t.Errorf("got %v", err)
				}
			}
			got := w.get(r)
			if done != 1 || w.count(r, approvals.EventApproved, approvals.EventRejected) != 1 || len(got.Decisions) != 1 || (got.Status == approvals.Rejected) != (len(w.ci.posted()) == 0) {
				t.Errorf("got %s with %d decisions, %d accepted, %d calls", got.Status, len(got.Decisions), done, len(w.ci.posted()))
			}
			for _, user := range []string{"U01", "U02"} {
				if f := w.factor(user).Throttle.Failures; f != 0 {
					t.Errorf("%s typed nothing wrong, but %d failures are counted", user, f)
				}
			}
		})
	}
}

// Where Slack answers for a few people at a time only, all get their turn.
func TestPeopleAreAskedInTurns(t *testing.T) {
	bubble(t, "", func(w *world) {
		w.dir.set(true)
		w.wait(31 * time.Minute)
		r := w.request(1, "on_hold")
		w.refused(w.approve("U03", r), approvals.RefusedStalePerson)
		w.dir.set(false)
		for range 3 {
			w.dir.mu.Lock()
			w.dir.limited, w.dir.left = true, 1
			w.dir.mu.Unlock()
			w.wait(30 * time.Second)
		}
		w.must(w.approve("U03", r))
	})
}

// So do more people than Slack answers for within the time for which an answer is fresh.
func TestManyPeopleAreAskedInTurns(t *testing.T) {
	bubble(t, "PENDING_TTL=3h", func(w *world) {
		last := ""
		for i := range 12 {
			last = fmt.Sprintf("U1%02d", i)
			_, err := w.admin.AddPerson(w.ctx, last, "", "login-"+last)
			w.must(err)
		}
		w.wait(6 * time.Minute)
		w.dir.set(true)
		w.wait(31 * time.Minute)
		w.dir.set(false)
		for range 25 {
			w.dir.mu.Lock()
			w.dir.limited, w.dir.left = true, 1
			w.dir.mu.Unlock()
			w.wait(20 * time.Second)
		}
		p, _, err := w.svc.Person(w.ctx, last)
		w.must(err)
		if age := wall().Sub(p.Standing.CheckedAt); age > 15*time.Minute {
			t.Errorf("Slack was last asked about %s %s ago; want that everybody had their turn", last, age)
		}
	})
}
