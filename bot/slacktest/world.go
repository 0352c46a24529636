package slacktest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// User is a person or bot, with the flags that decide who may press buttons.
type User struct {
	ID     string `json:"id"`
	TeamID string `json:"team_id"` // empty: the workspace's own
	// Teams are all workspaces of somebody in an Enterprise organisation. TeamID is any one of them there.
	Teams             []string `json:"teams,omitempty"`
	Name              string   `json:"name"`
	RealName          string   `json:"real_name"`
	Deleted           bool     `json:"deleted"`
	IsBot             bool     `json:"is_bot"`
	IsRestricted      bool     `json:"is_restricted"`
	IsUltraRestricted bool     `json:"is_ultra_restricted"`
	IsStranger        bool     `json:"is_stranger"`
	TZ                string   `json:"tz,omitempty"`
}

// UserGroup is a mentionable group such as @deploy-admins.
type UserGroup struct {
	ID       string
	Handle   string
	Name     string
	Users    []string
	Disabled bool
}

// Channel is a conversation. The bot is in it when Members holds Config.BotUserID.
type Channel struct {
	ID          string
	Name        string
	Members     []string
	IsArchived  bool
	IsPrivate   bool
	IsExtShared bool
	IsIM        bool // set by the server for the app's direct messages
}

type channel struct {
	Channel
	messages []*Message // by time stamp, replies included; replaced, never changed in place
	history  map[string][]Message
}

func (c *channel) has(user string) bool { return slices.Contains(c.Members, user) }

// at is the workspace in which somebody uses the app.
func (s *Server) at(u User) string {
	if slices.Contains(u.Teams, s.cfg.TeamID) {
		return s.cfg.TeamID
	}
	return u.TeamID
}

// SetUser adds or replaces a user.
func (s *Server) SetUser(u User) {
	setDefault(&u.TeamID, s.cfg.TeamID)
	setDefault(&u.Name, u.ID)
	setDefault(&u.RealName, u.Name)
	s.change(func() { s.users[u.ID] = u })
}

// EditUser changes a known user.
func (s *Server) EditUser(id string, edit func(*User)) error {
	return s.edit(func() error {
		u, ok := s.users[id]
		if !ok {
			return fmt.Errorf("no user %s", id)
		}
		edit(&u)
		s.users[id] = u
		return nil
	})
}

// Users returns everybody, by id.
func (s *Server) Users() map[string]User {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.users)
}

// SetUserGroup adds or replaces a group.
func (s *Server) SetUserGroup(g UserGroup) {
	g.Users = slices.Clone(g.Users)
	setDefault(&g.Handle, g.ID)
	setDefault(&g.Name, g.Handle)
	s.change(func() { s.groups[g.ID] = g })
}

// EditUserGroup changes a known group.
func (s *Server) EditUserGroup(id string, edit func(*UserGroup)) error {
	return s.edit(func() error {
		g, ok := s.groups[id]
		if !ok {
			return fmt.Errorf("no user group %s", id)
		}
		g.Users = slices.Clone(g.Users)
		edit(&g)
		s.groups[id] = g
		return nil
	})
}

// SetChannel adds a channel, or replaces its settings and keeps its messages.
func (s *Server) SetChannel(c Channel) {
	c.Members = slices.Clone(c.Members)
	setDefault(&c.Name, c.ID)
	s.change(func() {
		if old, ok := s.channels[c.ID]; ok {
			old.Channel = c
			return
		}
		s.channels[c.ID] = &channel{Channel: c, history: map[string][]Message{}}
	})
}

// EditChannel changes a known channel.
func (s *Server) EditChannel(id string, edit func(*Channel)) error {
	return s.edit(func() error {
		c, ok := s.channels[id]
		if !ok {
			return fmt.Errorf("no channel %s", id)
		}
		c.Members = slices.Clone(c.Members)
		edit(&c.Channel)
		return nil
	})
}

// Channels returns the settings of every conversation, direct messages included.
func (s *Server) Channels() map[string]Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]Channel, len(s.channels))
	for id, c := range s.channels {
		copied := c.Channel
		copied.Members = slices.Clone(c.Members)
		all[id] = copied
	}
	return all
}

// SetScopes replaces the scopes of the bot token, as a re-install does.
func (s *Server) SetScopes(scopes ...string) {
	s.change(func() { s.scopes = slices.Clone(scopes) })
}

// SetOrganisation says whether the app was installed for a whole Enterprise organisation instead of this workspace.
func (s *Server) SetOrganisation(whole bool) {
	s.change(func() { s.organisation = whole })
}

// SetRequestURL switches to HTTP mode with this base, or with "" to Socket Mode.
func (s *Server) SetRequestURL(base string) {
	s.change(func() { s.requestURL = strings.TrimSuffix(base, "/") })
}

// RefuseToken answers every call with this token by an error such as token_revoked or account_inactive; "" ends it.
func (s *Server) RefuseToken(token, code string) {
	s.change(func() {
		if code == "" {
			delete(s.refused, token)
			return
		}
		s.refused[token] = code
	})
}

func (s *Server) edit(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := do(); err != nil {
		return err
	}
	s.notify()
	return nil
}

// directMessage returns the app's DM with a user and opens it if need be; the caller holds the lock.
func (s *Server) directMessage(user string) *channel {
	if id, ok := s.dms[user]; ok {
		return s.channels[id]
	}
	id := s.nextID("D")
	s.dms[user] = id
	c := &channel{
		Channel: Channel{ID: id, Name: "directmessage", Members: []string{user, s.cfg.BotUserID}, IsPrivate: true, IsIM: true},
		history: map[string][]Message{},
	}
	s.channels[id] = c
	return c
}
