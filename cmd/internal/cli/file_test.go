//go:build unix

package cli_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// What a name leads to is replaced; what it is stays.
func TestReplaceFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"near", "far", "far/deep"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"near/plain", "far/there"} {
		if err := os.WriteFile(at(name), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"near/absolute": at("far/there"), "near/chain": "absolute", "near/dir": at("far/deep"),
		"far/deep/up": "../new", "near/loop": "loop",
	} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, file, stays string }{
		{"near/plain", "near/plain", ""},
		{"near/fresh", "near/fresh", ""},
		{"near/absolute", "far/there", "near/absolute"},
		{"near/chain", "far/there", "near/chain"},
		{"near/dir/up", "far/new", "far/deep/up"}, // it does not exist yet
	} {
		if err := cli.ReplaceFile(at(tt.name), []byte(tt.name), 0o600); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		info, err := os.Lstat(at(tt.file))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: got %v, %v; want a file with mode 0600", tt.name, info, err)
		}
		if got, err := os.ReadFile(at(tt.file)); err != nil || string(got) != tt.name {
			t.Errorf("%s: got %q, %v in %s", tt.name, got, err, tt.file)
		}
		if tt.stays != "" {
			if info, err := os.Lstat(at(tt.stays)); err != nil || info.Mode().Type() != fs.ModeSymlink {
				t.Errorf("%s: got %v, %v; want that the link stays", tt.name, info, err)
			}
		}
	}
	for _, name := range []string{"near", "near/loop", "no/such/directory"} {
		if err := cli.ReplaceFile(at(name), []byte("text"), 0o600); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	// Nothing that ReplaceFile made on the way is left: plain, fresh and the links.
	if entries, err := os.ReadDir(at("near")); err != nil || len(entries) != 6 {
		t.Errorf("got %v, %v; want no other file", entries, err)
	}
}

func TestReplaceFileWritesIntoPipes(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // so that no end has to wait for the other
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := cli.ReplaceFile(pipe, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		t.Fatalf("got %v, %v; want that the pipe stays", info, err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(f, got); err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
}
