package approvals

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kinds of cached states.
const (
	keptPerson = "person"
	keptToken  = "token"
)

func kept[T any](tx Tx, kind, id string) (v T, err error) {
	state, err := tx.Kept(kind, id)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(state, &v); err != nil {
		return v, fmt.Errorf("read the %s %s: %w", kind, id, err)
	}
	return v, nil
}

func allKept[T any](tx Tx, kind string) ([]T, error) {
	states, err := tx.AllKept(kind)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(states))
	for i, state := range states {
		if err := json.Unmarshal(state, &out[i]); err != nil {
			return nil, fmt.Errorf("read a %s: %w", kind, err)
		}
	}
	return out, nil
}

func keep(tx Tx, kind, id string, v any) error {
	state, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Keep(kind, id, state)
}

// person returns the row of a person, together with what Slack last said of them.
func person(tx Tx, slackID string) (Person, error) {
	p, err := kept[Person](tx, keptPerson, slackID)
	if err != nil {
		return p, err
	}
	p.Standing, err = sealedValue[Standing](tx, secretStanding(slackID))
	return p, err
}

// people lists everybody, removed ones included, by id.
func people(tx Tx) ([]Person, error) {
	all, err := allKept[Person](tx, keptPerson)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Standing, err = sealedValue[Standing](tx, secretStanding(all[i].SlackID)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b Person) int { return strings.Compare(a.SlackID, b.SlackID) })
	return all, nil
}

// named fills in the names of those who decided.
func named(tx Tx, r *Request) error {
	for i := range r.Decisions {
		p, err := kept[Person](tx, keptPerson, r.Decisions[i].SlackUser)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		r.Decisions[i].Name = p.Name
	}
	return nil
}
