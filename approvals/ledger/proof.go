package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrProof says that a proof does not prove what it was given for.
var ErrProof = errors.New("proof does not hold")

// ProveInclusion proves that leaf seq is among the first size leaves (RFC 6962
// section 2.1.1).
func ProveInclusion(s Storage, seq, size int64) (tlog.RecordProof, error) {
	if err := checkSize(s, size); err != nil {
		return nil, err
	}
	proof, err := tlog.ProveRecord(size, seq, s)
	if err != nil {
		return nil, fmt.Errorf("prove leaf %d at size %d: %w", seq, size, err)
	}
	return proof, nil
}

// CheckInclusion checks a proof that leaf is leaf number seq of the log at c.
func CheckInclusion(proof tlog.RecordProof, c Checkpoint, seq int64, leaf []byte) error {
	if err := tlog.CheckRecord(proof, c.Size, c.Root, seq, LeafHash(leaf)); err != nil {
		return fmt.Errorf("%w: leaf %d at size %d", ErrProof, seq, c.Size)
	}
	return nil
}
