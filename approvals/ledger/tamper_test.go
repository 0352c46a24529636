package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
	"pgregory.net/rapid"
)

// Whatever is done to the signed part of an export is found. What is named is the
// bad leaf, or the one after it where nothing tells which of the two was changed.
func TestEveryMutationIsFound(t *testing.T) {
	s := newSigner(t)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "leaves")
		signed := rapid.IntRange(1, n).Draw(t, "signed")
		older := rapid.IntRange(0, signed).Draw(t, "older")
		var m ledgertest.Memory
		for range n {
			add(t, &m, rapid.StringOf(rapid.RuneFrom([]rune("aé☃\u2028<&{} 09"))).Draw(t, "detail"))
		}
		intact := lines(m.Export())
		checkpoint := sign(t, s, &m, int64(signed))
		var since []byte
		if older > 0 {
			since = sign(t, s, &m, int64(older))
		}
		if _, err := verifyExport(m.Export(), checkpoint, s, since); err != nil {
			t.Fatalf("intact: %v", err)
		}

		k := rapid.IntRange(0, signed-1).Draw(t, "k")
		l := slices.Clone(intact)
		var export []byte
		low, high := k, k // sequence numbers that may be named
		kind := rapid.SampledFrom([]string{"byte", "drop byte", "delete", "insert", "forge", "swap", "cut", "tear", "rewrite", "two"}).Draw(t, "kind")
		switch kind {
		case "byte":
			at := rapid.IntRange(0, len(l[k])).Draw(t, "at") // its newline too
			start := len(join(l[:k]))
			if k == 0 {
				start = 0
			}
			export = join(l)
			export[start+at] ^= byte(rapid.IntRange(1, 255).Draw(t, "xor"))
			high = shown(k, n)
		case "drop byte":
			at := rapid.IntRange(0, len(l[k])-1).Draw(t, "at")
			l[k] = slices.Delete(bytes.Clone(l[k]), at, at+1)
			high = shown(k, n)
		case "delete":
			l = slices.Delete(l, k, k+1)
		case "insert":
			j := rapid.IntRange(0, n-1).Draw(t, "copy of")
			l = slices.Insert(l, k, intact[j])
			if j == k { // the copy is as good as the original; the second one is the bad one
				low, high = k+1, k+1
			}
		case "forge":
			high = k + 1 // the forged leaf fits, the true one after it does not
			l = slices.Insert(l, k, bytes.Replace(l[k], []byte(`"type":"test"`), []byte(`"type":"forged"`), 1))
		case "swap":
			if n == 1 {
				t.Skip("nothing to swap")
			}
			j := rapid.IntRange(0, n-1).Filter(func(j int) bool { return j != k }).Draw(t, "with")
			l[k], l[j] = l[j], l[k]
			low, high = min(k, j), min(k, j)
		case "cut":
			l = l[:k]
		case "tear":
			export = join(l[:k+1])
			export = export[:len(export)-1-rapid.IntRange(0, len(l[k])-1).Draw(t, "torn off")]
		case "rewrite":
			var other ledgertest.Memory
			for i := range n {
				detail := string(intact[i])
				if i < k {
					_, err := ledgertest.Append(&other, keep(intact[i]))
					if err != nil {
						t.Fatalf("append: %v", err)
					}
					continue
				}
				add(t, &other, fmt.Sprintf("%q", "rewritten "+detail))
			}
			export = other.Export()
			high = signed - 1
		case "two":
			j := rapid.IntRange(k, n-1).Draw(t, "second")
			if high = shown(k, n); j == k+1 {
				high = j
			}
			for _, i := range []int{k, j} {
				l[i] = bytes.Replace(l[i], []byte(`"type":"`), []byte(`"type":"x`), 1)
			}
		}
		if export == nil && len(l) > 0 {
			export = join(l)
		}

		_, err := verifyExport(export, checkpoint, s, since)
		var tampered *ledger.TamperError
		if !errors.As(err, &tampered) {
			t.Fatalf("%s: got %v; want a TamperError", kind, err)
		}
		if got := int(tampered.Seq); got < low || got > high {
			t.Fatalf("%s at %d of %d, %d signed, %d before: got %v; want %d to %d", kind, k, n, signed, older, err, low, high)
		}
	})
}

// shown is the greatest number that may be named for leaf k of n when its text
// was changed: without two leaves after it, nothing vouches for the next one.
func shown(k, n int) int {
	if k+2 < n {
		return k
	}
	return k + 1
}
