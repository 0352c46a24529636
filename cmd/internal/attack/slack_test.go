package attack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// click: click USER ACTION NAME [team=] [app=] [value=] presses a button of a card,
// perhaps with a payload that Slack would not send.
func click(w *world, _ *testscript.TestScript, args []string) error {
	o, rest := options(args)
	user := rest[0]
	f, err := w.flow(rest[2])
	if err != nil {
		return err
	}
	if w.Slack.View(user) != nil {
		if err := w.Slack.CloseView(user); err != nil {
			return err
		}
	}
	press := slacktest.ButtonClick{User: user, Channel: f.card.Channel, TS: f.card.TS, ActionID: rest[1], Team: o["team"]}
	if value, ok := o["value"]; ok {
		press.Value = &value
	}
	d, err := w.Slack.PrepareClick(press)
	if err != nil {
		return err
	}
	if app := o["app"]; app != "" {
		d.Payload = bytes.ReplaceAll(d.Payload, []byte(w.Slack.Config().AppID), []byte(app))
	}
	w.sent = d
	told := len(w.Slack.Ephemerals(user))
	if _, err := w.Slack.Deliver(w.ctx, d); err != nil {
		return err
	}
	err = w.Slack.Wait(w.ctx, func() bool { return w.Slack.View(user) != nil || len(w.Slack.Ephemerals(user)) > told })
	if err != nil {
		return err
	}
	w.answer, w.said = "modal", ""
	if w.Slack.View(user) == nil {
		said := w.Slack.Ephemerals(user)
		w.answer, w.said = "refused", said[len(said)-1].Text
	}
	return nil
}

// submit: submit USER [code=] [reason=] [team=] [app=] [card=NAME] sends the open modal;
// card puts another card's metadata into it.
func submit(w *world, ts *testscript.TestScript, args []string) error {
	if err := prepare(w, ts, args); err != nil || w.answer != "prepared" {
		return err
	}
	user := args[0]
	raw, err := w.Slack.Deliver(w.ctx, w.sent)
	if err != nil {
		return err
	}
	got, err := w.Slack.ApplySubmission(user, w.Slack.View(user).ID, w.sent, raw)
	w.saw(got)
	return err
}

// prepare is submit without sending, for [send].
func prepare(w *world, _ *testscript.TestScript, args []string) error {
	o, rest := options(args)
	view := w.Slack.View(rest[0])
	if view == nil {
		return fmt.Errorf("%s has no modal; last said: %s", rest[0], w.said)
	}
	values := slacktest.Values{}
	if kind, ok := o["code"]; ok {
		values["totp"] = map[string]string{"code": w.code(rest[0], kind)}
	}
	if reason, ok := o["reason"]; ok {
		values["reason"] = map[string]string{"text": reason}
	}
	d, local, err := w.Slack.PrepareSubmit(rest[0], view.ID, values)
	if err != nil {
		return err
	}
	if len(local) > 0 { // Slack itself refuses
		w.saw(slacktest.SubmitResult{Errors: local})
		return nil
	}
	for placeholder, own := range map[string]string{"app": w.Slack.Config().AppID, "team": w.Slack.Config().TeamID} {
		if v := o[placeholder]; v != "" {
			d.Payload = bytes.ReplaceAll(d.Payload, []byte(own), []byte(v))
		}
	}
	if name := o["card"]; name != "" {
		other, err := w.flow(name)
		if err != nil {
			return err
		}
		// Only the request's id is changed, as somebody would who wants this
		// modal to count for another request.
		var carried struct {
			R string `json:"r"`
		}
		if err := json.Unmarshal([]byte(view.PrivateMetadata), &carried); err != nil {
			return err
		}
		d.Payload = bytes.ReplaceAll(d.Payload, []byte(carried.R), []byte(other.id))
	}
	w.sent, w.answer = d, "prepared"
	return nil
}

