package stage

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// PostgresVariable names the variable with the URL of a PostgreSQL server to use.
const PostgresVariable = "RGW_TEST_POSTGRES_URL"

// ErrNoPostgres says how to get a PostgreSQL server.
var ErrNoPostgres = errors.New("there is no PostgreSQL: install it (its programs initdb and pg_ctl are enough, as in the package postgresql of Debian), or name a server in " + PostgresVariable)

// Postgres returns the URL of an empty PostgreSQL database, and what removes it. It
// is a schema of its own on the server that [PostgresVariable] names, or else on a
// server that is started for it, which only a socket reaches. [ErrNoPostgres].
func Postgres(ctx context.Context) (database string, remove func() error, err error) {
	if server := os.Getenv(PostgresVariable); server != "" {
		return schema(ctx, server)
	}
	programs, err := postgresPrograms()
	if err != nil {
		return "", nil, err
	}
	// Not in TMPDIR: the path of a socket has a hundred bytes at the most.
	dir, err := os.MkdirTemp("/tmp", "rgw-pg-")
	if err != nil {
		return "", nil, err
	}
	server := &postgres{programs: programs, dir: dir}
	if err := server.start(ctx); err != nil {
		return "", nil, errors.Join(err, server.stop())
	}
	return "postgres://postgres@/postgres?sslmode=disable&host=" + dir, server.stop, nil
}

// schema makes an empty database of a schema on somebody's server.
func schema(ctx context.Context, server string) (database string, remove func() error, err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", nil, errors.New(PostgresVariable + " is no URL")
	}
	name := "demo_" + strings.ToLower(rand.Text())
	do := func(ctx context.Context, statement string) error {
		db, err := sql.Open("pgx", server)
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.ExecContext(ctx, statement)
		return err
	}
	if err := do(ctx, "CREATE SCHEMA "+name); err != nil {
		return "", nil, fmt.Errorf("use the server of %s: %w", PostgresVariable, err)
	}
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return u.String(), func() error { return do(context.WithoutCancel(ctx), "DROP SCHEMA "+name+" CASCADE") }, nil
}

// postgresPrograms is the directory of the newest initdb.
func postgresPrograms() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian's are not in PATH
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) float64 {
			v, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64) // 0 goes first
			return v
		}
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) })), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", ErrNoPostgres
	}
	return filepath.Dir(path), nil
}

// postgres is a server in a directory of its own.
type postgres struct{ programs, dir string }

func (p *postgres) start(ctx context.Context) error {
	if os.Geteuid() == 0 {
		if err := p.giveAway(); err != nil {
			return err
		}
	}
	data := filepath.Join(p.dir, "data")
	if err := p.run(ctx, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		return err
	}
	return p.run(ctx, "pg_ctl", "-D", data, "-l", filepath.Join(p.dir, "log"), "-w", "-o", "-c listen_addresses= -c unix_socket_directories="+p.dir, "start")
}

// giveAway gives the directory to the user postgres: the server refuses to run as root.
func (p *postgres) giveAway() error {
	owner, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return err
	}
	return os.Chown(p.dir, uid, -1)
}

// run runs a program of PostgreSQL, as another user than root.
func (p *postgres) run(ctx context.Context, program string, args ...string) error {
	line := append([]string{filepath.Join(p.programs, program)}, args...)
	if os.Geteuid() == 0 {
		line = append([]string{"runuser", "-u", "postgres", "--"}, line...)
	}
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir = p.dir
	// The server keeps what it inherits open, so that a pipe would never end.
	out, err := os.Create(filepath.Join(p.dir, program+".out"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name()) // it only explains
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// stop ends the server, if it runs, and removes all of it.
func (p *postgres) stop() error {
	var err error
	if _, none := os.Stat(filepath.Join(p.dir, "data", "postmaster.pid")); none == nil {
		err = p.run(context.Background(), "pg_ctl", "-D", filepath.Join(p.dir, "data"), "-m", "immediate", "-w", "stop")
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
