package bot_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

var (
	lane     = approvals.SlackLane(deploys, "myapp")
	cardLane = lane + "/card"
	newLane  = lane + "/new"
	card     = approvals.Work{Kind: approvals.WorkCard, Subject: "REQUEST1", Lane: newLane}
	thread   = approvals.Work{Kind: approvals.WorkThread, Subject: "REQUEST1", Lane: lane}
)

func again(w approvals.Work) approvals.Work { w.Attempt = 2; return w }

// tell makes an event that its thread lacks.
func (w *world) tell(seq int64, edit func(*approvals.Told)) {
	t := approvals.Told{
		Event:   approvals.Event{Seq: seq, Type: approvals.EventVoted, Time: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), Request: "REQUEST1", Actor: approvals.Actor{ID: ana}},
		Request: approvals.Request{ID: "REQUEST1"},
	}
	if edit != nil {
		edit(&t)
	}
	w.service.edit(func() { w.service.told[seq] = t })
}

// request edits the request as its events do.
func (w *world) request(edit func(*approvals.Request)) {
	if err := w.service.change("REQUEST1", edit)(nil); err != nil {
		panic(err)
	}
}

func wantDone(t *testing.T, out approvals.Outcome) {
	t.Helper()
	if !out.Due.IsZero() || out.Err != nil {
		t.Fatalf("got %+v; want done", out)
	}
}

// wantAgain wants work that is due again, and that the next delivery looks first.
func wantAgain(t *testing.T, out approvals.Outcome) {
	t.Helper()
	if out.Due.IsZero() || !out.Failed || out.Err == nil {
		t.Fatalf("got %+v; want again after a failure", out)
	}
}

func wantDead(t *testing.T, out approvals.Outcome) {
	t.Helper()
	if !out.Due.IsZero() || out.Err == nil {
		t.Fatalf("got %+v; want it given up", out)
	}
}

// told lists the events that the thread of a card tells, in order.
func (w *world) toldIn(card slacktest.Message) []string {
	var seqs []string
	for _, m := range w.slack.Thread(deploys, card.TS) {
		seqs = append(seqs, fmt.Sprint(m.Metadata.EventPayload["seq"]))
	}
	return seqs
}

func TestCardIsPostedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	wantDone(t, w.deliver(t, card))
	wantDone(t, w.deliver(t, again(card)))
	card := w.cards(t, 1)[0]
	r, _ := w.service.get("REQUEST1")
	if r.Slack.Channel != deploys || r.Slack.TS != card.TS || !strings.HasPrefix(r.Slack.Permalink, "https://") {
		t.Errorf("recorded %+v; want where the card stands", r.Slack)
	}
	if card.Metadata == nil || card.Metadata.EventType != "deploy_approval_request" || len(card.Metadata.EventPayload) != 1 {
		t.Errorf("the metadata is %+v; want the request's id alone", card.Metadata)
	}
	if got := slacktest.Buttons(card); len(got) != 3 {
		t.Errorf("the card has the buttons %v", got)
	}
}

// Slack took the message, and the answer was lost on the way.
func TestALostAnswerMakesNoSecondMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Drop: slacktest.DropAfter, Times: 1})
	wantAgain(t, w.deliver(t, card))
	w.slack.ClearFaults()
	w.bot = w.fresh() // nothing is remembered of the rest
	wantDone(t, w.deliver(t, again(card)))
	w.cards(t, 1)

	w.tell(7, nil)
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Drop: slacktest.DropAfter, Times: 1})
	wantAgain(t, w.deliver(t, thread))
	w.bot = w.fresh()
	wantDone(t, w.deliver(t, again(thread)))
	if got := w.toldIn(w.cards(t, 1)[0]); !slices.Equal(got, []string{"7"}) {
		t.Errorf("the thread tells %v; want 7 once", got)
	}
}

func TestWithoutHistoryScopeASecondCardIsTolerated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{Scopes: []string{"chat:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read"}})
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Drop: slacktest.DropAfter, Times: 1})
	w.deliver(t, card)
	w.bot = w.fresh()
	wantDone(t, w.deliver(t, again(card)))
	w.cards(t, 2)
}

func TestNothingIsPostedBeforeTheLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.AddFault(slacktest.Fault{Method: "conversations.history", Status: 503, Times: 1})
	wantAgain(t, w.deliver(t, again(card)))
	w.cards(t, 0)
	w.bot = w.fresh()
	wantDone(t, w.deliver(t, again(card)))
	w.cards(t, 1)
}

// Anybody may write such words, and any app may copy our metadata: only what
// our own bot wrote is taken for a card.
func TestSomebodyElsesMessageIsNotAdopted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{BotID: "B0OTHER"})
	wantDone(t, w.deliver(t, card)) // by the app whose bot is B0OTHER
	w.request(func(r *approvals.Request) { r.Slack = approvals.SlackRef{} })
	ours := newWorld(t, slacktest.Config{})
	b := bot.New(bot.Config{Workspace: impostor(t, w, ours), Service: w.service, Links: links{}})
	wantDone(t, b.Deliver(deadline(t), again(card)))
	w.cards(t, 2)
}

