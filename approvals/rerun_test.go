package approvals_test

import (
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// A rerun from failed repeats no job that succeeded, so that its gate may wait
// although nobody asked: the old request's thread says so, once.
func TestNewerWorkflowWaitsUnasked(t *testing.T) {
	for name, tt := range map[string]struct {
		gate    approvals.JobStatus // of the newer workflow
		ask     bool
		another bool // it is no rerun: it has another name
		want    int
	}{
		"unasked":         {"on_hold", false, false, 1},
		"asked":           {"on_hold", true, false, 0},
		"not reached yet": {"blocked", false, false, 0},
		"another one":     {"on_hold", false, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "on_hold")
				w.must(w.reject("U01", r))
				w.wait(time.Minute)
				newer := w.ci.newFlow(2, 1, tt.gate)
				if tt.another {
					w.ci.do(newer, func(f *flow) { f.facts.WorkflowName = "nightly" })
				}
				if tt.ask {
					if _, _, err := w.ask(newer); err != nil {
						w.t.Fatal(err)
					}
				}
				w.wait(20 * time.Minute)
				if got := w.count(r, approvals.EventNewerWorkflow); got != tt.want {
					t.Errorf("got %d remarks on the newer workflow; want %d", got, tt.want)
				}
			})
		})
	}
}

// Each further one is told, once; an answer to one ends nothing.
func TestNewerWorkflowsWaitUnasked(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		r := w.request(1, "on_hold")
		w.must(w.reject("U01", r))
		for n := 2; n <= 3; n++ {
			w.ci.newFlow(n, 1, "on_hold")
			w.wait(15 * time.Minute)
			if got := w.count(r, approvals.EventNewerWorkflow); got != n-1 {
				t.Errorf("got %d remarks after %d newer workflows", got, n-1)
			}
			w.ci.set(workflowID(n), "hold", "canceled")
		}
	})
}

// A token that runs out is announced two weeks and three days before, once each.
func TestTokenExpiryIsAnnounced(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(w *world) {
		_, token, err := approvals.Admin{Store: w.store}.CreateToken(w.ctx, "ci-short", approvals.RoleCICD, nil, 20*24*time.Hour)
		w.must(err)
		warned := func(token approvals.Token) (n int) {
			for _, e := range w.events() {
				if e.Type == approvals.EventTokenExpiring && e.Data["token"] == token.ID {
					n++
				}
			}
			return n
		}
		w.halt()
		pass := func(days int) { w.worker.Pass(w.ctx, time.Duration(days)*24*time.Hour, time.Hour) }
		for _, step := range []struct{ days, want int }{{5, 0}, {2, 1}, {8, 1}, {3, 2}, {1, 2}} {
			pass(step.days)
			if got := warned(token); got != step.want {
				t.Errorf("after %d more days: got %d warnings; want %d", step.days, got, step.want)
			}
		}
		// Of one that was rotated nobody has to know: its successor is there.
		_, old, err := w.admin.CreateToken(w.ctx, "ci-old", approvals.RoleCICD, nil, 20*24*time.Hour)
		w.must(err)
		_, _, _, err = w.admin.RotateToken(w.ctx, "ci-old", 90*24*time.Hour, 19*24*time.Hour)
		w.must(err)
		pass(18)
		if got := warned(old); got != 0 {
			t.Errorf("of a rotated token: got %d warnings; want none", got)
		}
	})
}
