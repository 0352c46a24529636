package slacktest

import (
	"encoding/json"
	"fmt"
	"slices"
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
	ExternalID      string  `json:"external_id,omitempty"`
	Hash            string  `json:"hash"`
	Root            string  `json:"root_view_id"`
	Previous        string  `json:"previous_view_id,omitempty"`
	NotifyOnClose   bool    `json:"notify_on_close,omitempty"`
	ClearOnClose    bool    `json:"clear_on_close,omitempty"`
}

type trigger struct {
	user    string
	expires time.Time
	used    bool
}

const (
	maxViewStack = 3
	maxViewSize  = 250_000
)

// View returns the modal on top of what the user has open, or nil.
func (s *Server) View(user string) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topView(user)
}

// Views returns the user's stack of open modals, the top one last.
func (s *Server) Views(user string) []*View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.views[user])
}

// Home returns the user's App Home, or nil if none was published.
func (s *Server) Home(user string) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.homes[user]
}

func (s *Server) topView(user string) *View {
	if stack := s.views[user]; len(stack) > 0 {
		return stack[len(stack)-1]
	}
	return nil
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
	v.Root = v.ID
	return &v, nil
}

func (s *Server) nextHash() string { return s.nextTS() + "." + s.nextID("h") }

func (s *Server) externalIDTaken(v *View, except string) bool {
	if v.ExternalID == "" {
		return false
	}
	for _, stack := range s.views {
		for _, other := range stack {
			if other.ExternalID == v.ExternalID && other.ID != except {
				return true
			}
		}
	}
	return false
}

func (s *Server) openView(a args) (answer, *apiError) {
	t, v, refused := s.triggeredView(a)
	if refused != nil {
		return nil, refused
	}
	t.used = true
	s.views[t.user] = []*View{v}
	return answer{"view": s.wireView(v, nil)}, nil
}

func (s *Server) pushView(a args) (answer, *apiError) {
	t, v, refused := s.triggeredView(a)
	if refused != nil {
		return nil, refused
	}
	if !s.push(t.user, v) {
		return nil, refuse("push_limit_reached")
	}
	t.used = true
	return answer{"view": s.wireView(v, nil)}, nil
}

func (s *Server) triggeredView(a args) (*trigger, *View, *apiError) {
	t, refused := s.exchange(a.text("trigger_id"))
	if refused != nil {
		return nil, nil, refused
	}
	v, refused := s.newView(a.raw("view"), InModal)
	if refused != nil {
		return nil, nil, refused
	}
	if s.externalIDTaken(v, "") {
		return nil, nil, refuse("duplicate_external_id")
	}
	return t, v, nil
}

// push puts a view on top of the user's stack and reports false if there is none or it is full.
func (s *Server) push(user string, v *View) bool {
	stack := s.views[user]
	if len(stack) == 0 || len(stack) == maxViewStack {
		return false
	}
	v.Root, v.Previous = stack[0].ID, stack[len(stack)-1].ID
	s.views[user] = append(slices.Clone(stack), v)
	return true
}

func (s *Server) updateView(a args) (answer, *apiError) {
	id, external := a.text("view_id"), a.text("external_id")
	for user, stack := range s.views {
		for _, old := range stack {
			if id != "" && old.ID != id || id == "" && (external == "" || old.ExternalID != external) {
				continue
			}
			if hash := a.text("hash"); hash != "" && hash != old.Hash {
				return nil, refuse("hash_conflict")
			}
			v, refused := s.newView(a.raw("view"), InModal)
			if refused != nil {
				return nil, refused
			}
			if s.externalIDTaken(v, old.ID) {
				return nil, refuse("duplicate_external_id")
			}
			s.replaceView(user, old, v)
			return answer{"view": s.wireView(v, nil)}, nil
		}
	}
	return nil, refuse("not_found")
}

// replaceView puts a new revision in the place of an open modal; the id stays, the hash is new.
func (s *Server) replaceView(user string, old, next *View) {
	next.ID, next.Root, next.Previous = old.ID, old.Root, old.Previous
	stack := slices.Clone(s.views[user])
	stack[slices.Index(stack, old)] = next
	s.views[user] = stack
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
		v.ID, v.Root = old.ID, old.Root
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
	var previous any
	if v.Previous != "" {
		previous = v.Previous
	}
	return answer{
		"id": v.ID, "team_id": s.cfg.TeamID, "type": v.Type, "title": label(v.Title), "submit": label(v.Submit),
		"close": label(v.Close), "blocks": v.Blocks, "private_metadata": v.PrivateMetadata, "callback_id": v.CallbackID,
		"external_id": v.ExternalID, "state": answer{"values": values}, "hash": v.Hash, "root_view_id": v.Root,
		"previous_view_id": previous, "clear_on_close": v.ClearOnClose, "notify_on_close": v.NotifyOnClose,
		"app_id": s.cfg.AppID, "app_installed_team_id": s.cfg.TeamID, "bot_id": s.cfg.BotID,
	}
}
