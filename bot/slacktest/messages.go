package slacktest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Block is one Block Kit block or element as decoded JSON.
type Block = map[string]any

// Metadata is what an app attaches to a message for itself and other apps.
type Metadata struct {
	EventType    string         `json:"event_type"`
	EventPayload map[string]any `json:"event_payload"`
}

// Message is a message as people see it now. ThreadTS is set on replies only.
type Message struct {
	Channel  string    `json:"channel"`
	TS       string    `json:"ts"`
	ThreadTS string    `json:"thread_ts,omitempty"`
	User     string    `json:"user"`
	BotID    string    `json:"bot_id,omitempty"`
	Text     string    `json:"text"`
	Blocks   []Block   `json:"blocks,omitempty"`
	Metadata *Metadata `json:"metadata,omitempty"`
	Edited   bool      `json:"edited,omitempty"`
	Revision int       `json:"revision"` // 0 as posted, one more at each update

	EphemeralUser string `json:"ephemeral_user,omitempty"` // the only person who sees it
}

const (
	maxText       = 40_000
	maxUpdateText = 4_000
	maxShown      = 12_000
)

var timestamp = regexp.MustCompile(`^\d{10}\.\d{6}$`)

// Messages returns the messages at channel level, oldest first.
func (s *Server) Messages(channel string) []Message {
	return slices.DeleteFunc(s.AllMessages(channel), func(m Message) bool { return m.ThreadTS != "" })
}

// Thread returns the replies to a message, oldest first, without the message itself.
func (s *Server) Thread(channel, ts string) []Message {
	return slices.DeleteFunc(s.AllMessages(channel), func(m Message) bool { return m.ThreadTS != ts })
}

// AllMessages returns every message of a channel, replies included, oldest first.
func (s *Server) AllMessages(channel string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.channels[channel]
	if !ok {
		return nil
	}
	all := make([]Message, len(c.messages))
	for i, m := range c.messages {
		all[i] = *m
	}
	return all
}

// Message returns one message as it is now.
func (s *Server) Message(channel, ts string) (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.channels[channel]; ok {
		if m := c.find(ts); m != nil {
			return *m, true
		}
	}
	return Message{}, false
}

// Revisions returns a message as it was posted and after each update, oldest first.
func (s *Server) Revisions(channel, ts string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.channels[channel]; ok {
		return slices.Clone(c.history[ts])
	}
	return nil
}

// Ephemerals returns what only this user saw, oldest first.
func (s *Server) Ephemerals(user string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ephemerals[user])
}

// DMs returns the app's direct messages with a user, oldest first.
func (s *Server) DMs(user string) []Message {
	s.mu.Lock()
	id := s.dms[user]
	s.mu.Unlock()
	return s.AllMessages(id)
}

// Post writes a message as a person; thread may be empty.
func (s *Server) Post(user, channelID, thread, text string) (Message, error) {
	var posted Message
	err := s.edit(func() error {
		c, refused := s.visibleChannel(channelID)
		if refused != nil {
			return refused
		}
		posted = *s.add(c, &Message{User: user, Text: text, ThreadTS: thread})
		return nil
	})
	return posted, err
}

// RemoveMessage deletes a message as an admin of the workspace does. It reports whether there was one.
func (s *Server) RemoveMessage(channel, ts string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.channels[channel]
	if !ok || !c.remove(ts) {
		return false
	}
	s.notify()
	return true
}

func (e *apiError) Error() string { return strings.Join(append([]string{e.code}, e.messages...), "; ") }

func (c *channel) find(ts string) *Message {
	for _, m := range c.messages {
		if m.TS == ts {
			return m
		}
	}
	return nil
}

func (c *channel) remove(ts string) bool {
	before := len(c.messages)
	c.messages = slices.DeleteFunc(c.messages, func(m *Message) bool { return m.TS == ts })
	return len(c.messages) < before
}

func (s *Server) add(c *channel, m *Message) *Message {
	m.Channel, m.TS = c.ID, s.nextTS()
	c.messages = append(c.messages, m)
	c.history[m.TS] = []Message{*m}
	return m
}

// replace stores a new revision; the old value stays as readers hold it.
func (c *channel) replace(next Message) *Message {
	for i, m := range c.messages {
		if m.TS == next.TS {
			next.Revision = m.Revision + 1
			c.messages[i] = &next
		}
	}
	c.history[next.TS] = append(c.history[next.TS], next)
	return &next
}

