package bot

import (
	"context"
	"encoding/json"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/slack-go/slack"
)

// event is what we read of an Events API payload.
// Source: https://docs.slack.dev/apis/events-api
type event struct {
	Type    string `json:"type"`
	Team    string `json:"team_id"`
	App     string `json:"api_app_id"`
	EventID string `json:"event_id"`
	Event   struct {
		Type string `json:"type"`
		User string `json:"user"`
		Tab  string `json:"tab"`
		View struct {
			Hash string `json:"hash"`
		} `json:"view"`
	} `json:"event"`
}

// happened takes in one event; false asks to have it sent again.
func (b *Bot) happened(raw []byte) bool {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		b.log.Warn("a Slack event cannot be read")
		return true
	}
	if e.Type != "event_callback" || e.Event.Type != "app_home_opened" || e.Event.Tab != "home" {
		return true
	}
	if !b.introduced() {
		return false // nobody can be told from a stranger yet
	}
	if !userID.MatchString(e.Event.User) || !b.seen.first(e.EventID) {
		return true
	}
	if b.workers.try(func() { b.homeOpened(e) }) {
		return true
	}
	b.seen.forget(e.EventID)
	return false
}

// homeOpened shows somebody of ours their App Home.
func (b *Bot) homeOpened(e event) {
	ctx, cancel := context.WithTimeout(b.working, tellTime)
	defer cancel()
	user, hash := e.Event.User, e.Event.View.Hash
	var blocks []slack.Block
	switch foreign, err := b.foreign(ctx, e.App, user, e.Team); {
	case err != nil:
		b.log.Warn("ask Slack who opened the App Home", "user", user, "err", err)
		blocks = []slack.Block{say(notChecked).block()}
	case foreign:
		return
	default:
		if blocks, err = b.homeBlocks(ctx, user); err != nil {
			b.log.Error("render the App Home", "err", err)
			blocks = []slack.Block{say(notLookedUp).block()}
		}
	}
	b.publish(ctx, user, hash, blocks)
}

// seenEvents remembers the newest event ids: Slack sends an event again when
// its answer was lost.
type seenEvents struct{ ids *lru.Cache[string, struct{}] }

const rememberEvents = 1000

func newSeenEvents() *seenEvents {
	ids, err := lru.New[string, struct{}](rememberEvents)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &seenEvents{ids}
}

// first reports whether the id is new. What has no id cannot be told apart.
func (s *seenEvents) first(id string) bool {
	if id == "" {
		return true
	}
	if len(id) > 64 {
		return false
	}
	seen, _ := s.ids.ContainsOrAdd(id, struct{}{})
	return !seen
}

func (s *seenEvents) forget(id string) { s.ids.Remove(id) }
