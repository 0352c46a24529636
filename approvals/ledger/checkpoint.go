package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

const (
	// maxSize bounds signed sizes: beyond 2⁶² tlog would loop for ever.
	maxSize = 1 << 48
	// maxCheckpoint leaves room for the 100 signatures that a note may have.
	maxCheckpoint = 64 << 10
)

var (
	// ErrVerifierKey says that a verifier key cannot be read.
	ErrVerifierKey = errors.New("malformed verifier key")
	// ErrCheckpoint says that a text is not a checkpoint of the log that the
	// verifier key belongs to.
	ErrCheckpoint = errors.New("not a checkpoint signed by this log")
)

// Checkpoint is the head of a log at one size.
type Checkpoint struct {
	Origin string    // the log's name; a recovered log has a new one
	Size   int64     // number of leaves
	Root   tlog.Hash // RFC 6962 root of these leaves; prints in base64
}

// ParseCheckpoint reads a signed checkpoint and verifies its signature with
// vkey. The origin must be the name in vkey, so that a key stands for exactly
// one log. Signatures of others, such as witnesses, are ignored; extension
// lines are refused, for our logs write none and no monitor could audit them.
// Errors are ErrVerifierKey or ErrCheckpoint with the reason.
func ParseCheckpoint(text []byte, vkey string) (Checkpoint, error) {
	refused := func(why string) (Checkpoint, error) { return Checkpoint{}, fmt.Errorf("%w: %s", ErrCheckpoint, why) }
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return Checkpoint{}, ErrVerifierKey
	}
	if len(text) > maxCheckpoint {
		return refused(fmt.Sprintf("longer than %d bytes", maxCheckpoint))
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return refused("want three lines of text")
	}
	size, malformed := parseCount(lines[1])
	root, err := parseHash(lines[2])
	switch {
	case lines[0] != verifier.Name():
		return refused("the origin is not the name of the key")
	case malformed != nil || size > maxSize:
		return refused("malformed size")
	case err != nil:
		return refused("malformed root hash")
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// GenerateSigner draws an Ed25519 key for the log called origin, for instance
// "example.com/rack-gateway". It returns the secret key, which the caller
// seals, and the public verifier key, both in the text form of
// https://c2sp.org/signed-note. The origin has no space and no plus sign.
func GenerateSigner(origin string) (skey, vkey string, err error) {
	skey, vkey, err = note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", "", fmt.Errorf("generate log key: %w", err)
	}
	if _, err := NewSigner(skey); err != nil {
		return "", "", fmt.Errorf("log origin %q: want a name without spaces and plus signs", origin)
	}
	return skey, vkey, nil
}

// Signer signs checkpoints of one log. It prints, logs and marshals without
// its key.
type Signer struct {
	plain.Redacted
	note note.Signer
	vkey string
}

// NewSigner reads a secret key made by GenerateSigner. The error does not
// repeat it.
func NewSigner(skey string) (*Signer, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, errors.New("malformed log signing key")
	}
	// note.Signer does not show its public key: take it from the seed. The
	// text has been checked above: PRIVATE+KEY+name+hash+base64(1 ‖ seed).
	fields := strings.SplitN(skey, "+", 5)
	key, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil {
		return nil, errors.New("malformed log signing key")
	}
	public := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, fmt.Errorf("log verifier key: %w", err)
	}
	return &Signer{note: signer, vkey: vkey}, nil
}

// Origin returns the name of the log.
func (s *Signer) Origin() string { return s.note.Name() }

// VerifierKey returns the public key that ParseCheckpoint takes.
func (s *Signer) VerifierKey() string { return s.vkey }

// Checkpoint signs the tree head of size leaves with the given root. Only
// committed sizes may be signed, and never two heads that are inconsistent
// with each other.
func (s *Signer) Checkpoint(size int64, root tlog.Hash) ([]byte, error) {
	if size < 0 || size > maxSize {
		return nil, fmt.Errorf("sign checkpoint: size %d is out of range", size)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Origin(), size, root)
	signed, err := note.Sign(&note.Note{Text: text}, s.note)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}
