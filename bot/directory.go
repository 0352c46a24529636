package bot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// Groups asks Slack who is in user groups, all with one call: it takes 20 a minute. The
// problem of a group that cannot be used is in the group; err is that the call did not
// succeed, or that Slack did not say who is in a group, which is then left out.
func (w *Workspace) Groups(ctx context.Context, ids []string) ([]approvals.Group, error) {
	var list []slack.UserGroup
	err := w.pace.call("usergroups.list", func() (err error) {
		list, err = w.api.GetUserGroupsContext(ctx, slack.GetUserGroupsOptionIncludeDisabled(true),
			slack.GetUserGroupsOptionIncludeUsers(true), slack.GetUserGroupsOptionTeamID(w.Identity().Team))
		return err
	})
	if err != nil {
		err = fmt.Errorf("usergroups.list: %s", diagnose(err).words(""))
	}
	failed := err
	var groups []approvals.Group
	for _, id := range ids {
		g, unsaid := approvals.Group{ID: id}, err
		if unsaid == nil {
			g, unsaid = userGroup(id, list)
		}
		switch {
		case unsaid != nil:
			w.health.bad("group "+id, unsaid.Error()+"; its members cannot approve once the last answer is 30 minutes old")
			failed = unsaid
			continue
		case g.Problem != "":
			w.health.bad("group "+id, g.Problem+": nobody can approve as its member: fix it in Slack, or change the setting approvers")
		default:
			w.health.good("group " + id)
		}
		groups = append(groups, g)
	}
	return groups, failed
}

// userGroup finds a group in the list of all.
func userGroup(id string, list []slack.UserGroup) (approvals.Group, error) {
	i := slices.IndexFunc(list, func(g slack.UserGroup) bool { return g.ID == id })
	switch {
	case i < 0:
		return approvals.Group{ID: id, Problem: "the group does not exist in this workspace"}, nil
	case list[i].DateDelete > 0:
		return approvals.Group{ID: id, Problem: "the group is disabled"}, nil
	case list[i].Users == nil: // which is not the same as nobody
		return approvals.Group{}, errors.New("usergroups.list: Slack does not say who is in the group")
	}
	return approvals.Group{ID: id, Members: list[i].Users}, nil
}
