package stage_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

func TestMain(m *testing.M) {
	if code, yes := stage.BeProgram(); yes {
		os.Exit(code)
	}
	flag.Parse()
	// A scenario mostly waits: for Slack's pace and for the next poll.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// play is one product on a stage of its own; what goes wrong around a test fails it.
type play struct {
	*stage.Stage
	t     *testing.T
	ctx   context.Context
	codes map[string]time.Time // of each person's last code
}

// setup starts a whole product that ends with the test.
func setup(t *testing.T, o stage.Options) *play {
	t.Helper()
	p := prepare(t, o)
	p.start()
	return p
}

// prepare is setup without a daemon.
func prepare(t *testing.T, o stage.Options) *play {
	t.Helper()
	t.Parallel()
	if o.Log == nil {
		o.Log = t.Output()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s, err := stage.New(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	p := &play{Stage: s, t: t, ctx: ctx, codes: map[string]time.Time{}}
	p.ok(s.Enrol(ctx))
	return p
}

// settings are options with settings of the app.
func settings(kv ...string) stage.Options {
	var o stage.Options
	for _, s := range kv {
		o.Env = append(o.Env, "RGW_APP_MYAPP_SETTING_"+s)
	}
	return o
}

// briefly has requests that nobody decides expire while a test waits, and not before a
// slow machine has come to that.
func briefly() stage.Options { return settings("PENDING_TTL=10s") }

func (p *play) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *play) start() {
	p.t.Helper()
	p.ok(p.Start(p.ctx))
	p.ok(p.Confirmed(p.ctx))
}

func (p *play) operator(args ...string) {
	p.t.Helper()
	if r := p.Operator(p.ctx, "", args...); r.Code != 0 {
		p.t.Fatalf("%v: got exit %d: %s; want 0", args, r.Code, r.Stderr)
	}
}

// asked is a request that stands, with its card.
type asked struct {
	workflow, id string
	card         slacktest.Message
}

// ask files a request for a new pipeline whose gate is still blocked.
func (p *play) ask() asked { p.t.Helper(); return p.askFor(p.Pipeline(stage.Number)) }

// askOnHold does the same and lets the gate be reached.
func (p *play) askOnHold() asked {
	p.t.Helper()
	a := p.ask()
	p.ok(p.Circle.Succeed(a.workflow, "request_approval"))
	return a
}

func (p *play) askFor(workflow string) asked {
	p.t.Helper()
	id, err := p.Request(p.ctx, workflow)
	p.ok(err)
	return asked{workflow, id, p.card(id)}
}

func (p *play) card(id string) slacktest.Message {
	p.t.Helper()
	card, err := p.Card(p.ctx, id)
	p.ok(err)
	return card
}

// press opens a modal.
func (p *play) press(user string, a asked, action string) *slacktest.View {
	p.t.Helper()
	view, err := p.Press(p.ctx, user, a.card, action)
	p.ok(err)
	return view
}

// refused presses a button and returns what the person is told instead of a modal.
func (p *play) refused(user string, a asked, action string) string {
	p.t.Helper()
	_, err := p.Press(p.ctx, user, a.card, action)
	var refused *stage.Refused
	if !errors.As(err, &refused) {
		p.t.Fatalf("%s presses %s: got %v; want a refusal", user, action, err)
	}
	return refused.Text
}

// refusedClick is refused for a click with something unusual about it.
func (p *play) refusedClick(click slacktest.ButtonClick, a asked) string {
	p.t.Helper()
	told := len(p.Slack.Ephemerals(click.User))
	click.Channel, click.TS = a.card.Channel, a.card.TS
	_, err := p.Slack.ClickButton(p.ctx, click)
	p.ok(err)
	p.ok(p.Slack.Wait(p.ctx, func() bool {
		return p.Slack.View(click.User) != nil || len(p.Slack.Ephemerals(click.User)) > told
	}))
	if p.Slack.View(click.User) != nil {
		p.t.Fatalf("%s: got a modal; want a refusal", click.User)
	}
	said := p.Slack.Ephemerals(click.User)
	return said[len(said)-1].Text
}

// code is one that the person's authenticator shows and that was not used yet:
// the next one already counts, so a person has two without waiting.
func (p *play) code(user string) string {
	p.t.Helper()
	const step = 30 * time.Second
	at := time.Now()
	if last, ok := p.codes[user]; ok && !at.Truncate(step).After(last) {
		at = last.Add(step)
	}
	p.codes[user] = at.Truncate(step)
	return p.Code(user, at)
}

func (p *play) submit(user string, view *slacktest.View, code string) slacktest.SubmitResult {
	p.t.Helper()
	got, err := p.Submit(p.ctx, user, view, code)
	p.ok(err)
	return got
}

// approve presses a button (approve or retry) and gives a right code.
func (p *play) approve(user string, a asked, action string) {
	p.t.Helper()
	if got := p.submit(user, p.press(user, a, action), p.code(user)); !got.Closed {
		p.t.Fatalf("%s, right code: got %+v; want the modal closed", user, got)
	}
}

// reject presses Reject and gives a reason.
func (p *play) reject(user string, a asked, reason string) {
	p.t.Helper()
	view := p.press(user, a, "reject")
	got, err := p.Slack.Submit(p.ctx, user, view.ID, slacktest.Values{"reason": {"text": reason}})
	p.ok(err)
	if !got.Closed {
		p.t.Fatalf("%s rejects: got %+v; want the modal closed", user, got)
	}
}

// updated checks that a submission turned the modal into a sentence without input.
func (p *play) updated(got slacktest.SubmitResult, want string) {
	p.t.Helper()
	if got.Updated == nil {
		p.t.Fatalf("got %+v; want the modal to say %q", got, want)
	}
	text := slacktest.Text(got.Updated.Blocks)
	input := slices.ContainsFunc(got.Updated.Blocks, func(b slacktest.Block) bool { return b["type"] == "input" })
	if !strings.Contains(text, want) || input || got.Updated.Submit != "" {
		p.t.Fatalf("got %q (input %t, submit %q); want %q and no input", text, input, got.Updated.Submit, want)
	}
}

// replied waits for lines in the thread.
func (p *play) replied(a asked, texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if _, err := p.Replied(p.ctx, a.card, text); err != nil {
			p.t.Fatalf("%v; thread:\n%s", err, p.thread(a))
		}
	}
}

func (p *play) thread(a asked) string {
	var b strings.Builder
	for _, m := range p.Slack.Thread(a.card.Channel, a.card.TS) {
		fmt.Fprintln(&b, slacktest.Text(m.Blocks))
	}
	return b.String()
}

// cardSays waits until the card holds all texts and exactly these buttons.
func (p *play) cardSays(a asked, buttons []string, texts ...string) {
	p.t.Helper()
	now := func() slacktest.Message { m, _ := p.Slack.Message(a.card.Channel, a.card.TS); return m }
	err := p.Slack.Wait(p.ctx, func() bool {
		m := now()
		text := slacktest.Text(m.Blocks)
		missing := slices.ContainsFunc(texts, func(want string) bool { return !strings.Contains(text, want) })
		return !missing && slices.Equal(slacktest.Buttons(m), buttons)
	})
	if err != nil {
		p.t.Fatalf("%v: got card %v\n%s\nwant %v %q", err, slacktest.Buttons(now()), slacktest.Text(now().Blocks), buttons, texts)
	}
}

// The buttons of a card.
var (
	open   = []string{"approve", "reject", "view_pipeline"}
	closed = []string{"view_pipeline"}
	retry  = []string{"retry", "view_pipeline"}
)

func (p *play) client() *webhook.Client {
	p.t.Helper()
	c, err := webhook.NewClient(webhook.ClientConfig{URL: p.URL, Token: p.Token, UserAgent: "test"})
	p.ok(err)
	return c
}

func (p *play) get(id string) webhook.Request {
	p.t.Helper()
	r, err := p.client().Get(p.ctx, id)
	p.ok(err)
	return r
}

// becomes waits until a request has the status.
func (p *play) becomes(a asked, want approvals.Status) webhook.Request {
	p.t.Helper()
	r, err := p.client().Wait(p.ctx, p.get(a.id), func(r webhook.Request) bool { return r.Status == want }, nil)
	if err != nil {
		p.t.Fatalf("%v: got status %s (%+v); want %s; thread:\n%s", err, r.Status, r.Failure, want, p.thread(a))
	}
	return r
}

// count tells how many events of a type a request has.
func (p *play) count(a asked, kind approvals.EventType) int {
	p.t.Helper()
	events, err := stage.Events(p.ctx, p.URL, p.Token, a.id)
	p.ok(err)
	n := 0
	for _, e := range events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// happened waits until the request has so many events of a kind.
func (p *play) happened(a asked, kind approvals.EventType, want int) {
	p.t.Helper()
	p.until(fmt.Sprintf("there are %d events %s", want, kind), func() bool { return p.count(a, kind) == want })
}

// until asks again and again.
func (p *play) until(what string, is func() bool) {
	p.t.Helper()
	for !is() {
		select {
		case <-p.ctx.Done():
			p.t.Fatalf("waited in vain until %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// untouched checks that a request is as it was filed, with nobody's vote.
func (p *play) untouched(a asked) {
	p.t.Helper()
	if r := p.get(a.id); r.Status != approvals.Pending || len(r.Decisions) != 0 {
		p.t.Fatalf("got %s with decisions %+v; want pending with none", r.Status, r.Decisions)
	}
	if n := p.Circle.Count("approve"); n != 0 {
		p.t.Fatalf("got %d approve calls; want none", n)
	}
}

// releasedOnce checks that the gate took exactly one approval, by us.
func (p *play) releasedOnce(a asked, posts int) {
	p.t.Helper()
	took := 0
	for _, try := range p.Circle.Approvals(a.workflow) {
		if try.Took {
			took++
		}
	}
	if n := p.Circle.Count("approve"); took != 1 || n != posts {
		p.t.Fatalf("got %d effective approvals and %d calls; want 1 and %d", took, n, posts)
	}
}

// cards are all cards of the channel.
func (p *play) cards() []slacktest.Message {
	return slices.DeleteFunc(p.Slack.Messages(stage.Channel), func(m slacktest.Message) bool {
		return m.Metadata == nil || m.Metadata.EventType != bot.MetadataCard
	})
}

// call makes a call of the API as any program could.
func (p *play) call(method, path, token, contentType, body string) (int, webhook.Problem) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.ctx, method, p.URL+webhook.Base+path, strings.NewReader(body))
	p.ok(err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(req)
	p.ok(err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	p.ok(err)
	var problem webhook.Problem
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		p.ok(json.Unmarshal(raw, &problem))
	}
	return res.StatusCode, problem
}
