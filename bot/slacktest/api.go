package slacktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// apiError is what Slack puts into an answer with ok:false, sent with HTTP 200.
type apiError struct {
	code     string
	messages []string
	needed   string
}

func refuse(code string, messages ...string) *apiError {
	return &apiError{code: code, messages: messages}
}

type answer map[string]any

// method is one Web API method. scope names what the token needs, given the arguments; run has the lock.
type method struct {
	appToken bool
	scope    func(s *Server, a args) string
	run      func(s *Server, a args) (answer, *apiError)
}

func needs(scope string) func(*Server, args) string {
	return func(*Server, args) string { return scope }
}

// methodTable returns the methods served; anything else is unknown_method.
func methodTable(name string) (method, bool) {
	switch name {
	case "auth.test":
		return method{run: (*Server).authTest}, true
	case "apps.connections.open":
		return method{appToken: true, run: (*Server).openConnection}, true
	case "chat.postMessage":
		return method{scope: needs("chat:write"), run: (*Server).postMessage}, true
	case "chat.update":
		return method{scope: needs("chat:write"), run: (*Server).updateMessage}, true
	case "chat.postEphemeral":
		return method{scope: needs("chat:write"), run: (*Server).postEphemeral}, true
	case "chat.getPermalink":
		return method{run: (*Server).getPermalink}, true
	case "conversations.info":
		return method{scope: byChannelKind("read"), run: (*Server).conversationInfo}, true
	case "conversations.replies":
		return method{scope: byChannelKind("history"), run: (*Server).conversationReplies}, true
	case "conversations.history":
		return method{scope: byChannelKind("history"), run: (*Server).conversationHistory}, true
	case "users.info":
		return method{scope: needs("users:read"), run: (*Server).userInfo}, true
	case "usergroups.list":
		return method{scope: needs("usergroups:read"), run: (*Server).userGroupList}, true
	case "views.open":
		return method{run: (*Server).openView}, true
	case "views.publish":
		return method{run: (*Server).publishView}, true
	}
	return method{}, false
}

func (s *Server) serveMethod(w http.ResponseWriter, r *http.Request, name string) {
	a, token, err := readArgs(r)
	call := Call{Method: name, Args: a.logged()}
	if err != nil {
		s.reply(w, call, nil, refuse(err.Error()))
		return
	}
	m, known := methodTable(name)
	if !known {
		s.reply(w, call, nil, refuse("unknown_method"))
		return
	}
	s.attempt(w, r, call, func() (answer, *apiError) {
		if refused := s.authorize(m, a, token); refused != nil {
			return nil, refused
		}
		return m.run(s, a)
	})
}

