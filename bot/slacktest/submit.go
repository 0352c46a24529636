package slacktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Values are what a person typed, by block and action id.
type Values = map[string]map[string]string

// SubmitResult says what the person sees after pressing the modal's button.
type SubmitResult struct {
	Delivery Delivery
	Closed   bool              // the modal is gone
	Errors   map[string]string // shown under the inputs, by block id
	Local    bool              // the errors are Slack's own; the app was not asked
	Updated  *View             // the modal was replaced
}

// Submit fills in the inputs of the user's open modal and presses its button.
// The error is ErrTimeout or ErrTrouble when that is what the person sees; the modal stays open then.
func (s *Server) Submit(ctx context.Context, user, viewID string, values Values) (SubmitResult, error) {
	d, local, err := s.PrepareSubmit(user, viewID, values)
	if err != nil {
		return SubmitResult{}, err
	}
	if len(local) > 0 {
		return SubmitResult{Errors: local, Local: true}, nil
	}
	raw, err := s.Deliver(ctx, d)
	if err != nil {
		return SubmitResult{Delivery: d}, fmt.Errorf("submit: %w", err)
	}
	return s.ApplySubmission(user, viewID, d, raw)
}

// PrepareSubmit builds the payload of a submission without sending it. Inputs that Slack itself refuses come back as
// errors by block id.
func (s *Server) PrepareSubmit(user, viewID string, values Values) (Delivery, map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.views[user]
	if v == nil || v.ID != viewID {
		return Delivery{}, nil, fmt.Errorf("submit: view %s is not open for %s", viewID, user)
	}
	if v.Submit == "" {
		return Delivery{}, nil, errors.New("submit: the modal has no submit button")
	}
	u, err := s.person(user, true)
	if err != nil {
		return Delivery{}, nil, err
	}
	state, local, err := fill(v.Blocks, values)
	if err != nil || len(local) > 0 {
		return Delivery{}, local, err
	}
	d := Delivery{Kind: Interactive, TriggerID: s.newTrigger(user)}
	d.Payload = encode(answer{
		"type": "view_submission", "token": "legacy", "api_app_id": s.cfg.AppID, "trigger_id": d.TriggerID,
		"team": answer{"id": s.cfg.TeamID, "domain": s.cfg.TeamDomain}, "view": s.wireView(v, state), "response_urls": []any{},
		"user":       answer{"id": user, "username": u.Name, "name": u.Name, "team_id": u.TeamID},
		"enterprise": nil, "is_enterprise_install": false,
	})
	return d, nil, nil
}

// fill puts values into the inputs of a view and checks them as Slack's own clients do.
func fill(blocks []Block, values Values) (answer, map[string]string, error) {
	state, local, used := answer{}, map[string]string{}, 0
	for _, b := range blocks {
		if b["type"] != "input" {
			continue
		}
		element := asObject(b["element"])
		blockID, _ := b["block_id"].(string)
		actionID, _ := element["action_id"].(string)
		text, given := values[blockID][actionID]
		if !given {
			text, _ = element["initial_value"].(string)
		} else {
			used++
		}
		var value any
		if text != "" {
			value = text
		}
		least, _ := element["min_length"].(float64)
		most, limited := element["max_length"].(float64)
		switch n := utf8.RuneCountInString(text); {
		case n == 0 && b["optional"] == true:
		case n == 0:
			local[blockID] = "Please complete this required field."
		case n < int(least):
			local[blockID] = fmt.Sprintf("Must be at least %d characters.", int(least))
		case limited && n > int(most):
			local[blockID] = fmt.Sprintf("Must be at most %d characters.", int(most))
		}
		state[blockID] = answer{actionID: answer{"type": element["type"], "value": value}}
	}
	given := 0
	for _, actions := range values {
		given += len(actions)
	}
	if given != used {
		return nil, nil, errors.New("submit: a value is for an input that the view does not have")
	}
	return state, local, nil
}

// ApplySubmission shows the answer of the app to the person, as Submit does.
func (s *Server) ApplySubmission(user, viewID string, d Delivery, raw json.RawMessage) (SubmitResult, error) {
	result := SubmitResult{Delivery: d}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.notify()
	var reply struct {
		Action string            `json:"response_action"`
		Errors map[string]string `json:"errors"`
		View   json.RawMessage   `json:"view"`
	}
	if len(raw) > 0 && json.Unmarshal(raw, &reply) != nil {
		return result, fmt.Errorf("submit: %w: the answer is no object", ErrTrouble)
	}
	open := s.views[user]
	if open == nil || open.ID != viewID {
		return result, errors.New("submit: the person closed the modal meanwhile")
	}
	switch reply.Action {
	case "", "clear":
		delete(s.views, user)
		result.Closed = true
	case "errors":
		if len(reply.Errors) == 0 {
			return result, fmt.Errorf("submit: %w: no errors", ErrTrouble)
		}
		for id, text := range reply.Errors {
			if !isInput(open.Blocks, id) || text == "" {
				return result, fmt.Errorf("submit: %w: error for %q, which is no input block, or no text", ErrTrouble, id)
			}
		}
		result.Errors = reply.Errors
	case "update":
		v, refused := s.newView(reply.View, InModal)
		if refused != nil {
			return result, fmt.Errorf("submit: %w: %w", ErrTrouble, refused)
		}
		s.replaceView(user, v)
		result.Updated = v
	default:
		return result, fmt.Errorf("submit: %w: unknown response_action %q", ErrTrouble, reply.Action)
	}
	return result, nil
}

func isInput(blocks []Block, id string) bool {
	return slices.ContainsFunc(blocks, func(b Block) bool { return b["block_id"] == id && b["type"] == "input" })
}
