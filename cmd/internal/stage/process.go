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
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

// Names under which a program of ours is started to be another one.
const (
	clientName = "rack-gateway"
	daemonName = "rack-gatewayd"
)

// BeProgram runs the daemon or the client if this process was started as one by
// [Stage.Spawn] or [RunClient]. A program that does so calls it first. The daemon
// ends with its standard input, so that it never outlives who started it.
func BeProgram() (code int, yes bool) {
	switch os.Args[0] {
	case clientName:
		return gateway.Main(), true
	case daemonName:
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
		return gatewayd.Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr), true
	}
	return 0, false
}

// ourselves is this program again, under a name that [BeProgram] knows.
func ourselves(name string, args ...string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{Path: program, Args: append([]string{name}, args...)}, nil
}

// daemonOf is a command of the daemon that a file holds, "" = of this program again.
func daemonOf(file string, args ...string) (*exec.Cmd, error) {
	if file == "" {
		return ourselves(daemonName, args...)
	}
	return exec.Command(file, args...), nil
}

// OperatorProgram is [Stage.Operator] as a process of its own: the daemon that a file
// holds, "" = this program again. It returns what the command printed.
func (s *Stage) OperatorProgram(file string, args ...string) (printed string, err error) {
	cmd, err := daemonOf(file, args...)
	if err != nil {
		return "", err
	}
	cmd.Env = s.env
	stdin, err := cmd.StdinPipe() // it ends with its parent, which it knows by this
	if err != nil {
		return "", err
	}
	defer stdin.Close()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// RunClient runs rack-gateway as a process of its own, as a CI job does, in a
// directory. It gets SIGTERM when ctx ends. All that it prints goes to out.
func RunClient(ctx context.Context, dir string, env []string, out io.Writer, args ...string) (code int, err error) {
	cmd, err := ourselves(clientName, args...)
	if err != nil {
		return 0, err
	}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the client: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) // it may have ended
	defer stop()
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		return 0, fmt.Errorf("run the client: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// Process is a daemon in a process of its own.
type Process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
	err   error
}

// Spawn starts the daemon as a process: this program again, see [BeProgram]. It
// does not wait until the daemon is ready. The log goes to out. The variables of env
// are for this process alone.
func (s *Stage) Spawn(out *os.File, env ...string) (*Process, error) {
	return s.SpawnProgram("", out, env...)
}

// SpawnProgram is Spawn of the daemon that a file holds, such as another version.
func (s *Stage) SpawnProgram(file string, out *os.File, env ...string) (*Process, error) {
	cmd, err := daemonOf(file, "serve")
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Env = slices.Concat(s.env, env)
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
