package approvals_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
)

// sql changes the database as somebody does who has the file but not the keys.
func (w *world) sql(statements ...string) {
	w.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+w.db.Path()+"?_busy_timeout=5000")
	w.must(err)
	defer db.Close()
	for _, s := range append([]string{
		"DROP TRIGGER IF EXISTS audit_no_update", "DROP TRIGGER IF EXISTS audit_no_delete",
		"DROP TRIGGER IF EXISTS audit_hashes_no_update", "DROP TRIGGER IF EXISTS audit_hashes_no_delete",
		"DROP TRIGGER IF EXISTS audit_index_no_update", "DROP TRIGGER IF EXISTS audit_index_no_delete",
	}, statements...) {
		if _, err := db.Exec(s); err != nil {
			w.t.Fatalf("%s: %v", s, err)
		}
	}
}

// forge appends an event with the right hashes, which needs no keys.
func forge(tx approvals.Tx, r approvals.Request, e approvals.Event) error {
	e.Version, e.Request, e.App, e.Environment = 1, r.ID, r.App, r.Environment
	e.Time = tx.Now().Format("2006-01-02T15:04:05.000Z")
	seq, err := ledgertest.Append(tx.Ledger(), func(seq int64, prev tlog.Hash) ([]byte, error) {
		e.Seq, e.Prev = seq, prev.String()
		return json.Marshal(e)
	})
	if err != nil {
		return err
	}
	return tx.Index(seq, r.ID)
}

// approvedRow is the row of a request as if somebody had approved it.
func approvedRow(tx approvals.Tx, id string) error {
	r, err := tx.Request(id)
	if err != nil {
		return err
	}
	r.Status, r.ApprovedAt, r.Window = approvals.Approved, tx.Now(), 24*time.Hour
	r.Decisions = []approvals.Decision{{Action: approvals.ActionApprove, SlackUser: "U01", Seq: r.Seq + 1, At: tx.Now(), MFA: "totp"}}
	if err := tx.SaveRequest(&r); err != nil {
		return err
	}
	return tx.Ask(approvals.Work{Kind: approvals.WorkFollow, Subject: r.Facts.WorkflowID, Lane: "circleci:workflows"})
}

// forgeDecision writes a decision into the log, with the right hashes, and the row that
// follows from it.
func (w *world) forgeDecision(r approvals.Request) {
	w.write(func(tx approvals.Tx) error {
		for _, e := range []approvals.Event{
			{Type: approvals.EventVoted, Actor: approvals.Actor{Kind: "person", ID: "U01"}, MFA: "totp", Data: approvals.Data{"round": "1"}},
			{Type: approvals.EventApproved, Actor: approvals.Actor{Kind: "system"}, People: []string{"U01"}, Data: approvals.Data{"round": "1", "window_seconds": "86400"}},
		} {
			if err := forge(tx, r, e); err != nil {
				return err
			}
		}
		return approvedRow(tx, r.ID)
	})
}