// attempt runs one effect with its faults, rate limits and hooks, and answers.
func (s *Server) attempt(w http.ResponseWriter, r *http.Request, call Call, effect func() (answer, *apiError)) {
	fault := s.takeFault(call)
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
		case <-s.done:
		}
	}
	switch {
	case fault.Drop == DropBefore:
		s.logCall(call, "dropped before the effect", 0)
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		s.logCall(call, fault.Error, fault.Status)
		http.Error(w, http.StatusText(fault.Status), fault.Status)
		return
	case fault.Error != "":
		s.reply(w, call, nil, refuse(fault.Error))
		return
	}
	if wait := s.limited(call); wait > 0 {
		s.logCall(call, "ratelimited", http.StatusTooManyRequests)
		w.Header().Set("Retry-After", strconv.Itoa(wait))
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"ok":false,"error":"ratelimited"}`)
		return
	}
	s.callHook(call.Method, Before)
	s.mu.Lock()
	result, refused := effect()
	s.notify()
	s.mu.Unlock()
	s.callHook(call.Method, After)
	s.mu.Lock()
	outage := s.outage
	s.mu.Unlock()
	if fault.Drop == DropAfter || outage {
		s.logCall(call, "dropped after the effect", 0)
		panic(http.ErrAbortHandler)
	}
	s.reply(w, call, result, refused)
}

func (s *Server) reply(w http.ResponseWriter, call Call, result answer, refused *apiError) {
	s.mu.Lock()
	provided := strings.Join(s.scopes, ",")
	s.mu.Unlock()
	out := answer{"ok": refused == nil}
	code := ""
	if refused == nil {
		maps.Copy(out, result)
	} else {
		code = refused.code
		out["error"] = code
		if len(refused.messages) > 0 {
			out["response_metadata"] = map[string]any{"messages": refused.messages}
			out["errors"] = refused.messages
		}
		if refused.needed != "" {
			out["needed"], out["provided"] = refused.needed, provided
		}
	}
	s.logCall(call, code, http.StatusOK)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-OAuth-Scopes", provided)
	json.NewEncoder(w).Encode(out)
}

// authorize refuses unknown, revoked and wrong tokens and missing scopes; the caller holds the lock.
func (s *Server) authorize(m method, a args, token string) *apiError {
	right, other := s.cfg.BotToken, s.cfg.AppToken
	if m.appToken {
		right, other = other, right
	}
	switch {
	case token == "":
		return refuse("not_authed")
	case s.refused[token] != "":
		return refuse(s.refused[token])
	case token == other:
		return refuse("not_allowed_token_type")
	case token != right:
		return refuse("invalid_auth")
	}
	if m.scope == nil {
		return nil
	}
	if scope := m.scope(s, a); !slices.Contains(s.scopes, scope) {
		return &apiError{code: "missing_scope", needed: scope}
	}
	return nil
}

func (s *Server) authTest(args) (answer, *apiError) {
	return answer{
		"url": s.workspaceURL(), "team": s.cfg.TeamName, "user": s.users[s.cfg.BotUserID].Name,
		"team_id": s.cfg.TeamID, "user_id": s.cfg.BotUserID, "bot_id": s.cfg.BotID, "is_enterprise_install": s.organisation,
	}, nil
}

func (s *Server) workspaceURL() string { return fmt.Sprintf("https://%s.slack.com/", s.cfg.TeamDomain) }

// args are the arguments of one call. Slack takes forms, queries and JSON bodies; values are kept as JSON.
type args map[string]json.RawMessage

const maxBody = 1 << 20

func readArgs(r *http.Request) (args, string, error) {
	a := args{}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return a, "", fmt.Errorf("request_timeout")
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	form := r.URL.Query()
	switch kind {
	case "application/json":
		if len(bytes.TrimSpace(body)) > 0 {
			if err := json.Unmarshal(body, &a); err != nil {
				return args{}, "", fmt.Errorf("invalid_json")
			}
		}
	case "application/x-www-form-urlencoded", "":
		posted, err := url.ParseQuery(string(body))
		if err != nil {
			return a, "", fmt.Errorf("invalid_form_data")
		}
		maps.Copy(form, posted)
	default:
		return a, "", fmt.Errorf("invalid_post_type")
	}
	if token == "" {
		token = form.Get("token")
	}
	form.Del("token")
	for name := range form {
		quoted, _ := json.Marshal(form.Get(name))
		a[name] = quoted
	}
	return a, token, nil
}

// text returns an argument as a string; JSON numbers and booleans come as written.
func (a args) text(name string) string {
	raw := a[name]
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	if string(raw) == "null" {
		return ""
	}
	return string(raw)
}

func (a args) has(name string) bool {
	raw, ok := a[name]
	return ok && string(raw) != "null" && string(raw) != `""`
}

func (a args) flag(name string) bool {
	yes, _ := strconv.ParseBool(a.text(name))
	return yes
}

func (a args) number(name string, otherwise int) int {
	if n, err := strconv.Atoi(a.text(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// raw returns a structured argument, which forms carry as a string of JSON.
func (a args) raw(name string) json.RawMessage {
	var text string
	if json.Unmarshal(a[name], &text) == nil {
		return json.RawMessage(text)
	}
	return a[name]
}

func (a args) logged() map[string]string {
	logged := make(map[string]string, len(a))
	for name := range a {
		logged[name] = a.text(name)
	}
	return logged
}
