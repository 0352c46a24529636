package approvals

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	json "github.com/go-json-experiment/json/v1"
)

// Difference is a row that does not say what the log says.
type Difference struct {
	Subject string
	What    string
	// Left says that the row could not be made anew and stands as it was.
	Left bool
}

func (d Difference) String() string { return fmt.Sprintf("%s: %s", d.Subject, d.What) }

// Rebuild compares the rows that cache the log, and the index of histories, with the
// log, and unless check is set makes them anew where they differ. It reads the whole
// log, which it takes for true: see [VerifyLog]. It ends where the index has too much,
// see [LogChanged]: the store takes nothing away.
func Rebuild(ctx context.Context, store Store, check bool) ([]Difference, error) {
	b := rebuilder{check: check, hidden: map[string]bool{}}
	b.run = func(fn func(Tx) error) error {
		if check {
			return store.View(ctx, fn)
		}
		return store.Update(ctx, fn)
	}
	err := b.pages(b.index)
	if err == nil {
		err = b.pages(b.subjects)
	}
	if err == nil {
		err = b.requests()
	}
	if err == nil {
		err = b.others()
	}
	return b.found, err
}

type rebuilder struct {
	run   func(func(Tx) error) error // in a transaction
	check bool
	// hidden are subjects whose rows cannot be judged, because a check leaves the index
	// without some of their events.
	hidden map[string]bool
	found  []Difference
}

// leaf is an event, and the line that is stored of it.
type leaf struct {
	Event
	line []byte
}

