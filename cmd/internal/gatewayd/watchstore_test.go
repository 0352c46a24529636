package gatewayd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// What does not pass by itself ends the process after a while, without a pause
// in between; what passes never does.
func TestWatchStore(t *testing.T) {
	t.Parallel()
	var (
		full    = fmt.Errorf("disk full: %w", store.ErrUnavailable)
		damaged = fmt.Errorf("a page: %w", store.ErrDamaged)
		moved   = fmt.Errorf("the file: %w", store.ErrReplaced)
	)
	for _, tt := range []struct {
		name  string
		probe func(since time.Duration) error
		gone  bool
		ends  time.Duration // 0 = never
		logs  int           // lines, within a day
	}{
		{"well", func(time.Duration) error { return nil }, false, 0, 0},
		{"damaged", func(time.Duration) error { return damaged }, false, brokenTime + watchStoreEvery, 1},
		{"replaced", func(time.Duration) error { return moved }, false, brokenTime + watchStoreEvery, 1},
		{"gone", func(time.Duration) error { return moved }, true, 0, 1},
		{"full", func(time.Duration) error { return full }, false, 0, 1},
		{"full for an hour", func(since time.Duration) error {
			if since < time.Hour {
				return full
			}
			return nil
		}, false, 0, 2},
		{"failing and well in turn", func(since time.Duration) error {
			if since%time.Minute < 30*time.Second {
				return damaged
			}
			return nil
		}, false, 0, -1},
		{"damaged when it is no longer full", func(since time.Duration) error {
			if since <= time.Minute {
				return full
			}
			return damaged
		}, false, time.Minute + watchStoreAgain + brokenTime, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				var log bytes.Buffer
				start := time.Now()
				err := storeWatch{
					probe: func(context.Context) error { return tt.probe(time.Since(start)) },
					gone:  func() bool { return tt.gone },
					log:   slog.New(slog.NewTextHandler(&log, nil)),
				}.run(ctx)
				switch took := time.Since(start); {
				case tt.ends == 0 && err != nil:
					t.Errorf("it ended after %s: %v", took, err)
				case tt.ends != 0 && (err == nil || took != tt.ends):
					t.Errorf("got %v after %s; want an end after %s", err, took, tt.ends)
				case err != nil && !store.Broken(err):
					t.Errorf("got %v; want the cause in it", err)
				}
				if got := strings.Count(log.String(), "\n"); tt.logs >= 0 && got != tt.logs {
					t.Errorf("got %d log lines; want %d:\n%s", got, tt.logs, &log)
				}
			})
		})
	}
}
