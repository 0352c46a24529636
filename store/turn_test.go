package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// line has writers wait behind one that holds the turn, in a known order. It works
// in a bubble, in which Wait returns once everybody waits.
type line struct {
	db   *store.DB
	mu   sync.Mutex
	ran  []string
	errs map[string]error
	wg   sync.WaitGroup
	open chan struct{} // closed to let the first one go on
}

func newLine(t *testing.T, db *store.DB) *line {
	l := &line{db: db, errs: map[string]error{}, open: make(chan struct{})}
	l.start(t.Context(), "first", func(tx approvals.Tx) error {
		<-l.open
		return set(tx, "first", "1")
	})
	return l
}

// start has a writer wait; its change keeps its name.
func (l *line) start(ctx context.Context, name string, fn func(tx approvals.Tx) error) {
	l.wg.Go(func() {
		err := l.db.Update(ctx, func(tx approvals.Tx) error {
			l.mu.Lock()
			l.ran = append(l.ran, name)
			l.mu.Unlock()
			if fn != nil {
				return fn(tx)
			}
			return set(tx, name, "1")
		})
		l.mu.Lock()
		l.errs[name] = err
		l.mu.Unlock()
	})
	synctest.Wait()
}

func (l *line) finish() {
	close(l.open)
	l.wg.Wait()
}

func kept(t *testing.T, db *store.DB, name string) bool {
	t.Helper()
	var there bool
	view(t, db, func(tx approvals.Tx) error { there = get(tx, name) != ""; return nil })
	return there
}

func TestTurnsGoToThoseWhoAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, storetest.New(t))
		low := approvals.Background(t.Context())
		l.start(low, "old", nil)
		l.start(low, "old2", nil)
		time.Sleep(300 * time.Millisecond) // in the bubble: these two have waited long
		l.start(low, "low", nil)
		l.start(t.Context(), "a", nil)
		l.start(t.Context(), "b", nil)
		l.start(low, "low2", nil)
		l.finish()
		if want := []string{"first", "old", "a", "old2", "b", "low", "low2"}; !slices.Equal(l.ran, want) {
			t.Errorf("got %v; want %v", l.ran, want)
		}
	})
}

// TestGroup has a group in which members fail, panic, end their goroutine and give
// up. Nobody else is touched by that.
func TestGroup(t *testing.T) {
	boom := errors.New("boom")
	synctest.Test(t, func(t *testing.T) {
		db := storetest.New(t)
		l := newLine(t, db)
		l.start(t.Context(), "good", nil)
		l.start(t.Context(), "bad", func(tx approvals.Tx) error { set(tx, "bad", "1"); return boom })
		l.start(t.Context(), "conflict", func(tx approvals.Tx) error {
			r := request("api")
			r.Number = 7
			again := r
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
			tx.SaveRequest(&again)
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		l.start(ctx, "gone", nil)
		cancel()
		synctest.Wait()
		caught := make(chan any, 1)
		go func() {
			defer func() { caught <- recover() }()
			db.Update(t.Context(), func(tx approvals.Tx) error { set(tx, "panics", "1"); panic("own panic") })
		}()
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			db.Update(t.Context(), func(tx approvals.Tx) error { set(tx, "exits", "1"); runtime.Goexit(); return nil })
		}()
		synctest.Wait()
		l.start(t.Context(), "last", nil)
		l.finish()
		<-ended
		if got := <-caught; got != "own panic" {
			t.Errorf("panic: got %v; want own panic", got)
		}
		if want := []string{"first", "good", "bad", "conflict", "last"}; !slices.Equal(l.ran, want) {
			t.Errorf("ran %v; want %v", l.ran, want)
		}
		for name, want := range map[string]error{"first": nil, "good": nil, "bad": boom, "conflict": approvals.ErrConflict, "gone": context.Canceled, "last": nil} {
			if got := l.errs[name]; !errors.Is(got, want) {
				t.Errorf("%s: got %v; want %v", name, got, want)
			}
			if there := kept(t, db, name); there != (want == nil) {
				t.Errorf("%s: got it kept %v; want %v", name, there, want == nil)
			}
		}
		for _, name := range []string{"panics", "exits"} {
			if kept(t, db, name) {
				t.Errorf("%s: left a trace", name)
			}
		}
		update(t, db, func(tx approvals.Tx) error { return set(tx, "after", "1") })
	})
}

// The first one of a group fails, while others wait.
func TestGroupWhoseFirstFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.New(t)
		boom := errors.New("boom")
		open := make(chan struct{})
		failed := make(chan error, 1)
		go func() {
			failed <- db.Update(t.Context(), func(tx approvals.Tx) error { <-open; set(tx, "first", "1"); return boom })
		}()
		synctest.Wait()
		second := make(chan error, 1)
		go func() {
			second <- db.Update(t.Context(), func(tx approvals.Tx) error { return set(tx, "second", "1") })
		}()
		synctest.Wait()
		close(open)
		if err := <-failed; err != boom {
			t.Errorf("first: got %v; want %v", err, boom)
		}
		if err := <-second; err != nil || kept(t, db, "first") || !kept(t, db, "second") {
			t.Errorf("second: got %v, first kept %v, second kept %v; want only the second", err, kept(t, db, "first"), kept(t, db, "second"))
		}
	})
}

