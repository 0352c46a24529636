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
func Rebuild(ctx context.Context, store Store, check bool) (found []Difference, err error) {
	run := store.Update
	if check {
		run = store.View
	}
	b := rebuilder{check: check, skip: map[string]bool{}, hidden: map[string]bool{}}
	for _, page := range []func() (bool, error){b.index, b.events, b.requests, b.others} {
		for done := false; !done && err == nil; {
			start := b.at
			err = run(ctx, func(tx Tx) error {
				b.tx, b.page = tx, nil
				done, err = page()
				return err
			})
			var stuck *stuckRow
			switch {
			case errors.As(err, &stuck):
				// The transaction is lost: the page is read once more, without that row.
				b.at, b.skip[stuck.subject] = start, true
				found = append(found, Difference{stuck.subject, stuck.Error(), true})
				done, err = false, nil
			case err == nil:
				found = append(found, b.page...)
			}
		}
		b.at = cursor{}
	}
	return found, err
}

// rebuilder rebuilds the subjects whose first event is in one page of the log.
type rebuilder struct {
	tx    Tx
	check bool
	skip  map[string]bool // subjects whose rows cannot be read or replaced
	// hidden are subjects whose rows cannot be judged, because a check leaves the index
	// without some of their events.
	hidden map[string]bool
	at     cursor       // where the next page begins
	page   []Difference // of this page
}

// cursor is where a page begins.
type cursor struct {
	next   int64 // leaf
	before int64 // number of a request
}

// stuckRow is a row that ends a transaction: it cannot be read, or another one
// stands in its way.
type stuckRow struct {
	subject string
	error
}

func (s *stuckRow) Unwrap() error { return s.error }

// rowError says whose row an error is about, if it is about a row at all.
func rowError(subject string, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, ErrConflict):
		return &stuckRow{subject, fmt.Errorf("another row stands in its way; run rebuild again once that one is repaired: %w", err)}
	case errors.As(err, &syntax) || errors.As(err, &kind):
		return &stuckRow{subject, err}
	}
	return err
}

// leaves reads the next page of the log.
func (b *rebuilder) leaves(take func(e Event, line []byte) error) (done bool, err error) {
	n := pageOfLeaves
	for line, err := range b.tx.Leaves(b.at.next) {
		if err != nil {
			return false, err
		}
		b.at.next++
		e, err := ParseEvent(line)
		if err != nil {
			return false, err
		}
		if err := take(e, line); err != nil {
			return false, err
		}
		if n--; n == 0 {
			return false, nil
		}
	}
	return true, nil
}

// index lists the next page of the log in the histories in which it belongs. What a
// history has too much ends the rebuild when it is read.
func (b *rebuilder) index() (done bool, err error) {
	start, listed := b.at.next, map[string][][]byte{} // from the start on, by subject
	return b.leaves(func(e Event, line []byte) error {
		subject := e.subject()
		if subject == "" {
			return nil
		}
		if _, read := listed[subject]; !read {
			if listed[subject], err = historyOf(b.tx, subject, start-1); err != nil {
				return err
			}
		}
		if left := listed[subject]; len(left) > 0 && bytes.Equal(left[0], line) {
			listed[subject] = left[1:]
			return nil
		}
		b.differs(fmt.Sprintf("event %d", e.Seq), "the index lacks it in the history of "+subject)
		if b.check {
			b.hidden[subject] = true
			return nil
		}
		return b.tx.Index(e.Seq, subject)
	})
}

// events rebuilds the subjects that begin in the next page of the log.
func (b *rebuilder) events() (done bool, err error) {
	return b.leaves(func(e Event, _ []byte) error {
		if b.hidden[e.subject()] {
			return nil
		}
		return b.subject(e)
	})
}

// subject rebuilds what the event is the first of.
func (b *rebuilder) subject(e Event) error {
	switch e.Type {
	case EventRequested:
		return b.request(e)
	case EventPersonAdded:
		return rebuildKept[Person](b, e.Data["user"])
	case EventTokenCreated:
		return rebuildKept[Token](b, e.Data["token"])
	}
	return nil
}

// pageOfRows is how many rows of requests are read in one transaction.
const pageOfRows = 200

// requests finds the rows of requests that the log does not know. They give no
// right, but they are listed; the store takes no row away.
func (b *rebuilder) requests() (done bool, err error) {
	if b.skip[unlistedRequests] {
		return true, nil
	}
	rows, err := b.tx.Requests(Filter{Before: b.at.before, Limit: pageOfRows})
	if err != nil {
		return false, rowError(unlistedRequests, err)
	}
	for _, r := range rows {
		b.at.before = r.Number
		if err := b.known(requestName(r), r.ID); err != nil {
			return false, err
		}
	}
	return len(rows) < pageOfRows, nil
}

// These stand for rows that the log does not know, while one cannot be read.
const (
	unlistedRequests = "requests that the log does not know"
	unlistedOthers   = "people and tokens that the log does not know"
)

// others finds the rows of people and tokens that the log does not know.
func (b *rebuilder) others() (done bool, err error) {
	if b.skip[unlistedOthers] {
		return true, nil
	}
	if err := unlisted[Person](b); err != nil {
		return false, err
	}
	return true, unlisted[Token](b)
}

