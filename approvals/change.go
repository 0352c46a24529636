package approvals

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
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
	asked   []string // families of lanes for which work was made due
}

// head is what a transaction commits the log to. It is sealed with the key ring,
// so that nobody without the keys can continue, cut or rewrite the log unseen.
type head struct {
	Turn int64  `json:"turn"` // counts the commits that sealed a head
	Size int64  `json:"size"` // leaves
	Root string `json:"root"` // base64
	// Factors names the version of every authenticator: an older one that is put
	// back does not open.
	Factors map[string]int64 `json:"factors,omitempty"`
}

// secretHead names the sealed head.
const secretHead = "log_head"

func readHead(tx Tx) (h head, err error) {
	text, err := tx.Secret(secretHead)
	if errors.Is(err, ErrSeal) {
		return h, tampered("its sealed head does not open")
	}
	if err != nil || text == "" {
		return h, err
	}
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return h, fmt.Errorf("read the head of the log: %w", err)
	}
	return h, nil
}

// tampering says that the database is not what this program left there.
type tampering struct{ why string }

func tampered(format string, args ...any) error {
	return &tampering{fmt.Sprintf(format, args...)}
}

func (t *tampering) Error() string { return tamperedPrefix + t.why }

const tamperedPrefix = "the log was changed by somebody without the keys: "

// tamperedBefore says again what was found wrong before.
func tamperedBefore(fault string) error {
	return &tampering{strings.TrimPrefix(fault, tamperedPrefix)}
}

// unreadableLog is why the log could not be read: it was changed, unless the
// store could not be used at that moment or the caller went away, which say
// nothing of the log.
func unreadableLog(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Code == CodeUnavailable || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return tampered("%v", err)
}

// Unwrap makes the edge answer that the service is not available.
func (t *tampering) Unwrap() error {
	e := refuse(CodeUnavailable, "the log of this gateway was changed from outside; the operator has to look at it")
	e.RetryAfter = time.Minute
	return e
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
	if err != nil {
		return j.notice(ctx, err)
	}
	j.committed(c)
	return nil
}

// begin reads the head of the log and compares it with what was sealed.
func (c *Change) begin() error {
	if c.writer != nil {
		return nil
	}
	if err := c.compareHead(); err != nil {
		return err
	}
	if c.head.Turn > 0 {
		return nil
	}
	return ensureSigner(c.Tx)
}

// compareHead refuses a log that is not the one that was sealed last.
func (c *Change) compareHead() error {
	h, err := readHead(c.Tx)
	if err != nil {
		return err
	}
	w, err := ledger.NewWriter(c.Ledger())
	if err != nil {
		return unreadableLog(err)
	}
	size, root := w.Head()
	switch {
	case h.Turn == 0 && size == 0:
	case h.Turn == 0:
		return tampered("it has %d leaves, but no sealed head", size)
	case h.Size != size || h.Root != root.String():
		return tampered("its %d leaves are not the %d leaves that were sealed", size, h.Size)
	}
	if c.journal != nil {
		if err := c.journal.compare(h); err != nil {
			return err
		}
	}
	c.writer, c.head = w, h
	return nil
}

// seal commits the transaction to what it appended.
func (c *Change) seal() error {
	if !c.grown {
		return nil
	}
	size, root := c.writer.Head()
	c.head.Turn++
	c.head.Size, c.head.Root = size, root.String()
	text, err := json.Marshal(c.head)
	if err != nil {
		return err
	}
	return c.SetSecret(secretHead, string(text))
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

// happen records events of a request, applies them, stores the row, and has card
// and thread brought up to date.
func (c *Change) happen(r *Request, events ...Event) error {
	rank, tell := 0, false
	for _, e := range events {
		e, err := c.record(e)
		if err != nil {
			return err
		}
		if err := r.apply(e); err != nil {
			return err
		}
		if n, told := e.told(); told {
			if !tell || n < rank {
				rank = n
			}
			tell = true
		}
		if err := c.announce(*r, e); err != nil {
			return err
		}
	}
	if err := c.store(r); err != nil {
		return err
	}
	work := []Work{cardWork(*r)}
	if tell && r.Slack.TS != "" {
		work = append(work, threadWork(*r, rank)) // the post of a card asks for it otherwise
	}
	return c.ask(work...)
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

// change records an event of a person and applies it to their row.
func (c *Change) change(p *Person, e Event) (Event, error) {
	e, err := c.record(e)
	if err != nil {
		return e, err
	}
	if err := p.apply(e); err != nil {
		return e, err
	}
	if err := keep(c.Tx, keptPerson, p.SlackID, p); err != nil {
		return e, err
	}
	switch e.Type {
	case EventPersonAdded, EventPersonChanged, EventPersonRemoved, EventEnrolled, EventReset:
		return e, c.judgeAgain()
	}
	return e, nil
}

// recognise remembers the user id of the person on record under whose login a
// workflow was started, so that they are known when the login changes.
func (c *Change) recognise(f Facts) error {
	if f.StartedBy == "" || f.StartedByID == "" {
		return nil
	}
	all, err := allKept[Person](c.Tx, keptPerson)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.CircleID != "" || !p.RemovedAt.IsZero() || !strings.EqualFold(p.VCSLogin, f.StartedBy) {
			continue
		}
		e := Event{Type: EventPersonChanged, Actor: Actor{Kind: ActorCI}, Source: "circleci", Data: Data{"user": p.SlackID, "circleci_id": f.StartedByID}}
		if _, err := c.change(&p, e); err != nil {
			return err
		}
	}
	return nil
}

// judgeAgain has the votes of pending requests judged anew, because something
// that they rest on changed.
func (c *Change) judgeAgain() error {
	pending, err := c.Requests(Filter{Statuses: []Status{Pending}})
	if err != nil {
		return err
	}
	for _, r := range pending {
		if len(r.Decisions) == 0 {
			continue
		}
		if err := c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankUrgent), cardWork(r)); err != nil {
			return err
		}
	}
	return nil
}

