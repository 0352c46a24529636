package gatewayd

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
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
	if err := d.service.Start(t.Context(), cfg.SlackChannel, "test"); err != nil {
		t.Fatal(err)
	}
	if part := d.ready(t.Context()).Parts["store"]; part.Status != webhook.StatusOK {
		t.Errorf("after it: got %+v; want the store fine", part)
	}
}
