package ledger

import (
	"bufio"
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

// TamperError says that lines are not the log that was signed.
//
// Seq is the number, counting from 0, of the first line that breaks the chain:
// it is missing, it is no leaf, it has another number, or it does not name the
// leaf before it. For one leaf that was changed, removed, added or moved, this is
// that leaf or the next one, whose number or "prev" shows the change. Verify names
// a changed leaf itself if at least two leaves follow it or a checkpoint ends
// with it. Leaves that fit each other but not a signed root were rewritten: Seq is
// then the last leaf under that root, and Why says that earlier ones may be bad too.
type TamperError struct {
	Seq int64  // first bad sequence number
	Why string // what does not fit; at most the name of a JSON member is quoted from the line
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
	signed := []Checkpoint{newest}
	if opts.Since != nil {
		since, err := ParseCheckpoint(opts.Since, opts.Key)
		if err != nil {
			return Report{}, fmt.Errorf("older checkpoint: %w", err)
		}
		if since.Size == newest.Size && since.Size > 0 && since.Root != newest.Root {
			return Report{}, &TamperError{Seq: since.Size - 1, Why: "the two checkpoints of this size differ: two histories were signed"}
		}
		signed = append(signed, since)
	}
	log, err := readExport(bufio.NewReaderSize(r, MaxLeaf+1), signed)
	if err != nil {
		return Report{}, err
	}
	return Report{
		Checkpoint:  newest,
		Size:        log.Size(),
		NotAnchored: log.Size() - newest.Size,
		Root:        log.Root(),
	}, nil
}

// readExport reads all lines and compares the root with every signed one on the
// way.
func readExport(lines *bufio.Reader, signed []Checkpoint) (log Reader, err error) {
	for {
		if err := meet(signed, &log); err != nil {
			return log, err
		}
		line, err := nextLine(lines)
		switch {
		case err == io.EOF:
			return log, checkEnd(signed, log.Size())
		case errors.Is(err, errLine):
			return log, &TamperError{Seq: log.Size(), Why: err.Error()}
		case err != nil:
			return log, fmt.Errorf("read export: %w", err)
		}
		seq := log.Size()
		hash, err := log.check(line)
		switch {
		// If the next leaf names this one, then it was the one before that changed.
		case err == errUnlinked && !isSigned(signed, seq) && names(lines, seq+1, hash):
			return log, &TamperError{Seq: seq - 1, Why: fmt.Sprintf("leaf %d recorded another hash for it", seq)}
		case err != nil:
			return log, &TamperError{Seq: seq, Why: err.Error()}
		}
		log.add(hash)
	}
}

// errLine marks what is wrong with a line, as opposed to the reader.
var errLine = errors.New("malformed line")

// nextLine returns the next leaf of an export without its newline, valid until the next
// call, or io.EOF after the last one. Every line ends in a newline, the last one too:
// without it the export was cut. in holds at least MaxLeaf+1 bytes.
func nextLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("%w: longer than %d bytes", errLine, MaxLeaf)
	case err == io.EOF && len(line) > 0:
		return nil, fmt.Errorf("%w: cut before its end", errLine)
	}
	return nil, err
}

// meet compares the root with the checkpoints of the size that was reached.
func meet(signed []Checkpoint, log *Reader) error {
	for _, c := range signed {
		switch {
		case c.Size != log.Size() || c.Root == log.Root():
		case c.Size == 0:
			return fmt.Errorf("%w: the root of no leaves is another", ErrCheckpoint)
		default:
			return &TamperError{
				Seq: c.Size - 1,
				Why: fmt.Sprintf("the leaves up to %d do not have the signed root: this one, or an earlier one and all after it, was rewritten", c.Size-1),
			}
		}
	}
	return nil
}

// isSigned reports whether a checkpoint covers exactly the first size leaves,
// so that meet has found them good.
func isSigned(signed []Checkpoint, size int64) bool {
	return slices.ContainsFunc(signed, func(c Checkpoint) bool { return c.Size == size })
}

// names reports whether the next line is leaf number seq and names prev as the
// leaf before it.
func names(lines *bufio.Reader, seq int64, prev tlog.Hash) bool {
	line, err := nextLine(lines)
	if err != nil {
		return false
	}
	h, err := parseHeader(line)
	return err == nil && h.seq == seq && h.prev == prev
}

// checkEnd is called when the export is over.
func checkEnd(signed []Checkpoint, size int64) error {
	for _, c := range signed {
		if c.Size > size {
			return &TamperError{Seq: size, Why: fmt.Sprintf("missing: the export ends here, %d leaves were signed", c.Size)}
		}
	}
	return nil
}
