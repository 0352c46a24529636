package approvals

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	refreshEvery = 5 * time.Minute
	refreshAgain = 20 * time.Second // after Slack failed
	// refreshFresh is how new an answer must be for the round after a failure not to
	// ask again: Slack takes about 100 such calls a minute, and those who were not
	// asked must get their turn.
	refreshFresh = 2 * time.Minute
)

// varChannel is where operators' notices go.
const varChannel = "channel"

// refreshPeople asks Slack who the admins and the approvers' groups are. What
// cannot be asked keeps its age and fails closed when it is too old.
func (s *Service) refreshPeople(ctx context.Context, _ Effect) Outcome {
	var people []Person
	if err := s.view(ctx, func(tx Tx, _ time.Time) (err error) { people, err = tx.People(); return err }); err != nil {
		return Again(refreshAgain, err)
	}
	var failed error
	next := refreshEvery
	standings := map[string]Standing{}
	names := map[string]string{}
	for _, p := range people {
		if !p.RemovedAt.IsZero() {
			continue
		}
		if age := now().Sub(p.Standing.CheckedAt); s.refreshFailed && age < refreshFresh {
			next = min(next, refreshEvery-age)
			continue
		}
		name, problem, err := s.dir.User(ctx, p.SlackID)
		if err != nil {
			failed = err
			continue
		}
		standings[p.SlackID] = Standing{CheckedAt: now(), Problem: problem}
		names[p.SlackID] = name
	}
	var groups []Group
	for _, id := range s.groupIDs() {
		g, err := s.dir.Group(ctx, id)
		if err != nil {
			failed = err
			continue
		}
		g.ID, g.CheckedAt = id, now()
		groups = append(groups, g)
	}
	out := Again(next, nil)
	s.refreshFailed = failed != nil
	if s.refreshFailed {
		out = Again(refreshAgain, failed)
	}
	out.Record = func(tx Tx, _ time.Time) error {
		for id, standing := range standings {
			p, err := tx.Person(id)
			if err != nil {
				return err
			}
			p.Standing = standing
			if p.Name == "" {
				p.Name = names[id]
			}
			if err := tx.SavePerson(p); err != nil {
				return err
			}
		}
		for _, g := range groups {
			if err := tx.SaveGroup(g); err != nil {
				return err
			}
		}
		return nil
	}
	return out
}

// groupIDs lists the user groups that any app's approvers name.
func (s *Service) groupIDs() []string {
	var ids []string
	for _, p := range s.settings.policies {
		for _, id := range p.Approvers {
			if IsGroup(id) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// announce tells an event in the operators' channel and, if user is not empty,
// to that person.
func announce(tx Tx, e Event, user string) error {
	channel, err := tx.Var(varChannel)
	if err != nil {
		return err
	}
	if channel != "" {
		if err := tx.Enqueue(noticeChannel(channel, e)); err != nil {
			return err
		}
	}
	if user == "" {
		return nil
	}
	return tx.Enqueue(noticePerson(user, e))
}

// ErrOtherWorkspace: the database serves another Slack workspace.
var ErrOtherWorkspace = errors.New("the database belongs to another Slack workspace")

// Start prepares a serve: it ends what the settings do not know any more, and
// brings forward what was decided. channel is where notices about people and keys
// go.
func (s *Service) Start(ctx context.Context, channel, version string) error {
	return s.update(ctx, func(tx Tx, now time.Time) error {
		if err := tx.SetVar(varChannel, channel); err != nil {
			return err
		}
		if _, err := record(tx, now, Event{Type: EventStarted, Actor: Actor{Kind: ActorSystem}, Data: map[string]string{"version": version}}); err != nil {
			return err
		}
		changed, err := s.noteSettings(tx, now)
		if err != nil {
			return err
		}
		if err := tx.Enqueue(tokenExpiry()); err != nil {
			return err
		}
		if changed {
			if err := s.closeGone(tx, now); err != nil {
				return err
			}
			if err := showSettings(tx); err != nil {
				return err
			}
		}
		return s.resume(tx, now)
	})
}

// varSettings is the hash of the settings that were last in force.
const varSettings = "settings"

// noteSettings records that the settings changed since the last start.
func (s *Service) noteSettings(tx Tx, now time.Time) (changed bool, err error) {
	had, err := tx.Var(varSettings)
	hash := s.settings.Hash()
	if err != nil || had == hash {
		return false, err
	}
	if _, err := record(tx, now, Event{Type: EventSettingsChanged, Actor: operator(), Source: "operator", Data: map[string]string{"hash": hash}}); err != nil {
		return false, err
	}
	return true, tx.SetVar(varSettings, hash)
}

// Bind ties the database to its Slack workspace at the first serve, and refuses
// any other one later with [ErrOtherWorkspace]. Until then nobody may decide, and
// nobody can be looked up.
func (s *Service) Bind(ctx context.Context, team string) error {
	return s.update(ctx, func(tx Tx, _ time.Time) error {
		had, err := tx.Var(varTeam)
		if err != nil {
			return err
		}
		if had != "" && had != team {
			return ErrOtherWorkspace
		}
		if err := tx.SetVar(varTeam, team); err != nil {
			return err
		}
		return tx.Enqueue(peopleRefresh())
	})
}

// closeGone closes the pending requests whose app is not in the settings any more.
func (s *Service) closeGone(tx Tx, now time.Time) error {
	pending, err := tx.Requests(Filter{Statuses: []Status{Pending}})
	if err != nil {
		return err
	}
	for _, r := range pending {
		if _, err := s.settings.Lookup(r.App, r.Environment); err == nil {
			continue
		}
		if err := s.cancel(tx, now, &r, Failure{FailAppGone, "the app is not in the settings any more"}, Actor{Kind: ActorSystem}, "timer"); err != nil {
			return err
		}
	}
	return nil
}

// showSettings renders the cards anew on which people can decide: who may, and how
// many have to, is read live.
func showSettings(tx Tx) error {
	pending, err := tx.Requests(Filter{Statuses: []Status{Pending}})
	if err != nil {
		return err
	}
	for _, r := range pending {
		if err := tx.Enqueue(cardUpdate(r)); err != nil {
			return err
		}
	}
	return nil
}

// resume looks at once after what was decided and is not released. All other work
// waits in the outbox as it was.
func (s *Service) resume(tx Tx, now time.Time) error {
	decided, err := tx.Requests(Filter{Statuses: []Status{Approved}})
	if err != nil {
		return err
	}
	for _, r := range decided {
		effects := []Effect{deadline(r), watch(r.Facts.WorkflowID, now)}
		if r.AutoApprove {
			effects = append(effects, gateRelease(r))
		}
		if err := enqueue(tx, effects...); err != nil {
			return err
		}
	}
	return nil
}

// Stop records the end of a serve.
func (s *Service) Stop(ctx context.Context) error {
	return s.Record(ctx, Event{Type: EventStopped, Actor: Actor{Kind: ActorSystem}})
}
