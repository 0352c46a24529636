package slacktest

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	socketPath   = "/link/"
	maxSockets   = 10
	maxAck       = 20 << 10 // an answer of this size or more is dropped without a word
	ticketLife   = 30 * time.Second
	writeTimeout = 5 * time.Second
	warningTime  = 10 * time.Second // from a warning to the end
)

// Reasons of a disconnect frame.
const (
	Warning           = "warning"
	RefreshRequested  = "refresh_requested"
	LinkDisabled      = "link_disabled"
	TooManyWebsockets = "too_many_websockets"
)

// Ack is an acknowledgement as it arrived, for whatever envelope it names.
type Ack struct {
	EnvelopeID string
	Payload    json.RawMessage
	Known      bool // an envelope waited for it
}

type socket struct {
	conn  *websocket.Conn
	write sync.Mutex
}

type pendingAck struct {
	socket *socket
	answer chan json.RawMessage // buffered
}

func (s *Server) openConnection(args) (answer, *apiError) {
	ticket := s.nextID("ticket-")
	s.tickets[ticket] = s.cfg.Now().Add(ticketLife)
	base := "ws" + strings.TrimPrefix(s.baseURL, "http")
	return answer{"url": base + socketPath + "?ticket=" + ticket + "&app_id=" + s.cfg.AppID}, nil
}

func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	ticket := r.URL.Query().Get("ticket")
	s.mu.Lock()
	expires, ok := s.tickets[ticket]
	delete(s.tickets, ticket)
	s.mu.Unlock()
	if !ok || s.cfg.Now().After(expires) {
		http.Error(w, "the url is used or too old", http.StatusForbidden)
		return
	}
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	s.runSocket(&socket{conn: conn})
}

// runSocket greets, registers and reads one connection until it ends.
func (s *Server) runSocket(k *socket) {
	defer k.conn.Close()
	s.mu.Lock()
	if s.closed || s.outage {
		s.mu.Unlock()
		return
	}
	s.running.Add(1)
	defer s.running.Done()
	full := len(s.sockets) == maxSockets
	count, mute, disconnect := len(s.sockets)+1, s.mute, s.disconnectNew
	if full {
		count, disconnect = maxSockets, TooManyWebsockets
	}
	// The greeting comes first on the wire, so writers of envelopes wait behind it.
	k.write.Lock()
	if !full {
		s.sockets = append(s.sockets, k)
	}
	s.mu.Unlock()
	var err error
	if !mute {
		err = k.writeLocked(s.hello(count))
	}
	k.write.Unlock()
	defer s.forget(k)
	if err != nil {
		return
	}
	s.change(func() {}) // the socket is ready now
	if disconnect != "" {
		k.send(s.disconnectFrame(disconnect))
		return
	}
	stop := make(chan struct{})
	var pinging sync.WaitGroup
	defer pinging.Wait()
	defer close(stop)
	pinging.Go(func() { s.ping(k, stop) })
	for {
		_, frame, err := k.conn.ReadMessage()
		if err != nil {
			return
		}
		s.acknowledge(k, frame)
	}
}

func (s *Server) hello(count int) answer {
	return answer{
		"type": "hello", "num_connections": count, "connection_info": answer{"app_id": s.cfg.AppID},
		"debug_info": answer{"host": "simulated", "build_number": 1, "approximate_connection_time": 18060},
	}
}

func (s *Server) disconnectFrame(reason string) answer {
	return answer{"type": "disconnect", "reason": reason, "debug_info": answer{"host": "simulated"}}
}

func (s *Server) ping(k *socket, stop <-chan struct{}) {
	ticker := time.NewTicker(s.cfg.PingInterval)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		mute := s.mute
		s.mu.Unlock()
		if !mute {
			deadline := time.Now().Add(writeTimeout)
			err := k.conn.WriteControl(websocket.PingMessage, []byte("ping"), deadline)
			var timeout net.Error
			if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-stop:
			return
		case <-s.done:
			return
		}
	}
}

func (s *Server) acknowledge(k *socket, frame []byte) {
	var ack struct {
		EnvelopeID string          `json:"envelope_id"`
		Payload    json.RawMessage `json:"payload"`
	}
	if len(frame) >= maxAck || json.Unmarshal(frame, &ack) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return
	}
	waiting := s.pending[ack.EnvelopeID]
	if waiting != nil && s.cfg.StrictAcks && waiting.socket != k {
		waiting = nil
	}
	s.acks = append(s.acks, Ack{EnvelopeID: ack.EnvelopeID, Payload: ack.Payload, Known: waiting != nil})
	if waiting != nil {
		delete(s.pending, ack.EnvelopeID)
		waiting.answer <- ack.Payload
	}
	s.notify()
}

func (s *Server) forget(k *socket) {
	s.change(func() {
		s.sockets = slices.DeleteFunc(s.sockets, func(other *socket) bool { return other == k })
	})
}

// send writes one frame.
func (k *socket) send(frame any) error {
	k.write.Lock()
	defer k.write.Unlock()
	return k.writeLocked(frame)
}

func (k *socket) writeLocked(frame any) error {
	if err := k.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return k.conn.WriteJSON(frame)
}

// Sockets returns how many connections are open.
func (s *Server) Sockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

// Acks returns every acknowledgement that came over a socket, oldest first.
func (s *Server) Acks() []Ack {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.acks)
}

// Disconnect sends every socket a disconnect frame and closes it: after a warning 10 s later, else at once.
func (s *Server) Disconnect(reason string) {
	for _, k := range s.openSockets() {
		k.send(s.disconnectFrame(reason))
		if reason == Warning {
			time.AfterFunc(warningTime, k.hangUp)
		} else {
			k.hangUp()
		}
	}
}

// SendFrame sends every socket these bytes, whatever they are.
func (s *Server) SendFrame(raw string) {
	for _, k := range s.openSockets() {
		k.write.Lock()
		k.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		k.conn.WriteMessage(websocket.TextMessage, []byte(raw))
		k.write.Unlock()
	}
}

// DisconnectNew greets every new socket and disconnects it at once for this reason; "" ends it.
func (s *Server) DisconnectNew(reason string) {
	s.change(func() { s.disconnectNew = reason })
}

// MuteSockets makes sockets deaf and dumb: they stay open and are accepted, but there is no greeting, no ping and no
// frame, and acknowledgements are lost.
func (s *Server) MuteSockets(on bool) {
	s.change(func() { s.mute = on })
}

// CloseSockets cuts every socket without a farewell.
func (s *Server) CloseSockets() {
	for _, k := range s.openSockets() {
		k.conn.Close()
	}
}

func (s *Server) openSockets() []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sockets)
}

// hangUp ends a connection after what was written to it, so that the last frame is read before the end.
func (k *socket) hangUp() {
	deadline := time.Now().Add(writeTimeout)
	k.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
	k.conn.SetReadDeadline(time.Now().Add(writeTimeout))
}

// pickSocket takes the next socket in turn: a payload goes to any one of them. The caller holds the lock.
func (s *Server) pickSocket() *socket {
	if len(s.sockets) == 0 {
		return nil
	}
	s.nextSocket++
	return s.sockets[s.nextSocket%len(s.sockets)]
}
