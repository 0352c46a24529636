package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	between   = time.Minute     // at least, from one reading of the keys to the next
	fetch     = 5 * time.Second // how long a reading may take
	maxAnswer = 100 << 10       // bytes
)

// keySet holds the keys of an issuer. It reads them at most once a minute, whoever asks and whatever came of it. Callers
// with made-up keys cannot make us call the issuer more often, and the keys that were read last are kept.
type keySet struct {
	issuer string
	client *http.Client

	url string // where the keys are, empty until the issuer said; only a reading uses it, one at a time

	mu     sync.Mutex
	known  []jose.JSONWebKey
	newest *reading
}

// reading is one reading of the keys.
type reading struct {
	begun time.Time
	done  chan struct{} // closed when keys and err are known
	keys  []jose.JSONWebKey
	err   error
}

// wait returns the keys that were read.
func (r *reading) wait(ctx context.Context) ([]jose.JSONWebKey, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.done:
		return r.keys, r.err
	}
}

// again is how long it takes until the keys may be read next.
func (r *reading) again() time.Duration { return time.Until(r.begun.Add(between)) }

func (k *keySet) last() []jose.JSONWebKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known
}

// read returns the newest reading, and whether this call began it. It goes on when its first caller is gone.
func (k *keySet) read() (r *reading, begun bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.newest != nil && k.newest.again() > 0 {
		return k.newest, false
	}
	r = &reading{begun: time.Now(), done: make(chan struct{})}
	k.newest = r
	go func() {
		defer close(r.done)
		ctx, cancel := context.WithTimeout(context.Background(), fetch)
		defer cancel()
		if r.keys, r.err = k.fetch(ctx); r.err == nil {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.known = r.keys
		}
	}()
	return r, true
}

// fetch reads the keys. The first time it asks where they are.
func (k *keySet) fetch(ctx context.Context) (keys []jose.JSONWebKey, err error) {
	if k.url == "" {
		var provider struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := k.get(ctx, k.issuer+"/.well-known/openid-configuration", &provider); err != nil {
			return nil, err
		}
		if provider.Issuer != k.issuer {
			return nil, fmt.Errorf("%s says that it is another issuer", k.issuer)
		}
		k.url = provider.Keys
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, k.url, &set); err != nil {
		return nil, err
	}
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(text, &key) == nil { // a key of a kind that the library does not know signs no token of ours
			keys = append(keys, key)
		}
	}
	// The status alone says little: an empty object comes with 200, too, and nobody may be refused for good because of it.
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no keys", k.url)
	}
	return keys, nil
}

// get reads one document, and no large one.
func (k *keySet) get(ctx context.Context, url string, document any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := k.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(body) > maxAnswer || json.Unmarshal(body, document) != nil {
		return fmt.Errorf("the answer of %s is not the JSON document that it should be, or larger than %d bytes", url, maxAnswer)
	}
	return nil
}
