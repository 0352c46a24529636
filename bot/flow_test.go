package bot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// transports runs a test over Socket Mode and over signed HTTP: both have the same handlers.
func transports(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, slacktest.Config{}).overSocket(t))
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		test(t, newWorld(t, slacktest.Config{}).overHTTP(t))
	})
}

// open presses a button and waits for the modal.
func (w *world) open(t *testing.T, user, action string) *slacktest.View {
	t.Helper()
	card := w.cards(t, 1)[0]
	if _, err := w.slack.Click(deadline(t), user, deploys, card.TS, action); err != nil {
		t.Fatal(err)
	}
	v, err := w.slack.WaitView(deadline(t), user)
	if err != nil {
		t.Fatalf("no modal: %v\n%s", err, w.log)
	}
	return v
}

// whispered waits for an ephemeral message to the person.
func (w *world) whispered(t *testing.T, user, want string) slacktest.Message {
	t.Helper()
	var last slacktest.Message
	err := w.slack.Wait(deadline(t), func() bool {
		list := w.slack.Ephemerals(user)
		if len(list) > 0 {
			last = list[len(list)-1]
		}
		return len(list) > 0
	})
	if err != nil {
		t.Fatalf("%s was told nothing: %v\n%s", user, err, w.log)
	}
	if !strings.Contains(last.Text, want) {
		t.Errorf("%s was told %q; want %q in it", user, last.Text, want)
	}
	return last
}

func code(text string) slacktest.Values { return slacktest.Values{"totp": {"code": text}} }

func TestApprove(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		v := w.open(t, ana, "approve")
		if v.CallbackID != "approve_request" || v.Title != "Approve deploy" {
			t.Errorf("got the modal %q %q", v.CallbackID, v.Title)
		}
		got, err := w.slack.Submit(deadline(t), ana, v.ID, code("000000"))
		if err != nil || !strings.Contains(got.Errors["totp"], "3 tries left") {
			t.Fatalf("a wrong code: got %+v, %v; want an error under the input", got, err)
		}
		got, err = w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
		if err != nil || !got.Closed {
			t.Fatalf("a right code: got %+v, %v; want a closed modal", got, err)
		}
		if r, _ := w.service.get("REQUEST1"); r.Status != approvals.Approved {
			t.Errorf("the request is %s; want approved", r.Status)
		}
		w.service.wait(t, "the opened modal on record", func() bool { return len(w.service.opened) == 1 })
		w.noSecrets(t)
	})
}

func TestReject(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		v := w.open(t, bea, "reject")
		got, err := w.slack.Submit(deadline(t), bea, v.ID, slacktest.Values{"reason": {"text": "  \n "}})
		if err != nil || got.Errors["reason"] == "" {
			t.Fatalf("an empty reason: got %+v, %v; want an error under the input", got, err)
		}
		got, err = w.slack.Submit(deadline(t), bea, v.ID, slacktest.Values{"reason": {"text": "wait for <!channel>"}})
		if err != nil || !got.Closed {
			t.Fatalf("got %+v, %v; want a closed modal", got, err)
		}
		if out := w.deliver(t, card); out.Err != nil {
			t.Fatal(out.Err)
		}
		card := w.cards(t, 1)[0]
		if !strings.HasPrefix(card.Text, "Rejected: myapp to production.") || strings.Contains(card.Text, "<!channel>") || len(slacktest.Buttons(card)) != 1 {
			t.Errorf("the card says %q with the buttons %v", card.Text, slacktest.Buttons(card))
		}
	})
}

func TestTheLoserIsToldWhoWon(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		card := w.postCard(t)
		v := w.open(t, ana, "approve")
		late := w.open(t, bea, "approve")
		if got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode)); err != nil || !got.Closed {
			t.Fatalf("got %+v, %v", got, err)
		}
		got, err := w.slack.Submit(deadline(t), bea, late.ID, code(goodCode))
		if err != nil || got.Updated == nil || got.Updated.Title != "Nothing more to do" || got.Updated.Submit != "" {
			t.Fatalf("got %+v, %v; want a view that says who won", got, err)
		}
		// The old card is still on the screen.
		if _, err := w.slack.ClickButton(deadline(t), slacktest.ButtonClick{User: ana, Channel: deploys, TS: card.TS, ActionID: "approve", Seen: &card}); err != nil {
			t.Fatal(err)
		}
		w.whispered(t, ana, "<@U0BEA> already approved this")
	})
}

