package bot

import (
	"context"
	"errors"
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

var errTooManyQuestions = errors.New("users.info: too many people asked in this minute")

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
func (m *members) learn(id, problem string) {
	keep := memberFor
	if problem != "" {
		keep = strangerFor
	}
	m.known.Add(id, standing{problem, time.Now().Add(keep)})
}

// Member says as [Workspace.User] does why somebody is no full, active member, but
// for a few minutes from memory. Decisions must not rest on it.
func (w *Workspace) Member(ctx context.Context, id string) (problem string, err error) {
	if s, ok := w.members.known.Get(id); ok && time.Now().Before(s.until) {
		return s.problem, nil
	}
	answer, err, _ := w.members.asking.Do(id, func() (any, error) {
		if !w.members.rate.Allow() {
			return "", errTooManyQuestions
		}
		_, problem, err := w.User(ctx, id)
		return problem, err
	})
	return answer.(string), err
}