// Whoever can write the database but has no keys releases nothing, gets no yes
// and no signature. The channel is told, and a restart does not end that.
func TestForgedDatabase(t *testing.T) {
	for name, c := range map[string]struct {
		forge func(w *world, r approvals.Request)
		quiet bool // it gives nothing, but it is not found out by itself
	}{
		"a decision in the log, with the right hashes": {forge: func(w *world, r approvals.Request) {
			w.forgeDecision(r)
		}},
		"a row that is approved": {forge: func(w *world, r approvals.Request) {
			w.write(func(tx approvals.Tx) error { return approvedRow(tx, r.ID) })
		}},
		"a row that leaves something out": {forge: func(w *world, r approvals.Request) {
			w.sql("UPDATE requests SET body = json_remove(body, '$.Round') WHERE id = '" + r.ID + "'")
			if err := w.approve("U01", r); err == nil {
				w.t.Fatal("an approval was taken by a row that is not what its events say")
			}
		}},
		"the log cut behind the request": {forge: func(w *world, r approvals.Request) {
			w.sql(fmt.Sprintf("DELETE FROM audit WHERE seq > %d", r.Seq), fmt.Sprintf("DELETE FROM audit_index WHERE seq > %d", r.Seq))
		}},
		"a leaf in the middle changed": {forge: func(w *world, r approvals.Request) {
			w.sql("UPDATE audit SET line = replace(line, 'U02', 'U09') WHERE seq = 2")
			w.restart()
		}},
		"the sealed head removed": {forge: func(w *world, r approvals.Request) {
			w.sql("DELETE FROM secrets WHERE name = 'log_head'")
		}},
		"the sealed head of another moment": {forge: func(w *world, r approvals.Request) {
			w.sql("CREATE TABLE kept_head AS SELECT * FROM secrets WHERE name = 'log_head'")
			w.must(w.admin.Reset(w.ctx, "U03"))
			w.sql("DELETE FROM secrets WHERE name = 'log_head'", "INSERT INTO secrets SELECT * FROM kept_head", "DROP TABLE kept_head")
		}},
		"an older log and its head put back": {forge: func(w *world, r approvals.Request) {
			w.sql("CREATE TABLE kept_head AS SELECT * FROM secrets WHERE name = 'log_head'")
			size := len(w.events())
			w.must(w.admin.Reset(w.ctx, "U03"))
			w.wait(2 * time.Second)
			w.sql("DELETE FROM secrets WHERE name = 'log_head'", "INSERT INTO secrets SELECT * FROM kept_head", "DROP TABLE kept_head",
				fmt.Sprintf("DELETE FROM audit_index WHERE seq >= %d", size), fmt.Sprintf("DELETE FROM audit WHERE seq >= %d", size),
				fmt.Sprintf("DELETE FROM audit_hashes WHERE position >= %d", tlog.StoredHashCount(int64(size))))
		}},
		"a person who was never added": {quiet: true, forge: func(w *world, r approvals.Request) {
			w.sql(`INSERT INTO kept (kind, id, state, place) SELECT 'person', 'U66', CAST(replace(CAST(state AS TEXT), 'U01', 'U66') AS BLOB), 1000 FROM kept WHERE kind = 'person' AND id = 'U01'`,
				`INSERT INTO secrets SELECT replace(name, 'U01', 'U66'), version, key_id, sealed FROM secrets WHERE name LIKE '%/U01'`)
			err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U66"}, r.ID, approvals.ActionApprove, "", w.code("U01"))
			if err == nil {
				w.t.Fatal("somebody who was never added approved")
			}
		}},
		"another VCS login": {quiet: true, forge: func(w *world, r approvals.Request) {
			_, err := w.admin.AddPerson(w.ctx, "U01", "", "dev")
			w.must(err)
			w.wait(time.Second)
			w.refused(w.approve("U01", r), approvals.RefusedSelf)
			w.sql(`UPDATE kept SET state = CAST(replace(CAST(state AS TEXT), '"dev"', '"nobody"') AS BLOB) WHERE kind = 'person' AND id = 'U01'`)
			w.wait(31 * time.Second)
			w.refused(w.approve("U01", r), approvals.RefusedSelf)
		}},
		"a removed admin put back": {quiet: true, forge: func(w *world, r approvals.Request) {
			w.sql("CREATE TABLE was AS SELECT * FROM kept WHERE id = 'U01'", "CREATE TABLE had AS SELECT * FROM secrets WHERE name LIKE '%/U01'")
			w.must(w.admin.RemovePerson(w.ctx, "U01"))
			w.sql("DELETE FROM kept WHERE id = 'U01'", "INSERT INTO kept SELECT * FROM was", "DELETE FROM secrets WHERE name LIKE '%/U01'", "INSERT INTO secrets SELECT * FROM had", "DROP TABLE was", "DROP TABLE had")
			if err := w.approve("U01", r); err == nil {
				w.t.Fatal("somebody who was removed approved")
			}
		}},
		"an authenticator put back, so that a code counts twice": {quiet: true, forge: func(w *world, r approvals.Request) {
			w.sql("CREATE TABLE had AS SELECT * FROM secrets WHERE name = 'authenticator/U01'")
			other := w.request(7, "blocked")
			text := w.code("U01")
			err := w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, other.ID, approvals.ActionApprove, "", text)
			w.must(err)
			w.sql("DELETE FROM secrets WHERE name = 'authenticator/U01'", "INSERT INTO secrets SELECT * FROM had", "DROP TABLE had")
			if err = w.svc.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove, "", text); err == nil {
				w.t.Fatal("one code counted twice")
			}
		}},
		"a token that was never made": {quiet: true, forge: func(w *world, r approvals.Request) {
			text, id, hash := approvals.NewTokenText()
			w.sql(fmt.Sprintf(`INSERT INTO kept (kind, id, state, place) SELECT 'token', '%s', CAST(replace(replace(CAST(state AS TEXT), '%s', '%s'), json_extract(CAST(state AS TEXT), '$.Hash'), '%s') AS BLOB), 1000 FROM kept WHERE kind = 'token'`, id, w.token.ID, id, hash))
			if _, err := w.svc.Authenticate(w.ctx, text); code(err) != approvals.CodeUnauthorized {
				w.t.Fatalf("a forged token: got %v; want it refused", err)
			}
		}},
		"a withdrawn request put back": {forge: func(w *world, r approvals.Request) {
			w.must(w.approve("U01", r))
			w.sql("CREATE TABLE was AS SELECT * FROM requests WHERE id = '"+r.ID+"'", "CREATE TABLE due_then AS SELECT * FROM due")
			seq := w.get(r).Seq
			_, err := w.svc.Withdraw(w.ctx, w.token, r.ID, "stop")
			w.must(err)
			w.halt()
			w.ci.hold(r.Facts.WorkflowID)
			w.sql("DELETE FROM requests WHERE id = '"+r.ID+"'", "INSERT INTO requests SELECT * FROM was", "DROP TABLE was",
				fmt.Sprintf("DELETE FROM audit_index WHERE subject = '%s' AND seq > %d", r.ID, seq),
				"DELETE FROM due", "INSERT INTO due SELECT * FROM due_then", "DROP TABLE due_then")
			w.run()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "SUPERSEDE=off", func(w *world) {
				r := w.request(1, "blocked")
				w.ci.hold(r.Facts.WorkflowID)
				if name == "a withdrawn request put back" {
					w.ci.set(r.Facts.WorkflowID, "hold", "blocked")
				}
				c.forge(w, r)
				w.wait(time.Minute)
				look := func(when string) {
					t.Helper()
					for _, p := range w.ci.posted() {
						if p.workflow == r.Facts.WorkflowID {
							t.Errorf("%s: the gate was approved", when)
						}
					}
					if _, err := w.svc.Verify(w.ctx, w.token, approvals.NewRequest{App: "shop", GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID}); err == nil {
						t.Errorf("%s: the deploy job got a yes", when)
					}
					if c.quiet {
						return
					}
					if _, err := w.svc.Checkpoint(w.ctx, 0); err == nil {
						t.Errorf("%s: a checkpoint was signed", when)
					}
					if w.svc.Fault() == "" {
						t.Errorf("%s: nothing was found", when)
					}
					if err := w.approve("U02", r); err == nil {
						t.Errorf("%s: an approval was taken", when)
					}
				}
				look("live")
				w.wait(time.Second)
				if !c.quiet && (len(w.alarms) == 0 || !strings.Contains(w.alarms[0], "the log was changed")) {
					t.Errorf("the channel was not alarmed: %q", w.alarms)
				}
				w.restart()
				w.wait(time.Minute)
				look("after a restart")
			})
		})
	}
}

