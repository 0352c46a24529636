package approvals

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
)

// Admin holds the operator's use cases. They work on the store alone, beside a
// running daemon, and call nobody: what people have to hear becomes work
// that is due, which the daemon does.
type Admin struct {
	Store Store
	// Operator is who runs the command, as their machine names them; see [Operator].
	Operator string
}

func (a Admin) update(ctx context.Context, fn func(*Change) error) error {
	return commit(ctx, a.Store, nil, fn)
}

// change runs fn on an active admin.
func (a Admin) change(ctx context.Context, slackID string, fn func(*Change, *Person) error) error {
	return a.update(ctx, func(c *Change) error {
		p, err := active(c.Tx, slackID)
		if err != nil {
			return err
		}
		return fn(c, &p)
	})
}

// event starts an event of what the operator did.
func (a Admin) event(t EventType, data Data) Event {
	return Event{Type: t, Actor: Operator(a.Operator), Source: "operator", Data: data}
}

var (
	userPattern  = regexp.MustCompile(`^[UW][A-Z0-9]{2,}$`)
	loginPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
)

// Operator is the actor of a command. name is the user and host as the machine on
// which it runs names them, such as "ana@build-1". That is a claim: whoever controls
// that machine can make it say anything.
func Operator(name string) Actor { return Actor{Kind: ActorOperator, ID: bounded(name, 100)} }

// CheckPerson refuses what no admin can have.
func CheckPerson(slackID, name, login string) error {
	switch {
	case !userPattern.MatchString(slackID):
		return refuse(CodeInvalid, "the Slack id must look like U012ABCDEF (profile → … → Copy member ID)")
	case login != "" && !loginPattern.MatchString(login):
		return refuse(CodeInvalid, "the VCS login must be a GitHub or Bitbucket user name")
	case utf8.RuneCountInString(name) > 80:
		return refuse(CodeInvalid, "the name must be at most 80 characters")
	}
	return nil
}

// AddPerson makes somebody an admin, or changes name and login of one; empty
// values leave what is there.
func (a Admin) AddPerson(ctx context.Context, slackID, name, login string) (p Person, err error) {
	if err := CheckPerson(slackID, name, login); err != nil {
		return p, err
	}
	err = a.update(ctx, func(c *Change) (err error) {
		p, err = recorded[Person](c.Tx, slackID)
		added := errors.Is(err, ErrNotFound) || err == nil && !p.RemovedAt.IsZero()
		if err != nil && !added {
			return err
		}
		e := a.event(EventPersonChanged, Data{"user": slackID, "vcs_login": login, "name": name})
		if added {
			e.Type = EventPersonAdded
		}
		maps.DeleteFunc(e.Data, func(_, value string) bool { return value == "" })
		if err := c.change(&p, e); err != nil {
			return err
		}
		return c.ask(peopleWork())
	})
	return p, err
}

// RemovePerson ends somebody's rights at once and destroys the authenticator.
// The last admin cannot be removed.
func (a Admin) RemovePerson(ctx context.Context, slackID string) error {
	return a.change(ctx, slackID, func(c *Change, p *Person) error {
		all, err := allKept[Person](c.Tx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(o Person) bool {
			_, err := active(c.Tx, o.SlackID)
			return o.SlackID != slackID && err == nil
		}) {
			return refuse(CodeConflict, "%s is the last admin: add another one first", slackID)
		}
		if err := c.saveAuthenticator(slackID, nil); err != nil {
			return err
		}
		return c.change(p, a.event(EventPersonRemoved, Data{"user": slackID}))
	})
}

// active finds an admin who was not removed. Whoever is none has no authenticator.
func active(tx Tx, slackID string) (Person, error) {
	p, err := recorded[Person](tx, slackID)
	if errors.Is(err, ErrNotFound) || err == nil && !p.RemovedAt.IsZero() {
		switch _, err := authenticator(tx, slackID); {
		case err == nil || errors.Is(err, ErrSeal):
			return p, tampered("%s has an authenticator, but is no admin by the events that the index lists", slackID)
		case !errors.Is(err, ErrNotFound):
			return p, err
		}
		return p, refuse(CodeNotFound, "%q is not an admin: add the person first (user add --slack-id …)", slackID)
	}
	return p, err
}

// Access lists everybody and every token that has or had a right, as their events say:
// those that have a row or an authenticator. Where the events of one cannot be found, the
// whole log is read; see [Recorded]. A token that has no row is of no use to anybody.
func (a Admin) Access(ctx context.Context) (people []Person, tokens []Token, err error) {
	err = a.Store.View(ctx, func(tx Tx) error {
		people, tokens, err = listed(tx)
		if errors.Is(err, ErrNotFound) {
			people, tokens, err = Recorded(tx)
		}
		return err
	})
	return people, tokens, err
}

func listed(tx Tx) (people []Person, tokens []Token, err error) {
	h, err := readHead(tx)
	if err != nil {
		return nil, nil, err
	}
	if people, err = eachRecorded[Person](tx, slices.Collect(maps.Keys(h.Factors))); err != nil {
		return nil, nil, err
	}
	if people, err = withStandings(tx, people); err != nil {
		return nil, nil, err
	}
	tokens, err = eachRecorded[Token](tx, nil)
	return people, tokens, err
}

