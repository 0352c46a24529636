package approvals

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// journal is what one process knows of the log for itself. It has read every
// leaf, and remembers of those requests whose gate may still be opened, or whose
// deploy may still ask, a digest of their whole history. What the database says
// later has to continue that: a history that lacks an event, or has another one,
// is found out before a right is given.
type journal struct {
	store  Store
	signer *ledger.Signer
	log    *slog.Logger
	// offline: this is an operator's command, which knows of the log what was
	// sealed, and no more.
	offline bool

	// steady is held for reading while a proof is used, so that what it adds to is
	// not taken in meanwhile, and taken before mu.
	steady sync.RWMutex

	mu        sync.Mutex
	newest    head           // the newest head that this process committed or read; see passed
	reader    *ledger.Reader // what was read leaf by leaf
	histories map[string]history
	rights    rights
	swept     time.Time     // the time for which histories were forgotten last
	whole     bool          // the log was read to its end once
	fault     string        // what was found wrong, here or by another process; it never goes away by itself
	told      bool          // the database has it, so that all processes know
	channel   string        // is told of it; "" = the one that the database names
	grown     chan struct{} // closed when newest changes

	behind chan struct{} // there is something that is not taken in yet; see hasMore
	// changed is told of every request that an event was taken in of, if not nil. It
	// holds no other lock.
	changed func(request string)
}

// history is what is remembered of one request.
type history struct {
	digest
	approved bool
	until    time.Time // when it can be forgotten; zero = while it is open
}

// digest is that of one subject's leaves.
type digest struct {
	sum   [sha256.Size]byte // chained over the hashes of the leaves
	count int
}

func (d *digest) add(leaf tlog.Hash) {
	d.sum = sha256.Sum256(append(d.sum[:], leaf[:]...))
	d.count++
}

func newJournal(store Store, signer *ledger.Signer, log *slog.Logger) *journal {
	return &journal{
		store: store, signer: signer, log: log, reader: &ledger.Reader{}, grown: make(chan struct{}), behind: make(chan struct{}, 1),
		histories: map[string]history{}, rights: rights{map[string]Person{}, map[string]Token{}, map[place]string{}},
	}
}

// secretFault names what was found wrong with the log, so that a restart does
// not forgive it.
const secretFault = "log_fault"

// hold says why nothing may be approved or signed, "" when nothing forbids it.
func (j *journal) hold() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.fault != "":
		return j.fault
	case !j.whole && !j.offline:
		return "the log is being verified after the start; that takes some seconds"
	}
	return ""
}

// know takes in what was found wrong with the log, if anything was. told: the database has
// it. The caller holds mu.
func (j *journal) know(fault string, told bool) {
	if fault == "" {
		return
	}
	j.told = j.told || told
	if j.fault == "" {
		j.fault = fault
		j.log.Error("nothing is approved or signed any more", "err", fault)
	}
}

