package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/postgres"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestConformanceOnServer(t *testing.T) {
	storetest.Run(t, func(t *testing.T) approvals.Store {
		return storetest.OpenURL(t, storetest.Server(t), storetest.Keys)
	})
}

// pair has every other transaction done by the other of two nodes.
type pair struct {
	nodes [2]*store.DB
	calls atomic.Int64
}

func (p *pair) next() *store.DB { return p.nodes[p.calls.Add(1)%2] }

func (p *pair) Update(ctx context.Context, fn func(approvals.Tx) error) error {
	return p.next().Update(ctx, fn)
}

func (p *pair) View(ctx context.Context, fn func(approvals.Tx) error) error {
	return p.next().View(ctx, fn)
}

func (p *pair) Stamp(ctx context.Context) (int64, error) { return p.nodes[0].Stamp(ctx) }

// Two nodes are one store: each sees at once what the other one acknowledged. The
// time of a view is what its node knows of the server's clock, and may be some
// milliseconds behind.
func TestConformanceOfTwoNodes(t *testing.T) {
	storetest.Run(t, func(t *testing.T) approvals.Store { p, _ := twoNodes(t); return p }, "time does not go back")
}

func twoNodes(t *testing.T) (p *pair, url string) {
	url = storetest.Server(t)
	p = &pair{}
	for i := range p.nodes {
		p.nodes[i] = storetest.OpenURL(t, url, storetest.Keys)
		if err := p.nodes[i].Join(t.Context(), store.Node{Name: fmt.Sprint("n", i)}); err != nil {
			t.Fatal(err)
		}
	}
	return p, url
}

