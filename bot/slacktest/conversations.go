package slacktest

import (
	"slices"
	"strings"
)

// byChannelKind names the scope that a conversations method needs for the channel it is about.
func byChannelKind(verb string) func(*Server, args) string {
	return func(s *Server, a args) string {
		c, ok := s.channels[a.text("channel")]
		switch {
		case ok && c.IsIM:
			return "im:" + verb
		case ok && c.IsPrivate:
			return "groups:" + verb
		}
		return "channels:" + verb
	}
}

func (s *Server) conversationInfo(a args) (answer, *apiError) {
	c, refused := s.visibleChannel(a.text("channel"))
	if refused != nil {
		return nil, refused
	}
	out := answer{
		"id": c.ID, "name": c.Name, "name_normalized": c.Name, "is_channel": !c.IsPrivate, "is_group": c.IsPrivate && !c.IsIM,
		"is_im": c.IsIM, "is_private": c.IsPrivate, "is_archived": c.IsArchived, "is_member": c.has(s.cfg.BotUserID),
		"is_ext_shared": c.IsExtShared, "is_shared": c.IsExtShared, "context_team_id": s.cfg.TeamID,
	}
	return answer{"channel": out}, nil
}

// readableChannel finds a conversation whose messages the app may read.
func (s *Server) readableChannel(a args) (*channel, *apiError) {
	c, refused := s.visibleChannel(a.text("channel"))
	if refused == nil && !c.has(s.cfg.BotUserID) {
		refused = refuse("not_in_channel")
	}
	return c, refused
}

func (s *Server) conversationReplies(a args) (answer, *apiError) {
	c, refused := s.readableChannel(a)
	if refused != nil {
		return nil, refused
	}
	ts := a.text("ts")
	parent := c.find(ts)
	if parent == nil {
		return nil, refuse("thread_not_found")
	}
	var found []*Message
	for _, m := range c.messages {
		if m.ThreadTS == ts && inRange(a, m.TS) {
			found = append(found, m)
		}
	}
	found, next := page(a, found, 1000, func(m *Message, cursor string) bool { return m.TS > cursor })
	return s.listing(c, a, append([]*Message{parent}, found...), next), nil
}

func (s *Server) conversationHistory(a args) (answer, *apiError) {
	c, refused := s.readableChannel(a)
	if refused != nil {
		return nil, refused
	}
	var found []*Message
	for _, m := range slices.Backward(c.messages) {
		if m.ThreadTS == "" && inRange(a, m.TS) {
			found = append(found, m)
		}
	}
	found, next := page(a, found, 100, func(m *Message, cursor string) bool { return m.TS < cursor })
	return s.listing(c, a, found, next), nil
}

func inRange(a args, ts string) bool {
	oldest, latest := a.text("oldest"), a.text("latest")
	if a.flag("inclusive") && (ts == oldest || ts == latest) {
		return true
	}
	return (oldest == "" || ts > oldest) && (latest == "" || ts < latest)
}

// page cuts a list after the cursor, which is the time stamp of the last message of the page before.
func page(a args, all []*Message, limit int, after func(*Message, string) bool) ([]*Message, string) {
	if cursor := a.text("cursor"); cursor != "" {
		all = slices.DeleteFunc(all, func(m *Message) bool { return !after(m, cursor) })
	}
	limit = min(a.number("limit", limit), 1000)
	if len(all) <= limit {
		return all, ""
	}
	return all[:limit], all[limit-1].TS
}

func (s *Server) listing(c *channel, a args, messages []*Message, next string) answer {
	list := make([]answer, len(messages))
	for i, m := range messages {
		list[i] = s.wire(c, m, a.flag("include_all_metadata"))
	}
	return answer{"messages": list, "has_more": next != "", "response_metadata": answer{"next_cursor": next}}
}

func (s *Server) userInfo(a args) (answer, *apiError) {
	user, ok := s.users[a.text("user")]
	if !ok {
		return nil, refuse("user_not_found")
	}
	out := answer{
		"id": user.ID, "team_id": user.TeamID, "name": user.Name, "real_name": user.RealName, "tz": user.TZ,
		"deleted": user.Deleted, "is_bot": user.IsBot, "is_restricted": user.IsRestricted,
		"is_ultra_restricted": user.IsUltraRestricted, "is_stranger": user.IsStranger,
		"profile": answer{"real_name": user.RealName, "display_name": user.Name, "team": user.TeamID},
	}
	if user.Teams != nil {
		out["enterprise_user"] = answer{"id": user.ID, "enterprise_id": "E0ORG", "enterprise_name": "Org", "teams": user.Teams}
	}
	return answer{"user": out}, nil
}

func (s *Server) userGroupList(a args) (answer, *apiError) {
	list := []answer{}
	for _, g := range s.groups {
		if g.Disabled && !a.flag("include_disabled") {
			continue
		}
		out := answer{"id": g.ID, "team_id": s.cfg.TeamID, "is_usergroup": true, "handle": g.Handle, "name": g.Name, "date_delete": 0}
		if g.Disabled {
			out["date_delete"] = s.cfg.Now().Unix()
		}
		if a.flag("include_users") {
			out["users"] = append([]string{}, g.Users...)
		}
		list = append(list, out)
	}
	slices.SortFunc(list, func(x, y answer) int { return strings.Compare(x["id"].(string), y["id"].(string)) })
	return answer{"usergroups": list}, nil
}
