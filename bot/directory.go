package bot

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

var _ approvals.Directory = (*Workspace)(nil)

// User asks Slack who somebody is. problem says why the person is no full,
// active member of the workspace. err is a call that did not succeed: then
// nothing is known.
func (w *Workspace) User(ctx context.Context, id string) (name, problem string, err error) {
	if w.Identity().Team == "" {
		return "", "", fmt.Errorf("users.info: %w", approvals.ErrNotConnected)
	}
	u, err := w.api.GetUserInfoContext(ctx, id)
	if err != nil {
		switch f := diagnose(err); f.code {
		case "user_not_found", "user_not_visible", "users_not_found":
			w.answered(id, nil)
			problem = "not known in this workspace"
			w.members.learn(id, problem)
			return "", problem, nil
		default:
			err = fmt.Errorf("users.info: %s", f.words(""))
			w.answered(id, err)
			return "", "", err
		}
	}
	w.answered(id, nil)
	for _, n := range []string{u.Profile.DisplayName, u.RealName, u.Name} {
		if name = plain.Cut(plain.Visible(n), limitName); name != "" {
			break
		}
	}
	problem = w.problem(u)
	w.members.learn(id, problem)
	return name, problem, nil
}

// unsaidFor is how long a look-up that failed is shown. It is repeated sooner, if
// its answer is still wanted.
const unsaidFor = 45 * time.Second

// answered keeps the operator's view of the look-ups. What was known counts on
// for a while, so that there is time to fix it.
func (w *Workspace) answered(user string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsaid == nil {
		w.unsaid = map[string]time.Time{}
	}
	if err != nil {
		w.unsaid[user] = time.Now()
		w.health.bad("people", err.Error()+"; nobody can approve once the last answer is 30 minutes old")
		return
	}
	delete(w.unsaid, user)
	w.forget()
}

// forget ends the problem once nobody is left of whom Slack did not answer; the
// caller holds the lock.
func (w *Workspace) forget() {
	maps.DeleteFunc(w.unsaid, func(_ string, at time.Time) bool { return time.Since(at) > unsaidFor })
	if len(w.unsaid) == 0 {
		w.health.good("people")
	}
}

func (w *Workspace) problem(u *slack.User) string {
	team := w.Identity().Team
	switch {
	case u.Deleted:
		return "the account is deactivated"
	case u.IsBot || u.ID == "USLACKBOT":
		return "the account is a bot"
	case u.IsUltraRestricted:
		return "the account is a single-channel guest"
	case u.IsRestricted:
		return "the account is a guest"
	case u.IsStranger:
		return "the account belongs to another organisation"
	case u.TeamID != team:
		return "the account belongs to another workspace"
	}
	return ""
}

// groupsFor is how long the list of groups is kept: usergroups.list allows 20
// calls a minute, and one list serves all groups of a round.
const groupsFor = 30 * time.Second

type groupCache struct {
	mu   sync.Mutex
	at   time.Time
	list []slack.UserGroup
}

// Group asks Slack who is in a user group. The problem of a group that cannot
// be used is in the group; err is a call that did not succeed.
func (w *Workspace) Group(ctx context.Context, id string) (approvals.Group, error) {
	g, err := w.group(ctx, id)
	switch {
	case err != nil:
		w.health.bad("group "+id, err.Error()+"; its members cannot approve once the last answer is 30 minutes old")
	case g.Problem != "":
		w.health.bad("group "+id, g.Problem+": nobody can approve as its member: fix it in Slack, or change the setting approvers")
	default:
		w.health.good("group " + id)
	}
	return g, err
}

func (w *Workspace) group(ctx context.Context, id string) (approvals.Group, error) {
	g := approvals.Group{ID: id}
	list, err := w.userGroups(ctx)
	if err != nil {
		return g, fmt.Errorf("usergroups.list: %s", diagnose(err).words(""))
	}
	found := false
	for _, known := range list {
		if known.ID != id {
			continue
		}
		found = true
		if known.DateDelete > 0 {
			g.Problem = "the group is disabled"
		}
	}
	if !found {
		g.Problem = "the group does not exist in this workspace"
	}
	if g.Problem != "" {
		return g, nil
	}
	g.Members, err = w.api.GetUserGroupMembersContext(ctx, id, slack.GetUserGroupMembersOptionTeamID(w.Identity().Team))
	if err != nil {
		if f := diagnose(err); f.code == "no_such_subteam" {
			g.Problem = "the group does not exist in this workspace"
			return g, nil
		}
		return g, fmt.Errorf("usergroups.users.list: %s", diagnose(err).words(""))
	}
	return g, nil
}

func (w *Workspace) userGroups(ctx context.Context) ([]slack.UserGroup, error) {
	w.groups.mu.Lock()
	defer w.groups.mu.Unlock()
	if time.Since(w.groups.at) < groupsFor {
		return w.groups.list, nil
	}
	list, err := w.api.GetUserGroupsContext(ctx, slack.GetUserGroupsOptionIncludeDisabled(true), slack.GetUserGroupsOptionTeamID(w.Identity().Team))
	if err != nil {
		return nil, err
	}
	w.groups.list, w.groups.at = list, time.Now()
	return list, nil
}
