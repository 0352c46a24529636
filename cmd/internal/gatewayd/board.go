package gatewayd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// state says whether a part is well.
type state string

const (
	stateOK    state = "ok"
	stateSkip  state = "skip" // it was not looked at
	stateWarn  state = "warn"
	stateFault state = "fault"
)

// part is one line of the status board.
type part struct {
	Name  string `json:"name"`
	State state  `json:"state"`
	Text  string `json:"text"`         // how it is
	Do    string `json:"do,omitempty"` // what to do about it, where Text does not say so
}

// words are the text and what to do, in one sentence.
func (p part) words() string {
	if p.Do == "" {
		return p.Text
	}
	return strings.TrimSuffix(p.Text, ".") + ": " + p.Do
}

// board is the status of everything that a deploy needs. The daemon shows it at
// /readyz, and the command check makes one of its own.
type board []part

func (b *board) ok(name, text string)        { *b = append(*b, part{name, stateOK, text, ""}) }
func (b *board) skip(name, text string)      { *b = append(*b, part{name, stateSkip, text, ""}) }
func (b *board) warn(name, text, do string)  { *b = append(*b, part{name, stateWarn, text, do}) }
func (b *board) fault(name, text, do string) { *b = append(*b, part{name, stateFault, text, do}) }

// judge adds a part: with a fault if there is an error, otherwise with the text for a
// part that is well.
func (b *board) judge(name string, err error, do, well string) {
	if err != nil {
		b.fault(name, err.Error(), do)
	} else {
		b.ok(name, well)
	}
}

// deciding are the parts without which nothing can be recorded or decided.
func deciding() []string { return []string{"store", "clock", "role"} }

// readiness is the board as /readyz shows it: unavailable only when nothing can be
// recorded or decided; what is wrong elsewhere degrades.
func (b board) readiness() webhook.Readiness {
	r := webhook.Readiness{Status: webhook.StatusOK, Parts: map[string]webhook.Part{}}
	for _, p := range b {
		shown := webhook.Part{Status: webhook.StatusOK, Detail: p.Text}
		switch {
		case p.State == stateFault && slices.Contains(deciding(), p.Name):
			shown = webhook.Part{Status: webhook.StatusUnavailable, Detail: p.words()}
			r.Status = webhook.StatusUnavailable
		case p.State == stateWarn, p.State == stateFault:
			shown = webhook.Part{Status: webhook.StatusDegraded, Detail: p.words()}
			if r.Status == webhook.StatusOK {
				r.Status = webhook.StatusDegraded
			}
		}
		r.Parts[p.Name] = shown
	}
	return r
}

// remote reads the board of a running daemon. What is well there is one line. It
// tells strangers no details.
func remote(address string, r webhook.Readiness) (b board) {
	var well []string
	for _, name := range slices.Sorted(maps.Keys(r.Parts)) {
		p := r.Parts[name]
		if p.Status == webhook.StatusOK {
			well = append(well, name)
			continue
		}
		text, do := p.Detail, ""
		switch {
		case text != "":
		case name == partProxy:
			text, do = unnamedProxy, nameProxy
		default:
			text, do = p.Status, "ask for the reason at /readyz of RGW_METRICS_LISTEN, or with an auditor's token"
		}
		state := stateWarn
		if p.Status == webhook.StatusUnavailable {
			state = stateFault
		}
		b = append(b, part{"daemon " + name, state, text, do})
	}
	if len(well) > 0 {
		b.ok("daemon", "it answers at "+address+"; without fault: "+strings.Join(well, ", "))
	}
	return b
}

// text is the board for people, one line a part.
func (b board) text() string {
	var text strings.Builder
	for _, p := range b {
		word := string(p.State)
		if p.State == stateFault {
			word = "FAULT"
		}
		line := cli.Clean(strings.TrimSpace(fmt.Sprintf("%-5s %s: %s", word, p.Name, p.words())))
		text.WriteString(line + "\n")
	}
	return text.String()
}

// broken reports whether a part has a fault.
func (b board) broken() bool {
	return slices.ContainsFunc(b, func(p part) bool { return p.State == stateFault })
}
