package bot_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	for id, u := range map[string]slacktest.User{
		"U0GONE": {Deleted: true}, "U0BOT": {IsBot: true}, "U0SINGLE": {IsUltraRestricted: true, IsRestricted: true}, "U0OTHER": {TeamID: "T0OTHER"},
	} {
		u.ID = id
		w.slack.SetUser(u)
	}
	for id, want := range map[string]string{
		ana: "", "U0GUEST": "guest", "U0SINGLE": "single-channel guest", "U0STRANGER": "another organisation", "U0OTHER": "another workspace",
		"U0GONE": "deactivated", "U0BOT": "bot", "U0NOBODY": "not known",
	} {
		_, problem, err := w.ws.User(t.Context(), id)
		if err != nil || !strings.Contains(problem, want) || want == "" && problem != "" {
			t.Errorf("%s: got %q, %v; want %q", id, problem, err, want)
		}
	}
	w.slack.AddFault(slacktest.Fault{Method: "users.info", Status: 500, Times: 1})
	if _, _, err := w.ws.User(t.Context(), ana); err == nil {
		t.Error("a call that did not succeed must not pass for knowledge")
	}
}

// Commands do not use up the look-ups that confirm admins: who is a member is
// remembered for 5 minutes, who is not for one, and no more than 30 people a minute
// are asked about.
func TestMembersAreRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{}).overHTTP(t)
	asked := func() int { return len(w.slack.CallsOf("users.info")) }
	for range 30 {
		if _, err := w.slack.Slash(deadline(t), ana, deploys, "whoami"); err != nil {
			t.Fatal(err)
		}
	}
	w.bot.Close() // after all were answered
	if got := asked(); got != 1 {
		t.Errorf("30 commands of one person: got %d look-ups; want 1", got)
	}
	before := asked()
	if _, _, err := w.ws.User(t.Context(), ana); err != nil || asked() != before+1 {
		t.Errorf("who asks in order to confirm an admin: got %d look-ups, %v; want a new one", asked()-before, err)
	}
	before = asked()
	for n := range 60 {
		w.ws.Member(t.Context(), fmt.Sprintf("U0NOBODY%d", n))
		w.ws.Member(t.Context(), "U0NOBODY0")
	}
	if got := asked() - before; got < 25 || got > 31 {
		t.Errorf("60 strangers: got %d look-ups; want about 30", got)
	}
}

func TestMembersAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		guest := false
		ws := bot.Open(bot.Settings{BotToken: "xoxb-1", HTTPClient: &http.Client{Transport: answering(func(r *http.Request) *http.Response {
			body := `{"ok":true,"team_id":"T1","user_id":"U0BOT","bot_id":"B1"}`
			if strings.HasSuffix(r.URL.Path, "/users.info") {
				asked++
				body = fmt.Sprintf(`{"ok":true,"user":{"id":"U1","team_id":"T1","is_restricted":%t}}`, guest)
			}
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
		})}})
		if _, err := ws.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		look := func(after time.Duration, want int, problem string) {
			t.Helper()
			time.Sleep(after)
			got, err := ws.Member(t.Context(), "U1")
			if err != nil || got != problem || asked != want {
				t.Errorf("got %q, %v after %d look-ups; want %q after %d", got, err, asked, problem, want)
			}
		}
		look(0, 1, "")
		guest = true
		look(4*time.Minute, 1, "")
		look(time.Minute, 2, "the account is a guest")
		guest = false
		look(59*time.Second, 2, "the account is a guest")
		look(time.Second, 3, "")
	})
}

