package approvals_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// The bubble's clock begins on Saturday 2000-01-01 at 00:00 UTC.
func TestFreezeForbidsApproving(t *testing.T) {
	bubble(t, "SUPERSEDE=off FREEZE=Sat~00:05-Sat~00:30~UTC", func(w *world) {
		early, late, rejected := w.request(1, "on_hold"), w.request(2, "blocked"), w.request(3, "on_hold")
		if got := w.card(early).Frozen; got != "" {
			t.Errorf("before the freeze the card says that approving is frozen until %q", got)
		}
		// What was decided before the freeze is released in it.
		w.must(w.approve("U01", late))
		w.wait(6 * time.Minute)
		if got := w.card(early).Frozen; got != "Sat 00:30 (UTC)" {
			t.Errorf("in the freeze the card says %q", got)
		}
		w.ci.hold(late.Facts.WorkflowID)
		w.wait(time.Minute)
		w.is(late, approvals.Released)

		_, err := w.svc.MayDecide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, early.ID, approvals.ActionApprove)
		w.refused(err, approvals.RefusedFrozen)
		var why *approvals.Refusal
		if errors.As(err, &why); why.Detail != "Sat 00:30 (UTC)" {
			t.Errorf("the refusal says until %q", why.Detail)
		}
		w.refused(w.approve("U01", early), approvals.RefusedFrozen)
		w.must(w.reject("U02", rejected))
		w.is(rejected, approvals.Rejected)
		w.wait(24 * time.Minute)
		if got := w.card(early).Frozen; got != "" {
			t.Errorf("after the freeze the card says that approving is frozen until %q", got)
		}
		w.must(w.approve("U01", early))
		w.is(early, approvals.Released)
	})
}

// A freeze that begins between the click and the submission counts, and a code
// that was typed is not used up by it.
func TestFreezeAtSubmit(t *testing.T) {
	bubble(t, "FREEZE=Sat~00:05-Sat~00:30~UTC", func(w *world) {
		r := w.request(1, "on_hold")
		w.wait(4 * time.Minute)
		who := approvals.Clicker{Team: team, User: "U01"}
		_, err := w.svc.MayDecide(w.ctx, who, r.ID, approvals.ActionApprove)
		w.must(err)
		w.wait(time.Minute)
		before := w.factor("U01")
		w.refused(w.approve("U01", r), approvals.RefusedFrozen)
		if after := w.factor("U01"); after.LastStep != before.LastStep || after.Throttle != before.Throttle {
			t.Error("a code that was refused for the freeze was looked at")
		}
	})
}

// Votes from before the freeze that count again in it decide when it is over.
func TestFreezeHoldsBackTheQuorum(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2 FREEZE=Sat~00:05-Sat~01:00~UTC", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.approve("U01", r))
		w.must(w.admin.Reset(w.ctx, "U01"))
		w.must(w.approve("U02", r))
		w.is(r, approvals.Pending)
		w.wait(10 * time.Minute)
		w.must(w.admin.Enrol(w.ctx, "U01", w.secrets["U01"], "", approvals.EnrolledByImport))
		w.wait(time.Minute)
		w.is(r, approvals.Pending)
		w.wait(time.Hour)
		w.is(r, approvals.Released)
	})
}

const outage = "the site is down, INC-7"

func (w *world) breakGlass(user string, r approvals.Request) error {
	err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionBreakGlass, outage, w.code(user))
	w.wait(0)
	return err
}

