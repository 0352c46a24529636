package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

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