// The operator's commands have no memory of the log: the sealed head alone tells them
// that it is another one. They add nothing to it, which would seal it anew.
func TestCommandsRefuseAnotherLog(t *testing.T) {
	for name, forged := range map[string][]approvals.Event{
		"cut":                  nil,
		"cut and written anew": {{Type: approvals.EventCanceled, Actor: approvals.Actor{Kind: "system"}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "blocked")
				w.halt()
				last := len(w.events()) - 1
				w.sql(fmt.Sprintf("DELETE FROM audit_index WHERE seq = %d", last), fmt.Sprintf("DELETE FROM audit WHERE seq = %d", last),
					fmt.Sprintf("DELETE FROM audit_hashes WHERE position >= %d", tlog.StoredHashCount(int64(last))))
				w.write(func(tx approvals.Tx) error {
					for _, e := range forged {
						if err := forge(tx, r, e); err != nil {
							return err
						}
					}
					return nil
				})
				if _, err := w.admin.AddPerson(w.ctx, "U09", "", "new"); code(err) != approvals.CodeUnavailable {
					t.Errorf("a command went on with another log: got %v", err)
				}
				if got := len(w.events()); got != last+len(forged) {
					t.Errorf("got %d leaves; want %d", got, last+len(forged))
				}
			})
		})
	}
}

// A log without its key is refused: a new key would sign what nobody signed.
func TestMissingSigningKey(t *testing.T) {
	bubble(t, "", func(w *world) {
		w.request(1, "on_hold")
		w.sql("DELETE FROM secrets WHERE name = 'log_signing_key'")
		if _, err := approvals.OpenLog(w.ctx, w.db); err == nil || !strings.Contains(err.Error(), "signing key is missing") {
			t.Errorf("got %v; want it refused", err)
		}
	})
}

// An authenticator that does not open is no reason to refuse a recovery: it opens
// nothing afterwards either.
func TestRecoverWithABrokenAuthenticator(t *testing.T) {
	bubble(t, "", func(w *world) {
		w.write(func(tx approvals.Tx) error { return approvals.SpoilFactor(tx, "U01") })
		w.halt()
		w.must(approvals.Recover(w.ctx, w.db, "lost", "ana@build-1"))
		signer, err := approvals.OpenLog(w.ctx, w.db)
		w.must(err)
		w.cfg.Signer = signer
		w.restart()
		r := w.request(1, "on_hold")
		w.wait(2 * time.Minute) // codes that may have been used are refused
		w.refused(w.approve("U01", r), approvals.RefusedUnreadable)
		w.must(w.approve("U02", r))
		w.is(r, approvals.Released)
	})
}

// The operator may accept a database that was changed, and the product goes on.
func TestRecoverAfterForgery(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		r := w.request(1, "on_hold")
		w.write(func(tx approvals.Tx) error { return approvedRow(tx, r.ID) })
		w.wait(time.Minute)
		if w.svc.Fault() == "" {
			t.Fatal("nothing was found")
		}
		w.halt()
		w.must(approvals.Recover(w.ctx, w.db, "lost", "ana@build-1"))
		signer, err := approvals.OpenLog(w.ctx, w.db)
		w.must(err)
		w.cfg.Signer = signer
		w.restart()
		w.is(r, approvals.Expired, approvals.FailRolledBack)
		other := w.request(2, "on_hold")
		w.wait(2 * time.Minute) // codes that may have been used are refused
		w.must(w.approve("U01", other))
		w.is(other, approvals.Released)
		if len(w.ci.posted()) != 1 {
			t.Errorf("got %d calls; want one", len(w.ci.posted()))
		}
	})
}

