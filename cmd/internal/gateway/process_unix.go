//go:build unix

package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

var (
	relayed = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}
	// A log that nobody reads any more (`rack-gateway deploy … | head`) must not
	// end us while the command runs on. The command gets this signal by itself.
	swallowed = []os.Signal{unix.SIGPIPE}
)

// lingering is how long processes may outlive the command before we say that we
// wait for them.
const lingering = 3 * time.Second

// groupPause is the time between two looks at a group whose first process has ended.
const groupPause = 20 * time.Millisecond

// runGroup runs a command in a process group of its own and returns when the
// whole group has ended. The code is the command's, 128 + n when signal n ended
// it, as shells do.
//
// The own group makes two things possible. A signal reaches the grandchildren,
// too, and exactly once: whatever is sent to our group does not reach the
// command's. And we can tell when everything that the command started is over,
// so that no deploy goes on after its outcome was reported.
func (c *program) runGroup(ctx context.Context, cmd *exec.Cmd, signals *relay) (int, error) {
	adoptOrphans()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	keeper := newKeeper(c.env["PATH"])
	defer keeper.dismiss()

	var group int
	start := func() error {
		err := c.start(cmd)
		if err == nil {
			group = cmd.Process.Pid
			keeper.watch(group)
		}
		return err
	}
	early, err := signals.start(start, func(s os.Signal) {
		if n, ok := s.(syscall.Signal); ok {
			_ = unix.Kill(-group, n) // the group may have ended just now
		}
	})
	switch {
	case err != nil:
		return 0, err
	case early != nil:
		return signalCode(early), fmt.Errorf("%w: %s", errNotStarted, early)
	}
	returnTerminal := c.lendTerminal(group)
	over := endWith(ctx, group, signals)
	err = cmd.Wait()
	c.outlive(group)
	signals.ended()
	over()
	returnTerminal()
	return exitCode(cmd, err)
}

func (c *program) atTerminal() bool {
	return cli.IsTerminal(c.In) || cli.IsTerminal(c.Out) || cli.IsTerminal(c.Err)
}

// lendTerminal makes the command's group the foreground group of the terminal,
// if we are in the foreground. The keys Ctrl-C, Ctrl-\ and Ctrl-Z then signal
// the command exactly once and not us, and the command may read from the
// terminal. The function that it returns takes the terminal back.
func (c *program) lendTerminal(group int) func() {
	nothing := func() {}
	if !c.atTerminal() {
		return nothing
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nothing
	}
	own, err := unix.Getpgid(0)
	t := terminal{fd: fd, own: own, group: group}
	if err != nil || !t.pass(own, group) { // we are a background job
		_ = unix.Close(fd)
		return nothing
	}
	over := t.follow()
	return func() {
		over()
		t.takeBack()
		_ = unix.Close(fd)
	}
}

// terminal is one that is lent by our own group to another one.
type terminal struct{ fd, own, group int }

// pass brings a group into the foreground if another one is there.
func (t terminal) pass(from, to int) bool {
	front, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && front == from && unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, to) == nil
}

// endWith asks a group to end when ctx ends, and ends it by force if it does not.
// over ends that and returns when no signal is sent any more.
func endWith(ctx context.Context, group int, signals *relay) (over func()) {
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-ended:
			return
		}
		signals.pass(unix.SIGTERM)
		select {
		case <-time.After(killAfter):
			_ = unix.Kill(-group, unix.SIGKILL)
		case <-ended:
		}
	}()
	return func() {
		close(ended)
		<-stopped
	}
}

// outlive waits for those whom the command left behind, and says so if that takes
// a while.
func (c *program) outlive(group int) {
	told := make(chan struct{})
	remark := time.AfterFunc(lingering, func() {
		defer close(told)
		c.Say("The deploy command has ended, but processes that it started still run; waiting for them. " +
			"A process that should outlive the deploy needs a process group of its own (setsid).")
	})
	awaitGroup(group)
	if !remark.Stop() {
		<-told
	}
}

// exitCode is how a command that has ended ended; err is of its Wait.
func exitCode(cmd *exec.Cmd, err error) (int, error) {
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// awaitGroup returns when a process group has no member any more. It looks again
// and again, because no call of the kernel waits for that: a wait for the children
// in a group goes on when the last of them leaves the group, as daemons do.
func awaitGroup(group int) {
	for {
		// Orphans of the group have become our children where that is possible.
		// Who has ended counts as a member until its parent takes note of it.
		for {
			pid, err := unix.Wait4(-group, nil, unix.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(unix.Kill(-group, 0), unix.ESRCH) {
			return
		}
		time.Sleep(groupPause)
	}
}
