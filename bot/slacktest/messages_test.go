package slacktest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestMethodsRefuse(t *testing.T) {
	t.Parallel()
	text := slack.MsgOptionText("hello", false)
	tests := []struct {
		name   string
		change func(*slacktest.Server)
		call   func(context.Context, *slack.Client, string) error // with the time stamp of a card of the app
		want   string
		detail string
	}{
		{"revoked", func(s *slacktest.Server) { s.RefuseToken(s.Config().BotToken, "token_revoked") }, authTest, "token_revoked", ""},
		{"inactive", func(s *slacktest.Server) { s.RefuseToken(s.Config().BotToken, "account_inactive") }, authTest, "account_inactive", ""},
		{"no scope", func(s *slacktest.Server) { s.SetScopes("commands") }, postTo(deploys, text), "missing_scope", ""},
		{"no channel", nil, postTo("C0NONE", text), "channel_not_found", ""},
		{"private channel", func(s *slacktest.Server) {
			s.SetChannel(slacktest.Channel{ID: deploys, IsPrivate: true, Members: []string{ana}})
		}, postTo(deploys, text), "channel_not_found", ""},
		{"not invited", func(s *slacktest.Server) { s.SetChannel(slacktest.Channel{ID: deploys}) }, postTo(deploys, text), "not_in_channel", ""},
		{"archived", func(s *slacktest.Server) { archive(s) }, postTo(deploys, text), "is_archived", ""},
		{"no text", nil, postTo(deploys), "no_text", ""},
		{"empty blocks and text", nil, postTo(deploys, slack.MsgOptionBlocks()), "no_text", ""},
		{"bad thread", nil, postTo(deploys, text, slack.MsgOptionTS("yesterday")), "invalid_thread_ts", ""},
		{"bad metadata", nil, postTo(deploys, text, slack.MsgOptionMetadata(slack.SlackMetadata{})), "invalid_metadata_schema", ""},
		{"bad blocks", nil, postTo(deploys, slack.MsgOptionBlocks(rawBlock(`{"type":"sectoin"}`))), "invalid_blocks", "unsupported type: sectoin"},
		{"blocks too long together", nil, postTo(deploys, slack.MsgOptionBlocks(sections(6, 2001)...)), "msg_blocks_too_long", ""},
		{"blocks no list", nil, postTo(deploys, slack.MsgOptionBlocks(rawBlock(`7`))), "invalid_blocks_format", ""},
		{"update unknown", nil, func(ctx context.Context, api *slack.Client, _ string) error {
			_, _, _, err := api.UpdateMessageContext(ctx, deploys, "1700000000.000001", text)
			return err
		}, "message_not_found", ""},
		{"update too long", nil, func(ctx context.Context, api *slack.Client, ts string) error {
			_, _, _, err := api.UpdateMessageContext(ctx, deploys, ts, slack.MsgOptionText(strings.Repeat("é", 4001), false))
			return err
		}, "msg_too_long", ""},
		{"update in archive", func(s *slacktest.Server) { archive(s) }, func(ctx context.Context, api *slack.Client, ts string) error {
			_, _, _, err := api.UpdateMessageContext(ctx, deploys, ts, text)
			return err
		}, "is_inactive", ""},
		{"ephemeral to outsider", nil, func(ctx context.Context, api *slack.Client, _ string) error {
			_, err := api.PostEphemeralContext(ctx, deploys, guest, text)
			return err
		}, "user_not_in_channel", ""},
		{"permalink", nil, func(ctx context.Context, api *slack.Client, _ string) error {
			_, err := api.GetPermalinkContext(ctx, &slack.PermalinkParameters{Channel: deploys, Ts: "1700000000.000001"})
			return err
		}, "message_not_found", ""},
		{"unknown user", nil, func(ctx context.Context, api *slack.Client, _ string) error {
			_, err := api.GetUserInfoContext(ctx, "U0NONE")
			return err
		}, "user_not_found", ""},
		{"replies of nothing", nil, func(ctx context.Context, api *slack.Client, _ string) error {
			_, _, _, err := api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{ChannelID: deploys, Timestamp: "1700000000.000001"})
			return err
		}, "thread_not_found", ""},
		{"unknown method", nil, func(ctx context.Context, api *slack.Client, _ string) error {
			_, err := api.GetEmojiContext(ctx)
			return err
		}, "unknown_method", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, api := start(t, slacktest.Config{})
			card := post(t, api, deploys, slack.MsgOptionText("card", false))
			if test.change != nil {
				test.change(s)
			}
			wantRefused(t, test.call(t.Context(), api, card), test.want, test.detail)
			if got := len(s.AllMessages(deploys)); got != 1 {
				t.Errorf("got %d messages after a refusal; want 1", got)
			}
		})
	}
}

