package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// starve makes every write beyond size bytes of a file fail in this process.
func starve(size uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = min(size, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

// beStarved writes until it is refused, and again when it may. It prints the id
// of each request that was acknowledged, and a line about each refusal.
func beStarved(ctx context.Context, db *store.DB, backup string) error {
	write := func() error {
		r := request("api")
		err := db.Update(ctx, func(tx approvals.Tx) error { return step(tx, &r) })
		if err == nil {
			fmt.Println(r.ID)
		}
		return err
	}
	if err := write(); err != nil {
		return err
	}
	if err := db.Backup(ctx, backup); err != nil {
		return err
	}
	log, err := os.Stat(db.Path() + "-wal")
	if err != nil {
		return err
	}
	if err := starve(uint64(log.Size()) + 100_000); err != nil {
		return err
	}
	for err = write(); err == nil; err = write() {
	}
	say("refused", err)
	if err := starve(10_000); err != nil {
		return err
	}
	if err := db.CanWrite(ctx); err == nil {
		return errors.New("the probe wrote where nothing could be written")
	}
	say("backup", db.Backup(ctx, backup))
	if err := starve(1 << 62); err != nil {
		return err
	}
	if err := db.CanWrite(ctx); err != nil {
		return err
	}
	for range 3 {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

// beDeserted goes on with a log that was removed, while another program writes,
// and then closes.
func beDeserted(ctx context.Context, db *store.DB) error {
	for range 20 {
		r := request("api")
		if err := db.Update(ctx, func(tx approvals.Tx) error { return step(tx, &r) }); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Remove(db.Path()+"-wal"), os.Remove(db.Path()+"-shm")); err != nil {
		return err
	}
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "STORE_TEST_ROLE=writer")
	other.Stdout, other.Stderr = os.Stdout, os.Stderr
	if err := other.Run(); err != nil {
		return err
	}
	if err := db.Close(); !errors.Is(err, store.ErrReplaced) {
		return fmt.Errorf("close: got %v; want %w", err, store.ErrReplaced)
	}
	return nil
}

func say(what string, err error) {
	kind := "passing"
	if store.Broken(err) {
		kind = "broken"
	}
	fmt.Println(what, kind, err)
}
