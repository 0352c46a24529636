package gatewayd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// terminal opens a pair of which ours is the screen and keyboard of theirs.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no terminals: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

// Ctrl-C at the prompt ends the enrolment, although nobody typed anything.
func TestInterruptAtThePrompt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ours, theirs := terminal(t)
	ctx, interrupt := context.WithCancel(w.ctx)
	defer interrupt()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- gatewayd.Run(ctx, []string{"user", "enroll", "--slack-id", stage.Bea, "--terminal"}, w.Environ(), theirs, theirs, &errs)
	}()
	screen := bufio.NewReader(ours)
	for shown := ""; !strings.Contains(shown, "shows now: "); {
		r, _, err := screen.ReadRune()
		if err != nil {
			t.Fatal(err)
		}
		shown += string(r)
	}
	interrupt()
	select {
	case code := <-ended:
		if code != 130 || !strings.Contains(errs.String(), "nothing was changed") {
			t.Errorf("got exit %d, %s; want 130, and that nothing was changed", code, &errs)
		}
	case <-w.ctx.Done():
		t.Fatal("the prompt does not end")
	}
}