// send: send [signature=bad|none|other-body] [age=6m] posts the last payload by HTTP.
func send(w *world, ts *testscript.TestScript, args []string) error {
	o, _ := options(args)
	at := time.Now()
	if age := o["age"]; age != "" {
		d, err := time.ParseDuration(age)
		if err != nil {
			return err
		}
		at = at.Add(-d)
	}
	req, err := w.Slack.SignedRequest(w.ctx, w.sent, at)
	if err != nil {
		return err
	}
	switch o["signature"] {
	case "bad":
		req.Header.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64))
	case "none":
		req.Header.Del("X-Slack-Signature")
	case "other-body":
		other, err := http.NewRequestWithContext(w.ctx, http.MethodPost, req.URL.String(), strings.NewReader("payload=%7B%7D"))
		if err != nil {
			return err
		}
		other.Header = req.Header
		req = other
	}
	return w.do(ts, req)
}

// atOnce: at-once NAME approve:USER reject:USER … opens all modals and submits them at
// the same moment; exactly one must be accepted.
func atOnce(w *world, ts *testscript.TestScript, args []string) error {
	f, err := w.flow(args[0])
	if err != nil {
		return err
	}
	type try struct {
		user, view string
		values     slacktest.Values
	}
	var tries []try
	for _, arg := range args[1:] {
		action, user, _ := strings.Cut(arg, ":")
		if err := click(w, ts, []string{user, action, args[0]}); err != nil {
			return err
		}
		if err := w.expect("modal", nil); err != nil {
			return err
		}
		t := try{user, w.Slack.View(user).ID, slacktest.Values{"reason": {"text": "no"}}}
		if action == "approve" {
			t.values = slacktest.Values{"totp": {"code": w.code(user, "right")}}
		}
		tries = append(tries, t)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	accepted, told := 0, 0
	for _, t := range tries {
		wg.Go(func() {
			got, fault := w.Slack.Submit(w.ctx, t.user, t.view, t.values)
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, fault)
			switch {
			case got.Closed:
				accepted++
			case got.Updated != nil:
				told++
			}
		})
	}
	wg.Wait()
	if err == nil && (accepted != 1 || told != len(tries)-1) {
		err = fmt.Errorf("%s: got %d accepted, %d told; want 1 and %d", f.id, accepted, told, len(tries)-1)
	}
	return err
}

// expect compares what the last click or submission led to.
func (w *world) expect(answer string, text []string) error {
	if w.answer != answer {
		return fmt.Errorf("got %s %q; want %s", w.answer, w.said, answer)
	}
	for _, t := range text {
		if !strings.Contains(w.said, t) {
			return fmt.Errorf("got %q; want %q in it", w.said, t)
		}
	}
	return nil
}

// slackUser: slack-user USER guest|bot|gone|stranger changes somebody's account and
// waits until the daemon heard of it.
func slackUser(w *world, _ *testscript.TestScript, args []string) error {
	err := w.Slack.EditUser(args[0], func(u *slacktest.User) {
		switch args[1] {
		case "guest":
			u.IsRestricted = true
		case "stranger":
			u.IsStranger = true
		case "gone":
			u.Deleted = true
		}
	})
	if err != nil {
		return err
	}
	if r := w.Operator(w.ctx, "", "user", "add", "--slack-id", args[0]); r.Code != 0 { // asks Slack anew
		return errors.New(r.Stderr)
	}
	return w.until(func() (bool, error) {
		r := w.Operator(w.ctx, "", "user", "list", "-o", "json")
		var people []map[string]any
		if err := json.Unmarshal([]byte(r.Stdout), &people); err != nil {
			return false, err
		}
		return slices.ContainsFunc(people, func(p map[string]any) bool {
			problem, _ := p["problem"].(string)
			return p["slack_id"] == args[0] && problem != ""
		}), nil
	})
}

// post: post USER NAME TEXT writes into the thread of a card as a person.
func post(w *world, _ *testscript.TestScript, args []string) error {
	f, err := w.flow(args[1])
	if err != nil {
		return err
	}
	_, err = w.Slack.Post(args[0], f.card.Channel, f.card.TS, args[2])
	return err
}

