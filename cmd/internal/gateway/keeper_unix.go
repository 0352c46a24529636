//go:build unix

package gateway

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// keeping is the keeper. It reads the id of a group and the word that the group has
// ended. When its input ends without that word, the client was killed in a way that
// nobody can catch, and the keeper ends the group in its place. The kill of every
// shell understands this form; with -s and --, some do not.
const keeping = `trap '' HUP INT QUIT TERM
read -r group || exit 0
read -r over && exit 0
kill -TERM "-$group" || exit 0
i=0
while [ $i -lt %d ] && kill -0 "-$group"; do sleep 1; i=$((i+1)); done
kill -KILL "-$group"`

// keeper watches over the command's group from outside our own group.
//
// The kernel could ask the command to end when we die. But it would ask the command
// alone and not what that started, and as often as we have threads.
type keeper struct {
	cmd   *exec.Cmd
	input io.WriteCloser
}

// newKeeper starts a keeper. Where there is no shell it is nil, and nobody ends the
// group of a client that is killed.
func newKeeper(path string) *keeper {
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf(keeping, killAfter/time.Second))
	cmd.Env = []string{"PATH=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	return &keeper{cmd, input}
}

// watch tells the keeper which group it has to end if we cannot. Whoever kills the
// client in the moment between the start of the command and this leaves the command
// running: its group has no id before.
func (k *keeper) watch(group int) {
	if k != nil {
		_, _ = fmt.Fprintln(k.input, group) // a keeper that was killed keeps nothing
	}
}

// dismiss ends the keeper: the group that it watches has ended, or there is none.
func (k *keeper) dismiss() {
	if k != nil {
		_, _ = fmt.Fprintln(k.input, "over")
		_ = k.input.Close()
		_ = k.cmd.Wait()
	}
}
