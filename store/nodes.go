package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// forgetDead is how long the row of a dead node is kept. It may still ask what
// became of its last commit.
const forgetDead = time.Hour

// A Node is a process that serves: it delivers what is due and takes decisions.
// With SQLite there is one at a time; on a server several work at once, each with a
// row that every commit of it renews. One whose row was not renewed for some seconds
// is declared dead by the others: it writes nothing any more, and what it had
// claimed is free.
type Node struct {
	Name     string
	Version  string
	Settings string // tells its settings from those of others
	Self     bool
	// Left is for how long the others respect it, unless it writes meanwhile.
	Left  time.Duration
	id    string
	until time.Time
	keys  string // ids of its keys, that which seals first
}

// Join makes this opening of the database a node. What dead ones had claimed is
// free then. Call it with SQLite only while holding the lock of the file, which
// shows that nobody else serves.
func (db *DB) Join(ctx context.Context, n Node) error {
	if !db.engine.Shared() {
		return db.update(ctx, func(t *tx) error { return t.exec(free+"node <> ?", db.engine.Node()) })
	}
	db.self = n
	return db.Beat(ctx)
}

// Beat tells the other nodes that this one lives, and takes over what dead ones had
// claimed. Call it every second after [DB.Join].
func (db *DB) Beat(ctx context.Context) error {
	if !db.engine.Shared() {
		return nil
	}
	return db.update(ctx, func(t *tx) error {
		// The row may be new: see Begin of the engine.
		n, now := db.self, t.now.UnixMilli()
		return cmp.Or(
			t.exec("UPDATE nodes SET serving = true, name = ?, version = ?, settings = ?, keys = ? WHERE id = ? AND NOT serving",
				n.Name, n.Version, n.Settings, strings.Join(db.keys.IDs(), ","), db.engine.Node()),
			t.exec("UPDATE nodes SET dead = true WHERE NOT dead AND until < ?", now),
			t.exec("DELETE FROM nodes WHERE dead AND until < ?", now-forgetDead.Milliseconds()),
			t.exec(free+"node NOT IN (SELECT id FROM nodes WHERE NOT dead)"))
	})
}

// ErrNotHeld says that another node may work on what this one claimed.
var ErrNotHeld = errors.New("the claim may have passed to another node")

// Holds is nil while nobody else works on what was claimed, as far as this process
// can know without asking: it was not silent for longer than others respect, nor
// declared dead since. [ErrNotHeld].
func (db *DB) Holds(claim string) error {
	if err := db.Respected(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotHeld, err)
	}
	if !strings.HasPrefix(claim, db.engine.Node()+"-") {
		return ErrNotHeld
	}
	return nil
}

// Nodes lists the nodes that live, by name.
func (db *DB) Nodes(ctx context.Context) (nodes []Node, err error) {
	if !db.engine.Shared() {
		return nil, nil
	}
	err = db.view(ctx, func(t *tx) (err error) {
		columns := func(n *Node) []any { return []any{&n.id, &n.Name, &n.Version, &n.Settings, &n.keys, stamp{&n.until}} }
		nodes, err = list(t, columns, "SELECT id, name, version, settings, keys, until FROM nodes WHERE "+living+" ORDER BY name, id", t.now.UnixMilli())
		for i, n := range nodes {
			nodes[i].Left, nodes[i].Self = n.until.Sub(t.now), n.id == db.engine.Node()
		}
		return err
	})
	return nodes, err
}

// living selects the nodes that work.
const living = "serving AND NOT dead AND until > ?"

// ID names this opening of the database. It changes after others declared it dead.
func (db *DB) ID() string { return db.engine.Node() }

// Alone is the store for changes that nobody may serve beside: its Update is refused
// with [ErrServed] while a node works. A node that was silent for long is declared
// dead, so that it has to begin anew when it goes on.
func (db *DB) Alone() approvals.Store { return alone{db} }

type alone struct{ *DB }

func (db alone) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return db.update(ctx, func(t *tx) error {
		if !db.engine.Shared() {
			return fn(t)
		}
		var served bool
		if err := t.get("SELECT EXISTS (SELECT 1 FROM nodes WHERE "+living+")", []any{t.now.UnixMilli()}, &served); err != nil {
			return err
		}
		if served {
			return ErrServed
		}
		if err := t.exec("UPDATE nodes SET dead = true WHERE serving AND NOT dead"); err != nil {
			return err
		}
		return fn(t)
	})
}

// ErrKeysDiffer says that a node lacks the key that another one seals with. It
// would take what it cannot open for something that was changed from outside.
var ErrKeysDiffer = errors.New("the key rings differ: first add a new key behind the others on every node, then put it in front")

// checkNodes refuses a ring that does not go with those of the nodes that work.
func (db *DB) checkNodes(ctx context.Context) error {
	own := db.keys.IDs()
	nodes, err := db.Nodes(ctx)
	for _, n := range nodes {
		if keys := strings.Split(n.keys, ","); !slices.Contains(keys, own[0]) || !slices.Contains(own, keys[0]) {
			return fmt.Errorf("%w (node %s)", ErrKeysDiffer, n.Name)
		}
	}
	return err
}

// Leave ends the claims that this opening of the database made, at a clean stop, so
// that others need not wait for their leases.
func (db *DB) Leave(ctx context.Context) error {
	return db.update(ctx, func(t *tx) error {
		if err := t.exec(free+"node = ?", db.engine.Node()); err != nil || !db.engine.Shared() {
			return err
		}
		return t.exec("UPDATE nodes SET serving = false WHERE id = ?", db.engine.Node())
	})
}