func TestNothingRecordedIsSaid(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		v := w.open(t, ana, "approve")
		w.service.edit(func() {
			w.service.settle = func(context.Context) error { return errors.New("disk full") }
		})
		got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
		if err != nil || got.Updated == nil || got.Updated.Title != "Not recorded" {
			t.Fatalf("got %+v, %v; want a view that says that nothing is known", got, err)
		}
		w.noSecrets(t)
	})
}

func TestAPanicIsAnsweredAndSurvived(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		v := w.open(t, ana, "approve")
		w.service.edit(func() {
			w.service.settle = func(context.Context) error { panic("code " + goodCode) }
		})
		got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
		if err != nil || got.Updated == nil {
			t.Fatalf("got %+v, %v; want a view", got, err)
		}
		w.open(t, bea, "reject")
		w.noSecrets(t)
	})
}

func TestASlowDecisionIsAnsweredInTime(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		v := w.open(t, ana, "approve")
		w.service.edit(func() {
			w.service.settle = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		})
		got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
		if err != nil || got.Updated == nil {
			t.Fatalf("got %+v, %v; want a view within Slack's three seconds", got, err)
		}
	})
}

func TestRefusedClicks(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		card := w.postCard(t)
		w.service.edit(func() {
			w.service.mayDecide = func(c approvals.Clicker, _ approvals.Action) error {
				if c.User == bea {
					return &approvals.Refusal{Code: approvals.RefusedSelf, Who: []string{admins}}
				}
				return nil
			}
		})
		click := func(c slacktest.ButtonClick, want string) {
			t.Helper()
			c.Channel, c.TS, c.ActionID = deploys, card.TS, "approve"
			if _, err := w.slack.ClickButton(deadline(t), c); err != nil {
				t.Fatal(err)
			}
			w.whispered(t, c.User, want)
			if w.slack.View(c.User) != nil {
				t.Errorf("%s got a modal", c.User)
			}
		}
		click(slacktest.ButtonClick{User: bea}, "You started this pipeline")
		click(slacktest.ButtonClick{User: "U0STRANGER"}, "another Slack workspace")
		unknown := "OTHER"
		click(slacktest.ButtonClick{User: ana, Value: &unknown}, "don’t know this request")
		w.service.wait(t, "three refusals on record", func() bool { return len(w.service.refused) == 3 })
		// Each is recorded after its person was told, so that they may overtake.
		for _, want := range []string{"U0BEA approve self_approval", "U0STRANGER approve wrong_workspace", "U0ANA approve unknown_request"} {
			if !slices.Contains(w.service.refused, want) {
				t.Errorf("recorded %q; want %q among them", w.service.refused, want)
			}
		}
	})
}

