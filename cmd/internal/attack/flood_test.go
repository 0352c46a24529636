package attack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/circlecitest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

// decideTime is how long a decision may take in a flood, from the click until the
// modal with the right code has closed. Slack waits 3 s for each of the two; a flood
// that holds the gateway up does so until its connections end, 10 s and more.
const decideTime = 6 * time.Second

// Another app, which nobody decides on here.
const (
	otherApp     = "other"
	otherProject = "gh/MyOrg/other"
	otherChannel = "C0OTHER"
)

// flooded is a daemon under a flood, with requests that wait for a decision.
type flooded struct {
	*world
	t      *testing.T
	daemon *stage.Process
	open   *flow
}

// underFlood starts a daemon to which Slack speaks over the same listener as
// everybody else, from the same address.
func underFlood(t *testing.T) flooded {
	t.Helper()
	w := newWorld(t, stage.Options{HTTP: true, Env: []string{
		"RGW_RATE_LIMIT=0", "RGW_APP_OTHER_SETTING_VCS_REPO=MyOrg/other", "RGW_APP_OTHER_SETTING_CIRCLECI_APPROVAL_JOB_NAME=" + stage.Gate,
		"RGW_APP_OTHER_SETTING_SLACK_CHANNEL=" + otherChannel,
	}})
	w.Slack.SetChannel(slacktest.Channel{ID: otherChannel, Name: "other", Members: []string{w.Slack.Config().BotUserID}})
	w.Circle.AddProject(circlecitest.Project{Slug: otherProject})
	f := flooded{w, t, w.spawn(t), nil}
	must(t, w.Confirmed(w.ctx))
	f.open = w.requested(t, 1234)
	return f
}

// address is that of the daemon, which is one of this machine: no flood may leave
// it.
func (f flooded) address() string {
	address := strings.TrimPrefix(f.URL, "http://")
	if !strings.HasPrefix(address, "127.") {
		f.t.Fatalf("the daemon listens on %s; want a loopback address", address)
	}
	return address
}

func (f flooded) dial() net.Conn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.address())
	must(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	return c
}

// dialNarrow dials with buffers so small, here and in the kernel of the daemon, that
// an answer of some 100 KiB which nobody reads does not fit into them.
func (f flooded) dialNarrow() net.Conn {
	f.t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10),
				// The other side makes room for a number of segments.
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536),
			)
		})
		return errors.Join(err, failed)
	}}
	c, err := d.DialContext(f.ctx, "tcp", f.address())
	must(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	return c
}

// decides has an admin approve the open request, and checks how long that took
// and that health was answered meanwhile.
func (f flooded) decides() {
	f.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: decideTime}
	for _, base := range []string{f.URL, f.Health} {
		res, err := client.Get(base + "/healthz")
		if err != nil {
			f.t.Fatalf("health in the flood: %v", err)
		}
		res.Body.Close()
	}
	start := time.Now()
	view, err := f.Press(f.ctx, stage.Ana, f.open.card, "approve")
	must(f.t, err)
	got, err := f.Submit(f.ctx, stage.Ana, view, f.code(stage.Ana, "right"))
	must(f.t, err)
	took := time.Since(start)
	if !got.Closed || took > decideTime {
		f.t.Fatalf("a decision in the flood: got %+v after %s; want it accepted within %s", got, took, decideTime)
	}
	f.t.Logf("a decision in the flood took %s", took.Round(time.Millisecond))
}

// ends checks that the decision had its effect, once.
func (f flooded) ends() {
	f.t.Helper()
	must(f.t, approvedOnce(f.world, nil, f.named("flooded", f.open)))
	select {
	case <-f.daemon.Ended():
		f.t.Fatalf("the daemon ended: %v", f.daemon.Err())
	default:
	}
}

// TestIdleConnectionsDoNotStopTheService keeps 2,000 connections from one address
// open that were answered once. (Threat 24)
func TestIdleConnectionsDoNotStopTheService(t *testing.T) {
	t.Parallel()
	f := underFlood(t)
	for n := range 2000 {
		c := f.dial()
		must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		must(t, err)
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatalf("connection %d was not answered: %v", n, err)
		}
	}
	f.decides()
	f.ends()
}

// TestStalledPostsTakeLittleMemory sends 300 posts of 1 MiB to Slack's endpoints of
// which the last byte never comes, without a signature and with one that could be
// right. (Threat 24)
func TestStalledPostsTakeLittleMemory(t *testing.T) {
	t.Parallel()
	f := underFlood(t)
	const most = 100 // MiB
	var all sync.WaitGroup
	for n := range 300 {
		c := f.dial()
		head := "POST /slack/interactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1048576\r\n"
		if n%3 != 0 {
			head += fmt.Sprintf("X-Slack-Request-Timestamp: %d\r\nX-Slack-Signature: v0=%064x\r\n", time.Now().Unix(), n)
		}
		all.Go(func() {
			// The daemon may refuse it in the middle, which is what it should do.
			_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
			_, _ = io.WriteString(c, head+"\r\n"+strings.Repeat("x", 1<<20-1))
		})
	}
	largest := 0
	watched, stop := context.WithCancel(f.ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for watched.Err() == nil {
			largest = max(largest, memory(f.daemon.PID()))
			<-tick.C
		}
	})
	f.decides()
	all.Wait()
	stop()
	watch.Wait()
	t.Logf("at most %d MiB resident", largest)
	if largest >= most && !raceDetector {
		t.Errorf("got %d MiB resident; want less than %d", largest, most)
	}
	f.ends()
}

