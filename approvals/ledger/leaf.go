package ledger

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxLeaf is the greatest length of a leaf in bytes. Events are a few hundred
// bytes; the limit bounds what a verifier has to hold.
const MaxLeaf = 16 << 10

// header is what the ledger reads of a leaf.
type header struct {
	seq             int64
	prev            tlog.Hash
	hasSeq, hasPrev bool
}

var errNotObject = errors.New("not one JSON object")

// decoders are reused because making one takes as long as reading a leaf with it.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// parseHeader reads the members "seq" and "prev" of a leaf. It refuses every
// line that two readers could understand differently. The decoder refuses
// malformed JSON, invalid UTF-8 and members that appear twice in one object, at
// any depth. This package refuses text around the object, other spellings of the
// two values, and members whose names differ from "seq" and "prev" in case only.
func parseHeader(leaf []byte) (h header, err error) {
	switch {
	case len(leaf) > MaxLeaf:
		return h, fmt.Errorf("longer than %d bytes", MaxLeaf)
	case bytes.IndexByte(leaf, '\n') >= 0:
		return h, errors.New("contains a newline")
	case len(leaf) == 0 || leaf[0] != '{':
		return h, errNotObject
	}
	dec := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(leaf))
	if _, err := dec.ReadToken(); err != nil {
		return h, syntaxError(err)
	}
	var name []byte
	for dec.PeekKind() != '}' {
		value, err := dec.ReadValue()
		if err == nil {
			name, err = jsontext.AppendUnquote(name[:0], value)
		}
		if err == nil {
			value, err = dec.ReadValue()
		}
		if err != nil {
			return h, syntaxError(err)
		}
		if err := h.set(name, value); err != nil {
			return h, err
		}
	}
	if _, err := dec.ReadToken(); err != nil || dec.InputOffset() != int64(len(leaf)) {
		return h, errNotObject
	}
	if !h.hasSeq || !h.hasPrev {
		return h, errors.New(`"seq" or "prev" is missing`)
	}
	return h, nil
}

// set takes in one member of the leaf.
func (h *header) set(name []byte, value jsontext.Value) (err error) {
	switch {
	case string(name) == "seq":
		h.hasSeq = true
		if h.seq, err = parseCount(string(value)); err != nil {
			return errors.New(`"seq" is not a number counting from 0`)
		}
	case string(name) == "prev":
		h.hasPrev = true
		// A base64 text has no character that JSON would escape.
		text, isText := bytes.CutPrefix(bytes.TrimSuffix(value, []byte(`"`)), []byte(`"`))
		if h.prev, err = parseHash(string(text)); err != nil || !isText {
			return errors.New(`"prev" is not the base64 of a hash`)
		}
	// Some readers match names without regard to case.
	case bytes.EqualFold(name, []byte("seq")), bytes.EqualFold(name, []byte("prev")):
		return fmt.Errorf("member %q looks like another", name)
	}
	return nil
}

// syntaxError leaves out the text that the decoder's errors quote.
func syntaxError(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return errors.New("a member appears twice")
	}
	return errNotObject
}

// parseCount reads a decimal number from 0 on that is written in the one
// canonical way.
func parseCount(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > 1 && text[0] == '0' {
		return 0, errors.New("malformed number")
	}
	return int64(n), nil
}

// parseHash is tlog.ParseHash without the spellings that Go's base64 tolerates:
// newlines inside and stray bits at the end.
func parseHash(text string) (h tlog.Hash, err error) {
	decoded, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(decoded) != len(h) || len(text) != base64.StdEncoding.EncodedLen(len(h)) {
		return h, errors.New("malformed hash")
	}
	return tlog.Hash(decoded), nil
}
