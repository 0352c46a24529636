package gateway

import (
	"os"
	"os/signal"
	"runtime"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of descendants whose own parent
// ended. Without that they would be init's children. We could only poll for them,
// and in a container whose first process does not look after its children, which
// is common in CI, their entries would stay for ever.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// guardMemory keeps other processes of this user from reading our memory and
// environment through /proc and ptrace, and keeps us from dumping core. The
// kernel still lets those who have CAP_SYS_PTRACE, which root in a usual
// container has not.
func guardMemory() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// lendTerminal makes the command's group the foreground group of the terminal,
// if we are in the foreground. The keys Ctrl-C, Ctrl-\ and Ctrl-Z then signal
// the command exactly once and not us, and the command may read from the
// terminal. The function that it returns takes the terminal back.
func (c *program) lendTerminal(group int) func() {
	nothing := func() {}
	if !cli.IsTerminal(c.In) && !cli.IsTerminal(c.Out) && !cli.IsTerminal(c.Err) {
		return nothing
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nothing
	}
	t := terminal{fd: fd, own: unix.Getpgrp(), group: group}
	if !t.lend() {
		_ = unix.Close(fd)
		return nothing
	}
	over, followed := make(chan struct{}), make(chan struct{})
	go func() { defer close(followed); t.followStops(over) }()
	return func() {
		close(over)
		<-followed
		t.takeBack()
		_ = unix.Close(fd)
	}
}

type terminal struct{ fd, own, group int }

// lend is false when the terminal is not ours to lend: we are a background job.
func (t terminal) lend() bool {
	front, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && front == t.own && unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.group) == nil
}

func (t terminal) takeBack() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel stops a background process that does this, unless it blocks the
	// signal. Blocking it on this thread alone changes nothing for anybody else.
	var set, before unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before) != nil {
		return
	}
	if front, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP); err == nil && front == t.group {
		_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.own)
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}

// followStops passes Ctrl-Z on to the shell: when the command stops, we give the
// terminal back and stop, too; when the shell continues us, the command goes on.
func (t terminal) followStops(over <-chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGCHLD)
	defer signal.Stop(changed)
	for {
		var stop unix.Siginfo
		err := unix.Waitid(unix.P_PGID, t.group, &stop, unix.WSTOPPED|unix.WNOHANG, nil)
		if err == nil && stop.Signo != 0 {
			t.takeBack()
			// The first call stops the rest of the job, such as `| tee log`. The
			// second takes effect before it returns, so that nothing below happens
			// too early. Where no shell could continue us the kernel ignores both.
			_ = unix.Kill(0, unix.SIGTSTP)
			_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTSTP)
			t.lend()
			_ = unix.Kill(-t.group, unix.SIGCONT)
		}
		select {
		case <-changed:
		case <-over:
			return
		}
	}
}
