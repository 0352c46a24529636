package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	between   = time.Minute // at least, from one fetch of a document to the next
	maxAnswer = 100 << 10   // bytes
)

// sparing fetches each document at most once a minute, whoever asks for it and
// whatever came of it, and no large one. Callers with made-up keys cannot make us
// call the issuer more often, and the keys that were read last are kept.
type sparing struct {
	next http.RoundTripper

	mu    sync.Mutex
	asked map[string]asked // by URL
}

// asked is the newest fetch of a document.
type asked struct {
	at  time.Time
	err error
}

// restingError says that a document is not fetched now.
type restingError struct {
	failed error         // what came of the newest fetch; nil = the document was read
	again  time.Duration // until it may be fetched next
}

func (e *restingError) Error() string {
	if e.failed != nil {
		return e.failed.Error()
	}
	return "it was read less than a minute ago"
}

// RoundTrip implements [http.RoundTripper].
func (s *sparing) RoundTrip(r *http.Request) (*http.Response, error) {
	url := r.URL.String()
	s.mu.Lock()
	last, now := s.asked[url], time.Now()
	if wait := last.at.Add(between).Sub(now); !last.at.IsZero() && wait > 0 {
		s.mu.Unlock()
		return nil, &restingError{last.err, wait}
	}
	s.asked[url] = asked{at: now, err: fmt.Errorf("%s is being read", url)}
	s.mu.Unlock()

	res, err := s.fetch(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[url] = asked{at: now, err: err}
	if err != nil {
		return nil, &restingError{err, between}
	}
	return res, nil
}

func (s *sparing) fetch(r *http.Request) (*http.Response, error) {
	res, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer was %s", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	// The status alone says little: a page of a proxy and an empty object come with 200,
	// too, and nobody may be refused for good because of them.
	var document struct {
		Issuer string            `json:"issuer"` // where the keys are
		Keys   []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &document) != nil || document.Issuer == "" && len(document.Keys) == 0 {
		return nil, errors.New("the answer neither holds keys nor says where they are")
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}
