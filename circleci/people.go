package circleci

import (
	"context"
	"strings"
	"sync"
)

// User is a person or a machine user.
type User struct {
	ID    string
	Login string
}

// Me asks who the token belongs to. Unlike [Client.Self] it asks CircleCI each time.
func (c *Client) Me(ctx context.Context) (User, error) {
	return c.user(ctx, get("me", "read own user", "/me"), "")
}

// Self is our own user id. CircleCI is asked once.
func (c *Client) Self(ctx context.Context) (string, error) {
	return c.own.get("", func() (string, error) {
		me, err := c.Me(ctx)
		return me.ID, err
	})
}

// Login is the login of a user id, and empty for an empty id. CircleCI is asked once for each user.
func (c *Client) Login(ctx context.Context, userID string) (string, error) {
	if userID == "" {
		return "", nil
	}
	return c.logins.get(userID, func() (string, error) {
		u, err := c.user(ctx, get("user", "read user", "/user/%s", id{"user id", userID}), userID)
		return u.Login, err
	})
}

func (c *Client) user(ctx context.Context, k call, want string) (User, error) {
	var u wireUser
	if err := c.object(ctx, k, &u, want); err != nil {
		return User{}, err
	}
	return User{u.ID, u.Login}, nil
}

// SameProject reports whether two slugs mean one project. A slug that begins with circleci/ has several spellings, so
// that only the ids of the projects can tell.
func (c *Client) SameProject(ctx context.Context, a, b string) (bool, error) {
	if SameSlug(a, b) {
		return true, nil
	}
	if !strings.HasPrefix(a, "circleci/") && !strings.HasPrefix(b, "circleci/") {
		return false, nil
	}
	first, err := c.ProjectID(ctx, a)
	if err != nil {
		return false, err
	}
	second, err := c.ProjectID(ctx, b)
	return err == nil && first == second, err
}

// ProjectID is the id of a project that the token may see. CircleCI is asked once for each slug.
func (c *Client) ProjectID(ctx context.Context, slug string) (string, error) {
	return c.projects.get(slug, func() (string, error) {
		const doing = "read project"
		normal, err := NormalizeSlug(slug)
		if err != nil {
			return "", invalid(doing, err.Error())
		}
		var p wireObject
		err = c.object(ctx, get("project", doing, "/project/"+normal), &p, "")
		return p.ID, err
	})
}

// maxKnown bounds each memo.
const maxKnown = 10_000

// memo remembers the answers to look-ups that always have the same answer. A failed look-up is not remembered.
type memo struct {
	mu    sync.Mutex
	known map[string]string
}

func (m *memo) get(key string, look func() (string, error)) (string, error) {
	m.mu.Lock()
	value, ok := m.known[key]
	m.mu.Unlock()
	if ok {
		return value, nil
	}
	value, err := look()
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxKnown {
		m.known = map[string]string{}
	}
	m.known[key] = value
	return value, nil
}