// Somebody of an Enterprise organisation may belong to several of its workspaces, and
// Slack names any one of those. Such a person counts if they belong to the workspace that
// Slack names and to the one of the app.
func TestColleaguesOfAnOrganisation(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		const cyd, dee = "U0CYD", "U0DEE"
		w.slack.SetUser(slacktest.User{ID: cyd, TeamID: "T0SISTER", Teams: []string{"T0SISTER", "T0RACK"}})
		w.slack.SetUser(slacktest.User{ID: dee, TeamID: "T0SISTER", Teams: []string{"T0SISTER", "T0COUSIN"}})
		w.slack.SetChannel(slacktest.Channel{ID: deploys, Name: "deploys", Members: []string{w.slack.Config().BotUserID, ana, cyd, dee, "U0STRANGER"}})
		w.service.edit(func() {
			w.service.mayDecide = func(c approvals.Clicker, _ approvals.Action) error {
				if c.Team != "T0RACK" {
					return &approvals.Refusal{Code: approvals.RefusedWorkspace}
				}
				return nil
			}
		})
		card := w.postCard(t)
		click := func(user, team, payload string) {
			t.Helper()
			if _, err := w.slack.ClickButton(deadline(t), slacktest.ButtonClick{User: user, Channel: deploys, TS: card.TS, ActionID: "approve", UserTeam: team, Team: payload}); err != nil {
				t.Fatal(err)
			}
		}
		refused := 0
		for _, c := range []struct{ user, team, payload string }{
			{dee, "T0SISTER", "T0RACK"}, {dee, "T0COUSIN", "T0COUSIN"}, {cyd, "T0COUSIN", "T0RACK"}, {cyd, "T0SISTER", "T0COUSIN"},
			{ana, "T0SISTER", "T0RACK"}, {ana, "T0RACK", "T0SISTER"}, {"U0STRANGER", "T0OTHER", "T0RACK"}, {"U0STRANGER", "T0OTHER", "T0OTHER"},
		} {
			before := len(w.slack.Ephemerals(c.user))
			click(c.user, c.team, c.payload)
			if err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.Ephemerals(c.user)) > before }); err != nil {
				t.Fatalf("%+v was told nothing: %v", c, err)
			}
			w.whispered(t, c.user, "another Slack workspace")
			if w.slack.View(c.user) != nil {
				t.Errorf("%+v got a modal", c)
			}
			refused++
			w.service.wait(t, "a refusal on record", func() bool { return len(w.service.refused) == refused })
		}
		for _, c := range []struct{ team, payload string }{{"E0ORG", "T0RACK"}, {"T0SISTER", "T0SISTER"}, {"T0SISTER", "T0RACK"}} {
			click(cyd, c.team, c.payload)
			v, err := w.slack.WaitView(deadline(t), cyd)
			if err != nil {
				t.Fatalf("no modal for %+v: %v\n%s", c, err, w.log)
			}
			if c.payload == "T0RACK" && c.team == "T0SISTER" {
				got, err := w.slack.Submit(deadline(t), cyd, v.ID, code(goodCode))
				if err != nil || !got.Closed {
					t.Fatalf("got %+v, %v; want the approval taken", got, err)
				}
				break
			}
			if err := w.slack.CloseView(cyd); err != nil {
				t.Fatal(err)
			}
		}
		if r, _ := w.service.get("REQUEST1"); r.Status != approvals.Approved || r.Decisions[0].SlackUser != cyd {
			t.Errorf("got %s, %+v; want an approval by %s", r.Status, r.Decisions, cyd)
		}
	})
}

// While Slack does not say who somebody is, nobody is taken for a stranger or a colleague.
func TestColleaguesThatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		const cyd = "U0CYD"
		w.slack.SetUser(slacktest.User{ID: cyd, TeamID: "T0SISTER", Teams: []string{"T0SISTER", "T0RACK"}})
		w.slack.SetChannel(slacktest.Channel{ID: deploys, Name: "deploys", Members: []string{w.slack.Config().BotUserID, cyd}})
		card := w.postCard(t)
		mend := w.slack.AddFault(slacktest.Fault{Method: "users.info", Status: 500})
		if _, err := w.slack.Click(deadline(t), cyd, deploys, card.TS, "approve"); err != nil {
			t.Fatal(err)
		}
		w.whispered(t, cyd, "could not check your Slack account")
		w.slack.SetUser(slacktest.User{ID: cyd, TeamID: "T0SISTER"}) // so that this one is named
		before := len(w.slack.Ephemerals(cyd))
		if _, err := w.slack.Slash(deadline(t), cyd, deploys, "list"); err != nil {
			t.Fatal(err)
		}
		if err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.Ephemerals(cyd)) > before }); err != nil {
			t.Fatalf("a command was not answered: %v", err)
		}
		w.whispered(t, cyd, "could not check your Slack account")
		if err := w.slack.OpenHome(deadline(t), cyd); err != nil {
			t.Fatal(err)
		}
		if err := w.slack.Wait(deadline(t), func() bool { return w.slack.Home(cyd) != nil }); err != nil {
			t.Fatalf("the App Home stays blank: %v", err)
		}
		if got := slacktest.Text(w.slack.Home(cyd).Blocks); !strings.Contains(got, "could not check your Slack account") {
			t.Errorf("the App Home says %q", got)
		}
		w.slack.SetUser(slacktest.User{ID: cyd, TeamID: "T0SISTER", Teams: []string{"T0SISTER", "T0RACK"}})
		mend()
		w.open(t, cyd, "approve")
		if len(w.service.refused) > 0 {
			t.Errorf("on record is %q; want nothing", w.service.refused)
		}
	})
}

// A copy of the card, or another message of ours, must not take votes for it.
func TestAnotherMessageIsNoCard(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		first := w.postCard(t)
		w.service.edit(func() {
			r := w.service.requests["REQUEST1"]
			r.Slack = approvals.SlackRef{}
			w.service.requests["REQUEST1"] = r
		})
		w.deliver(t, card)
		w.cards(t, 2)
		if _, err := w.slack.Click(deadline(t), ana, deploys, first.TS, "approve"); err != nil {
			t.Fatal(err)
		}
		w.whispered(t, ana, "not the card of this request")
		if w.slack.View(ana) != nil {
			t.Error("a modal was opened")
		}
	})
}

