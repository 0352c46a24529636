package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
	"golang.org/x/mod/sumdb/tlog"
)

func TestRootIsRFC6962(t *testing.T) {
	const n = 70
	m := newLog(t, n)
	all := lines(m.Export())
	for size := range int64(n + 1) {
		got, err := ledger.Root(m, size)
		if err != nil {
			t.Fatal(err)
		}
		if want := tlog.Hash(treeRoot(all[:size])); got != want {
			t.Errorf("root at %d: got %v; want %v", size, got, want)
		}
	}
	if _, err := ledger.Root(m, n+1); !errors.Is(err, ledger.ErrBehind) {
		t.Errorf("root beyond the end: got %v; want ErrBehind", err)
	}
	if _, err := ledger.Root(m, -1); err == nil {
		t.Error("root at -1: got none; want an error")
	}
}

func TestAppendHandsOutSeqAndPrev(t *testing.T) {
	var m ledgertest.Memory
	want := tlog.Hash{}
	for i := range int64(20) {
		seq, err := ledgertest.Append(&m, func(seq int64, prev tlog.Hash) ([]byte, error) {
			if seq != i || prev != want {
				t.Errorf("got seq %d, prev %v; want %d, %v", seq, prev, i, want)
			}
			return leafText(seq, prev, "x"), nil
		})
		if seq != i || err != nil {
			t.Fatalf("got %d, %v; want %d", seq, err, i)
		}
		want = tlog.RecordHash(m.Leaf(i))
	}
}

func TestAppendRefuses(t *testing.T) {
	zero := tlog.Hash{}.String()
	ok := `{"seq":0,"prev":"` + zero + `"`
	for name, leaf := range map[string]string{
		"empty":               ``,
		"newline":             ok + ",\n\"a\":1}",
		"trailing newline":    ok + "}\n",
		"carriage return":     ok + "}\r",
		"invalid UTF-8":       ok + ",\"a\":\"\xff\"}",
		"too long":            ok + `,"a":"` + strings.Repeat("x", ledger.MaxLeaf) + `"}`,
		"not an object":       `[` + ok + `}]`,
		"space before":        ` ` + ok + `}`,
		"space after":         ok + `} `,
		"two documents":       ok + `}` + ok + `}`,
		"unfinished":          ok,
		"trailing comma":      ok + `,}`,
		"missing comma":       ok + `"a":1}`,
		"duplicate seq":       ok + `,"seq":0}`,
		"duplicate prev":      ok + `,"prev":"` + zero + `"}`,
		"escaped duplicate":   ok + `,"\u0073eq":0}`,
		"duplicate of others": ok + `,"a":1,"a":2}`,
		"nested duplicate":    ok + `,"a":{"b":1,"b":2}}`,
		"lone surrogate":      ok + `,"a":"\ud800"}`,
		"not JSON inside":     ok + `,"a":[1,]}`,
		"case variant":        ok + `,"SEQ":0}`,
		"look-alike":          ok + `,"ſeq":0}`,
		"other seq":           `{"seq":1,"prev":"` + zero + `"}`,
		"other prev":          `{"seq":0,"prev":"B` + zero[1:] + `"}`,
		"seq text":            `{"seq":"0","prev":"` + zero + `"}`,
		"seq float":           `{"seq":0.0,"prev":"` + zero + `"}`,
		"seq minus zero":      `{"seq":-0,"prev":"` + zero + `"}`,
		"seq exponent":        `{"seq":0e0,"prev":"` + zero + `"}`,
		"prev not canonical":  `{"seq":0,"prev":"` + zero[:42] + `B="}`,
		"prev escaped":        `{"seq":0,"prev":"\u0041` + zero[1:] + `"}`,
		"prev short":          `{"seq":0,"prev":""}`,
		"prev null":           `{"seq":0,"prev":null}`,
		"no seq":              `{"prev":"` + zero + `"}`,
		"no prev":             `{"seq":0}`,
		"nested only":         `{"a":` + ok + `}}`,
	} {
		var m ledgertest.Memory
		_, err := ledgertest.Append(&m, func(int64, tlog.Hash) ([]byte, error) { return []byte(leaf), nil })
		if size, _ := m.Size(); err == nil || size != 0 {
			t.Errorf("%s: got %v, %d leaves; want an error and none", name, err, size)
		}
	}
	var m ledgertest.Memory
	for _, leaf := range []string{ok + `}`, ok + `,"a":{"seq":9,"SEQ":8}}`, "{ \"prev\" :\t\"" + zero + `" , "seq" : 0 }`} {
		m = ledgertest.Memory{}
		if _, err := ledgertest.Append(&m, func(int64, tlog.Hash) ([]byte, error) { return []byte(leaf), nil }); err != nil {
			t.Errorf("%s: got %v; want none", leaf, err)
		}
	}
	boom := errors.New("boom")
	if _, err := ledgertest.Append(&m, func(int64, tlog.Hash) ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v; want the error of build", err)
	}
}

