package bot_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

var (
	cardPost   = approvals.Effect{Kind: approvals.CardPost, Request: "REQUEST1"}
	cardUpdate = approvals.Effect{Kind: approvals.CardUpdate, Request: "REQUEST1"}
)

func again(e approvals.Effect) approvals.Effect { e.Attempt = 2; return e }

// tell makes an event that can be told.
func (w *world) tell(seq int64, edit func(*approvals.Told)) approvals.Effect {
	t := approvals.Told{
		Event:   approvals.Event{Seq: seq, Type: approvals.EventVoted, Time: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), Request: "REQUEST1", Actor: approvals.Actor{ID: ana}},
		Request: approvals.Request{ID: "REQUEST1"},
	}
	if edit != nil {
		edit(&t)
	}
	w.service.edit(func() { w.service.told[seq] = t })
	return approvals.Effect{Kind: approvals.ThreadReply, Request: "REQUEST1", Seq: seq}
}

func wantDone(t *testing.T, out approvals.Outcome) {
	t.Helper()
	if out.Again || out.Err != nil {
		t.Fatalf("got %+v; want done", out)
	}
}

func TestCardIsPostedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	wantDone(t, w.deliver(t, cardPost))
	wantDone(t, w.deliver(t, again(cardPost)))
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
	if out := w.deliver(t, cardPost); !out.Again {
		t.Fatalf("got %+v; want again", out)
	}
	wantDone(t, w.deliver(t, again(cardPost)))
	w.cards(t, 1)

	reply := w.tell(7, nil)
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Drop: slacktest.DropAfter, Times: 1})
	if out := w.deliver(t, reply); !out.Again {
		t.Fatalf("got %+v; want again", out)
	}
	wantDone(t, w.deliver(t, again(reply)))
	if got := w.slack.Thread(deploys, w.cards(t, 1)[0].TS); len(got) != 1 {
		t.Errorf("got %d replies; want 1", len(got))
	}
}

func TestWithoutHistoryScopeASecondCardIsTolerated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{Scopes: []string{"chat:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read"}})
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Drop: slacktest.DropAfter, Times: 1})
	w.deliver(t, cardPost)
	wantDone(t, w.deliver(t, again(cardPost)))
	w.cards(t, 2)
}

func TestNothingIsPostedBeforeTheLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.AddFault(slacktest.Fault{Method: "conversations.history", Status: 503, Times: 1})
	if out := w.deliver(t, again(cardPost)); !out.Again {
		t.Fatalf("got %+v; want to look again before posting", out)
	}
	w.cards(t, 0)
	wantDone(t, w.deliver(t, again(cardPost)))
	w.cards(t, 1)
}

// Anybody may write such words, and any app may copy our metadata: only what
// our own bot wrote is taken for a card.
func TestSomebodyElsesMessageIsNotAdopted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{BotID: "B0OTHER"})
	wantDone(t, w.deliver(t, cardPost)) // by the app whose bot is B0OTHER
	w.service.edit(func() {
		r := w.service.requests["REQUEST1"]
		r.Slack = approvals.SlackRef{}
		w.service.requests["REQUEST1"] = r
	})
	ours := newWorld(t, slacktest.Config{})
	b := bot.New(bot.Config{Workspace: impostor(t, w, ours), Service: w.service, Links: links{}})
	if out := b.Deliver(deadline(t), again(cardPost)); out.Again || out.Err != nil {
		t.Fatalf("got %+v; want done", out)
	}
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
			out := w.deliver(t, cardPost)
			if !out.Again || out.After < 5*time.Second || out.After > 5*time.Minute {
				t.Fatalf("got %+v; want again after a while", out)
			}
			r, _ := w.service.get("REQUEST1")
			if r.Failure.Code != "card_not_posted" || !strings.Contains(r.Failure.Detail, tt.want) {
				t.Errorf("recorded %+v; want %q in it", r.Failure, tt.want)
			}
			if ok, detail := w.bot.Health(); ok || !strings.Contains(detail, tt.want) {
				t.Errorf("health says %v %q; want %q in it", ok, detail, tt.want)
			}
			w.slack.SetChannel(slacktest.Channel{ID: deploys, Members: []string{w.slack.Config().BotUserID, ana}})
			wantDone(t, w.deliver(t, again(cardPost)))
			if ok, detail := w.bot.Health(); !ok {
				t.Errorf("health still says %q", detail)
			}
		})
	}
}

func TestRateLimitRestsTheMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Status: 429, RetryAfter: 30, Times: 1})
	for range 2 {
		if out := w.deliver(t, cardPost); !out.Again || out.After < 25*time.Second || out.After > 30*time.Second {
			t.Fatalf("got %+v; want again after what Slack says", out)
		}
	}
	if got := len(w.slack.CallsOf("chat.postMessage")); got != 1 {
		t.Errorf("got %d calls; want 1: the method rests", got)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	wantDone(t, w.deliver(t, cardUpdate)) // nothing to update yet
	w.postCard(t)
	wantDone(t, w.deliver(t, cardUpdate))
	if card := w.cards(t, 1)[0]; card.Edited || card.Revision != 1 || card.Metadata == nil {
		t.Errorf("got %+v; want a second revision that is not marked as edited and keeps its metadata", card)
	}
	w.slack.AddFault(slacktest.Fault{Method: "chat.update", Error: "edit_window_closed", Times: 1})
	if out := w.deliver(t, cardUpdate); out.Again || out.Err == nil {
		t.Errorf("got %+v; want it given up", out)
	}
	w.slack.RemoveMessage(deploys, w.cards(t, 1)[0].TS)
	wantDone(t, w.deliver(t, cardUpdate))
	if r, _ := w.service.get("REQUEST1"); r.Slack.TS != "" {
		t.Errorf("got a card at %+v; want it noted as lost while it is needed", r.Slack)
	}
	w.postCard(t)
	w.service.edit(func() {
		r := w.service.requests["REQUEST1"]
		r.Status = approvals.Deployed
		w.service.requests["REQUEST1"] = r
	})
	w.slack.RemoveMessage(deploys, w.cards(t, 1)[0].TS)
	if out := w.deliver(t, cardUpdate); out.Again || out.Err == nil {
		t.Errorf("got %+v; want it given up", out)
	}
}

func TestRefusedBlocksFallBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "invalid_blocks", Times: 1})
	wantDone(t, w.deliver(t, cardPost))
	if got := slacktest.Buttons(w.cards(t, 1)[0]); strings.Join(got, " ") != "approve reject view_pipeline" {
		t.Errorf("the spare card has the buttons %v", got)
	}
	w.slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Error: "msg_too_long", Times: 1})
	wantDone(t, w.deliver(t, w.tell(9, nil)))
	if got := w.slack.Thread(deploys, w.cards(t, 1)[0].TS); len(got) != 1 || len(got[0].Blocks) != 0 || got[0].Text == "" {
		t.Errorf("got %+v; want the line as plain text", got)
	}
	w.slack.AddFault(slacktest.Fault{Method: "chat.update", Error: "invalid_blocks", Times: 1})
	wantDone(t, w.deliver(t, cardUpdate))
}

func TestReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	reply := w.tell(7, func(t *approvals.Told) { t.CheckpointSize, t.CheckpointRoot = 8, "Zk3v=" })
	if out := w.deliver(t, reply); !out.Again || out.After > 5*time.Second {
		t.Fatalf("got %+v; want again soon: there is no card yet", out)
	}
	card := w.postCard(t)
	wantDone(t, w.deliver(t, reply))
	thread := w.slack.Thread(deploys, card.TS)
	if len(thread) != 1 || !strings.Contains(slacktest.Text(thread[0].Blocks), "checkpoint 8 · Zk3v=") || thread[0].Broadcast {
		t.Errorf("got %+v; want one reply with its checkpoint", thread)
	}
	w.slack.RemoveMessage(deploys, card.TS)
	wantDone(t, w.deliver(t, w.tell(8, nil)))
	found, err := w.slack.WaitMessage(deadline(t), deploys, func(m slacktest.Message) bool { return m.ThreadTS == "" && m.Revision == 1 })
	if err != nil || !strings.Contains(found.Text, "#127") {
		t.Errorf("got %q, %v; want a line that names its request", found.Text, err)
	}
}

func TestNotice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	notice := w.tell(7, func(t *approvals.Told) { t.Event.Type = approvals.EventCodeLocked })
	notice.Kind = approvals.Notice
	for payload, read := range map[string]func() []slacktest.Message{
		"channel:" + deploys: func() []slacktest.Message { return w.slack.Messages(deploys) },
		"person:" + ana:      func() []slacktest.Message { return w.slack.DMs(ana) },
	} {
		notice.Payload = payload
		wantDone(t, w.deliver(t, notice))
		if got := read(); len(got) != 1 || !strings.Contains(got[0].Text, "wrong codes") {
			t.Errorf("%s got %+v; want the notice", payload, got)
		}
	}
	wantDone(t, w.deliver(t, func() approvals.Effect { n := again(notice); n.Payload = "channel:" + deploys; return n }()))
	w.cards(t, 1)
	for _, payload := range []string{"", "person:U0NOBODY", "channel:<!channel>", "elsewhere:C0DEPLOYS"} {
		notice.Payload = payload
		if out := w.deliver(t, notice); out.Again || out.Err == nil {
			t.Errorf("%q: got %+v; want it given up", payload, out)
		}
	}
}

func TestNothingToShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	for _, kind := range []approvals.Kind{approvals.CardPost, approvals.CardUpdate, approvals.ThreadReply, approvals.GateRelease} {
		if out := w.deliver(t, approvals.Effect{Kind: kind, Request: "OTHER", Seq: 99}); out.Again || out.Err == nil {
			t.Errorf("%s: got %+v; want it given up", kind, out)
		}
	}
}

// Slack takes about one message a second in a channel; a burst is stretched, not refused.
func TestABurstStaysBelowSlacksRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{RateLimits: true})
	w.postCard(t)
	for seq := range int64(5) {
		wantDone(t, w.deliver(t, w.tell(seq, nil)))
	}
	for _, c := range w.slack.CallsOf("chat.postMessage") {
		if c.Error != "" {
			t.Errorf("Slack answered %s", c.Error)
		}
	}
}

func TestAnOutageIsWaitedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.SetOutage(true)
	for attempt := range 3 {
		e := cardPost
		e.Attempt = attempt + 1
		if out := w.deliver(t, e); !out.Again || out.After > time.Minute {
			t.Fatalf("got %+v; want again", out)
		}
	}
	if ok, detail := w.bot.Health(); ok || !strings.Contains(detail, "cannot be reached") || strings.Contains(detail, "http://") {
		t.Errorf("health says %v %q; want that Slack cannot be reached, and no URL", ok, detail)
	}
	w.slack.SetOutage(false)
	wantDone(t, w.deliver(t, again(cardPost)))
	w.cards(t, 1)
	w.noSecrets(t)
}