// A modal that was opened on a card which was lost since says where the request is
// decided now, or how it ended.
func TestAModalOfALostCard(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		v, late := w.open(t, ana, "approve"), w.open(t, bea, "reject")
		submit := func(user string, v *slacktest.View, values slacktest.Values, want string) {
			t.Helper()
			got, err := w.slack.Submit(deadline(t), user, v.ID, values)
			if err != nil || got.Updated == nil {
				t.Fatalf("got errors %v, closed %t, %v; want a view that says %q", got.Errors, got.Closed, err, want)
			}
			if said := slacktest.Text(got.Updated.Blocks); !strings.Contains(said, want) {
				t.Errorf("got %q; want %q", said, want)
			}
		}
		w.request(func(r *approvals.Request) { r.Slack = approvals.SlackRef{} })
		submit(ana, v, code(goodCode), "not ready yet")
		w.deliver(t, card)
		if err := w.slack.CloseView(ana); err != nil {
			t.Fatal(err)
		}
		if _, err := w.slack.Click(deadline(t), ana, deploys, w.cards(t, 2)[1].TS, "approve"); err != nil {
			t.Fatal(err)
		}
		v2, err := w.slack.WaitView(deadline(t), ana)
		if err != nil {
			t.Fatal(err)
		}
		w.request(func(r *approvals.Request) { r.Slack.TS = "1700000000.000001" })
		submit(ana, v2, code(goodCode), "|#127>")
		if r, _ := w.service.get("REQUEST1"); r.Status != approvals.Pending {
			t.Errorf("the request is %s; want pending", r.Status)
		}
		w.request(func(r *approvals.Request) { r.Status = approvals.Approved })
		submit(bea, late, slacktest.Values{"reason": {"text": "too late"}}, "already approved this")
	})
}

func TestTheLinkButtonIsAckedSilently(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		card := w.postCard(t)
		if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "view_pipeline"); err != nil {
			t.Fatal(err)
		}
		if got := w.slack.Ephemerals(ana); len(got) != 0 {
			t.Errorf("got %v; want silence", got)
		}
	})
}

func TestAModalThatCannotOpen(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"expired_trigger_id", "exchanged_trigger_id", "internal_error"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, slacktest.Config{}).overSocket(t)
			card := w.postCard(t)
			w.slack.AddFault(slacktest.Fault{Method: "views.open", Error: fault, Times: 1})
			if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "approve"); err != nil {
				t.Fatal(err)
			}
			w.whispered(t, ana, "Press the button again")
			w.open(t, ana, "approve")
		})
	}
}

func TestToldWithoutAResponseURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overSocket(t)
	card := w.postCard(t)
	w.service.edit(func() {
		w.service.mayDecide = func(approvals.Clicker, approvals.Action) error {
			return &approvals.Refusal{Code: approvals.RefusedVoted}
		}
	})
	w.slack.AddFault(slacktest.Fault{Method: "response_url", Status: 500})
	if _, err := w.slack.Click(deadline(t), ana, deploys, card.TS, "approve"); err != nil {
		t.Fatal(err)
	}
	w.whispered(t, ana, "You have approved this already")
	w.slack.AddFault(slacktest.Fault{Method: "chat.postEphemeral", Error: "user_not_in_channel"})
	if _, err := w.slack.Click(deadline(t), bea, deploys, card.TS, "approve"); err != nil {
		t.Fatal(err)
	}
	err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.DMs(bea)) == 1 })
	if err != nil {
		t.Errorf("no direct message came: %v", err)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}, func(c *bot.Config) { c.Workers = 1 }).overSocket(t)
	card := w.postCard(t)
	v := w.open(t, ana, "approve")
	w.service.wait(t, "the opened modal on record", func() bool { return len(w.service.opened) == 1 })
	entered, leave := make(chan struct{}), make(chan struct{})
	w.service.edit(func() {
		w.service.settle = func(context.Context) error { close(entered); <-leave; return nil }
	})
	done := make(chan error, 1)
	for working := false; !working; {
		d, _, err := w.slack.PrepareSubmit(ana, v.ID, code(goodCode))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, err := w.slack.Deliver(context.Background(), d); done <- err }()
		select {
		case <-entered:
			working = true
		case err := <-done: // the worker had not left the click yet
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
	if err != nil || !strings.Contains(got.Errors["totp"], "overloaded") {
		t.Errorf("a submission: got %+v, %v; want that it is overloaded", got, err)
	}
	if _, err := w.slack.Click(deadline(t), bea, deploys, card.TS, "reject"); err != nil {
		t.Error(err)
	}
	w.whispered(t, bea, "overloaded")
	close(leave)
	if err := <-done; err != nil {
		t.Errorf("the first submission: %v", err)
	}
}