// One person of break_glass releases alone: with two approvals wanted, in a freeze,
// and their own deploy.
func TestBreakGlass(t *testing.T) {
	bubble(t, "REQUIRED_APPROVALS=2 BREAK_GLASS=U01 FREEZE=Sat~00:00-Sun~00:00~UTC APPROVERS=U02,U03", func(w *world) {
		id := w.ci.newFlow(1, 1, "on_hold")
		w.ci.do(id, func(f *flow) { f.facts.Actor = "login-U01" })
		r, _, err := w.ask(id)
		w.must(err)
		w.wait(0)
		if !w.card(r).BreakGlass {
			t.Error("the card does not offer the emergency release")
		}
		w.refused(w.approve("U01", r), approvals.RefusedNotApprover)
		w.must(w.breakGlass("U01", r))
		got := w.is(r, approvals.Released)
		d, ok := got.Emergency()
		if !ok || d.SlackUser != "U01" || d.Reason != outage || d.MFA != "totp" || d.NewAuth.IsZero() || len(got.Approvals()) != 0 || len(w.ci.posted()) != 1 {
			t.Errorf("got %+v, %d calls", got.Decisions, len(w.ci.posted()))
		}
		events := slices.DeleteFunc(w.events(), func(e approvals.Event) bool { return e.Type != approvals.EventBreakGlass })
		if len(events) != 1 || events[0].Actor.ID != "U01" || events[0].Data["self_approval"] != "true" || events[0].Data["frozen"] == "" || !slices.Equal(events[0].People, []string{"U01"}) {
			t.Errorf("got %+v", events)
		}
		if w.count(r, approvals.EventApproved, approvals.EventVoted) != 0 {
			t.Error("an emergency release is told as a vote")
		}
		if !slices.Contains(w.notices, approvals.EventBreakGlass) {
			t.Error("the channel was not told")
		}
		v, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: got.Facts.Revision, WorkflowID: id})
		w.must(err)
		if e, err := approvals.ParseEvent([]byte(v.Receipt.Leaf)); err != nil || e.Type != approvals.EventBreakGlass {
			t.Errorf("the receipt proves %s, %v", e.Type, err)
		}
	})
}

// What is none of the three actions decides nothing, least of all an emergency release.
func TestUnknownAction(t *testing.T) {
	bubble(t, "BREAK_GLASS=U01", func(w *world) {
		r := w.request(1, "on_hold")
		for _, action := range []approvals.Action{"", "approve ", "retry"} {
			if err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, action, outage, w.code("U01")); err == nil {
				t.Errorf("%q: got no error", action)
			}
		}
		w.wait(time.Minute)
		w.is(r, approvals.Pending)
	})
}

// All but the quorum, the freeze and the rule about one's own deploy holds.
func TestBreakGlassRefused(t *testing.T) {
	bubble(t, "SUPERSEDE=off BREAK_GLASS=U01,U04 ALLOW_SELF_APPROVAL=true", func(w *world) {
		r, other := w.request(1, "on_hold"), w.request(2, "blocked")
		do := func(user, reason, code string) error {
			err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionBreakGlass, reason, code)
			return err
		}
		may := func(user string) error {
			_, err := w.svc.MayDecide(w.ctx, approvals.Clicker{Team: team, User: user}, r.ID, approvals.ActionBreakGlass)
			return err
		}
		w.refused(may("U02"), approvals.RefusedNotBreakGlass)
		w.refused(do("U02", outage, w.code("U02")), approvals.RefusedNotBreakGlass)
		w.refused(may("U04"), approvals.RefusedNotAdmin) // in the setting, but no admin
		w.refused(do("U01", "short", w.code("U01")), approvals.RefusedReason)
		w.refused(do("U01", strings.Repeat("x", 501), w.code("U01")), approvals.RefusedReason)
		w.refused(do("U01", outage, ""), approvals.RefusedCodeMalformed)
		w.refused(do("U01", outage, w.wrong("U01")), approvals.RefusedCodeWrong)
		if got := w.factor("U01").Throttle.Failures; got != 1 {
			t.Errorf("a wrong code counts as %d failures; want 1", got)
		}
		code := w.code("U01")
		err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, other.ID, approvals.ActionApprove, "", code)
		w.must(err)
		w.refused(do("U01", outage, code), approvals.RefusedCodeUsed)
		w.wait(30 * time.Second)
		w.must(w.admin.Reset(w.ctx, "U01"))
		w.refused(may("U01"), approvals.RefusedNoAuthenticator)
		w.must(w.admin.RemovePerson(w.ctx, "U01"))
		w.refused(do("U01", outage, w.code("U01")), approvals.RefusedNotAdmin)
		got := w.is(r, approvals.Pending)
		if len(got.Decisions) != 0 || w.count(r, approvals.EventBreakGlass) != 0 {
			t.Errorf("got %+v", got.Decisions)
		}
	})
}

