package enroll

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
)

// guard holds what protects the page from other pages.
type guard struct {
	origins http.CrossOriginProtection
	policy  string
	https   bool
}

func newGuard(publicURL string) *guard {
	g := &guard{policy: "default-src 'none'; style-src '" + hashSource(style) + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"}
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" {
		return g
	}
	g.https = u.Scheme == "https"
	// A proxy in front may have changed the host that we see. An origin that
	// does not parse is not trusted, which is the safe way.
	_ = g.origins.AddTrustedOrigin(u.Scheme + "://" + u.Host)
	return g
}

// hashSource allows one inline element by its content.
// Source: https://www.w3.org/TR/CSP3/#grammardef-hash-source
func hashSource(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// setHeaders sets what each answer carries. The picture is inline SVG without
// styles of its own, so the policy needs no source for images.
func (g *guard) setHeaders(h http.Header) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", g.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), display-capture=(), payment=(), usb=()")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	if g.https { // browsers ignore these over plain http, the second one with a complaint
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
}

// sameOrigin reports whether a form came from our own page.
func (g *guard) sameOrigin(r *http.Request) bool {
	// Browsers do not send Sec-Fetch-Site over plain http, and because of our
	// own Referrer-Policy they send "null" as the origin of our own form. A
	// foreign page that can do so too still lacks the token of the link.
	// Sources: https://www.w3.org/TR/fetch-metadata/#framework and
	// https://fetch.spec.whatwg.org/#append-a-request-origin-header
	if !g.https && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null" {
		return true
	}
	return g.origins.Check(r) == nil
}
