package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
	"golang.org/x/mod/sumdb/tlog"
)

func verifyExport(export, checkpoint []byte, s *ledger.Signer, since []byte) (ledger.Report, error) {
	return ledger.Verify(bytes.NewReader(export), ledger.VerifyOptions{Checkpoint: checkpoint, Key: s.VerifierKey(), Since: since})
}

func TestVerifyIntact(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 17)
	for size := range int64(18) {
		checkpoint := sign(t, s, m, size)
		for _, since := range []int64{0, size / 2, size, 17} {
			got, err := verifyExport(m.Export(), checkpoint, s, sign(t, s, m, since))
			want := ledger.Report{
				Checkpoint:  parse(t, checkpoint, s),
				Size:        17,
				NotAnchored: 17 - size,
				Root:        parse(t, sign(t, s, m, 17), s).Root,
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("size %d since %d: got %v (-want +got):\n%s", size, since, err, diff)
			}
		}
	}
	var empty ledgertest.Memory
	if r, err := verifyExport(nil, sign(t, s, &empty, 0), s, nil); err != nil || r.Size != 0 {
		t.Errorf("empty log: got %+v, %v; want none", r, err)
	}
	// It does not matter in which pieces the export arrives.
	r := iotest.OneByteReader(bytes.NewReader(m.Export()))
	if _, err := ledger.Verify(r, ledger.VerifyOptions{Checkpoint: sign(t, s, m, 17), Key: s.VerifierKey()}); err != nil {
		t.Errorf("byte by byte: got %v; want none", err)
	}
}

