//go:build !unix

package gateway

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

var relayed, swallowed = []os.Signal{os.Interrupt}, []os.Signal(nil)

// runGroup runs a command to its end. This system has no process groups like
// those of Unix: an interrupt reaches the command from the console by itself.
func (c *program) runGroup(ctx context.Context, cmd *exec.Cmd, signals *relay) (int, error) {
	early, err := signals.start(cmd.Start, func(os.Signal) {})
	switch {
	case err != nil:
		return 0, err
	case early != nil:
		return signalCode(early), fmt.Errorf("%w: %s", errNotStarted, early)
	}
	over := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			_ = cmd.Process.Kill()
		case <-over:
		}
	}()
	err = cmd.Wait()
	close(over)
	signals.ended()
	if err != nil && cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func guardMemory() {}

// hide does nothing: this system does not show a process's environment to others.
func hide(env []string) []string { return env }
