package approvals

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// EnrolLife is how long an enrolment link works.
const EnrolLife = 10 * time.Minute

// enrolment is an open link: at most one per person, kept sealed.
type enrolment struct {
	Hash    string    `json:"hash"` // SHA-256 of the link's token, base64
	Expires time.Time `json:"expires"`
	Secret  string    `json:"secret,omitempty"` // base32, once it was shown
	Tries   int       `json:"tries,omitempty"`
}

// enrolTries is how many wrong codes a link takes.
const enrolTries = 5

// Enrolment tells the page whose link it is.
type Enrolment struct {
	Person  Person
	Expires time.Time
	Shown   bool // the secret was shown already
}

// ErrLinkGone: the link is used, expired, replaced by a newer one, or none.
var ErrLinkGone = errors.New("the enrolment link does not work any more")

// EnrolLink makes a one-time link token for a person and ends any older one.
// Only its hash is kept. It must not travel through Slack.
func (a Admin) EnrolLink(ctx context.Context, slackID string) (token string, expires time.Time, err error) {
	raw := make([]byte, 32)
	rand.Read(raw)
	token = slackID + "." + base64.RawURLEncoding.EncodeToString(raw)
	err = a.change(ctx, slackID, func(c *Change, p *Person) error {
		expires = c.Now().Add(EnrolLife)
		if err := saveEnrolment(c.Tx, slackID, &enrolment{Hash: hashToken(token), Expires: expires}); err != nil {
			return err
		}
		return c.change(p, a.event(EventEnrolLink, Data{"user": slackID}))
	})
	return token, expires, err
}

// Enrolment reads a link. It changes nothing, so that link previews do no harm.
func (a Admin) Enrolment(ctx context.Context, token string) (Enrolment, error) {
	return query(ctx, a.Store, func(tx Tx) (Enrolment, error) {
		person, open, err := findEnrolment(tx, token)
		return Enrolment{Person: person, Expires: open.Expires, Shown: open.Secret != ""}, err
	})
}

// ShowSecret makes the secret of a link. It works once.
func (a Admin) ShowSecret(ctx context.Context, token string) (p Person, secret totp.Secret, err error) {
	secret = totp.NewSecret()
	err = a.update(ctx, func(c *Change) error {
		person, open, err := findEnrolment(c.Tx, token)
		if err != nil {
			return err
		}
		if open.Secret != "" {
			return ErrLinkGone
		}
		p = person
		open.Secret = secret.Base32()
		return saveEnrolment(c.Tx, person.SlackID, &open)
	})
	return p, secret, err
}

// ConfirmSecret ends an enrolment with a code of the shown secret. A wrong code
// is an *[Error] with code invalid; the link ends after several.
func (a Admin) ConfirmSecret(ctx context.Context, token, code string) (p Person, err error) {
	var wrong error
	err = a.update(ctx, func(c *Change) error {
		person, open, err := findEnrolment(c.Tx, token)
		if err != nil {
			return err
		}
		if open.Secret == "" {
			return ErrLinkGone
		}
		p = person
		secret, err := totp.ParseSecret(open.Secret)
		if err != nil {
			return err
		}
		err = enrol(c, &person, secret, code, EnrolledByPage, Actor{Kind: ActorPerson, ID: person.SlackID})
		if refused, ok := errors.AsType[*Error](err); ok && refused.Code == CodeInvalid {
			if open.Tries++; open.Tries < enrolTries {
				wrong = refused
				return saveEnrolment(c.Tx, person.SlackID, &open)
			}
			wrong, err = ErrLinkGone, nil
		}
		if err != nil {
			return err
		}
		return saveEnrolment(c.Tx, person.SlackID, nil)
	})
	if err == nil {
		err = wrong
	}
	return p, err
}

// findEnrolment opens a link and the record of the person it is for. [ErrLinkGone] when
// there is no such link, or it is over.
func findEnrolment(tx Tx, token string) (Person, enrolment, error) {
	slackID, _, ok := strings.Cut(token, ".")
	if !ok || !userPattern.MatchString(slackID) {
		return Person{}, enrolment{}, ErrLinkGone
	}
	open, err := sealedValue[enrolment](tx, enrolmentName(slackID))
	if err != nil {
		return Person{}, open, err
	}
	if subtle.ConstantTimeCompare([]byte(open.Hash), []byte(hashToken(token))) != 1 || !tx.Now().Before(open.Expires) {
		return Person{}, open, ErrLinkGone
	}
	p, err := active(tx, slackID)
	if gone, ok := errors.AsType[*Error](err); ok && gone.Code == CodeNotFound {
		err = ErrLinkGone
	}
	return p, open, err
}

// saveEnrolment keeps an open link; nil ends it.
func saveEnrolment(tx Tx, slackID string, open *enrolment) error {
	if open == nil {
		return tx.SetSecret(enrolmentName(slackID), "")
	}
	return sealValue(tx, enrolmentName(slackID), open)
}

func enrolmentName(slackID string) string { return "enrolment/" + slackID }

func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.StdEncoding.EncodeToString(sum[:])
}
