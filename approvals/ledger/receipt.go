package ledger

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"golang.org/x/mod/sumdb/tlog"
)

// maxReceipt holds a leaf whose every byte is escaped, a checkpoint and a
// proof.
const maxReceipt = 8*MaxLeaf + 2*maxCheckpoint

// Receipt proves to whoever holds the verifier key that one leaf is in the
// log. It stands alone: nobody has to be asked to check it.
type Receipt struct {
	Leaf       string           `json:"leaf"`       // the leaf, byte for byte
	Seq        int64            `json:"seq"`        // its number
	Proof      tlog.RecordProof `json:"proof"`      // hashes in base64, from the leaf up
	Checkpoint string           `json:"checkpoint"` // the signed note
}

// NewReceipt builds the receipt for leaf number seq under a signed checkpoint
// of this log, and verifies it before handing it out.
func NewReceipt(s Storage, seq int64, leaf, checkpoint []byte, vkey string) (Receipt, error) {
	c, err := ParseCheckpoint(checkpoint, vkey)
	if err != nil {
		return Receipt{}, err
	}
	if err := checkSize(s, c.Size); err != nil {
		return Receipt{}, err
	}
	proof, err := tlog.ProveRecord(c.Size, seq, s) // RFC 6962 section 2.1.1
	if err != nil {
		return Receipt{}, fmt.Errorf("prove leaf %d at size %d: %w", seq, c.Size, err)
	}
	r := Receipt{Leaf: string(leaf), Seq: seq, Proof: proof, Checkpoint: string(checkpoint)}
	if err := r.Verify(vkey); err != nil {
		return Receipt{}, err
	}
	return r, nil
}

// ParseReceipt reads a receipt from JSON. It does not verify it: see
// Receipt.Verify. Members that it does not know, members that appear twice, names
// in another case, invalid UTF-8 and a second value are refused.
func ParseReceipt(data []byte) (Receipt, error) {
	if len(data) > maxReceipt {
		return Receipt{}, fmt.Errorf("receipt is longer than %d bytes", maxReceipt)
	}
	var r Receipt
	if err := json.Unmarshal(data, &r, json.RejectUnknownMembers(true)); err != nil {
		return Receipt{}, fmt.Errorf("read receipt: %w", err)
	}
	return r, nil
}

// Verify checks the checkpoint's signature, that the leaf carries its number,
// and the proof. What the leaf says is for the caller to judge.
func (r Receipt) Verify(vkey string) error {
	c, err := ParseCheckpoint([]byte(r.Checkpoint), vkey)
	if err != nil {
		return err
	}
	h, err := parseHeader([]byte(r.Leaf))
	if err != nil {
		return fmt.Errorf("receipt: leaf: %w", err)
	}
	if h.seq != r.Seq {
		return fmt.Errorf("receipt: leaf says it is number %d, not %d", h.seq, r.Seq)
	}
	if tlog.CheckRecord(r.Proof, c.Size, c.Root, r.Seq, tlog.RecordHash([]byte(r.Leaf))) != nil {
		return fmt.Errorf("receipt: proof does not hold: leaf %d at size %d", r.Seq, c.Size)
	}
	return nil
}
