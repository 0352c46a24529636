package bot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"
)

// callTimeout ends a call to Slack that does not come back; the library's own
// client would wait for ever.
const callTimeout = 10 * time.Second

// Settings say how to reach a workspace. The zero values of APIURL and
// HTTPClient stand for Slack itself and a client with a time-out of 10 s.
type Settings struct {
	BotToken      string // xoxb-…
	AppToken      string // xapp-…: Socket Mode
	SigningSecret string // HTTP mode
	APIURL        string
	HTTPClient    *http.Client
}

// String keeps secrets out of every format.
func (Settings) String() string { return "slack settings: REDACTED" }

// GoString does the same for %#v.
func (s Settings) GoString() string { return s.String() }

// Identity is who we are in Slack.
type Identity struct {
	Team    string // workspace id
	Name    string // workspace name
	BotID   string // B…, the author of our messages
	BotUser string // U…
	AppID   string // known after the first hello over a socket
	Scopes  []string
}

// Workspace is the connection to one Slack workspace: calls, who we are, who
// others are. It never retries: the worker does.
type Workspace struct {
	settings Settings
	api      *slack.Client
	members  *members
	pace     *pace  // of the look-ups; the bot has one of its own
	health   health // one with the bot's

	mu     sync.RWMutex
	id     Identity
	setUp  setUp
	unsaid map[string]time.Time // people of whom Slack did not answer, and when
}

// Open prepares the connection; nothing is sent yet.
func Open(s Settings) *Workspace {
	if s.APIURL == "" {
		s.APIURL = slack.APIURL
	}
	// The library puts method names right behind it.
	s.APIURL = strings.TrimSuffix(s.APIURL, "/") + "/"
	if s.HTTPClient == nil {
		s.HTTPClient = &http.Client{Timeout: callTimeout}
	}
	w := &Workspace{settings: s, members: newMembers(), pace: newPace(func() int { return 1 })}
	w.api = w.client(s.HTTPClient)
	return w
}

func (w *Workspace) client(c interface {
	Do(*http.Request) (*http.Response, error)
}) *slack.Client {
	return slack.New(w.settings.BotToken,
		slack.OptionAppLevelToken(w.settings.AppToken),
		slack.OptionAPIURL(w.settings.APIURL),
		slack.OptionHTTPClient(c))
}

// ErrOrganisation is returned for an app that was installed for a whole Enterprise
// organisation: the buttons of one workspace would be open to the people of all.
var ErrOrganisation = errors.New("the app is installed for a whole Slack organisation, which is not supported: " +
	"take it back there, install it in the one workspace with the channel, and set its SLACK_BOT_TOKEN")

// reread keeps the body of the last answer, for fields that the library does not
// know.
type reread struct {
	client *http.Client
	body   []byte
}

// Do implements the client that the library asks for.
func (r *reread) Do(req *http.Request) (*http.Response, error) {
	answer, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if r.body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20)); err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(r.body))
	return answer, nil
}

// Connect asks Slack who we are. What comes from other workspaces is refused from
// then on; before, people are asked to try again.
func (w *Workspace) Connect(ctx context.Context) (Identity, error) {
	read := &reread{client: w.settings.HTTPClient}
	answer, err := w.client(read).AuthTestContext(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("auth.test: %s", diagnose(err).words(""))
	}
	var more struct { // what the library leaves out
		EnterpriseInstall bool `json:"is_enterprise_install"`
	}
	if err := json.Unmarshal(read.body, &more); err != nil {
		return Identity{}, errors.New("auth.test: Slack's answer cannot be read")
	}
	if more.EnterpriseInstall || strings.HasPrefix(answer.TeamID, "E") {
		return Identity{}, ErrOrganisation
	}
	if answer.TeamID == "" {
		return Identity{}, errors.New("auth.test: Slack names no workspace: the token must be a bot token (xoxb-…) of one workspace")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id.Team, w.id.Name, w.id.BotID, w.id.BotUser = answer.TeamID, answer.Team, answer.BotID, answer.UserID
	w.id.Scopes = nil
	for scope := range strings.SplitSeq(answer.Header.Get("X-OAuth-Scopes"), ",") {
		if scope = strings.TrimSpace(scope); scope != "" {
			w.id.Scopes = append(w.id.Scopes, scope)
		}
	}
	return w.id, nil
}

// Identity is who we are as far as it is known.
func (w *Workspace) Identity() Identity {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.id
}

func (w *Workspace) setAppID(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.id.AppID = id
}
