package slacktest

import (
	"encoding/json"
	"fmt"
	"time"
)

// View is a modal or a Home tab as the user sees it.
type View struct {
	ID              string  `json:"id"`
	Type            string  `json:"type"`
	Title           string  `json:"title,omitempty"`
	Submit          string  `json:"submit,omitempty"`
	Close           string  `json:"close,omitempty"`
	Blocks          []Block `json:"blocks"`
	PrivateMetadata string  `json:"private_metadata,omitempty"`
	CallbackID      string  `json:"callback_id,omitempty"`
	Hash            string  `json:"hash"`
}

type trigger struct {
	user    string
	expires time.Time
	used    bool
}

const (
	maxViewSize = 250_000
)

// View returns the modal that the user has open, or nil.
func (s *Server) View(user string) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.views[user]
}

// Home returns the user's App Home, or nil if none was published.
func (s *Server) Home(user string) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.homes[user]
}

func (s *Server) newTrigger(user string) string {
	id := fmt.Sprintf("%d.%s", s.cfg.Now().UnixNano(), s.nextID("t"))
	s.triggers[id] = &trigger{user: user, expires: s.cfg.Now().Add(s.cfg.TriggerLife)}
	return id
}

// exchange checks a trigger; the returned trigger is marked used by the caller once the view is accepted.
func (s *Server) exchange(id string) (*trigger, *apiError) {
	t, ok := s.triggers[id]
	switch {
	case !ok:
		return nil, refuse("invalid_trigger_id")
	case t.used:
		return nil, refuse("exchanged_trigger_id")
	case s.cfg.Now().After(t.expires):
		return nil, refuse("expired_trigger_id")
	}
	return t, nil
}

// newView decodes and checks a view. The surface is InModal or InHome.
func (s *Server) newView(raw json.RawMessage, surface Surface) (*View, *apiError) {
	if len(raw) > maxViewSize {
		return nil, refuse("view_too_large")
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return nil, refuse("invalid_arguments", "[ERROR] must provide an object [json-pointer:/view]")
	}
	if faults := CheckView(surface, fields); len(faults) > 0 {
		return nil, refuse("invalid_arguments", faults...)
	}
	var wire struct {
		View
		Title  *struct{ Text string } `json:"title"`
		Submit *struct{ Text string } `json:"submit"`
		Close  *struct{ Text string } `json:"close"`
	}
	if err := json.Unmarshal(raw, &wire); err != nil {
		return nil, refuse("invalid_arguments", "[ERROR] "+err.Error()+" [json-pointer:/view]")
	}
	v := wire.View
	for _, label := range []struct {
		into *string
		from *struct{ Text string }
	}{{&v.Title, wire.Title}, {&v.Submit, wire.Submit}, {&v.Close, wire.Close}} {
		if label.from != nil {
			*label.into = label.from.Text
		}
	}
	s.fillIDs(v.Blocks)
	v.ID, v.Hash = s.nextID("V"), s.nextHash()
	return &v, nil
}

func (s *Server) nextHash() string { return s.nextTS() + "." + s.nextID("h") }

func (s *Server) openView(a args) (answer, *apiError) {
	t, refused := s.exchange(a.text("trigger_id"))
	if refused != nil {
		return nil, refused
	}
	v, refused := s.newView(a.raw("view"), InModal)
	if refused != nil {
		return nil, refused
	}
	t.used = true
	s.views[t.user] = v
	return answer{"view": s.wireView(v, nil)}, nil
}

// replaceView puts a new revision in the place of an open modal; the id stays, the hash is new.
func (s *Server) replaceView(user string, next *View) {
	next.ID = s.views[user].ID
	s.views[user] = next
}

func (s *Server) publishView(a args) (answer, *apiError) {
	user := a.text("user_id")
	if _, ok := s.users[user]; !ok {
		return nil, refuse("invalid_arguments", "[ERROR] user_not_found [json-pointer:/user_id]")
	}
	old := s.homes[user]
	if hash := a.text("hash"); hash != "" && (old == nil || hash != old.Hash) {
		return nil, refuse("hash_conflict")
	}
	v, refused := s.newView(a.raw("view"), InHome)
	if refused != nil {
		return nil, refused
	}
	if old != nil {
		v.ID = old.ID
	}
	s.homes[user] = v
	return answer{"view": s.wireView(v, nil)}, nil
}

// wireView is a view as Slack sends it; values is the state of the inputs at a submission.
func (s *Server) wireView(v *View, values answer) answer {
	if values == nil {
		values = answer{}
	}
	label := func(text string) any {
		if text == "" {
			return nil
		}
		return answer{"type": "plain_text", "text": text, "emoji": true}
	}
	return answer{
		"id": v.ID, "team_id": s.cfg.TeamID, "type": v.Type, "title": label(v.Title), "submit": label(v.Submit),
		"close": label(v.Close), "blocks": v.Blocks, "private_metadata": v.PrivateMetadata, "callback_id": v.CallbackID,
		"external_id": "", "state": answer{"values": values}, "hash": v.Hash, "root_view_id": v.ID,
		"previous_view_id": nil, "clear_on_close": false, "notify_on_close": false,
		"app_id": s.cfg.AppID, "app_installed_team_id": s.cfg.TeamID, "bot_id": s.cfg.BotID,
	}
}
