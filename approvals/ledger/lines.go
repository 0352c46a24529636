package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// errLine marks what is wrong with a line, as opposed to the reader.
var errLine = errors.New("malformed line")

// lineReader splits an export into leaves. Every line ends in a newline, the
// last one too: without it the export was cut.
type lineReader struct {
	in *bufio.Reader
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(r, MaxLeaf+1)}
}

// next returns the next line without its newline, valid until the next call,
// or io.EOF after the last one.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.in.ReadSlice('\n')
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
