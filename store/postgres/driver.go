package postgres

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Types of PostgreSQL, as pg_type.dat numbers them. All others come as text.
const (
	typeBool  = 16
	typeBytea = 17
	typeInt8  = 20
	typeInt2  = 21
	typeInt4  = 23
)

const (
	// mostStatements is how many statements a connection keeps prepared. Lists are put
	// together of conditions, so that their number has no natural end.
	mostStatements = 256
	// pingAfter is for how long a connection may have been idle without being tried.
	pingAfter = time.Second
	// closeTime is how long the server is waited for at the end of a connection.
	closeTime = 5 * time.Second
)

// connector opens connections for database/sql. pgx has such a driver, too, but one
// that knows each type of PostgreSQL. The tables here have numbers, texts, bytes and
// bool, and without the others the program takes 3 MB less.
type connector struct{ config *pgconn.Config }

// Connect implements [driver.Connector].
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	pg, err := pgconn.ConnectConfig(ctx, c.config)
	if err != nil {
		return nil, err
	}
	return &connection{pg: pg, prepared: map[string]*pgconn.StatementDescription{}, used: time.Now()}, nil
}

// Driver implements [driver.Connector].
func (c connector) Driver() driver.Driver { return c }

// Open implements [driver.Driver]. Nothing is opened by name.
func (c connector) Open(string) (driver.Conn, error) { return nil, errors.ErrUnsupported }

// connection is one connection to the server.
type connection struct {
	pg       *pgconn.PgConn
	prepared map[string]*pgconn.StatementDescription // by their text
	names    int                                     // that were given to statements
	used     time.Time
	stale    bool // what was prepared no longer fits the tables
}

// Prepare implements [driver.Conn]. Statements are prepared when they run.
func (c *connection) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }

// Close implements [driver.Conn].
func (c *connection) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return c.pg.Close(ctx)
}

// IsValid implements [driver.Validator].
func (c *connection) IsValid() bool { return !c.pg.IsClosed() && !c.stale }

// ResetSession implements [driver.SessionResetter].
func (c *connection) ResetSession(ctx context.Context) error {
	idle := time.Since(c.used)
	c.used = time.Now()
	if c.pg.IsClosed() || c.pg.TxStatus() != 'I' || idle > pingAfter && c.pg.Ping(ctx) != nil {
		return driver.ErrBadConn
	}
	return nil
}

// Begin implements [driver.Conn].
func (c *connection) Begin() (driver.Tx, error) {
	_, err := c.simply(context.Background(), "BEGIN")
	return ending{c}, err
}

// ending ends a transaction.
type ending struct{ c *connection }

// Commit implements [driver.Tx].
func (e ending) Commit() error {
	tag, err := e.c.simply(context.Background(), "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		return fmt.Errorf("the server rolled back: %s", tag)
	}
	return err
}

// Rollback implements [driver.Tx].
func (e ending) Rollback() error {
	_, err := e.c.simply(context.Background(), "ROLLBACK")
	return err
}

// simply runs statements without parameters, and returns what the last one did.
func (c *connection) simply(ctx context.Context, statements string) (tag pgconn.CommandTag, err error) {
	results, err := c.pg.Exec(ctx, statements).ReadAll()
	if len(results) > 0 {
		tag = results[len(results)-1].CommandTag
	}
	return tag, c.fault(err)
}

// ExecContext implements [driver.ExecerContext].
func (c *connection) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 {
		tag, err := c.simply(ctx, query)
		return driver.RowsAffected(tag.RowsAffected()), err
	}
	rows, err := c.run(ctx, query, args)
	if err != nil {
		return nil, err
	}
	tag, err := rows.result.Close()
	return driver.RowsAffected(tag.RowsAffected()), c.fault(err)
}

// QueryContext implements [driver.QueryerContext].
func (c *connection) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.run(ctx, query, args)
	if err != nil {
		return nil, err
	}
	if rows.more = rows.result.NextRow(); rows.more {
		return rows, nil
	}
	return rows, rows.Close() // what is wrong is said now, not with the first row
}

