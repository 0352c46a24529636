package store

import (
	"encoding/json"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func (t *tx) Group(id string) (approvals.Group, error) {
	var g approvals.Group
	var members []byte
	err := t.get("SELECT id, handle, members, checked_at, problem FROM groups WHERE id = ?", []any{id},
		&g.ID, &g.Handle, &members, stamp{&g.CheckedAt}, &g.Problem)
	if err != nil {
		return approvals.Group{}, err
	}
	if err := json.Unmarshal(members, &g.Members); err != nil {
		return approvals.Group{}, fmt.Errorf("read group %s: %w", id, err)
	}
	return g, nil
}

func (t *tx) SaveGroup(g approvals.Group) error {
	members, err := json.Marshal(g.Members)
	if err != nil {
		return fmt.Errorf("save group: %w", err)
	}
	_, err = t.exec(`INSERT INTO groups (id, handle, members, checked_at, problem) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET handle = excluded.handle, members = excluded.members,
			checked_at = excluded.checked_at, problem = excluded.problem`,
		g.ID, g.Handle, string(members), millis(g.CheckedAt), g.Problem)
	return err
}