// TestRefusedClicksDoNotStopDecisions has somebody without rights press a button
// 5,000 times and go on while an admin decides. (Threats 4 and 24)
func TestRefusedClicksDoNotStopDecisions(t *testing.T) {
	t.Parallel()
	f := underFlood(t)
	press := func() error {
		_, err := f.Slack.Click(f.ctx, stage.Carl, f.open.card.Channel, f.open.card.TS, "approve")
		return err
	}
	work := make(chan struct{}, 5000)
	for range cap(work) {
		work <- struct{}{}
	}
	close(work)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range work {
				// Slack shows a click that nobody answers in time as failed, and so do
				// we: that is the trouble of who floods.
				if err := press(); err != nil && f.ctx.Err() != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	ongoing, stop := context.WithCancel(f.ctx)
	all.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ongoing.Err() == nil {
			_ = press()
			<-tick.C
		}
	})
	f.decides()
	stop()
	all.Wait()
	f.ends()
	events, err := f.events()
	must(t, err)
	refused := 0
	for _, e := range events {
		if e.Actor.ID == stage.Carl {
			refused++
		}
	}
	if refused == 0 || refused > 100 {
		t.Errorf("got %d events of the refused person; want some, and far less than 5,000", refused)
	}
}

// TestSlowBodiesLeaveRoom holds 200 calls with one token whose bodies do not come.
// (Threats 1 and 24)
func TestSlowBodiesLeaveRoom(t *testing.T) {
	t.Parallel()
	f := underFlood(t)
	other := f.token("cicd")
	for range 200 {
		_, err := io.WriteString(f.dial(), "POST /api/v1/deploy-approval-requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+f.Token+
			"\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{")
		must(t, err)
	}
	f.decides()
	if r := f.ClientAs(f.ctx, other, "", "deploy-approval", "list", "--retry-for", "0"); r.Code != 0 {
		t.Errorf("another token beside slow bodies: got %+v; want exit 0", r)
	}
	f.ends()
}

// token makes a token for all apps.
func (f flooded) token(role string) string {
	f.t.Helper()
	r := f.Operator(f.ctx, "", "token", "create", "--name", "other-"+role, "--role", role, "--all-apps")
	if r.Code != 0 {
		f.t.Fatalf("token create: %+v", r)
	}
	return strings.TrimSpace(r.Stdout)
}

// TestSlowExportsLeaveRoom asks for 131 exports with one token and reads none of
// them. (Threats 2 and 24)
func TestSlowExportsLeaveRoom(t *testing.T) {
	t.Parallel()
	f := underFlood(t)
	auditor, other := f.token("auditor"), f.token("cicd")
	f.fill(other, 40)
	answers := map[string]int{}
	for range 131 {
		c := f.dialNarrow()
		must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err := io.WriteString(c, "GET /api/v1/audit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+auditor+"\r\n\r\n")
		must(t, err)
		status := make([]byte, len("HTTP/1.1 200"))
		_, err = io.ReadFull(c, status) // and no more of it
		must(t, err)
		answers[string(status)]++
	}
	if ok, refused := answers["HTTP/1.1 200"], answers["HTTP/1.1 429"]; ok == 0 || refused == 0 || ok+refused != 131 {
		t.Fatalf("got the answers %v; want as many exports as one token may have, and the others refused", answers)
	}
	f.decides()
	if r := f.ClientAs(f.ctx, other, "", "deploy-approval", "list", "--retry-for", "0"); r.Code != 0 {
		t.Errorf("another token beside slow exports: got %+v; want exit 0", r)
	}
	if got := f.get("/api/v1/audit/checkpoint", auditor); got != http.StatusOK {
		t.Errorf("another call of the same token: got %d; want 200", got)
	}
	// The exports are still under way.
	if got := f.get("/api/v1/audit", auditor); got != http.StatusTooManyRequests {
		t.Errorf("one more export of the same token: got %d; want 429", got)
	}
	f.ends()
}

func (f flooded) get(path, token string) int {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, f.URL+path, nil)
	must(f.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	must(f.t, err)
	res.Body.Close()
	return res.StatusCode
}

// fill files requests of the other app with long messages, of which each makes the
// log 8 KiB longer.
func (f flooded) fill(token string, n int) {
	f.t.Helper()
	message := strings.Repeat("𝔘", 2000)
	work := make(chan int64, n)
	for i := range n {
		work <- int64(2000 + i)
	}
	close(work)
	failed := make(chan error, n)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for number := range work {
				failed <- f.file(token, number, message)
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		must(f.t, err)
	}
}

func (f flooded) file(token string, number int64, message string) error {
	flow, err := f.pipeline(circlecitest.Pipeline{
		Number: number, Project: otherProject, Revision: stage.Revision, Branch: stage.Branch, ActorLogin: stage.Starter,
	})
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"app": otherApp, "git_commit": stage.Revision, "branch": stage.Branch, "message": message,
		"ci_metadata": map[string]string{"workflow_id": flow.workflow},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(f.ctx, http.MethodPost, f.URL+"/api/v1/deploy-approval-requests", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(res.Body)
		return errors.New(string(text))
	}
	return nil
}
