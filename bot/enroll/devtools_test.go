package enroll_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const (
	browserTime = 60 * time.Second // the whole test, the browser's start included
	awaitTime   = 15 * time.Second // one page
)

// tab is one page of a headless browser, driven through the DevTools protocol.
// Source: https://chromedevtools.github.io/devtools-protocol/
type tab struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
	last *int // number of the last call
}

// startBrowser starts Chromium with a profile of its own and opens a tab. The
// test is left out where there is none. hosts are names that mean loopback.
func startBrowser(t *testing.T, ctx context.Context, hosts string) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Log("no Chromium in PATH: the page was not tried in a browser")
		return nil
	}
	profile, err := os.MkdirTemp("", "enroll-browser")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync",
		"--disable-quic", "--disable-breakpad", "--metrics-recording-only", "--password-store=basic", "--use-mock-keychain", "--lang=en", "--no-proxy-server",
		"--host-resolver-rules=MAP "+hosts+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir="+profile, "--remote-debugging-port=0", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+profile)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its helpers end with it
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	said := make(chan string, 1)
	var drained sync.WaitGroup
	drained.Go(func() { // until the browser ends: a full pipe would stop it
		defer close(said)
		for in := bufio.NewScanner(errs); in.Scan(); {
			if _, url, ok := strings.Cut(in.Text(), "DevTools listening on "); ok {
				select {
				case said <- url:
				default:
				}
			}
		}
	})
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Logf("end the browser: %v", err)
		}
		drained.Wait()
		cmd.Wait() // it was killed
		os.RemoveAll(profile)
	})
	var address string
	select {
	case address = <-said:
	case <-ctx.Done():
	}
	if address == "" {
		t.Fatalf("%s did not start; time out: %v", path, ctx.Err())
	}
	return openTab(t, ctx, address)
}

func openTab(t *testing.T, ctx context.Context, address string) *tab {
	t.Helper()
	host, _, _ := strings.Cut(strings.TrimPrefix(address, "ws://"), "/")
	r, err := http.NewRequestWithContext(ctx, "PUT", "http://"+host+"/json/new?about:blank", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	defer res.Body.Close()
	var target struct {
		URL string `json:"webSocketDebuggerUrl"`
	}
	if err := json.NewDecoder(res.Body).Decode(&target); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	conn, _, err := websocket.DefaultDialer.DialContext(ctx, target.URL, nil)
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	b := &tab{t: t, ctx: ctx, conn: conn, last: new(int)}
	b.call("Page.enable", nil, nil)
	b.call("Log.enable", nil, nil)
	return b
}

// of is the same tab, for a subtest.
func (b *tab) of(t *testing.T) *tab {
	sub := *b
	sub.t = t
	return &sub
}

type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// next reads one message. What the browser complains of fails the test: a
// policy that blocks something is such a complaint.
func (b *tab) next() message {
	b.t.Helper()
	if deadline, ok := b.ctx.Deadline(); ok {
		b.conn.SetReadDeadline(deadline)
	}
	var m message
	if err := b.conn.ReadJSON(&m); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	if m.Method == "Log.entryAdded" {
		var p struct {
			Entry struct{ Source, Level, Text string }
		}
		if err := json.Unmarshal(m.Params, &p); err != nil {
			b.t.Fatal(err)
		}
		// Statuses such as 410 are reported too, as of source "network".
		if p.Entry.Source != "network" && p.Entry.Level == "error" {
			b.t.Errorf("the browser complains: %s: %s", p.Entry.Source, p.Entry.Text)
		}
	}
	return m
}

func (b *tab) send(method string, params any) {
	b.t.Helper()
	*b.last++
	if err := b.conn.WriteJSON(map[string]any{"id": *b.last, "method": method, "params": params}); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

// try returns the browser's own refusal, such as that the page went away.
func (b *tab) try(method string, params, result any) error {
	b.t.Helper()
	b.send(method, params)
	for {
		switch m := b.next(); {
		case m.ID != *b.last:
		case m.Error != nil:
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		case result != nil:
			return json.Unmarshal(m.Result, result)
		default:
			return nil
		}
	}
}

func (b *tab) call(method string, params, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

// eval runs a script of the test in the page. The page's own policy does not
// apply to it.
func (b *tab) eval(script string) string {
	b.t.Helper()
	got, err := b.tryEval(script)
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return got
}

func (b *tab) tryEval(script string) (string, error) {
	b.t.Helper()
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	err := b.try("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &out)
	if err == nil && out.Exception != nil {
		err = errors.New(out.Exception.Text)
	}
	return fmt.Sprint(out.Result.Value), err
}

// await waits until a script gives the wanted value. While one page takes the
// place of another there is none to ask.
func (b *tab) await(script, want string) {
	b.t.Helper()
	got := ""
	for end := time.Now().Add(awaitTime); time.Now().Before(end); {
		if value, err := b.tryEval(script); err == nil {
			if got = value; got == want {
				return
			}
			b.tryEval(`new Promise(done => setTimeout(done, 20))`)
		}
	}
	b.t.Fatalf("got %q; want %q", got, want)
}

// open goes to a page, without waiting for it.
func (b *tab) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
}

// press presses the mouse in the middle of an element.
func (b *tab) press(selector string) {
	b.t.Helper()
	var at struct{ X, Y float64 }
	raw := b.eval(`(() => { const e = document.querySelector('` + selector + `'); e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); return JSON.stringify({X: r.x + r.width / 2, Y: r.y + r.height / 2}) })()`)
	if err := json.Unmarshal([]byte(raw), &at); err != nil {
		b.t.Fatalf("%s: %v", selector, err)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// write types into the field that has the focus, then Enter.
func (b *tab) write(text string) {
	b.t.Helper()
	b.call("Input.insertText", map[string]any{"text": text}, nil)
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}, nil)
	}
}

// screen sets size and colours.
func (b *tab) screen(width, height int, phone bool, colours string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}, nil)
	b.call("Emulation.setTouchEmulationEnabled", map[string]any{"enabled": phone}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}}}, nil)
}

// photograph saves the whole page as a picture in the folder that
// ENROLL_PICTURES names, in light and dark, on a phone and on a desk.
func (b *tab) photograph(name string) {
	b.t.Helper()
	folder := os.Getenv("ENROLL_PICTURES")
	if folder == "" {
		return
	}
	for _, phone := range []bool{true, false} {
		for _, colours := range []string{"light", "dark"} {
			device := "desk"
			if b.screen(1280, 900, false, colours); phone {
				device = "phone"
				b.screen(390, 844, true, colours)
			}
			var shot struct{ Data string }
			b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
			raw, err := base64.StdEncoding.DecodeString(shot.Data)
			if err != nil {
				b.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%s-%s-%s.png", name, device, colours)), raw, 0o600); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.screen(1280, 900, false, "light")
}