// Programs that create one database at the same moment do so once.
func TestServerIsMigratedOnce(t *testing.T) {
	url := storetest.Server(t)
	var opening sync.WaitGroup
	for range 5 {
		opening.Go(func() {
			db, err := store.Open(t.Context(), store.Config{URL: url, Keys: ring(t, storetest.Keys)})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Update(t.Context(), func(tx approvals.Tx) error { r := request("api"); return step(tx, &r) }); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	view(t, storetest.OpenURL(t, url, storetest.Keys), func(tx approvals.Tx) error {
		all, err := tx.Requests(approvals.Filter{})
		if len(all) != 5 {
			t.Errorf("got %d requests; want 5", len(all))
		}
		return err
	})
	if _, err := store.Open(t.Context(), store.Config{URL: storetest.Server(t), Keys: ring(t, storetest.Keys), Existing: true}); !errors.Is(err, postgres.ErrNoTables) {
		t.Errorf("an empty database that should exist: got %v; want %v", err, postgres.ErrNoTables)
	}
}

func claimOne(t *testing.T, db *store.DB) approvals.Work {
	t.Helper()
	var work []approvals.Work
	update(t, db, func(tx approvals.Tx) (err error) {
		if err = tx.Ask(approvals.Work{Kind: "card", Subject: "s", Lane: "slack:C"}); err == nil {
			work, err = tx.Claim("slack:C", 1, time.Hour)
		}
		return err
	})
	if len(work) != 1 {
		t.Fatalf("claimed %d; want 1", len(work))
	}
	return work[0]
}

// A node that the others have declared dead loses its claims, and writes only under
// a new name.
func TestDeadNode(t *testing.T) {
	p, url := twoNodes(t)
	a, b := p.nodes[0], p.nodes[1]
	w := claimOne(t, a)
	if err := b.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	view(t, b, func(tx approvals.Tx) error { return tx.Claimed(w) })
	nodes, err := b.Nodes(t.Context())
	if len(nodes) != 2 || nodes[0].Name != "n0" || nodes[0].Self || !nodes[1].Self || err != nil {
		t.Errorf("nodes: got %+v, %v; want both", nodes, err)
	}

	storetest.SQL(t, url, "UPDATE nodes SET until = 1 WHERE name = 'n0'") // it did not write for long
	if err := b.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if nodes, err := b.Nodes(t.Context()); len(nodes) != 1 || err != nil {
		t.Errorf("after its death: got %+v, %v; want one", nodes, err)
	}
	if err := a.Update(t.Context(), func(tx approvals.Tx) error { return tx.Finish(w) }); !errors.Is(err, approvals.ErrLostClaim) {
		t.Errorf("finish of the dead: got %v; want %v", err, approvals.ErrLostClaim)
	}
	if err := a.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if nodes, err := b.Nodes(t.Context()); len(nodes) != 2 || err != nil {
		t.Errorf("after it joined again: got %+v, %v; want both", nodes, err)
	}
	again := claimOne(t, a)
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claimOne(t, b); got.Claim == again.Claim || got.Attempt != 3 {
		t.Errorf("after it left: got %+v; want the third claim", got)
	}
}

// Whoever stops in the middle of a change holds the others up for 6 s at most, and
// its change is not made.
func TestStoppedWriter(t *testing.T) {
	t.Parallel()
	p, _ := twoNodes(t)
	locked, released := make(chan struct{}), make(chan error, 1)
	wake := make(chan struct{})
	go func() {
		released <- p.nodes[0].Update(t.Context(), func(tx approvals.Tx) error {
			err := set(tx, "stopped", "1")
			close(locked)
			<-wake
			return err
		})
	}()
	<-locked
	started := time.Now()
	update(t, p.nodes[1], func(tx approvals.Tx) error { return set(tx, "other", "1") })
	if took := time.Since(started); took > 6*time.Second {
		t.Errorf("the other one waited for %v; want 6 s at most", took)
	}
	close(wake)
	if err := <-released; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the stopped one: got %v; want %v", err, store.ErrUnavailable)
	}
	view(t, p.nodes[1], func(tx approvals.Tx) error {
		if get(tx, "stopped") != "" || get(tx, "other") == "" {
			t.Errorf("got %q and %q; want only the other's change", get(tx, "stopped"), get(tx, "other"))
		}
		return nil
	})
	update(t, p.nodes[0], func(tx approvals.Tx) error { return set(tx, "stopped", "2") })
}

// A database that lacks commits which were acknowledged is not written as if nothing
// had happened.
func TestServerWentBack(t *testing.T) {
	p, url := twoNodes(t)
	a := p.nodes[0]
	for range 3 {
		update(t, a, func(tx approvals.Tx) error { return set(tx, "x", "1") })
	}
	if err := a.CanWrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.SQL(t, url, "UPDATE nodes SET turn = turn - 2 WHERE name = 'n0'")
	update(t, a, func(tx approvals.Tx) error { return set(tx, "x", "2") })
	if err := a.CanWrite(t.Context()); !errors.Is(err, postgres.ErrWentBack) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v; want %v", err, postgres.ErrWentBack)
	}
	if err := p.nodes[1].CanWrite(t.Context()); err != nil {
		t.Errorf("the other one lost nothing: got %v", err)
	}
}

// A node that meets the schema of a newer version writes nothing any more.
func TestNewerSchemaOnServer(t *testing.T) {
	p, url := twoNodes(t)
	storetest.SQL(t, url, "UPDATE meta SET schema = schema + 1")
	err := p.nodes[0].Update(t.Context(), func(tx approvals.Tx) error { t.Error("it ran"); return nil })
	if !errors.Is(err, store.ErrNewerSchema) {
		t.Errorf("update: got %v; want %v", err, store.ErrNewerSchema)
	}
	if err := tryOpenURL(t, url, storetest.Keys); !errors.Is(err, store.ErrNewerSchema) {
		t.Errorf("open: got %v; want %v", err, store.ErrNewerSchema)
	}
}

func tryOpenURL(t *testing.T, url, keys string) error {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: url, Keys: ring(t, keys)})
	if err == nil {
		db.Close()
	}
	return err
}

// A new key is put behind the others on every node before it is put in front.
func TestKeyRingsOfNodes(t *testing.T) {
	a, _, _ := strings.Cut(storetest.Keys, ",")
	url := storetest.Server(t)
	node := storetest.OpenURL(t, url, a)
	if err := node.Join(t.Context(), store.Node{Name: "n0"}); err != nil {
		t.Fatal(err)
	}
	key, err := store.NewKey("c")
	if err != nil {
		t.Fatal(err)
	}
	if err := tryOpenURL(t, url, key+","+a); !errors.Is(err, store.ErrKeysDiffer) {
		t.Errorf("a new key in front: got %v; want %v", err, store.ErrKeysDiffer)
	}
	if err := tryOpenURL(t, url, key); !errors.Is(err, store.ErrKeysDiffer) {
		t.Errorf("without the key of the others: got %v; want %v", err, store.ErrKeysDiffer)
	}
	if err := tryOpenURL(t, url, a+","+key); err != nil {
		t.Errorf("a new key behind: got %v; want nil", err)
	}
}

