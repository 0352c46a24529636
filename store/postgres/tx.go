package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

const (
	// life is for how long after its last commit others respect a node.
	life = 6 * time.Second
	// respected is how long a node trusts in that, by its own clock. The difference
	// is for what it was about to do when it looked.
	respected = 4 * time.Second
	// resolveTime is how long is asked what became of a commit without an answer.
	resolveTime = 8 * time.Second
)

// The statements with which a writing transaction begins are sent together. Each
// sees what was committed before it began, so that the second one, which runs once
// the lock is had, sees the row of the node as others left it.
const (
	lockWriters = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT schema FROM meta FOR UPDATE; "
	serverTime  = "(floor(extract(epoch FROM clock_timestamp()) * 1000))::bigint"
	renew       = "UPDATE nodes SET turn = turn + 1, until = " + serverTime + " + %d WHERE id = '%s' AND NOT dead RETURNING turn, " + serverTime
	enlist      = "INSERT INTO nodes (id, turn, until) VALUES ('%[2]s', 1, " + serverTime + " + %[1]d) RETURNING turn, " + serverTime
)

// Stamp is another number each time: nodes commit every second, so that to ask whether
// somebody did is a round trip for nothing.
func (db *DB) Stamp(context.Context) (int64, error) { return db.stamps.Add(1), nil }

func (db *DB) Begin(ctx context.Context) (*engine.Tx, error) {
	var sent time.Time
	var turn int64
	conn, err := connect(ctx, db.writer, func(conn *sql.Conn) (err error) {
		sent = time.Now()
		turn, err = db.begin(ctx, conn)
		return err
	})
	if err != nil {
		return nil, err
	}
	t := &transaction{db: db, conn: conn, sent: sent, turn: turn}
	return &engine.Tx{Querier: conn, Now: db.now, Commit: t.commit, Rollback: t.rollback}, nil
}

// connect begins a transaction on a connection of a pool. A connection that was lost
// while nobody used it is no trouble: nothing can have been made, and another one is
// tried.
func connect(ctx context.Context, pool *sql.DB, begin func(*sql.Conn) error) (conn *sql.Conn, err error) {
	for range readers + 2 {
		if conn, err = pool.Conn(ctx); err != nil {
			return nil, err
		}
		if err = begin(conn); err == nil {
			return conn, nil
		}
		discard(conn)
		if ctx.Err() != nil || !lost(err) && !ended(err) {
			return nil, err
		}
	}
	return nil, err
}

// begin takes the lock and renews the row of the node, or makes it. It returns the
// turn that the node has after the commit.
func (db *DB) begin(ctx context.Context, conn *sql.Conn) (turn int64, err error) {
	results, err := send(ctx, conn, lockWriters+fmt.Sprintf(renew, life.Milliseconds(), db.Node()))
	if err != nil {
		return 0, err
	}
	schema, err := numbers(results[1], 1)
	if err != nil {
		return 0, err
	}
	if err := newer(schema[0]); err != nil {
		return 0, err
	}
	row := results[2]
	if len(row.Rows) == 0 {
		// The node is new, or the others have declared it dead.
		db.rename()
		if results, err = send(ctx, conn, fmt.Sprintf(enlist, life.Milliseconds(), db.Node())); err != nil {
			return 0, err
		}
		row = results[0]
	}
	own, err := numbers(row, 2)
	if err != nil {
		return 0, err
	}
	turn, at := own[0], own[1]
	db.server.Store(&reading{server: time.UnixMilli(at), here: time.Now()})
	if turn != db.turn+1 && (db.sure || turn != db.turn+2) {
		err := engine.Trouble(fmt.Errorf("%w: this node made %d commits and the database knows of %d", ErrWentBack, db.turn, turn-1))
		db.back.CompareAndSwap(nil, &err)
	}
	// What became of a commit without an answer is known now, too.
	db.turn, db.sure = turn-1, true
	return turn, nil
}

// transaction is one that writes.
type transaction struct {
	db    *DB
	conn  *sql.Conn
	sent  time.Time // when it began
	turn  int64
	ended bool
}

func (t *transaction) rollback() {
	if t.ended {
		return
	}
	t.ended = true
	if _, err := send(context.Background(), t.conn, "ROLLBACK"); err != nil {
		discard(t.conn)
		return
	}
	t.conn.Close()
}

var errNotReplicated = errors.New("the commit was made, but perhaps not on the standby")

// warned names the warning that came on a connection last.
const warned = "warned"

