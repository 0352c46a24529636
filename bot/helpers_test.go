package bot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

var _ bot.Service = (*approvals.Service)(nil)

const goodCode = "123 456"

// service is a stand-in for the domain: one admin rule, one code.
type service struct {
	mu       sync.Mutex
	requests map[string]approvals.Request
	told     map[int64]approvals.Told
	refused  []string // "user action code"
	opened   []string
	changed  chan struct{}

	mayDecide func(c approvals.Clicker, action approvals.Action) error
	settle    func(ctx context.Context) error // before a decision, which it may fail
	record    func()                          // before a click is recorded
	fault     string
	retry     bool              // cards offer to retry their request
	story     []approvals.Event // of any request; nil = it was asked for
}

func newService() *service {
	return &service{requests: map[string]approvals.Request{}, told: map[int64]approvals.Told{}, changed: make(chan struct{})}
}

func (s *service) edit(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *service) get(id string) (approvals.Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok {
		return r, approvals.ErrNotFound
	}
	return r, nil
}

func (s *service) MayDecide(_ context.Context, c approvals.Clicker, id string, action approvals.Action) (approvals.Prompt, error) {
	r, err := s.get(id)
	if err != nil {
		return approvals.Prompt{}, &approvals.Refusal{Code: approvals.RefusedUnknownRequest}
	}
	s.mu.Lock()
	judge := s.mayDecide
	s.mu.Unlock()
	if judge != nil {
		if err := judge(c, action); err != nil {
			return approvals.Prompt{}, err
		}
	}
	if r.Status != approvals.Pending {
		return approvals.Prompt{}, &approvals.Refusal{Code: approvals.RefusedClosed, Status: r.Status, App: r.App, By: bea, At: monday}
	}
	return approvals.Prompt{Request: r, NeedsCode: action != approvals.ActionReject}, nil
}

func (s *service) Opened(_ context.Context, c approvals.Clicker, _ string, action approvals.Action) error {
	s.recording()
	s.edit(func() { s.opened = append(s.opened, fmt.Sprint(c.User, " ", action)) })
	return nil
}

func (s *service) ClickRefused(_ context.Context, c approvals.Clicker, _ string, action approvals.Action, why *approvals.Refusal) error {
	s.recording()
	s.edit(func() { s.refused = append(s.refused, fmt.Sprint(c.User, " ", action, " ", why.Code)) })
	return nil
}

func (s *service) Decide(ctx context.Context, c approvals.Clicker, id string, action approvals.Action, reason, code string) error {
	d := approvals.Decision{Action: action, SlackUser: c.User, At: monday, Reason: reason}
	switch {
	case action != approvals.ActionReject && code != goodCode:
		return &approvals.Refusal{Code: approvals.RefusedCodeWrong, Left: 3}
	case action == approvals.ActionReject && strings.TrimSpace(reason) == "":
		return &approvals.Refusal{Code: approvals.RefusedReason}
	case action != approvals.ActionReject:
		d.MFA = "totp"
	}
	s.mu.Lock()
	settle := s.settle
	s.mu.Unlock()
	if settle != nil {
		if err := settle(ctx); err != nil {
			return err
		}
	}
	p, err := s.MayDecide(ctx, c, id, action)
	if err != nil {
		return err
	}
	r := p.Request
	r.Decisions, r.Version = append(r.Decisions, d), r.Version+1
	r.Status = map[approvals.Action]approvals.Status{approvals.ActionApprove: approvals.Approved, approvals.ActionBreakGlass: approvals.Approved, approvals.ActionReject: approvals.Rejected}[action]
	s.edit(func() { s.requests[id] = r })
	return nil
}

func (s *service) Card(_ context.Context, id string) (approvals.Card, error) {
	r, err := s.get(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return approvals.Card{Request: r, Approvers: []string{admins}, Needs: r.Required, RetryOffered: s.retry}, err
}

func (s *service) Tell(_ context.Context, seq int64) (approvals.Told, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.told[seq]
	if !ok {
		return t, approvals.ErrNotFound
	}
	if t.Request.ID != "" {
		t.Request = s.requests[t.Request.ID]
	}
	return t, nil
}

func (s *service) Person(_ context.Context, user string) (approvals.Person, *approvals.AuthenticatorInfo, error) {
	if user != ana {
		return approvals.Person{}, nil, approvals.ErrNotFound
	}
	return approvals.Person{SlackID: ana, VCSLogin: "ana-dev", Enrolled: true}, &approvals.AuthenticatorInfo{EnrolledAt: monday}, nil
}

func (s *service) Recent(_ context.Context, f approvals.Filter) ([]approvals.Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []approvals.Request
	for _, r := range s.requests {
		if len(f.Apps) > 0 && !slices.Contains(f.Apps, r.App) {
			continue
		}
		for _, status := range f.Statuses {
			if r.Status == status {
				found = append(found, r)
			}
		}
		if f.Statuses == nil {
			found = append(found, r)
		}
	}
	return found, nil
}

func (s *service) Story(_ context.Context, number string) (approvals.Request, []approvals.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if fmt.Sprint(r.Number) == number && s.story != nil {
			return r, s.story, nil
		}
		if fmt.Sprint(r.Number) == number {
			return r, []approvals.Event{{Seq: 1, Type: approvals.EventRequested, Time: "2026-11-23T09:30:00.000Z", Request: r.ID}}, nil
		}
	}
	return approvals.Request{}, nil, approvals.ErrNotFound
}

