package slacktest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// What a person sees when the app does not answer well.
var (
	// ErrTimeout: no acknowledgement within the budget.
	ErrTimeout = errors.New("operation timed out")
	// ErrNoConnection: Socket Mode, and no socket is open. People see the same as for ErrTimeout.
	ErrNoConnection = errors.New("operation timed out: the app has no connection")
	// ErrTrouble: the answer was an error, unreadable, or not allowed.
	ErrTrouble = errors.New("we had some trouble connecting")
)

// Kinds of delivery.
const (
	Interactive   = "interactive"
	SlashCommands = "slash_commands"
	EventsAPI     = "events_api"
)

// Delivery is one payload for the app. Delivering it again is a duplicate: same trigger, same response URL.
type Delivery struct {
	Kind    string
	Payload json.RawMessage
	// EnvelopeID is sent over a socket; "" stands for a new one.
	EnvelopeID string

	// What the payload names, for use by the test.
	TriggerID, ResponseURL, EventID string
}

// Deliver sends a payload over the app's transport and returns the payload of the acknowledgement, which may be nil.
// Hooks see it as the method "deliver " and the kind, with After once the acknowledgement is there or given up.
func (s *Server) Deliver(ctx context.Context, d Delivery) (json.RawMessage, error) {
	s.callHook("deliver "+d.Kind, Before)
	defer s.callHook("deliver "+d.Kind, After)
	s.mu.Lock()
	base, outage := s.requestURL, s.outage
	s.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.AckBudget, ErrTimeout)
	defer cancel()
	if outage {
		return nil, ErrNoConnection
	}
	if base == "" {
		return s.deliverSocket(ctx, d)
	}
	r, err := s.SignedRequest(ctx, d, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return s.deliverHTTP(ctx, r)
}

func (s *Server) deliverSocket(ctx context.Context, d Delivery) (json.RawMessage, error) {
	s.mu.Lock()
	k := s.pickSocket()
	if k == nil {
		s.mu.Unlock()
		return nil, ErrNoConnection
	}
	id := d.EnvelopeID
	if id == "" {
		id = s.nextID("envelope-")
	}
	waiting := &pendingAck{socket: k, answer: make(chan json.RawMessage, 1)}
	s.pending[id] = waiting
	mute := s.mute
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.pending, id)
		s.mu.Unlock()
	}()
	envelope := answer{
		"envelope_id": id, "type": d.Kind, "payload": d.Payload, "accepts_response_payload": d.Kind != EventsAPI,
	}
	if d.Kind == EventsAPI {
		envelope["retry_attempt"], envelope["retry_reason"] = 0, ""
	}
	if !mute {
		// A failed write is what a half-open socket does to Slack: nobody answers.
		_ = k.send(envelope)
	}
	select {
	case payload := <-waiting.answer:
		return payload, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.done:
		return nil, ErrNoConnection
	}
}

// SignedRequest builds the HTTP request that carries a payload, signed for this time. The same values can be sent
// again for a replay, or with an old time.
func (s *Server) SignedRequest(ctx context.Context, d Delivery, at time.Time) (*http.Request, error) {
	var path, kind string
	var body []byte
	switch d.Kind {
	case Interactive:
		path, kind = "/slack/interactions", "application/x-www-form-urlencoded"
		body = []byte(url.Values{"payload": {string(d.Payload)}}.Encode())
	case SlashCommands:
		path, kind = "/slack/commands", "application/x-www-form-urlencoded"
		var fields map[string]string
		if err := json.Unmarshal(d.Payload, &fields); err != nil {
			return nil, fmt.Errorf("slash command fields: %w", err)
		}
		form := url.Values{}
		for name, value := range fields {
			form.Set(name, value)
		}
		body = []byte(form.Encode())
	case EventsAPI:
		path, kind = "/slack/events", "application/json"
		body = d.Payload
	default:
		return nil, fmt.Errorf("unknown kind of delivery %q", d.Kind)
	}
	s.mu.Lock()
	base := s.requestURL
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("build request: %w", err)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)")
	r.Header.Set("X-Slack-Request-Timestamp", stamp)
	r.Header.Set("X-Slack-Signature", Sign(s.cfg.SigningSecret, stamp, body))
	return r, nil
}

// Sign computes Slack's request signature.
// Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
func Sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + timestamp + ":"))
	mac.Write(body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// deliverHTTP sends a request as Slack does: any status but 200 and any unreadable body is trouble for the person.
func (s *Server) deliverHTTP(ctx context.Context, r *http.Request) (json.RawMessage, error) {
	response, err := s.delivery.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrTrouble, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrTrouble, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: http status %d", ErrTrouble, response.StatusCode)
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, nil
	}
	if !json.Valid(body) {
		quoted, _ := json.Marshal(string(body)) // a plain text answer, which slash commands may give
		return quoted, nil
	}
	return body, nil
}

// VerifyRequestURL does the handshake with which Slack accepts an events URL.
func (s *Server) VerifyRequestURL(ctx context.Context) error {
	payload := encode(answer{"type": "url_verification", "token": "legacy", "challenge": "challenge-7"})
	raw, err := s.Deliver(ctx, Delivery{Kind: EventsAPI, Payload: payload})
	if err != nil {
		return fmt.Errorf("verify request url: %w", err)
	}
	var got struct{ Challenge string }
	var text string
	if json.Unmarshal(raw, &text) == nil {
		got.Challenge = text
	} else if err := json.Unmarshal(raw, &got); err != nil {
		return fmt.Errorf("verify request url: %w", err)
	}
	if got.Challenge != "challenge-7" {
		return errors.New("verify request url: the challenge did not come back")
	}
	return nil
}

// Undecodable makes a click whose message holds an element that no client library
// knows.
func (s *Server) Undecodable(user, channel string) Delivery {
	return Delivery{Kind: Interactive, Payload: encode(answer{
		"type": "block_actions", "user": answer{"id": user}, "team": answer{"id": s.cfg.TeamID},
		"channel": answer{"id": channel},
		"message": answer{"blocks": []any{answer{"type": "actions", "elements": []any{answer{"type": "not_invented_yet"}}}}},
	})}
}

// encode marshals values of our own making, which always can be.
func encode(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("simulated slack: marshal: %v", err))
	}
	return raw
}
