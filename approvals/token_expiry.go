package approvals

import (
	"context"
	"strconv"
	"time"
)

// tokenCheck is how often tokens are looked through for those that run out.
const tokenCheck = 6 * time.Hour

// warnTokens tells of tokens that expire soon, once per threshold.
func (s *Service) warnTokens(context.Context) Outcome {
	out := Outcome{Due: time.Now().Add(tokenCheck)}
	out.Record = func(c *Change) error {
		if err := c.countTokens(); err != nil {
			return err
		}
		tokens, err := AllTokens(c.Tx)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			if !t.Usable(c.Now()) || !t.RevokedAt.IsZero() { // of a rotated one the successor counts
				continue
			}
			if err := warnToken(c, t); err != nil {
				return err
			}
		}
		return nil
	}
	return out
}

func warnToken(c *Change, t Token) error {
	now := c.Now()
	// The operators' channel hears of it so many days before, the later warning first.
	for _, days := range []int{3, 14} {
		span := time.Duration(days) * 24 * time.Hour
		if t.ExpiresAt.Sub(now) > span || t.ExpiresAt.Sub(t.CreatedAt) <= span {
			continue // not yet, or it never was to live longer
		}
		name := "token_warned/" + t.ID
		told, err := whole(c.Secret(name))
		if err != nil {
			return err
		}
		if last, err := strconv.Atoi(told); err == nil && last <= days {
			return nil
		}
		if err := c.SetSecret(name, strconv.Itoa(days)); err != nil {
			return err
		}
		return c.warn(Event{Type: EventTokenExpiring, Actor: Actor{Kind: ActorSystem}, Source: "timer", Data: Data{
			"token": t.ID, "name": t.Name, "expires": t.ExpiresAt.Format(timeFormat),
		}})
	}
	return nil
}

// countTokens seals how many tokens there are, where the head does not say so.
func (c *Change) countTokens() error {
	if err := c.begin(); err != nil || c.head.Tokens != nil || c.journal.hold() != "" {
		return err
	}
	p, err := c.journal.prove(c.Tx)
	if err != nil {
		return err
	}
	defer p.release()
	c.head.Tokens, c.grown = new(len(p.rights.tokens)), true
	return nil
}
