package approvals_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func TestTokenText(t *testing.T) {
	text, id, hash := approvals.NewTokenText()
	gotID, gotHash, ok := approvals.ParseToken(text)
	if !ok || gotID != id || gotHash != hash || hash != fmt.Sprintf("%x", sha256.Sum256([]byte(text))) || !strings.HasPrefix(text, "rgw_"+id) {
		t.Fatal("a new token does not parse to its own id and hash")
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	for i := range text {
		typo := []byte(text)
		typo[i] = alphabet[(strings.IndexByte(alphabet, typo[i])+1)%len(alphabet)]
		if _, _, ok := approvals.ParseToken(string(typo)); ok {
			t.Errorf("a typo at %d passes", i)
		}
		if _, _, ok := approvals.ParseToken(text[:i]); ok {
			t.Errorf("a text cut at %d passes", i)
		}
	}
	for i := 5; i < len(text); i++ {
		swapped := []byte(text)
		swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
		if _, _, ok := approvals.ParseToken(string(swapped)); ok && string(swapped) != text {
			t.Errorf("letters swapped at %d pass", i)
		}
	}
	for name, bad := range map[string]string{"lower case": strings.ToLower(text), "longer": text + "A", "space": " " + text, "new line": text + "\n", "no prefix": text[4:]} {
		if _, _, ok := approvals.ParseToken(bad); ok {
			t.Errorf("%s passes", name)
		}
	}
}

// A rotated token works until its grace is over; name and rights are the
// successor's, which is told by the log alone.
func TestTokenRotation(t *testing.T) {
	bubble(t, "", func(w *world) {
		works := func(text string, want bool) {
			t.Helper()
			if _, err := w.svc.Authenticate(w.ctx, text); (err == nil) != want {
				t.Errorf("got %v; want accepted: %t", err, want)
			}
		}
		first, old, err := w.admin.CreateToken(w.ctx, "ci-x", approvals.RoleCICD, []string{"shop"}, 90*24*time.Hour)
		w.must(err)
		second, token, was, err := w.admin.RotateToken(w.ctx, "ci-x", 0, time.Hour)
		w.must(err)
		if token.Name != "ci-x" || token.Role != approvals.RoleCICD || !slices.Equal(token.Apps, []string{"shop"}) || was.ID != old.ID || !token.ExpiresAt.Equal(time.Now().Add(90*24*time.Hour)) {
			t.Errorf("got %+v in place of %+v; want its name, role, apps and lifetime", token, was)
		}
		works(first, true)
		works(second, true)
		differ, err := approvals.Rebuild(w.ctx, w.store, true)
		if w.must(err); len(differ) > 0 {
			t.Errorf("the log says something else: %v", differ)
		}
		for id, code := range map[string]approvals.Code{old.ID: approvals.CodeConflict, "ci-y": approvals.CodeNotFound, first[:12]: approvals.CodeInvalid} {
			_, _, _, err := w.admin.RotateToken(w.ctx, id, 0, 0)
			var why *approvals.Error
			if !errors.As(err, &why) || why.Code != code {
				t.Errorf("%s: got %v; want %s", id, err, code)
			}
		}
		if _, _, err := w.admin.CreateToken(w.ctx, "ci-x", approvals.RoleCICD, nil, time.Hour); err == nil {
			t.Error("a second token in force may have the same name")
		}
		w.wait(time.Hour)
		works(first, false)
		works(second, true)
		// By its name the newest is meant, and it may end at once.
		third, token, _, err := w.admin.RotateToken(w.ctx, "ci-x", 24*time.Hour, 0)
		w.must(err)
		works(second, false)
		works(third, true)
		w.wait(25 * time.Hour)
		works(third, false)
		// One that has expired has a successor, too.
		fourth, _, was, err := w.admin.RotateToken(w.ctx, "ci-x", 0, 30*24*time.Hour)
		w.must(err)
		works(third, false)
		works(fourth, true)
		if was.ID != token.ID {
			t.Errorf("got %s replaced; want %s", was.ID, token.ID)
		}
		if _, _, _, err := w.admin.RotateToken(w.ctx, "ci-x", 0, 31*24*time.Hour); err == nil {
			t.Error("a grace of 31 days is taken")
		}
		// Revoking ends a grace.
		w.must(func() error { _, _, _, err := w.admin.RotateToken(w.ctx, "ci-x", 48*time.Hour, time.Hour); return err }())
		works(fourth, true)
		id, _, _ := approvals.ParseToken(fourth)
		revoked, err := w.admin.RevokeToken(w.ctx, id)
		if w.must(err); revoked.RevokedAt.After(time.Now()) {
			t.Errorf("got %+v; want it revoked now", revoked)
		}
		works(fourth, false)
	})
}

func TestTokenRights(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		token  approvals.Token
		covers bool // app a
		usable bool
	}{
		"all apps":   {approvals.Token{ExpiresAt: now.Add(1)}, true, true},
		"no app":     {approvals.Token{Apps: []string{}, ExpiresAt: now.Add(1)}, false, true},
		"this app":   {approvals.Token{Apps: []string{"b", "a"}, ExpiresAt: now}, true, false},
		"other apps": {approvals.Token{Apps: []string{"b", "ab"}, ExpiresAt: now.Add(1), RevokedAt: now}, false, false},
		"rotated":    {approvals.Token{ExpiresAt: now.Add(2), RevokedAt: now.Add(1)}, true, true},
		"replaced":   {approvals.Token{ExpiresAt: now.Add(2), RevokedAt: now}, true, false},
		"zero":       {approvals.Token{}, true, false},
	} {
		if got := c.token.Covers("a"); got != c.covers {
			t.Errorf("%s: covers: got %v; want %v", name, got, c.covers)
		}
		if got := c.token.Usable(now); got != c.usable {
			t.Errorf("%s: usable: got %v; want %v", name, got, c.usable)
		}
	}
}

func TestParseLife(t *testing.T) {
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"90d": 90 * day, "1d": day, "3650d": 3650 * day, "87600h": 3650 * day, "12h": 12 * time.Hour, "5m": 5 * time.Minute, "1s": time.Second, "007d": 7 * day,
		"": 0, "d": 0, "9": 0, "0d": 0, "-1d": 0, "+1d": 0, "1.5h": 0, "3651d": 0, "87601h": 0, "1w": 0, "1D": 0, "1 d": 0, " 1d": 0, "1d ": 0, "1h30m": 0,
		"99999999999999999999d": 0, "106751991167301d": 0, "9999999999d": 0, "1e3d": 0, "٣d": 0,
	} {
		got, err := approvals.ParseLife(in)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("ParseLife(%q): got %v, %v; want %v", in, got, err, want)
		}
	}
}
