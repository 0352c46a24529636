package slacktest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

// httpApp checks signatures with the real client library and answers by path.
func httpApp(t *testing.T, s *slacktest.Server, api *slack.Client) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("body: %v", err)
		}
		verifier, err := slack.NewSecretsVerifier(r.Header, s.Config().SigningSecret)
		if err == nil {
			_, _ = verifier.Write(body)
			err = verifier.Ensure()
		}
		if err != nil {
			http.Error(w, "bad signature", http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		switch r.URL.Path {
		case "/slack/interactions":
			callback, err := slack.InteractionCallbackParse(r)
			if err != nil {
				t.Errorf("interaction: %v", err)
			}
			if callback.Type == slack.InteractionTypeViewSubmission {
				if answer := judge(callback); answer != nil {
					_ = json.NewEncoder(w).Encode(answer)
				}
				return
			}
			if _, err := api.OpenViewContext(r.Context(), callback.TriggerID, codeModal()); err != nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		case "/slack/commands":
			command, err := slack.SlashCommandParse(r)
			if err != nil {
				t.Errorf("command: %v", err)
			}
			_, _ = io.WriteString(w, "plain "+command.Command+" "+command.Text)
		case "/slack/events":
			var event struct{ Challenge string }
			_ = json.Unmarshal(body, &event)
			_ = json.NewEncoder(w).Encode(event)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestHTTPRoundTrip(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	s.SetRequestURL(httpApp(t, s, api))
	ctx := deadline(t)
	card := post(t, api, deploys, slack.MsgOptionText("Deploy?", false), slack.MsgOptionBlocks(buttons()))
	click, err := s.Click(ctx, ana, deploys, card, "approve")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := s.Submit(ctx, ana, s.View(ana).ID, code("000000"))
	if err != nil || wrong.Errors["totp"] != "wrong code" {
		t.Errorf("wrong code: got %+v, %v", wrong, err)
	}
	right, err := s.Submit(ctx, ana, s.View(ana).ID, code("123456"))
	if err != nil || !right.Closed {
		t.Errorf("right code: got %+v, %v", right, err)
	}
	if reply, err := s.Slash(ctx, ana, deploys, "help"); err != nil || reply.Text != "plain /approvals help" {
		t.Errorf("slash: got %+v, %v", reply, err)
	}
	if err := errors.Join(s.VerifyRequestURL(ctx), s.OpenHome(ctx, ana)); err != nil {
		t.Error(err)
	}
	if _, err := s.Deliver(ctx, click.Delivery); !errors.Is(err, slacktest.ErrTrouble) {
		t.Errorf("the trigger of a duplicate: got %v; want ErrTrouble", err)
	}
	for age, want := range map[time.Duration]int{0: http.StatusInternalServerError, time.Minute: http.StatusInternalServerError, 6 * time.Minute: http.StatusUnauthorized} {
		r, err := s.SignedRequest(ctx, click.Delivery, time.Now().Add(-age))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("replay after %s: got %d; want %d", age, response.StatusCode, want)
		}
	}
}

// TestSign uses the worked example of Slack's page "Verifying requests from Slack".
func TestSign(t *testing.T) {
	t.Parallel()
	body := "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	got := slacktest.Sign("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", []byte(body))
	if want := "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}
