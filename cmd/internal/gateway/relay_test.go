package gateway

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestRelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &relay{last: map[os.Signal]time.Time{}}
		var got []os.Signal
		early, err := r.start(func() error { return nil }, func(s os.Signal) { got = append(got, s) })
		if early != nil || err != nil {
			t.Fatalf("start: %v, %v", early, err)
		}
		r.pass(syscall.SIGTERM)
		r.pass(syscall.SIGTERM) // of the same sending
		r.pass(syscall.SIGINT)
		for _, s := range swallowed {
			r.pass(s)
		}
		time.Sleep(sameSending) // of the bubble: the next one is another order
		r.pass(syscall.SIGTERM)
		r.ended()
		r.pass(syscall.SIGHUP)
		if want := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGTERM}; !slices.Equal(got, want) {
			t.Errorf("got %v; want %v", got, want)
		}
	})
}

// A signal that comes before the command runs leaves it unrun.
func TestRelayBeforeTheCommand(t *testing.T) {
	t.Parallel()
	r := newRelay()
	defer r.stop()
	r.pass(syscall.SIGTERM)
	r.pass(syscall.SIGINT)
	early, err := r.start(func() error { t.Error("the command was started"); return nil }, nil)
	if early != syscall.SIGTERM || err != nil {
		t.Errorf("got %v, %v; want the first signal", early, err)
	}
	failed := errors.New("no such file")
	again := newRelay()
	defer again.stop()
	if early, err := again.start(func() error { return failed }, nil); early != nil || !errors.Is(err, failed) {
		t.Errorf("got %v, %v; want the fault of the start", early, err)
	}
	again.pass(syscall.SIGTERM) // nobody to hand it to
}