// A log that the next start would find to be changed, too, is not accepted. What is wrong
// is named, and there is no new key.
func TestRecoverRefusesADamagedLog(t *testing.T) {
	for name, c := range map[string]struct{ damage, says string }{ // REQUEST has its first event at SEQ
		"a leaf changed":            {"UPDATE audit SET line = replace(line, 'shop', 'shup') WHERE seq = SEQ", "first bad sequence number SEQ: its hashes are not"},
		"a leaf removed":            {"DELETE FROM audit WHERE seq = SEQ", "leaf SEQ is missing"},
		"a hash changed":            {"UPDATE audit_hashes SET hash = zeroblob(32) WHERE position = 2", "first bad sequence number 1: its hashes are not"},
		"the last leaf removed":     {"DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)", "append process.recovered to the log"},
		"a leaf in another history": {"INSERT INTO audit_index VALUES ('REQUEST', 0)", "the index lists event 0 in the history of REQUEST"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "on_hold")
				w.halt()
				names := []string{"REQUEST", r.ID}
				for _, e := range w.events() {
					if e.Type == approvals.EventRequested {
						names = append(names, "SEQ", fmt.Sprint(e.Seq))
					}
				}
				fill := strings.NewReplacer(names...).Replace
				w.sql(fill(c.damage))
				err := approvals.Recover(w.ctx, w.db, "lost", "ana@build-1")
				if err == nil || !strings.Contains(err.Error(), fill(c.says)) {
					t.Errorf("got %v; want it refused with %q", err, fill(c.says))
				}
				if signer, err := approvals.OpenLog(w.ctx, w.db); err != nil || signer.VerifierKey() != w.svc.VerifierKey() {
					t.Errorf("got %v, or another key", err)
				}
			})
		})
	}
}

// The index of histories is made anew from the log, so that a request goes on some of
// whose events were hidden. What was hidden is not taken for a row that differs.
func TestRebuildOfTheIndex(t *testing.T) {
	for name, repair := range map[string]func(w *world, missing string){
		"rebuild": func(w *world, missing string) {
			for _, check := range []bool{true, false} {
				if found, err := approvals.Rebuild(w.ctx, w.db, check); err != nil || fmt.Sprint(found) != missing {
					w.t.Fatalf("check %t: got %v, %v; want %s", check, found, err, missing)
				}
			}
		},
		"recover": func(w *world, _ string) {
			w.must(approvals.Recover(w.ctx, w.db, "lost", "ana@build-1"))
			signer, err := approvals.OpenLog(w.ctx, w.db)
			w.must(err)
			w.cfg.Signer = signer
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				r := w.request(1, "blocked")
				w.must(w.approve("U01", r))
				w.halt()
				w.sql("DELETE FROM audit_index WHERE subject = 'person/U01' AND seq > 0",
					fmt.Sprintf("DELETE FROM audit_index WHERE subject = '%s' AND seq = %d", r.ID, w.get(r).Seq))
				repair(w, fmt.Sprintf("[event 1: the index lacks it in the history of person/U01 event %d: the index lacks it in the history of %s]", w.get(r).Seq, r.ID))
				if found, err := approvals.Rebuild(w.ctx, w.db, true); err != nil || len(found) != 0 {
					t.Errorf("after it: got %v, %v; want nothing", found, err)
				}
				w.ci.set(r.Facts.WorkflowID, "hold", "on_hold")
				w.restart()
				w.wait(time.Minute)
				want := map[string]approvals.Status{"rebuild": approvals.Released, "recover": approvals.Expired}[name]
				if got := w.get(r).Status; got != want || w.svc.Fault() != "" {
					t.Errorf("got %s and the fault %q; want it %s", got, w.svc.Fault(), want)
				}
			})
		})
	}
}

// A recovery that ends early, wherever that is, has accepted nothing; one that is done
// says what was not sealed.
func TestInterruptedRecovery(t *testing.T) {
	for done, n := false, 1; !done; n++ {
		bubble(t, "", func(w *world) {
			r := w.request(1, "blocked")
			w.ci.hold(r.Facts.WorkflowID)
			w.halt()
			sealed := len(w.events())
			w.forgeDecision(r)
			commits := 0
			w.store.crash = func() (before, after bool) { commits++; return commits > n, commits == n }
			done = approvals.Recover(w.ctx, w.store, "lost", "ana@build-1") == nil
			w.store.crash = nil
			if signer, err := approvals.OpenLog(w.ctx, w.db); err == nil {
				w.cfg.Signer = signer
			}
			w.restart()
			w.wait(time.Minute)
			if len(w.ci.posted()) != 0 {
				t.Errorf("stopped after %d commits: the gate was approved", n)
			}
			recovered := approvals.Event{}
			for _, e := range w.events() {
				if e.Type == approvals.EventRecovered {
					recovered = e
				}
			}
			accepted := recovered.Type != ""
			if _, err := w.svc.Checkpoint(w.ctx, 0); accepted != (err == nil) || accepted != (w.svc.Fault() == "") {
				t.Errorf("stopped after %d commits: got the fault %q and %v", n, w.svc.Fault(), err)
			}
			if got, want := recovered.Unsealed(), fmt.Sprintf("its %d events are not the %d that the gateway had sealed", sealed+2, sealed); accepted && got != want {
				t.Errorf("got %q; want %q", got, want)
			}
			if done && !accepted {
				t.Error("no event tells of the recovery")
			}
		})
	}
}

