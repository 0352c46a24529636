package slacktest

import (
	"encoding/json"
	"net/http"
	"time"
)

const (
	responsePath = "/response/"
	responseUses = 5
	responseLife = 30 * time.Minute
)

// responseURL is bound to the interaction that made it. A message it wrote is the original of the next replace.
type responseURL struct {
	channel, user string
	original      string // time stamp of the message of the click
	ephemeral     string // time stamp of the ephemeral to replace
	uses          int
	expires       time.Time
}

// newResponseURL makes one; the caller holds the lock.
func (s *Server) newResponseURL(channel, user, original string) string {
	id := s.nextID("r")
	s.responses[id] = &responseURL{channel: channel, user: user, original: original, expires: s.cfg.Now().Add(responseLife)}
	return s.baseURL + responsePath + id
}

func (s *Server) serveResponseURL(w http.ResponseWriter, r *http.Request, id string) {
	a, _, err := readArgs(r)
	call := Call{Method: "response_url", Args: a.logged()}
	if err != nil {
		s.reply(w, call, nil, refuse(err.Error()))
		return
	}
	s.mu.Lock()
	u, ok := s.responses[id]
	code := ""
	switch {
	case !ok || s.cfg.Now().After(u.expires):
		code = "expired_url"
	case u.uses == responseUses:
		code = "used_url"
	}
	s.mu.Unlock()
	if code != "" {
		s.logCall(call, code, http.StatusNotFound)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		json.NewEncoder(w).Encode(answer{"ok": false, "error": code})
		return
	}
	s.attempt(w, r, call, func() (answer, *apiError) { return nil, s.respond(u, a) })
}

// respond applies what came through a response URL; the caller holds the lock.
func (s *Server) respond(u *responseURL, a args) *apiError {
	if u.uses == responseUses {
		return refuse("used_url")
	}
	c := s.channels[u.channel]
	if a.flag("delete_original") {
		u.uses++
		if c != nil && u.ephemeral == "" {
			c.remove(u.original)
		}
		s.replaceEphemeral(u, nil)
		return nil
	}
	delete(a, "metadata")
	if list := a.raw("blocks"); string(list) == "[]" || string(list) == "{}" {
		delete(a, "blocks")
	}
	text, blocks, _, refused := s.content(a, 0)
	if refused != nil {
		return refused
	}
	u.uses++
	m := Message{Text: text, Blocks: blocks, ThreadTS: a.text("thread_ts")}
	if a.flag("replace_original") {
		if u.ephemeral != "" {
			s.replaceEphemeral(u, &m)
			return nil
		}
		if c != nil {
			if old := c.find(u.original); old != nil && old.BotID == s.cfg.BotID {
				next := *old
				next.Text, next.Blocks = text, blocks
				c.replace(next)
				return nil
			}
		}
	}
	if a.text("response_type") == "in_channel" && c != nil {
		m.User, m.BotID = s.cfg.BotUserID, s.cfg.BotID
		s.add(c, &m)
		return nil
	}
	u.ephemeral = s.whisper(u.channel, u.user, m).TS
	return nil
}

// replaceEphemeral rewrites, or with nil removes, the ephemeral that this URL wrote.
func (s *Server) replaceEphemeral(u *responseURL, next *Message) {
	var list []Message
	for _, old := range s.ephemerals[u.user] {
		if old.TS == u.ephemeral {
			if next == nil {
				continue
			}
			old.Text, old.Blocks = next.Text, next.Blocks
			old.Revision++
		}
		list = append(list, old)
	}
	s.ephemerals[u.user] = list
}
