package approvals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// proof is a part of the log in one transaction that was checked to continue
// what the journal knows.
type proof struct {
	Tx
	j      *journal
	head   head
	tail   map[string][]tlog.Hash // leaves after those that the journal read, by request
	rights rights                 // those of the journal, or a copy that has the leaves after them
}

// prove checks the log of a transaction against the journal, which takes in no
// more leaves until the proof is released. A reading transaction must not have read
// anything before. In a writing one it sees what others of the same commit
// appended; that is not remembered, for it may never be committed.
func (j *journal) prove(tx Tx) (p *proof, err error) {
	if j.offline {
		return j.proveHead(tx)
	}
	j.steady.RLock()
	defer func() {
		if err != nil {
			j.steady.RUnlock()
		}
	}()
	// What is known by now has to be in the snapshot, which begins with the first reading.
	j.mu.Lock()
	reader, newest, rights := j.reader.Clone(), j.newest, j.rights
	j.mu.Unlock()
	if err := j.hear(tx); err != nil {
		return nil, err
	}
	if err := j.unheld(); err != nil {
		return nil, err
	}
	h, err := j.headOf(tx, newest)
	if err != nil {
		return nil, err
	}
	known, copied := reader.Size(), false
	p = &proof{j: j, Tx: tx, head: h, tail: map[string][]tlog.Hash{}, rights: rights}
	for line, err := range tx.Leaves(known) {
		if err == nil {
			err = reader.Next(line)
		}
		if err != nil {
			return nil, unreadableLog(err)
		}
		kind, request := peek(line)
		if request != "" {
			p.tail[request] = append(p.tail[request], reader.Last())
		}
		if kind.aboutRight() && !copied {
			p.rights, copied = rights.clone(), true
		}
		if err := p.rights.take(kind, line); err != nil {
			return nil, tampered("%v", err)
		}
	}
	if reader.Size()-known > longTail {
		j.hasMore()
	}
	if root := reader.Root(); h.Size != reader.Size() || root.String() != h.Root {
		return nil, tampered("its %d leaves do not have the root that was sealed for %d", reader.Size(), h.Size)
	}
	return p, nil
}

// unheld refuses while nothing may be approved or signed.
func (j *journal) unheld() error {
	why := j.hold()
	if why == "" {
		return nil
	}
	return later(5*time.Second, "nothing can be proven now: %s", why)
}

// release ends the use of a proof.
func (p *proof) release() {
	if !p.j.offline {
		p.j.steady.RUnlock()
	}
}

// proveHead checks that the log of a transaction is the one that was sealed.
func (j *journal) proveHead(tx Tx) (*proof, error) {
	fault, err := readFault(tx)
	switch {
	case err != nil:
		return nil, err
	case fault != "":
		return nil, tampered("%s", strings.TrimPrefix(fault, tamperedPrefix))
	}
	c := &Change{Tx: tx}
	if err := c.compareHead(); err != nil {
		return nil, err
	}
	return &proof{j: j, Tx: tx, head: c.head}, nil
}

// request rebuilds a request from its events and compares its row. A row that
// differs is tampering.
func (p *proof) request(row Request) (Request, error) {
	lines, err := historyOf(p.Tx, row.ID, -1)
	if err != nil {
		return Request{}, err
	}
	p.j.mu.Lock()
	h, known := p.j.histories[row.ID]
	p.j.mu.Unlock()
	want, got := h.digest, digest{}
	for _, leaf := range p.tail[row.ID] {
		want.add(leaf)
	}
	for _, line := range lines {
		got.add(tlog.RecordHash(line))
	}
	rebuilt, _, err := foldLines(lines)
	if err != nil {
		return Request{}, tampered("%v", err)
	}
	if what := rowDiffers(row, rebuilt); what != "" {
		return Request{}, tamperedRow(row, what)
	}
	switch {
	case got == want:
	case !known && row.Status.forgettable():
		return Request{}, later(time.Minute, "the history of request #%d was forgotten, because the clock said that its time was over: if the clock was wrong, restart the gateway", row.Number)
	default:
		return Request{}, tampered("the history of request #%d has %d events and not the %d that were recorded", row.Number, got.count, want.count)
	}
	rebuilt.Version, rebuilt.Metadata, rebuilt.Seen = row.Version, row.Metadata, row.Seen
	return rebuilt, nil
}

func tamperedRow(row Request, what string) error {
	return tampered("the row of request #%d says something else than its events: %s", row.Number, what)
}

// everybody lists all people, removed ones included, as their events say.
func (p *proof) everybody() ([]Person, error) {
	return slices.Collect(maps.Values(p.rights.people)), nil
}

