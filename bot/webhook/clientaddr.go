package webhook

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Guard limits how often an address may ask a handler that stands beside the
// API and needs no token, such as the enrolment page. What the same address calls
// elsewhere does not count here.
func (h *Handler) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.watchProxy(r)
		if wait := h.stranger(r, h.pages); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
			if r.ContentLength != 0 {
				w.Header().Set("Connection", "close") // as for the API's refusals
			}
			http.Error(w, "Too many calls from your address. Wait a minute, then try again.", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// stranger counts a call that has no valid token; wait is how long the caller
// must wait, 0 = go on. A limit for one address fits only as long as an address is
// one caller. All that come through a proxy have the same, so they share a limit
// that is 20 times as large until RGW_TRUSTED_PROXIES names the proxy. What such a
// proxy claims in a header is still not believed: anybody could claim it.
func (h *Handler) stranger(r *http.Request, each *limiter) (wait time.Duration) {
	from := strangerKey(clientAddress(r, h.trusted))
	if h.behindProxy(r) {
		return h.fronts.take(from)
	}
	return each.take(from)
}

// proxySight remembers that a proxy in front was seen that nobody named.
type proxySight struct {
	mu   sync.Mutex
	seen time.Time
}

// proxySightTime is how long one sight of an unnamed proxy is shown.
const proxySightTime = time.Hour

// UnnamedProxy reports whether calls came lately through a proxy that is not one
// of TrustedProxies, so that the addresses of the callers are not known.
func (h *Handler) UnnamedProxy() bool {
	h.proxies.mu.Lock()
	defer h.proxies.mu.Unlock()
	return !h.proxies.seen.IsZero() && time.Since(h.proxies.seen) < proxySightTime
}

// behindProxy reports whether a call came through a proxy that is not trusted: it
// says so, and comes from an address that is not of the Internet. From there, a
// header that claims to be a proxy's is a caller's own.
func (h *Handler) behindProxy(r *http.Request) bool {
	claimed := len(r.Header.Values("X-Forwarded-For")) > 0 || len(r.Header.Values("Forwarded")) > 0
	return claimed && inside(peer(r)) && !h.trusts(peer(r))
}

// watchProxy notes and logs once that a proxy is in front that nobody named.
func (h *Handler) watchProxy(r *http.Request) {
	if !h.behindProxy(r) {
		return
	}
	h.proxies.mu.Lock()
	first := h.proxies.seen.IsZero()
	h.proxies.seen = time.Now()
	h.proxies.mu.Unlock()
	if first {
		h.log.Warn("a proxy is in front, but RGW_TRUSTED_PROXIES does not name it: all callers behind it share one limit", "proxy", peer(r).String())
	}
}

// sharedSpace is for networks between a provider and its customers (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

func inside(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

func (h *Handler) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(h.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// peer is the address that the connection comes from.
func peer(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return remote.Addr().Unmap().WithZone("")
}

// clientAddress tells who calls. X-Forwarded-For is believed only as far as
// trusted proxies wrote it: the address is the rightmost one that is not a
// trusted proxy itself, since everything left of it may be made up.
func clientAddress(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := peer(r)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			break
		}
		next, ok := parseHop(strings.TrimSpace(hop))
		if !ok {
			break
		}
		addr = next
	}
	return addr
}

// parseHop reads an address with or without a port.
func parseHop(hop string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}