func TestTokensRefused(t *testing.T) {
	t.Parallel()
	s, _ := start(t, slacktest.Config{})
	for token, want := range map[string]string{
		"": "not_authed", "xoxb-other": "invalid_auth", s.Config().AppToken: "not_allowed_token_type",
	} {
		wantRefused(t, authTest(t.Context(), client(s, token), ""), want, "")
	}
	_, _, err := slack.New("", slack.OptionAPIURL(s.URL()), slack.OptionAppLevelToken(s.Config().BotToken)).StartSocketModeContext(t.Context())
	wantRefused(t, err, "not_allowed_token_type", "")
}

func authTest(ctx context.Context, api *slack.Client, _ string) error {
	_, err := api.AuthTestContext(ctx)
	return err
}

func postTo(channel string, options ...slack.MsgOption) func(context.Context, *slack.Client, string) error {
	return func(ctx context.Context, api *slack.Client, _ string) error {
		_, _, err := api.PostMessageContext(ctx, channel, options...)
		return err
	}
}

func archive(s *slacktest.Server) {
	if err := s.EditChannel(deploys, func(c *slacktest.Channel) { c.IsArchived = true }); err != nil {
		panic(err)
	}
}

func TestMissingScopeNamesIt(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{Scopes: []string{"commands", "users:read"}})
	_, _, err := api.PostMessageContext(t.Context(), deploys, slack.MsgOptionText("x", false))
	refused, ok := err.(slack.SlackErrorResponse)
	if !ok || refused.Needed != "chat:write" || refused.Provided != "commands,users:read" {
		t.Errorf("got %#v; want needed chat:write, provided commands,users:read", err)
	}
	s.SetScopes(slacktest.DefaultScopes()...)
	auth, err := api.AuthTestContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := auth.Header.Get("X-OAuth-Scopes"), strings.Join(slacktest.DefaultScopes(), ","); got != want {
		t.Errorf("scopes header: got %q; want %q", got, want)
	}
	if auth.TeamID != s.Config().TeamID || auth.BotID != s.Config().BotID || auth.UserID != s.Config().BotUserID {
		t.Errorf("auth.test: got %+v", auth)
	}
}

