package ledger

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
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
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		return Checkpoint{}, ErrVerifierKey
	}
	if len(text) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: longer than %d bytes", ErrCheckpoint, maxCheckpoint)
	}
	n, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: want three lines of text", ErrCheckpoint)
	}
	if lines[0] != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("%w: the origin is not the name of the key", ErrCheckpoint)
	}
	size, err := parseCount(lines[1])
	if err != nil || size > maxSize {
		return Checkpoint{}, fmt.Errorf("%w: malformed size", ErrCheckpoint)
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: malformed root hash", ErrCheckpoint)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}
