package sqlite

import (
	"context"
	"database/sql"
	"sync"
)

// stamps is the connection that tells whether others have committed. SQLite counts
// that for each connection, in PRAGMA data_version, which takes no transaction and
// reads no page.
type stamps struct {
	mu   sync.Mutex
	conn *sql.Conn // nil until the first stamp
}

func (db *DB) Stamp(ctx context.Context) (stamp int64, err error) {
	if err := db.refused(); err != nil {
		return 0, err
	}
	s := &db.stamps
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		if s.conn, err = db.reader.Conn(ctx); err != nil {
			return 0, err
		}
	}
	// Without ctx, for which the driver would start a goroutine.
	err = s.conn.QueryRowContext(context.Background(), "PRAGMA data_version").Scan(&stamp)
	return stamp, err
}

func (s *stamps) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
