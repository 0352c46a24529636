package approvals

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	json "github.com/go-json-experiment/json/v1"
)

// state is that of a person or token. Its row is a cache of its events.
type state interface {
	kind() string
	id() string
}

func (Person) kind() string { return keptPerson }
func (p Person) id() string { return p.SlackID }
func (Token) kind() string  { return keptToken }
func (t Token) id() string  { return t.ID }

func kept[T state](tx Tx, id string) (v T, err error) {
	row, err := tx.Kept(v.kind(), id)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(row, &v); err != nil {
		return v, fmt.Errorf("read the %s %s: %w", v.kind(), id, err)
	}
	return v, nil
}

func allKept[T state](tx Tx) ([]T, error) {
	var of T
	rows, err := tx.AllKept(of.kind())
	if err != nil {
		return nil, err
	}
	out := make([]T, len(rows))
	for i, row := range rows {
		if err := json.Unmarshal(row, &out[i]); err != nil {
			return nil, fmt.Errorf("read a %s: %w", of.kind(), err)
		}
	}
	return out, nil
}

func keep(tx Tx, v state) error {
	row, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Keep(v.kind(), v.id(), row)
}

// person returns the row of a person, together with what Slack last said of them.
func person(tx Tx, slackID string) (Person, error) {
	p, err := kept[Person](tx, slackID)
	if err == nil {
		p.Standing, err = sealedValue[Standing](tx, secretStanding(slackID))
	}
	return p, err
}

// Everybody lists all people, removed ones included, by id.
func Everybody(tx Tx) ([]Person, error) {
	all, err := allKept[Person](tx)
	if err != nil {
		return nil, err
	}
	return withStandings(tx, all)
}

// withStandings orders people by id, and fills in what Slack last said of them.
func withStandings(tx Tx, all []Person) (_ []Person, err error) {
	for i := range all {
		if all[i].Standing, err = sealedValue[Standing](tx, secretStanding(all[i].SlackID)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b Person) int { return strings.Compare(a.SlackID, b.SlackID) })
	return all, nil
}

// AllTokens lists all tokens, oldest first.
func AllTokens(tx Tx) ([]Token, error) { return allKept[Token](tx) }

// NameOf is a person's name, empty when nobody noted one.
func NameOf(tx Tx, slackID string) (string, error) {
	p, err := kept[Person](tx, slackID)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return p.Name, err
}

// named fills in the names of those who decided.
func named(tx Tx, r *Request) (err error) {
	for i := range r.Decisions {
		if r.Decisions[i].Name, err = NameOf(tx, r.Decisions[i].SlackUser); err != nil {
			return err
		}
	}
	return nil
}
