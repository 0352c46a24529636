package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"

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
	return Report{Checkpoint: newest, Size: log.size, NotAnchored: log.size - newest.Size, Root: log.Root()}, nil
}

// readExport reads all lines and compares the root with every signed one on the
// way.
func readExport(lines *bufio.Reader, signed []Checkpoint) (log Reader, err error) {
	for {
		met, err := meet(signed, &log)
		if err != nil {
			return log, err
		}
		line, err := nextLine(lines, log.size)
		if err == io.EOF {
			for _, c := range signed {
				if c.Size > log.size {
					return log, &TamperError{Seq: log.size, Why: fmt.Sprintf("missing: the export ends here, %d leaves were signed", c.Size)}
				}
			}
			return log, nil
		}
		if err != nil {
			return log, err
		}
		hash, err := log.check(line)
		switch {
		// If the next leaf names this one, then it was the one before that changed.
		case err == errUnlinked && !met && names(lines, log.size+1, hash):
			return log, &TamperError{Seq: log.size - 1, Why: fmt.Sprintf("leaf %d recorded another hash for it", log.size)}
		case err != nil:
			return log, &TamperError{Seq: log.size, Why: err.Error()}
		}
		log.add(hash)
	}
}

// nextLine returns leaf number seq of an export without its newline, valid until the next
// call, or io.EOF after the last one. Every line ends in a newline, the last one too:
// without it the export was cut. in holds at least MaxLeaf+1 bytes.
func nextLine(in *bufio.Reader, seq int64) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, &TamperError{Seq: seq, Why: fmt.Sprintf("malformed line: longer than %d bytes", MaxLeaf)}
	case err == io.EOF && len(line) > 0:
		return nil, &TamperError{Seq: seq, Why: "malformed line: cut before its end"}
	case err == io.EOF:
		return nil, err
	}
	return nil, fmt.Errorf("read export: %w", err)
}

// meet compares the root with the checkpoints of the size that was reached; met: there
// is one, so the leaves up to here are good.
func meet(signed []Checkpoint, log *Reader) (met bool, err error) {
	for _, c := range signed {
		switch {
		case c.Size != log.size:
		case c.Root == log.Root():
			met = true
		case c.Size == 0:
			return false, fmt.Errorf("%w: the root of no leaves is another", ErrCheckpoint)
		default:
			return false, &TamperError{
				Seq: c.Size - 1,
				Why: fmt.Sprintf("the leaves up to %d do not have the signed root: this one, or an earlier one and all after it, was rewritten", c.Size-1),
			}
		}
	}
	return met, nil
}

// names reports whether the next line is leaf number seq and names prev as the
// leaf before it.
func names(lines *bufio.Reader, seq int64, prev tlog.Hash) bool {
	line, err := nextLine(lines, seq)
	if err != nil {
		return false
	}
	h, err := parseHeader(line)
	return err == nil && h.seq == seq && h.prev == prev
}
