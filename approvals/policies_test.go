package approvals_test

import (
	"errors"
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