// visibleChannel finds a conversation the app may know of: a private one without the bot looks absent.
func (s *Server) visibleChannel(id string) (*channel, *apiError) {
	c, ok := s.channels[id]
	if !ok || c.IsPrivate && !c.has(s.cfg.BotUserID) {
		return nil, refuse("channel_not_found")
	}
	return c, nil
}

// writableChannel finds where a message goes; a user id means the app's direct messages with that user.
func (s *Server) writableChannel(id string) (*channel, *apiError) {
	if user, ok := s.users[id]; ok && !user.Deleted && id != s.cfg.BotUserID {
		return s.directMessage(id), nil
	}
	c, refused := s.visibleChannel(id)
	switch {
	case refused != nil:
		return nil, refused
	case c.IsArchived:
		return nil, refuse("is_archived")
	case !c.has(s.cfg.BotUserID):
		return nil, refuse("not_in_channel")
	}
	return c, nil
}

// content reads and checks what a message says. An absent text with blocks is allowed, nothing at all is not.
func (s *Server) content(a args, textLimit int) (string, []Block, *Metadata, *apiError) {
	text := a.text("text")
	if textLimit > 0 && utf8.RuneCountInString(text) > textLimit {
		return "", nil, nil, refuse("msg_too_long")
	}
	if runes := []rune(text); len(runes) > maxText {
		text = string(runes[:maxText])
	}
	var blocks []Block
	if a.has("blocks") {
		if err := json.Unmarshal(a.raw("blocks"), &blocks); err != nil {
			return "", nil, nil, refuse("invalid_blocks_format")
		}
		if faults := CheckBlocks(InMessage, blocks); len(faults) > 0 {
			return "", nil, nil, refuse("invalid_blocks", faults...)
		}
		s.fillIDs(blocks)
	}
	if text == "" && len(blocks) == 0 {
		return "", nil, nil, refuse("no_text")
	}
	if !a.has("metadata") {
		return text, blocks, nil, nil
	}
	var metadata Metadata
	if json.Unmarshal(a.raw("metadata"), &metadata) != nil {
		return "", nil, nil, refuse("invalid_metadata_format")
	}
	if metadata.EventType == "" || metadata.EventPayload == nil {
		return "", nil, nil, refuse("invalid_metadata_schema")
	}
	return text, blocks, &metadata, nil
}

// chatContent is content for the chat methods, which limit the text of all blocks together. A response URL takes
// more than they do. Slack documents no number and says "12,000 text characters".
// Source: https://github.com/slackapi/bolt-js/issues/2509
func (s *Server) chatContent(a args, textLimit int) (string, []Block, *Metadata, *apiError) {
	text, blocks, metadata, refused := s.content(a, textLimit)
	if refused == nil && shown(blocks) > maxShown {
		refused = refuse("msg_blocks_too_long")
	}
	return text, blocks, metadata, refused
}

// shown counts the characters of all texts and links.
func shown(value any) (n int) {
	switch v := value.(type) {
	case []Block:
		for _, inner := range v {
			n += shown(inner)
		}
	case []any:
		for _, inner := range v {
			n += shown(inner)
		}
	case Block:
		for name, inner := range v {
			if text, ok := inner.(string); ok && (name == "text" || name == "url" || name == "fallback") {
				n += utf8.RuneCountInString(text)
			}
			n += shown(inner)
		}
	}
	return n
}

// fillIDs gives blocks and interactive elements the ids that Slack makes up for them.
func (s *Server) fillIDs(blocks []Block) {
	for _, b := range blocks {
		if b["block_id"] == nil {
			b["block_id"] = s.nextID("b")
		}
		for _, e := range elementsOf(b) {
			if e["action_id"] == nil {
				e["action_id"] = s.nextID("a")
			}
		}
	}
}

