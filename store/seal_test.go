package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestParseKeys(t *testing.T) {
	const a, b = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=", "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="
	for _, tt := range []struct {
		text string
		want []string // nil = refused
	}{
		{"k1:" + a, []string{"k1"}},
		{" k2:" + b + ", k1:" + a + "\n", []string{"k2", "k1"}},
		{"", nil},
		{a, nil},
		{":" + a, nil},
		{"k 1:" + a, nil},
		{strings.Repeat("k", 33) + ":" + a, nil},
		{"k1:" + a + ",", nil},
		{"k1:" + a + ",k1:" + b, nil},
		{"k1:" + a[:40], nil},
		{"k1:" + a[:43], nil},
		{"k1:" + a[:42] + "F=", nil}, // stray bits
		{"k1:" + a + a, nil},
		{"k1:" + a[:20] + "\n" + a[20:], nil},
	} {
		got, err := store.ParseKeys(tt.text)
		if (err == nil) != (tt.want != nil) || err == nil && !slices.Equal(got.IDs(), tt.want) {
			t.Errorf("ParseKeys(%q): got %v; want ids %v", tt.text, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), a[:20]) || strings.Contains(err.Error(), b[:20])) {
			t.Errorf("ParseKeys(%q): the error repeats a key", tt.text)
		}
	}
	if _, err := store.NewKey("not an id"); err == nil {
		t.Error("NewKey with a bad id: got no error")
	}
}

func TestKeyRingIsRedacted(t *testing.T) {
	keys := ring(t, storetest.Keys)
	config := store.Config{URL: "x", Keys: keys}
	hidden := struct{ ring store.KeyRing }{*keys}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", keys, "value", *keys)
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %s %x %q %v %+v %#v %v", keys, keys, keys, keys, keys, *keys, config, config, config, hidden) + log.String() + string(encoded)
	for _, leak := range []string{"YWFhYWFh", "aaaa", "97 97 97", "6161", "0x61"} {
		if strings.Contains(out, leak) {
			t.Errorf("a key shows as %q", leak)
		}
	}
	if !strings.Contains(out, "REDACTED") {
		t.Errorf("got %q; want REDACTED", out)
	}
}

func TestSeal(t *testing.T) {
	keys := ring(t, storetest.Keys)
	blob, err := keys.Seal("p", "s", 7, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Open("p", "s", 7, blob); err != nil || string(got) != "secret" {
		t.Errorf("round trip: got %q, %v; want secret", got, err)
	}
	if again, _ := keys.Seal("p", "s", 7, []byte("secret")); bytes.Equal(again, blob) {
		t.Error("sealed twice: got the same bytes")
	}
	onlyB := ring(t, strings.Split(storetest.Keys, ",")[1])
	otherA, err := store.NewKey("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name             string
		ring             *store.KeyRing
		purpose, subject string
		version          int64
	}{
		{"purpose", keys, "q", "s", 7}, {"subject", keys, "p", "t", 7}, {"version", keys, "p", "s", 8},
		{"border", keys, "ps", "", 7}, {"missing key", onlyB, "p", "s", 7}, {"other key", ring(t, otherA), "p", "s", 7},
	} {
		if _, err := tt.ring.Open(tt.purpose, tt.subject, tt.version, blob); !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("another %s: got %v; want %v", tt.name, err, approvals.ErrSeal)
		}
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, err := keys.Open("p", "s", 7, bad); !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("byte %d changed: got %v; want %v", i, err, approvals.ErrSeal)
		}
		if _, err := keys.Open("p", "s", 7, blob[:i]); !errors.Is(err, approvals.ErrSeal) {
			t.Errorf("cut to %d bytes: got %v; want %v", i, err, approvals.ErrSeal)
		}
	}
}
