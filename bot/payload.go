package bot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Types of interaction payloads.
// Source: https://docs.slack.dev/reference/interaction-payloads
const (
	typeBlockActions   = "block_actions"
	typeViewSubmission = "view_submission"
)

// interaction is what we read of an interaction payload, whatever transport it
// came by. It leaves out the echoed message and view, so that an element which
// the library does not know yet cannot make a click unreadable.
//
// It may hold a code: it is never logged.
type interaction struct {
	Type        string `json:"type"`
	AppID       string `json:"api_app_id"`
	TriggerID   string `json:"trigger_id"`
	ResponseURL string `json:"response_url"`
	Team        struct {
		ID string `json:"id"`
	} `json:"team"`
	User struct {
		ID     string `json:"id"`
		TeamID string `json:"team_id"`
	} `json:"user"`
	Channel struct {
		ID string `json:"id"`
	} `json:"channel"`
	Message struct {
		TS string `json:"ts"`
	} `json:"message"`
	Container struct {
		ChannelID string `json:"channel_id"`
		MessageTS string `json:"message_ts"`
	} `json:"container"`
	Actions []struct {
		ActionID string `json:"action_id"`
		Value    string `json:"value"`
	} `json:"actions"`
	View struct {
		TeamID          string `json:"team_id"`
		CallbackID      string `json:"callback_id"`
		PrivateMetadata string `json:"private_metadata"`
		State           struct {
			Values map[string]map[string]struct {
				Value string `json:"value"`
			} `json:"values"`
		} `json:"state"`
	} `json:"view"`
}

func (interaction) String() string   { return "interaction: REDACTED" }
func (interaction) GoString() string { return "interaction: REDACTED" }

// parseInteraction reads a payload. The error never repeats what was in it.
func parseInteraction(raw []byte) (interaction, error) {
	var p interaction
	if err := json.Unmarshal(raw, &p); err != nil {
		return interaction{}, fmt.Errorf("read interaction: %T", err)
	}
	if p.Type == "" {
		return interaction{}, fmt.Errorf("read interaction: no type")
	}
	return p, nil
}

// typed is what a person typed into an input; ok tells that the input was there.
func (p interaction) typed(block, action string) (text string, ok bool) {
	input, ok := p.View.State.Values[block][action]
	return input.Value, ok
}

// team is the workspace of the person, not that of the channel.
func (p interaction) team() string { return cmp.Or(p.User.TeamID, p.Team.ID) }

func (p interaction) channel() string { return cmp.Or(p.Container.ChannelID, p.Channel.ID) }

func (p interaction) messageTS() string { return cmp.Or(p.Container.MessageTS, p.Message.TS) }

// foreign reports whether a payload is not of our workspace and our app. Every
// workspace that is given must be ours, or one more of a member of ours; before we know
// who we are, nothing is. The app's id is known from a socket's greeting; in HTTP mode
// the signature, whose secret belongs to one app, says as much. err is that Slack did
// not say who somebody is.
func (b *Bot) foreign(ctx context.Context, appID, user string, teams ...string) (foreign bool, err error) {
	id := b.ws.Identity()
	teams = slices.DeleteFunc(teams, func(team string) bool { return team == "" })
	if id.Team == "" || len(teams) == 0 || id.AppID != "" && appID != "" && appID != id.AppID {
		return true, nil
	}
	teams = slices.DeleteFunc(teams, func(team string) bool { return team == id.Team })
	if len(teams) == 0 {
		return false, nil
	}
	belongs, err := b.ws.belongs(ctx, user, teams)
	return !belongs, err
}