// On a slow disk people are answered while what others pressed is being recorded.
func TestRecordingHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}, func(c *bot.Config) { c.Workers = 2 }).overSocket(t)
	w.postCard(t)
	leave := make(chan struct{})
	entered := make(chan struct{}, 3)
	w.service.edit(func() { w.service.record = func() { entered <- struct{}{}; <-leave } })
	write := sync.OnceFunc(func() { close(leave) })
	t.Cleanup(write)
	for _, user := range []string{ana, bea, "U0GUEST"} {
		w.open(t, user, "approve")
		<-entered
	}
	write()
	w.service.wait(t, "all modals on record", func() bool { return len(w.service.opened) == 3 })
}

// Who pressed before a stop gets their answer; nobody is left with a spinning modal.
func TestAStopAnswersWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.bot.RunSocket(ctx) }()
	if err := w.slack.WaitSockets(deadline(t), 1); err != nil {
		t.Fatal(err)
	}
	w.postCard(t)
	v := w.open(t, ana, "approve")
	entered := make(chan struct{})
	w.service.edit(func() {
		w.service.settle = func(context.Context) error { close(entered); <-ctx.Done(); return nil }
	})
	go func() { <-entered; stop() }()
	got, err := w.slack.Submit(deadline(t), ana, v.ID, code(goodCode))
	if err != nil || !got.Closed {
		t.Errorf("got %+v, %v; want a closed modal", got, err)
	}
	if err := <-done; err != nil {
		t.Errorf("got %v; want a clean end", err)
	}
	if err := w.slack.Wait(deadline(t), func() bool { return w.slack.Sockets() == 0 }); err != nil {
		t.Error("the socket is still open")
	}
}

func TestSlashCommand(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		w.postCard(t)
		w.request(func(r *approvals.Request) { r.Decisions = approved(*r, ana).Decisions })
		for text, want := range map[string]string{
			"list": "Open requests", "show 127": "Deploy myapp to production?", "show 9": "There is no request #9", "history myapp": "approved by ⟦<@U0ANA>⟧",
			"whoami": "ana-dev", "help": "/approvals list", "": "/approvals list", "show <!channel>": "Say its number", "show": "Say its number", "history": "Which app?", "history nope": "I have no requests of an app with this name.",
			"#127": "Deploy myapp to production?", "show #127": "Deploy myapp to production?", "foo": "I don’t know “foo”. I know list, show N, history APP, whoami and help.",
			"<!channel> x": "I don’t know “<!channel>”.",
		} {
			before := len(w.slack.Ephemerals(ana))
			if _, err := w.slack.Slash(deadline(t), ana, deploys, text); err != nil {
				t.Fatal(err)
			}
			if err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.Ephemerals(ana)) > before }); err != nil {
				t.Fatal(err)
			}
			list := w.slack.Ephemerals(ana)
			got := list[len(list)-1]
			if blocks := slacktest.Text(got.Blocks); !strings.Contains(blocks, want) {
				t.Errorf("%q: got %q; want %q in it", text, blocks, want)
			}
			// What a screen reader says tells the same.
			if first, _, _ := strings.Cut(slacktest.PlainText(got.Text), "\n"); !strings.Contains(first, want) {
				t.Errorf("%q: the text is %q; want %q in it", text, first, want)
			}
		}
		before := len(w.slack.Ephemerals(bea))
		if _, err := w.slack.Slash(deadline(t), bea, deploys, "whoami"); err != nil {
			t.Fatal(err)
		}
		if err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.Ephemerals(bea)) > before }); err != nil {
			t.Fatal(err)
		}
		if got := slacktest.Text(w.slack.Ephemerals(bea)[before].Blocks); !strings.Contains(got, "You are not an admin") || !strings.Contains(got, "rack-gatewayd user add --slack-id "+bea) {
			t.Errorf("whoami of nobody on record: got %q; want what to ask for", got)
		}
		w.request(func(r *approvals.Request) { r.Status, r.DecidedBy = approvals.Rejected, bea })
		before = len(w.slack.Ephemerals(ana))
		if _, err := w.slack.Slash(deadline(t), ana, deploys, "history myapp"); err != nil {
			t.Fatal(err)
		}
		if err := w.slack.Wait(deadline(t), func() bool { return len(w.slack.Ephemerals(ana)) > before }); err != nil {
			t.Fatal(err)
		}
		if got := slacktest.Text(w.slack.Ephemerals(ana)[before].Blocks); !strings.Contains(got, "rejected by ⟦<@"+bea+">⟧") || strings.Contains(got, "approved by") {
			t.Errorf("history of a rejected request: got %q; want who rejected it", got)
		}
		for _, c := range w.slack.CallsOf("response_url") {
			if c.Args["metadata"] != "" {
				t.Errorf("an answer carries the metadata %s", c.Args["metadata"])
			}
		}
		if _, err := w.slack.Slash(deadline(t), "U0GUEST", deploys, "list"); err != nil {
			t.Fatal(err)
		}
		if got := slacktest.Text(w.whispered(t, "U0GUEST", "").Blocks); !strings.Contains(got, "Only full members") {
			t.Errorf("a guest was told %q", got)
		}
	})
}

