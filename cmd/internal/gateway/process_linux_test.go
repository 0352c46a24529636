package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hears is a command with a grandchild in the background. Both print what
// signals they hear, and end at SIGUSR1. It prints the client's process id, its
// own and the grandchild's when both are ready. A shell's background jobs ignore
// SIGINT, so the grandchild hears the others only. Both end by themselves, so that
// nothing is left behind when a test fails.
const hears = `
trap 'echo command TERM' TERM; trap 'echo command HUP' HUP; trap 'echo command INT' INT; trap 'exit 7' USR1
( trap 'echo grandchild TERM' TERM; trap 'echo grandchild HUP' HUP; trap 'echo grandchild ended; exit 0' USR1
  echo ready $PPID $$; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); sleep 0.02; done ) &
i=0; while [ $i -lt 1000 ]; do i=$((i+1)); sleep 0.02; done`

// Whatever way a signal takes to the client, the command's whole group hears it
// once, and nothing is left running.
func TestSignalsReachTheWholeGroupOnce(t *testing.T) {
	t.Parallel()
	// What nohup makes a process ignore, its children ignore; what it catches, they
	// do not inherit.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
	toOne := func(cmd *exec.Cmd, _ int, s syscall.Signal) error { return cmd.Process.Signal(s) }
	toGroup := func(cmd *exec.Cmd, _ int, s syscall.Signal) error { return syscall.Kill(-cmd.Process.Pid, s) }
	both := func(cmd *exec.Cmd, _ int, s syscall.Signal) error {
		if err := cmd.Process.Signal(s); err != nil {
			return err
		}
		return syscall.Kill(-cmd.Process.Pid, s)
	}
	for _, tt := range []struct {
		name   string
		before []string // the program that runs the client
		signal syscall.Signal
		send   func(cmd *exec.Cmd, client int, s syscall.Signal) error
		want   []string
	}{
		{"SIGTERM to the client", nil, syscall.SIGTERM, toOne, []string{"command TERM", "grandchild TERM"}},
		{"SIGTERM to its group", nil, syscall.SIGTERM, toGroup, []string{"command TERM", "grandchild TERM"}},
		{"SIGTERM to both", nil, syscall.SIGTERM, both, []string{"command TERM", "grandchild TERM"}},
		{"SIGHUP to the client", nil, syscall.SIGHUP, toOne, []string{"command HUP", "grandchild HUP"}},
		{"SIGINT to its group", nil, syscall.SIGINT, toGroup, []string{"command INT"}},
		// timeout treats a signal like its time-out: it signals its child, then its group.
		{"timeout", []string{"timeout", "600"}, syscall.SIGTERM, toOne, []string{"command TERM", "grandchild TERM"}},
		{"timeout --foreground", []string{"timeout", "--foreground", "600"}, syscall.SIGTERM, toOne, []string{"command TERM", "grandchild TERM"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := deployable(t)
			args := append(slices.Clone(tt.before), os.Args[0], "deploy", "--app", "myapp", "--", "sh", "-c", hears)
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(g.env(circle...), asProgram+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			var client, command int
			heard := map[string]int{}
			for lines.Scan() {
				if n, _ := fmt.Sscanf(lines.Text(), "ready %d %d", &client, &command); n == 2 {
					if err := tt.send(cmd, client, tt.signal); err != nil {
						t.Fatal(err)
					}
					continue
				}
				heard[lines.Text()]++
				if all(tt.want, heard) {
					// What was sent twice would be heard before this is.
					_ = syscall.Kill(client, syscall.SIGUSR1)
				}
			}
			_ = cmd.Wait()
			for _, line := range append(tt.want, "grandchild ended") {
				if heard[line] != 1 {
					t.Errorf("%q was heard %d times; want once", line, heard[line])
				}
			}
			if got := cmd.ProcessState.ExitCode(); got != 7 {
				t.Errorf("got exit %d; want the command's 7", got)
			}
			if err := syscall.Kill(-command, 0); err != syscall.ESRCH {
				t.Errorf("the command's group: %v; want nothing left running", err)
			}
			if calls := g.calls(); !strings.Contains(calls[len(calls)-1], `"failed","detail":"exit code 7"`) {
				t.Errorf("last call %q; want the outcome", calls[len(calls)-1])
			}
		})
	}
}

func all(want []string, heard map[string]int) bool {
	for _, line := range want {
		if heard[line] == 0 {
			return false
		}
	}
	return true
}

// A client that is killed in a way that nobody can catch leaves nothing behind: the
// group hears SIGTERM once, and who does not heed it is ended.
func TestAKilledClientLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]bool{"the client alone": false, "its whole group": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := deployable(t)
			const stubborn = `trap 'echo command TERM; exit 0' TERM; trap 'echo watched' USR1
( trap 'echo grandchild TERM' TERM; trap '' USR1; echo ready $PPID $$; while :; do sleep 0.05; done ) &
while :; do sleep 0.05; done`
			cmd := exec.Command(os.Args[0], "deploy", "--app", "myapp", "--", "sh", "-c", stubborn)
			cmd.Env = append(g.env(circle...), asProgram+"=1")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			var client, command int
			heard := map[string]int{}
			for lines.Scan() { // until all who could print have ended
				if n, _ := fmt.Sscanf(lines.Text(), "ready %d %d", &client, &command); n == 2 {
					// It hands a signal on once the keeper knows of the command.
					if err := syscall.Kill(client, syscall.SIGUSR1); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if lines.Text() == "watched" {
					if group {
						client = -client
					}
					if err := syscall.Kill(client, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					continue
				}
				heard[lines.Text()]++
			}
			_ = cmd.Wait()
			if heard["command TERM"] != 1 || heard["grandchild TERM"] != 1 {
				t.Errorf("heard %v; want SIGTERM once each", heard)
			}
		})
	}
}

