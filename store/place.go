package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// sideFiles are the files of an open database. SQLite keeps each of them until
// its last connection is closed.
var sideFiles = [...]string{"", "-wal", "-shm"}

// place is what the files looked like.
type place [len(sideFiles)]fs.FileInfo

func look(path string) (place, error) {
	var p place
	for i, suffix := range sideFiles {
		info, err := os.Stat(path + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("%w: %s is gone", ErrReplaced, path+suffix)
		}
		if err != nil {
			return p, fmt.Errorf("find database file: %w", err)
		}
		p[i] = info
	}
	return p, nil
}

// inPlace looks whether every file is still where others would open it. SQLite
// does not look (https://sqlite.org/howtocorrupt.html, 2.5): it goes on with
// files that nobody will find again, and the memory that it shares with other
// programs may be cut off under it.
func (db *DB) inPlace() error {
	had := db.place.Load()
	if had == nil {
		return nil // being opened
	}
	p, err := look(db.path)
	if err != nil {
		return trouble{err}
	}
	for i := range p {
		if !os.SameFile(p[i], had[i]) {
			return trouble{fmt.Errorf("%w: %s is another file", ErrReplaced, db.path+sideFiles[i])}
		}
	}
	db.place.Store(&p)
	return nil
}

// mayFold reports whether closing may fold the write-ahead log into the file.
// Where a file was removed that saves the commits in the log that nobody else can
// find. But if another program has written since, it would overwrite that, and
// the log of another program would be deleted with ours.
func (db *DB) mayFold() bool {
	err := db.inPlace()
	if !errors.Is(err, ErrReplaced) {
		return true
	}
	had := db.place.Load()
	for i, suffix := range sideFiles[:2] {
		info, err := os.Stat(db.path + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return false
		case !os.SameFile(info, had[i]):
			if suffix != "" {
				return false
			}
		case info.Size() != had[i].Size() || !info.ModTime().Equal(had[i].ModTime()):
			return false
		}
	}
	return true
}

// setAside keeps the log of a database that is gone from the one in its place,
// to which SQLite would apply it. It is renamed, not removed: if the old file
// still is somewhere, its last commits are in there.
func (db *DB) setAside() error {
	had := db.place.Load()
	if had == nil {
		return nil
	}
	if info, err := os.Stat(db.path); err != nil || os.SameFile(info, had[0]) {
		return nil
	}
	log, memory := db.path+sideFiles[1], db.path+sideFiles[2]
	if info, err := os.Stat(log); err == nil && os.SameFile(info, had[1]) {
		if err := os.Rename(log, db.path+".replaced-wal"); err != nil {
			return fmt.Errorf("set the log of the replaced database aside: %w", err)
		}
	}
	if info, err := os.Stat(memory); err == nil && os.SameFile(info, had[2]) {
		if err := os.Remove(memory); err != nil {
			return fmt.Errorf("remove the memory of the replaced database: %w", err)
		}
	}
	return nil
}