func says(messages []slacktest.Message, text string) bool {
	return slices.ContainsFunc(messages, func(m slacktest.Message) bool {
		return strings.Contains(slacktest.Text(m.Blocks)+"\n"+m.Text, text)
	})
}

// byBot are the replies that the product wrote under a card.
func (w *world) byBot(f *flow) []slacktest.Message {
	return slices.DeleteFunc(w.Slack.Thread(f.card.Channel, f.card.TS), func(m slacktest.Message) bool {
		return m.User != w.Slack.Config().BotUserID
	})
}

func inThread(w *world, _ *testscript.TestScript, args []string) (bool, error) {
	f, err := w.flow(args[0])
	if err != nil {
		return false, err
	}
	return says(w.byBot(f), args[1]), nil
}

func inChannel(w *world, _ *testscript.TestScript, args []string) (bool, error) {
	return says(w.Slack.Messages(stage.Channel), args[0]), nil
}

func inDM(w *world, _ *testscript.TestScript, args []string) (bool, error) {
	return says(w.Slack.DMs(args[0]), args[1]), nil
}

func onCard(w *world, _ *testscript.TestScript, args []string) (bool, error) {
	f, err := w.flow(args[0])
	if err != nil {
		return false, err
	}
	m, _ := w.Slack.Message(f.card.Channel, f.card.TS)
	return says([]slacktest.Message{m}, args[1]), nil
}

// onlyEdits checks that of a request's messages only the card was ever edited.
func onlyEdits(w *world, _ *testscript.TestScript, args []string) error {
	f, err := w.flow(args[0])
	if err != nil {
		return err
	}
	for _, m := range w.byBot(f) {
		if m.TS != f.card.TS && (m.Edited || m.Revision != 0) {
			return fmt.Errorf("a reply was edited: %s", slacktest.Text(m.Blocks))
		}
	}
	return nil
}

// nothingLive: nothing-live TEXT… checks that none of the texts is live anywhere in
// the channel, nor in an open modal.
func nothingLive(w *world, _ *testscript.TestScript, args []string) error {
	var live []string
	for _, m := range w.Slack.AllMessages(stage.Channel) {
		live = append(live, slacktest.LiveMarkup(m)...)
	}
	for _, user := range []string{stage.Ana, stage.Bea, stage.Alice} {
		if v := w.Slack.View(user); v != nil {
			live = append(live, slacktest.LiveInBlocks(v.Blocks)...)
		}
	}
	for _, markup := range live {
		for _, text := range args {
			if strings.Contains(markup, text) {
				return fmt.Errorf("live: %s", markup)
			}
		}
	}
	return nil
}

// linksLeadTo: links-lead-to HOST… checks every link of the channel.
func linksLeadTo(w *world, _ *testscript.TestScript, hosts []string) error {
	found := 0
	var check func(v any) error
	check = func(v any) error {
		switch v := v.(type) {
		case []slacktest.Block:
			for _, b := range v {
				if err := check(b); err != nil {
					return err
				}
			}
		case []any:
			for _, b := range v {
				if err := check(b); err != nil {
					return err
				}
			}
		case map[string]any:
			for name, inner := range v {
				if text, ok := inner.(string); ok && name == "url" {
					found++
					u, err := url.Parse(text)
					if err != nil || !slices.Contains(hosts, u.Host) {
						return fmt.Errorf("link to %s", text)
					}
					continue
				}
				if err := check(inner); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, m := range w.Slack.AllMessages(stage.Channel) {
		if err := check(m.Blocks); err != nil {
			return err
		}
		for _, markup := range slacktest.LiveMarkup(m) {
			target, _, _ := strings.Cut(strings.Trim(markup, "<>"), "|")
			if u, err := url.Parse(target); err == nil && u.Host != "" {
				found++
				if !slices.Contains(hosts, u.Host) {
					return fmt.Errorf("link to %s", markup)
				}
			}
		}
	}
	if found == 0 {
		return errors.New("no links at all")
	}
	return nil
}
