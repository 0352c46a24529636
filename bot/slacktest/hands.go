package slacktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ButtonClick is one press of a button. Only the first four fields are needed.
type ButtonClick struct {
	User, Channel, TS, ActionID string

	Team     string   // the payload's team instead of the app's
	UserTeam string   // the user's team_id instead of the real one
	Value    *string  // a value that the app never offered
	Seen     *Message // an older rendering that is still on the person's screen
	Force    bool     // even if the person is unknown, deactivated or not in the channel
}

// ClickResult says how a click ended. Modals and ephemerals that follow are read by View and Ephemerals.
type ClickResult struct {
	Delivery Delivery
	Ack      json.RawMessage
}

// Click presses a button of a message as it is now and waits for the acknowledgement.
func (s *Server) Click(ctx context.Context, user, channel, ts, actionID string) (ClickResult, error) {
	return s.ClickButton(ctx, ButtonClick{User: user, Channel: channel, TS: ts, ActionID: actionID})
}

// ClickButton is Click with everything that can be unusual about one.
func (s *Server) ClickButton(ctx context.Context, click ButtonClick) (ClickResult, error) {
	d, err := s.PrepareClick(click)
	if err != nil {
		return ClickResult{}, err
	}
	ack, err := s.Deliver(ctx, d)
	if err != nil {
		return ClickResult{Delivery: d}, fmt.Errorf("click %s: %w", click.ActionID, err)
	}
	return ClickResult{Delivery: d, Ack: ack}, nil
}

// PrepareClick builds the payload of a click without sending it. The trigger lives from now on.
func (s *Server) PrepareClick(click ButtonClick) (Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.channels[click.Channel]
	if !ok {
		return Delivery{}, fmt.Errorf("click: no channel %s", click.Channel)
	}
	user, err := s.person(click.User, click.Force)
	if err != nil {
		return Delivery{}, fmt.Errorf("click: %w", err)
	}
	if !c.has(user.ID) && !click.Force {
		return Delivery{}, fmt.Errorf("click: %s is not in %s", user.ID, c.ID)
	}
	m := c.find(click.TS)
	if click.Seen != nil {
		m = click.Seen
	}
	if m == nil {
		return Delivery{}, fmt.Errorf("click: no message %s in %s", click.TS, c.ID)
	}
	blockID, element := button(m.Blocks, click.ActionID)
	if element == nil {
		return Delivery{}, fmt.Errorf("click: the message has no button %q", click.ActionID)
	}
	value := element["value"]
	if click.Value != nil {
		value = *click.Value
	}
	setDefault(&click.UserTeam, user.TeamID)
	setDefault(&click.Team, s.cfg.TeamID)
	action := answer{
		"type": "button", "action_id": click.ActionID, "block_id": blockID, "text": element["text"], "action_ts": s.nextTS(),
	}
	for name, extra := range map[string]any{"value": value, "style": element["style"]} {
		if extra != nil {
			action[name] = extra
		}
	}
	container := answer{"type": "message", "message_ts": m.TS, "channel_id": c.ID, "is_ephemeral": false}
	if m.ThreadTS != "" {
		container["thread_ts"] = m.ThreadTS
	}
	d := Delivery{Kind: Interactive, TriggerID: s.newTrigger(user.ID), ResponseURL: s.newResponseURL(c.ID, user.ID, m.TS)}
	d.Payload = encode(answer{
		"type": "block_actions", "token": "legacy", "api_app_id": s.cfg.AppID, "trigger_id": d.TriggerID,
		"response_url": d.ResponseURL, "container": container, "channel": answer{"id": c.ID, "name": c.Name},
		"team": answer{"id": click.Team, "domain": s.cfg.TeamDomain}, "enterprise": nil, "is_enterprise_install": false,
		"user":    answer{"id": user.ID, "username": user.Name, "name": user.Name, "team_id": click.UserTeam},
		"message": s.wire(c, m, true), "state": answer{"values": answer{}}, "actions": []any{action},
	})
	return d, nil
}

// person finds who acts; deactivated people cannot.
func (s *Server) person(id string, force bool) (User, error) {
	u, ok := s.users[id]
	switch {
	case !ok && force:
		return User{ID: id, TeamID: s.cfg.TeamID, Name: id}, nil
	case !ok:
		return User{}, fmt.Errorf("no user %s", id)
	case u.Deleted && !force:
		return User{}, fmt.Errorf("user %s is deactivated", id)
	}
	return u, nil
}

// button finds a button by its action id, with the id of its block.
func button(blocks []Block, actionID string) (string, Block) {
	for _, b := range blocks {
		for _, e := range elementsOf(b) {
			if e["type"] == "button" && e["action_id"] == actionID {
				id, _ := b["block_id"].(string)
				return id, e
			}
		}
	}
	return "", nil
}

