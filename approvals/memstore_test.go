package approvals_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
)

var errCrash = errors.New("the process died")

// memStore is an approvals.Store of snapshots: a transaction works on a copy,
// which takes the place of the current one when it commits.
type memStore struct {
	writer sync.Mutex
	mu     sync.Mutex
	now    *memState
	// crash says, if not nil, whether the process dies before or after a commit.
	crash func() (before, after bool)
}

type memState struct {
	requests map[string]approvals.Request
	people   map[string]approvals.Person
	auths    map[string]approvals.Authenticator
	broken   map[string]bool // authenticators whose seal does not open
	groups   map[string]approvals.Group
	tokens   map[string]approvals.Token
	vars     map[string]string
	outbox   map[int64]memRow
	holds    map[string]memHold
	lastRow  int64
	lastNo   int64
	log      ledgertest.Memory
	events   []approvals.Event
}

// memRow is an effect; claimed until lease when that is not zero.
type memRow struct {
	approvals.Effect
	lease time.Time
	nudge time.Time
}

// memHold keeps a lane from being claimed.
type memHold struct {
	until  time.Time
	reason string
}

func newMemStore() *memStore {
	return &memStore{now: &memState{requests: map[string]approvals.Request{}, people: map[string]approvals.Person{}, auths: map[string]approvals.Authenticator{}, broken: map[string]bool{}, groups: map[string]approvals.Group{}, tokens: map[string]approvals.Token{}, vars: map[string]string{}, outbox: map[int64]memRow{}, holds: map[string]memHold{}}}
}

func (s *memStore) snapshot() *memState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *memStore) View(ctx context.Context, fn func(approvals.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn(&memTx{memState: s.snapshot()})
}

func (s *memStore) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	next := *s.snapshot()
	next.requests, next.people, next.auths, next.broken = maps.Clone(next.requests), maps.Clone(next.people), maps.Clone(next.auths), maps.Clone(next.broken)
	next.groups, next.tokens, next.vars, next.outbox = maps.Clone(next.groups), maps.Clone(next.tokens), maps.Clone(next.vars), maps.Clone(next.outbox)
	next.holds = maps.Clone(next.holds)
	if err := fn(&memTx{memState: &next, writable: true}); err != nil {
		return err
	}
	var before, after bool
	if s.crash != nil {
		before, after = s.crash()
	}
	if before {
		return errCrash
	}
	s.mu.Lock()
	s.now = &next
	s.mu.Unlock()
	if after {
		return errCrash
	}
	return nil
}

// releaseLeases ends all claims, as a start after a crash does.
func (s *memStore) releaseLeases() {
	_ = s.Update(context.Background(), func(tx approvals.Tx) error {
		box := tx.(*memTx).outbox
		clear(tx.(*memTx).holds)
		for id, row := range box {
			row.lease = time.Time{}
			box[id] = row
		}
		return nil
	})
}

type memTx struct {
	*memState
	writable bool
}

func (t *memTx) write() {
	if !t.writable {
		panic("a View writes")
	}
}

func copied(r approvals.Request) approvals.Request {
	r.Decisions, r.Metadata = slices.Clone(r.Decisions), bytes.Clone(r.Metadata)
	return r
}

func get[T any](m map[string]T, key string) (T, error) {
	v, ok := m[key]
	if !ok {
		return v, approvals.ErrNotFound
	}
	return v, nil
}

func (t *memTx) Request(id string) (approvals.Request, error) {
	for _, r := range t.requests {
		if r.ID == id || strconv.FormatInt(r.Number, 10) == id {
			return copied(r), nil
		}
	}
	return approvals.Request{}, approvals.ErrNotFound
}

func (t *memTx) Requests(f approvals.Filter) ([]approvals.Request, error) {
	var out []approvals.Request
	is := func(want, got string) bool { return want == "" || want == got }
	for _, r := range t.requests {
		if (f.Apps == nil || slices.Contains(f.Apps, r.App)) && is(f.Environment, r.Environment) && (len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status)) &&
			strings.HasPrefix(r.Facts.Revision, f.Revision) && is(f.Branch, r.Facts.Branch) && is(f.WorkflowID, r.Facts.WorkflowID) && is(f.PipelineID, r.Facts.PipelineID) &&
			is(f.Project, r.Project) && (f.Before == 0 || r.Number < f.Before) && !r.CreatedAt.Before(f.CreatedFrom) && (f.CreatedTo.IsZero() || !r.CreatedAt.After(f.CreatedTo)) {
			out = append(out, copied(r))
		}
	}
	slices.SortFunc(out, func(a, b approvals.Request) int { return cmp.Compare(b.Number, a.Number) })
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out, nil
}