// run prepares a statement, if it is a new one, and runs it.
func (c *connection) run(ctx context.Context, query string, args []driver.NamedValue) (*rows, error) {
	if c.pg.IsClosed() {
		return nil, driver.ErrBadConn
	}
	statement := c.prepared[query]
	if statement == nil {
		name := "" // for this time only
		if len(c.prepared) < mostStatements {
			c.names++
			name = "s" + strconv.Itoa(c.names)
		}
		var err error
		if statement, err = c.pg.Prepare(ctx, name, query, nil); err != nil {
			return nil, c.fault(err)
		}
		if name != "" {
			c.prepared[query] = statement
		}
	}
	values, formats, err := encode(args, statement.ParamOIDs)
	if err != nil {
		return nil, err
	}
	as := make([]int16, len(statement.Fields))
	for i, f := range statement.Fields {
		as[i] = format(f.DataTypeOID)
	}
	return &rows{c: c, fields: statement.Fields, result: c.pg.ExecStatement(ctx, statement, values, formats, as)}, nil
}

// fault has database/sql try another connection when nothing was sent on this one,
// and never use this one again when its statements do not fit the tables any more:
// feature_not_supported (a plan with another result) and invalid_sql_statement_name.
func (c *connection) fault(err error) error {
	switch {
	case err == nil:
		return nil
	case pgconn.SafeToRetry(err):
		return driver.ErrBadConn
	case slices.Contains([]string{"0A000", "26000"}, code(err)):
		c.stale = true
	}
	return err
}

// format is how values of a type travel: bytes as they are, all else as text.
func format(oid uint32) int16 {
	if oid == typeBytea {
		return 1
	}
	return 0
}

// encode has the parameters as the server takes them.
func encode(args []driver.NamedValue, oids []uint32) (values [][]byte, formats []int16, err error) {
	if len(args) != len(oids) {
		return nil, nil, fmt.Errorf("the statement has %d parameters and got %d", len(oids), len(args))
	}
	for i, arg := range args {
		var value []byte
		switch v := arg.Value.(type) {
		case nil:
		case int64:
			value = strconv.AppendInt(nil, v, 10)
		case bool:
			value = strconv.AppendBool(nil, v)
		case string:
			value = append([]byte{}, v...) // not nil, which is NULL
		case []byte:
			value = v
		default:
			return nil, nil, fmt.Errorf("parameter %d is a %T, which no table has", i+1, v)
		}
		values, formats = append(values, value), append(formats, format(oids[i]))
	}
	return values, formats, nil
}

// rows are what a statement answers.
type rows struct {
	c      *connection
	fields []pgconn.FieldDescription
	result *pgconn.ResultReader
	more   bool // there is a row that was not taken yet
	ended  bool // the result is that of another statement by now
}

// Columns implements [driver.Rows].
func (r *rows) Columns() []string {
	names := make([]string, len(r.fields))
	for i, f := range r.fields {
		names[i] = f.Name
	}
	return names
}

// Close implements [driver.Rows].
func (r *rows) Close() error {
	if r.ended {
		return nil
	}
	r.ended = true
	_, err := r.result.Close()
	return r.c.fault(err)
}

// Next implements [driver.Rows].
func (r *rows) Next(dest []driver.Value) error {
	if r.ended || !r.more && !r.result.NextRow() {
		return cmp.Or(r.Close(), io.EOF)
	}
	r.more = false
	for i, value := range r.result.Values() {
		var err error
		if dest[i], err = decode(value, r.fields[i].DataTypeOID); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a value. Bytes are only there until the next row.
func decode(value []byte, oid uint32) (driver.Value, error) {
	switch {
	case value == nil:
		return nil, nil
	case oid == typeBytea:
		return value, nil
	case oid == typeBool:
		return string(value) == "t", nil
	case oid == typeInt2 || oid == typeInt4 || oid == typeInt8:
		return strconv.ParseInt(string(value), 10, 64)
	}
	return string(value), nil
}
