package bot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	var u *slack.User
	err = w.pace.call("users.info", func() (err error) {
		u, err = w.api.GetUserInfoContext(ctx, id)
		return err
	})
	if err != nil {
		switch f := diagnose(err); f.code {
		case "user_not_found", "user_not_visible", "users_not_found":
			w.answered(id, nil)
			problem = "not known in this workspace"
			w.members.learn(id, problem, nil)
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
	w.members.learn(id, problem, places(u))
	return name, problem, nil
}

// places are the workspaces and the organisation that somebody belongs to. In an
// Enterprise organisation team_id is any one of the workspaces, or left out.
// Source: https://docs.slack.dev/reference/objects/user-object
func places(u *slack.User) []string {
	return slices.DeleteFunc(append(slices.Clone(u.Enterprise.Teams), u.TeamID, u.Enterprise.EnterpriseID), func(id string) bool { return id == "" })
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
	case !slices.Contains(places(u), team):
		return "the account belongs to another workspace"
	}
	return ""
}

// groupsFor and groupsAgain are how long the list of groups is kept, and that it could
// not be read: usergroups.list allows 20 calls a minute, and one list serves all groups
// of a round.
const (
	groupsFor   = 30 * time.Second
	groupsAgain = 10 * time.Second
)

type groupCache struct {
	mu    sync.Mutex
	until time.Time
	list  []slack.UserGroup
	err   error // why it could not be read
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
	list, err := w.userGroups(ctx)
	if err != nil {
		return approvals.Group{}, fmt.Errorf("usergroups.list: %s", diagnose(err).words(""))
	}
	for _, g := range list {
		switch {
		case g.ID != id:
		case g.DateDelete > 0:
			return approvals.Group{ID: id, Problem: "the group is disabled"}, nil
		case g.Users == nil: // which is not the same as nobody
			return approvals.Group{}, errors.New("usergroups.list: Slack does not say who is in the group")
		default:
			return approvals.Group{ID: id, Members: g.Users}, nil
		}
	}
	return approvals.Group{ID: id, Problem: "the group does not exist in this workspace"}, nil
}

// userGroups lists the groups of the workspace with their members.
func (w *Workspace) userGroups(ctx context.Context) ([]slack.UserGroup, error) {
	c := &w.groups
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.list, c.err
	}
	keep := groupsFor
	c.err = w.pace.call("usergroups.list", func() (err error) {
		c.list, err = w.api.GetUserGroupsContext(ctx, slack.GetUserGroupsOptionIncludeDisabled(true),
			slack.GetUserGroupsOptionIncludeUsers(true), slack.GetUserGroupsOptionTeamID(w.Identity().Team))
		return err
	})
	if c.err != nil {
		keep = groupsAgain
	}
	c.until = time.Now().Add(keep)
	return c.list, c.err
}
