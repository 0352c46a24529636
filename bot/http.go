package bot

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/slack-go/slack"
)

const (
	bodyLimit = 1 << 20
	// httpAckTime is when an answer that has not come is given up: Slack waits 3 s.
	httpAckTime = 2900 * time.Millisecond
)

// Handler serves Slack's signed requests: POST /slack/interactions,
// /slack/commands and /slack/events. For HTTP mode only: while Socket Mode is
// on, Slack sends nothing here.
func (b *Bot) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /slack/interactions", b.signed(b.serveInteraction))
	mux.Handle("POST /slack/commands", b.signed(b.serveCommand))
	mux.Handle("POST /slack/events", b.signed(b.serveEvent))
	return mux
}

// signed reads the body, whole and bounded, checks the signature over its raw
// bytes, and only then lets it be parsed. Who is refused learns nothing.
// Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
func (b *Bot) signed(next func(w http.ResponseWriter, r *http.Request, body []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
		if err != nil {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
				return
			}
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		if !signatureHolds(r.Header, b.ws.settings.SigningSecret, body) {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next(w, r, body)
	})
}

// signatureHolds compares in constant time and allows five minutes either way.
// Without a secret nothing holds.
func signatureHolds(h http.Header, secret string, body []byte) bool {
	v, err := slack.NewSecretsVerifier(h, secret)
	if err != nil {
		return false
	}
	if _, err := v.Write(body); err != nil {
		return false
	}
	return v.Ensure() == nil
}

func (b *Bot) serveInteraction(w http.ResponseWriter, r *http.Request, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("payload") == "" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	b.await(w, r, func(answer ack) { b.interact([]byte(form.Get("payload")), answer) })
}

func (b *Bot) serveCommand(w http.ResponseWriter, r *http.Request, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	c := command{
		Team: form.Get("team_id"), App: form.Get("api_app_id"), User: form.Get("user_id"), Channel: form.Get("channel_id"),
		Text: form.Get("text"), ResponseURL: form.Get("response_url"),
	}
	b.await(w, r, func(answer ack) { b.commanded(c, answer) })
}

func (b *Bot) serveEvent(w http.ResponseWriter, r *http.Request, body []byte) {
	var e struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	if e.Type == "url_verification" {
		writeJSON(w, map[string]string{"challenge": e.Challenge})
		return
	}
	if !b.happened(body) {
		w.Header().Set("Retry-After", "60") // Slack sends it again
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// await writes what the handler answers, in time or not at all.
func (b *Bot) await(w http.ResponseWriter, r *http.Request, handle func(ack)) {
	answers := make(chan any, 1)
	handle(once(func(payload any) { answers <- payload }))
	late := time.NewTimer(httpAckTime)
	defer late.Stop()
	select {
	case payload := <-answers:
		if payload != nil {
			writeJSON(w, payload)
			return
		}
		w.WriteHeader(http.StatusOK)
	case <-late.C:
		// The person sees that it failed, and presses again.
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case <-r.Context().Done():
	}
}

func writeJSON(w http.ResponseWriter, payload any) {
	raw, err := json.Marshal(payload)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(raw)
}
