//go:build unix && !linux

package gateway

import (
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"
)

// adoptOrphans does nothing: only Linux and FreeBSD let orphans be adopted. Their
// end is polled for instead, see awaitGroup.
func adoptOrphans() {}

// guardMemory does nothing: without /proc one process of a user cannot read
// another's memory without being a debugger.
func guardMemory() {}

// start starts the command. Ctrl-Z at the terminal does nothing to it: no call that
// all these systems have tells that a child has stopped and leaves its end to
// [exec.Cmd.Wait], so nobody would give the terminal back to the shell.
func (c *program) start(cmd *exec.Cmd) error {
	if c.atTerminal() {
		signal.Ignore(unix.SIGTSTP)
	}
	return cmd.Start()
}

// follow continues the command, which was stopped if it used the terminal before it
// had it.
func (t terminal) follow() (over func()) {
	_ = unix.Kill(-t.group, unix.SIGCONT) // the group may have ended just now
	return func() {}
}

// takeBack ignores the signal with which the system stops a background process that
// changes the terminal.
func (t terminal) takeBack() {
	signal.Ignore(unix.SIGTTOU)
	t.pass(t.group, t.own)
}