// Every way to damage a log of 10 leaves, of which 8 are signed and 5 were
// signed before.
func TestVerifyNamesFirstBad(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 10)
	intact := lines(m.Export())
	checkpoint, older := sign(t, s, m, 8), sign(t, s, m, 5)

	replace := func(l [][]byte, i int, old, new string) [][]byte {
		changed := bytes.Replace(l[i], []byte(old), []byte(new), 1)
		if bytes.Equal(changed, l[i]) {
			t.Fatalf("%q is not in line %d", old, i)
		}
		l[i] = changed
		return l
	}
	forged := func(l [][]byte, seq int) []byte {
		prev := tlog.Hash{}
		if seq > 0 {
			prev = tlog.RecordHash(l[seq-1])
		}
		return leafText(int64(seq), prev, "forged")
	}
	rewrite := func(l [][]byte, from int) [][]byte {
		for i := from; i < len(l); i++ {
			l[i] = forged(l, i)
		}
		return l
	}
	prevOf := func(i int) string { return tlog.RecordHash(intact[i-1]).String() }

	for _, c := range []struct {
		name   string
		damage func(l [][]byte) [][]byte
		want   int64
	}{
		{"content of the first", func(l [][]byte) [][]byte { return replace(l, 0, "event", "evint") }, 0},
		{"content", func(l [][]byte) [][]byte { return replace(l, 3, "event", "evint") }, 3},
		{"content of the last of the older", func(l [][]byte) [][]byte { return replace(l, 4, "event", "evint") }, 4},
		{"content of the first after the older", func(l [][]byte) [][]byte { return replace(l, 5, "event", "evint") }, 5},
		{"content of the last signed", func(l [][]byte) [][]byte { return replace(l, 7, "event", "evint") }, 7},
		{"content of the last signed, nothing behind", func(l [][]byte) [][]byte { return replace(l, 7, "event", "evint")[:8] }, 7},
		{"content of one not signed", func(l [][]byte) [][]byte { return replace(l, 8, "event", "evint") }, 9}, // nothing vouches for 9
		{"white space", func(l [][]byte) [][]byte { return replace(l, 3, `"v":1`, `"v": 1`) }, 3},
		{"carriage return", func(l [][]byte) [][]byte { return replace(l, 3, "}", "}\r") }, 3},
		{"byte order mark", func(l [][]byte) [][]byte { return replace(l, 0, "{", "\ufeff{") }, 0},
		{"empty line", func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte{}) }, 3},
		{"not JSON", func(l [][]byte) [][]byte { return replace(l, 3, "}", "") }, 3},
		{"too long", func(l [][]byte) [][]byte { return replace(l, 3, "event", strings.Repeat("x", 1<<16)) }, 3},
		{"invalid UTF-8", func(l [][]byte) [][]byte { return replace(l, 3, "event", "\xff") }, 3},
		{"seq up", func(l [][]byte) [][]byte { return replace(l, 3, `"seq":3`, `"seq":4`) }, 3},
		{"seq down", func(l [][]byte) [][]byte { return replace(l, 3, `"seq":3`, `"seq":2`) }, 3},
		{"second seq", func(l [][]byte) [][]byte { return replace(l, 3, `"v":1`, `"seq":3`) }, 3},
		{"second prev", func(l [][]byte) [][]byte { return replace(l, 3, `"v":1`, `"prev":"`+prevOf(3)+`"`) }, 3},
		{"prev malformed", func(l [][]byte) [][]byte { return replace(l, 3, prevOf(3), "x") }, 3},
		{"prev", func(l [][]byte) [][]byte { return replace(l, 3, prevOf(3), prevOf(2)) }, 3},
		{"prev of the first", func(l [][]byte) [][]byte { return replace(l, 0, tlog.Hash{}.String(), prevOf(2)) }, 0},
		{"prev after the older", func(l [][]byte) [][]byte { return replace(l, 5, prevOf(5), prevOf(2)) }, 5},
		{"prev of the last signed", func(l [][]byte) [][]byte { return replace(l, 7, prevOf(7), prevOf(2)) }, 7},
		{"prev of the last signed, nothing behind", func(l [][]byte) [][]byte { return replace(l, 7, prevOf(7), prevOf(2))[:8] }, 7},
		{"prev after the newest", func(l [][]byte) [][]byte { return replace(l, 8, prevOf(8), prevOf(2)) }, 8},
		{"two changed", func(l [][]byte) [][]byte { return replace(replace(l, 2, "event", "x"), 6, "event", "x") }, 2},
		{"two neighbours changed", func(l [][]byte) [][]byte { return replace(replace(l, 2, "event", "x"), 3, "event", "x") }, 3},
		{"deleted first", func(l [][]byte) [][]byte { return slices.Delete(l, 0, 1) }, 0},
		{"deleted", func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }, 3},
		{"deleted and renumbered", func(l [][]byte) [][]byte {
			l = slices.Delete(l, 3, 4)
			for i := 3; i < len(l); i++ {
				l = replace(l, i, fmt.Sprintf(`"seq":%d`, i+1), fmt.Sprintf(`"seq":%d`, i))
			}
			return l
		}, 3},
		{"deleted last signed, nothing behind", func(l [][]byte) [][]byte { return l[:7] }, 7},
		{"cut", func(l [][]byte) [][]byte { return l[:3] }, 3},
		{"cut before the older", func(l [][]byte) [][]byte { return l[:5] }, 5},
		{"doubled", func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[2]) }, 3},
		{"inserted copy", func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[0]) }, 3},
		{"inserted forgery", func(l [][]byte) [][]byte { return slices.Insert(l, 3, forged(l, 3)) }, 4}, // fits; the true leaf 3 does not
		{"inserted forgery under the checkpoint", func(l [][]byte) [][]byte { return slices.Insert(l, 4, forged(l, 4)) }, 4},
		{"inserted forgery without a link", func(l [][]byte) [][]byte { return slices.Insert(l, 3, leafText(3, tlog.Hash{1}, "forged")) }, 3},
		{"swapped", func(l [][]byte) [][]byte { l[3], l[6] = l[6], l[3]; return l }, 3},
		{"replaced", func(l [][]byte) [][]byte { l[3] = forged(l, 3); return l }, 3},
		{"rewritten to the end", func(l [][]byte) [][]byte { return rewrite(l, 2) }, 4},
		{"rewritten up to the older, then cut", func(l [][]byte) [][]byte { return rewrite(l, 2)[:5] }, 4},
		{"rewritten up to the older, then a gap", func(l [][]byte) [][]byte { return slices.Delete(rewrite(l, 2), 5, 6) }, 4},
		{"rewritten up to the older, then no leaf", func(l [][]byte) [][]byte { return replace(rewrite(l, 2), 5, "}", "") }, 4},
		{"rewritten after the older", func(l [][]byte) [][]byte { return rewrite(l, 6) }, 7},
	} {
		export := join(c.damage(slices.Clone(intact)))
		_, err := verifyExport(export, checkpoint, s, older)
		var tampered *ledger.TamperError
		if !errors.As(err, &tampered) {
			t.Errorf("%s: got %v; want a TamperError", c.name, err)
			continue
		}
		if tampered.Seq != c.want || !strings.Contains(err.Error(), fmt.Sprintf("number %d: ", c.want)) {
			t.Errorf("%s: got %v; want %d", c.name, err, c.want)
		}
	}

	export := join(intact)
	for end := range len(export) {
		_, err := verifyExport(export[:end], checkpoint, s, nil)
		var tampered *ledger.TamperError
		whole := end == 0 || export[end-1] == '\n'
		complete := int64(bytes.Count(export[:end], []byte("\n")))
		switch {
		case whole && complete >= 8:
			if err != nil {
				t.Errorf("cut at %d, after the checkpoint: got %v; want none", end, err)
			}
		case !errors.As(err, &tampered) || tampered.Seq != complete:
			t.Errorf("cut at %d: got %v; want a TamperError for %d", end, err, complete)
		}
	}
}

