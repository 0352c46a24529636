package bot

import (
	"context"
	"errors"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const (
	// memberFor and strangerFor are how long it is remembered that somebody is a
	// full, active member, and that they are not.
	memberFor   = 5 * time.Minute
	strangerFor = time.Minute
	// membersMost is how many people are remembered.
	membersMost = 5000
	// memberRate is how many more are asked about in a minute: users.info takes
	// about 100 calls a minute, and confirming the admins must have its part.
	memberRate = 30
)

var (
	errTooManyQuestions = errors.New("users.info: too many people asked in this minute")
	errForgotten        = errors.New("users.info: too many people asked at once")
)

// members remembers who is a member, so that commands, which anybody may send as
// often as they like, do not use up the calls with which admins are confirmed.
// Nothing is approved by what is remembered here.
type members struct {
	known  *lru.Cache[string, standing]
	asking singleflight.Group
	rate   *rate.Limiter
}

// standing is what Slack said of somebody.
type standing struct {
	problem string
	places  []string // see places
	until   time.Time
}

func newMembers() *members {
	known, err := lru.New[string, standing](membersMost)
	if err != nil {
		panic(err) // the size is a constant above 0
	}
	return &members{known: known, rate: rate.NewLimiter(rate.Limit(memberRate)/60, memberRate)}
}

// learn remembers an answer of Slack.
func (m *members) learn(id, problem string, places []string) {
	keep := memberFor
	if problem != "" {
		keep = strangerFor
	}
	m.known.Add(id, standing{problem, places, time.Now().Add(keep)})
}

// Member says as [Workspace.User] does why somebody is no full, active member, but
// for a few minutes from memory. Decisions must not rest on it.
func (w *Workspace) Member(ctx context.Context, id string) (problem string, err error) {
	s, err := w.members.standing(ctx, w, id)
	return s.problem, err
}

// belongs reports whether somebody is a full, active member of our workspace and also
// belongs to the others that are named. In an Enterprise organisation, what people do
// names any one of their workspaces. It never makes up for a right: that rests on what
// [Workspace.User] says.
func (w *Workspace) belongs(ctx context.Context, id string, teams []string) (bool, error) {
	s, err := w.members.standing(ctx, w, id)
	if err != nil || s.problem != "" {
		return false, err
	}
	return !slices.ContainsFunc(teams, func(team string) bool { return !slices.Contains(s.places, team) }), nil
}

func (m *members) standing(ctx context.Context, w *Workspace, id string) (standing, error) {
	if s, ok := m.known.Get(id); ok && time.Now().Before(s.until) {
		return s, nil
	}
	_, err, _ := m.asking.Do(id, func() (any, error) {
		if !m.rate.Allow() {
			return nil, errTooManyQuestions
		}
		_, _, err := w.User(ctx, id)
		return nil, err
	})
	if err != nil {
		return standing{}, err
	}
	s, ok := m.known.Get(id)
	if !ok {
		return standing{}, errForgotten
	}
	return s, nil
}
