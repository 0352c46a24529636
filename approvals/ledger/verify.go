package ledger

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// VerifyOptions says what an export is checked against.
type VerifyOptions struct {
	Checkpoint []byte // signed checkpoint that goes with the export
	Key        string // verifier key of the log
	Since      []byte // another checkpoint, kept from earlier; nil for none
}

// Report describes an intact export.
type Report struct {
	Checkpoint  Checkpoint
	Size        int64     // leaves in the export
	NotAnchored int64     // leaves after the checkpoint: chained, but not signed yet
	Root        tlog.Hash // root of all leaves in the export
}

// TamperError says that an export is not the log that was signed.
//
// Seq is exact for one changed, missing, added or displaced leaf. Where two
// neighbours contradict each other and nothing signed or later tells which is
// right, it is the earlier one. Where the leaves fit each other but not the
// signed root, it is the last leaf under that root, and Why names the range.
type TamperError struct {
	Seq int64  // first bad sequence number
	Why string // what does not fit; at most the name of a JSON member is quoted from the export
}

func (e *TamperError) Error() string {
	return fmt.Sprintf("log is not intact: first bad sequence number %d: %s", e.Seq, e.Why)
}

// Verify checks an export, one leaf per line from the first leaf on, offline
// and in constant memory: every line is a leaf with the next number and the
// hash of the leaf before, and the signed roots of both checkpoints are those
// of the first leaves.
//
// It returns a *TamperError when the export is not intact, ErrCheckpoint or
// ErrVerifierKey when there is nothing to check it against, and the reader's
// error when it cannot be read. Leaves cut from behind the newest checkpoint
// leave no trace.
func Verify(r io.Reader, opts VerifyOptions) (Report, error) {
	newest, err := ParseCheckpoint(opts.Checkpoint, opts.Key)
	if err != nil {
		return Report{}, err
	}
	v := verifier{lines: newLineReader(r), signed: []Checkpoint{newest}}
	if opts.Since != nil {
		since, err := ParseCheckpoint(opts.Since, opts.Key)
		if err != nil {
			return Report{}, fmt.Errorf("older checkpoint: %w", err)
		}
		if since.Size == newest.Size && since.Size > 0 && since.Root != newest.Root {
			return Report{}, &TamperError{Seq: since.Size - 1, Why: "the two checkpoints of this size differ: two histories were signed"}
		}
		v.signed = append(v.signed, since)
	}
	if err := v.run(); err != nil {
		return Report{}, err
	}
	return Report{
		Checkpoint:  newest,
		Size:        v.tree.Size(),
		NotAnchored: v.tree.Size() - newest.Size,
		Root:        v.tree.Root(),
	}, nil
}

// verifier reads an export leaf by leaf. tree.size is the number of the leaf
// that comes next.
type verifier struct {
	lines     *lineReader
	signed    []Checkpoint // heads to meet on the way
	tree      Edge         // over the leaves so far
	last      header       // of the leaf before
	lastHash  tlog.Hash    // of the leaf before; zero at the start
	confirmed int64        // leaves below are those that were signed
	broken    *TamperError // a root that did not match
}

func (v *verifier) run() error {
	if err := v.meetSigned(); err != nil {
		return err
	}
	for {
		line, err := v.lines.next()
		if err == io.EOF {
			return v.end()
		}
		if err != nil && !errors.Is(err, errLine) {
			return fmt.Errorf("read export: %w", err)
		}
		var h header
		if err == nil {
			h, err = parseHeader(line)
		}
		if err != nil {
			return v.first(v.tree.Size(), "line %d: %v", v.tree.Size()+1, err)
		}
		if err := v.check(h, line); err != nil {
			return err
		}
		// The next leaf confirms the one before it and yet the root was
		// wrong: more than that one leaf was rewritten.
		if v.broken != nil {
			return v.broken
		}
		v.last, v.lastHash = h, LeafHash(line)
		v.tree.Add(v.lastHash)
		if err := v.meetSigned(); err != nil {
			return err
		}
	}
}

// check compares what a leaf says about its place with its place.
func (v *verifier) check(h header, line []byte) error {
	seq := v.tree.Size()
	switch {
	case h.seq > seq:
		return v.first(seq, "missing: leaf %d stands in its place", h.seq)
	case h.seq < seq && h.seq == seq-1 && h.prev == v.last.prev && LeafHash(line) != v.lastHash:
		return v.first(seq-1, "there are two different leaves with this number")
	case h.seq < seq:
		return v.first(seq, "leaf %d stands in its place", h.seq)
	case h.prev == v.lastHash:
		return nil
	case seq == 0:
		return v.first(0, "it names a leaf before it: the beginning is missing")
	case v.confirmed >= seq || v.inPlaceOfAnother(h, line):
		return v.first(seq, "it does not name the leaf before it")
	default:
		return v.first(seq-1, "leaf %d recorded another hash for it", seq)
	}
}

// inPlaceOfAnother decides which of two neighbours that do not fit was
// changed: it reports whether the line itself is the bad one, because the leaf
// after it (or the signed root, if it covers no more) fits the leaf before it
// better than the line does.
func (v *verifier) inPlaceOfAnother(h header, line []byte) bool {
	repaired := slices.Clone(line)
	copy(repaired[h.prevOffset:], v.lastHash.String())
	onlyPrev := LeafHash(repaired)
	for _, c := range v.signed {
		if c.Size == h.seq+1 && v.tree.with(onlyPrev) == c.Root {
			return true
		}
	}
	line, err := v.lines.next()
	if err != nil {
		return false
	}
	next, err := parseHeader(line)
	if err != nil {
		return false
	}
	inserted := next.seq == h.seq && next.prev == v.lastHash
	changed := next.seq == h.seq+1 && next.prev == onlyPrev
	return inserted || changed
}

// meetSigned compares the root with the checkpoints of the size reached.
func (v *verifier) meetSigned() error {
	for _, c := range v.signed {
		switch {
		case c.Size != v.tree.Size():
		case v.tree.Root() == c.Root:
			v.confirmed = c.Size
		case c.Size == 0:
			return fmt.Errorf("%w: the root of no leaves is another", ErrCheckpoint)
		default:
			v.broken = &TamperError{
				Seq: c.Size - 1,
				Why: fmt.Sprintf("the leaves %d to %d do not have the signed root: this one or an earlier one and all after it were rewritten", v.confirmed, c.Size-1),
			}
		}
	}
	return nil
}

// end is called when the export is over.
func (v *verifier) end() error {
	if v.broken != nil {
		return v.broken
	}
	for _, c := range v.signed {
		if c.Size > v.tree.Size() {
			return v.first(v.tree.Size(), "missing: the export ends here, %d leaves were signed", c.Size)
		}
	}
	return nil
}

// first returns the fault found at seq, unless a root that did not match has
// already shown that an earlier leaf is bad.
func (v *verifier) first(seq int64, format string, args ...any) error {
	if v.broken != nil && v.broken.Seq < seq {
		return v.broken
	}
	return &TamperError{Seq: seq, Why: fmt.Sprintf(format, args...)}
}

// with returns the root that one more leaf would give.
func (e Edge) with(leaf tlog.Hash) tlog.Hash {
	next := e.Clone()
	next.Add(leaf)
	return next.Root()
}
