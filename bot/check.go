package bot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
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
	Skipped bool   // it could not be looked at now; Note says why
}

// OK reports whether nothing is wrong.
func (f Finding) OK() bool { return f.Fault == "" }

// Check looks at token, scopes and channels before the first deploy has to. What
// it finds is shown by the bot's Health until it is fixed.
func (w *Workspace) Check(ctx context.Context, channels ...string) []Finding {
	unknown := w.Identity().Team == ""
	id, err := w.Connect(ctx)
	if err != nil {
		return []Finding{{Subject: "slack token", Fault: err.Error()}}
	}
	findings := []Finding{
		{Subject: "slack token", Note: fmt.Sprintf("workspace %s (%s)", plain.Cut(plain.OneLine(id.Name), limitName), id.Team)},
		checkScopes(id.Scopes),
	}
	found := map[string]string{"scopes": findings[1].Fault}
	if unknown && w.settings.AppToken != "" {
		// Who is connected already has a socket that shows the same, and Slack
		// allows about one such call a minute.
		findings = append(findings, w.checkSocket(ctx))
	}
	for _, channel := range channels {
		f, passing := w.checkChannel(ctx, channel)
		findings = append(findings, f)
		if !passing {
			found["channel "+channel] = f.Fault
		}
	}
	w.note(channels, found)
	return findings
}

// setUp is what the newest check found, so that it can be looked at again.
type setUp struct {
	at       time.Time
	looking  bool
	channels []string
	faults   map[string]string // by subject of the health
}

const (
	lookPause = 15 * time.Second
	lookTime  = 30 * time.Second
)

func (w *Workspace) note(channels []string, found map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.setUp.faults
	w.setUp.at, w.setUp.channels, w.setUp.faults = time.Now(), channels, map[string]string{}
	for subject, fault := range found {
		if fault != "" {
			w.setUp.faults[subject] = fault
			w.health.bad(subject, fault)
		} else if was[subject] != "" {
			w.health.settled(subject, was[subject])
		}
	}
}

// lookDue reports whether it is time to look again at what was not set up. It also
// drops problems that are too old to be shown.
func (w *Workspace) lookDue(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget()
	due := !w.setUp.looking && len(w.setUp.faults) > 0 && now.Sub(w.setUp.at) > lookPause
	w.setUp.looking = w.setUp.looking || due
	return due
}

func (w *Workspace) lookAgain(ctx context.Context) {
	w.mu.RLock()
	channels := w.setUp.channels
	w.mu.RUnlock()
	w.Check(ctx, channels...)
}

func (w *Workspace) looked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setUp.at, w.setUp.looking = time.Now(), false
}

// checkSocket asks for a connection that is not used.
func (w *Workspace) checkSocket(ctx context.Context) Finding {
	f := Finding{Subject: "slack socket", Note: "the app token is accepted"}
	if _, _, err := w.api.StartSocketModeContext(ctx); err != nil {
		if diagnose(err).kind == limited {
			f.Skipped, f.Note = true, "Slack was asked too often just now, so the app token was not checked"
			return f
		}
		f.Fault = fatalWords(err)
	}
	return f
}

func checkScopes(have []string) Finding {
	f := Finding{Subject: "slack scopes", Note: "all that are needed"}
	if len(have) == 0 {
		f.Skipped, f.Note = true, "Slack does not list them, so they were not checked"
		return f
	}
	if missing := lacking(have, neededScopes()); len(missing) > 0 {
		f.Fault = "missing: " + strings.Join(missing, ", ") + ": add them to the app and re-install it"
	}
	if missing := lacking(have, optionalScopes()); len(missing) > 0 {
		f.Note = "all that are needed; without " + strings.Join(missing, ", ") + " a card may be posted twice after a lost answer"
	}
	return f
}

func lacking(have, want []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(s string) bool { return slices.Contains(have, s) })
}

// checkChannel looks at one channel. passing: that it could not be looked at may
// be over at the next call.
func (w *Workspace) checkChannel(ctx context.Context, channel string) (f Finding, passing bool) {
	f = Finding{Subject: "slack channel " + channel}
	c, err := w.api.GetConversationInfoContext(ctx, &slack.GetConversationInfoInput{ChannelID: channel})
	if err != nil {
		why := diagnose(err)
		f.Fault = why.words(channel)
		return f, why.kind == transient || why.kind == limited
	}
	name := "#" + plain.Cut(plain.OneLine(c.Name), limitName)
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
	return f, false
}
