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

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
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
		"http://gateway:8080": false, "http://gateway.example.TS.net.": false, "http://[fd7a:115c:a1e0::1]:1": false, "http://100.128.0.1": true, "http://ts.net.example.com": true,
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

// A proxy on this machine that is ours alone leads into the tailnet; another one
// may lead anywhere.
func TestOpenNetworksBehindProxies(t *testing.T) {
	t.Parallel()
	for proxy, want := range map[string]bool{
		"RACK_GATEWAY_PROXY=socks5h://127.0.0.1:1": false, "RACK_GATEWAY_PROXY=http://192.0.2.1:1": true, "ALL_PROXY=socks5h://127.0.0.1:1": true,
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no call gets out
		var stderr bytes.Buffer
		gateway.Run(ctx, []string{"check"}, []string{"RACK_GATEWAY_URL=http://gateway.invalid", "RACK_GATEWAY_API_TOKEN=x", proxy}, nil, io.Discard, &stderr)
		if got := strings.Contains(stderr.String(), "travels unencrypted"); got != want {
			t.Errorf("%s: warned %v; want %v", proxy, got, want)
		}
	}
}

func TestBlanksAroundSettings(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"GET /R1": {{200, request("pending")}}})
	env := []string{"RACK_GATEWAY_URL= " + g.URL + "\r\n", "RACK_GATEWAY_API_TOKEN=\t" + token + "\n", "HTTP_PROXY= \n"}
	if got := run(t, env, "deploy-approval", "show", "R1"); got.code != 0 {
		t.Errorf("got %+v; want exit 0", got)
	}
	for value, want := range map[string]string{" production\r\n": `"environment":"production",`, " \n": ""} {
		g := deployable(t)
		got := run(t, g.env(append(circle, "RACK_GATEWAY_ENV="+value)...), "deploy-approval", "verify", "--app", "myapp")
		if calls := g.calls(); got.code != 0 || calls[0] != `POST /verify {"app":"myapp",`+want+`"git_commit":"`+commit+`","workflow_id":"`+workflow+`"}` {
			t.Errorf("environment %q: got %+v, calls %q; want %s", value, got, calls, want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	page := reply{200, webhook.Page{Requests: []webhook.Request{request("pending")}}}
	for _, tt := range []struct {
		name   string
		first  reply
		code   int
		stderr string
	}{
		{"well", page, 0, ""},
		{"empty", reply{200, webhook.Page{Requests: []webhook.Request{}}}, 0, ""},
		{"refused", problem(401, "unauthorized", "send a valid token"), 8, "the token was refused at http://127.0.0.1"},
		{"forbidden", problem(403, "forbidden", "x"), 8, "the token was refused"},
		{"not the gateway", reply{200, "hello"}, 10, "the gateway was not reached: http://127.0.0.1"},
		{"another server", reply{404, ""}, 10, "the gateway was not reached: http://127.0.0.1"},
		{"a login page", reply{403, "log in"}, 10, "the gateway was not reached: http://127.0.0.1"},
		{"broken", problem(500, "internal", "x"), 10, "answers, but does not work"},
		{"away", problem(503, "unavailable", "x"), 10, "answers, but does not work"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := serve(t, map[string][]reply{"GET ": {tt.first}})
			got := run(t, g.env(), "check")
			if got.code != tt.code || !strings.Contains(got.stderr, tt.stderr) || (got.stdout != "") != (tt.code == 0) {
				t.Errorf("got %+v; want exit %d and %q", got, tt.code, tt.stderr)
			}
			if calls := g.calls(); len(calls) != 1 || calls[0] != "GET ?limit=1" {
				t.Errorf("calls %q; want one look", calls)
			}
		})
	}
	g := serve(t, map[string][]reply{"GET ": {{502, ""}, page}})
	if got := run(t, g.env(), "check", "--wait", "1m"); got.code != 0 || !strings.Contains(got.stderr, "answered 502 Bad Gateway") {
		t.Errorf("--wait: got %+v; want success at the second try", got)
	}
	g = serve(t, map[string][]reply{"GET ": {problem(401, "unauthorized", "x")}})
	if got := run(t, g.env(), "check", "--wait", "1m"); got.code != 8 || len(g.calls()) != 1 {
		t.Errorf("--wait with a bad token: got %+v; want exit 8 at once", got)
	}
	g.Close()
	if got := run(t, g.env(), "check", "--wait", "600ms"); got.code != 10 || !strings.Contains(got.stderr, "no answer from the gateway at http://127.0.0.1") {
		t.Errorf("nobody there: got %+v; want exit 10", got)
	}
}

// The client's own proxy wins, and does not reach the deploy's command.
func TestOurProxy(t *testing.T) {
	t.Parallel()
	g := deployable(t)
	env := append(g.env(circle...), "RACK_GATEWAY_URL=http://gateway.example.ts.net", "RACK_GATEWAY_PROXY=socks5h://"+socks5(t, g.Listener.Addr().String()), "HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=*")
	for _, keep := range []string{"--keep-token=false", "--keep-token"} {
		got := run(t, env, "deploy", "--app", "myapp", keep, "--", "sh", "-c", `echo "[$RACK_GATEWAY_PROXY]$HTTP_PROXY"`)
		if got.code != 0 || got.stdout != "[]http://127.0.0.1:1\n" {
			t.Errorf("%s: got %+v; want the deploy done, and the other proxies passed on", keep, got)
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
