package approvals_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

var (
	storySteps = flag.Int("step.count", 200_000, "how many steps the generated stories take")
	storySeed  = flag.Uint64("step.seed", 0, "seed of the generated stories; 0 = a random one")
	exploreFor = flag.Duration("step.explore", 5*time.Second, "how long the small world is explored")
)

// story tells choices in words.
func story(w scene, did []int) string {
	var b strings.Builder
	m := newModel(w)
	fmt.Fprintf(&b, "%+v\n", w)
	for _, c := range did {
		choices[c].happen(m)
		states := make([]string, len(m.requests))
		for i, r := range m.requests {
			states[i] = fmt.Sprintf("%s (round %d, %d decisions, %d attempts)", r.Status, r.Round, len(r.Decisions), r.Attempt.Count)
		}
		fmt.Fprintf(&b, "%s %-40s gate %s by %q: %s\n", m.now.Format("02 15:04:05"), choices[c].name, m.gate, m.openedBy, strings.Join(states, ", "))
	}
	return b.String()
}

// play replays choices, and returns what was broken.
func play(w scene, did []int, calm bool) string {
	m := newModel(w)
	for _, c := range did {
		if choices[c].happen(m); m.broken != "" {
			return m.broken
		}
	}
	if calm {
		m.calm()
	}
	return m.broken
}

// shrink leaves choices out as long as something stays broken.
func shrink(w scene, did []int, calm bool) []int {
	for n := len(did) / 2; n > 0; n /= 2 {
		for at := 0; at+n <= len(did); {
			if less := slices.Delete(slices.Clone(did), at, at+n); play(w, less, calm) != "" {
				did = less
			} else {
				at += n
			}
		}
	}
	return did
}

// TestStepStories plays random stories. With -step.count 10000000 it takes as
// many steps by hand; a failure is shrunk and can be played again by its seed.
func TestStepStories(t *testing.T) {
	seed := *storySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	steps, stories := 0, 0
	ends := map[approvals.Status]int{}
	for steps < *storySteps {
		w := randomScene(rng)
		m := newModel(w)
		drawn := draw(rng)
		var did []int
		for range 60 {
			c := drawn[rng.IntN(len(drawn))]
			did = append(did, c)
			if choices[c].happen(m); m.broken != "" {
				did = shrink(w, did, false)
				t.Fatalf("seed %d, story %d: %s\n%s", seed, stories, play(w, did, false), story(w, did))
			}
		}
		if m.calm(); m.broken != "" {
			did = shrink(w, did, true)
			t.Fatalf("seed %d, story %d, after it was calm again: %s\n%s", seed, stories, play(w, did, true), story(w, did))
		}
		for _, r := range m.requests {
			ends[r.Status]++
		}
		steps += m.steps
		stories++
	}
	t.Logf("seed %d: %d stories, %d steps, nothing broken; the requests ended as %v", seed, stories, steps, ends)
	for _, s := range approvals.Statuses() {
		if ends[s] == 0 && !s.Open() {
			t.Errorf("no story ended as %s: the model does not get there", s)
		}
	}
}

// TestStepExplored lets everything happen in three scenes of a small world, to the depth that
// the time allows, without looking at a state twice.
func TestStepExplored(t *testing.T) {
	type state struct {
		m   *model
		did []int
	}
	scenes := []scene{
		{auto: true, onClose: approvals.CloseNothing, ttl: time.Hour},
		{auto: false, onClose: approvals.CloseNothing, ttl: time.Hour},
		{auto: true, onClose: approvals.CloseCancelJob, ttl: time.Hour},
	}
	for _, w := range scenes {
		level := []state{{m: newModel(w)}}
		seen := map[string]bool{level[0].m.key(): true}
		end := time.Now().Add(*exploreFor / time.Duration(len(scenes)))
		depth, steps := 0, 0
		for ; len(level) > 0 && time.Now().Before(end); depth++ {
			var next []state
			for _, s := range level {
				if time.Now().After(end) {
					break
				}
				for c := range choices {
					m := s.m.clone()
					choices[c].happen(m)
					steps++
					did := append(slices.Clone(s.did), c)
					if m.broken != "" {
						t.Fatalf("%s\n%s", m.broken, story(w, did))
					}
					if k := m.key(); !seen[k] {
						seen[k] = true
						next = append(next, state{m, did})
					}
				}
			}
			level = next
		}
		t.Logf("%+v: depth %d, %d states, %d choices taken", w, depth, len(seen), steps)
	}
}
