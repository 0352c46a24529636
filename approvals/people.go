package approvals

import (
	"cmp"
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

// refreshPeople asks Slack who the admins and the approvers' groups are. What
// cannot be asked keeps its age and fails closed when it is too old.
func (s *Service) refreshPeople(ctx context.Context) Outcome {
	all, err := query(ctx, s.store, Everybody)
	if err != nil {
		return Again(refreshAgain, err)
	}
	began := now()
	said, next := s.askSlack(ctx, all)
	out := Outcome{Due: time.Now().Add(next)}
	switch {
	case said.failed == nil:
		s.refreshFailing = time.Time{}
	case errors.Is(said.failed, ErrNotConnected):
		out.Due = time.Now().Add(refreshAgain) // [Service.Bind] makes it due sooner
	default:
		s.refreshFailing = cmp.Or(s.refreshFailing, began)
		out = Again(refreshAgain, said.failed)
	}
	out.Record = said.record
	return out
}

// said is what Slack said in one round.
type said struct {
	people []saidOf
	groups []Group
	failed error // why somebody could not be asked about
}

type saidOf struct {
	id, name string
	standing Standing
}

// askSlack asks about admins and groups. next is when to ask again.
func (s *Service) askSlack(ctx context.Context, all []Person) (what said, next time.Duration) {
	next = refreshEvery
	// Where Slack answers for a part only, those who wait longest are that part.
	slices.SortStableFunc(all, func(a, b Person) int { return a.Standing.CheckedAt.Compare(b.Standing.CheckedAt) })
	for _, p := range all {
		if !p.RemovedAt.IsZero() {
			continue
		}
		askedSince := !s.refreshFailing.IsZero() && !p.Standing.CheckedAt.Before(s.refreshFailing)
		if age := now().Sub(p.Standing.CheckedAt); askedSince && age < refreshFresh {
			next = min(next, refreshEvery-age)
			continue
		}
		name, problem, err := s.dir.User(ctx, p.SlackID)
		if err != nil {
			what.failed = err
			continue
		}
		what.people = append(what.people, saidOf{p.SlackID, name, Standing{CheckedAt: now(), Problem: problem}})
	}
	if ids := s.groupIDs(); len(ids) > 0 {
		groups, err := s.dir.Groups(ctx, ids)
		if err != nil {
			what.failed = err
		}
		for _, g := range groups {
			g.CheckedAt = now()
			what.groups = append(what.groups, g)
		}
	}
	return what, next
}

// record keeps what Slack said, and has votes judged again that rest on it.
func (what said) record(c *Change) error {
	changed := false
	for _, p := range what.people {
		news, err := c.heard(p)
		if err != nil {
			return err
		}
		changed = changed || news
	}
	for _, g := range what.groups {
		had, err := sealedValue[Group](c.Tx, secretGroup(g.ID))
		if err != nil {
			return err
		}
		changed = changed || had.Problem != g.Problem || !slices.Equal(had.Members, g.Members)
		if err := sealValue(c.Tx, secretGroup(g.ID), g); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return c.judgeAgain()
}

// heard keeps what Slack says of somebody. news: their votes may count now, or
// not any more.
func (c *Change) heard(of saidOf) (news bool, err error) {
	had, err := sealedValue[Standing](c.Tx, secretStanding(of.id))
	if err != nil {
		return false, err
	}
	p, err := kept[Person](c.Tx, of.id)
	if err != nil {
		return false, err
	}
	if p.Name == "" && of.name != "" {
		p.Name = of.name
		if err := keep(c.Tx, p); err != nil {
			return false, err
		}
	}
	news = had.Problem != of.standing.Problem || of.standing.CheckedAt.Sub(had.CheckedAt) > staleAfter
	return news, sealValue(c.Tx, secretStanding(of.id), of.standing)
}

// askAbout asks Slack about somebody who was never asked about, because they
// pressed a button a moment after they were added. It reports whether Slack
// answered.
func (s *Service) askAbout(ctx context.Context, id string) bool {
	p, err := query(ctx, s.store, func(tx Tx) (Person, error) { return person(tx, id) })
	if err != nil || !p.Standing.CheckedAt.IsZero() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	name, problem, err := s.dir.User(ctx, id)
	if err != nil {
		return false
	}
	return s.update(ctx, func(c *Change) error {
		_, err := c.heard(saidOf{id, name, Standing{CheckedAt: c.Now(), Problem: problem}})
		return err
	}) == nil
}

// groupIDs lists the user groups that give a right for any app.
func (s *Service) groupIDs() []string {
	var ids []string
	for _, p := range s.settings.policies {
		for _, id := range slices.Concat(p.Approvers, p.BreakGlass) {
			if IsGroup(id) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// ErrOtherWorkspace: the database serves another Slack workspace.
var ErrOtherWorkspace = errors.New("the database belongs to another Slack workspace")

// Start prepares a serve: it reads the log, ends what the settings do not know
// any more, and has everything looked at that was decided. channel is where
// notices about people and keys go. A long log is left to [Worker.Run], and nothing
// is approved until it was read; see [Service.Verifying].
func (s *Service) Start(ctx context.Context, channel, version string) error {
	if err := s.journal.open(ctx, channel); err != nil && !LogChanged(err) {
		return err
	}
	if s.Fault() != "" {
		return nil // nothing can be recorded; what is there can be read
	}
	return s.update(ctx, func(c *Change) error {
		if err := c.SetSecret(secretChannel, channel); err != nil {
			return err
		}
		if _, err := c.record(Event{Type: EventStarted, Actor: Actor{Kind: ActorSystem}, Data: Data{"version": version}}); err != nil {
			return err
		}
		changed, err := s.noteSettings(c)
		if err != nil {
			return err
		}
		if err := c.ask(tokensWork(), peopleWork()); err != nil {
			return err
		}
		// What was decided is looked at, and the cards are rendered anew on which people can
		// decide if the settings changed: who may, and how many have to, is read live.
		if changed {
			return c.lookAgain(Filter{Statuses: OpenStatuses()}, true)
		}
		return c.lookAgain(Filter{Statuses: []Status{Approved}}, false)
	})
}

// secretSettings names the settings that were last in force.
const secretSettings = "settings_in_force"

// noteSettings records which settings changed since the last start. Many changes
// take several events, so that each fits into a leaf.
func (s *Service) noteSettings(c *Change) (changed bool, err error) {
	had, err := sealedValue[settingValues](c.Tx, secretSettings)
	if err != nil {
		return false, err
	}
	now := s.settings.values()
	for _, changes := range inLeaves(settingChanges(had, now)) {
		changed = true
		e := Event{
			Type: EventSettingsChanged, Actor: Operator(s.operator), Source: "operator",
			Data: Data{"hash": s.settings.Hash()}, Settings: changes,
		}
		if _, err := c.record(e); err != nil {
			return false, err
		}
	}
	if !changed {
		return false, nil
	}
	return true, sealValue(c.Tx, secretSettings, now)
}

// Bind ties the database to its Slack workspace at the first serve, and refuses
// any other one later with [ErrOtherWorkspace]. Until then nobody may decide, and
// nobody can be looked up.
func (s *Service) Bind(ctx context.Context, team string) error {
	return s.update(ctx, func(c *Change) error {
		had, err := whole(c.Secret(secretTeam))
		if err != nil {
			return err
		}
		if had != "" && had != team {
			return ErrOtherWorkspace
		}
		if had == "" {
			if err := c.SetSecret(secretTeam, team); err != nil {
				return err
			}
		}
		return c.ask(peopleWork())
	})
}

// Workspace is the id of the Slack workspace that a database serves; empty before
// the first serve has reached Slack.
func Workspace(ctx context.Context, store Store) (string, error) {
	return query(ctx, store, func(tx Tx) (string, error) { return tx.Secret(secretTeam) })
}

// Stop records the end of a serve.
func (s *Service) Stop(ctx context.Context) error {
	return s.Record(ctx, Event{Type: EventStopped, Actor: Actor{Kind: ActorSystem}})
}