// The deploy is over when everything that the command started is over.
func TestDeployWaitsForGrandchildren(t *testing.T) {
	t.Parallel()
	g := deployable(t)
	name := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// The grandchild's parent ends first, so the grandchild is an orphan.
	cmd := exec.Command(os.Args[0], "deploy", "--app", "myapp", "--", "sh", "-c", `sh -c '(sleep 0.5; echo late) & exit 0'; exit 7`)
	cmd.Env = append(g.env(circle...), asProgram+"=1")
	cmd.Stdout = file // a file, so that Wait does not wait for whoever holds a pipe
	_ = cmd.Run()
	if text, err := os.ReadFile(name); err != nil || string(text) != "late\n" || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("got %q, exit %d, %v; want what the grandchild did at last, and 7", text, cmd.ProcessState.ExitCode(), err)
	}
}

// A process that left the group on purpose does not hold up the deploy.
func TestDeployDoesNotWaitForDaemons(t *testing.T) {
	t.Parallel()
	g := deployable(t)
	cmd := exec.Command(os.Args[0], "deploy", "--app", "myapp", "--", "sh", "-c", `setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!`)
	cmd.Env = append(g.env(circle...), asProgram+"=1")
	out, err := cmd.Output()
	var daemon int
	if _, scanErr := fmt.Sscan(string(out), &daemon); err != nil || scanErr != nil {
		t.Fatalf("got %q, %v, %v; want the deploy done", out, err, scanErr)
	}
	_ = syscall.Kill(daemon, syscall.SIGKILL)
}