func TestMessageLife(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	ctx := t.Context()
	card := post(t, api, deploys, slack.MsgOptionText("Deploy?", false), slack.MsgOptionBlocks(section("*q*"), buttons()),
		slack.MsgOptionMetadata(slack.SlackMetadata{EventType: "request", EventPayload: map[string]any{"id": "1"}}))
	_, reply, m, err := api.PostMessageWithResponseContext(ctx, deploys, slack.MsgOptionText("step", false), slack.MsgOptionTS(card))
	if err != nil || m.ThreadTimestamp != card {
		t.Fatalf("reply: thread %q, %v; want %q", m.ThreadTimestamp, err, card)
	}
	if got := len(s.Messages(deploys)); got != 1 {
		t.Errorf("channel level: got %d; want 1", got)
	}
	if got := s.Thread(deploys, card); len(got) != 1 || got[0].TS != reply {
		t.Errorf("thread: got %+v", got)
	}
	for _, with := range []bool{true, false} {
		listed, _, _, err := api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{ChannelID: deploys, Timestamp: card, IncludeAllMetadata: with})
		if err != nil || len(listed) != 2 {
			t.Fatalf("replies: got %d, %v; want 2", len(listed), err)
		}
		if got := listed[0].Metadata.EventType; (got == "request") != with {
			t.Errorf("metadata with include_all_metadata %t: got %q", with, got)
		}
	}
	history, err := api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{ChannelID: deploys, IncludeAllMetadata: true})
	if err != nil || len(history.Messages) != 1 || history.Messages[0].Metadata.EventPayload["id"] != "1" {
		t.Errorf("history: got %+v, %v", history, err)
	}
	if _, _, _, err := api.UpdateMessageContext(ctx, deploys, card, slack.MsgOptionText("Approved", false), slack.MsgOptionBlocks(section("done"))); err != nil {
		t.Fatal(err)
	}
	now, _ := s.Message(deploys, card)
	if got := slacktest.Text(now.Blocks); got != "done" || now.Edited || now.Metadata == nil || now.Revision != 1 {
		t.Errorf("after update: got %q, %+v", got, now)
	}
	if got := len(s.Revisions(deploys, card)); got != 2 {
		t.Errorf("revisions: got %d; want 2", got)
	}
	if _, _, _, err := api.UpdateMessageContext(ctx, deploys, card, slack.MsgOptionText("text only", false)); err != nil {
		t.Fatal(err)
	}
	if now, _ = s.Message(deploys, card); len(now.Blocks) != 0 || !now.Edited {
		t.Errorf("text without blocks: got %+v; want no blocks, edited", now)
	}
	link, err := api.GetPermalinkContext(ctx, &slack.PermalinkParameters{Channel: deploys, Ts: reply})
	if want := "https://rack.slack.com/archives/" + deploys + "/p" + strings.ReplaceAll(reply, ".", "") + "?thread_ts=" + card; err != nil || !strings.HasPrefix(link, want) {
		t.Errorf("permalink: got %q, %v; want %q…", link, err, want)
	}
	s.RemoveMessage(deploys, card)
	if _, _, m, err = api.PostMessageWithResponseContext(ctx, deploys, slack.MsgOptionText("late", false), slack.MsgOptionTS(card)); err != nil || m.ThreadTimestamp != "" {
		t.Errorf("reply to a deleted message: thread %q, %v; want channel level", m.ThreadTimestamp, err)
	}
}

func TestForeignMessagesStay(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	theirs, err := s.Post(ana, deploys, "", "mine")
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = api.UpdateMessageContext(t.Context(), deploys, theirs.TS, slack.MsgOptionText("x", false))
	wantRefused(t, err, "cant_update_message", "")
	if !s.RemoveMessage(deploys, theirs.TS) || s.RemoveMessage(deploys, theirs.TS) {
		t.Error("an admin removes a message once")
	}
}

func TestLongTextIsCut(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	ts := post(t, api, deploys, slack.MsgOptionText(strings.Repeat("é", 40_005), false))
	m, _ := s.Message(deploys, ts)
	if got := len([]rune(m.Text)); got != 40_000 {
		t.Errorf("got %d characters; want 40000", got)
	}
}

