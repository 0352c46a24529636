package proof_test

import (
	"pgregory.net/rapid"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/story"
)

// script is everything that is chosen about one world.
type script struct {
	Lanes   []story.Script
	Crashes []int // after how many commits each life ends; the one after the last goes on
	Faults  []fault
	// Processes live on one database at once, as when an old deploy of the gateway
	// overlaps with the new one; 0 = 1.
	Processes int
	Lost      []lostAnswer

	Blind, RateLimits     bool
	Lag                   int // readings for which the job list stays as it was
	HideID, CancelBlocked bool
}

// orderly reports whether the cards of a channel have to stand in the order of
// their requests. They need not if something makes one card look like the fault of
// its own that others need not wait for: Slack refuses it often, and answers
// otherwise. Nor if a claim may be left to its lease: by a process that ends beside
// another, or because the answer to the claim was lost.
func (s script) orderly() bool {
	if s.Processes > 1 || len(s.Lost) > 0 {
		return false
	}
	refused := 0
	for _, f := range s.Faults {
		if f.Kind == failBroken {
			refused++
		}
	}
	return refused < 3
}

func drawScript(t *rapid.T, lanes int) script {
	s := script{
		Blind: rapid.IntRange(0, 5).Draw(t, "blind") == 0, RateLimits: rapid.Bool().Draw(t, "rate limits"),
		Lag: rapid.IntRange(0, 2).Draw(t, "lag"), HideID: rapid.Bool().Draw(t, "hide id"), CancelBlocked: rapid.Bool().Draw(t, "cancel blocked"),
		Crashes:   rapid.SliceOfN(rapid.IntRange(1, 150), 0, 5).Draw(t, "crashes"),
		Processes: rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "processes"),
	}
	if rapid.Bool().Draw(t, "loses") {
		for range rapid.IntRange(1, 4).Draw(t, "lost") {
			s.Lost = append(s.Lost, lostAnswer{At: rapid.IntRange(0, 250).Draw(t, "at"), Made: rapid.Bool().Draw(t, "made")})
		}
	}
	ops, kinds := operations(), faultKinds()
	for range rapid.IntRange(0, 10).Draw(t, "faults") {
		s.Faults = append(s.Faults, fault{
			Op: rapid.SampledFrom(ops).Draw(t, "op"), Nth: rapid.SampledFrom([]int{1, 1, 1, 2, 2, 3, 5, 8, 13, 21}).Draw(t, "nth"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
		})
	}
	for range lanes {
		s.Lanes = append(s.Lanes, story.Draw(t))
	}
	return s
}
