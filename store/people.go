package store

import (
	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const selectPeople = `SELECT slack_id, name, vcs_login, added_at, removed_at, checked_at, problem,
	EXISTS (SELECT 1 FROM authenticators a WHERE a.slack_id = p.slack_id) FROM people p`

func personDest(p *approvals.Person) []any {
	return []any{&p.SlackID, &p.Name, &p.VCSLogin, stamp{&p.AddedAt}, stamp{&p.RemovedAt},
		stamp{&p.Standing.CheckedAt}, &p.Standing.Problem, &p.Enrolled}
}

func (t *tx) Person(slackID string) (approvals.Person, error) {
	var p approvals.Person
	err := t.get(selectPeople+" WHERE slack_id = ?", []any{slackID}, personDest(&p)...)
	return p, err
}

func (t *tx) People() ([]approvals.Person, error) {
	var out []approvals.Person
	err := t.each(selectPeople+" ORDER BY slack_id", nil, func(scan func(...any) error) error {
		var p approvals.Person
		if err := scan(personDest(&p)...); err != nil {
			return err
		}
		out = append(out, p)
		return nil
	})
	return out, err
}

func (t *tx) SavePerson(p approvals.Person) error {
	_, err := t.exec(`INSERT INTO people (slack_id, name, vcs_login, added_at, removed_at, checked_at, problem)
		VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (slack_id) DO UPDATE SET name = excluded.name, vcs_login = excluded.vcs_login, added_at = excluded.added_at,
			removed_at = excluded.removed_at, checked_at = excluded.checked_at, problem = excluded.problem`,
		p.SlackID, p.Name, p.VCSLogin, millis(p.AddedAt), millis(p.RemovedAt), millis(p.Standing.CheckedAt), p.Standing.Problem)
	return err
}
