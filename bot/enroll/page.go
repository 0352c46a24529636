package enroll

import (
	"net/http"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

const (
	// issuer is what authenticator apps show; the modal in Slack says it too.
	issuer = "Rack Gateway"
	// accountLimit keeps the QR code small enough for any phone, in characters.
	accountLimit = 32
	nameLimit    = 80
)

// page is one answer. The zero value of what a page does not show is left out.
type page struct {
	Name    string // which content it has
	Title   string
	Person  approvals.Person
	Who     string // how the person is called
	Problem string // what was wrong with the last try
	Text    string // of a page that only says something
	Until   string // end of the link, in UTC
	Minutes int    // until then
	Key     string // in groups of four
	Link    string // for an authenticator app
	Picture picture

	status int
	header map[string]string
	err    error
}

// about makes a page about a link that works.
func about(e approvals.Enrolment, name, title string, status int) page {
	return page{
		Name: name, Title: title, Person: e.Person, Who: called(e.Person), status: status,
		Until: e.Expires.UTC().Format("15:04 UTC"), Minutes: max(1, int(time.Until(e.Expires).Minutes())),
	}
}

func start(e approvals.Enrolment) page {
	return about(e, "start", "Set up your authenticator", http.StatusOK)
}

// notShownYet answers a code for a key that nobody has seen.
func notShownYet(e approvals.Enrolment) page {
	p := about(e, "start", "Set up your authenticator", http.StatusConflict)
	p.Problem = "The key of this link was not shown yet. Start here."
	return p
}

func key(e approvals.Enrolment, secret totp.Secret) page {
	p := about(e, "key", "Add the key to your app", http.StatusOK)
	link := secret.URL(issuer, plain.Cut(p.Who, accountLimit))
	picture, err := draw(link)
	if err != nil {
		return failed(err)
	}
	p.Key, p.Link, p.Picture = inFours(secret.Base32()), link, picture
	return p
}

func wrong(e approvals.Enrolment, problem string) page {
	p := about(e, "wrong", "Type the next code", http.StatusUnprocessableEntity)
	p.Problem = problem
	return p
}

func shownAlready(e approvals.Enrolment) page {
	return about(e, "shown", "The key was shown already", http.StatusGone)
}

// done says that the authenticator is set up, and whether it took the place of another
// one.
func done(e approvals.Enrolment) page {
	p := about(e, "done", "Your authenticator is ready", http.StatusOK)
	p.Until = "" // the link has ended
	return p
}

func gone() page {
	return page{Name: "gone", Title: "This link does not work any more", status: http.StatusGone}
}

func incomplete() page {
	return page{
		Name: "problem", Title: "This link is not complete", status: http.StatusNotFound,
		Text: "Open the link exactly as the operator gave it to you. It may have been cut when it was copied.",
	}
}

func foreign() page {
	return page{
		Name: "problem", Title: "This came from another page", status: http.StatusForbidden,
		Text: "Nothing was changed. Open the link that the operator gave you, and go on from there.",
	}
}

func methodNotAllowed() page {
	return page{
		Name: "problem", Title: "This page cannot do that", status: http.StatusMethodNotAllowed,
		Text: "Open the link in a browser.", header: map[string]string{"Allow": "GET, HEAD, POST"},
	}
}

func notAForm(status int) page {
	return page{
		Name: "problem", Title: "The form did not arrive", status: status,
		Text: "Nothing was changed. Go back and send the form once more.",
	}
}

func failed(err error) page {
	return page{
		Name: "problem", Title: "That did not work just now", status: http.StatusServiceUnavailable, err: err,
		Text:   "The fault is ours, not yours. Wait a moment and open the link again. If it keeps happening, tell the operator.",
		header: map[string]string{"Retry-After": "10"},
	}
}

// called is the person's name, or the Slack id if there is none.
func called(p approvals.Person) string {
	if name := plain.Cut(plain.Visible(p.Name), nameLimit); name != "" {
		return name
	}
	return p.SlackID
}

func inFours(key string) string {
	var groups []string
	for len(key) > 4 {
		groups, key = append(groups, key[:4]), key[4:]
	}
	return strings.Join(append(groups, key), " ")
}