func unlisted[T state](b *rebuilder) error {
	rows, err := allKept[T](b.tx)
	if err != nil {
		return rowError(unlistedOthers, err)
	}
	for _, row := range rows {
		if err := b.known(keptName(row.kind(), row.id()), subjectOf(row.kind(), row.id())); err != nil {
			return err
		}
	}
	return nil
}

func (b *rebuilder) known(name, subject string) error {
	lines, err := historyOf(b.tx, subject, -1)
	if err == nil && len(lines) == 0 && !b.hidden[subject] {
		b.left(name, "the log has no event of it")
	}
	return err
}

func (b *rebuilder) differs(subject, what string) {
	b.page = append(b.page, Difference{Subject: subject, What: what})
}

func (b *rebuilder) left(subject, what string) {
	b.page = append(b.page, Difference{subject, what, true})
}

func requestName(r Request) string { return fmt.Sprintf("request #%d", r.Number) }

func (b *rebuilder) request(first Event) error {
	name := "request " + first.Request
	if first.Asked != nil {
		name = requestName(Request{Asked: *first.Asked, Number: first.Asked.Number})
	}
	if b.skip[name] {
		return nil
	}
	events, err := EventsOf(b.tx, first.Request)
	if err != nil {
		return err
	}
	rebuilt, err := foldRequest(events)
	if err != nil {
		b.left(name, err.Error())
		return nil
	}
	row, err := b.tx.Request(first.Request)
	switch {
	case errors.Is(err, ErrNotFound):
		b.differs(name, "its row is missing")
		rebuilt.Told = rebuilt.Seq // its thread stands already
	case err != nil:
		return rowError(name, err)
	default:
		what, err := b.compare(row, rebuilt)
		if err != nil || what == "" {
			return err
		}
		b.differs(name, what+" differs")
		rebuilt.Version, rebuilt.Seen = row.Version, row.Seen
		if hashOf(row.Metadata) == rebuilt.Asked.Metadata {
			rebuilt.Metadata = row.Metadata
		}
	}
	if b.check {
		return nil
	}
	return rowError(name, b.tx.SaveRequest(&rebuilt))
}

// compare says in what a row differs, "" when it does not: in what it says, or in
// what it is found by.
func (b *rebuilder) compare(row, rebuilt Request) (string, error) {
	if what := rowDiffers(row, rebuilt); what != "" {
		return what, nil
	}
	found, err := b.tx.Requests(Filter{
		Apps: []string{rebuilt.App}, Environment: rebuilt.Environment, Statuses: []Status{rebuilt.Status},
		Revision: rebuilt.Facts.Revision, Branch: rebuilt.Facts.Branch, WorkflowID: rebuilt.Facts.WorkflowID,
		CreatedFrom: rebuilt.CreatedAt, CreatedTo: rebuilt.CreatedAt, Released: !rebuilt.ReleasedAt.IsZero(),
	})
	if err != nil {
		return "", rowError(requestName(rebuilt), err)
	}
	if !slices.ContainsFunc(found, func(r Request) bool { return r.ID == rebuilt.ID }) {
		return "what it is found by", nil
	}
	return "", nil
}

func keptName(kind, id string) string { return kind + " " + id }

// rebuildKept rebuilds a person or token. What was merely observed of them, which no
// event says, is taken from the row.
func rebuildKept[T state, P folded[T]](b *rebuilder, id string) error {
	var row T
	kind := row.kind()
	name := keptName(kind, id)
	events, err := EventsOf(b.tx, subjectOf(kind, id))
	if err != nil {
		return err
	}
	row, what, err := keptRow[T](b.tx, id)
	if err != nil {
		return err
	}
	rebuilt, err := foldKept[T, P](row, events)
	if err != nil {
		b.left(name, err.Error())
		return nil
	}
	if what == "" {
		what = fieldsOf(row, rebuilt)
		if what == "" {
			return nil
		}
		what += " differs"
	}
	b.differs(name, what)
	if b.check {
		return nil
	}
	return keep(b.tx, rebuilt)
}

// folded is a state that is made of events.
type folded[T state] interface {
	*T
	apply(Event) error
	observed() T
}

// foldKept makes a person or token of their whole history, with what was observed of
// them according to the row.
func foldKept[T state, P folded[T]](row T, history []Event) (T, error) {
	v := P(&row).observed()
	for _, e := range history {
		if err := P(&v).apply(e); err != nil {
			return v, err
		}
	}
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
	for id, p := range j.rights.people {
		row, _, err := keptRow[Person](tx, id)
		if err != nil {
			return nil, nil, err
		}
		p.Name = cmp.Or(row.Name, p.Name)
		if p.Standing, err = sealedValue[Standing](tx, secretStanding(id)); err != nil {
			return nil, nil, err
		}
		people = append(people, p)
	}
	for id, t := range j.rights.tokens {
		row, _, err := keptRow[Token](tx, id)
		if err != nil {
			return nil, nil, err
		}
		t.LastUsedAt = row.LastUsedAt
		tokens = append(tokens, t)
	}
	slices.SortFunc(people, func(a, b Person) int { return strings.Compare(a.SlackID, b.SlackID) })
	slices.SortFunc(tokens, func(a, b Token) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return people, tokens, nil
}

func (p *Person) observed() Person { return Person{Name: p.Name} }
func (t *Token) observed() Token   { return Token{LastUsedAt: t.LastUsedAt} }

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
