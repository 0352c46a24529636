package ledger_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestCheckpointText(t *testing.T) {
	s := newSigner(t)
	root := tlog.RecordHash([]byte("x"))
	text, err := s.Checkpoint(42, root)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%s\n42\n%s\n\n— %s ", origin, root, origin); !strings.HasPrefix(string(text), want) || !bytes.HasSuffix(text, []byte("\n")) {
		t.Errorf("got %q; want it to begin with %q", text, want)
	}
	got := parse(t, text, s)
	if want := (ledger.Checkpoint{Origin: origin, Size: 42, Root: root}); got != want || got.Root.String() != root.String() {
		t.Errorf("got %+v; want %+v", got, want)
	}
	for _, size := range []int64{-1, 1<<48 + 1} {
		if _, err := s.Checkpoint(size, root); err == nil {
			t.Errorf("size %d was signed", size)
		}
	}
}

// The example of https://c2sp.org/tlog-checkpoint has a key we do not know.
func TestParseCheckpointOfOthers(t *testing.T) {
	text := "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n" +
		"— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
	if _, err := ledger.ParseCheckpoint([]byte(text), newSigner(t).VerifierKey()); !errors.Is(err, ledger.ErrCheckpoint) {
		t.Errorf("got %v; want ErrCheckpoint", err)
	}
}

func TestParseCheckpointRefuses(t *testing.T) {
	skey, vkey, err := ledger.GenerateSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	root := tlog.RecordHash([]byte("x")).String()
	signed := func(text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := origin + "\n7\n" + root + "\n"
	if _, err := ledger.ParseCheckpoint(signed(good), vkey); err != nil {
		t.Fatalf("got %v; want none", err)
	}
	// A pasted key may carry the newline of its file.
	if _, err := ledger.ParseCheckpoint(signed(good), vkey+"\n"); err != nil {
		t.Errorf("key with newline: got %v; want none", err)
	}
	for name, text := range map[string]string{
		"other origin":    "example.com/other\n7\n" + root + "\n",
		"no origin":       "\n7\n" + root + "\n",
		"leading zero":    origin + "\n07\n" + root + "\n",
		"plus":            origin + "\n+7\n" + root + "\n",
		"negative":        origin + "\n-7\n" + root + "\n",
		"hex":             origin + "\n0x7\n" + root + "\n",
		"empty size":      origin + "\n\n" + root + "\n",
		"space":           origin + "\n7 \n" + root + "\n",
		"huge":            origin + "\n9223372036854775807\n" + root + "\n",
		"overflow":        origin + "\n18446744073709551616\n" + root + "\n",
		"short root":      origin + "\n7\n" + root[4:] + "\n",
		"stray bits":      origin + "\n7\n" + strings.Repeat("A", 42) + "B=\n",
		"url base64":      origin + "\n7\n" + strings.Repeat("_", 43) + "=\n",
		"extension line":  good + "more\n",
		"empty extension": good + "\n",
		"too few lines":   origin + "\n7\n",
	} {
		if c, err := ledger.ParseCheckpoint(signed(text), vkey); !errors.Is(err, ledger.ErrCheckpoint) {
			t.Errorf("%s: got %+v, %v; want ErrCheckpoint", name, c, err)
		}
	}

	text := signed(good)
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if c, err := ledger.ParseCheckpoint(bad, vkey); err == nil && c.Root.String() != root {
			t.Errorf("byte %d changed: accepted as %+v", i, c)
		}
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "unsigned": []byte(good), "no newline at the end": text[:len(text)-1],
		"garbage behind": append(bytes.Clone(text), "x\n"...), "CRLF": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"too long": append(bytes.Clone(text), bytes.Repeat([]byte("x"), 1<<17)...),
	} {
		if _, err := ledger.ParseCheckpoint(bad, vkey); !errors.Is(err, ledger.ErrCheckpoint) {
			t.Errorf("%s: got %v; want ErrCheckpoint", name, err)
		}
	}
	for _, key := range []string{"", "x", vkey[:len(vkey)-4], skey, "other" + vkey} {
		if _, err := ledger.ParseCheckpoint(text, key); !errors.Is(err, ledger.ErrVerifierKey) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("bad key: got %v; want ErrVerifierKey without the key", err)
		}
	}
	// The same name with another key.
	if _, err := ledger.ParseCheckpoint(text, newSigner(t).VerifierKey()); !errors.Is(err, ledger.ErrCheckpoint) {
		t.Errorf("other key: got %v; want ErrCheckpoint", err)
	}
}

func TestWitnessSignaturesAreIgnored(t *testing.T) {
	s := newSigner(t)
	text, err := s.Checkpoint(1, tlog.RecordHash([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(text, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, witness)
	if err != nil {
		t.Fatal(err)
	}
	parse(t, both, s)
	if _, err := ledger.ParseCheckpoint(both, vkey); !errors.Is(err, ledger.ErrCheckpoint) {
		t.Errorf("under the witness's key: got %v; want ErrCheckpoint", err)
	}
}

func TestSigner(t *testing.T) {
	skey, vkey, err := ledger.GenerateSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ledger.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if s.VerifierKey() != vkey || s.Origin() != origin {
		t.Errorf("got %q, %q; want %q, %q", s.VerifierKey(), s.Origin(), vkey, origin)
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", "\xff"} {
		if _, _, err := ledger.GenerateSigner(bad); err == nil {
			t.Errorf("origin %q was accepted", bad)
		}
	}
	secret := skey[strings.LastIndex(skey[:len(origin)+25], "+")+1:]
	for _, bad := range []string{"", vkey, skey[:len(skey)-4], "PRIVATE+KEY+x+00000000+" + secret, skey + "AAAA"} {
		if _, err := ledger.NewSigner(bad); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("bad key: got %v; want an error without the key", err)
		}
	}
	j, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "s", s)
	texts := []string{string(j), log.String(), s.String(), s.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, s), fmt.Sprintf(verb, struct{ s *ledger.Signer }{s}), fmt.Sprintf(verb, *s))
	}
	for _, text := range texts {
		if strings.Contains(text, secret) || strings.Contains(text, "PRIVATE") {
			t.Errorf("%q contains the key", text)
		}
	}
	if s.String() != "REDACTED" || !strings.Contains(string(j), "REDACTED") {
		t.Errorf("got %v, %s; want REDACTED", s, j)
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	skey, vkey, err := ledger.GenerateSigner(origin)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		f.Fatal(err)
	}
	root := tlog.Hash{}.String()
	for _, text := range []string{origin + "\n7\n" + root + "\n", origin + "\n007\n" + root + "\n", "x\n0\n\n", origin + "\n1\n" + root + "\nx\n"} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, sign bool) {
		raw := text
		if sign { // past the signature, into the text
			if raw, err = note.Sign(&note.Note{Text: string(text)}, signer); err != nil {
				return
			}
		}
		c, err := ledger.ParseCheckpoint(raw, vkey)
		if err != nil {
			if c != (ledger.Checkpoint{}) {
				t.Error("an error came with a checkpoint")
			}
			return
		}
		if !sign {
			t.Fatalf("accepted without a signature: %q", raw)
		}
		if want := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root.String()); string(text) != want {
			t.Errorf("accepted %q; it says %q", text, want)
		}
	})
}