// Settings on which durability rests are read back.
func TestWeakServerIsRefused(t *testing.T) {
	url := storetest.Server(t)
	for _, option := range []string{"synchronous_commit%3Doff", "synchronous_commit%3Dlocal"} {
		if err := tryOpenURL(t, url+"&options=-c%20"+option, storetest.Keys); !errors.Is(err, engine.ErrWeakSettings) {
			t.Errorf("%s: got %v; want %v", option, err, engine.ErrWeakSettings)
		}
	}
	// What only the whole server has otherwise, it says of itself where functions of the
	// schema stand before its own.
	for _, tt := range []struct {
		name, function string
		want           error
		says           string
	}{
		{"fsync", setting("fsync", "off"), engine.ErrWeakSettings, "fsync is off, not on"},
		{"full_page_writes", setting("full_page_writes", "off"), engine.ErrWeakSettings, "full_page_writes is off, not on"},
		{"encoding", setting("server_encoding", "LATIN1"), engine.ErrWeakSettings, "server_encoding is LATIN1, not UTF8"},
		{"time-outs", setting("lock_timeout", "0"), engine.ErrWeakSettings, "lock_timeout is 0, not 10s"},
		{"version", setting("server_version_num", "140019"), nil, "the server is PostgreSQL 14; 15 or newer is needed"},
		{"standby", "FUNCTION pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'", store.ErrUnavailable, "the server stands by and takes no writes"},
	} {
		url := storetest.Server(t)
		storetest.SQL(t, url, "CREATE "+tt.function)
		err := tryOpenURL(t, storetest.First(t, url), storetest.Keys)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v; want %v, %q", tt.name, err, tt.want, tt.says)
		}
	}
}

// setting is a function current_setting with another value of one setting.
func setting(name, value string) string {
	return fmt.Sprintf("FUNCTION current_setting(text) RETURNS text LANGUAGE sql AS $$SELECT CASE $1 WHEN '%s' THEN '%s' ELSE pg_catalog.current_setting($1) END$$", name, value)
}

// PgBouncer is refused with a sentence, however much it is told to ignore.
func TestPooler(t *testing.T) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not here: nothing is tested with it")
	}
	cfg, err := pgx.ParseConfig(storetest.Server(t))
	if err != nil {
		t.Fatal(err)
	}
	for ignored, want := range map[string]string{
		"": "it does not take the time-outs of a session",
		"ignore_startup_parameters = extra_float_digits,search_path,idle_in_transaction_session_timeout,lock_timeout,statement_timeout," +
			"tcp_user_timeout,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count": "a pooler such as PgBouncer stands in between",
	} {
		for _, mode := range []string{"transaction", "session"} {
			address := pooler(t, program, cfg, mode, ignored)
			err := tryOpenURL(t, "postgres://"+cfg.User+"@"+address+"/any?sslmode=disable", storetest.Keys)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("mode %s, %q: got %v; want %q", mode, ignored, err, want)
			}
		}
	}
}

// pooler runs PgBouncer until the end of the test. It refuses to be root, and may
// reach a socket only as the user of the server.
func pooler(t *testing.T, program string, server *pgx.ConnConfig, mode, more string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.CreateTemp("", "pgbouncer-*.ini")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file.Name()) })
	_, err = fmt.Fprintf(file, "[databases]\n* = host=%s port=%d dbname=%s user=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %s\nunix_socket_dir =\nauth_type = any\npool_mode = %s\n%s\n",
		server.Host, server.Port, server.Database, server.User, port, mode, more)
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, file.Name())
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		who := &syscall.Credential{Uid: 65534, Gid: 65534} // nobody
		if socket, err := os.Stat(server.Host); err == nil {
			owner := socket.Sys().(*syscall.Stat_t)
			who.Uid, who.Gid = owner.Uid, owner.Gid
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer does not listen: %v", err)
		}
	}
}