func (s *service) Untold(_ context.Context, id string) (thread approvals.Thread, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok {
		return thread, approvals.ErrNotFound
	}
	thread.Card, thread.Newest = r.Slack, r.Told
	for _, seq := range slices.Sorted(maps.Keys(s.told)) {
		t := s.told[seq]
		if t.Event.Request != id || seq <= r.Told {
			continue
		}
		t.Request, thread.Newest = r, seq
		thread.Lines = append(thread.Lines, t)
	}
	return thread, nil
}

func (s *service) Alarm(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault, nil
}

func (s *service) recording() {
	s.mu.Lock()
	wait := s.record
	s.mu.Unlock()
	if wait != nil {
		wait()
	}
}

// change edits a request, in the transaction of an outcome.
func (s *service) change(id string, edit func(*approvals.Request)) func(*approvals.Change) error {
	return func(*approvals.Change) error {
		s.edit(func() { r := s.requests[id]; edit(&r); s.requests[id] = r })
		return nil
	}
}

func (s *service) Posted(rendered approvals.Request, ref approvals.SlackRef, shows string) func(*approvals.Change) error {
	return s.change(rendered.ID, func(r *approvals.Request) { r.Slack, r.Shown, r.PostFailed = ref, shows, "" })
}

func (s *service) Shown(id, shows string) func(*approvals.Change) error {
	return s.change(id, func(r *approvals.Request) { r.Shown = shows })
}

func (s *service) TellUntil(id string, card approvals.SlackRef, seq int64, gone bool) func(*approvals.Change) error {
	return s.change(id, func(r *approvals.Request) {
		if r.Slack == card {
			r.Told = seq
		}
		if gone {
			r.Shown = ""
		}
	})
}

func (s *service) CardLost(id string, _ approvals.SlackRef) func(*approvals.Change) error {
	return s.change(id, func(r *approvals.Request) { r.Slack, r.Shown, r.Told = approvals.SlackRef{}, "", -1 })
}

func (s *service) PostFailed(id, detail string) func(*approvals.Change) error {
	return s.change(id, func(r *approvals.Request) { r.PostFailed = detail })
}

// wait holds until the condition does; the condition is asked after every change.
func (s *service) wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	over := time.After(15 * time.Second)
	for {
		s.mu.Lock()
		changed, ok := s.changed, condition()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-over:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// world is a workspace, a service and the bot between them.
type world struct {
	slack   *slacktest.Server
	service *service
	bot     *bot.Bot
	ws      *bot.Workspace
	log     *syncBuffer

	settings bot.Settings
}

// syncBuffer is a log that tells when it grew.
type syncBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	grown chan struct{}
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.poke()
	return b.b.Write(p)
}

// poke wakes who waits; the caller holds the lock.
func (b *syncBuffer) poke() {
	close(b.grown)
	b.grown = make(chan struct{})
}

// wait holds until the condition does, which is asked whenever the log grew or
// the connection came or went.
func (w *world) wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	over := time.After(15 * time.Second)
	for {
		w.log.mu.Lock()
		grown := w.log.grown
		w.log.mu.Unlock()
		changed := w.slack.Changed()
		if condition() {
			return
		}
		select {
		case <-grown:
		case <-changed:
		case <-over:
			t.Fatalf("waited in vain for %s:\n%s", what, w.log)
		}
	}
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newWorld connects a bot, but starts no transport.
func newWorld(t *testing.T, cfg slacktest.Config, edit ...func(*bot.Config)) *world {
	t.Helper()
	s := slacktest.New(cfg)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return connect(t, s, http.DefaultTransport, edit...)
}