// Buttons returns the action ids of a message's buttons, in order.
func Buttons(m Message) []string {
	var ids []string
	for _, b := range m.Blocks {
		for _, e := range elementsOf(b) {
			if id, ok := e["action_id"].(string); ok && e["type"] == "button" {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// SlashReply is the direct answer to a slash command. Later ones through its response URL are read by Ephemerals.
type SlashReply struct {
	Delivery  Delivery
	Text      string
	Blocks    []Block
	InChannel bool
}

// Slash types the slash command and waits for its acknowledgement. A reply in it is shown to the user as well.
func (s *Server) Slash(ctx context.Context, user, channel, text string) (SlashReply, error) {
	d, err := s.PrepareSlash(user, channel, text)
	if err != nil {
		return SlashReply{}, err
	}
	reply := SlashReply{Delivery: d}
	raw, err := s.Deliver(ctx, d)
	if err != nil {
		return reply, fmt.Errorf("%s %s: %w", s.cfg.Command, text, err)
	}
	var a args
	var plain string
	switch {
	case len(raw) == 0 || string(raw) == "null" || string(raw) == "{}":
		return reply, nil
	case json.Unmarshal(raw, &plain) == nil:
		a = args{"text": raw}
	case json.Unmarshal(raw, &a) != nil:
		return reply, fmt.Errorf("%s %s: %w: the answer is no object", s.cfg.Command, text, ErrTrouble)
	}
	err = s.edit(func() error {
		said, blocks, _, refused := s.content(a, 0)
		if refused != nil {
			return fmt.Errorf("%s %s: %w: %w", s.cfg.Command, text, ErrTrouble, refused)
		}
		m := Message{Text: said, Blocks: blocks}
		reply.Text, reply.Blocks, reply.InChannel = said, blocks, a.text("response_type") == "in_channel"
		if c, ok := s.channels[channel]; ok && reply.InChannel {
			m.User, m.BotID = s.cfg.BotUserID, s.cfg.BotID
			s.add(c, &m)
			return nil
		}
		s.whisper(channel, user, m)
		return nil
	})
	return reply, err
}

// PrepareSlash builds the payload of the slash command without sending it.
func (s *Server) PrepareSlash(user, channel, text string) (Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.person(user, false)
	if err != nil {
		return Delivery{}, fmt.Errorf("slash command: %w", err)
	}
	c, ok := s.channels[channel]
	if !ok {
		return Delivery{}, fmt.Errorf("slash command: no channel %s", channel)
	}
	if !slices.Contains(s.scopes, "commands") {
		return Delivery{}, errors.New("slash command: the app has no commands scope")
	}
	d := Delivery{Kind: SlashCommands, TriggerID: s.newTrigger(user), ResponseURL: s.newResponseURL(channel, user, "")}
	d.Payload = encode(map[string]string{
		"token": "legacy", "team_id": s.at(u), "team_domain": s.cfg.TeamDomain, "channel_id": channel,
		"channel_name": c.Name, "user_id": user, "user_name": u.Name, "command": s.cfg.Command, "text": text,
		"api_app_id": s.cfg.AppID, "is_enterprise_install": "false", "response_url": d.ResponseURL, "trigger_id": d.TriggerID,
	})
	return d, nil
}

// OpenHome opens the app's Home tab and waits for the acknowledgement of the event, not for the view.
func (s *Server) OpenHome(ctx context.Context, user string) error {
	d, err := s.PrepareHome(user)
	if err != nil {
		return err
	}
	if _, err := s.Deliver(ctx, d); err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	return nil
}

// PrepareHome builds the app_home_opened event without sending it.
func (s *Server) PrepareHome(user string) (Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.person(user, false)
	if err != nil {
		return Delivery{}, fmt.Errorf("open home: %w", err)
	}
	event := answer{
		"type": "app_home_opened", "user": user, "channel": s.directMessage(user).ID, "tab": "home", "event_ts": s.nextTS(),
	}
	if home := s.homes[user]; home != nil {
		event["view"] = s.wireView(home, nil)
	}
	d := Delivery{Kind: EventsAPI, EventID: s.nextID("Ev")}
	d.Payload = encode(answer{
		"type": "event_callback", "token": "legacy", "team_id": s.at(u), "api_app_id": s.cfg.AppID, "event": event,
		"event_id": d.EventID, "event_time": s.cfg.Now().Unix(), "is_ext_shared_channel": false,
		"authorizations": []any{answer{"team_id": s.cfg.TeamID, "user_id": s.cfg.BotUserID, "is_bot": true}},
	})
	return d, nil
}

// CloseView closes the user's modal. The app does not hear of it: it never asks for that.
func (s *Server) CloseView(user string) error {
	return s.edit(func() error {
		if s.views[user] == nil {
			return errors.New("close view: nothing is open")
		}
		delete(s.views, user)
		return nil
	})
}
