package slacktest_test

import (
	"testing"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestTriggers(t *testing.T) {
	t.Parallel()
	now := newClock()
	s, api := start(t, slacktest.Config{Now: now.Now})
	ctx := t.Context()
	_, err := api.OpenViewContext(ctx, "1.invented", codeModal())
	wantRefused(t, err, "invalid_trigger_id", "")
	trigger := triggerOf(t, s)
	now.Advance(3*time.Second + time.Millisecond)
	_, err = api.OpenViewContext(ctx, trigger, codeModal())
	wantRefused(t, err, "expired_trigger_id", "")
	trigger = triggerOf(t, s)
	now.Advance(3 * time.Second)
	if _, err := api.OpenViewContext(ctx, trigger, codeModal()); err != nil {
		t.Fatalf("in time: %v", err)
	}
	_, err = api.OpenViewContext(ctx, trigger, codeModal())
	wantRefused(t, err, "exchanged_trigger_id", "")
	if got := s.View(ana); got == nil || got.Title != "Deploy myapp" || got.CallbackID != "approve_request" || s.View(bea) != nil {
		t.Errorf("open view: got %+v", got)
	}
}

func TestPublishHome(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	home := slack.HomeTabViewRequest{Type: slack.VTHomeTab, Blocks: slack.Blocks{BlockSet: []slack.Block{section("mine")}}}
	first, err := api.PublishViewContext(t.Context(), slack.PublishViewContextRequest{UserID: ana, View: home})
	if err != nil {
		t.Fatal(err)
	}
	second, err := api.PublishViewContext(t.Context(), slack.PublishViewContextRequest{UserID: ana, View: home, Hash: &first.Hash})
	if err != nil || second.ID != first.ID {
		t.Fatalf("second: got %+v, %v", second, err)
	}
	_, err = api.PublishViewContext(t.Context(), slack.PublishViewContextRequest{UserID: ana, View: home, Hash: &first.Hash})
	wantRefused(t, err, "hash_conflict", "")
	if got := slacktest.Text(s.Home(ana).Blocks); got != "mine" {
		t.Errorf("home: got %q", got)
	}
	home.Type = slack.VTModal
	_, err = api.PublishViewContext(t.Context(), slack.PublishViewContextRequest{UserID: ana, View: home})
	wantRefused(t, err, "invalid_arguments", "must be home")
}
