package gateway_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
)

func TestTokenFile(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"GET /R1": {{200, request("pending")}}})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, []string{"RACK_GATEWAY_URL=" + g.URL, "RACK_GATEWAY_API_TOKEN_FILE=" + file}, "deploy-approval", "show", "R1"); got.code != 0 {
		t.Errorf("got %+v; want exit 0", got)
	}
}

func TestOpenNetworksAreWarnedOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"http://gateway.invalid": true, "http://192.0.2.1:1": true,
		"https://gateway.invalid": false, "http://127.0.0.1:1": false, "http://[::1]:1": false, "http://100.101.102.103:1": false, "http://gateway.example.ts.net:1": false,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no call gets out
		var stderr bytes.Buffer
		gateway.Run(ctx, []string{"deploy-approval", "show", "R1", "--retry-for", "0"}, []string{"RACK_GATEWAY_URL=" + url, "RACK_GATEWAY_API_TOKEN=x"}, nil, io.Discard, &stderr)
		if got := strings.Contains(stderr.String(), "travels unencrypted"); got != want {
			t.Errorf("%s: warned %v; want %v", url, got, want)
		}
	}
}

// The tailnet of a CI job is reached through a proxy: of HTTP, or of SOCKS 5.
func TestProxies(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"GET /R1": {{200, request("pending")}}})
	for _, proxy := range []string{"HTTP_PROXY=" + g.URL, "ALL_PROXY=" + g.URL, "all_proxy=socks5://" + socks5(t, g.Listener.Addr().String())} {
		env := []string{"RACK_GATEWAY_URL=http://gateway.example.ts.net", "RACK_GATEWAY_API_TOKEN=" + token, proxy}
		if got := run(t, env, "deploy-approval", "show", "R1", "--retry-for", "0"); got.code != 0 {
			t.Errorf("%s: got %+v; want exit 0", proxy, got)
		}
	}
	env := g.env("ALL_PROXY=socks5://127.0.0.1:1") // loopback needs no proxy
	if got := run(t, env, "deploy-approval", "show", "R1", "--retry-for", "0"); got.code != 0 {
		t.Errorf("loopback: got %+v; want exit 0", got)
	}
}

// socks5 starts a proxy (RFC 1928, no authentication) that connects everybody
// to one address.
func socks5(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				head := make([]byte, 5)
				_, _ = io.ReadFull(conn, head[:2])
				_, _ = io.CopyN(io.Discard, conn, int64(head[1])) // the methods offered
				_, _ = conn.Write([]byte{5, 0})
				_, _ = io.ReadFull(conn, head) // version, connect, reserved, name, length
				_, _ = io.CopyN(io.Discard, conn, int64(head[4])+2)
				_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
				target, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer target.Close()
				go func() { _, _ = io.Copy(target, conn) }()
				_, _ = io.Copy(conn, target)
			}()
		}
	}()
	return l.Addr().String()
}
