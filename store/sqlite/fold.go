package sqlite

import (
	"context"
	"database/sql"
	"sync"
)

// foldEvery is after how many commits the write-ahead log is folded into the file:
// some 800 pages.
const foldEvery = 64

// folder folds the write-ahead log into the file beside the commits, which do not wait
// for it. SQLite itself does it in the commit that makes the log long, and the caller of
// that commit would wait for thousands of pages to be written and synced.
type folder struct {
	pool    *sql.DB
	conn    *sql.Conn  // never opened anew: there may be another file by then
	commits int        // since the last folding; the transactions that write go one at a time
	mu      sync.Mutex // held while it folds
	ended   bool
}

// open makes its connection. The files have to be there.
func (f *folder) open(ctx context.Context, path string) (err error) {
	f.pool = sql.OpenDB(writerTo(path))
	f.conn, err = f.pool.Conn(ctx)
	return err
}

// committed counts a commit, and has the log folded when there were many.
func (db *DB) committed() {
	f := &db.folder
	if f.commits++; f.commits < foldEvery || !f.mu.TryLock() {
		return
	}
	f.commits = 0
	go func() {
		defer f.mu.Unlock()
		// An error is met again by the next commit, which tells its caller.
		if !f.ended && db.Sound() == nil {
			f.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
			db.Sound() // the file is what we made of it: see mayFold
		}
	}()
}

// end waits for the end of what is under way. Nothing is folded afterwards.
func (f *folder) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}
