package bot

import (
	"container/list"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// bodyLimit is how large one body may be.
	bodyLimit = 1 << 20
	// bodiesLimit is how much memory all bodies may take that are being read. One of
	// Slack has some KiB.
	bodiesLimit = 8 << 20
	// bodyTime is how long a body may take. Slack itself gives up after 3 s.
	bodyTime = 3 * time.Second
	// restTime is how long the rest of a call may take after its body was read.
	restTime = 10 * time.Second
)

var errTooLarge = errors.New("the body is too large")

// bodies bounds the memory of bodies whose sender is not known before they have
// been read. When there is not enough left, the body that has been under way for
// the longest time is given up: one that stalls never keeps out one that comes.
type bodies struct {
	most int64

	mu    sync.Mutex
	taken int64
	under list.List // of *body, the one that began first in front
}

// body is one that is being read.
type body struct {
	size int64
	cut  func() // ends its reading
}

// read returns the whole body of a call.
func (b *bodies) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	size := r.ContentLength
	if size < 0 {
		size = bodyLimit // it is not known: as much as it may be
	}
	if size > bodyLimit {
		return nil, errTooLarge
	}
	control := http.NewResponseController(w)
	// A connection that knows no deadlines needs none moved.
	_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	end := b.begin(size, func() { _ = control.SetReadDeadline(time.Now()) })
	content, err := readAll(w, r)
	end()
	_ = control.SetReadDeadline(time.Now().Add(restTime))
	return content, err
}

func readAll(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength >= 0 {
		content := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, content)
		return content, err
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, errTooLarge
	}
	return content, err
}

// begin makes room for a body; the caller calls end when it has been read.
func (b *bodies) begin(size int64, cut func()) (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.taken+size > b.most && b.under.Len() > 0 {
		first := b.under.Front()
		b.remove(first)
		first.Value.(*body).cut()
	}
	b.taken += size
	mine := b.under.PushBack(&body{size: size, cut: cut})
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.remove(mine)
	}
}

// remove takes a body out of the books, once. The caller holds the lock.
func (b *bodies) remove(e *list.Element) {
	one := e.Value.(*body)
	b.taken -= one.size
	one.size = 0
	b.under.Remove(e)
}