// A role that may only do what serve does has everything it needs, and no more.
func TestRestrictedRole(t *testing.T) {
	url := storetest.Server(t)
	storetest.OpenURL(t, url, storetest.Keys) // the owner migrates
	role, restricted := storetest.Role(t, url)
	if err := tryOpenURL(t, restricted, storetest.Keys); err == nil {
		t.Error("without rights: got no error")
	}
	if err := store.Migrate(t.Context(), store.Config{URL: url}, role); err != nil {
		t.Fatal(err)
	}
	db := storetest.OpenURL(t, restricted, storetest.Keys)
	if err := db.Join(t.Context(), store.Node{Name: "n"}); err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx approvals.Tx) error {
		r := request("api")
		return errors.Join(step(tx, &r), set(tx, "a", "b"), tx.SetSecret("s", "v"), tx.SetSecret("s", ""))
	})
	claimOne(t, db)
	if err := errors.Join(db.CanWrite(t.Context()), db.Beat(t.Context()), db.Doubt(t.Context()), db.Leave(t.Context())); err != nil {
		t.Error(err)
	}
	for _, statement := range []string{
		"UPDATE audit SET line = 'x'", "DELETE FROM audit", "TRUNCATE audit CASCADE", "UPDATE audit_hashes SET position = 7", "DELETE FROM audit_index",
		"ALTER TABLE audit DISABLE TRIGGER ALL", "DROP TABLE audit CASCADE", "UPDATE meta SET schema = 9", "CREATE TABLE x (i int)", "DELETE FROM requests",
	} {
		if err := db.RawSQL(statement); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: got %v; want it refused", statement, err)
		}
	}
	owner := storetest.OpenURL(t, url, storetest.Keys)
	for _, statement := range []string{"UPDATE audit SET line = 'x'", "DELETE FROM audit", "TRUNCATE audit CASCADE", "DELETE FROM audit_hashes", "UPDATE audit_index SET subject = 's'"} {
		if err := owner.RawSQL(statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s by the owner: got %v; want it refused", statement, err)
		}
	}
}

// When the clock of the server was ahead and is set back, times follow, and the nodes do
// not take each other for dead.
func TestServerClockIsSetBack(t *testing.T) {
	server := storetest.Server(t)
	storetest.SQL(t, server, "CREATE TABLE ahead (by interval)", "INSERT INTO ahead VALUES ('1 hour')",
		"CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + by FROM ahead'")
	url := storetest.First(t, server)
	nodes := []*store.DB{storetest.OpenURL(t, url, storetest.Keys), storetest.OpenURL(t, url, storetest.Keys)}
	var ids []string
	ahead := func(db *store.DB) (by time.Duration) {
		update(t, db, func(tx approvals.Tx) error { by = time.Until(tx.Now()).Round(time.Minute); return nil })
		return by
	}
	for i, db := range nodes {
		if err := db.Join(t.Context(), store.Node{Name: fmt.Sprint("n", i)}); err != nil {
			t.Fatal(err)
		}
		if by := ahead(db); by != time.Hour {
			t.Fatalf("node %d is ahead by %v; want an hour", i, by)
		}
		ids = append(ids, db.ID())
	}
	storetest.SQL(t, server, "UPDATE ahead SET by = '0'")
	for round := range 3 {
		for i, db := range nodes {
			if err := db.Beat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if by := ahead(db); by != 0 || db.ID() != ids[i] {
				t.Errorf("round %d: node %d is ahead by %v and has the name %s; want 0 and %s", round, i, by, db.ID(), ids[i])
			}
		}
	}
	if alive, err := nodes[0].Nodes(t.Context()); len(alive) != 2 || err != nil {
		t.Errorf("got %v, %v; want both nodes alive", alive, err)
	}
}

