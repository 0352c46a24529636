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
