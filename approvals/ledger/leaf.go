package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxLeaf is the greatest length of a leaf in bytes. Events are a few hundred
// bytes; the limit bounds what a verifier has to hold.
const MaxLeaf = 16 << 10

// LeafHash returns the RFC 6962 hash of a leaf: SHA-256(0x00 ‖ leaf).
func LeafHash(leaf []byte) tlog.Hash {
	return tlog.RecordHash(leaf)
}

// header is what the ledger reads of a leaf.
type header struct {
	seq  int64
	prev tlog.Hash
}

// parseHeader reads "seq" and "prev" of a leaf and refuses every line that two
// readers could understand differently.
func parseHeader(leaf []byte) (header, error) {
	switch {
	case len(leaf) > MaxLeaf:
		return header{}, fmt.Errorf("longer than %d bytes", MaxLeaf)
	case bytes.IndexByte(leaf, '\n') >= 0:
		return header{}, errors.New("contains a newline")
	case !utf8.Valid(leaf):
		return header{}, errors.New("not valid UTF-8")
	case bytes.HasSuffix(leaf, []byte("\r")):
		return header{}, errors.New("ends in a carriage return")
	case len(leaf) == 0 || leaf[0] != '{':
		return header{}, errNotObject
	}

	var h header
	seen := make(map[string]bool, 16)
	dec := json.NewDecoder(bytes.NewReader(leaf))
	if _, err := dec.Token(); err != nil {
		return header{}, errNotObject
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return header{}, errNotObject
		}
		key, ok := token.(string)
		if !ok {
			return header{}, errNotObject
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return header{}, errNotObject
		}
		if seen[key] {
			return header{}, fmt.Errorf("member %q appears twice", key)
		}
		seen[key] = true
		switch {
		case key == "seq":
			if h.seq, err = parseCount(string(value)); err != nil {
				return header{}, errors.New(`"seq" is not a number counting from 0`)
			}
		case key == "prev":
			text := strings.Trim(string(value), `"`)
			if h.prev, err = parseHash(text); err != nil || len(value) != len(text)+2 {
				return header{}, errors.New(`"prev" is not the base64 of a hash`)
			}
		// Some readers match names without regard to case.
		case strings.EqualFold(key, "seq"), strings.EqualFold(key, "prev"):
			return header{}, fmt.Errorf("member %q looks like another", key)
		}
	}
	if _, err := dec.Token(); err != nil || dec.InputOffset() != int64(len(leaf)) {
		return header{}, errNotObject
	}
	if !seen["seq"] || !seen["prev"] {
		return header{}, errors.New(`"seq" or "prev" is missing`)
	}
	return h, nil
}

var errNotObject = errors.New("not one JSON object")

// parseCount reads a decimal number from 0 on that is written in the one
// canonical way.
func parseCount(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, errors.New("malformed number")
	}
	return n, nil
}

// parseHash is tlog.ParseHash without the spellings that Go's base64 tolerates
// (newlines inside, stray bits at the end).
func parseHash(text string) (tlog.Hash, error) {
	h, err := tlog.ParseHash(text)
	if err != nil || h.String() != text {
		return tlog.Hash{}, errors.New("malformed hash")
	}
	return h, nil
}