// pages reads the log page by page, and calls take for each.
func (b *rebuilder) pages(take func(page []leaf) error) error {
	for from, n := int64(0), pageOfLeaves; n == pageOfLeaves; from += pageOfLeaves {
		var page []leaf
		err := b.run(func(tx Tx) error {
			for line, err := range tx.Leaves(from) {
				if err != nil {
					return err
				}
				e, err := ParseEvent(line)
				if err != nil {
					return err
				}
				if page = append(page, leaf{e, line}); len(page) == pageOfLeaves {
					break
				}
			}
			return nil
		})
		if n = len(page); err == nil {
			err = take(page)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// index lists a page of the log in the histories in which it belongs. What a history has
// too much ends the rebuild when it is read.
func (b *rebuilder) index(page []leaf) error {
	return b.run(func(tx Tx) (err error) {
		listed := map[string][][]byte{} // from the start of the page on, by subject
		for _, e := range page {
			subject := e.subject()
			if subject == "" {
				continue
			}
			if _, read := listed[subject]; !read {
				if listed[subject], err = historyOf(tx, subject, page[0].Seq-1); err != nil {
					return err
				}
			}
			if left := listed[subject]; len(left) > 0 && bytes.Equal(left[0], e.line) {
				listed[subject] = left[1:]
				continue
			}
			what := "the index lacks it in the history of " + subject
			b.found = append(b.found, Difference{Subject: fmt.Sprintf("event %d", e.Seq), What: what})
			if b.check {
				b.hidden[subject] = true
			} else if err := tx.Index(e.Seq, subject); err != nil {
				return err
			}
		}
		return nil
	})
}

// subjects rebuilds the rows of what has its first event in a page of the log.
func (b *rebuilder) subjects(page []leaf) error {
	for _, e := range page {
		if b.hidden[e.subject()] {
			continue
		}
		if err := b.subject(e.Event); err != nil {
			return err
		}
	}
	return nil
}

// subject rebuilds what the event is the first of.
func (b *rebuilder) subject(e Event) error {
	switch user, token := e.Data["user"], e.Data["token"]; e.Type {
	case EventRequested:
		name := "request " + e.Request
		if e.Asked != nil {
			name = requestName(Request{Number: e.Asked.Number})
		}
		return b.row(name, func(tx Tx) (string, bool, error) { return b.request(tx, e.Request) })
	case EventPersonAdded:
		return b.row(keptName(keptPerson, user), func(tx Tx) (string, bool, error) { return rebuildKept[Person](tx, user, b.check) })
	case EventTokenCreated:
		return b.row(keptName(keptToken, token), func(tx Tx) (string, bool, error) { return rebuildKept[Token](tx, token, b.check) })
	}
	return nil
}

// row rebuilds one row in a transaction of its own: if it cannot be read, or another one
// stands in its way, that transaction is lost, and only that row is left as it was. fn says
// what differs, and whether the row cannot be made anew.
func (b *rebuilder) row(name string, fn func(Tx) (what string, left bool, err error)) error {
	d := Difference{Subject: name}
	err := b.run(func(tx Tx) (err error) {
		d.What, d.Left, err = fn(tx)
		return err
	})
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case errors.Is(err, ErrConflict):
		d.What, d.Left = fmt.Sprintf("another row stands in its way; run rebuild again once that one is repaired: %v", err), true
	case syntax || kind:
		d.What, d.Left = err.Error(), true
	case err != nil:
		return err
	}
	if d.What != "" {
		b.found = append(b.found, d)
	}
	return nil
}

// pageOfRows is how many rows of requests are read in one transaction.
const pageOfRows = 200

// requests finds the rows of requests that the log does not know. They give no
// right, but they are listed; the store takes no row away.
func (b *rebuilder) requests() error {
	for before, done := int64(0), false; !done; {
		err := b.row("requests that the log does not know", func(tx Tx) (string, bool, error) {
			rows, err := tx.Requests(Filter{Before: before, Limit: pageOfRows})
			done = len(rows) < pageOfRows
			for i := 0; i < len(rows) && err == nil; i++ {
				before = rows[i].Number
				err = b.known(tx, requestName(rows[i]), rows[i].ID)
			}
			return "", false, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// others finds the rows of people and tokens that the log does not know.
func (b *rebuilder) others() error {
	return b.row("people and tokens that the log does not know", func(tx Tx) (string, bool, error) {
		err := unlisted[Person](b, tx)
		if err == nil {
			err = unlisted[Token](b, tx)
		}
		return "", false, err
	})
}

func unlisted[T state](b *rebuilder, tx Tx) error {
	rows, err := allKept[T](tx)
	for i := 0; i < len(rows) && err == nil; i++ {
		kind, id := rows[i].kind(), rows[i].id()
		err = b.known(tx, keptName(kind, id), subjectOf(kind, id))
	}
	return err
}

func (b *rebuilder) known(tx Tx, name, subject string) error {
	lines, err := historyOf(tx, subject, -1)
	if err == nil && len(lines) == 0 && !b.hidden[subject] {
		b.found = append(b.found, Difference{name, "the log has no event of it", true})
	}
	return err
}

func requestName(r Request) string { return fmt.Sprintf("request #%d", r.Number) }

func keptName(kind, id string) string { return kind + " " + id }

func (b *rebuilder) request(tx Tx, id string) (what string, left bool, err error) {
	events, err := EventsOf(tx, id)
	if err != nil {
		return "", false, err
	}
	rebuilt, err := foldRequest(events)
	if err != nil {
		return err.Error(), true, nil
	}
	row, err := tx.Request(id)
	switch {
	case errors.Is(err, ErrNotFound):
		what = "its row is missing"
		rebuilt.Told = rebuilt.Seq // its thread stands already
	case err != nil:
		return "", false, err
	default:
		if what, err = differs(tx, row, rebuilt); err != nil || what == "" {
			return "", false, err
		}
		what += " differs"
		rebuilt.Version, rebuilt.Seen = row.Version, row.Seen
		if hashOf(row.Metadata) == rebuilt.Asked.Metadata {
			rebuilt.Metadata = row.Metadata
		}
	}
	if b.check {
		return what, false, nil
	}
	return what, false, tx.SaveRequest(&rebuilt)
}

// differs says in what a row differs, "" when it does not: in what it says, or in
// what it is found by.
func differs(tx Tx, row, rebuilt Request) (string, error) {
	if what := rowDiffers(row, rebuilt); what != "" {
		return what, nil
	}
	found, err := tx.Requests(Filter{
		Apps: []string{rebuilt.App}, Environment: rebuilt.Environment, Statuses: []Status{rebuilt.Status},
		Revision: rebuilt.Facts.Revision, Branch: rebuilt.Facts.Branch, WorkflowID: rebuilt.Facts.WorkflowID,
		CreatedFrom: rebuilt.CreatedAt, CreatedTo: rebuilt.CreatedAt, Released: !rebuilt.ReleasedAt.IsZero(),
	})
	if err != nil || slices.ContainsFunc(found, func(r Request) bool { return r.ID == rebuilt.ID }) {
		return "", err
	}
	return "what it is found by", nil
}

// rebuildKept rebuilds a person or token. What was merely observed of them, which no
// event says, is taken from the row.
func rebuildKept[T state, P folded[T]](tx Tx, id string, check bool) (what string, left bool, err error) {
	row, what, err := keptRow[T](tx, id)
	if err != nil {
		return "", false, err
	}
	events, err := EventsOf(tx, subjectOf(row.kind(), id))
	if err != nil {
		return "", false, err
	}
	rebuilt, err := foldKept[T, P](row, events)
	if err != nil {
		return err.Error(), true, nil
	}
	if what == "" {
		if what = fieldsOf(row, rebuilt); what == "" {
			return "", false, nil
		}
		what += " differs"
	}
	if !check {
		err = keep(tx, rebuilt)
	}
	return what, false, err
}

// folded is a state that is made of events.
type folded[T state] interface {
	*T
	apply(Event) error
	observe(row T) // takes over what was merely observed, which no event says
}

func (p *Person) observe(row Person) { p.Name = cmp.Or(p.Name, row.Name) }
func (t *Token) observe(row Token)   { t.LastUsedAt = row.LastUsedAt }

// foldKept makes a person or token of their whole history, with what was observed of
// them according to the row.
func foldKept[T state, P folded[T]](row T, history []Event) (v T, err error) {
	for _, e := range history {
		if err := P(&v).apply(e); err != nil {
			return v, err
		}
	}
	P(&v).observe(row)
	return v, nil
}

// recorded is a person or token as the log says, whatever the row says; [ErrNotFound].
func recorded[T state, P folded[T]](tx Tx, id string) (v T, err error) {
	events, err := provenEvents(tx, subjectOf(v.kind(), id))
	if err == nil && len(events) == 0 {
		err = ErrNotFound
	}
	if err == nil {
		v, _, err = keptRow[T](tx, id)
	}
	if err != nil {
		return v, err
	}
	return foldKept[T, P](v, events)
}

// Recorded lists all people, by id, and all tokens, oldest first, removed and ended ones
// included: as the log says, with what was observed of them. It reads and verifies the
// whole log; see [LogChanged].
func Recorded(tx Tx) (people []Person, tokens []Token, err error) {
	j := newJournal(nil, nil, slog.New(slog.DiscardHandler))
	for done := false; !done; {
		if done, err = j.advance(tx, shortLog); err != nil {
			return nil, nil, err
		}
	}
	if people, err = completed(tx, j.rights.people); err == nil {
		people, err = withStandings(tx, people)
	}
	if err == nil {
		tokens, err = completed(tx, j.rights.tokens)
	}
	slices.SortFunc(tokens, func(a, b Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return people, tokens, err
}

// completed lists states of the log with what was observed of them according to the rows.
func completed[T state, P folded[T]](tx Tx, states map[string]T) (out []T, err error) {
	for id, v := range states {
		row, _, err := keptRow[T](tx, id)
		if err != nil {
			return nil, err
		}
		P(&v).observe(row)
		out = append(out, v)
	}
	return out, nil
}

// keptRow reads the row of a person or token. what is why there is none that could
// be compared.
func keptRow[T state](tx Tx, id string) (row T, what string, err error) {
	text, err := tx.Kept(row.kind(), id)
	switch {
	case errors.Is(err, ErrNotFound):
		return row, "its row is missing", nil
	case err != nil:
		return row, "", err
	}
	if json.Unmarshal(text, &row) != nil {
		var none T
		return none, "its row cannot be read", nil
	}
	return row, "", nil
}
