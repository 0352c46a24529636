package sqlite

import (
	"context"
	"database/sql"
	"errors"
)

// foldEvery is after how many commits the write-ahead log is folded into the file:
// some 800 pages.
const foldEvery = 64

// folder folds the write-ahead log into the file beside the commits, which do not wait
// for it. SQLite itself does it in the commit that makes the log long, and the caller of
// that commit would wait for thousands of pages to be written and synced.
type folder struct {
	pool    *sql.DB
	conn    *sql.Conn // never opened anew: there may be another file by then
	commits int       // the transactions that write go one at a time
	due     chan struct{}
	stop    context.CancelFunc
	ended   chan struct{}
}

// open begins to fold. The files have to be there.
func (f *folder) open(ctx context.Context, db *DB) (err error) {
	f.pool = sql.OpenDB(writerTo(db.path))
	if f.conn, err = f.pool.Conn(ctx); err != nil {
		return errors.Join(err, f.pool.Close())
	}
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.due, f.ended = make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(f.ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-f.due:
			}
			// An error is met again by the next commit, which tells its caller.
			if db.Sound() == nil {
				f.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
				db.Sound() // the file is what we made of it: see mayFold
			}
		}
	}()
	return nil
}

// committed counts a commit.
func (f *folder) committed() {
	if f.commits++; f.commits%foldEvery == 0 {
		select {
		case f.due <- struct{}{}:
		default: // it is at it
		}
	}
}

// end waits for the end of what is under way.
func (f *folder) end() {
	if f.stop != nil {
		f.stop()
		<-f.ended
	}
}

func (f *folder) close() error {
	if f.stop == nil {
		return nil
	}
	return errors.Join(f.conn.Close(), f.pool.Close())
}
