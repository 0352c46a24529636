package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// TestMain runs the test binary as one of the other programs on a database.
func TestMain(m *testing.M) {
	if role := os.Getenv("STORE_TEST_ROLE"); role != "" {
		if err := runAs(role, os.Getenv("STORE_TEST_DB"), os.Getenv("STORE_TEST_APP")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runAs(role, path, app string) error {
	ctx := context.Background()
	if role == "locker" {
		lock, err := sqlite.WaitLock(ctx, path)
		if err != nil {
			return err
		}
		fmt.Println("locked")
		bufio.NewReader(os.Stdin).ReadString('\n') // until the parent closes it
		return lock.Release()
	}
	keys, err := store.ParseKeys(storetest.Keys)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{URL: "sqlite:" + path, Keys: keys})
	if err != nil {
		return err
	}
	switch role {
	case "starved":
		return errors.Join(beStarved(ctx, db, app), db.Close())
	case "deserted":
		return beDeserted(ctx, db)
	}
	most := 1 << 30
	if role == "writer" {
		most = 50
	}
	for i := 0; i < most; i++ {
		r := request(app)
		if err := db.Update(ctx, func(tx approvals.Tx) error { return step(tx, &r) }); err != nil {
			return err
		}
		fmt.Println(r.ID) // acknowledged
	}
	return db.Close()
}

// program starts the test binary in a role.
func program(t *testing.T, role, path, app string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_ROLE="+role, "STORE_TEST_DB="+path, "STORE_TEST_APP="+app)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// sound checks that each acknowledged request is there with its event and its
// work, that no other is there by halves, and that log and file are whole.
func sound(t *testing.T, db *store.DB, acknowledged []string) {
	t.Helper()
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
	view(t, db, func(tx approvals.Tx) error {
		for _, id := range acknowledged {
			if _, err := tx.Request(id); err != nil {
				t.Errorf("acknowledged request: got %v; want it there", err)
			}
		}
		all, err := tx.Requests(approvals.Filter{})
		if err != nil {
			return err
		}
		for _, r := range all {
			if events, err := tx.History(r.ID, -1); len(events) != 1 || err != nil {
				t.Errorf("request %d: got %d events, %v; want 1", r.Number, len(events), err)
			}
		}
		size, err := tx.Ledger().Size()
		if err != nil || size != int64(len(all)) {
			t.Errorf("log: got %d leaves, %v; want %d", size, err, len(all))
		}
		root, err := ledger.Root(tx.Ledger(), size)
		if err != nil {
			return err
		}
		seq := int64(0)
		for line, err := range tx.Leaves(0) {
			if err != nil {
				return err
			}
			proof, err := tlog.ProveRecord(size, seq, tx.Ledger())
			if err != nil || tlog.CheckRecord(proof, size, root, seq, tlog.RecordHash(line)) != nil {
				t.Errorf("leaf %d is not in the tree", seq)
			}
			seq++
		}
		return nil
	})
	if n, err := db.RawInt("SELECT count(*) - 2 * (SELECT count(*) FROM requests) FROM due"); n != 0 || err != nil {
		t.Errorf("work: got %d too many, %v; want 2 for each request", n, err)
	}
}

func TestKilledWriterLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	var acknowledged []string
	for round := range 8 {
		cmd, out := program(t, "endless", path, "app"+strconv.Itoa(round))
		for range 3 + 5*round {
			if !out.Scan() {
				t.Fatalf("round %d: the writer ended: %v", round, out.Err())
			}
			acknowledged = append(acknowledged, out.Text())
		}
		// It is in the middle of the next commit, or close to it.
		cmd.Process.Kill()
		for out.Scan() {
			if len(out.Text()) == len(acknowledged[0]) { // a line may be cut
				acknowledged = append(acknowledged, out.Text())
			}
		}
		cmd.Wait()
		db, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + path, Keys: ring(t, storetest.Keys)})
		if err != nil {
			t.Fatal(err)
		}
		sound(t, db, acknowledged)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "x.db")
	var outs []*bufio.Scanner
	var cmds []*exec.Cmd
	for i := range 3 { // all create and migrate it at the same moment
		cmd, out := program(t, "writer", path, "app"+strconv.Itoa(i))
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	var acknowledged []string
	for i, out := range outs {
		for out.Scan() {
			acknowledged = append(acknowledged, out.Text())
		}
		if err := cmds[i].Wait(); err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if len(acknowledged) != 150 {
		t.Errorf("got %d acknowledged requests; want 150", len(acknowledged))
	}
	sound(t, storetest.Open(t, path, storetest.Keys), acknowledged)
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "x.db")
	lock, err := sqlite.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.TryLock(path); !errors.Is(err, engine.ErrLocked) {
		t.Errorf("second lock: got %v; want %v", err, engine.ErrLocked)
	}
	if _, err := sqlite.WaitLock(timeout(t, 150), path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting: got %v; want %v", err, context.DeadlineExceeded)
	}
	cmd, out := program(t, "locker", path, "")
	if err := errors.Join(lock.Held(), lock.Release()); err != nil {
		t.Fatal(err)
	}
	if !out.Scan() || out.Text() != "locked" {
		t.Fatalf("other program: got %q; want locked", out.Text())
	}
	if _, err := sqlite.TryLock(path); !errors.Is(err, engine.ErrLocked) {
		t.Errorf("held by another program: got %v; want %v", err, engine.ErrLocked)
	}
	cmd.Process.Kill() // the kernel lifts the lock
	lock, err = sqlite.WaitLock(timeout(t, 10_000), path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if err := lock.Held(); !errors.Is(err, sqlite.ErrLockLost) {
		t.Errorf("file removed: got %v; want %v", err, sqlite.ErrLockLost)
	}
	other, err := sqlite.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	if err := lock.Held(); !errors.Is(err, sqlite.ErrLockLost) {
		t.Errorf("file replaced: got %v; want %v", err, sqlite.ErrLockLost)
	}
}

func TestBackup(t *testing.T) {
	db := storetest.New(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.db")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	started := make(chan struct{}, 1)
	go func() {
		for {
			r := request("api")
			if err := db.Update(context.Background(), func(tx approvals.Tx) error { return step(tx, &r) }); err != nil {
				stopped <- err
				return
			}
			select {
			case started <- struct{}{}:
			default:
			}
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
		}
	}()
	for range 3 { // the later ones replace it
		<-started
		if err := db.Backup(t.Context(), file); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("backup: got %v, %v; want mode 600", info, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("files beside the backup: got %v; want none", list)
	}
	copied := storetest.Open(t, file, storetest.Keys)
	sound(t, copied, nil)
	r := request("api") // numbers go on, also after a restore
	update(t, copied, func(tx approvals.Tx) error { return step(tx, &r) })

	if err := os.WriteFile(db.Path()+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{db.Path(), db.Path() + "-wal", db.Path() + "-shm", db.Path() + ".lock", dir, filepath.Join(dir, "no", "x.db")} {
		if err := db.Backup(t.Context(), bad); err == nil {
			t.Errorf("backup to %s: got no error", bad)
		}
	}
	notes, empty, opened := filepath.Join(dir, "notes.txt"), filepath.Join(dir, "empty.db"), filepath.Join(dir, "opened.db")
	for path, text := range map[string]string{notes: strings.Repeat("do not lose this\n", 10), empty: ""} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Backup(t.Context(), empty); err != nil {
		t.Errorf("backup to an empty file: %v", err)
	}
	if err := db.Backup(t.Context(), opened); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(opened+"-wal", []byte("frames"), 0o600); err != nil {
		t.Fatal(err)
	}
	link, nowhere := filepath.Join(t.TempDir(), "link"), filepath.Join(dir, "nowhere")
	if err := errors.Join(os.Symlink(empty, link), os.Symlink("missing.db", nowhere)); err != nil {
		t.Fatal(err)
	}
	if err := db.Backup(t.Context(), link); err != nil {
		t.Errorf("backup to a link: %v", err)
	}
	if err := db.Backup(t.Context(), nowhere); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("backup to %s: got %v; want that it leads nowhere", nowhere, err)
	}
	if to, err := os.Readlink(link); err != nil || to != empty {
		t.Errorf("backup to a link: got %q, %v; want that the link stays", to, err)
	}
	for bad, says := range map[string]string{notes: "exists and is not a backup", opened: "was opened as a database"} {
		before, _ := os.ReadFile(bad)
		if err := db.Backup(t.Context(), bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("backup to %s: got %v; want that it %s", bad, err, says)
		}
		if after, err := os.ReadFile(bad); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s was changed: %v", bad, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Backup(ended, filepath.Join(dir, "cut.db")); err == nil {
		t.Error("backup cut short: got no error")
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "cut*")); len(list) != 0 {
		t.Errorf("after a backup cut short: got %v; want nothing", list)
	}
}

func TestHealth(t *testing.T) {
	db := storetest.New(t)
	if err := errors.Join(db.CanWrite(t.Context()), db.Check(t.Context())); err != nil {
		t.Error(err)
	}
	at, err := db.RawInt("SELECT at FROM probe")
	if age := time.Since(time.UnixMilli(at)); err != nil || age > time.Minute {
		t.Errorf("probe: got an age of %v, %v; want it fresh", age, err)
	}
	raw(t, db, "PRAGMA query_only=ON")
	if err := db.CanWrite(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("read-only: got %v; want %v", err, store.ErrUnavailable)
	}
}
