package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

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