func yields(s approvals.Status) bool {
	return s == approvals.Expired || s == approvals.Canceled || s == approvals.Superseded
}

func (t *memTx) SaveRequest(r *approvals.Request) error {
	t.write()
	had, exists := t.requests[r.ID]
	if exists != (r.Version != 0) || had.Version != r.Version {
		return approvals.ErrConflict
	}
	for _, o := range t.requests {
		if o.ID != r.ID && o.App == r.App && o.Environment == r.Environment && o.Facts.WorkflowID == r.Facts.WorkflowID && !yields(o.Status) && !yields(r.Status) {
			return approvals.ErrConflict
		}
	}
	if !exists {
		t.lastNo++
		r.Number = t.lastNo
	}
	r.Version++
	t.requests[r.ID] = copied(*r)
	return nil
}

func (t *memTx) Person(id string) (approvals.Person, error) {
	p, err := get(t.people, id)
	_, p.Enrolled = t.auths[id]
	return p, err
}

func (t *memTx) People() (out []approvals.Person, _ error) {
	for _, id := range slices.Sorted(maps.Keys(t.people)) {
		p, _ := t.Person(id)
		out = append(out, p)
	}
	return out, nil
}

func (t *memTx) SavePerson(p approvals.Person) error { t.write(); t.people[p.SlackID] = p; return nil }

func (t *memTx) Authenticator(id string) (approvals.Authenticator, error) {
	if t.broken[id] {
		return approvals.Authenticator{}, approvals.ErrSeal
	}
	return get(t.auths, id)
}

func (t *memTx) SaveAuthenticator(id string, a *approvals.Authenticator) error {
	t.write()
	delete(t.auths, id)
	if a != nil {
		t.auths[id] = *a
	}
	return nil
}

func (t *memTx) Group(id string) (approvals.Group, error) { return get(t.groups, id) }
func (t *memTx) SaveGroup(g approvals.Group) error        { t.write(); t.groups[g.ID] = g; return nil }
func (t *memTx) Token(id string) (approvals.Token, error) { return get(t.tokens, id) }
func (t *memTx) SaveToken(k approvals.Token) error        { t.write(); t.tokens[k.ID] = k; return nil }

func (t *memTx) Tokens() ([]approvals.Token, error) {
	return slices.SortedFunc(maps.Values(t.tokens), func(a, b approvals.Token) int { return a.CreatedAt.Compare(b.CreatedAt) }), nil
}

func (t *memTx) Var(name string) (string, error)    { return t.vars[name], nil }
func (t *memTx) SetVar(name, value string) error    { t.write(); t.vars[name] = value; return nil }
func (t *memTx) Secret(name string) (string, error) { return t.vars["secret/"+name], nil }
func (t *memTx) SetSecret(name, value string) error { return t.SetVar("secret/"+name, value) }

func (t *memTx) Ledger() ledger.Storage { return &t.log }

func (t *memTx) Index(seq int64, e approvals.Event) error {
	t.write()
	if seq != int64(len(t.events)) || e.Seq != seq {
		return fmt.Errorf("index of leaf %d at %d", e.Seq, len(t.events))
	}
	t.events = append(t.events, e)
	return nil
}

func (t *memTx) Event(seq int64) (approvals.Event, error) {
	if seq < 0 || seq >= int64(len(t.events)) {
		return approvals.Event{}, approvals.ErrNotFound
	}
	return t.events[seq], nil
}

func (t *memTx) EventsOf(request string) (out []approvals.Event, _ error) {
	for _, e := range t.events {
		if e.Request == request {
			out = append(out, e)
		}
	}
	return out, nil
}

func (t *memTx) Leaves(from int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i := from; i < int64(len(t.events)) && yield(t.log.Leaf(i), nil); i++ {
		}
	}
}

