package browsertest

import (
	"net/url"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestReadable shows the judge pages on which it has to complain, and pages on which
// it must not. The greys are those around the limits of WCAG.
func TestReadable(t *testing.T) {
	b := Open(t)
	for page, want := range map[string][2]string{ // in light, in dark
		`<p>black`:                                 {},
		`<p style="color: #767676">just enough`:    {},
		`<p style="color: #777">too faint`:         {"4.48: too faint", "4.48: too faint"},
		`<h1 style="color: #949494">large`:         {},
		`<h1 style="color: #999">large and faint`:  {"2.85: large and faint", "2.85: large and faint"},
		`<div style="opacity: .5"><p>half`:         {"3.98: half", "3.98: half"},
		`<p style="color: rgb(0 0 0 / .5)">half`:   {"4.00: half", "4.00: half"},
		`<p style="background: #000">in the dark`:  {"1.00: in the dark", "1.00: in the dark"},
		`<p hidden style="color: #fff">not shown`:  {},
		`<button disabled style="color: #fff">no`:  {},
		`<p>a<span style="color: #fff">b</span> c`: {"1.00: b", "1.00: b"},
		`<style>@media (prefers-color-scheme: dark) { body { background: #111; color: #444 } }</style><p>at night`: {"", "1.94: at night"},
	} {
		b.Do(chromedp.Navigate("data:text/html," + url.PathEscape("<!doctype html><style>:root { background: #fff; color: #000 }</style>"+page)))
		for i, colours := range []string{"light", "dark"} {
			if got := b.faint(colours); got != want[i] {
				t.Errorf("%s (%s): got %q; want %q", page, colours, got, want[i])
			}
		}
	}
}
