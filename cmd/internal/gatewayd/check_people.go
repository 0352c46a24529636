package gatewayd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// standings is what Slack says of the people and groups that the settings and the
// database name.
type standings struct {
	problem map[string]string // of people, by id; "" = a full, active member
	members map[string][]string
}

// directory asks Slack for everybody who has a part in approvals, and then who can
// approve what.
func (k *checker) directory(ctx context.Context, slack approvals.Directory) {
	s := standings{problem: map[string]string{}, members: map[string][]string{}}
	named := map[string]string{} // who the settings name, and by which variable
	for _, p := range k.cfg.settings.Policies() {
		for key, ids := range map[string][]string{"notify": p.Notify, "approvers": p.Approvers, "break_glass": p.BreakGlass} {
			for _, id := range ids {
				if key != "notify" || named[id] == "" {
					named[id] = p.Source[key]
				}
			}
		}
	}
	for _, p := range k.people {
		if named[p.SlackID] == "" {
			named[p.SlackID] = ""
		}
	}
	var groups []string
	for _, id := range slices.Sorted(maps.Keys(named)) {
		if approvals.IsGroup(id) {
			groups = append(groups, id)
		} else if err := k.person(ctx, slack, id, named[id], &s); err != nil {
			k.fault("people", err.Error(), "")
			return // nobody's right can be told
		}
	}
	if err := k.groups(ctx, slack, groups, named, &s); err != nil {
		k.fault("people", err.Error(), "")
		return
	}
	if !k.stored {
		return
	}
	for _, p := range k.cfg.settings.Policies() {
		k.approvers(p, s)
		k.emergency(p, s)
	}
}

func (k *checker) groups(ctx context.Context, slack approvals.Directory, ids []string, named map[string]string, s *standings) error {
	if len(ids) == 0 {
		return nil
	}
	groups, err := slack.Groups(ctx, ids)
	for _, g := range groups {
		s.members[g.ID] = g.Members
		if g.Problem != "" {
			k.fault("slack group "+g.ID, g.Problem, "correct "+named[g.ID]+", or the group in Slack")
		}
	}
	return err
}

func (k *checker) person(ctx context.Context, slack approvals.Directory, id, variable string, s *standings) error {
	_, problem, err := slack.User(ctx, id)
	if err != nil {
		return err
	}
	s.problem[id] = problem
	switch {
	case problem == "":
	case variable != "":
		k.fault("slack user "+id, problem, "correct "+variable)
	default:
		k.warn("slack user "+id, "an admin, but "+problem, "run rack-gatewayd user remove --slack-id "+id)
	}
	return nil
}

// approvers counts who can approve at a place, by the rules of a vote as far as they
// can be told without a request.
func (k *checker) approvers(p approvals.Policy, s standings) {
	name := "approvers of " + placeOf(p)
	var able, others []string
	do := "run rack-gatewayd user add --slack-id U… --vcs-login LOGIN, then user enroll"
	if len(p.Approvers) > 0 {
		do += "; or correct " + p.Source["approvers"]
	}
	nearest := 0 // the advice is for the person who is nearest to being able to approve
	for _, person := range k.people {
		who := nameOf(person)
		lacks, next, step := "", "", 0
		switch {
		case len(p.Approvers) > 0 && !s.lists(p.Approvers, person.SlackID):
			continue
		case s.problem[person.SlackID] != "":
			lacks = "cannot: " + s.problem[person.SlackID]
		case person.VCSLogin == "" && !p.AllowSelf:
			lacks, next, step = "has no VCS login on record", "run rack-gatewayd user add --slack-id "+person.SlackID+" --vcs-login LOGIN", 1
		case !person.Enrolled:
			lacks, next, step = "has no authenticator", "run rack-gatewayd user enroll --slack-id "+person.SlackID, 2
		default:
			able = append(able, who)
			continue
		}
		others = append(others, who+" "+lacks)
		if step > nearest {
			nearest, do = step, next
		}
	}
	switch names := strings.Join(able, ", "); {
	case len(able) == p.Required && !p.AllowSelf:
		k.warn(name, "only "+names+" can approve, so nobody can approve what one of them starts", "make somebody else an admin, or set allow_self_approval")
		return
	case len(able) >= p.Required && len(able) < p.ConfigChange:
		k.warn(name, fmt.Sprintf("%d approvals are needed where the CI configuration has changed, but only %s can approve", p.ConfigChange, names),
			"make somebody else an admin, or lower config_change_approvals")
		return
	case len(able) >= p.Required:
		k.ok(name, fmt.Sprintf("%s can approve; %d needed", names, p.Required))
		return
	}
	text := "nobody can approve"
	if len(able) > 0 {
		text = fmt.Sprintf("%d approvals are needed, but only %s can approve", p.Required, strings.Join(able, ", "))
	}
	switch {
	case len(others) > 0:
		text += "; " + strings.Join(others, "; ")
	case len(k.people) == 0:
		text += ", because there is no admin"
	case len(able) == 0:
		text += ", because no admin is one of the approvers"
	}
	k.fault(name, text, do)
}

// emergency looks whether somebody can release in an emergency where that is foreseen.
func (k *checker) emergency(p approvals.Policy, s standings) {
	if len(p.BreakGlass) == 0 || slices.ContainsFunc(k.people, func(person approvals.Person) bool {
		return s.lists(p.BreakGlass, person.SlackID) && s.problem[person.SlackID] == "" && person.Enrolled
	}) {
		return
	}
	k.fault("break_glass of "+placeOf(p), "nobody can release in an emergency, because no admin with an authenticator is named there",
		"run rack-gatewayd user add, then user enroll, for somebody whom it names; or correct "+p.Source["break_glass"])
}

// lists reports whether somebody is one of some people and groups.
func (s standings) lists(ids []string, id string) bool {
	return slices.Contains(ids, id) || slices.ContainsFunc(ids, func(group string) bool { return slices.Contains(s.members[group], id) })
}