func (s *Server) postMessage(a args) (answer, *apiError) {
	c, refused := s.writableChannel(a.text("channel"))
	if refused != nil {
		return nil, refused
	}
	text, blocks, metadata, refused := s.chatContent(a, 0)
	if refused != nil {
		return nil, refused
	}
	thread := a.text("thread_ts")
	if thread != "" {
		if !timestamp.MatchString(thread) {
			return nil, refuse("invalid_thread_ts")
		}
		parent := c.find(thread)
		switch {
		case parent == nil:
			thread = "" // Slack posts at channel level and says so by an absent thread_ts
		case parent.ThreadTS != "":
			thread = parent.ThreadTS
		}
	}
	m := s.add(c, &Message{
		ThreadTS: thread, User: s.cfg.BotUserID, BotID: s.cfg.BotID, Text: text, Blocks: blocks, Metadata: metadata,
	})
	return answer{"channel": c.ID, "ts": m.TS, "message": s.wire(c, m, true)}, nil
}

func (s *Server) updateMessage(a args) (answer, *apiError) {
	c, refused := s.visibleChannel(a.text("channel"))
	if refused != nil {
		return nil, refused
	}
	m := c.find(a.text("ts"))
	switch {
	case m == nil:
		return nil, refuse("message_not_found")
	case m.BotID != s.cfg.BotID:
		return nil, refuse("cant_update_message")
	case c.IsArchived:
		return nil, refuse("is_inactive")
	}
	text, blocks, metadata, refused := s.chatContent(a, maxUpdateText)
	if refused != nil {
		return nil, refused
	}
	next := *m
	next.Text, next.Blocks = text, blocks
	next.Edited = m.Edited || len(blocks) == 0
	if metadata != nil {
		next.Metadata = metadata
	}
	updated := c.replace(next)
	return answer{"channel": c.ID, "ts": updated.TS, "text": text, "message": s.wire(c, updated, true)}, nil
}

func (s *Server) postEphemeral(a args) (answer, *apiError) {
	c, refused := s.writableChannel(a.text("channel"))
	if refused != nil {
		return nil, refused
	}
	user := a.text("user")
	if !c.has(user) {
		return nil, refuse("user_not_in_channel")
	}
	text, blocks, _, refused := s.chatContent(a, 0)
	if refused != nil {
		return nil, refused
	}
	m := s.whisper(c.ID, user, Message{ThreadTS: a.text("thread_ts"), Text: text, Blocks: blocks})
	return answer{"message_ts": m.TS}, nil
}

// whisper stores an ephemeral message; the caller holds the lock.
func (s *Server) whisper(channel, user string, m Message) Message {
	m.Channel, m.TS, m.EphemeralUser = channel, s.nextTS(), user
	m.User, m.BotID = s.cfg.BotUserID, s.cfg.BotID
	s.ephemerals[user] = append(s.ephemerals[user], m)
	return m
}

func (s *Server) getPermalink(a args) (answer, *apiError) {
	c, refused := s.visibleChannel(a.text("channel"))
	if refused != nil {
		return nil, refused
	}
	m := c.find(a.text("message_ts"))
	if m == nil {
		return nil, refuse("message_not_found")
	}
	link := s.workspaceURL() + "archives/" + c.ID + "/p" + strings.ReplaceAll(m.TS, ".", "")
	if m.ThreadTS != "" {
		link += "?thread_ts=" + m.ThreadTS + "&cid=" + c.ID
	}
	return answer{"channel": c.ID, "permalink": link}, nil
}

// wire is a message as Slack sends it.
func (s *Server) wire(c *channel, m *Message, withMetadata bool) answer {
	out := answer{"type": "message", "user": m.User, "text": m.Text, "ts": m.TS, "team": s.cfg.TeamID}
	if m.BotID != "" {
		out["bot_id"], out["app_id"] = m.BotID, s.cfg.AppID
	}
	if m.Blocks != nil {
		out["blocks"] = m.Blocks
	}
	if m.Metadata != nil && withMetadata {
		out["metadata"] = m.Metadata
	}
	if m.Edited {
		out["edited"] = answer{"user": m.User, "ts": m.TS}
	}
	if m.ThreadTS != "" {
		out["thread_ts"] = m.ThreadTS
		if parent := c.find(m.ThreadTS); parent != nil {
			out["parent_user_id"] = parent.User
		}
		return out
	}
	replies, latest := 0, ""
	for _, other := range c.messages {
		if other.ThreadTS == m.TS {
			replies, latest = replies+1, other.TS
		}
	}
	if replies > 0 {
		out["thread_ts"], out["reply_count"], out["latest_reply"] = m.TS, replies, latest
	}
	return out
}