// What one node found wrong with the log holds for all: the other one approves and
// signs nothing from then on, and tells the channel. A recovery ends it for all that
// start after it, and who ran through it does not bring it back.
func TestFaultHoldsForAllNodes(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		r, fine := w.request(1, "on_hold"), w.request(2, "on_hold")
		other := approvals.New(w.cfg)
		w.must(other.Start(w.ctx, defaultChannel, "test"))
		w.sql("UPDATE requests SET body = json_remove(body, '$.Round') WHERE id = '" + r.ID + "'")
		find := func() {
			if err := other.Decide(w.ctx, approvals.Clicker{Team: team, User: "U01"}, r.ID, approvals.ActionApprove, "", w.code("U01")); err == nil {
				t.Fatal("an approval was taken by a row that is not what its events say")
			}
			if other.Fault() == "" {
				t.Fatal("the node that met it found nothing")
			}
		}
		find()
		if err := w.approve("U02", fine); err == nil {
			t.Error("the other node took an approval")
		}
		if _, err := w.svc.Checkpoint(w.ctx, 0); err == nil {
			t.Error("the other node signed a checkpoint")
		}
		w.wait(2 * time.Second)
		if got := w.svc.Fault(); got != other.Fault() {
			t.Errorf("the other node knows of %q; want what was found", got)
		}
		if len(w.alarms) != 1 || w.alarms[0] != other.Fault() {
			t.Errorf("the channel was told %q; want what was found, once", w.alarms)
		}
		if len(w.ci.posted()) != 0 {
			t.Error("a gate was approved")
		}
		approvals.New(w.cfg).WentBack(w.ctx, errors.New("a third node finds something by itself"))
		w.wait(2 * time.Second)
		if fault, err := approvals.LogFault(w.ctx, w.db); fault != other.Fault() || err != nil || len(w.alarms) != 1 {
			t.Errorf("got %q, %v and %d alarms; want what was found first, told once", fault, err, len(w.alarms))
		}

		w.halt()
		w.must(approvals.Recover(w.ctx, w.db, "lost", "ana@build-1"))
		signer, err := approvals.OpenLog(w.ctx, w.db)
		w.must(err)
		w.cfg.Signer = signer
		w.restart()
		other.KeepUp(w.ctx)
		w.wait(2 * time.Minute) // codes that may have been used are refused
		if fault, err := approvals.LogFault(w.ctx, w.db); w.svc.Fault() != "" || fault != "" || err != nil || len(w.alarms) != 1 {
			t.Errorf("after the recovery: got the faults %q and %q, %v, %d alarms; want none, and no more alarms", w.svc.Fault(), fault, err, len(w.alarms))
		}
		again := w.request(3, "on_hold")
		w.must(w.approve("U02", again))
		w.is(again, approvals.Released)
	})
}

// A node that nobody asks for anything, as one whose /readyz still says 200, knows of
// it within seconds.
func TestFaultReachesAnIdleNode(t *testing.T) {
	bubble(t, "", func(w *world) {
		approvals.New(w.cfg).WentBack(w.ctx, errors.New("another node finds something"))
		w.wait(2 * time.Second)
		if !strings.Contains(w.svc.Fault(), "another node finds something") {
			t.Errorf("the node knows of %q; want what was found", w.svc.Fault())
		}
	})
}

// A database that does not take what was found wrong for a while gets it later.
func TestFaultIsTakenLater(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "on_hold")
		w.sql("UPDATE requests SET body = json_remove(body, '$.Round') WHERE id = '" + r.ID + "'")
		w.halt()
		commits := 0
		w.store.crash = func() (before, after bool) { commits++; return commits > 1, false } // the first one counts the attempt
		if err := w.approve("U01", r); err == nil || w.svc.Fault() == "" {
			t.Fatalf("got %v and the fault %q; want it found", err, w.svc.Fault())
		}
		if fault, err := approvals.LogFault(w.ctx, w.db); fault != "" || err != nil {
			t.Fatalf("got %q, %v from a database that takes nothing", fault, err)
		}
		w.store.crash = nil
		w.run()
		w.wait(10 * time.Second)
		if fault, err := approvals.LogFault(w.ctx, w.db); fault != w.svc.Fault() || err != nil || len(w.alarms) != 1 {
			t.Errorf("got %q, %v and %d alarms; want what was found, told once", fault, err, len(w.alarms))
		}
	})
}

// A row that the log knows nothing of gets no event, from nobody: the log would tell of a
// request that was never made, and after that no report of the log could be written.
func TestRowThatNobodyAskedFor(t *testing.T) {
	bubble(t, "SUPERSEDE=off", func(w *world) {
		r := w.request(1, "on_hold")
		w.sql(`INSERT INTO requests SELECT 99, 'FORGED', 1, app, environment, status, revision, branch, 'forged', created_at, released_at,
			json_set(body, '$.ID', 'FORGED', '$.Number', 99), metadata, seen FROM requests WHERE number = 1`)
		forged := approvals.Request{ID: "FORGED"}
		if err := w.reject("U01", forged); err == nil {
			t.Error("it was rejected")
		}
		_, err := w.svc.Withdraw(w.ctx, w.token, "FORGED", "")
		var e *approvals.Error
		if !errors.As(err, &e) || e.Code != approvals.CodeConflict || !strings.Contains(e.Message, "is not in the log") {
			t.Errorf("withdraw: got %v; want it refused", err)
		}
		w.write(func(tx approvals.Tx) error {
			return tx.Ask(approvals.Work{Kind: approvals.WorkFollow, Subject: "forged", Lane: "circleci:workflows"})
		})
		w.wait(25 * time.Hour) // it would expire

		// The same goes for people and tokens. Whoever set off the next workflow is known by
		// the login that the row has.
		w.sql(`INSERT INTO kept (kind, id, state, place) SELECT kind, 'U66', CAST(json_set(CAST(state AS TEXT), '$.SlackID', 'U66', '$.VCSLogin', 'dev') AS BLOB), 1000
				FROM kept WHERE kind = 'person' AND id = 'U01'`,
			`INSERT INTO kept (kind, id, state, place) SELECT kind, 'T66', CAST(json_set(CAST(state AS TEXT), '$.ID', 'T66') AS BLOB), 1000 FROM kept WHERE kind = 'token' LIMIT 1`)
		w.request(2, "on_hold")
		if err := w.admin.RemovePerson(w.ctx, "U66"); err == nil {
			t.Error("the person was removed")
		}
		if _, err := w.admin.RevokeToken(w.ctx, "T66"); err == nil {
			t.Error("the token was revoked")
		}
		w.halt()
		w.must(approvals.Recover(w.ctx, w.db, "lost", "ana@build-1"))
		for _, e := range w.events() {
			if e.Request == "FORGED" || e.Data["user"] == "U66" || e.Data["token"] == "T66" {
				t.Errorf("got the event %s", e.Type)
			}
		}
		found, err := approvals.Rebuild(w.ctx, w.db, true)
		if got := fmt.Sprint(found); err != nil || len(found) != 3 || !strings.Contains(got, "request #99") || !strings.Contains(got, "person U66") || !strings.Contains(got, "token T66") {
			t.Errorf("rebuild --check: got %v, %v; want the three rows named", found, err)
		}
		w.is(r, approvals.Expired)
	})
}