// Slack takes less in one message than through a response URL. Where that fails, a long
// story comes in parts, with all that it has.
func TestALongStoryInParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	w.service.edit(func() {
		for i := range 30 {
			w.service.story = append(w.service.story, approvals.Event{
				Seq: int64(i + 1), Type: approvals.EventRejected, Time: "2026-11-23T09:30:00.000Z", Request: "REQUEST1",
				Actor: approvals.Actor{ID: ana}, Reason: fmt.Sprintf("reason %02d ", i) + strings.Repeat("x", 480),
			})
		}
	})
	story := func(fault slacktest.Fault, where func() []slacktest.Message, most int) {
		t.Helper()
		before := len(where())
		defer w.slack.AddFault(fault)()
		if _, err := w.slack.Slash(deadline(t), ana, deploys, "show 127"); err != nil {
			t.Fatal(err)
		}
		said := func() (all string, n int) {
			for _, m := range where()[before:] {
				all, n = all+slacktest.Text(m.Blocks), n+1
			}
			return all, n
		}
		if err := w.slack.Wait(deadline(t), func() bool { all, _ := said(); return strings.Contains(all, "reason 29") }); err != nil {
			t.Fatalf("the story did not come: %v\n%s", err, w.log)
		}
		all, n := said()
		for i := range 30 {
			if !strings.Contains(all, fmt.Sprintf("reason %02d", i)) {
				t.Errorf("%s: the story lacks reason %d", fault.Method, i)
			}
		}
		if n > most || most > 1 && n == 1 {
			t.Errorf("%s: the story came in %d messages; want %d at most", fault.Method, n, most)
		}
	}
	ephemerals := func() []slacktest.Message { return w.slack.Ephemerals(ana) }
	story(slacktest.Fault{Method: "nothing"}, ephemerals, 1)
	story(slacktest.Fault{Method: "response_url", Status: 404}, ephemerals, 3)
	story(slacktest.Fault{Method: "response_url", Error: "invalid_blocks"}, func() []slacktest.Message { return w.slack.Ephemerals(ana) }, 3) // with HTTP 200
	defer w.slack.AddFault(slacktest.Fault{Method: "chat.postEphemeral", Error: "user_not_in_channel"})()
	story(slacktest.Fault{Method: "response_url", Status: 404}, func() []slacktest.Message { return w.slack.DMs(ana) }, 3)
}

func TestHome(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, w *world) {
		for range 2 { // the second time with the hash of the first
			before := w.slack.Home(ana)
			if err := w.slack.OpenHome(deadline(t), ana); err != nil {
				t.Fatal(err)
			}
			if err := w.slack.Wait(deadline(t), func() bool { return w.slack.Home(ana) != before }); err != nil {
				t.Fatalf("%v\n%s", err, w.log)
			}
		}
		got := slacktest.Text(w.slack.Home(ana).Blocks)
		for _, want := range []string{"My authenticator", "Waiting for me", "myapp to production", "Last decisions"} {
			if !strings.Contains(got, want) {
				t.Errorf("the home does not say %q:\n%s", want, got)
			}
		}
	})
}
