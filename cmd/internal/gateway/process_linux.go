package gateway

import (
	"os"
	"os/exec"
	"os/signal"
	"runtime"

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

func (c *program) start(cmd *exec.Cmd) error { return cmd.Start() }

// follow does what is left to do while the terminal is lent, until over is called.
func (t terminal) follow() (over func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); t.followStops(end) }()
	return func() {
		close(end)
		<-ended
	}
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
	t.pass(t.group, t.own)
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
			t.pass(t.own, t.group)
			_ = unix.Kill(-t.group, unix.SIGCONT)
		}
		select {
		case <-changed:
		case <-over:
			return
		}
	}
}
