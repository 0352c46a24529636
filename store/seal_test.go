package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestParseKeys(t *testing.T) {
	const a, b = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="
	for _, tt := range []struct {
		text string
		want []string // nil = refused
	}{
		{"k1:" + a, []string{"k1"}},
		{" k2:" + b + ", k1:" + a + "\n", []string{"k2", "k1"}},
		{"", nil},
		{a, nil},
		{":" + a, nil},
		{"k 1:" + a, nil},
		{strings.Repeat("k", 33) + ":" + a, nil},
		{"k1:" + a + ",", nil},
		{"k1:" + a + ",k1:" + b, nil},
		{"k1:" + a[:40], nil},
		{"k1:" + a[:43], nil},
		{"k1:" + a[:42] + "F=", nil}, // stray bits
		{"k1:" + a + a, nil},
		{"k1:" + a[:20] + "\n" + a[20:], nil},
	} {
		got, err := store.ParseKeys(tt.text)
		if (err == nil) != (tt.want != nil) || err == nil && !slices.Equal(got.IDs(), tt.want) {
			t.Errorf("ParseKeys(%q): got %v; want ids %v", tt.text, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), a[:20]) || strings.Contains(err.Error(), b[:20])) {
			t.Errorf("ParseKeys(%q): the error repeats a key", tt.text)
		}
	}
	if _, err := store.NewKey("not an id"); err == nil {
		t.Error("NewKey with a bad id: got no error")
	}
}

func TestKeyRingIsRedacted(t *testing.T) {
	keys := ring(t, storetest.Keys)
	config := store.Config{Path: "x", Keys: keys}
	hidden := struct{ ring store.KeyRing }{*keys}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", keys, "value", *keys)
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %x %q %v %+v %#v %v", keys, keys, keys, keys, keys, *keys, config, config, config, hidden) + log.String() + string(encoded)
	for _, leak := range []string{"YWFhYWFh", "aaaa", "97 97 97", "6161", "0x61"} {
		if strings.Contains(out, leak) {
			t.Errorf("a key shows as %q", leak)
		}
	}
	if !strings.Contains(out, "REDACTED") {
		t.Errorf("got %q; want REDACTED", out)
	}
}

func TestSeal(t *testing.T) {
	keys := ring(t, storetest.Keys)
	blob, err := keys.Seal("p", "s", 7, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Open("p", "s", 7, blob); err != nil || string(got) != "secret" {
		t.Errorf("round trip: got %q, %v; want secret", got, err)
	}
	if again, _ := keys.Seal("p", "s", 7, []byte("secret")); bytes.Equal(again, blob) {
		t.Error("sealed twice: got the same bytes")
	}
	onlyB := ring(t, strings.Split(storetest.Keys, ",")[1])
	otherA, err := store.NewKey("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name             string
		ring             *store.KeyRing
		purpose, subject string
		version          int64
	}{
		{"purpose", keys, "q", "s", 7}, {"subject", keys, "p", "t", 7}, {"version", keys, "p", "s", 8},
		{"border", keys, "ps", "", 7}, {"missing key", onlyB, "p", "s", 7}, {"other key", ring(t, otherA), "p", "s", 7},
	} {
		if _, err := tt.ring.Open(tt.purpose, tt.subject, tt.version, blob); !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("another %s: got %v; want %v", tt.name, err, approvals.ErrSeal)
		}
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, err := keys.Open("p", "s", 7, bad); !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("byte %d changed: got %v; want %v", i, err, approvals.ErrSeal)
		}
		if _, err := keys.Open("p", "s", 7, blob[:i]); !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("cut to %d bytes: got %v; want %v", i, err, approvals.ErrSeal)
		}
	}
}

func authenticator(secret totp.Secret) *approvals.Authenticator {
	return &approvals.Authenticator{Secret: secret, EnrolledAt: request("", "").CreatedAt, EnrolledBy: "page"}
}

// plain makes authenticators comparable.
var plain = cmp.Transformer("bytes", func(s totp.Secret) []byte { return s.Bytes() })

