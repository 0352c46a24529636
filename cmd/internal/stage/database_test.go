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
	db, err := store.Open(p.ctx, store.Config{URL: env["RGW_DATABASE_URL"], Keys: keys})
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

// lookNow brings the next look at a workflow forward.
func lookNow(tx approvals.Tx, workflow string) error {
	return tx.Ask(approvals.Work{Kind: approvals.WorkFollow, Subject: workflow, Lane: approvals.FamilyCI + ":workflows", Due: tx.Now()})
}

// Names under which the daemon seals what it knows.
const (
	standing      = "standing/"      // what Slack said of a person
	group         = "group/"         // what Slack said of a user group
	authenticator = "authenticator/" // of a person
)

// sealed reads a sealed value; what is not there leaves v as it is.
func sealed(tx approvals.Tx, name string, v any) error {
	text, err := tx.Secret(name)
	if err != nil || text == "" {
		return err
	}
	return json.Unmarshal([]byte(text), v)
}

// seal puts a value in the place of the one that was sealed.
func seal(tx approvals.Tx, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetSecret(name, string(text))
}

// approvers is what the daemon knows of the approvers' group.
func (p *play) approvers() (g approvals.Group) {
	p.t.Helper()
	p.ok(p.database().View(p.ctx, func(tx approvals.Tx) error { return sealed(tx, group+admins, &g) }))
	return g
}
