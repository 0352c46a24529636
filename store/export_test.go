package store

import (
	"context"
	"strings"
)

// ConnectWith opens a writing connection whose parameter from reads to instead.
func ConnectWith(ctx context.Context, path, from, to string) error {
	c := writerTo(path)
	c.dsn = strings.Replace(c.dsn, from, to, 1)
	conn, err := c.Connect(ctx)
	if err == nil {
		conn.Close()
	}
	return err
}

// RawSQL runs SQL past all rules, as somebody with the file would.
func (db *DB) RawSQL(query string, args ...any) error {
	_, err := db.writer.Exec(query, args...)
	return err
}

// RawInt reads one number.
func (db *DB) RawInt(query string, args ...any) (n int64, err error) {
	err = db.writer.QueryRow(query, args...).Scan(&n)
	return n, err
}

// RawText reads one column of text, line by line.
func (db *DB) RawText(query string, args ...any) (string, error) {
	rows, err := db.writer.Query(query, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var lines []string
	columns, _ := rows.Columns()
	for rows.Next() {
		row := make([]any, len(columns))
		var last string
		for i := range row {
			row[i] = new(any)
		}
		row[len(row)-1] = &last
		if err := rows.Scan(row...); err != nil {
			return "", err
		}
		lines = append(lines, last)
	}
	return strings.Join(lines, "\n"), rows.Err()
}
