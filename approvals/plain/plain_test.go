package plain_test

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// unseen are code points that show nothing by themselves.
func unseen() []rune {
	all := []rune{0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2028, 0x2029, 0x2800, 0x3164, 0xfeff, 0xffa0, 0xfff9, 0x1d173, 0xfffe}
	for _, span := range [][2]rune{{0x80, 0x9f}, {0x180b, 0x180f}, {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x206f}, {0xfe00, 0xfe0f}, {0xe0000, 0xe007f}, {0xe0100, 0xe01ef}} {
		for r := span[0]; r <= span[1]; r++ {
			all = append(all, r)
		}
	}
	return all
}

func TestWhatShowsNothingIsShown(t *testing.T) {
	t.Parallel()
	for _, r := range unseen() {
		text := "ma" + string(r) + "in"
		for kind, got := range map[string]string{"name": plain.Name(text), "message": plain.Visible(text)} {
			if strings.ContainsRune(got, r) || !strings.Contains(got, "‹U+") {
				t.Errorf("%U in a %s: got %q; want it shown", r, kind, got)
			}
		}
	}
	if got := plain.Name("release\u00a01"); !strings.Contains(got, "‹U+00A0›") {
		t.Errorf("got %q; want the unusual blank shown", got)
	}
	if got := plain.Visible("a" + strings.Repeat("\u0301", 50)); strings.Count(got, "\u0301") > 4 {
		t.Errorf("got %q; want no tower of accents", got)
	}
	for text, want := range map[string]string{"a\rb": "a␍b", "a\r\nb": "a\nb", "\x1b[31m": "␛[31m", "a\tb": "a b", "\xff": "\uFFFD"} {
		if got := plain.Visible(text); got != want {
			t.Errorf("%q: got %q; want %q", text, got, want)
		}
	}
}

func TestMessagesStayReadable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"👩\u200d💻 and 👩🏽\u200d🚀", "❤️\u200d🔥 ⚠️ 🏳️\u200d🌈", "1️⃣ #️⃣", "‼️", "Исправить сумму счёта", "می\u200cخواهم", "क्\u200dष", "Café au lait – déjà vu", "請求書の丸めを修正", "🇩🇪 👍🏿",
	} {
		if got := plain.Visible(text); got != text {
			t.Errorf("%q was changed to %q", text, got)
		}
	}
	for _, text := range []string{"a\u200db", "👩\u200d", "\u200d👩", "a\ufe0f", "👩\ufe0f\ufe0f", "1\ufe0f", "ma\u200cin", "می\u200c", "👩\u200d\u200d💻"} {
		if got := plain.Visible(text); !strings.Contains(got, "‹U+") {
			t.Errorf("%q: got %q; want the stray joiner shown", text, got)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{{"main", 4, "main"}, {"maine", 4, "mai…"}, {"很很很很很", 3, "很很…"}, {"a b c", 3, "a…"}, {"👩\u200d💻", 3, "👩\u200d💻"}, {"👩\u200d💻x", 3, "👩…"}} {
		if got := plain.Cut(tt.text, tt.n); got != tt.want {
			t.Errorf("%q to %d: got %q; want %q", tt.text, tt.n, got, tt.want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0s", "24h": "24h", "90m": "1h30m", "20m": "20m", "10m30s": "10m30s", "1h0m10s": "1h0m10s", "100s": "1m40s", "1.5s": "1.5s", "-48h": "-48h",
	} {
		d, err := time.ParseDuration(text)
		if got := plain.Duration(d); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, text := range []string{"a\r\nb", "\x1b[31mred", "\u202egnp.exe", "\xff\xfe", "<b>&", "👩🏽\u200d🚀 ❤️\u200d🔥 1️⃣", "می\u200cخواهم", "mаin", "ма\u200cin", "\u200d", "a\ufe0f\u200d💻"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, message := plain.Name(text), plain.Visible(text)
		for kind, got := range map[string]string{"name": name, "message": message} {
			if !utf8.ValidString(got) {
				t.Errorf("%s %q: %q is not UTF-8", kind, text, got)
			}
			joiners := "\u200c\u200d\ufe0f"
			if kind == "name" {
				joiners = ""
			}
			for _, r := range got {
				if r != '\n' && !strings.ContainsRune(joiners, r) && (slices.Contains(unseen(), r) || unicode.In(r, unicode.Cc, unicode.Cf)) {
					t.Errorf("%s %q: the invisible %U survives in %q", kind, text, r, got)
				}
			}
		}
		if strings.ContainsAny(name, "\n") {
			t.Errorf("%q: the name %q has more than one line", text, name)
		}
		// Each joiner that stays has a visible neighbour of its kind, so no two are in a
		// row but the pair that emoji have.
		for _, pair := range []string{"\u200c\u200c", "\u200c\u200d", "\u200d\u200c", "\u200d\u200d", "\ufe0f\ufe0f", "\u200d\ufe0f", "\u200c\ufe0f"} {
			if strings.Contains(message, pair) {
				t.Errorf("%q: %q has the joiners %q in a row", text, message, pair)
			}
		}
		if again := plain.Visible(message); again != message {
			t.Errorf("%q: shown twice, %q becomes %q", text, message, again)
		}
	})
}

func TestLine(t *testing.T) {
	t.Parallel()
	for _, tt := range [][2]string{
		{" a\r\n\tb\x00\x1b c ", "a b c"}, {"", ""}, {"\n", ""}, {"0123456789", "0123456789"}, {"0123456789a", "012345678…"}, {"a\xffb", "a\uFFFDb"}, {"äöüäöüäöüäö", "äöüäöüäöü…"},
	} {
		if got := plain.Line(tt[0], 10); got != tt[1] {
			t.Errorf("%q: got %q; want %q", tt[0], got, tt[1])
		}
	}
}