// commit ends the transaction. When the answer gets lost, the server is asked what
// became of it.
func (t *transaction) commit() error {
	if t.ended {
		return sql.ErrTxDone
	}
	t.ended = true
	results, err := t.sendCommit()
	if err == nil && results[0].CommandTag.String() == "COMMIT" {
		t.conn.Close()
		t.made()
		return nil
	}
	discard(t.conn)
	var e *pgconn.PgError
	switch {
	case err == nil:
		return fmt.Errorf("the server rolled back: %s", results[0].CommandTag)
	case errors.As(err, &e) && e.SeverityUnlocalized == "ERROR":
		return err // nothing was made
	case errors.Is(err, errNotReplicated):
		t.made()
		return engine.Trouble(err)
	}
	t.db.sure = false
	if pgconn.Timeout(err) {
		// The server is alive and waits, such as for a standby: that the commit is there
		// would not say that it lasts.
		return engine.Trouble(fmt.Errorf("the server did not answer; nobody knows whether it was made: %w", err))
	}
	return t.resolve(err)
}

func (t *transaction) sendCommit() (results []*pgconn.Result, err error) {
	err = t.conn.Raw(func(driven any) error {
		conn := driven.(*stdlib.Conn).Conn().PgConn()
		delete(conn.CustomData(), warned)
		results, err = conn.Exec(context.Background(), "COMMIT").ReadAll()
		// The server stopped waiting for its standby, which may not have the commit.
		if text, ok := conn.CustomData()[warned]; ok && err == nil {
			err = fmt.Errorf("%w: %s", errNotReplicated, text)
		}
		return err
	})
	return results, err
}

// made takes in that the transaction was committed.
func (t *transaction) made() {
	t.db.turn, t.db.sure = t.turn, true
	t.db.beaten(t.sent)
}

// resolve asks what became of the commit, as the next transaction does: once the lock
// is had, the old connection is over, whatever it did, and the turn of the node tells.
func (t *transaction) resolve(lost error) error {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTime)
	defer cancel()
	node := t.db.Node()
	for {
		next, err := t.db.Begin(ctx)
		if err == nil {
			next.Rollback()
		}
		switch {
		case err == nil && t.db.Node() == node && t.db.turn == t.turn:
			t.made()
			return nil
		case err == nil && t.db.Node() == node:
			return engine.Trouble(fmt.Errorf("not made: %w", lost))
		case err == nil, ctx.Err() != nil: // the row is gone, was never there, or is that of a dead node
			return engine.Trouble(fmt.Errorf("nobody knows whether it was made: %w", lost))
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Snapshot begins to read. The server takes the state with the first
// statement after this one.
func (db *DB) Snapshot(ctx context.Context) (*engine.Tx, error) {
	conn, err := connect(ctx, db.reader, func(conn *sql.Conn) error {
		_, err := send(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
		return err
	})
	if err != nil {
		return nil, err
	}
	t := &transaction{db: db, conn: conn}
	return &engine.Tx{Querier: conn, Now: db.now, Rollback: t.rollback}, nil
}

// send sends statements without parameters in one round trip, and returns what
// each of them answers.
func send(ctx context.Context, conn *sql.Conn, statements string) (results []*pgconn.Result, err error) {
	err = conn.Raw(func(driven any) error {
		results, err = driven.(*stdlib.Conn).Conn().PgConn().Exec(ctx, statements).ReadAll()
		return err
	})
	return results, err
}

// numbers reads the first row of an answer, which has n columns.
func numbers(r *pgconn.Result, n int) (out []int64, err error) {
	if len(r.Rows) == 0 || len(r.Rows[0]) != n {
		return nil, errors.New("the database lacks a row that is always there")
	}
	for _, text := range r.Rows[0] {
		value, err := strconv.ParseInt(string(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the database has %q where a number should be", text)
		}
		out = append(out, value)
	}
	return out, nil
}

// discard closes a connection for good.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	conn.Close()
}

// now is the server's time as far as it is known: what the server said last, and the
// time since.
func (db *DB) now() time.Time {
	r := db.server.Load()
	return db.clock.At(r.server.Add(time.Since(r.here)))
}

func (db *DB) Skew() time.Duration {
	r := db.server.Load()
	return r.server.Add(time.Since(r.here)).Sub(time.Now().Round(0)) // by the wall clock
}

func (db *DB) beaten(at time.Time) { db.beat.Store(&at) }

func (db *DB) Respected() error {
	if age := time.Since(*db.beat.Load()); age > respected {
		return fmt.Errorf("the database has not answered for %s: other nodes may have taken over", age.Round(time.Second))
	}
	return nil
}

// Dialect has parameters ? and ?N as $1 and so on.
func (db *DB) Dialect(query string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('$')
		if after == "" || after[0] < '0' || after[0] > '9' {
			b.WriteString(strconv.Itoa(n))
		}
		query = after
	}
}
