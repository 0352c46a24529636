package slacktest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func TestSubmissionAnswers(t *testing.T) {
	t.Parallel()
	view := `{"type":"modal","title":{"type":"plain_text","text":"Next"},"blocks":[]}`
	tests := []struct {
		name, answer, want string // want is a part of the error
		open               bool   // afterwards
	}{
		{"empty", ``, "", false},
		{"object", `{}`, "", false},
		{"clear", `{"response_action":"clear"}`, "", false},
		{"errors", `{"response_action":"errors","errors":{"totp":"wrong"}}`, "", true},
		{"errors on a section", `{"response_action":"errors","errors":{"facts":"wrong"}}`, "no input block", true},
		{"no errors", `{"response_action":"errors"}`, "no errors", true},
		{"update", `{"response_action":"update","view":` + view + `}`, "", true},
		{"push", `{"response_action":"push","view":` + view + `}`, "unknown response_action", true},
		{"bad view", `{"response_action":"update","view":{"type":"modal"}}`, "missing required field", true},
		{"no view", `{"response_action":"update"}`, "must provide an object", true},
		{"unknown", `{"response_action":"refresh"}`, "unknown response_action", true},
		{"text", `"ok"`, "no object", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, api := start(t, slacktest.Config{})
			opened, err := api.OpenViewContext(t.Context(), triggerOf(t, s), codeModal())
			if err != nil {
				t.Fatal(err)
			}
			d, local, err := s.PrepareSubmit(ana, opened.ID, code("123456"))
			if err != nil || len(local) > 0 {
				t.Fatalf("prepare: got %v, %v", local, err)
			}
			_, err = s.ApplySubmission(ana, opened.ID, d, json.RawMessage(test.answer))
			if (err == nil) != (test.want == "") || err != nil && !(errors.Is(err, slacktest.ErrTrouble) && strings.Contains(err.Error(), test.want)) {
				t.Errorf("got error %v; want %q", err, test.want)
			}
			if got := s.View(ana) != nil; got != test.open {
				t.Errorf("is a modal open: got %t; want %t", got, test.open)
			}
		})
	}
}

func TestSubmitNeedsTheOpenView(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	opened, err := api.OpenViewContext(t.Context(), triggerOf(t, s), codeModal())
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"other view":    submitError(t, s, "V0OTHER", code("123456")),
		"other input":   submitError(t, s, opened.ID, slacktest.Values{"reason": {"text": "x"}}),
		"nobody's view": func() error { _, err := s.Submit(t.Context(), bea, opened.ID, code("123456")); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func submitError(t *testing.T, s *slacktest.Server, view string, values slacktest.Values) error {
	t.Helper()
	_, err := s.Submit(t.Context(), ana, view, values)
	return err
}

func TestCloseView(t *testing.T) {
	t.Parallel()
	s, api := start(t, slacktest.Config{})
	if _, err := api.OpenViewContext(t.Context(), triggerOf(t, s), codeModal()); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseView(ana); err != nil || s.View(ana) != nil {
		t.Errorf("got %v, %v; want it closed", err, s.View(ana))
	}
	if err := s.CloseView(ana); err == nil {
		t.Error("nothing open: got no error")
	}
}

// TestAcksOfRawSockets: an answer of 20 KB is dropped, and with StrictAcks one on another socket too.
func TestAcksOfRawSockets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		strict bool
		other  bool // acknowledge on the other socket
		size   int
		want   error
	}{
		{"small", false, false, 100, nil},
		{"large", false, false, 20 << 10, slacktest.ErrTimeout},
		{"other socket", false, true, 100, nil},
		{"other socket, strict", true, true, 100, slacktest.ErrTimeout},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, api := start(t, slacktest.Config{StrictAcks: test.strict, AckBudget: 200 * time.Millisecond})
			frames := make(chan func(text string), 2)
			sockets := make([]*websocket.Conn, 2)
			for i := range sockets {
				_, url, err := api.StartSocketModeContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if sockets[i], _, err = websocket.DefaultDialer.DialContext(t.Context(), url, nil); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { sockets[i].Close() })
			}
			if err := s.WaitSockets(deadline(t), 2); err != nil {
				t.Fatal(err)
			}
			for i, conn := range sockets {
				go func() {
					var frame struct {
						Type       string
						EnvelopeID string `json:"envelope_id"`
					}
					for conn.ReadJSON(&frame) == nil {
						if frame.Type != "slash_commands" {
							continue
						}
						reply := conn
						if test.other {
							reply = sockets[1-i]
						}
						frames <- func(text string) {
							_ = reply.WriteJSON(map[string]any{"envelope_id": frame.EnvelopeID, "payload": map[string]string{"text": text}})
						}
						return
					}
				}()
			}
			go func() { (<-frames)(strings.Repeat("x", test.size)) }()
			reply, err := s.Slash(deadline(t), ana, deploys, "x")
			if !errors.Is(err, test.want) || err == nil && len(reply.Text) != test.size {
				t.Errorf("got %d characters, %v; want %v", len(reply.Text), err, test.want)
			}
		})
	}
}
