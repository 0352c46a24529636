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

// ProveConsistency proves that the first older leaves are a prefix of the
// first newer ones (RFC 6962 section 2.1.2).
func ProveConsistency(s Storage, older, newer int64) (tlog.TreeProof, error) {
	if err := checkSize(s, newer); err != nil {
		return nil, err
	}
	if older < 0 || older > newer {
		return nil, fmt.Errorf("prove consistency: size %d is not before %d", older, newer)
	}
	if older == 0 { // the empty log is a prefix of every log
		return tlog.TreeProof{}, nil
	}
	proof, err := tlog.ProveTree(newer, older, s)
	if err != nil {
		return nil, fmt.Errorf("prove consistency of sizes %d and %d: %w", older, newer, err)
	}
	return proof, nil
}

// CheckConsistency checks a proof that the log at older is a prefix of the log
// at newer.
func CheckConsistency(proof tlog.TreeProof, older, newer Checkpoint) error {
	if older.Origin != newer.Origin {
		return fmt.Errorf("%w: the checkpoints are of different logs", ErrProof)
	}
	var ok bool
	if older.Size == 0 {
		ok = len(proof) == 0 && older.Root == new(Edge).Root() && (newer.Size > 0 || newer.Root == older.Root)
	} else {
		ok = tlog.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root) == nil
	}
	if !ok {
		return fmt.Errorf("%w: sizes %d and %d", ErrProof, older.Size, newer.Size)
	}
	return nil
}
