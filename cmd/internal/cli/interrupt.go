package cli

import (
	"context"
	"io"
)

// input reads until its context ends, also where a read waits for somebody to type.
type input struct {
	ctx   context.Context
	from  io.Reader
	asked chan []byte
	got   chan chunk
	err   error // how the reading ended
}

// chunk is what one read brought.
type chunk struct {
	n   int
	err error
}

// Interruptible makes every read of in end with ctx. A read that is given up may
// still take what is typed next, so nothing else must read from in afterwards.
func Interruptible(ctx context.Context, in io.Reader) io.Reader {
	if in == nil {
		return nil
	}
	return &input{ctx: ctx, from: in}
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	if i.err != nil {
		return 0, i.err
	}
	if i.asked == nil {
		i.asked, i.got = make(chan []byte), make(chan chunk, 1)
		go i.pump()
	}
	// The reader has memory of its own: p is the caller's again after a read that
	// was given up.
	own := make([]byte, min(len(p), 64<<10))
	select {
	case i.asked <- own:
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
	select {
	case c := <-i.got:
		i.err = c.err
		return copy(p, own[:c.n]), c.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}

// pump reads for [input.Read] until the context ends.
func (i *input) pump() {
	for {
		select {
		case p := <-i.asked:
			n, err := i.from.Read(p)
			i.got <- chunk{n, err}
			if err != nil {
				return
			}
		case <-i.ctx.Done():
			return
		}
	}
}
