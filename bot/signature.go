package bot

import (
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/slack-go/slack"
)

const (
	// signatureAge is how far from our clock the time of a signature may be.
	// Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
	signatureAge = 5 * time.Minute
	// refusalEvery bounds how often refused requests are logged.
	refusalEvery = time.Minute
	// refusalShown is how long refused requests are shown in /readyz.
	refusalShown = time.Hour

	subjectSignature = "signing secret"
)

var signatureForm = regexp.MustCompile(`^v0=[0-9a-f]{64}$`)

// implausible says why a request cannot be Slack's whatever its body is, "" when
// it can be.
func implausible(h http.Header) string {
	if !signatureForm.MatchString(h.Get("X-Slack-Signature")) {
		return "they have no signature of Slack's form"
	}
	seconds, err := strconv.ParseInt(h.Get("X-Slack-Request-Timestamp"), 10, 64)
	if err != nil {
		return "they have no time"
	}
	if time.Since(time.Unix(seconds, 0)).Abs() > signatureAge {
		return "their time is more than 5 minutes away from this machine's clock"
	}
	return ""
}

// signatureHolds compares in constant time and allows five minutes either way.
// Without a secret nothing holds.
func signatureHolds(h http.Header, secret string, body []byte) bool {
	v, err := slack.NewSecretsVerifier(h, secret)
	if err != nil {
		return false
	}
	if _, err := v.Write(body); err != nil {
		return false
	}
	return v.Ensure() == nil
}

// refusals tells the operator of requests that were refused: at once, then once a
// minute how many there were.
type refusals struct {
	log    *slog.Logger
	health *health

	mu     sync.Mutex
	counts map[string]*refusalCount
	forged int // since the last signature that fits
	forget *time.Timer
}

// refusalCount counts the refusals for one reason.
type refusalCount struct {
	told   time.Time
	silent int // since then
}

func newRefusals(log *slog.Logger, h *health) *refusals {
	return &refusals{log: log, health: h, counts: map[string]*refusalCount{}}
}

// refused logs a request that cannot be Slack's. Anybody can send one, so it does not
// mean that the set-up is wrong.
func (r *refusals) refused(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(why)
}

// mismatched takes in a request that looks like Slack's, but for its signature.
// When all of Slack's requests are so, the secret is wrong and no click arrives.
func (r *refusals) mismatched() {
	const why = "their signature does not fit SLACK_SIGNING_SECRET"
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(why)
	r.forged++
	r.health.bad(subjectSignature, fmt.Sprintf("%d requests were refused because %s: compare it with the signing secret of the Slack app", r.forged, why))
	if r.forget != nil {
		r.forget.Stop()
	}
	r.forget = time.AfterFunc(refusalShown, r.fits)
}

// fits takes in a request whose signature is right.
func (r *refusals) fits() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forged == 0 {
		return
	}
	r.forged = 0
	r.forget.Stop()
	r.health.good(subjectSignature)
}

// tell logs a refusal, or counts it for the next line. The caller holds the lock.
func (r *refusals) tell(why string) {
	count := r.counts[why]
	if count == nil {
		count = &refusalCount{}
		r.counts[why] = count
	}
	count.silent++
	if now := time.Now(); now.Sub(count.told) >= refusalEvery {
		r.log.Warn("requests to Slack's endpoints were refused", "why", why, "count", count.silent)
		count.told, count.silent = now, 0
	}
}
