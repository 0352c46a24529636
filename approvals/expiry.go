package approvals

import (
	"context"
	"strconv"
	"time"
)

// tokenCheck is how often tokens are looked through for those that run out.
const tokenCheck = 6 * time.Hour

// warnDays are the days before a token's end on which the operators' channel
// hears of it, the later warning first.
func warnDays() []int { return []int{3, 14} }

func tokenExpiry() Effect {
	return Effect{Kind: TokenExpiry, Lane: FamilyLocal + ":tokens", Dedupe: "token.expiry"}
}

// warnTokens tells of tokens that expire soon, once per threshold.
func (s *Service) warnTokens(ctx context.Context, _ Effect) Outcome {
	out := Again(tokenCheck, nil)
	out.Record = func(tx Tx, now time.Time) error {
		tokens, err := tx.Tokens()
		if err != nil {
			return err
		}
		for _, t := range tokens {
			if !t.Usable(now) {
				continue
			}
			if err := warnToken(tx, now, t); err != nil {
				return err
			}
		}
		return nil
	}
	return out
}

func warnToken(tx Tx, now time.Time, t Token) error {
	for _, days := range warnDays() {
		span := time.Duration(days) * 24 * time.Hour
		if t.ExpiresAt.Sub(now) > span || t.ExpiresAt.Sub(t.CreatedAt) <= span {
			continue // not yet, or it never was to live longer
		}
		name := "token_warned/" + t.ID
		told, err := tx.Var(name)
		if err != nil {
			return err
		}
		if last, err := strconv.Atoi(told); err == nil && last <= days {
			return nil
		}
		if err := tx.SetVar(name, strconv.Itoa(days)); err != nil {
			return err
		}
		e, err := record(tx, now, Event{Type: EventTokenExpiring, Actor: Actor{Kind: ActorSystem}, Source: "timer", Data: map[string]string{
			"token": t.ID, "name": t.Name, "expires": t.ExpiresAt.Format(timeFormat),
		}})
		if err != nil {
			return err
		}
		return announce(tx, e, "")
	}
	return nil
}
