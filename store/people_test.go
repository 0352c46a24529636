package store_test

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestPeopleGroupsTokens(t *testing.T) {
	db := storetest.New(t)
	at := time.UnixMilli(1_800_000_000_001).UTC()
	people := []approvals.Person{
		{SlackID: "U1", Name: "Ann", VCSLogin: "ann", AddedAt: at, Standing: approvals.Standing{CheckedAt: at, Problem: "guest"}},
		{SlackID: "U2", Name: "Bob", AddedAt: at, RemovedAt: at.Add(time.Hour)},
	}
	groups := []approvals.Group{{ID: "S1", Handle: "leads", Members: []string{"U1", "U2"}, CheckedAt: at}, {ID: "S2", Problem: "disabled"}}
	tokens := []approvals.Token{
		{ID: "z", Name: "ci", Role: approvals.RoleCICD, Apps: []string{"api"}, Hash: sha256.Sum256([]byte("z")), CreatedAt: at, ExpiresAt: at.Add(time.Hour), LastUsedAt: at},
		{ID: "y", Name: "none", Role: approvals.RoleCICD, Apps: []string{}, CreatedAt: at},
		{ID: "x", Name: "audit", Role: approvals.RoleAuditor, CreatedAt: at.Add(-time.Hour), RevokedAt: at},
	}
	for round := range 2 { // insert, then replace
		update(t, db, func(tx approvals.Tx) error {
			var errs []error
			for i := range people {
				people[i].Name += "!"
				errs = append(errs, tx.SavePerson(people[i]))
			}
			for i := range groups {
				groups[i].Handle += "!"
				errs = append(errs, tx.SaveGroup(groups[i]))
			}
			for i := range tokens {
				tokens[i].Name += "!"
				errs = append(errs, tx.SaveToken(tokens[i]))
			}
			return errors.Join(errs...)
		})
		view(t, db, func(tx approvals.Tx) error {
			gotPeople, err1 := tx.People()
			gotTokens, err2 := tx.Tokens()
			if diff := cmp.Diff(people, gotPeople) + cmp.Diff([]approvals.Token{tokens[2], tokens[0], tokens[1]}, gotTokens); diff != "" || err1 != nil || err2 != nil {
				t.Errorf("round %d: %v %v -want +got:\n%s", round, err1, err2, diff)
			}
			one, err1 := tx.Person("U2")
			two, err2 := tx.Token("z")
			if diff := cmp.Diff(people[1], one) + cmp.Diff(tokens[0], two); diff != "" || err1 != nil || err2 != nil {
				t.Errorf("round %d: %v %v -want +got:\n%s", round, err1, err2, diff)
			}
			for _, want := range groups {
				got, err := tx.Group(want.ID)
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("round %d: %v -want +got:\n%s", round, err, diff)
				}
			}
			return nil
		})
	}
	update(t, db, func(tx approvals.Tx) error { return tx.SaveAuthenticator("U1", authenticator(totp.NewSecret())) })
	view(t, db, func(tx approvals.Tx) error {
		if p, err := tx.Person("U1"); err != nil || !p.Enrolled {
			t.Errorf("enrolled: got %v, %v; want true", p.Enrolled, err)
		}
		_, err1 := tx.Person("U9")
		_, err2 := tx.Group("S9")
		_, err3 := tx.Token("t9")
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, approvals.ErrNotFound) {
				t.Errorf("unknown row: got %v; want %v", err, approvals.ErrNotFound)
			}
		}
		return nil
	})
	raw(t, db, "UPDATE tokens SET apps = 'null' WHERE id = 'z'")
	view(t, db, func(tx approvals.Tx) error {
		if k, err := tx.Token("z"); err == nil {
			t.Errorf("malformed list of apps: got apps %v; want an error, nil means all", k.Apps)
		}
		return nil
	})
}
