package soak_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// server is a PostgreSQL server of a test's own, with everything that makes a
// commit last.
type server struct {
	t    *testing.T
	bin  string
	dir  string
	port string
	mode string // sslmode of those who need no proof
	cmd  *exec.Cmd
}

// serverPrograms finds where PostgreSQL is installed. Without it the test is skipped.
func serverPrograms(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		at, err := exec.LookPath("initdb")
		if err != nil {
			t.Skip("PostgreSQL is not installed here: nothing is tested with servers that die")
		}
		found = []string{at}
	}
	return filepath.Dir(found[len(found)-1])
}

// newServer makes a server and starts it, or with primary a standby of that one.
func newServer(t *testing.T, primary *server) *server {
	t.Helper()
	s := &server{t: t, bin: serverPrograms(t), mode: "disable"}
	var err error
	if s.dir, err = os.MkdirTemp("/tmp", "rgw-server-"); err != nil { // the server's user may not look into a test's directory
		t.Fatal(err)
	}
	t.Cleanup(func() { s.kill(); os.RemoveAll(s.dir) })
	if id := serverUser(t); id != nil {
		if err := os.Chown(s.dir, int(id.Uid), int(id.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, s.port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if primary == nil {
		s.run("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	} else {
		s.run("pg_basebackup", "-D", s.data(), "-d", "host=127.0.0.1 user=postgres application_name=standby port="+primary.port, "-R", "-C", "-S", "standby", "--checkpoint=fast")
	}
	l.Close()
	s.start()
	return s
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) url() string {
	return "postgres://postgres@127.0.0.1:" + s.port + "/postgres?sslmode=" + s.mode
}

// serverUser is who the server runs as when the test is root, which it refuses.
func serverUser(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: serverUser(s.t)}
	return cmd
}

func (s *server) run(name string, args ...string) {
	s.t.Helper()
	if out, err := s.command(name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// start starts the server and waits until it takes connections.
func (s *server) start() {
	s.t.Helper()
	s.cmd = s.command("postgres", "-D", s.data(), "-p", s.port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=60")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.answers(30 * time.Second)
}

// answers waits until the server takes connections.
func (s *server) answers(most time.Duration) {
	s.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := storetest.Exec(s.url(), "SELECT 1")
		if err == nil {
			return
		}
		if time.Since(began) > most {
			s.t.Fatalf("the server does not answer: %v", err)
		}
	}
}

// promote has a standby take the place of its primary.
func (s *server) promote() {
	s.t.Helper()
	s.run("pg_ctl", "promote", "-w", "-D", s.data())
}

// kill ends the server and all its sessions at once, as a machine that vanishes.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	for _, pid := range slices.Concat([]int{s.cmd.Process.Pid}, s.children()) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	_ = s.cmd.Wait()
	s.cmd = nil
}

// children are the processes of the server's sessions and of its background work.
func (s *server) children() (pids []int) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent …
		pid, rest, _ := strings.Cut(string(text), " ")
		fields := strings.Fields(rest[strings.LastIndexByte(rest, ')')+1:])
		if n, err := strconv.Atoi(pid); err == nil && len(fields) > 1 && fields[1] == fmt.Sprint(s.cmd.Process.Pid) {
			pids = append(pids, n)
		}
	}
	return pids
}