func TestPeopleAndChannels(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	ctx := t.Context()
	user, err := api.GetUserInfoContext(ctx, guest)
	if err != nil || user.TeamID != "T0OTHER" || !user.IsStranger || user.Deleted {
		t.Errorf("users.info: got %+v, %v", user, err)
	}
	if err := s.EditUser(ana, func(u *slacktest.User) { u.Deleted = true }); err != nil {
		t.Fatal(err)
	}
	if user, err = api.GetUserInfoContext(ctx, ana); err != nil || !user.Deleted {
		t.Errorf("deactivated: got %+v, %v", user, err)
	}
	if err := s.EditUserGroup("S0ADMINS", func(g *slacktest.UserGroup) { g.Disabled = true }); err != nil {
		t.Fatal(err)
	}
	groups, err := api.GetUserGroupsContext(ctx)
	if err != nil || len(groups) != 0 {
		t.Errorf("groups: got %d, %v; want none", len(groups), err)
	}
	groups, err = api.GetUserGroupsContext(ctx, slack.GetUserGroupsOptionIncludeDisabled(true), slack.GetUserGroupsOptionIncludeUsers(true))
	if err != nil || len(groups) != 1 || groups[0].Handle != "deploy-admins" || len(groups[0].Users) != 2 || groups[0].DateDelete == 0 {
		t.Errorf("groups: got %+v, %v", groups, err)
	}
	post(t, api, bea, slack.MsgOptionBlocks(sections(6, 2000)...)) // as much as there may be in all
	s.SetChannel(slacktest.Channel{ID: deploys, IsExtShared: true, Members: []string{s.Config().BotUserID}})
	info, err := api.GetConversationInfoContext(ctx, &slack.GetConversationInfoInput{ChannelID: deploys})
	if err != nil || !info.IsExtShared || !info.IsMember || info.IsArchived {
		t.Errorf("conversations.info: got %+v, %v", info, err)
	}
	post(t, api, bea, slack.MsgOptionText("psst", false))
	if got := s.DMs(bea); len(got) != 2 || got[1].Text != "psst" || !strings.HasPrefix(got[0].Channel, "D") {
		t.Errorf("direct messages: got %+v", got)
	}
	if got := len(s.Calls()); got == 0 || s.Calls()[0].Args["token"] != "" {
		t.Errorf("calls: got %d; want some, without tokens", got)
	}
}

func TestHistoryPages(t *testing.T) {
	t.Parallel()
	_, api := start(t, slacktest.Config{})
	for i := range 5 {
		post(t, api, deploys, slack.MsgOptionText(fmt.Sprint(i), false))
	}
	var got []string
	params := slack.GetConversationHistoryParameters{ChannelID: deploys, Limit: 2}
	for {
		page, err := api.GetConversationHistoryContext(t.Context(), &params)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			got = append(got, m.Text)
		}
		if params.Cursor = page.ResponseMetaData.NextCursor; params.Cursor == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"4", "3", "2", "1", "0"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestResponseURL(t *testing.T) {
	t.Parallel()
	now := newClock()
	s, api := start(t, slacktest.Config{Now: now.Now})
	ctx := t.Context()
	card := post(t, api, deploys, slack.MsgOptionText("card", false), slack.MsgOptionBlocks(buttons()))
	click := func() string {
		d, err := s.PrepareClick(slacktest.ButtonClick{User: ana, Channel: deploys, TS: card, ActionID: "approve"})
		if err != nil {
			t.Fatal(err)
		}
		return d.ResponseURL
	}
	url := click()
	send := func(options ...slack.MsgOption) error {
		_, _, _, err := api.SendMessageContext(ctx, deploys, append(options, slack.MsgOptionText("no", false))...)
		return err
	}
	for i := range 5 {
		option := slack.MsgOptionResponseURL(url, slack.ResponseTypeEphemeral)
		if i == 1 {
			option = slack.MsgOptionReplaceOriginal(url)
		}
		if err := send(option); err != nil {
			t.Fatalf("use %d: %v", i+1, err)
		}
	}
	if err := send(slack.MsgOptionResponseURL(url, slack.ResponseTypeEphemeral)); err == nil {
		t.Error("a sixth use: got no error")
	}
	if got := s.Ephemerals(ana); len(got) != 4 || got[0].Revision != 1 || got[0].EphemeralUser != ana {
		t.Errorf("ephemerals: got %+v; want 4, the first replaced once", got)
	}
	old := click()
	now.Advance(31 * time.Minute)
	if err := send(slack.MsgOptionResponseURL(old, slack.ResponseTypeEphemeral)); err == nil {
		t.Error("after half an hour: got no error")
	}
	if err := send(slack.MsgOptionReplaceOriginal(click())); err != nil {
		t.Fatal(err)
	}
	if m, _ := s.Message(deploys, card); m.Text != "no" || len(slacktest.Buttons(m)) != 0 {
		t.Errorf("replace_original of a card: got %+v", m)
	}
}