// A checkpoint has shown that the leaf before is good, whatever the next one says.
func TestVerifyBelievesTheCheckpoint(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 8)
	l := lines(m.Export())
	checkpoint := sign(t, s, m, 5)
	l[5] = leafText(5, tlog.Hash{1}, "forged")
	l[6] = leafText(6, tlog.RecordHash(l[5]), "forged")
	var tampered *ledger.TamperError
	if _, err := verifyExport(join(l), checkpoint, s, nil); !errors.As(err, &tampered) || tampered.Seq != 5 {
		t.Errorf("got %v; want a TamperError for 5", err)
	}
}

// It does not matter where in the line "prev" stands.
func TestVerifySpacedLeaves(t *testing.T) {
	s := newSigner(t)
	var m ledgertest.Memory
	for range 4 {
		_, err := ledgertest.Append(&m, func(seq int64, prev tlog.Hash) ([]byte, error) {
			return fmt.Appendf(nil, "{ \"type\" : [ \"é\" ] ,\t\"prev\"\t:  %q , \"seq\" : %d }", prev.String(), seq), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	checkpoint := sign(t, s, &m, 4)
	if _, err := verifyExport(m.Export(), checkpoint, s, nil); err != nil {
		t.Errorf("intact: got %v; want none", err)
	}
	for seq := range int64(4) {
		l := lines(m.Export())
		at := bytes.Index(l[seq], []byte(`:  "`)) + 10
		if l[seq][at] != 'x' {
			l[seq][at] = 'x'
		} else {
			l[seq][at] = 'y'
		}
		var tampered *ledger.TamperError
		if _, err := verifyExport(join(l), checkpoint, s, nil); !errors.As(err, &tampered) || tampered.Seq != seq {
			t.Errorf("prev of %d: got %v; want a TamperError for %d", seq, err, seq)
		}
	}
}

func TestVerifyNeedsGenuineCheckpoints(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 5)
	good := sign(t, s, m, 5)
	for name, c := range map[string]struct {
		checkpoint, since []byte
		key               string
		want              error
	}{
		"no checkpoint":    {nil, nil, s.VerifierKey(), ledger.ErrCheckpoint},
		"forged":           {sign(t, newSigner(t), m, 5), nil, s.VerifierKey(), ledger.ErrCheckpoint},
		"older forged":     {good, sign(t, newSigner(t), m, 3), s.VerifierKey(), ledger.ErrCheckpoint},
		"older empty text": {good, []byte{}, s.VerifierKey(), ledger.ErrCheckpoint},
		"no key":           {good, nil, "", ledger.ErrVerifierKey},
	} {
		_, err := ledger.Verify(bytes.NewReader(m.Export()), ledger.VerifyOptions{Checkpoint: c.checkpoint, Since: c.since, Key: c.key})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v; want %v", name, err, c.want)
		}
	}

	empty, err := s.Checkpoint(0, tlog.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifyExport(m.Export(), empty, s, nil); !errors.Is(err, ledger.ErrCheckpoint) {
		t.Errorf("impossible root of nothing: got %v; want ErrCheckpoint", err)
	}
	fork, err := s.Checkpoint(5, tlog.Hash{1})
	if err != nil {
		t.Fatal(err)
	}
	var tampered *ledger.TamperError
	if _, err := verifyExport(m.Export(), good, s, fork); !errors.As(err, &tampered) {
		t.Errorf("two histories signed: got %v; want a TamperError", err)
	}
	// Rolled back: export and checkpoint fit each other, an auditor knows more.
	short := newLog(t, 3)
	if _, err := verifyExport(short.Export(), sign(t, s, short, 3), s, good); !errors.As(err, &tampered) || tampered.Seq != 3 {
		t.Errorf("rolled back: got %v; want a TamperError for 3", err)
	}
}

func TestVerifyReadError(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 5)
	disk := errors.New("disk")
	r := io.MultiReader(bytes.NewReader(m.Export()), iotest.ErrReader(disk))
	_, err := ledger.Verify(r, ledger.VerifyOptions{Checkpoint: sign(t, s, m, 5), Key: s.VerifierKey()})
	var tampered *ledger.TamperError
	if !errors.Is(err, disk) || errors.As(err, &tampered) {
		t.Errorf("got %v; want the reader's error", err)
	}
}

// checkAcceptedLeaf holds for everything that may become leaf 0.
func checkAcceptedLeaf(t *testing.T, leaf []byte) {
	t.Helper()
	if !json.Valid(leaf) || len(leaf) > ledger.MaxLeaf || bytes.ContainsAny(leaf, "\n") {
		t.Fatalf("accepted %q", leaf)
	}
	var h struct {
		Seq  *int64     `json:"seq"`
		Prev *tlog.Hash `json:"prev"`
	}
	if err := json.Unmarshal(leaf, &h); err != nil || h.Seq == nil || *h.Seq != 0 || h.Prev == nil || *h.Prev != (tlog.Hash{}) {
		t.Fatalf("encoding/json reads %q in another way: %v", leaf, err)
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f)
	m := newLog(f, 4)
	checkpoint := sign(f, s, m, 3)
	export := m.Export()
	f.Add(export)
	f.Add(export[:len(export)-1])
	f.Add(bytes.ReplaceAll(export, []byte("\n"), []byte("\r\n")))
	f.Add(bytes.Replace(export, []byte(`"v":1`), []byte(`"seq":0`), 1))
	f.Add([]byte("\n\n"))
	signed := join(lines(export)[:3])
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := verifyExport(data, checkpoint, s, nil)
		if err == nil && !bytes.HasPrefix(data, signed) {
			t.Errorf("accepted %q", data)
		}
		if n := int64(bytes.Count(data, []byte("\n"))); err == nil && r.Size != n {
			t.Errorf("got %d leaves; want %d", r.Size, n)
		}
		var tampered *ledger.TamperError
		if err != nil && (!errors.As(err, &tampered) || tampered.Seq < 0 || tampered.Seq > int64(bytes.Count(data, []byte("\n")))) {
			t.Errorf("got %v; want a TamperError within the export", err)
		}
	})
}

// BenchmarkVerify reports the time for one event of 500 bytes, from the bytes
// of the export to the comparison with the signed root.
func BenchmarkVerify(b *testing.B) {
	const n = 20_000
	s := newSigner(b)
	var m ledgertest.Memory
	for range n {
		addEvent(b, &m)
	}
	export, checkpoint := m.Export(), sign(b, s, &m, n)
	b.SetBytes(int64(len(export)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyExport(export, checkpoint, s, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/event")
}