// grant records an event of a token and applies it to its row.
func (c *Change) grant(t *Token, e Event) error {
	e, err := c.record(e)
	if err != nil {
		return err
	}
	if err := t.apply(e); err != nil {
		return err
	}
	return keep(c.Tx, keptToken, t.ID, t)
}

// factor is an authenticator as it is sealed.
type factor struct {
	Secret     string        `json:"secret"` // base32
	Version    int64         `json:"version"`
	EnrolledAt time.Time     `json:"enrolled_at"`
	EnrolledBy string        `json:"enrolled_by"`
	FirstUsed  time.Time     `json:"first_used"`
	LastStep   int64         `json:"last_step"`
	Throttle   totp.Throttle `json:"throttle"`
}

func secretFactor(slackID string) string { return "authenticator/" + slackID }

// authenticator opens a person's second factor; [ErrNotFound] when they have
// none, [ErrSeal] when it was altered or is an older one that was put back.
func authenticator(tx Tx, slackID string) (Authenticator, error) {
	h, err := readHead(tx)
	if err != nil {
		return Authenticator{}, err
	}
	return openFactor(tx, h, slackID)
}

func openFactor(tx Tx, h head, slackID string) (a Authenticator, err error) {
	text, err := tx.Secret(secretFactor(slackID))
	if err != nil {
		return a, fmt.Errorf("authenticator of %s: %w", slackID, err)
	}
	version := h.Factors[slackID]
	if text == "" && version == 0 {
		return a, ErrNotFound
	}
	var f factor
	if text == "" || json.Unmarshal([]byte(text), &f) != nil || f.Version != version {
		return a, fmt.Errorf("authenticator of %s: %w", slackID, ErrSeal)
	}
	secret, err := totp.ParseSecret(f.Secret)
	if err != nil {
		return a, fmt.Errorf("authenticator of %s: %w: %w", slackID, ErrSeal, err)
	}
	return Authenticator{
		Secret: secret, Version: f.Version, EnrolledAt: f.EnrolledAt, EnrolledBy: f.EnrolledBy,
		FirstUsed: f.FirstUsed, LastStep: f.LastStep, Throttle: f.Throttle,
	}, nil
}

// authenticator opens a person's second factor in the state of this transaction.
func (c *Change) authenticator(slackID string) (Authenticator, error) {
	if err := c.begin(); err != nil {
		return Authenticator{}, err
	}
	return openFactor(c.Tx, c.head, slackID)
}

// saveAuthenticator seals a second factor; nil removes it. Its version never
// comes back, so that what was used once stays used.
func (c *Change) saveAuthenticator(slackID string, a *Authenticator) error {
	if err := c.begin(); err != nil {
		return err
	}
	factors := map[string]int64{}
	for id, v := range c.head.Factors {
		factors[id] = v
	}
	c.head.Factors, c.grown = factors, true
	if a == nil {
		delete(factors, slackID)
		return c.SetSecret(secretFactor(slackID), "")
	}
	a.Version = c.head.Turn + 1
	factors[slackID] = a.Version
	text, err := json.Marshal(factor{
		Secret: a.Secret.Base32(), Version: a.Version, EnrolledAt: a.EnrolledAt, EnrolledBy: a.EnrolledBy,
		FirstUsed: a.FirstUsed, LastStep: a.LastStep, Throttle: a.Throttle,
	})
	if err != nil {
		return err
	}
	return c.SetSecret(secretFactor(slackID), string(text))
}

// standing and members are what Slack said last. They are sealed, because rights
// rest on them, and count for a limited time, so that putting older ones back
// gains nothing.
func secretStanding(slackID string) string { return "standing/" + slackID }
func secretGroup(id string) string         { return "group/" + id }

func sealedValue[T any](tx Tx, name string) (v T, err error) {
	text, err := tx.Secret(name)
	if err != nil || text == "" {
		return v, err
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

func sealValue(tx Tx, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetSecret(name, string(text))
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

func isTampering(err error) bool {
	var t *tampering
	return errors.As(err, &t)
}

// secretChannel names where operators' notices go.
const secretChannel = "channel"

// EventsOf reads the history of a request, oldest first.
func EventsOf(tx Tx, request string) ([]Event, error) {
	lines, err := tx.History(request, -1)
	if err != nil {
		return nil, err
	}
	return parseEvents(lines)
}