// A row that is not what the log says gets no event, from nobody: a request would be
// decided twice, and nobody could write a report of the log any more. It is told as any
// other change of the database.
func TestRowOfAnotherMoment(t *testing.T) {
	const back = "DELETE FROM requests WHERE number = 1; INSERT INTO requests SELECT * FROM was"
	for name, forged := range map[string]string{
		"an old copy":              back,
		"an old copy, seq of now":  back + "; UPDATE requests SET body = json_set(body, '$.Seq', (SELECT max(seq) FROM audit_index WHERE subject = requests.id)) WHERE number = 1",
		"with its history cut":     back + "; DELETE FROM audit_index WHERE seq > (SELECT json_extract(body, '$.Seq') FROM was) AND subject = (SELECT id FROM was)",
		"with its history changed": back + "; UPDATE audit SET line = replace(line, 'decision.rejected', 'decision.refused') WHERE line LIKE '%decision.rejected%'",
	} {
		for how, act := range map[string]func(*world, approvals.Request){
			"rejected again": func(w *world, r approvals.Request) {
				if err := w.reject("U02", r); err == nil {
					w.t.Fatal("it was rejected")
				}
			},
			"superseded": func(w *world, r approvals.Request) { _, _, _ = w.ask(w.ci.newFlow(2, 2, "on_hold")) },
			"expired": func(w *world, r approvals.Request) {
				w.write(func(tx approvals.Tx) error {
					return tx.Ask(approvals.Work{Kind: approvals.WorkFollow, Subject: r.Facts.WorkflowID, Lane: "circleci:workflows"})
				})
				w.wait(3 * time.Hour)
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				bubble(t, "ON_CLOSE=nothing", func(w *world) {
					r := w.request(1, "on_hold")
					w.wait(time.Second)
					w.sql("CREATE TABLE was AS SELECT * FROM requests WHERE number = 1")
					w.must(w.reject("U01", r))
					w.wait(time.Second)
					w.sql(forged)
					w.is(r, approvals.Pending)
					act(w, r)
					w.wait(2 * time.Second)
					ended := 0
					for _, e := range w.events() {
						switch e.Type {
						case approvals.EventRejected, approvals.EventSuperseded, approvals.EventExpired:
							ended++
						}
					}
					if ended > 1 {
						t.Errorf("the log tells of %d endings", ended)
					}
					if w.svc.Fault() == "" || len(w.alarms) != 1 {
						t.Errorf("got the fault %q and %d alarms; want it found", w.svc.Fault(), len(w.alarms))
					}
				})
			})
		}
	}
}

// While nothing can be proven, a token that the log does not have as its row says may read,
// and change nothing. One that the log has may file requests.
func TestTokenWhileNothingIsProven(t *testing.T) {
	t.Parallel()
	for when, unproven := range map[string]func(w *world){
		"a fault stands": func(w *world) { w.svc.WentBack(w.ctx, errors.New("something is found")) },
		"a long log is read after the start": func(w *world) {
			r := w.approved(1, "on_hold")
			w.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
			w.wait(10 * time.Minute)
			w.halt()
			w.must(approvals.Repeat(w.ctx, w.db, []approvals.Request{w.get(r)}, approvals.ShortLog/7))
			w.start()
			if !w.svc.Verifying() {
				w.t.Fatal("the log was read before the start went on")
			}
		},
	} {
		t.Run(when, func(t *testing.T) {
			bubble(t, "SUPERSEDE=off", func(w *world) {
				token := func(name string) (string, approvals.Token) {
					text, token, err := w.admin.CreateToken(w.ctx, name, approvals.RoleCICD, nil, 9000*time.Hour)
					w.must(err)
					return text, token
				}
				text, genuine := token("real")
				_, spare := token("spare")
				revoked, old := token("old")
				_, err := w.admin.RevokeToken(w.ctx, "old")
				w.must(err)
				open := w.request(8, "on_hold")
				unproven(w)
				set := func(id, path, value string) string {
					return fmt.Sprintf("UPDATE kept SET state = CAST(json_set(CAST(state AS TEXT), '$.%s', '%s') AS BLOB) WHERE id = '%s'", path, value, id)
				}
				w.sql(set(old.ID, "RevokedAt", "0001-01-01T00:00:00Z"))
				w.mayOnlyRead("a revoked token put back", revoked, open)
				for name, of := range map[string]approvals.Token{"a row alone": genuine, "with an event that was changed": spare} {
					text, id, hash := approvals.NewTokenText()
					w.sql("INSERT INTO kept SELECT kind, '"+id+"', (SELECT max(place) + 1 FROM kept), state FROM kept WHERE id = '"+of.ID+"'", set(id, "ID", id), set(id, "Hash", hash))
					if of.ID == spare.ID {
						w.sql("INSERT INTO audit_index SELECT 'token/"+id+"', seq FROM audit_index WHERE subject = 'token/"+of.ID+"'",
							fmt.Sprintf("UPDATE audit SET line = replace(replace(line, '%s', '%s'), '%s', '%s') WHERE line LIKE '%%token.created%%'", of.ID, id, of.Hash, hash))
					}
					w.mayOnlyRead(name, text, open)
				}
				w.token, err = w.svc.Authenticate(w.ctx, text)
				w.must(err)
				if _, created, err := w.ask(w.ci.newFlow(10, 10, "on_hold")); err != nil || !created {
					t.Errorf("a token of the log: got %v, %v; want the request filed", created, err)
				}
			})
		})
	}
}