// failing breaks one operation of a storage.
type failing struct {
	*ledgertest.Memory
	size, read, write error
	short             bool
}

func (f failing) Size() (int64, error) {
	n, err := f.Memory.Size()
	return n, errors.Join(err, f.size)
}

func (f failing) Append(leaf []byte, hashes []tlog.Hash) error {
	if f.write != nil {
		return f.write
	}
	return f.Memory.Append(leaf, hashes)
}

func (f failing) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	if f.read != nil {
		return nil, f.read
	}
	if f.short {
		return nil, nil
	}
	return f.Memory.ReadHashes(indexes)
}

func TestStorageErrorsComeThrough(t *testing.T) {
	disk := errors.New("disk")
	signer := newSigner(t)
	checkpoint := sign(t, signer, newLog(t, 5), 5)
	for name, s := range map[string]failing{
		"size": {size: disk}, "read": {read: disk}, "write": {write: disk}, "short read": {short: true},
	} {
		s.Memory = newLog(t, 5)
		_, err := ledgertest.Append(s, func(seq int64, prev tlog.Hash) ([]byte, error) { return leafText(seq, prev, "x"), nil })
		if err == nil || name != "short read" && !errors.Is(err, disk) {
			t.Errorf("append, %s fails: got %v; want its error", name, err)
		}
		if name == "write" {
			continue
		}
		if _, err := ledger.Root(s, 5); err == nil {
			t.Errorf("root, %s fails: got none; want an error", name)
		}
		if _, err := ledger.NewReceipt(s, 1, s.Memory.Leaf(1), checkpoint, signer.VerifierKey()); err == nil {
			t.Errorf("receipt, %s fails: got none; want an error", name)
		}
		if _, err := ledger.NewWriter(s); err == nil {
			t.Errorf("head, %s fails: got none; want an error", name)
		}
		if n, _ := s.Memory.Size(); n != 5 {
			t.Errorf("%s fails: got %d leaves; want 5", name, n)
		}
	}
}

func TestConsistent(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 30)
	for size := range int64(31) {
		c := parse(t, sign(t, s, m, size), s)
		if err := ledger.Consistent(m, c); err != nil {
			t.Errorf("size %d: got %v; want none", size, err)
		}
		if size > 0 {
			if err := ledger.Consistent(newLog(t, size-1), c); !errors.Is(err, ledger.ErrBehind) {
				t.Errorf("restored before %d: got %v; want ErrBehind", size, err)
			}
		}
	}
	// Restored, and grown again beyond the checkpoint with other events.
	c := parse(t, sign(t, s, m, 20), s)
	other := newLog(t, 19)
	for i := range 5 {
		add(t, other, fmt.Sprintf("other %d", i))
	}
	if err := ledger.Consistent(other, c); !errors.Is(err, ledger.ErrInconsistent) {
		t.Errorf("other history: got %v; want ErrInconsistent", err)
	}
	if err := ledger.Consistent(other, parse(t, sign(t, s, m, 19), s)); err != nil {
		t.Errorf("common history: got %v; want none", err)
	}
}

