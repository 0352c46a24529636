package totp_test

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	otptotp "github.com/pquerna/otp/totp"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

const rfcBase32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // "12345678901234567890"

func TestParseSecret(t *testing.T) {
	want := []byte("12345678901234567890")
	for _, text := range []string{
		rfcBase32,
		strings.ToLower(rfcBase32),
		"gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
		"GEZD\u00a0GNBV\u202fGY3TQOJQGEZDGNBVGY3TQOJQ\r\n",
	} {
		s, err := totp.ParseSecret(text)
		if err != nil || !bytes.Equal(keyOf(s), want) {
			t.Errorf("ParseSecret(%q): got %v; want the secret", text, err)
		}
	}
	sixteen := base32.StdEncoding.EncodeToString(want[:16])
	for _, text := range []string{sixteen, strings.TrimRight(sixteen, "="), strings.TrimRight(sixteen, "=") + "="} {
		s, err := totp.ParseSecret(text)
		if err != nil || !bytes.Equal(keyOf(s), want[:16]) {
			t.Errorf("ParseSecret(%q): got %v; want the 16 byte secret", text, err)
		}
	}

	for text, want := range map[string]error{
		"":                             totp.ErrSecretShort,
		"====":                         totp.ErrSecretShort,
		"GEZDGNBV":                     totp.ErrSecretShort,
		base32of(15):                   totp.ErrSecretShort,
		base32of(129):                  totp.ErrSecretLong,
		strings.Repeat("A", 1<<20):     totp.ErrSecretLong,
		rfcBase32 + "A":                totp.ErrSecretBase32,
		rfcBase32 + "AAA":              totp.ErrSecretBase32,
		rfcBase32 + "AAAAAA":           totp.ErrSecretBase32,
		rfcBase32[:31] + "1":           totp.ErrSecretBase32,
		rfcBase32[:31] + "=" + "A":     totp.ErrSecretBase32,
		rfcBase32[:30] + "\u0131":      totp.ErrSecretBase32,
		rfcBase32[:30] + "\u017f":      totp.ErrSecretBase32,
		"otpauth://totp/x?secret=AAAA": totp.ErrSecretBase32,
		"\xff\xfe" + rfcBase32[:30]:    totp.ErrSecretBase32,
	} {
		if s, err := totp.ParseSecret(text); !errors.Is(err, want) || s.Base32() != "" {
			t.Errorf("ParseSecret(%.50q): got %v; want %v", text, err, want)
		}
	}
}

func base32of(n int) string { return base32.StdEncoding.EncodeToString(make([]byte, n)) }

func TestNewSecret(t *testing.T) {
	a, b := totp.NewSecret(), totp.NewSecret()
	if len(keyOf(a)) != 20 || a.Base32() == b.Base32() {
		t.Error("want two different secrets of 20 bytes")
	}
	again, err := totp.ParseSecret(a.Base32())
	if err != nil || again.Base32() != a.Base32() {
		t.Error("want the same secret back from its base32")
	}
}

// keyOf is a secret as bytes.
func keyOf(s totp.Secret) []byte {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(s.Base32())
	if err != nil {
		panic(err)
	}
	return key
}

// The link must be read back by an independent reader, with the names intact.
func TestURL(t *testing.T) {
	s := rfcSecret(t)
	for _, c := range []struct{ issuer, account, wantIssuer, wantAccount string }{
		{"Rack Gateway", "ada@example.com", "Rack Gateway", "ada@example.com"},
		{"Rack: prod", "a:b", "Rack prod", "a b"},
		{"R&D+x=1?#/%", "ü/é ", "R&D+x=1?#/%", "ü/é"},
		{"x\n\x00y", "T1\t\xffU1", "x y", "T1 U1"},
		{"", "ada", "", "ada"},
	} {
		link := s.URL(c.issuer, c.account)
		key, err := otp.NewKeyFromURL(link)
		if err != nil {
			t.Errorf("URL(%q, %q) cannot be read: %v", c.issuer, c.account, err)
			continue
		}
		if key.Issuer() != c.wantIssuer || key.AccountName() != c.wantAccount {
			t.Errorf("URL(%q, %q): got %q, %q; want %q, %q", c.issuer, c.account, key.Issuer(), key.AccountName(), c.wantIssuer, c.wantAccount)
		}
		if key.Secret() != rfcBase32 || key.Digits() != otp.DigitsSix || key.Period() != 30 || key.Algorithm() != otp.AlgorithmSHA1 || key.Type() != "totp" {
			t.Errorf("URL(%q, %q) has other parameters", c.issuer, c.account)
		}
		if strings.ContainsAny(link, " +\n") {
			t.Errorf("URL(%q, %q) has a plain space or plus sign", c.issuer, c.account)
		}
	}
	if got := (totp.Secret{}).URL("a", "b"); got != "" {
		t.Errorf("zero secret: got %q; want no link", got)
	}
}

// pquerna's own validation takes what At shows.
func TestAgreesWithLibrary(t *testing.T) {
	s, at := totp.NewSecret(), time.Unix(1_800_000_000, 0)
	ok, err := otptotp.ValidateCustom(s.At(at), s.Base32(), at, otptotp.ValidateOpts{Period: 30, Digits: otp.DigitsSix})
	if !ok || err != nil {
		t.Errorf("got %v, %v; want true", ok, err)
	}
}

func TestRedaction(t *testing.T) {
	s, c := rfcSecret(t), code(t, "287082")
	type wrapped struct {
		s  totp.Secret
		c  totp.Code
		ps *totp.Secret
		S  totp.Secret
		C  totp.Code
	}
	w := wrapped{s, c, &s, s, c}
	secrets := []string{
		"12345678901234567890", rfcBase32, hex.EncodeToString(keyOf(s)), strings.ToUpper(hex.EncodeToString(keyOf(s))), "49 50 51", "0x31, 0x32",
		"287082", "50 56 55", "323837303832", "0x32, 0x38",
	}
	var texts []string
	for _, v := range []any{s, &s, c, &c, w, &w, []any{s, c}, map[string]any{"s": s, "c": c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%20s", "%t"} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
		for _, newHandler := range []func(*bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(newHandler(&b)).Info("m", "v", v)
			texts = append(texts, b.String())
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(j))
	}
	texts = append(texts, s.String(), s.GoString(), c.String(), c.GoString())
	for _, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%q contains %q", text, secret)
			}
		}
	}
	if got := fmt.Sprint(s, c); got != "REDACTED REDACTED" {
		t.Errorf("got %q; want REDACTED REDACTED", got)
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, s := range []string{rfcBase32, "gezd gnbv", strings.ToLower(rfcBase32), "", "====", "\xff", base32of(16)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := totp.ParseSecret(text)
		if err != nil {
			if s.Base32() != "" {
				t.Error("an error came with a secret")
			}
			return
		}
		if n := len(keyOf(s)); n < 16 || n > 128 {
			t.Errorf("accepted %d bytes", n)
		}
		again, err := totp.ParseSecret(s.Base32())
		if err != nil || again.Base32() != s.Base32() {
			t.Errorf("base32 does not lead back: %v", err)
		}
		if len(s.At(time.Unix(59, 0))) != 6 {
			t.Error("secret has no code")
		}
	})
}
