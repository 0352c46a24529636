package approvals

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// Change is one writing transaction of the core: the verbs of the store, and the
// log. Whatever is appended is committed together with the state that it leads
// to, the work that it makes due, and the sealed head of the log.
type Change struct {
	Tx
	journal *journal       // what this process knows of the log; nil in an operator's command
	writer  *ledger.Writer // nil until the log is needed
	head    head
	grown   bool
	woken   []string // requests that changed
	genuine []string // requests whose rows say what the log says
	asked   []string // families of lanes for which work was made due
}

// commit runs fn in a writing transaction. j is nil for an operator's command,
// which has no memory of the log.
func commit(ctx context.Context, store Store, j *journal, fn func(*Change) error) error {
	var c *Change
	err := store.Update(ctx, func(tx Tx) error {
		c = &Change{Tx: tx, journal: j}
		if err := fn(c); err != nil {
			return err
		}
		return c.seal()
	})
	if j == nil {
		return err
	}
	if err == nil && c.grown {
		j.mu.Lock()
		j.passed(c.head)
		j.mu.Unlock()
	}
	return j.notice(ctx, err)
}

// record appends an event to the log and makes it findable. It fills Version,
// Seq, Prev and Time.
func (c *Change) record(e Event) (Event, error) {
	if err := c.begin(); err != nil {
		return Event{}, err
	}
	e.Version = 1
	e.Time = c.Now().Format(timeFormat)
	if len(e.Data) == 0 {
		e.Data = nil
	}
	seq, err := c.writer.Append(func(seq int64, prev tlog.Hash) ([]byte, error) {
		e.Seq = seq
		e.Prev = base64.StdEncoding.EncodeToString(prev[:])
		line, err := e.line()
		if len(line) > ledger.MaxLeaf {
			return nil, errTooLong
		}
		return line, err
	})
	if err != nil {
		return Event{}, fmt.Errorf("append %s to the log: %w", e.Type, err)
	}
	c.grown = true
	if e.Type == EventTokenCreated && c.head.Tokens != nil {
		*c.head.Tokens++
	}
	if subject := e.subject(); subject != "" {
		if err := c.Index(seq, subject); err != nil {
			return Event{}, fmt.Errorf("index %s in the log: %w", e.Type, err)
		}
	}
	return e, nil
}

// errTooLong says that an event does not fit into a leaf. Strings from outside
// are bounded where they come in, so that only a request can meet it.
var errTooLong = errors.New("the event is longer than a leaf of the log may be")

// ask makes work due.
func (c *Change) ask(work ...Work) error {
	for _, w := range work {
		if err := c.Ask(w); err != nil {
			return fmt.Errorf("ask for %s: %w", w.Kind, err)
		}
		if family := (Lane{Name: w.Lane}).Family(); !slices.Contains(c.asked, family) {
			c.asked = append(c.asked, family)
		}
	}
	return nil
}

// rest tells all nodes for how long calls are not to be made.
func (c *Change) rest(family string, rests Rests) error {
	for calls, until := range rests {
		if d := min(time.Until(until), longestRest); d > 0 {
			if err := c.ask(restWork(family, calls, c.Now().Add(d))); err != nil {
				return err
			}
		}
	}
	return nil
}

// happen records events of a request, applies them, stores the row, and has card
// and thread brought up to date.
func (c *Change) happen(r *Request, events ...Event) error {
	if events[0].Type != EventRequested {
		if err := c.mustBeGenuine(*r); err != nil {
			return err
		}
	}
	const none = RankRemark + 1
	rank := none // of what the thread tells
	for _, e := range events {
		e, err := c.record(e)
		if err != nil {
			return err
		}
		if err := r.Apply(e); err != nil {
			return err
		}
		if n, told := e.told(); told {
			rank = min(rank, n)
		}
		if err := c.announce(*r, e); err != nil {
			return err
		}
		if err := c.showRetries(*r, e.Type); err != nil {
			return err
		}
	}
	if err := c.store(r); err != nil {
		return err
	}
	c.genuine = append(c.genuine, r.ID)
	work := []Work{cardWork(*r)}
	if rank < none && r.Slack.TS != "" {
		work = append(work, threadWork(*r, rank)) // the post of a card asks for it otherwise
	}
	return c.ask(work...)
}