// In an Enterprise organisation Slack names any one of a person's workspaces, or none.
func TestUserOfAnOrganisation(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ user, problem string }{
		"ours is named":           {`"team_id":"T1","enterprise_user":{"enterprise_id":"E1","teams":["T1","T2"]}`, ""},
		"another is named":        {`"team_id":"T2","enterprise_user":{"enterprise_id":"E1","teams":["T1","T2"]}`, ""},
		"none is named":           {`"enterprise_user":{"enterprise_id":"E1","teams":["T1","T2"]}`, ""},
		"not in ours":             {`"team_id":"T2","enterprise_user":{"enterprise_id":"E1","teams":["T2","T3"]}`, "another workspace"},
		"nothing is said":         {`"enterprise_user":{"enterprise_id":"E1"}`, "another workspace"},
		"a guest":                 {`"team_id":"T2","is_restricted":true,"enterprise_user":{"enterprise_id":"E1","teams":["T1","T2"]}`, "a guest"},
		"of another organisation": {`"team_id":"T9","is_stranger":true,"enterprise_user":{"enterprise_id":"E9","teams":["T9"]}`, "another organisation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := bot.Open(bot.Settings{BotToken: "xoxb-1", HTTPClient: &http.Client{Transport: answering(func(r *http.Request) *http.Response {
				body := `{"ok":true,"team_id":"T1","user_id":"U0BOT","bot_id":"B1"}`
				if strings.HasSuffix(r.URL.Path, "/users.info") {
					body = `{"ok":true,"user":{"id":"U1",` + tt.user + `}}`
				}
				w := httptest.NewRecorder()
				io.WriteString(w, body)
				return w.Result()
			})}})
			if _, err := ws.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, problem, err := ws.User(t.Context(), "U1")
			if err != nil || (problem == "") != (tt.problem == "") || !strings.Contains(problem, tt.problem) {
				t.Errorf("got %q, %v; want %q", problem, err, tt.problem)
			}
		})
	}
}

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func TestGroups(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.SetUserGroup(slacktest.UserGroup{ID: "S0OLD", Handle: "old", Users: []string{ana}, Disabled: true})
	ask := func(want ...approvals.Group) {
		t.Helper()
		got, err := w.ws.Groups(t.Context(), []string{admins, "S0NONE", "S0OLD"})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("got %v (-want +got):\n%s", err, diff)
		}
	}
	none := approvals.Group{ID: "S0NONE", Problem: "the group does not exist in this workspace"}
	old := approvals.Group{ID: "S0OLD", Problem: "the group is disabled"}
	ask(approvals.Group{ID: admins, Members: []string{ana, bea}}, none, old)
	w.slack.SetUserGroup(slacktest.UserGroup{ID: admins, Users: []string{bea}})
	ask(approvals.Group{ID: admins, Members: []string{bea}}, none, old) // what is asked now is answered now
}

// However many groups have a right, one call reads them all.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{RateLimits: true})
		var ids []string
		for i := range 30 {
			ids = append(ids, fmt.Sprintf("S0G%02d", i))
			w.slack.SetUserGroup(slacktest.UserGroup{ID: ids[i], Users: []string{ana, fmt.Sprintf("U0M%02d", i)}})
		}
		round := func(want, calls int) {
			t.Helper()
			got, err := w.ws.Groups(t.Context(), ids)
			if len(got) != want || (err == nil) != (want == len(ids)) {
				t.Errorf("got %d groups, %v; want %d", len(got), err, want)
			}
			for i, g := range got {
				if !cmp.Equal(g.Members, []string{ana, fmt.Sprintf("U0M%02d", i)}) {
					t.Errorf("group %d: got %+v", i, g)
				}
			}
			if got := len(w.slack.CallsOf("usergroups.list")); got != calls {
				t.Errorf("the groups were listed %d times; want %d", got, calls)
			}
			if _, detail := w.bot.Health(); strings.Count(detail, "group S0G") != len(ids)-want {
				t.Errorf("health says %q; want %d groups in it", detail, len(ids)-want)
			}
		}
		round(30, 1)
		w.slack.AddFault(slacktest.Fault{Method: "usergroups.list", Status: 429, RetryAfter: 30, Times: 1})
		round(0, 2)
		time.Sleep(20 * time.Second)
		round(0, 2) // Slack is left alone for as long as it said
		time.Sleep(10 * time.Second)
		round(30, 3)
	})
}

