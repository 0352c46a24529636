package attack_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// enrolLink: enrol-link USER [again] takes a new link from the operator.
func enrolLink(w *world, _ *testscript.TestScript, args []string) error {
	r := w.Operator(w.ctx, "", "user", "enroll", "--slack-id", args[0])
	if r.Code != 0 {
		return errors.New(r.Stderr)
	}
	w.link, w.key = strings.TrimSpace(r.Stdout), ""
	return nil
}

var shownKey = regexp.MustCompile(`id="key">([A-Z2-7 ]+)<`)

// page: page get|post [code=now|used|next|DIGITS] [origin=URL] [link=…] [from=ADDRESS] opens the
// link or sends its form; the page is stdout.
func page(w *world, ts *testscript.TestScript, args []string) error {
	o, rest := options(args)
	link := w.link
	if v := o["link"]; v != "" {
		link = w.URL + "/enroll/" + v
	}
	form := url.Values{}
	if kind, ok := o["code"]; ok {
		code, err := w.keyCode(kind)
		if err != nil {
			return err
		}
		form.Set("code", code)
	}
	method, body := http.MethodGet, ""
	if rest[0] == "post" {
		method, body = http.MethodPost, form.Encode()
	}
	req, err := http.NewRequestWithContext(w.ctx, method, link, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if origin := o["origin"]; origin != "" {
		req.Header.Set("Origin", origin)
		req.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	if err := w.do(ts, req); err != nil {
		return err
	}
	if found := shownKey.FindStringSubmatch(w.body); found != nil {
		w.key = strings.ReplaceAll(found[1], " ", "")
	}
	return nil
}

// keyCode is a code of the key that the page showed.
func (w *world) keyCode(kind string) (string, error) {
	if kind != "now" {
		return kind, nil
	}
	secret, err := totp.ParseSecret(w.key)
	if err != nil {
		return "", fmt.Errorf("the page showed no key: %w", err)
	}
	w.lastCode["enrolment"] = secret.At(time.Now())
	return w.lastCode["enrolment"], nil
}