// showRetries renders the cards anew that may offer to retry a request, when another
// one may have begun or ceased to forbid that; see retaken.
func (c *Change) showRetries(by Request, e EventType) error {
	f := Filter{Apps: []string{by.App}, Environment: by.Environment, Statuses: []Status{Undeliverable, Expired}, Limit: 20}
	switch to := becomes[e]; {
	case to == Released: // for all of the place
	case e == EventRequested, to.yields():
		f.WorkflowID = by.Facts.WorkflowID
	default:
		return nil
	}
	others, err := c.Requests(f)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.ID != by.ID && o.CanRetry(c.Now()) {
			if err := c.ask(cardWork(o)); err != nil {
				return err
			}
		}
	}
	return nil
}

// store keeps the row of a request and wakes who waits for it.
func (c *Change) store(r *Request) error {
	if err := c.SaveRequest(r); err != nil {
		return err
	}
	c.woken = append(c.woken, r.ID)
	return nil
}

// announce tells events of a request that must be heard outside its thread.
func (c *Change) announce(r Request, e Event) error {
	switch e.Type {
	case EventGateBypassed, EventBreakGlass:
		return c.ask(noticeWork(e, r.Channel))
	case EventCodeLocked:
		return c.ask(noticeWork(e, r.Channel), noticeWork(e, e.Actor.ID))
	}
	return nil
}

// change records an event of a person, who is [recorded], applies it, keeps the row,
// and has done what follows from it.
func (c *Change) change(p *Person, e Event) error {
	e, err := recordKept(c, p, e)
	if err != nil {
		return err
	}
	switch e.Type {
	case EventPersonAdded, EventPersonChanged, EventPersonRemoved, EventEnrolled, EventReset:
		if err := c.judgeAgain(); err != nil {
			return err
		}
	}
	switch e.Type {
	case EventEnrolled, EventUnlocked, EventReset:
		return c.tellOperators(e, p.SlackID)
	}
	return nil
}

// warn records an event that the operators have to hear of.
func (c *Change) warn(e Event) error {
	e, err := c.record(e)
	if err != nil {
		return err
	}
	return c.tellOperators(e)
}

// tellOperators tells an event in the operators' channel, and to the people that are
// named.
func (c *Change) tellOperators(e Event, people ...string) error {
	channel, err := whole(c.Secret(secretChannel))
	if err != nil {
		return err
	}
	for _, to := range append([]string{channel}, people...) {
		if to == "" {
			continue // no serve has begun, or the next one stores the channel again
		}
		if err := c.ask(noticeWork(e, to)); err != nil {
			return err
		}
	}
	return nil
}

// recognise remembers the user id of the person on record under whose login a
// workflow was started, so that they are known when the login changes.
func (c *Change) recognise(f Facts) error {
	if f.StartedBy == "" || f.StartedByID == "" {
		return nil
	}
	all, err := allKept[Person](c.Tx)
	if err != nil {
		return err
	}
	isNew := func(p Person) bool {
		return p.CircleID == "" && p.RemovedAt.IsZero() && strings.EqualFold(p.VCSLogin, f.StartedBy)
	}
	for _, row := range only(all, isNew) {
		p, err := recorded[Person](c.Tx, row.SlackID)
		if errors.Is(err, ErrNotFound) || err == nil && !isNew(p) {
			continue // the row says something else than the log; [Rebuild] names it
		}
		if err != nil {
			return err
		}
		e := Event{Type: EventPersonChanged, Actor: Actor{Kind: ActorCI}, Source: "circleci", Data: Data{"user": p.SlackID, "circleci_id": f.StartedByID}}
		if err := c.change(&p, e); err != nil {
			return err
		}
	}
	return nil
}

// judgeAgain has the votes judged anew that were not carried out yet, because
// something that they rest on changed.
func (c *Change) judgeAgain() error {
	return c.lookAgain(Filter{Statuses: OpenStatuses(), Voted: true}, true)
}