// An app without the setting has no emergency release.
func TestBreakGlassOff(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		if w.card(r).BreakGlass {
			t.Error("the card offers an emergency release that nobody may make")
		}
		w.refused(w.breakGlass("U01", r), approvals.RefusedNotBreakGlass)
	})
}

// Whoever is removed, or taken out of break_glass, between the decision and the
// call opens no gate; nor does an emergency release that CircleCI's facts belie.
func TestBreakGlassIsJudgedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, approvals.Request)
		want   approvals.Status
		why    string
	}{
		"removed": {func(w *world, _ approvals.Request) { w.must(w.admin.RemovePerson(w.ctx, "U01")) }, approvals.Undeliverable, approvals.FailQuorumLost},
		"reset":   {func(w *world, _ approvals.Request) { w.must(w.admin.Reset(w.ctx, "U01")) }, approvals.Undeliverable, approvals.FailQuorumLost},
		"setting": {func(w *world, _ approvals.Request) { w.cfg.Settings = parse(w.t, "BREAK_GLASS=U02"); w.restart() }, approvals.Undeliverable, approvals.FailQuorumLost},
		"other facts": {func(w *world, r approvals.Request) {
			w.ci.do(r.Facts.WorkflowID, func(f *flow) { f.facts.Revision = strings.Repeat("b", 40) })
		}, approvals.Canceled, approvals.FailFactsChanged},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "BREAK_GLASS=U01", func(w *world) {
				r := w.request(1, "blocked")
				w.must(w.breakGlass("U01", r))
				w.is(r, approvals.Approved)
				c.change(w, r)
				w.ci.hold(r.Facts.WorkflowID)
				w.wait(time.Minute)
				w.is(r, c.want, c.why)
				if n := len(w.ci.posted()); n != 0 {
					t.Errorf("got %d approve calls; want none", n)
				}
			})
		})
	}
}

// An emergency release that could not be delivered leaves no right behind: the
// next round begins afresh, and may be another emergency release.
func TestBreakGlassRetry(t *testing.T) {
	bubble(t, "BREAK_GLASS=U01 REQUIRED_APPROVALS=2", func(w *world) {
		w.ci.breaks("approve", &fault{status: 403, times: 1})
		r := w.request(1, "on_hold")
		w.must(w.breakGlass("U01", r))
		w.wait(time.Minute)
		w.is(r, approvals.Undeliverable)
		w.must(w.approve("U02", r))
		if got := w.is(r, approvals.Pending); len(got.Decisions) != 1 {
			t.Errorf("round 2 begins with %+v", got.Decisions)
		}
		w.must(w.breakGlass("U01", r))
		w.wait(time.Second)
		got := w.is(r, approvals.Released)
		if d, ok := got.Emergency(); !ok || d.SlackUser != "U01" || got.Round != 2 {
			t.Errorf("got %+v", got.Decisions)
		}
	})
}

// reminders are the reminders in the log.
func (w *world) reminders() []approvals.Event {
	return slices.DeleteFunc(w.events(), func(e approvals.Event) bool { return e.Type != approvals.EventReminded })
}

// toldOf is how often the thread tells an event of a kind.
func (w *world) toldOf(kind approvals.EventType) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.told {
		if t == kind {
			n++
		}
	}
	return n
}

