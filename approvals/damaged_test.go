package approvals_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// damage changes a byte of a sealed row.
func (w *world) damage(name string) {
	w.t.Helper()
	w.sql(fmt.Sprintf("UPDATE secrets SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE name = '%s'", name))
	if err := w.opens(name); err == nil {
		w.t.Fatalf("%s opens although it was damaged", name)
	}
}

func (w *world) opens(name string) error {
	return w.db.View(w.ctx, func(tx approvals.Tx) error { _, err := tx.Secret(name); return err })
}

// What the gateway learns anew by itself stops nothing when its row is damaged: it counts
// as not known, and is stored again.
func TestDamagedRowHeals(t *testing.T) {
	for name, c := range map[string]struct {
		restart bool
		stale   approvals.RefusalCode // of an approval at that moment; "" = it is taken
	}{
		"standing/U01":      {},
		"standing/U03":      {}, // who is removed, so that nobody asks about them any more
		"group/S01":         {stale: approvals.RefusedStaleGroup},
		"settings_in_force": {restart: true},
		"team":              {restart: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "APPROVERS=U01,S01", func(w *world) {
				r := w.request(1, "on_hold")
				if name == "standing/U03" {
					w.must(w.admin.RemovePerson(w.ctx, "U03"))
				}
				w.damage(name)
				if people, _, err := w.admin.Access(w.ctx); err != nil || len(people) != 3 {
					t.Errorf("people: got %d, %v; want all three", len(people), err)
				}
				if c.restart {
					w.restart()
					w.must(w.svc.Bind(w.ctx, team))
				}
				if c.stale != "" {
					w.refused(w.approve("U02", r), c.stale)
				}
				w.wait(6 * time.Minute)
				if err := w.opens(name); err != nil && name != "standing/U03" {
					t.Errorf("it was not stored again: %v", err)
				}
				w.must(w.approve("U01", r))
				w.is(r, approvals.Released)
			})
		})
	}
}

// A token is warned of although it cannot be read whether it was before.
func TestDamagedWarningOfAToken(t *testing.T) {
	bubble(t, "", func(w *world) {
		_, token, err := w.admin.CreateToken(w.ctx, "nightly", approvals.RoleCICD, nil, 4*24*time.Hour)
		w.must(err)
		w.wait(30 * time.Hour)
		w.damage("token_warned/" + token.ID)
		w.wait(7 * time.Hour)
		warned := 0
		for _, e := range w.events() {
			if e.Type == approvals.EventTokenExpiring && e.Data["token"] == token.ID {
				warned++
			}
		}
		if warned != 2 {
			t.Errorf("got %d warnings; want one, and one more because nothing says that there was one", warned)
		}
	})
}

// Where the row is damaged that names the channel of the operators, or is gone, a fault is
// kept and told all the same, and commands and the recovery go on. The next start stores
// the channel again.
func TestFaultWithoutTheRowOfTheChannel(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"damaged": func(w *world) { w.damage("channel") },
		"gone":    func(w *world) { w.sql("DELETE FROM secrets WHERE name = 'channel'") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "SUPERSEDE=off", func(w *world) {
				r := w.request(1, "on_hold")
				spoil(w)
				w.must(w.admin.Reset(w.ctx, "U03")) // which is told
				w.sql("UPDATE requests SET body = json_remove(body, '$.Round') WHERE id = '" + r.ID + "'")
				if err := w.approve("U01", r); err == nil {
					t.Fatal("an approval was taken by a row that is not what its events say")
				}
				w.wait(2 * time.Second)
				if fault, err := approvals.LogFault(w.ctx, w.db); fault == "" || fault != w.svc.Fault() || err != nil {
					t.Errorf("got %q, %v; want what was found: %q", fault, err, w.svc.Fault())
				}
				if len(w.alarms) != 1 || w.alarms[0] != w.svc.Fault() {
					t.Errorf("the channel was told %q; want what was found, once", w.alarms)
				}
				w.halt()
				w.must(approvals.Recover(w.ctx, w.db, "lost", "ana@build-1"))
				signer, err := approvals.OpenLog(w.ctx, w.db)
				w.must(err)
				w.cfg.Signer = signer
				w.restart()
				told := len(w.notices)
				w.must(w.admin.Reset(w.ctx, "U02"))
				w.wait(2 * time.Second)
				if got := len(w.notices) - told; got != 2 {
					t.Errorf("%d were told after the start; want the channel and the person", got)
				}
			})
		})
	}
}