// mayOnlyRead checks that a token reads a request and changes nothing.
func (w *world) mayOnlyRead(name, text string, r approvals.Request) {
	w.t.Helper()
	as, err := w.svc.Authenticate(w.ctx, text)
	if err == nil {
		_, err = w.svc.Get(w.ctx, as, r.ID)
	}
	if err != nil {
		w.t.Fatalf("%s: cannot read: %v", name, err)
	}
	var size, now int64
	count := func(to *int64) {
		w.must(w.db.View(w.ctx, func(tx approvals.Tx) (err error) { *to, err = tx.Ledger().Size(); return err }))
	}
	count(&size)
	_, withdrawn := w.svc.Withdraw(w.ctx, as, r.ID, "")
	_, _, asked := w.svc.Request(w.ctx, as, approvals.NewRequest{App: "shop", GitCommit: "0000000", WorkflowID: w.ci.newFlow(9, 9, "on_hold")})
	_, reported := w.svc.ReportDeploy(w.ctx, as, r.ID, approvals.PhaseStarted, "", "")
	for _, err := range []error{withdrawn, asked, reported} {
		var e *approvals.Error
		if !errors.As(err, &e) || e.Code != approvals.CodeUnavailable || e.RetryAfter == 0 {
			w.t.Fatalf("%s: got %v; want it refused for now", name, err)
		}
	}
	w.svc.Refused(w.ctx, as, "shop", &approvals.Error{Code: approvals.CodeInvalid})
	if count(&now); now != size {
		w.t.Fatalf("%s: %d events were recorded", name, now-size)
	}
}

// What was deployed last is what the log says: whoever hides or edits its row while a
// request is filed does not spare a changed configuration its approvals.
func TestForgedLastDeploy(t *testing.T) {
	const hide = "UPDATE requests SET released_at = 0, status = 'expired'"
	for name, tt := range map[string]struct {
		forge   string
		found   bool // it is told as tampering
		unknown bool // nothing can be proven
		later   time.Duration
	}{
		"hidden":                  {forge: hide},
		"hidden, a day later":     {forge: hide, later: 26 * time.Hour},
		"removed":                 {forge: "DELETE FROM requests", found: true},
		"with the configuration":  {forge: "UPDATE requests SET body = replace(body, 'first', 'other')", found: true},
		"with another commit":     {forge: "UPDATE requests SET body = replace(body, 'REVISION', 'ffff')", found: true},
		"while the log is not it": {unknown: true, forge: "UPDATE requests SET body = replace(body, 'first', 'other')"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "CONFIG_CHANGE_APPROVALS=3 SUPERSEDE=off", func(w *world) {
				first := w.file(1, func(f *approvals.Facts) { f.Config = "first" })
				w.deploy(first, "U01")
				w.wait(tt.later)
				w.must(w.svc.Record(w.ctx, approvals.Event{Type: approvals.EventLogExported, Actor: w.svc.OperatorActor()}))
				w.wait(2 * time.Second)
				w.halt()
				if tt.unknown {
					w.svc.WentBack(w.ctx, errors.New("the disk lost something"))
				}
				w.sql(strings.ReplaceAll(tt.forge, "REVISION", first.Facts.Revision))
				flow := w.flowOf(2, func(f *approvals.Facts) { f.Config = "other" })
				r, _, err := w.ask(flow)
				if tt.found {
					if w.fails(err, approvals.CodeUnavailable); w.svc.Fault() == "" {
						t.Error("nothing was found")
					}
					r, _, err = w.ask(flow) // CI asks again
				}
				w.must(err)
				if changed, known := r.ConfigChanged(); r.Last == nil || r.Required != 3 || known == (tt.found || tt.unknown) {
					t.Fatalf("got %+v, changed %v, known %v, needs %d; want 3 approvals", r.Last, changed, known, r.Required)
				}
				want := first.Facts.Revision
				if tt.found || tt.unknown {
					want = ""
				}
				if r.Last.Revision != want {
					t.Errorf("got %q as the last deploy; want %q", r.Last.Revision, want)
				}
			})
		})
	}
}

