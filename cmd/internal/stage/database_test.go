package stage_test

import (
	"encoding/json"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// database opens the daemon's store beside it.
func (p *play) database() *store.DB {
	p.t.Helper()
	env := map[string]string{}
	for _, kv := range p.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	keys, err := store.ParseKeys(env["RGW_SECRET_KEYS"])
	p.ok(err)
	path, err := store.ParseURL(env["RGW_DATABASE_URL"])
	p.ok(err)
	db, err := store.Open(p.ctx, store.Config{Path: path, Keys: keys})
	p.ok(err)
	p.t.Cleanup(func() { db.Close() })
	return db
}

// log reads the whole log.
func (p *play) log() []approvals.Event {
	p.t.Helper()
	var events []approvals.Event
	p.ok(p.database().View(p.ctx, func(tx approvals.Tx) error {
		for leaf, err := range tx.Leaves(0) {
			if err != nil {
				return err
			}
			var e approvals.Event
			if err := json.Unmarshal(leaf, &e); err != nil {
				return err
			}
			events = append(events, e)
		}
		return nil
	}))
	return events
}

// change edits a request behind the daemon's back, as if time had passed: its
// deadline, which waits in the outbox, comes forward too.
func (p *play) change(id string, edit func(*approvals.Request)) {
	p.t.Helper()
	p.ok(p.database().Update(p.ctx, func(tx approvals.Tx) error {
		r, err := tx.Request(id)
		if err != nil {
			return err
		}
		edit(&r)
		if err := tx.SaveRequest(&r); err != nil {
			return err
		}
		return tx.Enqueue(approvals.Effect{Kind: approvals.Deadline, Lane: approvals.FamilyLocal + ":deadline", Request: id, Dedupe: "deadline:" + id})
	}))
}
