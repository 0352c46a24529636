package totp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"pgregory.net/rapid"
)

func rfcSecret(t *testing.T) totp.Secret {
	t.Helper()
	s, err := totp.ParseSecret(rfcBase32)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func code(t *testing.T, input string) totp.Code {
	t.Helper()
	c, err := totp.ParseCode(input)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// RFC 6238 appendix B, SHA-1, the last six of its eight digits.
func TestKnownAnswers(t *testing.T) {
	s := rfcSecret(t)
	for unix, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471",
		1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		at := time.Unix(unix, 0)
		if got := s.At(at); got != want {
			t.Errorf("At(%d) = %s; want %s", unix, got, want)
		}
		step, ok := s.Match(code(t, want), at)
		if step != unix/30 || !ok {
			t.Errorf("Match at %d = %d, %v; want %d, true", unix, step, ok, unix/30)
		}
	}
}

func TestMatchSkew(t *testing.T) {
	s, now := rfcSecret(t), time.Unix(1234567890, 0)
	for shift := int64(-4); shift <= 4; shift++ {
		c := code(t, s.At(now.Add(time.Duration(shift)*30*time.Second)))
		step, ok := s.Match(c, now)
		if want := -1 <= shift && shift <= 1; ok != want {
			t.Errorf("shift %d: got %v; want %v", shift, ok, want)
		}
		if want := totp.Step(now) + shift; ok && step != want {
			t.Errorf("shift %d: got step %d; want %d", shift, step, want)
		}
	}
}

// Two neighbouring steps share a code about once in a million; these two do.
// The greater one must be burnt, or the same code would pass twice.
func TestMatchPrefersGreatestStep(t *testing.T) {
	const first, second, shared = int64(40628458), int64(40628459), "669470"
	s := rfcSecret(t)
	for _, current := range []int64{first - 1, first, second, second + 1} {
		got, ok := s.Match(code(t, shared), totp.StepEnd(current-1))
		if want := min(second, current+1); got != want || !ok {
			t.Errorf("at step %d: got %d, %v; want %d, true", current, got, ok, want)
		}
	}
}

func TestMatchRefuses(t *testing.T) {
	s, now := rfcSecret(t), time.Unix(59, 0)
	for name, c := range map[string]struct {
		secret totp.Secret
		code   totp.Code
		now    time.Time
	}{
		"zero secret":  {totp.Secret{}, code(t, "287082"), now},
		"zero code":    {s, totp.Code{}, now},
		"both zero":    {totp.Secret{}, totp.Code{}, now},
		"wrong code":   {s, code(t, "287083"), now},
		"first step":   {s, code(t, s.At(time.Unix(0, 0))), time.Unix(0, 0)},
		"before 1970":  {s, code(t, s.At(time.Unix(0, 0))), time.Unix(-1, 0)},
		"zero instant": {s, code(t, "287082"), time.Time{}},
	} {
		if step, ok := c.secret.Match(c.code, c.now); ok || step != 0 {
			t.Errorf("%s: got %d, %v; want 0, false", name, step, ok)
		}
	}
	if got := (totp.Secret{}).At(now); got != "" {
		t.Errorf("zero secret has code %q; want none", got)
	}
	if got := s.At(time.Unix(-1, 0)); got != "" {
		t.Errorf("code before 1970 is %q; want none", got)
	}
}

func TestSteps(t *testing.T) {
	for unix, want := range map[int64]int64{0: 0, 29: 0, 30: 1, 59: 1, -1: -1, -30: -1, -31: -2} {
		if got := totp.Step(time.Unix(unix, 0)); got != want {
			t.Errorf("Step(%d) = %d; want %d", unix, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "unix"), 0)
		end := totp.StepEnd(totp.Step(at))
		if left := end.Sub(at); left <= 0 || left > 30*time.Second {
			t.Errorf("step of %v ends %v later; want within (0, 30s]", at, left)
		}
	})
}

func TestParseCode(t *testing.T) {
	s, now := rfcSecret(t), time.Unix(59, 0)
	for _, input := range []string{
		"287082", "287 082", " 287082\n", "2 8 7 0 8 2", "287\u00a0082", "287\u202f082", "287\u2009082", "\ufeff287082\u200b", "\t287082\r\n",
	} {
		c, err := totp.ParseCode(input)
		if _, ok := s.Match(c, now); err != nil || !ok {
			t.Errorf("ParseCode(%q): got %v, match %v; want the code", input, err, ok)
		}
	}
	for _, input := range []string{
		"", " ", "28708", "2870820", "28708a", "-87082", "+87082", "28.082", "28708\u0662", "\uff12\uff18\uff17\uff10\uff18\uff12",
		"287-082", "287082" + strings.Repeat(" ", 100), "28708\x00", "\xff87082", "２8708",
	} {
		if _, err := totp.ParseCode(input); err != totp.ErrCode {
			t.Errorf("ParseCode(%q): got %v; want ErrCode", input, err)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	for _, s := range []string{"123456", "123 456", "１２３４５６", "\u202f123456", "12345", "\xff"} {
		f.Add(s)
	}
	now := time.Unix(1234567890, 0)
	key, err := totp.ParseSecret(rfcBase32)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input string) {
		c, err := totp.ParseCode(input)
		if err != nil {
			if _, ok := key.Match(c, now); ok {
				t.Error("a refused code matches")
			}
			return
		}
		kept := strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return r
			}
			return -1
		}, input)
		if len(kept) != 6 {
			t.Fatalf("accepted %q", input)
		}
		want := kept == key.At(now) || kept == key.At(now.Add(-30*time.Second)) || kept == key.At(now.Add(30*time.Second))
		if _, got := key.Match(c, now); got != want {
			t.Errorf("match of %q: got %v; want %v", input, got, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	s := totp.NewSecret()
	now := time.Unix(1234567890, 0)
	c, err := totp.ParseCode("123456")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.Match(c, now)
	}
}
