package ledger_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"golang.org/x/mod/sumdb/tlog"
)

func TestInclusion(t *testing.T) {
	s := newSigner(t)
	const n = 20
	m := newLog(t, n)
	for size := int64(1); size <= n; size++ {
		checkpoint := sign(t, s, m, size)
		for seq := range size {
			r, err := ledger.NewReceipt(m, seq, m.Leaf(seq), checkpoint, s.VerifierKey())
			if err != nil {
				t.Fatalf("leaf %d of %d: got %v; want none", seq, size, err)
			}
			r.Leaf = strings.Replace(r.Leaf, "test", "tEst", 1)
			if err := r.Verify(s.VerifierKey()); err == nil || !strings.Contains(err.Error(), "does not hold") {
				t.Errorf("other leaf at %d of %d: got %v; want that the proof does not hold", seq, size, err)
			}
			for place := range size {
				other, err := ledger.NewReceipt(m, place, m.Leaf(place), checkpoint, s.VerifierKey())
				if other.Proof = r.Proof; err != nil || place != seq && other.Verify(s.VerifierKey()) == nil {
					t.Errorf("proof of leaf %d of %d for leaf %d: %v; want an error", seq, size, place, err)
				}
			}
		}
	}
	for _, bad := range [][2]int64{{5, 5}, {-1, 5}, {0, 0}} {
		if _, err := ledger.NewReceipt(m, bad[0], m.Leaf(5), sign(t, s, m, bad[1]), s.VerifierKey()); err == nil {
			t.Errorf("leaf %d of %d: got a proof; want an error", bad[0], bad[1])
		}
	}
}

func TestReceipt(t *testing.T) {
	s := newSigner(t)
	m := newLog(t, 4)
	add(t, m, "deploy <web> & \"ünïcödé\" \u2028 \\")
	add(t, m, "last")
	checkpoint := sign(t, s, m, 6)
	for seq := range int64(6) {
		want, err := ledger.NewReceipt(m, seq, m.Leaf(seq), checkpoint, s.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ledger.ParseReceipt(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after JSON (-want +got):\n%s", diff)
		}
		if err := got.Verify(s.VerifierKey()); err != nil {
			t.Errorf("receipt of %d: got %v; want none", seq, err)
		}
		for name, change := range map[string]func(*ledger.Receipt){
			"leaf":       func(r *ledger.Receipt) { r.Leaf = strings.Replace(r.Leaf, "test", "tEst", 1) },
			"leaf line":  func(r *ledger.Receipt) { r.Leaf += "\n" },
			"seq":        func(r *ledger.Receipt) { r.Seq++ },
			"proof":      func(r *ledger.Receipt) { r.Proof = r.Proof[1:] },
			"proof hash": func(r *ledger.Receipt) { r.Proof = append(tlog.RecordProof{{}}, r.Proof[1:]...) },
			"checkpoint": func(r *ledger.Receipt) { r.Checkpoint = strings.Replace(r.Checkpoint, "6", "7", 1) },
			"older head": func(r *ledger.Receipt) { r.Checkpoint = string(sign(t, s, m, 3)) },
		} {
			bad := got
			change(&bad)
			if err := bad.Verify(s.VerifierKey()); err == nil {
				t.Errorf("receipt of %d with another %s: got none; want an error", seq, name)
			}
		}
		if err := got.Verify(newSigner(t).VerifierKey()); !errors.Is(err, ledger.ErrCheckpoint) {
			t.Errorf("other key: got %v; want ErrCheckpoint", err)
		}
	}
	for name, f := range map[string]func() (ledger.Receipt, error){
		"other leaf": func() (ledger.Receipt, error) {
			return ledger.NewReceipt(m, 1, m.Leaf(2), checkpoint, s.VerifierKey())
		},
		"not signed yet": func() (ledger.Receipt, error) {
			return ledger.NewReceipt(m, 5, m.Leaf(5), sign(t, s, m, 5), s.VerifierKey())
		},
		"other key": func() (ledger.Receipt, error) {
			return ledger.NewReceipt(m, 1, m.Leaf(1), checkpoint, newSigner(t).VerifierKey())
		},
		"shorter log": func() (ledger.Receipt, error) {
			return ledger.NewReceipt(newLog(t, 3), 1, m.Leaf(1), checkpoint, s.VerifierKey())
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: got a receipt; want an error", name)
		}
	}
	// One leaf: the proof is empty, and stays a list.
	one := newLog(t, 1)
	r, err := ledger.NewReceipt(one, 0, one.Leaf(0), sign(t, s, one, 1), s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := json.Marshal(r); err != nil || !bytes.Contains(data, []byte(`"proof":[]`)) {
		t.Errorf("got %s, %v; want an empty proof", data, err)
	}
}

func TestParseReceiptRefuses(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `"x"`, `{"seq":"1"}`, `{"proof":["x"]}`, `{"proof":[""]}`, `{"extra":1}`, `{}{}`, `{} x`,
		`{"seq":1,"seq":1}`, `{"Seq":1}`, `{"seq":1.0}`, `{"leaf":"` + "\xff" + `"}`, `{"leaf":"\ud800"}`,
		`{"leaf":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		if _, err := ledger.ParseReceipt([]byte(text)); err == nil {
			t.Errorf("%.40s: got none; want an error", text)
		}
	}
	if r, err := ledger.ParseReceipt([]byte(`null`)); err == nil && r.Verify(newSigner(t).VerifierKey()) == nil {
		t.Error("null verifies")
	}
}

func FuzzReceipt(f *testing.F) {
	s := newSigner(f)
	m := newLog(f, 7)
	checkpoint := sign(f, s, m, 7)
	for seq := range int64(7) {
		r, err := ledger.NewReceipt(m, seq, m.Leaf(seq), checkpoint, s.VerifierKey())
		if err != nil {
			f.Fatal(err)
		}
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"seq":0,"proof":["AAAA"],"leaf":"","checkpoint":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ledger.ParseReceipt(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.ParseReceipt(again); err != nil {
			t.Errorf("its own JSON is refused: %v", err)
		}
		if r.Verify(s.VerifierKey()) != nil {
			return
		}
		if r.Seq < 0 || r.Seq > 6 || r.Leaf != string(m.Leaf(r.Seq)) {
			t.Errorf("verified a leaf that is not in the log: %d %q", r.Seq, r.Leaf)
		}
	})
}
