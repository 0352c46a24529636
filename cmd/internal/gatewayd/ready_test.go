package gatewayd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// While the log is read after the start, /readyz is degraded and says so; requests
// are taken meanwhile.
func TestReadyWhileTheLogIsVerified(t *testing.T) {
	t.Parallel()
	cfg, err := serveConfig([]string{
		"RGW_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "db"), "RGW_SECRET_KEYS=" + storetest.Keys, "CIRCLECI_TOKEN=token",
		"CIRCLECI_URL=http://127.0.0.1:1", "SLACK_API_URL=http://127.0.0.1:1", "SLACK_BOT_TOKEN=xoxb-1", "SLACK_APP_TOKEN=xapp-1", "SLACK_CHANNEL=C0123",
		"RGW_APP_A_SETTING_VCS_REPO=acme/a", "RGW_APP_A_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold",
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	if err := d.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.build(); err != nil {
		t.Fatal(err)
	}
	d.clock.observe(time.Now(), time.Now())
	r := d.ready(t.Context())
	if part := r.Parts["store"]; r.Status != webhook.StatusDegraded || part.Status != webhook.StatusDegraded || !strings.Contains(part.Detail, "the log is being verified after the start") {
		t.Errorf("before the log is read: got %+v; want the store degraded, and why", r)
	}
	if d.deciding() != 0 {
		t.Error("before the log is read: rgw_deciding says that decisions are taken")
	}
	if err := d.service.Start(t.Context(), cfg.SlackChannel, "test"); err != nil {
		t.Fatal(err)
	}
	if part := d.ready(t.Context()).Parts["store"]; part.Status != webhook.StatusOK {
		t.Errorf("after it: got %+v; want the store fine", part)
	}
	if d.deciding() != 1 {
		t.Errorf("after it: rgw_deciding says that no decisions are taken: %s", d.service.Held())
	}
}

// A finding of the daily check holds until the next one; a check that failed for another
// reason is repeated soon, and told once.
func TestCheckOfTheFile(t *testing.T) {
	busy, damaged := errors.New("disk I/O error"), fmt.Errorf("%w: page 7", store.ErrDamaged)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var h health
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		type look struct {
			at    time.Duration
			holds bool // what was known before it
		}
		var looks []look
		answers := []error{nil, busy, busy, nil, damaged, nil}
		h.checkFile(ctx, 0, func(context.Context) error {
			looks = append(looks, look{time.Since(began), h.fault(partIntegrity) != nil})
			if len(looks) > len(answers) {
				cancel()
				return ctx.Err()
			}
			return answers[len(looks)-1]
		}, slog.New(slog.NewTextHandler(&log, nil)))
		const day = 24 * time.Hour
		want := []look{
			{0, false}, {day, false}, {day + time.Minute, true}, {day + 2*time.Minute, true}, // and it was well
			{2*day + 2*time.Minute, false}, {3*day + 2*time.Minute, true}, {4*day + 2*time.Minute, false},
		}
		if fmt.Sprint(looks) != fmt.Sprint(want) {
			t.Errorf("got the checks %v; want %v", looks, want)
		}
		if n := strings.Count(log.String(), "could not be checked"); n != 1 || strings.Count(log.String(), "the check of the database file failed") != 1 {
			t.Errorf("got the log\n%swant each trouble once", &log)
		}
	})
}