// impostor reads and writes in w, but is told at auth.test that it is another bot.
func impostor(t *testing.T, w, identity *world) *bot.Workspace {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/auth.test") {
			identity.slack.ServeHTTP(rw, r)
			return
		}
		w.slack.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	ws := bot.Open(bot.Settings{BotToken: w.slack.Config().BotToken, APIURL: front.URL + "/api/"})
	if _, err := ws.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestFaultsOfTheChannel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*slacktest.Channel)
		want string
	}{
		{"not invited", func(c *slacktest.Channel) { c.Members = nil }, "/invite"},
		{"private", func(c *slacktest.Channel) { c.Members, c.IsPrivate = nil, true }, "/invite"},
		{"archived", func(c *slacktest.Channel) { c.IsArchived = true }, "archived"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, slacktest.Config{})
			if err := w.slack.EditChannel(deploys, tt.edit); err != nil {
				t.Fatal(err)
			}
			wantAgain(t, w.deliver(t, card))
			if r, _ := w.service.get("REQUEST1"); !strings.Contains(r.PostFailed, tt.want) {
				t.Errorf("recorded %q; want %q in it", r.PostFailed, tt.want)
			}
			if ok, detail := w.bot.Health(); ok || !strings.Contains(detail, tt.want) {
				t.Errorf("health says %v %q; want %q in it", ok, detail, tt.want)
			}
			w.slack.SetChannel(slacktest.Channel{ID: deploys, Members: []string{w.slack.Config().BotUserID, ana}})
			w.bot = w.fresh()
			wantDone(t, w.deliver(t, again(card)))
			if ok, detail := w.bot.Health(); !ok {
				t.Errorf("health still says %q", detail)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	first := w.postCard(t)
	updates := func() int { return len(w.slack.CallsOf("chat.update")) }
	w.request(func(r *approvals.Request) { r.Version++ })
	wantDone(t, w.deliver(t, card))
	if got := updates(); got != 0 {
		t.Errorf("a card that shows the present state cost %d calls; want none", got)
	}
	w.request(func(r *approvals.Request) { r.Newer = 128 })
	wantDone(t, w.deliver(t, card))
	wantDone(t, w.deliver(t, card))
	if now := w.cards(t, 1)[0]; now.Edited || now.Revision != 1 || now.Metadata == nil || now.Blocks[0]["block_id"] == first.Blocks[0]["block_id"] {
		t.Errorf("got %+v; want a second revision with new block ids that is not marked as edited and keeps its metadata", now)
	}
	if got := updates(); got != 1 {
		t.Errorf("the changed card cost %d calls; want 1", got)
	}
	w.request(func(r *approvals.Request) { r.Newer = 129 })
	w.slack.AddFault(slacktest.Fault{Method: "chat.update", Error: "edit_window_closed", Times: 1})
	wantDead(t, w.deliver(t, card))
	w.slack.RemoveMessage(deploys, first.TS)
	wantDone(t, w.deliver(t, card))
	if r, _ := w.service.get("REQUEST1"); r.Slack.TS != "" {
		t.Errorf("got a card at %+v; want it noted as lost while it is needed", r.Slack)
	}
	w.postCard(t)
	w.request(func(r *approvals.Request) { r.Status = approvals.Deployed })
	w.slack.RemoveMessage(deploys, w.cards(t, 1)[0].TS)
	wantDead(t, w.deliver(t, card))
}

func TestRefusedBlocksFallBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "invalid_blocks", Times: 1})
	wantDone(t, w.deliver(t, card))
	if got := slacktest.Buttons(w.cards(t, 1)[0]); strings.Join(got, " ") != "approve reject view_pipeline" {
		t.Errorf("the spare card has the buttons %v", got)
	}
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "msg_too_long", Times: 1})
	w.tell(9, nil)
	wantDone(t, w.deliver(t, thread))
	if got := w.slack.Thread(deploys, w.cards(t, 1)[0].TS); len(got) != 1 || len(got[0].Blocks) != 0 || got[0].Text == "" {
		t.Errorf("got %+v; want the line as plain text", got)
	}
	w.request(func(r *approvals.Request) { r.Newer = 128 })
	w.slack.AddFault(slacktest.Fault{Method: "chat.update", Error: "invalid_blocks", Times: 1})
	wantDone(t, w.deliver(t, card))
}

func TestNotice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.tell(7, func(t *approvals.Told) { t.Event.Type = approvals.EventCodeLocked })
	notice := func(to string) approvals.Work {
		return approvals.Work{Kind: approvals.WorkNotice, Subject: "7 " + to, Lane: approvals.SlackLane(to, "myapp")}
	}
	for to, read := range map[string]func() []slacktest.Message{
		deploys: func() []slacktest.Message { return w.slack.Messages(deploys) },
		ana:     func() []slacktest.Message { return w.slack.DMs(ana) },
	} {
		wantDone(t, w.deliver(t, notice(to)))
		if got := read(); len(got) != 1 || !strings.Contains(got[0].Text, "wrong codes") {
			t.Errorf("%s got %+v; want the notice", to, got)
		}
	}
	wantDone(t, w.deliver(t, again(notice(deploys))))
	w.cards(t, 1)
	for _, to := range []string{"", "U0NOBODY", "<!channel>"} {
		wantDead(t, w.deliver(t, notice(to)))
	}
}

func TestAlarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	alarm := approvals.Work{Kind: approvals.WorkAlarm, Subject: deploys, Lane: approvals.SlackLane(deploys, "")}
	wantDone(t, w.deliver(t, alarm)) // there is nothing to tell
	w.service.edit(func() { w.service.fault = "its 3 leaves are <!channel>" })
	wantDone(t, w.deliver(t, alarm))
	got := w.cards(t, 1)[0]
	if !strings.HasPrefix(got.Text, "⚠️ Nothing is approved any more: its 3 leaves are") || strings.Contains(got.Text, "<!channel>") || got.Metadata != nil {
		t.Errorf("got %+v; want the alarm", got)
	}
}

func TestNothingToShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	for _, work := range []approvals.Work{
		{Kind: approvals.WorkCard, Subject: "OTHER"}, {Kind: approvals.WorkThread, Subject: "OTHER"},
		{Kind: approvals.WorkNotice, Subject: "99 " + deploys}, {Kind: approvals.WorkFollow, Subject: "OTHER"},
	} {
		wantDead(t, w.deliver(t, work))
	}
}
