package gatewayd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// The anchor file is a witness: a checkpoint goes in the place of one that it
// continues, and of no other.
func TestAnchorIsContinued(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	signer, err := approvals.OpenLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	service := approvals.New(approvals.Config{Store: db, Signer: signer, Offline: true})
	grow := func() {
		t.Helper()
		if err := service.Record(t.Context(), approvals.Event{Type: approvals.EventStarted, Actor: approvals.Actor{Kind: approvals.ActorSystem}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		grow()
	}
	sign := func(s *ledger.Signer, size int64, root tlog.Hash) string {
		t.Helper()
		text, err := s.Checkpoint(size, root)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	key, _, err := ledger.GenerateSigner("example.com/other")
	if err != nil {
		t.Fatal(err)
	}
	other, err := ledger.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	right := func(size int64) string {
		t.Helper()
		text, err := service.Checkpoint(t.Context(), size)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, tt := range []struct {
		name    string
		there   string // "" = no file
		written bool   // this process has written the file before
		keeps   string // what the refusal says; "" = it is replaced
	}{
		{"none", "", false, ""},
		{"removed", "", true, ""},
		{"older", right(3), false, ""},
		{"empty log", sign(signer, 0, tlog.Hash{}), false, ""},
		{"older of another history", sign(signer, 3, tlog.Hash{1}), false, "does not continue"},
		{"older of another history, later", sign(signer, 3, tlog.Hash{1}), true, "does not continue"},
		{"same size of another history", sign(signer, 6, tlog.Hash{1}), false, "does not continue"},
		{"newer", sign(signer, 9, tlog.Hash{1}), false, "does not continue"},
		{"newer, later", sign(signer, 9, tlog.Hash{1}), true, "does not continue"},
		{"of another log, which the start has judged", sign(other, 3, tlog.Hash{1}), false, ""},
		{"of another log, later", sign(other, 3, tlog.Hash{1}), true, "no longer holds a checkpoint of this log"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "anchor")
			writes := 0
			a := &anchor{path: path, service: service, held: func() error { return nil }, written: func() { writes++ }}
			if tt.written {
				if err := a.write(t.Context()); err != nil {
					t.Fatal(err)
				}
				grow()
			}
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if tt.there != "" {
				if err := os.WriteFile(path, []byte(tt.there), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			writes = 0
			err := a.write(t.Context())
			got, _ := os.ReadFile(path)
			if tt.keeps == "" && (err != nil || string(got) != right(0) || writes != 1) {
				t.Errorf("got %v, %d writes, the file %s; want the newest checkpoint", err, writes, got)
			}
			if tt.keeps != "" && (err == nil || !strings.Contains(err.Error(), tt.keeps) || string(got) != tt.there || writes != 0) {
				t.Errorf("got %v, %d writes, the file %s; want %q, and it as it was", err, writes, got, tt.keeps)
			}
		})
	}
}

// What stands beside a file under the names that a temporary file could have is
// somebody else's: neither it nor what it points to changes.
func TestReplaceFileLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "checkpoint"), filepath.Join(dir, "victim")
	for name, text := range map[string]string{path: "old", victim: "precious", path + ".probe": "mine"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(victim, path+".tmp"); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := tryAnchor(path); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(dir, []byte("new")); err == nil {
		t.Error("a directory was replaced")
	}
	if err := tryAnchor(dir); err == nil {
		t.Error("a directory can be the anchor file")
	}
	for name, want := range map[string]string{path: "new", victim: "precious", path + ".tmp": "precious", path + ".probe": "mine"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", filepath.Base(name), got, err, want)
		}
	}
	if target, err := os.Readlink(path + ".tmp"); err != nil || target != victim {
		t.Errorf("the link: got %q, %v; want it as it was", target, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("got the files %v, %v; want no other", entries, err)
	}
	if list, _ := filepath.Glob(dir + ".*"); len(list) != 0 {
		t.Errorf("got %v beside a directory; want nothing", list)
	}
}