// eachRecorded makes of their events the states that have rows, and those of more ids.
func eachRecorded[T state, P folded[T]](tx Tx, ids []string) (out []T, err error) {
	rows, err := allKept[T](tx)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if !slices.Contains(ids, row.id()) {
			ids = append(ids, row.id())
		}
	}
	for _, id := range ids {
		v, err := recorded[T, P](tx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// Ways in which an authenticator comes to its owner.
const (
	EnrolledByPage     = "page"
	EnrolledByTerminal = "terminal"
	EnrolledByImport   = "import"
)

// Enrol gives a person an authenticator, in place of any other. code confirms
// that the person's app has the secret and counts as used; it may be empty for
// an import, where the operator vouches for it.
func (a Admin) Enrol(ctx context.Context, slackID string, secret totp.Secret, code, by string) error {
	return a.change(ctx, slackID, func(c *Change, p *Person) error {
		return enrol(c, p, secret, code, by, Operator(a.Operator))
	})
}

func enrol(c *Change, p *Person, secret totp.Secret, code, by string, actor Actor) error {
	auth := Authenticator{Secret: secret, EnrolledAt: c.Now(), EnrolledBy: by}
	if code != "" || by != EnrolledByImport {
		typed, err := totp.ParseCode(code)
		if err != nil {
			return refuse(CodeInvalid, "the code must be six digits")
		}
		step, ok := secret.Match(typed, c.Now())
		if !ok {
			return refuse(CodeInvalid, "that code is not right: check the clock of the phone and type the next code")
		}
		auth.LastStep = step
	}
	// What was used stays used, also if the same secret comes again.
	had, err := c.authenticator(p.SlackID)
	switch {
	case err == nil:
		auth.LastStep = max(auth.LastStep, had.LastStep)
	case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrSeal):
		return err
	}
	if err := c.saveAuthenticator(p.SlackID, &auth); err != nil {
		return err
	}
	e := Event{Type: EventEnrolled, Actor: actor, Source: "operator", Outcome: by, Data: Data{"user": p.SlackID}}
	if by == EnrolledByPage {
		e.Source = "page"
	}
	return c.change(p, e)
}

// CheckActive refuses who is no admin.
func (a Admin) CheckActive(ctx context.Context, slackID string) (Person, error) {
	return query(ctx, a.Store, func(tx Tx) (Person, error) { return active(tx, slackID) })
}

// Unlock ends the pause of an authenticator. A disabled one has to be enrolled anew.
func (a Admin) Unlock(ctx context.Context, slackID string) error {
	return a.change(ctx, slackID, func(c *Change, p *Person) error {
		auth, err := c.authenticator(slackID)
		if errors.Is(err, ErrNotFound) {
			return refuse(CodeNotFound, "%s has no authenticator: run user enroll", slackID)
		}
		if err != nil {
			return err
		}
		if auth.Throttle.Disabled {
			return refuse(CodeConflict, "the authenticator of %s is disabled after too many wrong codes: run user enroll for a new one", slackID)
		}
		auth.Throttle = totp.Throttle{}
		if err := c.saveAuthenticator(slackID, &auth); err != nil {
			return err
		}
		return c.change(p, a.event(EventUnlocked, Data{"user": slackID}))
	})
}

// Reset destroys a person's authenticator.
func (a Admin) Reset(ctx context.Context, slackID string) error {
	return a.change(ctx, slackID, func(c *Change, p *Person) error {
		if err := c.saveAuthenticator(slackID, nil); err != nil {
			return err
		}
		return c.change(p, a.event(EventReset, Data{"user": slackID}))
	})
}

// CheckToken refuses what no token can be given.
func CheckToken(name string, role Role, apps []string, life time.Duration) error {
	switch {
	case name == "" || utf8.RuneCountInString(name) > 80 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return refuse(CodeInvalid, "the name must be 1 to 80 printable characters")
	case role != RoleCICD && role != RoleAuditor:
		return refuse(CodeInvalid, "the role must be %s or %s", RoleCICD, RoleAuditor)
	case life < time.Second:
		return refuse(CodeInvalid, "the token must be valid for at least a second")
	}
	for _, app := range apps {
		if !ValidName(app) {
			return refuse(CodeInvalid, "%q cannot be the name of an app", app)
		}
	}
	return nil
}

// CreateToken makes a token; its text is returned once and kept nowhere. nil
// apps means all apps.
func (a Admin) CreateToken(ctx context.Context, name string, role Role, apps []string, life time.Duration) (text string, t Token, err error) {
	name = strings.TrimSpace(name)
	if err := CheckToken(name, role, apps, life); err != nil {
		return "", t, err
	}
	text, id, hash := newTokenText()
	err = a.update(ctx, func(c *Change) error {
		had, err := AllTokens(c.Tx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(had, func(o Token) bool { return o.Name == name && o.RevokedAt.IsZero() && o.Usable(c.Now()) }) {
			return refuse(CodeConflict, "there is already a valid token called %q: rotate it, revoke it first, or choose another name", name)
		}
		return a.grantNew(c, &t, id, Granted{Name: name, Role: role, Apps: apps, Hash: hash, Expires: c.Now().Add(life)})
	})
	return text, t, err
}

func (a Admin) grantNew(c *Change, t *Token, id string, g Granted) error {
	e := a.event(EventTokenCreated, Data{"token": id})
	e.Granted = &g
	_, err := recordKept(c, t, e)
	return err
}

// RotateToken makes a token that has the name, role and apps of an old one, which
// stays in force for grace, so that jobs under way can end and the new text can be
// put where CI reads it. life is that of the new one; 0 = as long as the old one's.
func (a Admin) RotateToken(ctx context.Context, idOrName string, life, grace time.Duration) (text string, t, old Token, err error) {
	if grace < 0 || grace > 30*24*time.Hour {
		return "", t, old, refuse(CodeInvalid, "the old token can stay valid for at most 30 days")
	}
	text, id, hash := newTokenText()
	oldID, err := a.tokenNamed(ctx, idOrName)
	if err != nil {
		return "", t, old, err
	}
	err = a.update(ctx, func(c *Change) error {
		if old, err = recorded[Token](c.Tx, oldID); err != nil {
			return err
		}
		if !old.RevokedAt.IsZero() {
			return refuse(CodeConflict, "the token %s (%s) was revoked or rotated before", old.ID, old.Name)
		}
		if life == 0 {
			life = old.ExpiresAt.Sub(old.CreatedAt)
		}
		if err := CheckToken(old.Name, old.Role, old.Apps, life); err != nil {
			return err
		}
		revoked := a.event(EventTokenRevoked, Data{"token": old.ID, "replaced_by": id})
		if grace > 0 {
			revoked.Data["until"] = c.Now().Add(grace).Format(timeFormat)
		}
		if _, err := recordKept(c, &old, revoked); err != nil {
			return err
		}
		return a.grantNew(c, &t, id, Granted{Name: old.Name, Role: old.Role, Apps: old.Apps, Hash: hash, Expires: c.Now().Add(life)})
	})
	return text, t, old, err
}

// tokenNamed finds the id of a token by itself, or by its name; see [inForce].
func (a Admin) tokenNamed(ctx context.Context, idOrName string) (string, error) {
	if id, _, ok := ParseToken(idOrName); ok {
		idOrName = id // a token that was pasted: never said again
	} else if strings.HasPrefix(idOrName, tokenPrefix) {
		return "", refuse(CodeInvalid, "give the token's id or name: see rack-gatewayd token list")
	}
	return query(ctx, a.Store, func(tx Tx) (string, error) {
		found, err := recorded[Token](tx, idOrName)
		if !errors.Is(err, ErrNotFound) {
			return found.ID, err
		}
		all, err := eachRecorded[Token](tx, nil)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", err
		}
		h, err := readHead(tx)
		if err != nil {
			return "", err
		}
		found = inForce(all, idOrName, tx.Now())
		if found.ID == "" && (h.Tokens == nil || *h.Tokens != len(all)) {
			// The row of one is gone, or says nothing true: it is found in the whole log.
			if _, all, err = Recorded(tx); err != nil {
				return "", err
			}
			found = inForce(all, idOrName, tx.Now())
		}
		if found.ID == "" {
			return "", refuse(CodeNotFound, "there is no valid token %q: see rack-gatewayd token list", idOrName)
		}
		return found.ID, nil
	})
}

// inForce is, of the tokens of a name that were not revoked, the one in force, else the
// newest.
func inForce(all []Token, name string, now time.Time) (found Token) {
	for _, t := range all {
		if t.Name == name && t.RevokedAt.IsZero() && (found.ID == "" || !found.Usable(now)) {
			found = t
		}
	}
	return found
}

// RevokeToken ends a token by id or name, at once.
func (a Admin) RevokeToken(ctx context.Context, idOrName string) (t Token, err error) {
	id, err := a.tokenNamed(ctx, idOrName)
	if err != nil {
		return t, err
	}
	err = a.update(ctx, func(c *Change) error {
		if t, err = recorded[Token](c.Tx, id); err != nil {
			return err
		}
		if !t.RevokedAt.IsZero() && !t.RevokedAt.After(c.Now()) {
			return nil
		}
		_, err = recordKept(c, &t, a.event(EventTokenRevoked, Data{"token": t.ID}))
		return err
	})
	return t, err
}

// ParseLife reads a token's lifetime: a whole number with d, h, m or s.
func ParseLife(s string) (time.Duration, error) {
	units := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second}
	end := max(len(s)-1, 0)
	unit := units[s[end:]]
	n, err := strconv.ParseUint(s[:end], 10, 64)
	switch {
	case unit == 0 || errors.Is(err, strconv.ErrSyntax):
		return 0, errors.New("must be a number with d, h, m or s, such as 90d")
	case err != nil || n < 1 || n > uint64(10*365*24*time.Hour/unit):
		return 0, errors.New("must be from 1s to 3650d")
	}
	return time.Duration(n) * unit, nil
}