// lookAgain has the workflows of requests looked at now, and with cards their cards
// rendered anew.
func (c *Change) lookAgain(of Filter, cards bool) error {
	found, err := c.Requests(of)
	if err != nil {
		return err
	}
	for _, r := range found {
		work := []Work{followWork(r.Facts.WorkflowID, c.Now(), rankUrgent)}
		if cards {
			work = append(work, cardWork(r))
		}
		if err := c.ask(work...); err != nil {
			return err
		}
	}
	return nil
}

// recordKept records an event of a person or token, which is [recorded], applies it, and
// keeps the row.
func recordKept[T state, P folded[T]](c *Change, v P, e Event) (Event, error) {
	e, err := c.record(e)
	if err == nil {
		err = v.apply(e)
	}
	if err == nil {
		err = keep(c.Tx, *v)
	}
	return e, err
}

// mustBeGenuine refuses a row that says something else than the log. An event of it
// would contradict those that the log has, so that nobody could read the log to its end
// any more.
func (c *Change) mustBeGenuine(row Request) error {
	if slices.Contains(c.genuine, row.ID) {
		return nil
	}
	lines, err := historyOf(c.Tx, row.ID, -1)
	if err != nil {
		return err
	}
	rebuilt, events, err := foldLines(lines)
	switch {
	case err != nil:
		return refuse(CodeConflict, "the log contradicts itself, so that nothing more is recorded of %s: %v; see rack-gatewayd rebuild --check", requestName(row), err)
	case rebuilt.ID == "":
		return refuse(CodeConflict, "%s is not in the log: the row was put into the database from outside; see rack-gatewayd rebuild --check", requestName(row))
	}
	if what := rowDiffers(row, rebuilt); what != "" {
		return tamperedRow(row, what)
	}
	if c.journal != nil && !c.journal.agrees(row, lines, events) {
		return tampered("the history of request #%d is not the one that was recorded", row.Number)
	}
	return nil
}

// foldLines makes a request of the leaves of its history.
func foldLines(lines [][]byte) (Request, []Event, error) {
	events, err := parseEvents(lines)
	if err != nil {
		return Request{}, nil, err
	}
	r, err := foldRequest(events)
	return r, events, err
}

// EventsOf reads the history of a request, oldest first.
func EventsOf(tx Tx, request string) ([]Event, error) {
	lines, err := historyOf(tx, request, -1)
	if err != nil {
		return nil, err
	}
	return parseEvents(lines)
}

// provenEvents are those of a subject, each of which is in the log that was sealed. Only
// reading the whole log would show that somebody hid one.
func provenEvents(tx Tx, subject string) ([]Event, error) {
	lines, err := historyOf(tx, subject, -1)
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	events, err := parseEvents(lines)
	if err != nil {
		return nil, err
	}
	h, err := readHead(tx)
	if err != nil {
		return nil, err
	}
	root, err := tlog.ParseHash(h.Root)
	for i := 0; i < len(events) && err == nil; i++ {
		var path tlog.RecordProof
		if path, err = tlog.ProveRecord(h.Size, events[i].Seq, tx.Ledger()); err == nil {
			err = tlog.CheckRecord(path, h.Size, root, events[i].Seq, tlog.RecordHash(lines[i]))
		}
	}
	if err != nil {
		return nil, unreadableLog(fmt.Errorf("an event of %s is not in the log that was sealed: %w", subject, err))
	}
	return events, nil
}

// historyOf is [Tx.History], which trusts an index. Only somebody without the keys can
// have put another subject's leaf there.
func historyOf(tx Tx, subject string, after int64) ([][]byte, error) {
	lines, err := tx.History(subject, after)
	for _, line := range lines {
		if _, request := peek(line); request == subject {
			continue
		}
		e, err := ParseEvent(line)
		if err != nil {
			return nil, err
		}
		if e.subject() != subject {
			return nil, tampered("the index lists event %d in the history of %s, which it is not about", e.Seq, subject)
		}
	}
	return lines, err
}
