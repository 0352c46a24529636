package bot

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// Lengths of a reason in characters: at most, and at least that of an emergency.
const (
	maxReason    = 500
	minEmergency = 10
)

// origin is all that a modal carries: an opaque id and where it was opened.
// Nothing in it is believed: it is compared with what is stored.
type origin struct {
	Request string `json:"r"`
	Channel string `json:"c"`
	TS      string `json:"t"`
}

func (o origin) encode() string {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(raw)
}

// modal renders the question before a decision.
func (v view) modal(p approvals.Prompt, action approvals.Action, o origin) slack.ModalViewRequest {
	r := p.Request
	blocks := append([]slack.Block{say("Deploy ", r.Place()).block()}, v.subject(r)...)
	for _, note := range notes(r, true, p.Stranger) {
		blocks = append(blocks, note.small())
	}
	m := slack.ModalViewRequest{
		Type: slack.VTModal, Title: plainText("Approve deploy", limitTitle), Submit: plainText("Approve deploy", limitTitle),
		Close: plainText("Cancel", limitTitle), CallbackID: CallbackApprove, PrivateMetadata: o.encode(),
	}
	switch action {
	case approvals.ActionReject:
		m.Title, m.Submit, m.CallbackID = plainText("Reject deploy", limitTitle), plainText("Reject", limitTitle), CallbackReject
		blocks = append(blocks, askWhy("Shown in the thread.", 1))
	case approvals.ActionBreakGlass:
		m.Title, m.Submit, m.CallbackID = plainText("Emergency release", limitTitle), plainText("Release now", limitTitle), CallbackBreakGlass
		blocks = append(blocks, overrides(p).block(), askWhy("At least 10 characters, shown in the channel.", minEmergency))
	}
	if p.NeedsCode {
		code := slack.NewPlainTextInputBlockElement(nil, InputCode)
		// Apps show codes as "123 456". There is no masked input in Slack, and a
		// number input would lose leading zeros.
		code.MinLength, code.MaxLength = 6, 7
		code.FocusOnLoad = action == approvals.ActionApprove
		hint := plainText("“Rack Gateway”, six digits, changes every 30 seconds.", limitSection)
		blocks = append(blocks, slack.NewInputBlock(BlockCode, plainText("Code from your authenticator", limitButton), hint, code))
	}
	m.Blocks = slack.Blocks{BlockSet: blocks}
	return m
}

// askWhy asks for a reason.
func askWhy(hint string, least int) slack.Block {
	reason := slack.NewPlainTextInputBlockElement(nil, InputReason)
	reason.Multiline, reason.MinLength, reason.MaxLength, reason.FocusOnLoad = true, least, maxReason, true
	return slack.NewInputBlock(BlockReason, plainText("Why?", limitButton), plainText(hint, limitButton), reason)
}

// overrides says what an emergency release sets aside.
func overrides(p approvals.Prompt) line {
	l := say("⚠️ This releases the deploy at once and on your word alone, even if it is your own.")
	if p.Frozen != "" {
		l = say(l, " It overrides the freeze until ", p.Frozen, ".")
	}
	return say(l, " The channel is told, and it stays marked for good.")
}

// ended is the view that says why a submission did nothing: no input, one button.
func ended(title string, why line) *slack.ModalViewRequest {
	return &slack.ModalViewRequest{
		Type: slack.VTModal, Title: plainText(title, limitTitle), Close: plainText("Close", limitTitle),
		CallbackID: callbackDone, Blocks: slack.Blocks{BlockSet: []slack.Block{why.block()}},
	}
}

// inline is a fault shown under an input.
func inline(block string, why line) *slack.ViewSubmissionResponse {
	return slack.NewErrorsViewSubmissionResponse(map[string]string{block: plain.Cut(why.plain(), limitError)})
}

// parseOrigin reads what a modal carried.
func parseOrigin(metadata string) (origin, error) {
	var o origin
	if err := json.NewDecoder(strings.NewReader(metadata)).Decode(&o); err != nil {
		return origin{}, fmt.Errorf("read modal metadata: %w", err)
	}
	if !validRequestID(o.Request) {
		return origin{}, fmt.Errorf("read modal metadata: no request id")
	}
	return o, nil
}

// validRequestID keeps what cannot be an id out of every look-up.
func validRequestID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}
