package main

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/rack-gateway/rack-gateway-approvals/bot/browsertest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

var cardFile = flag.String("card", "", "write the picture of the card for the README to this file")

// mostPicture is how large the picture of the card may be, in bytes: it is part of
// every clone.
const mostPicture = 60 << 10

// title is the first line of the newest card.
const title = `[...document.querySelectorAll('#messages .card-title')].at(-1)?.textContent`

// TestPage plays a newcomer at the page, with the mouse, in a real browser.
func TestPage(t *testing.T) {
	b := browsertest.Open(t)
	v := visit(t, brisk)
	b.Screen(1440, 900, false, "light")
	b.Do(chromedp.Navigate(v.url))
	b.Await(title, "Deploy myapp?")
	b.Await(`document.activeElement.tagName`, "BODY") // no ring around anything
	b.Await(`document.querySelector('[data-act^=bypass]') !== null`, "true")
	fits(t, b)
	b.Readable()
	b.Photograph("pending")
	picture(t, b)

	b.Press("#messages .primary")
	b.Await(`document.querySelector('#view-title')?.textContent`, "Approve deploy")
	fits(t, b)
	b.Readable()
	b.Photograph("modal")
	b.Do(chromedp.SendKeys("#view input", "123"))
	b.Press("#view .primary")
	b.Await(`document.querySelector('#view .wrong').textContent !== ''`, "true")
	b.Press("#type")
	b.Press("#view .primary")
	b.Await(title, "Deployed: myapp ✅")
	b.Await(`document.querySelector('#modal').open`, "false")
	b.Await(`document.querySelector('#pipelines .status').textContent`, "✓ success")
	b.Photograph("deployed")

	b.Press("#to-home")
	b.Await(`document.querySelector('#home-view .card-title')?.textContent`, "My authenticator")
	fits(t, b)
	b.Readable()
	b.Photograph("home")
	b.Press("#to-channel")
	b.Do(chromedp.SendKeys("#command", "whoami\r"))
	b.Await(`document.querySelectorAll('#messages .private').length`, "1")
	fits(t, b)
	b.Readable()
	b.Photograph("slash")
	b.Press("#messages .private button")
	b.Await(`document.querySelectorAll('#messages .private').length`, "0")

	b.Press("#push")
	b.Await(`document.querySelectorAll('[data-act^=bypass]').length`, "1")
	b.Press("[data-act^=bypass]")
	b.Await(title, "Approved outside: myapp ⚠️")
	b.Await(`document.querySelector('.jobs .failed pre')?.textContent.includes('Not deploying')`, "true")
	b.Await(`document.querySelector('.jobs .failed details').open`, "true")
	fits(t, b)
	b.Readable()
	b.Photograph("bypassed")

	// On a phone the newest card comes first, and the guide stays in sight.
	b.Screen(390, 700, true, "dark")
	b.Await(`document.querySelector('#messages .card-title').textContent`, "Approved outside: myapp ⚠️")
	b.Await(`(scrollTo(0, document.body.scrollHeight), scrollY > 300)`, "true")
	b.Await(`(() => { const r = document.querySelector('#guide').getBoundingClientRect(); return r.top >= 0 && r.bottom < 200; })()`, "true")
	b.Do(chromedp.SendKeys("#command", "list\r"))
	b.Await(`(() => { const r = document.querySelector('#messages .private')?.getBoundingClientRect(); return Boolean(r) && r.top > 0 && r.bottom < innerHeight; })()`, "true")
}

// TestPageNodes kills a node with the mouse while a window of it is open, approves at
// the other one, and starts it again.
func TestPageNodes(t *testing.T) {
	b := browsertest.Open(t)
	database, remove, err := stage.Postgres(t.Context())
	if errors.Is(err, stage.ErrNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv(stage.PostgresVariable, database)
	v := visit(t, browseOptions{pace: brisk.pace, nodes: 2})
	b.Screen(1440, 900, false, "light")
	b.Do(chromedp.Navigate(v.url))
	b.Await(title, "Deploy myapp?")
	machines := `[...document.querySelectorAll('#machines .status')].map((s) => s.textContent).join()`
	b.Await(machines, "● running,● running")
	fits(t, b)
	b.Press("#messages .primary")
	b.Await(`document.querySelector('#view-title')?.textContent`, "Approve deploy")
	fits(t, b)
	b.Photograph("modal")
	b.Press(`#machines [aria-label="kill -9 node-1"]`)
	b.Await(machines, "killed,● running")
	b.Press("#type")
	b.Press("#view .primary")
	b.Await(`document.querySelector('#modal').open`, "false")
	b.Await(title, "Deployed: myapp ✅")
	b.Press(`#machines [aria-label="Start again node-1"]`)
	b.Await(machines, "● running,● running")
	b.Photograph("deployed")
}

// fits fails if the page is wider than the smallest phone.
func fits(t *testing.T, b *browsertest.Tab) {
	t.Helper()
	b.Screen(320, 640, true, "light")
	if wide := b.Eval(`document.documentElement.scrollWidth`); wide != "320" {
		t.Errorf("the page is %s wide; want the 320 of the screen", wide)
	}
	b.Screen(1440, 900, false, "light")
}

// picture makes the picture of the card.
func picture(t *testing.T, b *browsertest.Tab) {
	t.Helper()
	b.Screen(1900, 900, false, "light")
	b.Await(`document.querySelector('#messages .inline') === null`, "true")
	shot := b.Picture("#messages .message", 6, 1.5)
	b.Screen(1440, 900, false, "light")
	if !strings.HasPrefix(string(shot), "\x89PNG") || len(shot) > mostPicture {
		t.Errorf("got %d bytes; want a PNG of at most %d", len(shot), mostPicture)
	}
	if *cardFile == "" {
		return
	}
	if err := os.WriteFile(*cardFile, shot, 0o644); err != nil {
		t.Fatal(err)
	}
}
