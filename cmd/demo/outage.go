package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const outageUsage = `Usage: demo outage [--for D] [--window D] [--requests N] [--seed S]
                   [--skip-bypass] [--dir DIR]

Takes Slack and CircleCI away from the real daemon, a process, for a while: one,
the other, both with a SIGKILL in the middle; half of the time they answer 503,
half of the time they refuse connections. Slack's real rate limits are on. A
token that CircleCI refuses and a gate that somebody opens after its request
expired are played as well. What people, CI and CircleCI see must fit together
afterwards. Exits 0 only if it does; otherwise it tells the whole story. All
scenes run at once and take --for plus a few minutes.
`

// outagePlan is what is played.
type outagePlan struct {
	length   time.Duration // of an outage
	window   time.Duration // how long an approval stays usable
	requests int           // filed while Slack is down
	seed     uint64
	bypass   bool
	dir      string
}

func outage(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo outage", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, outageUsage); flags.PrintDefaults() }
	var p outagePlan
	flags.DurationVar(&p.length, "for", 10*time.Minute, "how long a service is away")
	flags.DurationVar(&p.window, "window", 0, "how long an approval stays usable, whole minutes (default: half of --for, at least 1m)")
	flags.IntVar(&p.requests, "requests", 0, "requests that are filed while Slack is away (default: one every five seconds, at least 6)")
	flags.Uint64Var(&p.seed, "seed", rand.Uint64(), "what chooses who asks where, and what becomes of it")
	skip := flags.Bool("skip-bypass", false, "leave out the gate that is opened after its request expired: it takes 6 to 7 minutes whatever --for is")
	flags.StringVar(&p.dir, "dir", "", "keep databases and logs in this directory (default: a temporary one)")
	if code, ok := parse(flags, args); !ok {
		return code
	}
	p.bypass = !*skip
	if p.window == 0 {
		p.window = max(time.Minute, (p.length / 2).Truncate(time.Minute))
	}
	if p.requests == 0 {
		p.requests = max(6, int(p.length/(5*time.Second)))
	}
	if flags.NArg() > 0 || p.length < time.Second || p.requests < 1 || p.window%time.Minute != 0 || p.window < time.Minute || p.window > 24*time.Hour {
		flags.Usage()
		return 2
	}
	if p.dir == "" {
		temporary, err := os.MkdirTemp("", "rack-gateway-outage-")
		if err != nil {
			fmt.Fprintf(stderr, "demo outage: %v\n", err)
			return 1
		}
		defer os.RemoveAll(temporary)
		p.dir = temporary
	}
	return p.play(ctx, stdout)
}

// episode is one scene of the drill: what is done in it, on a stage of its own.
type episode struct {
	name string
	play func(*scene, context.Context) error
	opts sceneOptions
}

func (p outagePlan) episodes() []episode {
	all := []episode{
		{"slack", (*scene).slackDown, sceneOptions{people: slackPeople}},
		{"circleci", (*scene).circleDown, sceneOptions{people: circlePeople}},
		{"both", (*scene).bothDown, sceneOptions{people: bothPeople}},
		{"token", (*scene).tokenRefused, sceneOptions{people: tokenPeople}},
	}
	if p.bypass {
		all = append(all, episode{"bypass", (*scene).leftWaiting, sceneOptions{onClose: "nothing", pendingTTL: time.Minute}})
	}
	return all
}

// play runs all scenes side by side and reports each as it ends.
func (p outagePlan) play(ctx context.Context, out io.Writer) int {
	fmt.Fprintf(out, "outages of %s, approvals usable for %s, %d requests while Slack is away, seed %d\n", p.length, p.window, p.requests, p.seed)
	if p.window >= p.length {
		fmt.Fprintf(out, "note: an approval is usable for longer than the outage; its window does not run out\n")
	}
	if p.length < nameCircleWithin {
		fmt.Fprintf(out, "note: too short for /readyz to have to name CircleCI\n")
	}
	if !p.bypass {
		fmt.Fprintf(out, "note: the gate that is opened after its request expired is left out (--skip-bypass)\n")
	}
	began := time.Now()
	var playing sync.WaitGroup
	var mu sync.Mutex
	broken := 0
	for i, e := range p.episodes() {
		playing.Go(func() {
			s := &scene{plan: p, name: e.name, opts: e.opts, rng: rand.New(rand.NewPCG(p.seed, uint64(i)))}
			s.run(ctx, filepath.Join(p.dir, e.name), e.play)
			mu.Lock()
			defer mu.Unlock()
			s.report(out)
			broken += len(s.broken)
		})
	}
	playing.Wait()
	fmt.Fprintf(out, "%d violations, %s, seed %d\n", broken, time.Since(began).Round(time.Second), p.seed)
	if broken > 0 {
		return 1
	}
	return 0
}

// report prints the scene's line, and the story of what went wrong.
func (s *scene) report(out io.Writer) {
	verdict := "ok"
	if n := len(s.broken); n > 0 {
		verdict = fmt.Sprintf("%d violations", n)
	}
	fmt.Fprintf(out, "%-9s %s: %s\n", s.name+":", verdict, strings.Join(s.figures, "; "))
	for _, v := range s.broken {
		fmt.Fprintf(out, "\nVIOLATION in %s: %s\n", s.name, v)
	}
}