func TestReminder(t *testing.T) {
	bubble(t, "REMIND_AFTER=30m REQUIRED_APPROVALS=2 APPROVERS=U01,U02,U03,U04", func(w *world) {
		id := w.ci.newFlow(1, 1, "on_hold")
		w.ci.do(id, func(f *flow) { f.facts.Actor = "login-U03" })
		r, _, err := w.ask(id)
		w.must(err)
		w.wait(0)
		w.must(w.approve("U01", r))
		w.wait(29 * time.Minute)
		if got := w.reminders(); len(got) != 0 {
			t.Fatalf("reminded too early: %+v", got)
		}
		w.wait(2 * time.Minute)
		got := w.reminders()
		// U01 voted, U03 started it, U04 is nobody on record.
		if len(got) != 1 || !slices.Equal(got[0].People, []string{"U02"}) || got[0].Data["votes"] != "1" || got[0].Data["needed"] != "2" || w.toldOf(approvals.EventReminded) != 1 {
			t.Fatalf("got %+v, told %d times", got, w.toldOf(approvals.EventReminded))
		}
		w.restart()
		w.wait(time.Hour)
		if len(w.reminders()) != 1 || w.toldOf(approvals.EventReminded) != 1 {
			t.Error("reminded again")
		}
	})
}

// Nobody is reminded of what is decided, nor during a freeze, nor when a crash lets
// it begin anew; and where nobody can approve, the thread says so.
func TestReminderThatDoesNotCome(t *testing.T) {
	for name, c := range map[string]struct {
		settings string
		before   func(*world, approvals.Request)
		want     int
	}{
		"off":      {"", func(*world, approvals.Request) {}, 0},
		"decided":  {"REMIND_AFTER=5m", func(w *world, r approvals.Request) { w.must(w.approve("U01", r)) }, 0},
		"rejected": {"REMIND_AFTER=5m", func(w *world, r approvals.Request) { w.must(w.reject("U01", r)) }, 0},
		"frozen":   {"REMIND_AFTER=5m FREEZE=Sat~00:01-Sat~12:00~UTC", func(*world, approvals.Request) {}, 0},
		"unknown":  {"REMIND_AFTER=40m", func(w *world, _ approvals.Request) { w.dir.set(true); w.wait(31 * time.Minute) }, 0},
		"nobody":   {"REMIND_AFTER=5m APPROVERS=U09", func(*world, approvals.Request) {}, 1},
		"crash": {"REMIND_AFTER=5m", func(w *world, _ approvals.Request) {
			w.halt()
			n := 0
			w.store.crash = func() (bool, bool) { n++; return false, n > 1 } // after each commit but the first
			time.Sleep(6 * time.Minute)
			w.worker.Drain(w.ctx)
			w.store.crash = nil
			w.restart()
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.settings, func(w *world) {
				r := w.request(1, "blocked")
				c.before(w, r)
				w.wait(20 * time.Minute)
				if got := w.reminders(); len(got) != c.want || w.toldOf(approvals.EventReminded) != c.want {
					t.Errorf("got %d reminders %+v; want %d", len(got), got, c.want)
				}
			})
		})
	}
}

// A reminder that Slack could not take in time is not told after the decision, nor
// below a new card.
func TestReminderThatIsLate(t *testing.T) {
	bubble(t, "REMIND_AFTER=5m", func(w *world) {
		r := w.request(1, "blocked")
		w.halt()
		w.must(w.svc.Happen(w.ctx, r.ID, approvals.Event{Type: approvals.EventReminded, People: []string{"U01"}}))
		lines := func() (n int) {
			thread, err := w.svc.Untold(w.ctx, r.ID)
			w.must(err)
			for _, l := range thread.Lines {
				if l.Event.Type == approvals.EventReminded {
					n++
				}
			}
			return n
		}
		if lines() != 1 {
			t.Fatal("a reminder that is due is not told")
		}
		err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove, "", w.code("U01"))
		w.must(err)
		if lines() != 0 {
			t.Error("people are reminded of what is decided")
		}
	})
}
