package bot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slack-go/slack"
)

// Scopes that the app needs, and those that only let it look before it posts again.
func neededScopes() []string {
	return []string{"chat:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read"}
}

func optionalScopes() []string { return []string{"channels:history", "groups:history"} }

// Finding is one line of the self-check.
type Finding struct {
	Subject string // what was looked at
	Fault   string // what is wrong and what to do; "" = fine
	Note    string // worth knowing, no fault
}

// OK reports whether nothing is wrong.
func (f Finding) OK() bool { return f.Fault == "" }

// Check looks at token, scopes and channels before the first deploy has to.
func (w *Workspace) Check(ctx context.Context, channels ...string) []Finding {
	id, err := w.Connect(ctx)
	if err != nil {
		return []Finding{{Subject: "slack token", Fault: err.Error()}}
	}
	findings := []Finding{
		{Subject: "slack token", Note: fmt.Sprintf("workspace %s (%s)", cut(oneLine(id.Name), limitName), id.Team)},
		checkScopes(id.Scopes),
	}
	for _, channel := range channels {
		findings = append(findings, w.checkChannel(ctx, channel))
	}
	return findings
}

func checkScopes(have []string) Finding {
	f := Finding{Subject: "slack scopes"}
	if len(have) == 0 {
		f.Note = "Slack does not list them"
		return f
	}
	if missing := lacking(have, neededScopes()); len(missing) > 0 {
		f.Fault = "missing: " + strings.Join(missing, ", ") + ": add them to the app and re-install it"
	}
	if missing := lacking(have, optionalScopes()); len(missing) > 0 {
		f.Note = "without " + strings.Join(missing, ", ") + " a card may be posted twice after a lost answer"
	}
	return f
}

func lacking(have, want []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(have, s) })
}

func (w *Workspace) checkChannel(ctx context.Context, channel string) Finding {
	f := Finding{Subject: "slack channel " + channel}
	c, err := w.api.GetConversationInfoContext(ctx, &slack.GetConversationInfoInput{ChannelID: channel})
	if err != nil {
		f.Fault = diagnose(err).words(channel)
		return f
	}
	name := "#" + cut(oneLine(c.Name), limitName)
	switch {
	case c.IsArchived:
		f.Fault = name + " is archived: unarchive it or set another one"
	case c.IsExtShared || c.IsPendingExtShared:
		f.Fault = name + " is shared with another organisation, whose people could press the buttons: use a channel of this workspace alone"
	case !c.IsMember:
		f.Fault = "the bot is not in " + name + ": invite it there with /invite"
	default:
		f.Note = name
	}
	return f
}