// tell stores what this process found wrong, so that the other processes and the next
// start know it, and has the channel alarmed. If another process has stored a fault
// already, it does neither.
func (j *journal) tell(ctx context.Context) {
	j.mu.Lock()
	fault, told, channel := j.fault, j.told, j.channel
	j.mu.Unlock()
	if fault == "" || told {
		return
	}
	err := j.store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		if had, err := readFault(tx); err != nil || had != "" {
			return err
		}
		if err := tx.SetSecret(secretFault, fault); err != nil {
			return err
		}
		had, err := whole(tx.Secret(secretChannel))
		channel = cmp.Or(channel, had)
		if err != nil || channel == "" {
			return err
		}
		return tx.Ask(Work{Kind: WorkAlarm, Subject: channel, Lane: SlackLane(channel, "")})
	})
	if err != nil {
		j.log.Error("remember what was found wrong with the log; that is tried again", "err", err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = true
}

// readFault reads what some process found wrong with the log, "" when none did.
func readFault(tx Tx) (string, error) {
	fault, err := tx.Secret(secretFault)
	if errors.Is(err, ErrSeal) {
		return tamperedPrefix + "what was found wrong with it before does not open", nil
	}
	return fault, err
}

// hear takes in what some process found wrong by now, which holds here, too.
func (j *journal) hear(tx Tx) error {
	fault, err := readFault(tx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.know(fault, true)
	return err
}

// notice returns err. If it says that the log was tampered with, that is remembered, and the
// channel alarmed. It holds until the operator accepts the database as it is (recover).
func (j *journal) notice(ctx context.Context, err error) error {
	if t, ok := errors.AsType[*tampering](err); ok {
		j.mu.Lock()
		j.know(t.Error(), false)
		j.mu.Unlock()
		j.tell(ctx)
	}
	return err
}

// compare refuses a head that is older than one that this process has seen.
func (j *journal) compare(h head) error {
	j.mu.Lock()
	newest := j.newest
	j.mu.Unlock()
	return h.continues(newest)
}

// continues refuses a head that does not come after another one.
func (h head) continues(newest head) error {
	if h.Turn < newest.Turn || h.Size < newest.Size || h.Size == newest.Size && newest.Turn > 0 && h.Root != newest.Root {
		return tampered("it was put back from commit %d to an older state, commit %d", newest.Turn, h.Turn)
	}
	return nil
}

// headOf reads the head of a transaction, which must come after what was known
// before the transaction read anything.
func (j *journal) headOf(tx Tx, newest head) (head, error) {
	h, err := readHead(tx)
	if err != nil {
		return h, err
	}
	return h, h.continues(newest)
}

// passed takes in a head, and tells who waits for it. The caller holds mu.
func (j *journal) passed(h head) {
	if h.Turn > j.newest.Turn {
		j.newest = h
		close(j.grown)
		j.grown = make(chan struct{})
	}
}

// shortLog is how many leaves are read before the start goes on; more are read
// beside the service.
const shortLog = 10_000

// open takes in what was found wrong with the log before, and reads a short log. What is
// found wrong from then on is told in channel.
func (j *journal) open(ctx context.Context, channel string) error {
	j.mu.Lock()
	j.channel = channel
	j.mu.Unlock()
	size, err := query(ctx, j.store, func(tx Tx) (int64, error) {
		if err := j.hear(tx); err != nil {
			return 0, err
		}
		return tx.Ledger().Size()
	})
	if err != nil || size > shortLog {
		return j.notice(ctx, err)
	}
	return j.keepUp(ctx)
}

// pageOfLeaves is how many leaves are read in one transaction. Whoever needs the
// journal meanwhile waits for some milliseconds.
const pageOfLeaves = 250

// advance takes in at most n leaves of a snapshot, which must be one of committed
// state. done: the journal stands at its end. The caller holds mu.
func (j *journal) advance(tx Tx, n int) (done bool, err error) {
	h, err := j.headOf(tx, j.newest)
	if err != nil {
		return false, err
	}
	fault, err := readFault(tx)
	if err != nil {
		return false, err
	}
	j.know(fault, true)
	var last []byte
	for line, err := range tx.Leaves(j.reader.Size()) {
		if err != nil {
			return false, unreadableLog(err)
		}
		if j.reader.Size() == h.Size {
			return false, tampered("it has more than the %d leaves that were sealed", h.Size)
		}
		if err := j.reader.Next(line); err != nil {
			return false, tampered("%v", err)
		}
		if err := j.take(line, j.reader.Last()); err != nil {
			return false, err
		}
		last = line
		if n--; n == 0 {
			break
		}
	}
	if err := j.sweep(last); err != nil {
		return false, err
	}
	if n == 0 && j.reader.Size() < h.Size {
		return false, nil
	}
	if j.reader.Size() < h.Size {
		return false, tampered("it has %d leaves of the %d that were sealed", j.reader.Size(), h.Size)
	}
	if root := j.reader.Root(); root.String() != h.Root && h.Size > 0 {
		return false, tampered("its %d leaves do not have the root that was sealed", h.Size)
	}
	j.whole = true
	j.passed(h)
	return true, nil
}

// take remembers what has to be known of a leaf. The caller holds mu.
func (j *journal) take(line []byte, leaf tlog.Hash) error {
	kind, request := peek(line)
	if request == "" {
		return j.rights.take(kind, line)
	}
	if j.changed != nil {
		j.changed(request)
	}
	h, known := j.histories[request]
	if !known && kind != EventRequested {
		return nil // of a request that was forgotten
	}
	h.add(leaf)
	var err error
	switch kind {
	case EventApproved, EventBreakGlass:
		h.approved, h.until = true, time.Time{}
	case EventReopened, EventReleased:
		h.until = time.Time{}
	case EventRejected, EventSuperseded, EventCanceled, EventBypassed:
		delete(j.histories, request)
		return nil
	case EventExpired, EventUndeliverable:
		if !h.approved {
			delete(j.histories, request)
			return nil
		}
		err = h.keep(line, longestTTL)
	case EventDeployed:
		err = errors.Join(j.rights.take(kind, line), h.keep(line, longestWindow))
	case EventDeployFailed:
		err = h.keep(line, longestWindow)
	}
	j.histories[request] = h
	return err
}

// agrees reports whether a history has those leaves that were read of it. Those of a
// request that ended may be forgotten.
func (j *journal) agrees(row Request, lines [][]byte, events []Event) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	h, known := j.histories[row.ID]
	if !known && row.Status.forgettable() {
		return true
	}
	var got digest
	for i, line := range lines {
		if events[i].Seq < j.reader.Size() {
			got.add(tlog.RecordHash(line))
		}
	}
	return got == h.digest
}

// sweepEvery is how often histories are forgotten that nobody can ask for.
const sweepEvery = time.Hour

// Bounds of the settings pending_ttl and deploy_approval_window_minutes.
const (
	longestTTL    = 90 * 24 * time.Hour
	longestWindow = 24 * time.Hour
)

// forgettable reports whether a journal may know nothing of a request any more.
func (s Status) forgettable() bool { return !s.Open() && s != Released }

// keep remembers a history for d after an event.
func (h *history) keep(line []byte, d time.Duration) error {
	e, err := ParseEvent(line)
	h.until = e.At().Add(d)
	return err
}

// sweep drops the histories for which nothing can ask when a leaf was written, or later,
// but none of what was deployed last. A clock that is wrong while nothing is recorded
// drops none.
func (j *journal) sweep(newest []byte) error {
	if newest == nil {
		return nil
	}
	e, err := ParseEvent(newest)
	now := e.At()
	if err != nil || now.Sub(j.swept) <= sweepEvery {
		return err
	}
	j.swept = now
	last := slices.Collect(maps.Values(j.rights.deploys))
	for id, h := range j.histories {
		if !h.until.IsZero() && now.After(h.until) && !slices.Contains(last, id) {
			delete(j.histories, id)
		}
	}
	return nil
}

// rights are all people and tokens as their events say, and what was deployed last: on
// that depends how many have to approve.
type rights struct {
	people  map[string]Person
	tokens  map[string]Token
	deploys map[place]string // requests
}

// aboutRight reports whether an event may give or end a right of a person or token, or
// changes what was deployed last.
func (t EventType) aboutRight() bool {
	kind, _, _ := strings.Cut(string(t), ".")
	return kind == "person" || kind == "authenticator" || kind == "token" || t == EventDeployed
}

func (r rights) clone() rights {
	return rights{maps.Clone(r.people), maps.Clone(r.tokens), maps.Clone(r.deploys)}
}

// take takes in a leaf.
func (r rights) take(kind EventType, line []byte) error {
	if !kind.aboutRight() {
		return nil
	}
	e, err := ParseEvent(line)
	if err != nil {
		return err
	}
	if kind == EventDeployed {
		r.deploys[place{e.App, e.Environment}] = e.Request
		return nil
	}
	switch user, token := e.Data["user"], e.Data["token"]; e.subject() {
	case subjectOf(keptPerson, user):
		p := r.people[user]
		err = p.apply(e)
		r.people[user] = p
	case subjectOf(keptToken, token):
		t := r.tokens[token]
		err = t.apply(e)
		r.tokens[token] = t
	}
	return err
}

// peek reads type and request of a leaf that this program wrote, without
// parsing it: both stand at its beginning, in a fixed order.
func peek(line []byte) (kind EventType, request string) {
	_, rest, _ := bytes.Cut(line, []byte(`","type":"`))
	name, rest, _ := bytes.Cut(rest, []byte(`"`))
	if after, ok := bytes.CutPrefix(rest, []byte(`,"request":"`)); ok {
		id, _, _ := bytes.Cut(after, []byte(`"`))
		request = string(id)
	}
	return EventType(name), request
}

// longTail is how many leaves a proof may have to read for itself before what was
// appended is taken in at once.
const longTail = 32

// keepUp reads the rest of the log, which is all of it after a start, and compares it
// with the sealed head. It is called after every change, so that proofs stay cheap, and
// takes in what another process found wrong.
func (j *journal) keepUp(ctx context.Context) error {
	err := j.notice(ctx, j.read(ctx))
	j.tell(ctx) // if it could not be told when it was found
	return err
}

func (j *journal) read(ctx context.Context) error {
	for done := false; !done; {
		err := j.store.View(ctx, func(tx Tx) (err error) {
			j.steady.Lock()
			defer j.steady.Unlock()
			j.mu.Lock()
			defer j.mu.Unlock()
			done, err = j.advance(tx, pageOfLeaves)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// size is how many leaves were read.
func (j *journal) size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reader.Size()
}

// hasMore says that there is something to read.
func (j *journal) hasMore() {
	select {
	case j.behind <- struct{}{}:
	default:
	}
}
