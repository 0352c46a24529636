package bot

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// httpAckTime is when an answer that has not come is given up: Slack waits 3 s.
const httpAckTime = 2900 * time.Millisecond

// Handler serves Slack's signed requests: POST /slack/interactions,
// /slack/commands and /slack/events. For HTTP mode only: while Socket Mode is
// on, Slack sends nothing here.
func (b *Bot) Handler() http.Handler {
	in := receiver{
		secret: b.ws.settings.SigningSecret, bodies: &bodies{most: bodiesLimit}, refusals: newRefusals(b.log, b.health),
	}
	mux := http.NewServeMux()
	mux.Handle("POST /slack/interactions", in.signed(b.serveInteraction))
	mux.Handle("POST /slack/commands", in.signed(b.serveCommand))
	mux.Handle("POST /slack/events", in.signed(b.serveEvent))
	return mux
}

// receiver takes in requests and lets only Slack's own through.
type receiver struct {
	secret   string
	bodies   *bodies
	refusals *refusals
}

// signed reads the body, whole and bounded, checks the signature over its raw
// bytes, and only then lets it be parsed. What cannot be Slack's whatever the body
// is has none of it read. Who is refused learns nothing.
// Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
func (in receiver) signed(next func(w http.ResponseWriter, r *http.Request, body []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > bodyLimit {
			refuseUnread(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		if why := implausible(r.Header); why != "" {
			in.refusals.refused(why)
			refuseUnread(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		body, err := in.bodies.read(w, r)
		switch {
		case errors.Is(err, errTooLarge):
			refuseUnread(w, "too large", http.StatusRequestEntityTooLarge)
			return
		case err != nil:
			refuseUnread(w, "bad request", http.StatusBadRequest)
			return
		}
		if !signatureHolds(r.Header, in.secret, body) {
			in.refusals.mismatched()
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		in.refusals.fits()
		next(w, r, body)
	})
}

// refuseUnread answers and ends the connection, because the server would otherwise
// wait for the rest of the body.
func refuseUnread(w http.ResponseWriter, text string, status int) {
	w.Header().Set("Connection", "close")
	http.Error(w, text, status)
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
