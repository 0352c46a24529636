package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const keyBytes = 32 // AES-256

var keyIDs = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// KeyRing holds the keys that secrets are sealed with: the first seals, all
// open. It prints, logs and marshals as REDACTED.
type KeyRing struct {
	plain.Redacted
	// Behind a pointer, so that fmt cannot print it where it cannot call methods.
	keys *[]sealKey
}

type sealKey struct {
	id    string
	aead  cipher.AEAD
	check []byte // tells this key from others without revealing it
}

// ParseKeys reads "kid:base64[,kid:base64…]" with keys of 32 bytes. Errors name
// the place and never repeat a value.
func ParseKeys(text string) (*KeyRing, error) {
	var keys []sealKey
	for i, part := range strings.Split(strings.TrimSpace(text), ",") {
		id, encoded, found := strings.Cut(strings.TrimSpace(part), ":")
		if !found {
			return nil, fmt.Errorf("key %d: must be written as kid:base64", i+1)
		}
		if !keyIDs.MatchString(id) {
			return nil, fmt.Errorf("key %d: the id must be 1 to 32 letters, digits, dots, dashes or underscores", i+1)
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(raw) != keyBytes || strings.ContainsAny(encoded, "\r\n") {
			return nil, fmt.Errorf("key %d: must be the base64 of %d bytes behind its id", i+1, keyBytes)
		}
		key, err := newSealKey(id, raw)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if slices.ContainsFunc(keys, func(other sealKey) bool { return other.id == id }) {
			return nil, fmt.Errorf("key %d: its id is taken by another key of the ring", i+1)
		}
		keys = append(keys, key)
	}
	return &KeyRing{keys: &keys}, nil
}

// NewKey draws a key and returns it as [ParseKeys] reads it.
func NewKey(id string) (string, error) {
	if !keyIDs.MatchString(id) {
		return "", errors.New("the key id must be 1 to 32 letters, digits, dots, dashes or underscores")
	}
	raw := make([]byte, keyBytes)
	rand.Read(raw)
	return id + ":" + base64.StdEncoding.EncodeToString(raw), nil
}

func newSealKey(id string, raw []byte) (sealKey, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return sealKey{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealKey{}, err
	}
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte("rack-gateway key check value 1\x00" + id))
	return sealKey{id: id, aead: aead, check: mac.Sum(nil)}, nil
}

// IDs lists the ids of the keys, the one that seals first.
func (k KeyRing) IDs() []string {
	var ids []string
	for _, key := range k.all() {
		ids = append(ids, key.id)
	}
	return ids
}

func (k KeyRing) all() []sealKey {
	if k.keys == nil {
		return nil
	}
	return *k.keys
}

func (k KeyRing) find(id string) (sealKey, bool) {
	for _, key := range k.all() {
		if key.id == id {
			return key, true
		}
	}
	return sealKey{}, false
}
