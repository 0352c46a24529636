// Package browsertest drives Chromium for tests of pages. It is no part of the
// product: only tests import it.
package browsertest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var pictures = flag.String("pictures", "", "directory for pictures of the pages, light and dark, on a phone and on a desk")

const (
	browserTime = 2 * time.Minute  // the whole test, the browser's start included
	awaitTime   = 20 * time.Second // one state of a page
)

// Tab is one page of a headless browser.
type Tab struct {
	t   *testing.T
	ctx context.Context
}

// Open starts Chromium with a profile of its own and opens a tab. The test is
// skipped where there is no Chromium. hosts are names that mean loopback; no other
// host exists. What the browser complains of, such as something that the page's
// policy blocks, fails the test.
func Open(t *testing.T, hosts ...string) *Tab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("skipped: there is no Chromium in PATH, so the page is not tried in a browser")
	}
	rules := ""
	for _, host := range hosts {
		rules += "MAP " + host + " 127.0.0.1, "
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("lang", "en"), chromedp.Flag("no-proxy-server", true), chromedp.Flag("host-resolver-rules", rules+"MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	ctx, cancel := context.WithTimeout(context.Background(), browserTime)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			// Statuses such as 410 are reported too, as of the source network.
			if e.Entry.Source != log.EntrySourceNetwork && e.Entry.Level == log.EntryLevelError {
				t.Errorf("the browser complains: %s: %s", e.Entry.Source, e.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			t.Errorf("the page's script failed: %s", e.ExceptionDetails.Text)
		}
	}))
	t.Cleanup(cancel)
	b := &Tab{t, ctx}
	b.Do() // starts it
	return b
}

// Of returns the same tab for use in a subtest.
func (b *Tab) Of(t *testing.T) *Tab { return &Tab{t, b.ctx} }

// Do runs actions of chromedp, and fails the test when one of them fails.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// Eval runs a script of the test in the page and returns its value as text. The
// page's own policy does not apply to it.
func (b *Tab) Eval(script string) string {
	b.t.Helper()
	got, err := b.eval(script)
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return got
}

func (b *Tab) eval(script string) (string, error) {
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[any](script, chromedp.EvalAwaitPromise))
	return fmt.Sprint(value), err
}

// Await waits until a script gives the wanted value. While one page takes the
// place of another there is none to ask.
func (b *Tab) Await(script, want string) {
	b.t.Helper()
	got := ""
	for end := time.Now().Add(awaitTime); time.Now().Before(end); {
		value, err := b.eval(script)
		if err == nil {
			if got = value; got == want {
				return
			}
		}
		_, _ = b.eval(`new Promise(done => setTimeout(done, 20))`) // the page may go away meanwhile
	}
	b.t.Fatalf("%s: got %q; want %q", script, got, want)
}

// box is where an element is, after it was scrolled into view.
type box struct{ X, Y, Width, Height float64 }

func (b *Tab) box(selector string) box {
	b.t.Helper()
	at, err := chromedp.Run(b.ctx, chromedp.Evaluate[box](fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({block: 'center'});
		const {x, y, width, height} = e.getBoundingClientRect();
		return {x, y, width, height};
	})()`, selector)))
	if err != nil {
		b.t.Fatalf("find %s: %v", selector, err)
	}
	return at
}

// Press presses the mouse in the middle of an element, whatever that does.
func (b *Tab) Press(selector string) {
	b.t.Helper()
	at := b.box(selector)
	b.Do(chromedp.MouseClickXY(at.X+at.Width/2, at.Y+at.Height/2))
}

// Screen sets size and colours. Nothing moves, so that pictures are alike.
func (b *Tab) Screen(width, height int64, phone bool, colours string) {
	b.t.Helper()
	var options []chromedp.EmulateViewportOption
	if phone {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	b.Do(chromedp.EmulateViewport(width, height, options...))
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: colours}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	// A page that draws itself anew for another size does so before the next frame. A
	// press in between would hit what is about to be replaced.
	b.Eval(`new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))`)
}

// Paper shows the page as it is printed on A4.
func (b *Tab) Paper() {
	b.t.Helper()
	b.Screen(718, 1047, false, "light")
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// Picture is an element of the screen, with a margin, as PNG.
func (b *Tab) Picture(selector string, margin, scale float64) []byte {
	b.t.Helper()
	at := b.box(selector)
	shot, err := chromedp.Call(b.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Clip: &page.Viewport{X: at.X - margin, Y: at.Y - margin, Width: at.Width + 2*margin, Height: at.Height + 2*margin, Scale: scale},
	})
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	return shot.Data
}

// Photograph saves the whole page as pictures in the folder that -pictures names.
func (b *Tab) Photograph(name string) {
	b.t.Helper()
	if *pictures == "" {
		return
	}
	for _, colours := range []string{"light", "dark"} {
		for device, width := range map[string]int64{"phone": 390, "desk": 1280} {
			b.Screen(width, 900, device == "phone", colours)
			shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err == nil {
				err = os.WriteFile(filepath.Join(*pictures, fmt.Sprintf("%s-%s-%s.png", name, device, colours)), shot, 0o600)
			}
			if err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.Screen(1280, 900, false, "light")
}

// Readable fails for each text of the page, in light and dark, whose contrast with
// what is behind it is below that of WCAG 2.2 AA: 4.5, or 3 when it is large.
// Texts on pictures or gradients, and of controls that are disabled, do not count.
// Source: https://www.w3.org/TR/WCAG22/#contrast-minimum
func (b *Tab) Readable() {
	b.t.Helper()
	for _, colours := range []string{"light", "dark"} {
		if faint := b.faint(colours); faint != "" {
			b.t.Errorf("hard to read (%s):\n%s", colours, faint)
		}
	}
	b.Screen(1280, 900, false, "light")
}

// faint lists the texts that are hard to read, each behind its contrast.
func (b *Tab) faint(colours string) string {
	b.t.Helper()
	b.Screen(1280, 900, false, colours)
	return b.Eval(contrast)
}

const contrast = `(() => {
	const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
	const rgba = colour => {
		canvas.clearRect(0, 0, 1, 1);
		canvas.fillStyle = colour;
		canvas.fillRect(0, 0, 1, 1);
		const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
		return {c: [r, g, b], a: a / 255};
	};
	const over = (top, a, below) => top.map((v, i) => v * a + below[i] * (1 - a));
	const light = c => c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
	const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
	const behind = e => {
		if (!e) return rgba('Canvas').c;
		const s = getComputedStyle(e), own = rgba(s.backgroundColor);
		if (s.backgroundImage !== 'none' || e.closest('svg')) return null;
		const below = own.a === 1 ? own.c : behind(e.parentElement);
		return below && over(own.c, own.a, below);
	};
	const opacity = e => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
	const faint = new Set(), texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = texts.nextNode();) {
		const e = n.parentElement, s = getComputedStyle(e);
		if (!n.data.trim() || !e.checkVisibility({visibilityProperty: true, opacityProperty: true}) || e.closest(':disabled, option, script, style')) continue;
		const below = behind(e);
		if (!below) continue;
		const ink = rgba(s.color), size = parseFloat(s.fontSize), large = size >= 24 || size >= 18.66 && s.fontWeight >= 700;
		const got = ratio(over(ink.c, ink.a * opacity(e), below), below);
		if (got < (large ? 3 : 4.5)) faint.add(got.toFixed(2) + ': ' + n.data.trim().slice(0, 60));
	}
	return [...faint].join('\n');
})()`
