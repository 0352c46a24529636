package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger/ledgertest"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "example.com/rack-gateway"

// fataler is what both testing.TB and rapid.T have.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func leafText(seq int64, prev tlog.Hash, detail string) []byte {
	return fmt.Appendf(nil, `{"v":1,"seq":%d,"prev":%q,"time":"2026-03-01T12:00:00.000Z","type":"test","detail":%q}`, seq, prev.String(), detail)
}

// eventText is a leaf like those of a busy gateway, 500 bytes long.
func eventText(seq int64, prev tlog.Hash) []byte {
	leaf := fmt.Appendf(nil, `{"v":1,"seq":%d,"prev":%q,"time":"2026-03-01T12:00:00.000Z","type":"vote.cast","request":"req_01HV8YQ3M5K7R2T9W4X6Z8B0CD","app":"storefront","environment":"production","actor":{"kind":"slack","id":"U024BE7LH","team":"T024BE7LG","name":"Zoë \"Z\" Ω"},"source":"slack","outcome":"approved","mfa":"totp","data":{"branch":"release/2026-03","revision":"0123456789abcdef0123456789abcdef01234567","step":"1"}}`, seq, prev.String())
	padding := 500 - len(leaf) - len(`,"reason":""`)
	return fmt.Appendf(leaf[:len(leaf)-1], `,"reason":%q}`, strings.Repeat("x", padding))
}

// newLog fills a log with n leaves.
func newLog(t fataler, n int64) *ledgertest.Memory {
	t.Helper()
	var m ledgertest.Memory
	for i := range n {
		add(t, &m, fmt.Sprintf("event %d", i))
	}
	return &m
}

func add(t fataler, m *ledgertest.Memory, detail string) {
	t.Helper()
	_, err := ledgertest.Append(m, func(seq int64, prev tlog.Hash) ([]byte, error) {
		return leafText(seq, prev, detail), nil
	})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
}

func addEvent(t fataler, m *ledgertest.Memory) {
	t.Helper()
	if _, err := ledgertest.Append(m, func(seq int64, prev tlog.Hash) ([]byte, error) { return eventText(seq, prev), nil }); err != nil {
		t.Fatalf("append: %v", err)
	}
}

func newSigner(t fataler) *ledger.Signer {
	t.Helper()
	skey, _, err := ledger.GenerateSigner(origin)
	if err != nil {
		t.Fatalf("generate signer: %v", err)
	}
	s, err := ledger.NewSigner(skey)
	if err != nil {
		t.Fatalf("new signer: %v", err)
	}
	return s
}

// sign returns the signed checkpoint of the first size leaves.
func sign(t fataler, s *ledger.Signer, m ledger.Storage, size int64) []byte {
	t.Helper()
	root, err := ledger.Root(m, size)
	if err != nil {
		t.Fatalf("root: %v", err)
	}
	text, err := s.Checkpoint(size, root)
	if err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	return text
}

func parse(t testing.TB, text []byte, s *ledger.Signer) ledger.Checkpoint {
	t.Helper()
	c, err := ledger.ParseCheckpoint(text, s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// treeRoot is RFC 6962 section 2.1 word for word, and shares no code with the
// package under test.
func treeRoot(leaves [][]byte) [32]byte {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the largest power of two below n
		left, right := treeRoot(leaves[:k]), treeRoot(leaves[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

func lines(export []byte) [][]byte {
	return bytes.Split(bytes.TrimSuffix(export, []byte("\n")), []byte("\n"))
}

func join(lines [][]byte) []byte {
	return append(bytes.Join(lines, []byte("\n")), '\n')
}

// keep builds a leaf that exists already.
func keep(leaf []byte) func(int64, tlog.Hash) ([]byte, error) {
	return func(int64, tlog.Hash) ([]byte, error) { return leaf, nil }
}