func FuzzAppend(f *testing.F) {
	zero := tlog.Hash{}.String()
	f.Add([]byte(`{"v":1,"seq":0,"prev":"` + zero + `","type":"x"}`))
	f.Add([]byte(`{ "seq" : 0 , "prev" : "` + zero + `" , "a" : [ 1 , { } ] }`))
	f.Add([]byte(`{"seq":0,"seq":1,"prev":"` + zero + `"}`))
	f.Add([]byte(`{"seq":0,"prev":"` + zero + `",}`))
	f.Add([]byte("{\"seq\":0,\"prev\":\"" + zero + "\"}\r"))
	f.Add([]byte(`{"seq":0,"prev":"` + zero + `","a":{"b":[{"c":1,"c":2}]}}`))
	f.Add([]byte(`{"\u0073eq":0,"prev":"` + zero + `","a":"\ud83d\ude00 \ud800"}`))
	signer := newSigner(f)
	f.Fuzz(func(t *testing.T, leaf []byte) {
		var m ledgertest.Memory
		if _, err := ledgertest.Append(&m, func(int64, tlog.Hash) ([]byte, error) { return leaf, nil }); err != nil {
			return
		}
		checkAcceptedLeaf(t, leaf)
		add(t, &m, "next")
		r, err := verifyExport(m.Export(), sign(t, signer, &m, 2), signer, nil)
		if err != nil || r.Size != 2 {
			t.Errorf("appended, but the export is refused: %v", err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	var m ledgertest.Memory
	for b.Loop() {
		add(b, &m, "benchmark")
	}
}

// changedHash is a log in which one stored hash was changed.
type changedHash struct {
	ledger.Storage
	at int64
}

func (c changedHash) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes, err := c.Storage.ReadHashes(indexes)
	for i, at := range indexes {
		if at == c.at && err == nil {
			hashes[i][0] ^= 1
		}
	}
	return hashes, err
}

func TestCheck(t *testing.T) {
	const n = 700 // more than are compared at once
	m := newLog(t, n)
	all := lines(m.Export())
	each := func(leaves [][]byte) func(func([]byte, error) bool) {
		return func(yield func([]byte, error) bool) {
			for _, leaf := range leaves {
				if !yield(leaf, nil) {
					return
				}
			}
		}
	}
	bad := func(what string, err error, want int64) {
		t.Helper()
		var e *ledger.TamperError
		if !errors.As(err, &e) || e.Seq != want {
			t.Errorf("%s: got %v; want leaf %d named", what, err, want)
		}
	}
	for size := range 70 {
		if err := ledger.Check(m, each(all[:size])); err != nil {
			t.Errorf("the first %d leaves: got %v; want none", size, err)
		}
	}
	if err := ledger.Check(m, each(all)); err != nil {
		t.Errorf("got %v; want none", err)
	}
	for _, k := range []int{0, 1, 2, 7, 499, 500, 501, n - 2, n - 1} {
		changed := slices.Clone(all)
		changed[k] = bytes.Replace(changed[k], []byte("event"), []byte("evant"), 1)
		bad("changed", ledger.Check(m, each(changed)), int64(k))
		if k < n-1 { // nothing tells where the log ended
			bad("removed", ledger.Check(m, each(slices.Delete(slices.Clone(all), k, k+1))), int64(k))
		}
		for at := tlog.StoredHashCount(int64(k)); at < tlog.StoredHashCount(int64(k+1)); at++ {
			bad(fmt.Sprintf("hash %d changed", at), ledger.Check(changedHash{m, at}, each(all)), int64(k))
		}
	}
	gone := errors.New("a leaf is gone")
	if err := ledger.Check(m, func(yield func([]byte, error) bool) { yield(nil, gone) }); err != gone {
		t.Errorf("got %v; want the error of the store", err)
	}
}