// newBubble is a world without a network, so that its clock can be synctest's.
func newBubble(t *testing.T, cfg slacktest.Config, edit ...func(*bot.Config)) *world {
	t.Helper()
	time.Sleep(time.Until(monday)) // a bubble begins in a year in which Slack's time stamps are shorter
	s := slacktest.New(cfg)
	s.SetBaseURL("http://slack.test")
	return connect(t, s, inProcess{s}, edit...)
}

// inProcess hands requests to the simulated Slack in this goroutine.
type inProcess struct{ slack *slacktest.Server }

func (p inProcess) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	defer func() {
		if recover() != nil { // how a connection is cut
			answer, err = nil, io.ErrUnexpectedEOF
		}
	}()
	rec := httptest.NewRecorder()
	p.slack.ServeHTTP(rec, r)
	return rec.Result(), nil
}

func connect(t *testing.T, s *slacktest.Server, transport http.RoundTripper, edit ...func(*bot.Config)) *world {
	t.Helper()
	t.Cleanup(s.Close)
	s.SetUser(slacktest.User{ID: ana, Name: "ana"})
	s.SetUser(slacktest.User{ID: bea, Name: "bea"})
	s.SetUser(slacktest.User{ID: "U0GUEST", Name: "guest", IsRestricted: true})
	s.SetUser(slacktest.User{ID: "U0STRANGER", Name: "stranger", IsStranger: true, TeamID: "T0OTHER"})
	s.SetUserGroup(slacktest.UserGroup{ID: admins, Handle: "deploy-admins", Users: []string{ana, bea}})
	s.SetChannel(slacktest.Channel{ID: deploys, Name: "deploys", Members: []string{s.Config().BotUserID, ana, bea, "U0GUEST", "U0STRANGER"}})
	w := &world{slack: s, service: newService(), log: &syncBuffer{grown: make(chan struct{})}}
	w.settings = bot.Settings{
		BotToken: s.Config().BotToken, AppToken: s.Config().AppToken, SigningSecret: s.Config().SigningSecret,
		APIURL: strings.TrimSuffix(s.URL(), "/"), HTTPClient: &http.Client{Timeout: 10 * time.Second, Transport: transport},
	}
	w.ws = bot.Open(w.settings)
	if _, err := w.ws.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := bot.Config{Workspace: w.ws, Service: w.service, Links: links{}, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	c.Metrics.Connected = func(bool) {
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		w.log.poke()
	}
	for _, e := range edit {
		e(&c)
	}
	w.bot = bot.New(c)
	r := request()
	r.Slack = approvals.SlackRef{}
	r.CreatedAt = time.Now()
	w.service.requests[r.ID] = r
	return w
}

// overSocket runs Socket Mode until the test ends, and waits for the connection.
func (w *world) overSocket(t *testing.T) *world {
	t.Helper()
	w.startSocket(t)
	if err := w.slack.WaitSockets(deadline(t), 1); err != nil {
		t.Fatal(err)
	}
	return w
}

// startSocket does not wait.
func (w *world) startSocket(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.bot.RunSocket(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// overHTTP serves the signed endpoints.
func (w *world) overHTTP(t *testing.T) *world {
	t.Helper()
	server := httptest.NewServer(w.bot.Handler())
	t.Cleanup(func() { server.Close(); w.bot.Close() })
	w.slack.SetRequestURL(server.URL)
	return w
}

// deliver does work and records its outcome, as the worker does.
func (w *world) deliver(t *testing.T, work approvals.Work) approvals.Outcome {
	t.Helper()
	if work.Attempt == 0 {
		work.Attempt = 1
	}
	out := w.bot.Deliver(deadline(t), work)
	if out.Record != nil {
		if err := out.Record(nil); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (w *world) postCard(t *testing.T) slacktest.Message {
	t.Helper()
	wantDone(t, w.deliver(t, card))
	return w.cards(t, 1)[0]
}

func (w *world) cards(t *testing.T, want int) []slacktest.Message {
	t.Helper()
	var found []slacktest.Message
	for _, m := range w.slack.AllMessages(deploys) {
		if m.ThreadTS == "" {
			found = append(found, m)
		}
	}
	if len(found) != want {
		t.Fatalf("got %d messages in the channel; want %d", len(found), want)
	}
	return found
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// noSecrets wants no code and no token in the log.
func (w *world) noSecrets(t *testing.T) {
	t.Helper()
	for _, secret := range []string{"123456", goodCode, w.slack.Config().BotToken, w.slack.Config().AppToken, w.slack.Config().SigningSecret, "/response/"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds a secret:\n%s", w.log)
		}
	}
}

// fresh is the bot after a restart: it remembers nothing of what failed.
func (w *world) fresh() *bot.Bot {
	return bot.New(bot.Config{Workspace: w.ws, Service: w.service, Links: links{}})
}