func TestAuthenticator(t *testing.T) {
	db := storetest.New(t)
	load := func(id string) (a approvals.Authenticator, err error) {
		view(t, db, func(tx approvals.Tx) error { a, err = tx.Authenticator(id); return nil })
		return a, err
	}
	save := func(id string, a *approvals.Authenticator) error {
		return db.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveAuthenticator(id, a) })
	}
	version := func() int64 {
		n, err := db.RawInt("SELECT version FROM authenticators WHERE slack_id = 'U1'")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := save("U1", authenticator(totp.NewSecret())); !errors.Is(err, approvals.ErrNotFound) {
		t.Errorf("of nobody: got %v; want %v", err, approvals.ErrNotFound)
	}
	for _, id := range []string{"U1", "U2"} {
		update(t, db, func(tx approvals.Tx) error { return tx.SavePerson(approvals.Person{SlackID: id}) })
	}
	if err := save("U1", authenticator(totp.Secret{})); err == nil {
		t.Error("without a secret: got no error")
	}
	if _, err := load("U1"); !errors.Is(err, approvals.ErrNotFound) {
		t.Errorf("not enrolled: got %v; want %v", err, approvals.ErrNotFound)
	}

	want := authenticator(totp.NewSecret())
	for step, change := range []func(){
		func() {},
		func() { want.LastStep, want.FirstUsed = 59_000_000, want.EnrolledAt },
		func() {
			want.Throttle = totp.Throttle{Failures: 20, WaitUntil: want.EnrolledAt, Disabled: true}
		},
	} {
		change()
		if err := save("U1", want); err != nil {
			t.Fatal(err)
		}
		got, err := load("U1")
		if diff := cmp.Diff(*want, got, plain); diff != "" || err != nil {
			t.Errorf("step %d: %v, the authenticator differs", step, err)
		}
		if version() != 1 {
			t.Errorf("step %d: got row version %d; want 1, the secret is the same", step, version())
		}
	}
	want = authenticator(totp.NewSecret())
	if err := save("U1", want); err != nil || version() != 2 {
		t.Errorf("new secret: got %v, row version %d; want 2", err, version())
	}

	// Rows that were swapped do not open, and a new enrolment mends them.
	if err := save("U2", authenticator(totp.NewSecret())); err != nil {
		t.Fatal(err)
	}
	raw(t, db, "UPDATE authenticators SET (version, sealed) = (SELECT version, sealed FROM authenticators WHERE slack_id = 'U2') WHERE slack_id = 'U1'")
	if _, err := load("U1"); !errors.Is(err, approvals.ErrSeal) {
		t.Errorf("swapped row: got %v; want %v", err, approvals.ErrSeal)
	}
	if err := save("U1", want); err != nil {
		t.Fatal(err)
	}
	if _, err := load("U1"); err != nil {
		t.Errorf("enrolled again: got %v; want no error", err)
	}
	raw(t, db, "UPDATE authenticators SET version = version - 1 WHERE slack_id = 'U1'")
	if _, err := load("U1"); !errors.Is(err, approvals.ErrSeal) {
		t.Errorf("older row version: got %v; want %v", err, approvals.ErrSeal)
	}
	if err := save("U1", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := load("U1"); !errors.Is(err, approvals.ErrNotFound) {
		t.Errorf("removed: got %v; want %v", err, approvals.ErrNotFound)
	}
}

func TestVarsAndSecrets(t *testing.T) {
	db := storetest.New(t)
	update(t, db, func(tx approvals.Tx) error {
		return errors.Join(tx.SetVar("a", "1"), tx.SetVar("a", "2"), tx.SetSecret("a", "s1"), tx.SetSecret("a", "s2"))
	})
	view(t, db, func(tx approvals.Tx) error {
		for _, tt := range []struct {
			read       func(string) (string, error)
			name, want string
		}{{tx.Var, "a", "2"}, {tx.Var, "b", ""}, {tx.Secret, "a", "s2"}, {tx.Secret, "b", ""}} {
			if got, err := tt.read(tt.name); got != tt.want || err != nil {
				t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.want)
			}
		}
		return nil
	})
	raw(t, db, "UPDATE secrets SET version = 1")
	view(t, db, func(tx approvals.Tx) error {
		if got, err := tx.Secret("a"); got != "" || !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("changed row: got %v; want %v and no value", err, approvals.ErrSeal)
		}
		return nil
	})
}

func TestReseal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	a, b, _ := strings.Cut(storetest.Keys, ",")
	db := storetest.Open(t, path, a)
	want := authenticator(totp.NewSecret())
	update(t, db, func(tx approvals.Tx) error {
		for _, id := range []string{"U1", "U2", "U3"} {
			if err := errors.Join(tx.SavePerson(approvals.Person{SlackID: id}), tx.SaveAuthenticator(id, want)); err != nil {
				return err
			}
		}
		return tx.SetSecret("s", "value")
	})

	both := storetest.Open(t, path, b+","+a) // beside the other, as an operator's command is
	var counts []int
	for done := false; !done; {
		var n int
		var err error
		if done, n, err = both.Reseal(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	if !slices.Equal(counts, []int{2, 2, 0}) {
		t.Errorf("resealed in batches of 2: got %v; want [2 2 0]", counts)
	}
	if got, err := both.UsedKeys(t.Context()); err != nil || !slices.Equal(got, []string{"b"}) {
		t.Errorf("used keys: got %v, %v; want [b]", got, err)
	}
	if err := tryOpen(t, path, a); !errors.Is(err, store.ErrMissingKey) {
		t.Errorf("open with the old key: got %v; want %v", err, store.ErrMissingKey)
	}
	view(t, storetest.Open(t, path, b), func(tx approvals.Tx) error {
		got, err := tx.Authenticator("U2")
		if diff := cmp.Diff(*want, got, plain); diff != "" || err != nil {
			t.Errorf("after rotation: %v, the authenticator differs", err)
		}
		if got, err := tx.Secret("s"); got != "value" || err != nil {
			t.Errorf("secret after rotation: got %v; want its value", err)
		}
		return nil
	})

	raw(t, db, "UPDATE secrets SET version = 9, key_id = 'a'")
	if _, _, err := both.Reseal(t.Context(), 2); !errors.Is(err, approvals.ErrSeal) {
		t.Errorf("reseal of a changed row: got %v; want %v", err, approvals.ErrSeal)
	}
}
