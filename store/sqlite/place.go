package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// sideFiles are the files of an open database. SQLite keeps each of them until
// its last connection is closed.
var sideFiles = [...]string{"", "-wal", "-shm"}

// place is what the files looked like.
type place [len(sideFiles)]fs.FileInfo

// look takes in what the files look like now; [engine.ErrReplaced] when one is gone or
// another one than before.
func (db *DB) look() error {
	had := db.place.Load()
	var p place
	for i, suffix := range sideFiles {
		info, err := os.Stat(db.path + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %s is gone", engine.ErrReplaced, db.path+suffix)
		case err != nil:
			return fmt.Errorf("find database file: %w", err)
		case had != nil && !os.SameFile(info, had[i]):
			return fmt.Errorf("%w: %s is another file", engine.ErrReplaced, db.path+suffix)
		}
		p[i] = info
	}
	db.place.Store(&p)
	return nil
}

// Sound looks whether every file is still where others would open it, and has
// every transaction refused from then on if one is not. SQLite does not look
// (https://sqlite.org/howtocorrupt.html, 2.5): it goes on with files that nobody
// will find again, and the memory that it shares with other programs may be cut
// off under it.
func (db *DB) Sound() error {
	if db.place.Load() == nil {
		return nil // being opened
	}
	err := engine.Trouble(db.look())
	if errors.Is(err, engine.ErrReplaced) {
		db.gone.Store(&err)
	}
	return err
}

// refused is why no transaction begins any more.
func (db *DB) refused() error {
	if err := db.gone.Load(); err != nil {
		return *err
	}
	return nil
}

// What became of a file since it was looked at.
const (
	same    = iota
	changed // the same file, with other content
	another
	gone
)

func (db *DB) became(i int) int {
	had := db.place.Load()[i]
	info, err := os.Stat(db.path + sideFiles[i])
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gone
	case err != nil || !os.SameFile(info, had):
		return another
	case info.Size() != had.Size() || !info.ModTime().Equal(had.ModTime()):
		return changed
	}
	return same
}

// mayFold reports whether closing may fold the write-ahead log into the file, and
// remove the log. Where a file was removed that saves the commits in the log that
// nobody else can find. But what another program has written since must not be
// overwritten, nor its log be removed.
func (db *DB) mayFold() bool {
	if !errors.Is(db.Sound(), engine.ErrReplaced) {
		return true
	}
	file, log, memory := db.became(0), db.became(1), db.became(2)
	switch {
	case log == another || memory == another:
		return false
	case file == another || file == gone: // it is folded into ours, which has no name any more
		return true
	}
	return file == same && (log == same || log == gone)
}

// setAside keeps the log of a database that is gone from the one in its place,
// to which SQLite would apply it. It is renamed, not removed: if the old file
// still is somewhere, its last commits are in there.
func (db *DB) setAside() error {
	if db.place.Load() == nil || db.became(0) != another {
		return nil
	}
	if log := db.became(1); log == same || log == changed {
		if err := os.Rename(db.path+"-wal", db.path+".replaced-wal"); err != nil {
			return fmt.Errorf("set the log of the replaced database aside: %w", err)
		}
	}
	if memory := db.became(2); memory == same || memory == changed {
		if err := os.Remove(db.path + "-shm"); err != nil {
			return fmt.Errorf("remove the memory of the replaced database: %w", err)
		}
	}
	return nil
}