func wall() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (t *memTx) Enqueue(e approvals.Effect) error {
	t.write()
	if family, name, ok := strings.Cut(e.Lane, ":"); !ok || family == "" || name == "" {
		return fmt.Errorf("malformed lane %q", e.Lane)
	}
	if e.Due.IsZero() {
		e.Due = wall()
	}
	for id, row := range t.outbox {
		if e.Dedupe == "" || row.Dedupe != e.Dedupe {
			continue
		}
		row.Seq, row.Payload = e.Seq, e.Payload
		if row.lease.IsZero() {
			row.Due = sooner(row.Due, e.Due)
		} else {
			row.nudge = sooner(row.nudge, e.Due)
		}
		t.outbox[id] = row
		return nil
	}
	t.lastRow++
	e.ID, e.Attempt, e.Since = t.lastRow, 0, wall()
	t.outbox[e.ID] = memRow{Effect: e}
	return nil
}

// wakes is when each lane of the family can be claimed from next: at the end of
// its lease, else when the first row that is not behind its chain is due.
func (t *memTx) wakes(family string) map[string]time.Time {
	leased, due := map[string]time.Time{}, map[string]time.Time{}
	for _, row := range t.outbox {
		switch {
		case !strings.HasPrefix(row.Lane, family+":"):
		case !row.lease.IsZero():
			leased[row.Lane] = row.lease
		case !t.behind(row):
			due[row.Lane] = sooner(due[row.Lane], row.Due)
		}
	}
	for lane, at := range due {
		if until := t.holds[lane].until; until.After(at) {
			due[lane] = until
		}
	}
	maps.Copy(due, leased)
	return due
}

func (t *memTx) behind(row memRow) bool {
	for _, o := range t.outbox {
		if row.Chain != "" && o.Chain == row.Chain && o.Lane == row.Lane && o.ID < row.ID {
			return true
		}
	}
	return false
}

func (t *memTx) Claim(family string, now time.Time, lease time.Duration) (approvals.Effect, error) {
	t.write()
	lane, first := "", time.Time{}
	for l, at := range t.wakes(family) {
		if !at.After(now) && (lane == "" || at.Before(first) || at.Equal(first) && l < lane) {
			lane, first = l, at
		}
	}
	if lane == "" {
		return approvals.Effect{}, approvals.ErrNotFound
	}
	var best *memRow
	for _, row := range t.outbox {
		ready := !row.lease.IsZero() || !row.Due.After(now)
		if row.Lane != lane || !ready || t.behind(row) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(row.Priority, best.Priority), row.Due.Compare(best.Due), cmp.Compare(row.ID, best.ID)) < 0 {
			best = &row
		}
	}
	for id, row := range t.outbox { // an old claim of the lane has run out
		if row.Lane == lane {
			row.lease = time.Time{}
			t.outbox[id] = row
		}
	}
	best.Attempt++
	best.lease, best.nudge = now.Add(lease), time.Time{}
	t.outbox[best.ID] = *best
	return best.Effect, nil
}

func (t *memTx) Holds(e approvals.Effect) error {
	if row := t.outbox[e.ID]; row.lease.IsZero() || row.Attempt != e.Attempt {
		return approvals.ErrLostLease
	}
	return nil
}

func (t *memTx) Finish(e approvals.Effect, due time.Time, _ string) error {
	t.write()
	if err := t.Holds(e); err != nil {
		return err
	}
	row := t.outbox[e.ID]
	if !row.nudge.IsZero() {
		due = sooner(due, row.nudge)
	}
	if due.IsZero() {
		delete(t.outbox, e.ID)
		return nil
	}
	row.Due, row.lease, row.nudge = due, time.Time{}, time.Time{}
	t.outbox[e.ID] = row
	return nil
}

func (t *memTx) Hold(e approvals.Effect, until time.Time, reason string) error {
	t.write()
	if err := t.Holds(e); err != nil {
		return err
	}
	row := t.outbox[e.ID]
	row.lease, row.nudge = time.Time{}, time.Time{}
	t.outbox[e.ID] = row
	t.holds[e.Lane] = memHold{until, reason}
	return nil
}

func (t *memTx) Held(lane string, now time.Time) (string, error) {
	if h := t.holds[lane]; h.until.After(now) {
		return h.reason, nil
	}
	return "", nil
}

func (t *memTx) NextDue(families ...string) ([]time.Time, error) {
	due := make([]time.Time, len(families))
	for i, f := range families {
		for _, w := range t.wakes(f) {
			due[i] = sooner(due[i], w)
		}
	}
	return due, nil
}
