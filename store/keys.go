package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
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

func (k KeyRing) find(id string) (key sealKey, found bool) {
	i := slices.Index(k.IDs(), id)
	if i < 0 {
		return sealKey{}, false
	}
	return k.all()[i], true
}

// sealVersion is the first byte of every sealed blob:
//
//	version ‖ length of the key id ‖ key id ‖ nonce ‖ ciphertext and tag
const sealVersion = 1

// Seal encrypts with the first key: AES-256-GCM with a random nonce, good for
// 2³² seals per key. What is sealed opens only for the same purpose, subject and
// version, so that a row put in another's place does not open.
func (k KeyRing) Seal(purpose, subject string, version int64, plaintext []byte) ([]byte, error) {
	keys := k.all()
	if len(keys) == 0 {
		return nil, errors.New("seal: the key ring is empty")
	}
	key := keys[0]
	blob := append([]byte{sealVersion, byte(len(key.id))}, key.id...)
	return key.aead.Seal(blob, nil, plaintext, binding(purpose, subject, version)), nil
}

// Open decrypts what [KeyRing.Seal] made with any key of the ring;
// [approvals.ErrSeal].
func (k KeyRing) Open(purpose, subject string, version int64, blob []byte) ([]byte, error) {
	id, body, err := splitSeal(blob)
	if err != nil {
		return nil, err
	}
	key, found := k.find(id)
	if !found {
		return nil, fmt.Errorf("%w: its key is not in the key ring", approvals.ErrSeal)
	}
	plaintext, err := key.aead.Open(nil, nil, body, binding(purpose, subject, version))
	if err != nil {
		return nil, approvals.ErrSeal
	}
	return plaintext, nil
}

func splitSeal(blob []byte) (keyID string, body []byte, err error) {
	if len(blob) < 2 || blob[0] != sealVersion || len(blob) < 2+int(blob[1]) {
		return "", nil, fmt.Errorf("%w: it is no sealed value", approvals.ErrSeal)
	}
	n := 2 + int(blob[1])
	return string(blob[2:n]), blob[n:], nil
}

// binding is the additional data. The lengths keep the parts apart.
func binding(purpose, subject string, version int64) []byte {
	var b []byte
	for _, part := range []string{purpose, subject} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(version))
}