// When the database fails in the middle of a group, nobody's change is reported as
// made, and none is.
func TestGroupWhoseDatabaseFails(t *testing.T) {
	for _, swallow := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			db := storetest.New(t)
			raw(t, db, "PRAGMA max_page_count=1") // as if the disk were full
			l := newLine(t, db)
			l.start(t.Context(), "small", nil)
			l.start(t.Context(), "big", func(tx approvals.Tx) error {
				err := set(tx, "big", strings.Repeat("x", 1<<20))
				if swallow {
					err = nil
				}
				return err
			})
			l.start(t.Context(), "later", nil)
			l.finish()
			for _, name := range []string{"first", "small", "big"} {
				if !errors.Is(l.errs[name], store.ErrUnavailable) || kept(t, db, name) {
					t.Errorf("%s: got %v, kept %v; want %v", name, l.errs[name], kept(t, db, name), store.ErrUnavailable)
				}
			}
			if l.errs["later"] != nil || !kept(t, db, "later") {
				t.Errorf("the next group: got %v; want it committed", l.errs["later"])
			}
		})
	}
}

// When the commit fails, everybody in the group learns it.
func TestGroupWhoseCommitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.New(t)
		l := newLine(t, db)
		l.start(t.Context(), "second", nil)
		l.start(t.Context(), "third", func(tx approvals.Tx) error {
			if err := store.FailCommit(tx); err != nil {
				return err
			}
			return set(tx, "third", "1")
		})
		l.finish()
		for _, name := range []string{"first", "second", "third"} {
			if !errors.Is(l.errs[name], store.ErrUnavailable) || kept(t, db, name) {
				t.Errorf("%s: got %v, kept %v; want %v", name, l.errs[name], kept(t, db, name), store.ErrUnavailable)
			}
		}
		update(t, db, func(tx approvals.Tx) error { return set(tx, "after", "1") })
	})
}

// Those that wait share commits, though not without end.
func TestGroupsShareCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.New(t)
		before := commits(t, db)
		l := newLine(t, db)
		for i := range 40 {
			l.start(t.Context(), fmt.Sprint(i), nil)
		}
		l.finish()
		if got := commits(t, db) - before; got != 3 {
			t.Errorf("got %d commits of 41 changes; want 3, of at most 16 each", got)
		}
		for name, err := range l.errs {
			if err != nil || !kept(t, db, name) {
				t.Errorf("%s: got %v; want it kept", name, err)
			}
		}
	})
}

// Where commits are fast, nobody waits long for others to share one.
func TestShortGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.New(t)
		before := commits(t, db)
		l := newLine(t, db)
		for i := range 6 {
			l.start(t.Context(), fmt.Sprint(i), func(tx approvals.Tx) error {
				time.Sleep(600 * time.Microsecond)
				return set(tx, fmt.Sprint(i), "1")
			})
		}
		l.finish()
		if got := commits(t, db) - before; got != 3 {
			t.Errorf("got %d commits of 7 changes of 0.6 ms; want 3, of a millisecond each", got)
		}
	})
}

// commits counts the frames of the write-ahead log that end a transaction
// (https://sqlite.org/fileformat2.html#the_write_ahead_log).
func commits(t *testing.T, db *store.DB) (n int) {
	t.Helper()
	log, err := os.ReadFile(db.Path() + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for at := 32; at+24+4096 <= len(log); at += 24 + 4096 {
		if binary.BigEndian.Uint32(log[at+4:]) != 0 {
			n++
		}
	}
	return n
}