// Who may do what is what the log says, for the operator as well: whoever hides or edits
// a row keeps no right that the operator ends, and stands in every list.
func TestOperatorGoesByTheLog(t *testing.T) {
	const person, token = "kind = 'person' AND id = 'U03'", "kind = 'token'"
	edit := func(of, field, value string) string {
		return fmt.Sprintf("UPDATE kept SET state = CAST(json_set(CAST(state AS TEXT), '$.%s', '%s') AS BLOB) WHERE %s", field, value, of)
	}
	const past = "2001-01-01T00:00:00Z"
	for name, forged := range map[string][]string{
		"rows that are gone":       {"DELETE FROM kept WHERE " + person, "DELETE FROM kept WHERE " + token},
		"rows that say it is over": {edit(person, "RemovedAt", past), edit(token, "RevokedAt", past), edit(token, "Name", "another")},
		"others who are gone":      {edit("kind = 'person' AND id <> 'U03'", "RemovedAt", past), edit(token, "Name", "another")},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(w *world) {
				text, made, err := w.admin.CreateToken(w.ctx, "spare", approvals.RoleCICD, nil, time.Hour)
				w.must(err)
				r := w.request(1, "on_hold")
				w.sql("CREATE TABLE was AS SELECT * FROM kept")
				w.sql(forged...)
				people, tokens, err := w.admin.Access(w.ctx)
				w.must(err)
				review, err := audit.ReviewAccess(w.ctx, w.db)
				w.must(err)
				if len(people) != 3 || !people[2].RemovedAt.IsZero() || len(review.Admins) != 3 || review.Admins[2].Authenticator == nil {
					t.Errorf("got the people %+v and the review %+v; want U03 as an admin", people, review.Admins)
				}
				if len(review.Tokens) != 2 || review.Tokens[1].Name != "spare" || !review.Tokens[1].RevokedAt.IsZero() {
					t.Errorf("got the tokens %+v; want the second one in force", review.Tokens)
				}
				if name == "rows that are gone" {
					if _, err := w.svc.Authenticate(w.ctx, text); code(err) != approvals.CodeUnauthorized || len(tokens) != 0 {
						t.Errorf("a token without a row: got %v, and in the list %+v; want neither", err, tokens)
					}
				} else if len(tokens) != 2 || tokens[1].Name != "spare" || !tokens[1].RevokedAt.IsZero() {
					t.Errorf("got the tokens %+v; want the second one in force", tokens)
				}
				w.must(w.admin.RemovePerson(w.ctx, "U03"))
				if got, err := w.admin.RevokeToken(w.ctx, "spare"); err != nil || got.ID != made.ID || got.RevokedAt.IsZero() {
					t.Errorf("revoke: got %+v, %v; want it revoked", got, err)
				}
				w.sql("DELETE FROM kept", "INSERT INTO kept SELECT * FROM was")
				if _, err := w.svc.Authenticate(w.ctx, text); code(err) != approvals.CodeUnauthorized {
					t.Errorf("the token that was revoked: got %v; want it refused", err)
				}
				if err := w.approve("U03", r); err == nil {
					t.Error("somebody who was removed approved")
				}
			})
		})
	}
	t.Run("a history that is hidden", func(t *testing.T) {
		bubble(t, "", func(w *world) {
			w.sql("DELETE FROM audit_index WHERE subject = 'person/U03'")
			if err := w.admin.RemovePerson(w.ctx, "U03"); !approvals.LogChanged(err) {
				t.Errorf("got %v; want it told that the log was changed", err)
			}
			if people, _, err := w.admin.Access(w.ctx); err != nil || len(people) != 3 {
				t.Errorf("got %+v, %v; want all three", people, err)
			}
		})
	})
}

// A name that no token has is answered without the whole log being read, as long as every
// token that was made is found. Tokens that were not counted yet are counted by the daemon.
func TestUnknownTokenName(t *testing.T) {
	bubble(t, "", func(w *world) {
		r := w.request(1, "blocked")
		asked := func(want bool, when string) {
			t.Helper()
			w.sql(fmt.Sprintf("UPDATE audit SET line = line || ' ' WHERE seq = %d", r.Seq))
			_, err := w.admin.RevokeToken(w.ctx, "nobody")
			if atOnce := code(err) == approvals.CodeNotFound; atOnce != want || !want && !approvals.LogChanged(err) {
				t.Errorf("%s: got %v; want it answered at once: %t", when, err, want)
			}
			w.sql(fmt.Sprintf("UPDATE audit SET line = trim(line) WHERE seq = %d", r.Seq))
		}
		_, _, err := w.admin.CreateToken(w.ctx, "spare", approvals.RoleCICD, nil, 9000*time.Hour)
		w.must(err)
		asked(true, "all are found")
		w.sql("CREATE TABLE hidden AS SELECT * FROM kept WHERE kind = 'token' AND json_extract(CAST(state AS TEXT), '$.Name') = 'spare'",
			"DELETE FROM kept WHERE id IN (SELECT id FROM hidden)")
		asked(false, "one is hidden")
		w.sql("INSERT INTO kept SELECT * FROM hidden")
		w.write(func(tx approvals.Tx) error {
			text, err := tx.Secret(approvals.SecretHead)
			if err != nil {
				return err
			}
			return tx.SetSecret(approvals.SecretHead, strings.Replace(text, `,"tokens":2`, "", 1))
		})
		asked(false, "they were not counted")
		w.wait(7 * time.Hour)
		asked(true, "they were counted since")
	})
}
