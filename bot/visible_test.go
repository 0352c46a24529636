package bot_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
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
		for kind, got := range map[string]string{"name": bot.ShowName(text), "message": bot.ShowMessage(text)} {
			if strings.ContainsRune(got, r) || !strings.Contains(got, "‹U+") {
				t.Errorf("%U in a %s: got %q; want it shown", r, kind, got)
			}
		}
	}
	if got := bot.ShowName("release\u00a01"); !strings.Contains(got, "‹U+00A0›") {
		t.Errorf("got %q; want the unusual blank shown", got)
	}
	if got := bot.ShowMessage("a" + strings.Repeat("\u0301", 50)); strings.Count(got, "\u0301") > 4 {
		t.Errorf("got %q; want no tower of accents", got)
	}
	for text, want := range map[string]string{"a\rb": "a␍b", "a\r\nb": "a\nb", "\x1b[31m": "␛[31m", "a\tb": "a b", "\xff": "\uFFFD"} {
		if got := bot.ShowMessage(text); got != want {
			t.Errorf("%q: got %q; want %q", text, got, want)
		}
	}
}

func TestMessagesStayReadable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"👩\u200d💻 and 👩🏽\u200d🚀", "❤️\u200d🔥 ⚠️ 🏳️\u200d🌈", "1️⃣ #️⃣", "‼️", "Исправить сумму счёта", "می\u200cخواهم", "क्\u200dष", "Café au lait – déjà vu", "請求書の丸めを修正", "🇩🇪 👍🏿",
	} {
		if got := bot.ShowMessage(text); got != text {
			t.Errorf("%q was changed to %q", text, got)
		}
	}
	for _, text := range []string{"a\u200db", "👩\u200d", "\u200d👩", "a\ufe0f", "👩\ufe0f\ufe0f", "1\ufe0f", "ma\u200cin", "می\u200c", "👩\u200d\u200d💻"} {
		if got := bot.ShowMessage(text); !strings.Contains(got, "‹U+") {
			t.Errorf("%q: got %q; want the stray joiner shown", text, got)
		}
	}
}

func TestLookalikesInNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"mаin": "U+0430", "ѕtаging": "U+0430, U+0455", "rеlеаѕе/1": "U+0430, U+0435, U+0455", "сорау": "U+0430, U+043E, U+0440, …", "release/рос": "U+043E, U+0440, U+0441",
		"tasк": "U+043A", "mαin": "U+03B1", "օne": "U+0585", "ｍain": "U+FF4D", "𝐦𝐚𝐢𝐧": "U+1D41A, U+1D422, U+1D426, …", "maın": "U+0131", "mɑin": "U+0251",
		"release∕1": "U+2215", "release‐1": "U+2010", "v1․2": "U+2024", "mai\u0307n": "U+0307", "ᎪᏢ": "U+13AA, U+13E2", "v１": "U+FF11", "ma‹U+200C›in": "U+2039, U+203A",
		"main·prod": "U+00B7", "исправить-cчёт": "U+0447, U+0451, U+0442", "ⅿain": "U+217F", "eℓse": "U+2113",

		"main": "", "release/v1.2_3": "", "feature/исправить": "", "ветка": "", "größe-café": "", "機能/請求書": "", "feature/データv2": "", "ćwiczenie": "", "🚀-launch": "",
		"λ-calculus": "", "github-merge-queue[bot]": "", "한국어": "", "<!channel>": "", "": "",
	} {
		got := bot.ShowName(name)
		_, remark, found := strings.Cut(got, " (contains characters that look like others: ")
		list := strings.Split(strings.TrimSuffix(remark, ")"), ", ")
		wanted := strings.Split(want, ", ")
		slices.Sort(list)
		slices.Sort(wanted)
		if found != (want != "") || found && !slices.Equal(list, wanted) {
			t.Errorf("%q: got %q; want %q pointed out", name, got, want)
		}
	}
}

// Every name that decides is judged, wherever it shows.
func TestNamesThatDecideArePointedOut(t *testing.T) {
	t.Parallel()
	for field, edit := range map[string]func(*approvals.Request, string){
		"branch":   func(r *approvals.Request, s string) { r.Facts.Branch = s },
		"tag":      func(r *approvals.Request, s string) { r.Facts.Tag = s },
		"actor":    func(r *approvals.Request, s string) { r.Facts.Actor = s },
		"starter":  func(r *approvals.Request, s string) { r.Facts.StartedBy = s },
		"workflow": func(r *approvals.Request, s string) { r.Facts.WorkflowName = s },
		"gate":     func(r *approvals.Request, s string) { r.GateName = s },
	} {
		for name, want := range map[string]string{"mаin": "U+0430", "ma\u200cin": "‹U+200C›", "ma\ufe0fin": "‹U+FE0F›", "ma\U000e0101in": "‹U+E0101›"} {
			r := approved(request(), ana)
			edit(&r, name)
			card := decodeMessage(t, bot.RenderCard(links{}, approvals.Card{Request: r}))
			asked := decodeMessage(t, bot.RenderReply(links{}, approvals.Told{Event: approvals.Event{Type: approvals.EventRequested}, Request: r}, monday))
			if !strings.Contains(slacktest.Text(card.Blocks)+slacktest.Text(asked.Blocks), want) {
				t.Errorf("%s %q: %s is not pointed out on the card:\n%s", field, name, want, slacktest.Text(card.Blocks))
			}
			if field != "workflow" && field != "starter" && !strings.Contains(card.Text, want) {
				t.Errorf("%s %q: %s is not pointed out in the notification: %s", field, name, want, card.Text)
			}
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, text := range append(hostile(), "👩🏽\u200d🚀 ❤️\u200d🔥 1️⃣", "می\u200cخواهم", "mаin", "ма\u200cin", "\u200d", "a\ufe0f\u200d💻") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, message := bot.ShowName(text), bot.ShowMessage(text)
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
		if again := bot.ShowMessage(message); again != message {
			t.Errorf("%q: shown twice, %q becomes %q", text, message, again)
		}
	})
}