// At a terminal the keys reach the command once, and it may read from there.
func TestTerminal(t *testing.T) {
	t.Parallel()
	g := deployable(t)
	master, slave := openTerminal(t)
	script := `trap 'echo command INT' INT; trap 'exit 7' USR1
echo ready $PPID $$; read x; echo "got $x"; read y; echo "got $y"; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); sleep 0.02; done`
	cmd := exec.Command(os.Args[0], "deploy", "--app", "myapp", "--", "sh", "-c", script)
	cmd.Env = append(g.env(circle...), asProgram+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	lines := bufio.NewScanner(master)
	var client, command int
	heard := map[string]int{}
	var all []string
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		all = append(all, line)
		// The terminal echoes the keys, in front of what is printed next.
		switch {
		case strings.Contains(line, "ready"):
			if _, err := fmt.Sscanf(line[strings.Index(line, "ready"):], "ready %d %d", &client, &command); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			_, _ = io.WriteString(master, "one\n")
		case strings.HasSuffix(line, "got one"):
			// Ctrl-Z: no shell could continue us here, so the command goes on.
			_, _ = io.WriteString(master, "\x1atwo\n")
		case strings.HasSuffix(line, "got two"):
			_, _ = io.WriteString(master, "\x03")
		case strings.HasSuffix(line, "command INT"):
			heard["INT"]++
			_ = syscall.Kill(client, syscall.SIGUSR1)
		}
	}
	_ = cmd.Wait() // the terminal is gone when its last user is
	if heard["INT"] != 1 || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("heard SIGINT %d times, exit %d; want once and 7:\n%s", heard["INT"], cmd.ProcessState.ExitCode(), strings.Join(all, "\n"))
	}
	if err := syscall.Kill(-command, 0); err != syscall.ESRCH {
		t.Errorf("the command's group: %v; want nothing left running", err)
	}
}

// openTerminal opens a pseudo terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	return master, slave
}

// The command cannot read the token where the kernel shows other processes.
func TestTheTokenIsOutOfReach(t *testing.T) {
	t.Parallel()
	const look = `tr '\0' '\n' </proc/$PPID/environ; env; for f in /proc/$PPID/fd/* /proc/self/fd/*; do
  [ -p $f ] && timeout 0.1 cat $f; done; exec 2>/dev/null; head -c 1 </proc/$PPID/mem >/dev/null; cat /proc/$PPID/cmdline`
	g := deployable(t)
	proxy := "RACK_GATEWAY_PROXY=http://user:s3cr3t-pr0xy@" + strings.TrimPrefix(g.URL, "http://")
	for _, keep := range []bool{false, true} {
		args := []string{"deploy", "--app", "myapp", "--", "sh", "-c", look}
		if keep {
			args = slices.Insert(args, 1, "--keep-token")
		}
		cmd := exec.Command(os.Args[0], args...)
		// The gateway plays an HTTP proxy, too: it answers whatever the URL's host.
		cmd.Env = append(g.env(circle...), proxy, asProgram+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := bytes.Count(out, []byte(token)); got != map[bool]int{false: 0, true: 1}[keep] {
			t.Errorf("keep %v: the token shows %d times:\n%s", keep, got, out)
		}
		if bytes.Contains(out, []byte("s3cr3t-pr0xy")) {
			t.Errorf("keep %v: the proxy shows:\n%s", keep, out)
		}
		if !bytes.Contains(out, []byte("CIRCLE_SHA1")) {
			t.Errorf("keep %v: the environment is gone:\n%s", keep, out)
		}
	}
}

// A user without special rights can read neither memory nor environment.
func TestTheMemoryIsOutOfReach(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		memoryIsOutOfReach(t, os.Args[0], nil)
		return
	}
	// Root may read everything, so this runs as nobody, from where nobody may read.
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "rack-gateway")
	// Not copied by this process: what another test starts meanwhile would have
	// the copy open for writing, and then it cannot be run.
	if out, err := exec.Command("cp", os.Args[0], name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(name, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	memoryIsOutOfReach(t, name, &syscall.Credential{Uid: 65534, Gid: 65534})
}

func memoryIsOutOfReach(t *testing.T, program string, as *syscall.Credential) {
	t.Helper()
	g := deployable(t)
	cmd := exec.Command(program, "deploy", "--app", "myapp", "--", "sh", "-c",
		`for f in mem environ maps; do if (: </proc/$PPID/$f) 2>/dev/null && cat /proc/$PPID/$f >/dev/null 2>&1; then echo $f can be read; fi; done; echo looked`)
	cmd.Dir = "/"
	cmd.Env = append(g.env(circle...), asProgram+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	out, err := cmd.Output()
	if err != nil || string(out) != "looked\n" {
		t.Errorf("got %q, %v; want nothing that can be read", out, err)
	}
}