// Connections that the server ended while nobody used them are no trouble.
func TestConnectionsThatWereEnded(t *testing.T) {
	url := storetest.Server(t) + "&application_name=ended"
	db := storetest.OpenURL(t, url, storetest.Keys)
	for range 3 {
		update(t, db, func(tx approvals.Tx) error { return set(tx, "x", "1") })
		view(t, db, func(tx approvals.Tx) error {
			view(t, db, func(tx approvals.Tx) error { get(tx, "x"); return nil })
			return nil
		})
		storetest.SQL(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended' AND pid <> pg_backend_pid()")
	}
	if err := db.CanWrite(t.Context()); err != nil {
		t.Error(err)
	}
}

// A copy waits for whichever side takes its time.
func TestCopyToASlowDatabase(t *testing.T) {
	t.Parallel()
	source, target := storetest.Server(t), storetest.Server(t)
	update(t, storetest.OpenURL(t, source, storetest.Keys), func(tx approvals.Tx) error {
		r := request("api")
		return step(tx, &r)
	})
	storetest.OpenURL(t, target, storetest.Keys)
	w, through := newWire(t, target)
	w.cut.Store(late)
	there, err := store.Copy(t.Context(), store.Config{URL: source}, store.Config{URL: through})
	if err != nil || there.Events != 1 {
		t.Errorf("got %+v, %v; want one event", there, err)
	}
}

// What is copied from one engine to the other, and back, is the same.
func TestCopy(t *testing.T) {
	ctx := t.Context()
	file := filepath.Join(t.TempDir(), "a.db")
	fill := func(db *store.DB) {
		for range 5 {
			update(t, db, func(tx approvals.Tx) error {
				for range 300 {
					r := request("api")
					if err := step(tx, &r); err != nil {
						return err
					}
				}
				return errors.Join(set(tx, "a", "b\x00\xff"), tx.Keep("token", "t", nil), tx.SetSecret("s", "v"))
			})
		}
		claimOne(t, db)
	}
	source := storetest.Open(t, file, storetest.Keys)
	fill(source)
	export := func(db *store.DB) string {
		var out strings.Builder
		view(t, db, func(tx approvals.Tx) error {
			for leaf, err := range tx.Leaves(0) {
				if err != nil {
					return err
				}
				out.Write(leaf)
			}
			secret, err := tx.Secret("s")
			all, err2 := tx.Requests(approvals.Filter{})
			fmt.Fprintln(&out, secret, get(tx, "a"), len(all), all[0])
			return errors.Join(err, err2)
		})
		return out.String()
	}
	want := export(source)
	server := storetest.Server(t)
	there, err := store.Copy(ctx, store.Config{URL: "sqlite:" + file}, store.Config{URL: server})
	if err != nil || there.Events != 1500 {
		t.Fatalf("to the server: got %+v, %v; want 1500 events", there, err)
	}
	again := filepath.Join(t.TempDir(), "b.db")
	back, err := store.Copy(ctx, store.Config{URL: server}, store.Config{URL: "sqlite:" + again})
	if err != nil || back != there {
		t.Fatalf("and back: got %+v, %v; want %+v", back, err, there)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	db := storetest.OpenURL(t, server, storetest.Keys)
	if err := db.Join(ctx, store.Node{Name: "n"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Backup(ctx, backup); err != nil { // beside a node
		t.Fatal(err)
	}
	if got := export(db); got != want {
		t.Error("the server has something else")
	}
	for _, path := range []string{again, backup} {
		if got := export(storetest.Open(t, path, storetest.Keys)); got != want {
			t.Errorf("%s has something else", filepath.Base(path))
		}
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: got %v, %v; want mode 600", info, err)
	}
	for _, db := range []*store.DB{db, storetest.Open(t, again, storetest.Keys)} {
		update(t, db, func(tx approvals.Tx) error { // what comes later goes on after it
			r := request("api")
			return step(tx, &r)
		})
	}
	if work := claimOne(t, db); work.Attempt != 2 {
		t.Errorf("what was claimed: got %+v; want it known as tried", work)
	}
	if _, err := store.Copy(ctx, store.Config{URL: "sqlite:" + again}, store.Config{URL: "sqlite:" + backup}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("to a database with data: got %v; want it refused", err)
	}
	if _, err := store.Copy(ctx, store.Config{URL: server}, store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "c.db")}); !errors.Is(err, store.ErrServed) {
		t.Errorf("from a database that is served: got %v; want %v", err, store.ErrServed)
	}
	if _, err := store.Copy(ctx, store.Config{URL: storetest.Server(t)}, store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "d.db")}); !errors.Is(err, postgres.ErrNoTables) {
		t.Errorf("from nothing: got %v; want %v", err, postgres.ErrNoTables)
	}
}
