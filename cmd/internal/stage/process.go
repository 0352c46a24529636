package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

// daemonWord as the first argument makes a program be the daemon instead of
// itself.
const daemonWord = "internal-daemon"

// BeDaemon runs the daemon if the arguments (without the program's name) ask for
// it: what [Stage.Spawn] starts. A program that spawns calls it first. The daemon
// ends with its standard input, so that it never outlives who started it.
func BeDaemon(ctx context.Context, args []string) (code int, yes bool) {
	if len(args) == 0 || args[0] != daemonWord {
		return 0, false
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return gatewayd.Run(ctx, args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr), true
}

// Process is a daemon in a process of its own.
type Process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
	err   error
}

// Spawn starts the daemon as a process: this program again, see [BeDaemon]. It
// does not wait until the daemon is ready. The log goes to out.
func (s *Stage) Spawn(out *os.File) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.Command(program, daemonWord, "serve"), done: make(chan struct{})}
	p.cmd.Env = slices.Clone(s.env)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Err is how it ended: nil after exit code 0. Only after Ended.
func (p *Process) Err() error { return p.err }

// Kill ends the process as a power cut does, and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Stop ends the process as SIGTERM does; an error when it did not end well.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(stopTime):
		p.Kill()
		return fmt.Errorf("the daemon did not end within %s of SIGTERM", stopTime)
	}
}

// stopTime is more than the daemon promises to take.
const stopTime = 20 * time.Second

// Ready waits until the daemon answers and Slack reaches it.
func (s *Stage) Ready(ctx context.Context, p *Process) error { return s.ready(ctx, p.done, "200") }

// MachineID is the user id of the gateway's own user at CircleCI.
func (s *Stage) MachineID(ctx context.Context) (string, error) {
	client, err := circleci.New(circleci.Config{URL: s.Variable("CIRCLECI_URL"), Token: machineToken})
	if err != nil {
		return "", err
	}
	me, err := client.Me(ctx)
	return me.ID, err
}

// Variable is a variable of the daemon's environment, "" when it is not set.
func (s *Stage) Variable(name string) string {
	value := ""
	for _, kv := range s.env {
		if n, v, _ := strings.Cut(kv, "="); n == name {
			value = v
		}
	}
	return value
}

// Used is what a process has used since its start.
type Used struct {
	CPU     time.Duration // user and system time of all its threads
	WakeUps int64         // how often one of its threads gave the processor up by itself
}

// Used reads what the daemon has used so far, from /proc.
func (p *Process) Used() (u Used, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.PID()))
	if err != nil {
		return u, err
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			if n, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				var count int64
				if _, err := fmt.Sscan(n, &count); err != nil {
					return u, fmt.Errorf("read %s: %w", task, err)
				}
				u.WakeUps += count
			}
		}
		schedstat, err := os.ReadFile(task + "/schedstat")
		if err != nil {
			continue
		}
		var nanoseconds int64
		if _, err := fmt.Sscan(string(schedstat), &nanoseconds); err != nil {
			return u, fmt.Errorf("read %s: %w", task, err)
		}
		u.CPU += time.Duration(nanoseconds)
	}
	return u, nil
}