// A list without members says nothing of who is in a group.
func TestGroupWithoutItsMembers(t *testing.T) {
	t.Parallel()
	ws := bot.Open(bot.Settings{APIURL: "http://slack.test", HTTPClient: &http.Client{Transport: answering(func(*http.Request) *http.Response {
		w := httptest.NewRecorder()
		io.WriteString(w, `{"ok":true,"usergroups":[{"id":"S0ADMINS","date_delete":0},{"id":"S0EMPTY","date_delete":0,"users":[]}]}`)
		return w.Result()
	})}})
	got, err := ws.Groups(t.Context(), []string{"S0ADMINS", "S0EMPTY"})
	if err == nil || !strings.Contains(err.Error(), "does not say who is in the group") || len(got) != 1 || got[0].ID != "S0EMPTY" || got[0].Problem != "" {
		t.Errorf("got %+v, %v; want an error of the one and nobody in the other", got, err)
	}
}

// While Slack asks for fewer look-ups of people, none is made.
func TestLookUpsRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t, slacktest.Config{})
		w.slack.AddFault(slacktest.Fault{Method: "users.info", Status: 429, RetryAfter: 30, Times: 1})
		for range 100 {
			if _, _, err := w.ws.User(t.Context(), ana); err == nil || !strings.Contains(err.Error(), "ratelimited") {
				t.Fatalf("got %v; want that Slack asks for fewer calls", err)
			}
		}
		time.Sleep(30 * time.Second)
		if _, problem, err := w.ws.User(t.Context(), ana); err != nil || problem != "" {
			t.Errorf("half a minute later: got %q, %v; want an answer", problem, err)
		}
		if got := len(w.slack.CallsOf("users.info")); got != 2 {
			t.Errorf("users.info was called %d times; want 2", got)
		}
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slacktest.Config{})
	w.slack.SetChannel(slacktest.Channel{ID: "C0OUT", Name: "out"})
	w.slack.SetChannel(slacktest.Channel{ID: "C0OLD", Name: "old", IsArchived: true, Members: []string{w.slack.Config().BotUserID}})
	w.slack.SetChannel(slacktest.Channel{ID: "C0SHARED", Name: "shared", IsExtShared: true, Members: []string{w.slack.Config().BotUserID}})
	var got []string
	for _, f := range w.ws.Check(t.Context(), deploys, "C0OUT", "C0OLD", "C0SHARED", "C0NONE") {
		got = append(got, fmt.Sprintf("%s|%s|%s", f.Subject, f.Fault, f.Note))
	}
	want := []string{
		"slack token||workspace Rack (T0RACK)", "slack scopes||all that are needed", "slack channel C0DEPLOYS||#deploys",
		"slack channel C0OUT|the bot is not in #out: invite it there with /invite|",
		"slack channel C0OLD|#old is archived: unarchive it or set another one|",
		"slack channel C0SHARED|#shared is shared with another organisation, whose people could press the buttons: use a channel of this workspace alone|",
		"slack channel C0NONE|channel_not_found: C0NONE does not exist, or is private and the bot is not in it: check the id, or invite the bot there with /invite|",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.slack.SetScopes("chat:write", "commands")
	if f := w.ws.Check(t.Context())[1]; f.OK() || !strings.Contains(f.Fault, "users:read") || !strings.Contains(f.Fault, "re-install") {
		t.Errorf("got %+v; want the missing scopes and what to do", f)
	}
	w.slack.SetScopes("chat:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read")
	if f := w.ws.Check(t.Context())[1]; !f.OK() || f.Skipped || !strings.HasPrefix(f.Note, "all that are needed; without channels:history, groups:history") {
		t.Errorf("got %+v; want that the needed scopes are there", f)
	}
	w.slack.SetScopes()
	if f := w.ws.Check(t.Context())[1]; !f.OK() || !f.Skipped {
		t.Errorf("got %+v; want that the scopes were not checked", f)
	}
	w.slack.RefuseToken(w.slack.Config().BotToken, "token_revoked")
	if f := w.ws.Check(t.Context()); len(f) != 1 || f[0].OK() || strings.Contains(f[0].Fault, w.slack.Config().BotToken) {
		t.Errorf("got %+v; want the token's fault alone", f)
	}
}

func TestSettingsKeepSecrets(t *testing.T) {
	t.Parallel()
	s := bot.Settings{BotToken: "xoxb-secret", AppToken: "xapp-secret", SigningSecret: "secret"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, s); strings.Contains(got, "secret") {
			t.Errorf("%s shows %q", format, got)
		}
	}
}