// person is somebody as their events say, with what Slack said of them; [ErrNotFound].
func (p *proof) person(slackID string) (who Person, err error) {
	who, ok := p.rights.people[slackID]
	if !ok {
		return who, ErrNotFound
	}
	who.Standing, err = sealedValue[Standing](p.Tx, secretStanding(slackID))
	return who, err
}

// token is a token as its events say; [ErrNotFound].
func (p *proof) token(id string) (Token, error) {
	t, ok := p.rights.tokens[id]
	if !ok {
		return Token{}, ErrNotFound
	}
	return t, nil
}

// lastDeployed is the deploy to a place that ended last, nil when there was none.
func (p *proof) lastDeployed(to place) (*DeployedBefore, error) {
	id, ok := p.rights.deploys[to]
	if !ok {
		return nil, nil
	}
	row, err := p.Request(id)
	if errors.Is(err, ErrNotFound) {
		return nil, tampered("the row of request %s, which was deployed last, is missing", id)
	}
	if err == nil {
		row, err = p.request(row)
	}
	return deployedBefore(row), err
}

func deployedBefore(r Request) *DeployedBefore {
	return &DeployedBefore{Revision: r.Facts.Revision, At: r.Deploy.FinishedAt, Config: r.Facts.Config, SetupConfig: r.Facts.SetupConfig}
}

// rowDiffers says in which field a row differs from what the events say, "" when
// it does not.
func rowDiffers(row, rebuilt Request) string {
	// The log has only their hash, so that a row that was lost comes back without them.
	if sum := hashOf(row.Metadata); sum != "" && sum != rebuilt.Asked.Metadata {
		return "ci_metadata"
	}
	rebuilt.Version, rebuilt.Metadata = row.Version, row.Metadata
	return fieldsOf(row, rebuilt)
}

// fieldsOf names the fields in which two states differ, "" when they do not.
func fieldsOf[T any](row, rebuilt T) string {
	a, err := json.Marshal(row)
	b, err2 := json.Marshal(rebuilt)
	if err == nil && err2 == nil && bytes.Equal(a, b) {
		return ""
	}
	var left, right map[string]json.RawMessage
	if errors.Join(err, err2, json.Unmarshal(a, &left), json.Unmarshal(b, &right)) != nil {
		return "what cannot be read"
	}
	differ := func(name string) bool { return !bytes.Equal(left[name], right[name]) }
	return strings.Join(only(names(left, right), differ), ", ")
}

// proven runs fn on a proof of a fresh snapshot.
func (j *journal) proven(ctx context.Context, fn func(*proof) error) error {
	return j.notice(ctx, j.store.View(ctx, func(tx Tx) error {
		p, err := j.prove(tx)
		if err != nil {
			return err
		}
		defer p.release()
		return fn(p)
	}))
}

// checkpoint signs the tree of the given size, or the newest for 0.
func (j *journal) checkpoint(ctx context.Context, size int64) (text []byte, err error) {
	err = j.proven(ctx, func(p *proof) error {
		text, err = p.sign(size)
		return err
	})
	return text, err
}

// sign signs a size of the proven log; 0 = all of it.
func (p *proof) sign(size int64) ([]byte, error) {
	if size == 0 {
		size = p.head.Size
	}
	if size < 0 || size > p.head.Size {
		return nil, refuse(CodeNotFound, "the log has %d events; there is no checkpoint of size %d", p.head.Size, size)
	}
	root, err := p.root(size)
	if err != nil {
		return nil, err
	}
	// Another process may have had the log go on under a new name meanwhile.
	key, err := p.Secret(secretSigner)
	if err != nil {
		return nil, err
	}
	if now, err := ledger.NewSigner(key); err != nil || now.VerifierKey() != p.j.signer.VerifierKey() {
		return nil, ErrRecovered
	}
	return p.j.signer.Checkpoint(size, root)
}

// ErrRecovered says that the log goes on under another name, since this process began.
var ErrRecovered = errors.New("the log was recovered while this process was running: restart it")

// root is the root of the first size leaves, which is proven to lead to the head.
func (p *proof) root(size int64) (tlog.Hash, error) {
	root, err := ledger.Root(p.Ledger(), size)
	if err != nil || size == 0 {
		return root, err
	}
	newest, err := tlog.ParseHash(p.head.Root)
	if err != nil {
		return root, err
	}
	path, err := tlog.ProveTree(p.head.Size, size, p.Ledger())
	if err == nil {
		err = tlog.CheckTree(path, p.head.Size, newest, size, root)
	}
	if err != nil && !LogChanged(unreadableLog(err)) {
		return root, err
	}
	if err != nil {
		return root, tampered("its first %d leaves do not lead to what was sealed", size)
	}
	return root, nil
}
