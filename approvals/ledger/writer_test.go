package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
	"golang.org/x/mod/sumdb/tlog"
)

// counting counts the calls of a storage and keeps the hashes last written.
type counting struct {
	*ledgertest.Memory
	sizes, reads int
	written      []tlog.Hash
}

func (c *counting) Size() (int64, error) {
	c.sizes++
	return c.Memory.Size()
}

func (c *counting) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	c.reads++
	return c.Memory.ReadHashes(indexes)
}

func (c *counting) Append(leaf []byte, hashes []tlog.Hash) error {
	c.written = slices.Clone(hashes)
	return c.Memory.Append(leaf, hashes)
}

func build(seq int64, prev tlog.Hash) ([]byte, error) {
	return leafText(seq, prev, "built"), nil
}

// One writer that appends everything, a new writer for each leaf, and tlog's
// own functions come to the same hashes and roots.
func TestWriterStoresWhatTlogWants(t *testing.T) {
	const n = 600
	s := &counting{Memory: &ledgertest.Memory{}}
	long, err := ledger.NewWriter(s)
	if err != nil {
		t.Fatal(err)
	}
	var reader ledger.Reader
	for i := range int64(n + 1) {
		w := long
		if i%3 == 0 { // from the store instead of from memory
			*s = counting{Memory: s.Memory}
			if w, err = ledger.NewWriter(s); err != nil {
				t.Fatal(err)
			}
			if s.sizes != 1 || s.reads > 1 {
				t.Fatalf("size %d: a new writer calls Size %d times, ReadHashes %d times; want once", i, s.sizes, s.reads)
			}
			long = w
		}
		root, err := ledger.Root(s.Memory, i)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := ledger.NewWriter(s.Memory)
		if err != nil {
			t.Fatal(err)
		}
		if size, got := fresh.Head(); size != i || got != root {
			t.Fatalf("head from the store: got %d, %v; want %d, %v", size, got, i, root)
		}
		if size, got := w.Head(); size != i || got != root {
			t.Fatalf("head: got %d, %v; want %d, %v", size, got, i, root)
		}
		if reader.Size() != i || reader.Root() != root {
			t.Fatalf("size %d: the reader has another root than the log", i)
		}

		*s = counting{Memory: s.Memory}
		leaf := leafText(i, reader.Last(), "built")
		want, err := tlog.StoredHashes(i, leaf, s.Memory)
		if err != nil {
			t.Fatal(err)
		}
		if seq, err := w.Append(build); seq != i || err != nil {
			t.Fatalf("append: got %d, %v; want %d", seq, err, i)
		}
		if !slices.Equal(s.written, want) {
			t.Fatalf("leaf %d: got hashes %v; want %v", i, s.written, want)
		}
		if s.sizes != 0 || s.reads != 0 {
			t.Fatalf("leaf %d: append reads the store", i)
		}
		if err := reader.Next(leaf); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriterStandsStillAfterAnError(t *testing.T) {
	disk, boom := errors.New("disk"), errors.New("boom")
	s := failing{Memory: newLog(t, 7)}
	w, err := ledger.NewWriter(&s)
	if err != nil {
		t.Fatal(err)
	}
	size, root := w.Head()
	s.write = disk
	if _, err := w.Append(build); !errors.Is(err, disk) {
		t.Errorf("got %v; want the error of the store", err)
	}
	s.write = nil
	if _, err := w.Append(func(int64, tlog.Hash) ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v; want the error of build", err)
	}
	if _, err := w.Append(keep([]byte(`{}`))); err == nil {
		t.Error("a leaf without seq and prev was appended")
	}
	if gotSize, got := w.Head(); gotSize != size || got != root {
		t.Errorf("after errors the head is %d, %v; want %d, %v", gotSize, got, size, root)
	}
	if seq, err := w.Append(build); seq != 7 || err != nil {
		t.Fatalf("got %d, %v; want 7", seq, err)
	}
	gotSize, got := w.Head()
	if want, err := ledger.Root(s, 8); gotSize != 8 || err != nil || got != want {
		t.Errorf("got head %d, %v; want 8, %v (%v)", gotSize, got, want, err)
	}
}

func TestReaderCatchesUp(t *testing.T) {
	m := newLog(t, 5)
	var r ledger.Reader
	for seq := range int64(5) {
		if err := r.Next(m.Leaf(seq)); err != nil {
			t.Fatal(err)
		}
	}
	before := r.Clone()
	for i := range 4 { // another process appends
		add(t, m, fmt.Sprintf("later %d", i))
	}
	for name, line := range map[string][]byte{
		"the leaf before":      m.Leaf(4),
		"a leaf too far":       m.Leaf(6),
		"another leaf's prev":  leafText(5, tlog.Hash{1}, "later 0"),
		"no leaf":              []byte("{}"),
		"a leaf and a newline": append(m.Leaf(5), '\n'),
		"nothing":              nil,
	} {
		var tampered *ledger.TamperError
		if err := r.Next(line); !errors.As(err, &tampered) || tampered.Seq != 5 {
			t.Errorf("%s: got %v; want a TamperError for 5", name, err)
		}
	}
	for seq := r.Size(); seq < 9; seq++ {
		if err := r.Next(m.Leaf(seq)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := ledger.Root(m, 9)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != 9 || r.Root() != want || r.Last() != tlog.RecordHash(m.Leaf(8)) {
		t.Errorf("got %d leaves, root %v, last %v; want 9 with root %v", r.Size(), r.Root(), r.Last(), want)
	}
	if want, err := ledger.Root(m, 5); err != nil || before.Size() != 5 || before.Root() != want || before.Last() != tlog.RecordHash(m.Leaf(4)) {
		t.Errorf("the clone moved along: %d leaves, root %v; want 5, %v (%v)", before.Size(), before.Root(), want, err)
	}
}

// Two readers that go on from one do not disturb each other.
func TestReaderClone(t *testing.T) {
	for size := range int64(40) {
		m := newLog(t, size)
		var r ledger.Reader
		for seq := range size {
			if err := r.Next(m.Leaf(seq)); err != nil {
				t.Fatal(err)
			}
		}
		root, last := r.Root(), r.Last()
		other := r.Clone()
		for range 9 {
			if err := other.Next(leafText(other.Size(), other.Last(), "other")); err != nil {
				t.Fatal(err)
			}
		}
		if r.Size() != size || r.Root() != root || r.Last() != last {
			t.Fatalf("a reader of %d leaves changed with its clone", size)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	const n = 1000
	var all [][]byte
	var m ledgertest.Memory
	for range n {
		addEvent(b, &m)
	}
	all = lines(m.Export())
	b.SetBytes(int64(len(all[n-1])))
	b.ReportAllocs()
	var r ledger.Reader
	for b.Loop() {
		if r.Size() == n {
			r = ledger.Reader{}
		}
		if err := r.Next(all[r.Size()]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	var m ledgertest.Memory
	w, err := ledger.NewWriter(&m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Append(build); err != nil {
			b.Fatal(err)
		}
	}
}
