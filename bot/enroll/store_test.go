package enroll_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

const ana = "U012ABCDEF"

// enrolment is an admin with an open link, in a real database.
func enrolment(t *testing.T) (a approvals.Admin, path string) {
	t.Helper()
	a = approvals.Admin{Store: storetest.New(t)}
	if _, err := a.AddPerson(t.Context(), ana, "Ana López", "ana"); err != nil {
		t.Fatal(err)
	}
	return a, link(t, a)
}

func link(t *testing.T, a approvals.Admin) string {
	t.Helper()
	token, _, err := a.EnrolLink(t.Context(), ana)
	if err != nil {
		t.Fatal(err)
	}
	return "/enroll/" + token
}

// factor is what is sealed of an authenticator.
type factor struct {
	Secret     string `json:"secret"`
	EnrolledBy string `json:"enrolled_by"`
	LastStep   int64  `json:"last_step"`
}

// authenticator opens what is kept of Ana's second factor; ok is false when she
// has none.
func authenticator(t *testing.T, a approvals.Admin) (got factor, ok bool) {
	t.Helper()
	var text string
	err := a.Store.View(context.WithoutCancel(t.Context()), func(tx approvals.Tx) (err error) {
		text, err = tx.Secret("authenticator/" + ana)
		return err
	})
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	return got, text != ""
}

func parseKey(t *testing.T, page string) totp.Secret {
	t.Helper()
	groups := keyPattern.FindStringSubmatch(page)
	if groups == nil {
		t.Fatal("the page shows no key")
	}
	secret, err := totp.ParseSecret(groups[1])
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestRealStore(t *testing.T) {
	admin, path := enrolment(t)
	s := newSite(t, admin)
	get := func(path string) int { return s.do("GET", path, "", "").Code }
	if got := get(path); got != 200 {
		t.Fatalf("open: got %d; want 200", got)
	}
	shown := s.do("POST", path, form, "")
	want(t, "show", shown, 200, "key")
	secret := parseKey(t, shown.Body.String())
	want(t, "shown", s.do("GET", path, "", ""), 410, "shown")
	if _, ok := authenticator(t, admin); ok {
		t.Fatal("an authenticator stands before it was confirmed")
	}
	code := secret.At(time.Now())
	want(t, "confirm", s.do("POST", path, form, "code="+code), 200, "done")
	want(t, "again", s.do("POST", path, form, "code="+code), 410, "gone")
	want(t, "after", s.do("GET", path, "", ""), 410, "gone")

	got, ok := authenticator(t, admin)
	if !ok || got.EnrolledBy != approvals.EnrolledByPage || got.Secret != secret.Base32() {
		t.Fatalf("authenticator: got %v, by %q; want one by page, with the key shown", ok, got.EnrolledBy)
	}
	// CONTRACT §7: the enrolment code counts as used.
	if step := totp.Step(time.Now()); got.LastStep < step-1 {
		t.Errorf("last step: got %d; want about %d", got.LastStep, step)
	}
	if log := s.log.String(); strings.Contains(log, strings.TrimPrefix(path, "/enroll/")) || strings.Contains(log, secret.Base32()) {
		t.Error("the log holds a secret")
	}
}

func TestNewerLinkEndsOlder(t *testing.T) {
	admin, old := enrolment(t)
	s := newSite(t, admin)
	want(t, "show", s.do("POST", old, form, ""), 200, "key")
	newer := link(t, admin)
	want(t, "older link", s.do("GET", old, "", ""), 410, "gone")
	want(t, "code for the older link", s.do("POST", old, form, "code=123456"), 410, "gone")
	want(t, "newer link", s.do("POST", newer, form, ""), 200, "key")
}

func TestRemovedPerson(t *testing.T) {
	admin, path := enrolment(t)
	s := newSite(t, admin)
	want(t, "show", s.do("POST", path, form, ""), 200, "key")
	if _, err := admin.AddPerson(t.Context(), "U0OTHER", "Bea", ""); err != nil {
		t.Fatal(err)
	}
	if err := admin.RemovePerson(t.Context(), ana); err != nil {
		t.Fatal(err)
	}
	want(t, "code of a removed person", s.do("POST", path, form, "code=123456"), 410, "gone")
}
