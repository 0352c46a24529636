package bot_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

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
