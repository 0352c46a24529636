package slacktest_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/socketmode"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

const (
	deploys = "C0DEPLOYS"
	ana     = "U0ANA"
	bea     = "U0BEA"
	guest   = "U0GUEST"
)

// start runs a workspace with a channel, two members and a guest.
func start(t *testing.T, cfg slacktest.Config) (*slacktest.Server, *slack.Client) {
	t.Helper()
	s := slacktest.New(cfg)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	bot := s.Config().BotUserID
	s.SetUser(slacktest.User{ID: ana, Name: "ana"})
	s.SetUser(slacktest.User{ID: bea, Name: "bea"})
	s.SetUser(slacktest.User{ID: guest, Name: "guest", IsStranger: true, TeamID: "T0OTHER"})
	s.SetUserGroup(slacktest.UserGroup{ID: "S0ADMINS", Handle: "deploy-admins", Users: []string{ana, bea}})
	s.SetChannel(slacktest.Channel{ID: deploys, Name: "deploys", Members: []string{bot, ana, bea}})
	return s, client(s, s.Config().BotToken)
}

func client(s *slacktest.Server, token string) *slack.Client {
	return slack.New(token, slack.OptionAPIURL(s.URL()), slack.OptionAppLevelToken(s.Config().AppToken),
		slack.OptionHTTPClient(&http.Client{Timeout: 10 * time.Second}))
}

// deadline bounds a wait, so that a fault fails one test instead of hanging all.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// clock is a settable time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rawBlock sends JSON that the client library would not build.
type rawBlock string

func (b rawBlock) BlockType() slack.MessageBlockType { return "raw" }
func (b rawBlock) ID() string                        { return "" }
func (b rawBlock) MarshalJSON() ([]byte, error)      { return []byte(b), nil }

// sections are blocks of so many characters each.
func sections(n, characters int) (blocks []slack.Block) {
	for range n {
		blocks = append(blocks, slack.NewSectionBlock(plain(strings.Repeat("é", characters)), nil, nil))
	}
	return blocks
}

func rawView(blocks ...string) slack.ModalViewRequest {
	v := slack.ModalViewRequest{
		Type: slack.VTModal, Title: plain("Deploy"), Submit: plain("Approve"), Blocks: slack.Blocks{BlockSet: []slack.Block{}},
	}
	for _, b := range blocks {
		v.Blocks.BlockSet = append(v.Blocks.BlockSet, rawBlock(b))
	}
	return v
}

func plain(text string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, text, false, false)
}

func section(text string) slack.Block {
	return slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, text, false, false), nil, nil)
}

func buttons() slack.Block {
	approve := slack.NewButtonBlockElement("approve", "request-1", plain("Approve deploy")).WithStyle(slack.StylePrimary)
	return slack.NewActionBlock("actions", approve, slack.NewButtonBlockElement("reject", "request-1", plain("Reject")))
}

func codeModal() slack.ModalViewRequest {
	element := slack.NewPlainTextInputBlockElement(nil, "code").WithMinLength(6).WithMaxLength(7)
	input := slack.NewInputBlock("totp", plain("Code"), plain("six digits"), element)
	return slack.ModalViewRequest{
		Type: slack.VTModal, Title: plain("Deploy myapp"), Submit: plain("Approve deploy"), Close: plain("Cancel"),
		CallbackID: "approve_request", PrivateMetadata: "request-1",
		Blocks: slack.Blocks{BlockSet: []slack.Block{section("*facts*"), input}},
	}
}

func post(t *testing.T, api *slack.Client, channel string, options ...slack.MsgOption) string {
	t.Helper()
	_, ts, err := api.PostMessageContext(t.Context(), channel, options...)
	if err != nil {
		t.Fatalf("post: %v", err)
	}
	return ts
}

// wantRefused checks the API error and, if detail is given, one of the messages that explain it.
func wantRefused(t *testing.T, err error, code, detail string) {
	t.Helper()
	var refused slack.SlackErrorResponse
	if !errors.As(err, &refused) || refused.Err != code {
		t.Fatalf("got %v; want %s", err, code)
	}
	if got := strings.Join(refused.ResponseMetadata.Messages, "\n"); !strings.Contains(got, detail) {
		t.Errorf("%s explains %q; want %q", code, got, detail)
	}
}

// connect runs the real Socket Mode client and gives each of its events to handle.
func connect(t *testing.T, s *slacktest.Server, handle func(*socketmode.Client, socketmode.Event), options ...socketmode.Option) *socketmode.Client {
	t.Helper()
	quiet := socketmode.OptionLog(log.New(io.Discard, "", 0))
	c := socketmode.New(client(s, s.Config().BotToken), append(options, quiet)...)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.RunContext(ctx) })
	running.Go(func() {
		for {
			select {
			case e := <-c.Events:
				handle(c, e)
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		s.CloseSockets()
		running.Wait()
	})
	if err := s.WaitSockets(deadline(t), 1); err != nil {
		t.Fatal(err)
	}
	return c
}
