package gatewayd_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// onServer has everything on a PostgreSQL server.
func onServer(t *testing.T, env ...string) (w world, database string) {
	t.Helper()
	database = storetest.Server(t)
	return setup(t, append(env, "RGW_DATABASE_URL="+database)...), database
}

// both waits until the node that the stage knows sees so many nodes.
func (w world) nodes(n int) {
	w.t.Helper()
	w.until(func() bool {
		_, body := w.readyz()
		return strings.Count(body, "(this one)") == 1 && strings.Count(body[strings.Index(body, `"nodes"`):], ", ") == n-1
	})
}

// Two nodes on one database take turns: one is killed while a request is open, the
// other one releases it, once, and is told nothing twice.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	w, database := onServer(t, "RGW_SETTING_SUPERSEDE=off", "HOSTNAME=gateway-1")
	stop, _ := w.second(io.Discard, "HOSTNAME=gateway-2")
	w.nodes(2)
	if _, body := w.readyz(); !strings.Contains(body, "gateway-1 (this one), gateway-2") {
		t.Errorf("readyz: got %s; want both nodes", body)
	}
	for i, admin := range []string{stage.Ana, stage.Bea} {
		workflow, id := w.request(int64(i) + 1)
		w.approve(admin, id)
		w.must(w.Circle.Succeed(workflow, "request_approval"))
		w.until(func() bool { return w.status(id) == "released" })
		if n := len(w.Circle.Approvals(workflow)); n != 1 {
			t.Errorf("request %d: got %d approve calls; want 1", i+1, n)
		}
	}
	_, metrics, err := fetch(w.Health + "/metrics")
	if want := metricsOfPage(t)["rgw_nodes"]; err != nil || !strings.Contains(metrics, "\nrgw_nodes{node=\"gateway-1\"} 2\n") || metricsIn(metrics)["rgw_nodes"] != want {
		t.Errorf("metrics: got %v, no two nodes, or not as the page has it (%q)", err, want)
	}
	if r := w.Operator(w.ctx, "", "check"); !strings.Contains(r.Stdout, "database: PostgreSQL ") || !strings.Contains(r.Stdout, "no synchronous standby") {
		t.Errorf("check: got %s%s; want what the database is, and what it promises", r.Stdout, r.Stderr)
	}
	_, body := w.readyz()
	if strings.Contains(body, "secretvalue") || strings.Contains(body, database) {
		t.Errorf("readyz shows the URL: %s", body)
	}
	if code := stop(); code != 0 {
		t.Errorf("the second node: got exit %d; want 0", code)
	}
	w.nodes(1)
	if r := w.operator(1, "recover", "--accept-rollback"); !strings.Contains(r.Stderr, "the daemon is running") {
		t.Errorf("recover beside a node: got %s", r.Stderr)
	}

	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	killed, err := w.Spawn(os.Stderr)
	w.must(err)
	w.must(w.Ready(w.ctx, killed))
	stop, _ = w.second(io.Discard)
	w.nodes(2)
	workflow, id := w.request(9)
	card, err := w.Card(w.ctx, id)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Ana, card, "approve")
	w.must(err)
	// Their code of this half minute was used; the next one is taken already.
	got, err := w.Submit(w.ctx, stage.Ana, view, w.Code(stage.Ana, time.Now().Add(30*time.Second)))
	if err != nil || !got.Closed {
		t.Fatalf("approve: got %v, %v; want the modal closed", got.Errors, err)
	}
	killed.Kill()
	w.must(w.Circle.Succeed(workflow, "request_approval"))
	gone := time.Now()
	w.must(w.Circle.Wait(w.ctx, func() bool { return w.Circle.JobStatus(workflow, stage.Gate) == "success" }))
	if took := time.Since(gone); took > 15*time.Second {
		t.Errorf("the other node took over after %v", took)
	}
	w.must(w.Start(w.ctx))
	w.until(func() bool { return w.status(id) == "released" })
	if n := len(w.Circle.Approvals(workflow)); n != 1 {
		t.Errorf("after the kill: got %d approve calls; want 1", n)
	}
	if code := stop(); code != 0 {
		t.Errorf("the second node: got exit %d; want 0", code)
	}
}

// Two nodes together post no more to a channel, and look no more up at CircleCI, than
// one may.
func TestNodesShareTheRates(t *testing.T) {
	t.Parallel()
	w, _ := onServer(t, "RGW_SETTING_SUPERSEDE=off")
	stop, _ := w.second(io.Discard)
	w.nodes(2)
	const many = 10
	before := len(w.Slack.CallsOf("chat.postMessage"))
	for i := range many {
		w.request(int64(i) + 1)
	}
	w.must(w.Slack.Wait(w.ctx, func() bool { return len(w.Slack.CallsOf("chat.postMessage")) >= before+many }))
	posts := w.Slack.CallsOf("chat.postMessage")[before:]
	for i, first := range posts {
		for j, last := range posts[i:] {
			// A node measures the second until it sends, not until the message arrives.
			if most := 2 + (last.At.Sub(first.At) + 300*time.Millisecond).Seconds(); float64(j+1) > most {
				t.Errorf("%d messages within %v; want a burst of two, then one a second", j+1, last.At.Sub(first.At))
			}
		}
	}
	took := posts[many-1].At.Sub(posts[0].At)
	t.Logf("%d messages in %v", many, took)

	const watched = 6 * time.Second
	asked := len(w.Circle.Calls())
	began := time.Now()
	w.must(w.Circle.Wait(w.ctx, func() bool { return time.Since(began) > watched }))
	calls := len(w.Circle.Calls()) - asked
	t.Logf("%d calls to CircleCI in %v", calls, watched)
	if most := 5 * watched.Seconds(); float64(calls) > most || calls < 6 {
		t.Errorf("%d calls to CircleCI in %v for %d open gates; want at most %v", calls, watched, many, most)
	}
	if code := stop(); code != 0 {
		t.Errorf("the second node: got exit %d; want 0", code)
	}
}

// When Slack asks one node for fewer messages, the other one posts none either until
// the time is over.
func TestNodesRestTogether(t *testing.T) {
	t.Parallel()
	w, _ := onServer(t, "RGW_SETTING_SUPERSEDE=off")
	stop, _ := w.second(io.Discard)
	w.nodes(2)
	const rest = 4
	before := len(w.Slack.CallsOf("chat.postMessage"))
	w.Slack.AddFault(slacktest.Fault{Method: "chat.postMessage", Status: http.StatusTooManyRequests, RetryAfter: rest, Times: 1})
	for i := range 3 {
		w.request(int64(i) + 1)
	}
	w.must(w.Slack.Wait(w.ctx, func() bool { return len(w.Slack.CallsOf("chat.postMessage")) >= before+4 }))
	posts := w.Slack.CallsOf("chat.postMessage")[before:]
	early := 0
	for _, post := range posts[1:] {
		since := post.At.Sub(posts[0].At)
		if since < rest*time.Second {
			early++
		}
		if since > 3*rest*time.Second {
			t.Errorf("a message came %v after Slack asked for a rest of %d s; want it soon after the rest", since, rest)
		}
	}
	// The other node may have begun one message before it could know of the rest.
	if early > 1 {
		t.Errorf("got %d messages within the rest of %d s; want at most the one that was under way", early, rest)
	}
	if code := stop(); code != 0 {
		t.Errorf("the second node: got exit %d; want 0", code)
	}
}

// While the settings of two nodes differ, nothing is decided.
func TestNodesWithOtherSettings(t *testing.T) {
	t.Parallel()
	w, _ := onServer(t)
	_, id := w.request(1)
	card, err := w.Card(w.ctx, id)
	w.must(err)
	stop, _ := w.second(io.Discard, "RGW_SETTING_REQUIRED_APPROVALS=2")
	w.until(func() bool { _, body := w.readyz(); return strings.Contains(body, "nodes have different settings") })
	if view, err := w.Press(w.ctx, stage.Ana, card, "approve"); err == nil && view != nil {
		t.Error("a modal was opened")
	}
	stop()
	w.nodes(1)
	w.approve(stage.Ana, id)
}

// Two nodes change over to a new key while one of them always works: first it is
// behind the old one on both, then in front on both, and then alone.
func TestRotateKeysOfNodes(t *testing.T) {
	t.Parallel()
	const ring = "RGW_SECRET_KEYS"
	w, _ := onServer(t, "RGW_SETTING_SUPERSEDE=off")
	before := w.Variable(ring)
	after := strings.TrimSpace(w.operator(0, "keygen", "--kid", "new").Stdout)

	log := &firstLine{word: "the key rings differ", found: make(chan struct{})}
	_, ended := w.second(log, ring+"="+after+","+before)
	if code := <-ended; code != 1 || !strings.Contains(log.text.String(), "first add a new key behind the others on every node") {
		t.Fatalf("a new key in front at once: got exit %d, %s; want 1 and what to do first", code, &log.text)
	}

	stop, _ := w.second(io.Discard)
	var last string
	for i, keys := range []string{before + "," + after, after + "," + before, after} {
		if keys == after {
			r := w.operator(0, "keys", "rotate")
			if id, _, _ := strings.Cut(before, ":"); r.Stdout != id+"\n" {
				t.Fatalf("keys rotate lists %q; want the old key %s", r.Stdout, id)
			}
		}
		w.nodes(2)
		if code := stop(); code != 0 {
			t.Fatalf("stop: got exit %d; want 0", code)
		}
		stop, _ = w.second(io.Discard, ring+"="+keys)
		w.nodes(2)
		w.request(int64(2*i) + 1)
		if code := w.Stop(); code != 0 {
			t.Fatalf("stop: got exit %d; want 0", code)
		}
		w.SetEnv(ring + "=" + keys)
		w.must(w.Start(w.ctx))
		w.nodes(2)
		_, last = w.request(int64(2*i) + 2)
	}
	w.approve(stage.Ana, last) // their secret was sealed with the old key
	w.operator(0, "rebuild", "--check")
	if code := stop(); code != 0 {
		t.Errorf("the second node: got exit %d; want 0", code)
	}
}

// A node starts before its database, says that it waits, and works once it is there.
func TestNodeWaitsForTheServer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	w.SetEnv("RGW_DATABASE_URL=postgres://user:secretvalue@127.0.0.1:1/none?sslmode=disable")
	log := &firstLine{word: "cannot be used", found: make(chan struct{})}
	stop, ended := w.second(log, "RGW_LISTEN="+strings.TrimPrefix(w.URL, "http://"), "RGW_LOG_LEVEL=warn")
	select {
	case <-log.found:
	case code := <-ended:
		t.Fatalf("the node ended with %d: %s", code, &log.text)
	}
	status, body, err := fetch(w.URL + "/readyz")
	w.must(err)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"role":{"status":"waiting"}`) {
		t.Errorf("readyz: got %d %s; want 503 and that it waits", status, body)
	}
	if code := stop(); code != 0 || strings.Contains(log.text.String(), "secretvalue") || strings.Contains(log.text.String(), "user") {
		t.Errorf("stop: got exit %d, %s; want 0 and nothing of the URL", code, &log.text)
	}
	for _, args := range [][]string{{"check"}, {"token", "list"}, {"migrate"}} {
		r := w.Operator(w.ctx, "", args...)
		if all := r.Stdout + r.Stderr; r.Code != 1 || strings.Contains(all, "secretvalue") || !strings.Contains(all, "connection refused") {
			t.Errorf("%v: got exit %d, %s; want why, and nothing of the URL", args, r.Code, all)
		}
	}
}

// A database that lacks what it had acknowledged approves nothing, also after a
// restart, until the operator accepts it.
func TestServerWentBack(t *testing.T) {
	t.Parallel()
	w, database := onServer(t, "RGW_SETTING_SUPERSEDE=off")
	_, id := w.request(1)
	storetest.SQL(t, database, "UPDATE nodes SET turn = turn - 2")
	w.notReady("the database went back to an older state")
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	w.must(w.StartUntil(w.ctx, "503"))
	w.notReady("the database went back to an older state")
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	w.operator(0, "recover", "--accept-rollback")
	w.must(w.Start(w.ctx))
	w.until(func() bool { return w.status(id) == "expired" })
	w.request(3)
}

// What one node finds wrong with the log makes all unready, so that no balancer leads
// people to one that goes on. The channel is told once.
func TestNodesShareAFault(t *testing.T) {
	t.Parallel()
	w, database := onServer(t, "RGW_SETTING_SUPERSEDE=off")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	other := free.Addr().String()
	w.must(free.Close())
	stop, _ := w.second(io.Discard, "RGW_METRICS_LISTEN="+other)
	w.nodes(2)
	_, id := w.request(1)
	card, err := w.Card(w.ctx, id)
	w.must(err)
	view, err := w.Press(w.ctx, stage.Ana, card, "approve")
	w.must(err)
	// Nothing writes the row after this.
	w.until(func() bool {
		return strings.Contains(w.operator(0, "audit", "export").Stdout, string(approvals.EventModalOpened))
	})
	storetest.SQL(t, database, `UPDATE requests SET body = replace(body, '"Round":1', '"Round":2')`)
	if got, err := w.Submit(w.ctx, stage.Ana, view, w.Code(stage.Ana, time.Now())); err == nil && got.Closed {
		t.Error("an approval was taken by a row that is not what its events say")
	}
	const why = "the log was changed by somebody without the keys"
	w.notReady(why)
	w.until(func() bool {
		code, body, err := fetch("http://" + other + "/readyz")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(body, why)
	})
	w.until(func() bool { return w.alarms() > 0 })
	if code := stop(); code != 0 {
		t.Errorf("the second node: got exit %d; want 0", code)
	}
	if n := w.alarms(); n != 1 {
		t.Errorf("the channel was told %d times; want once", n)
	}
}

// A gateway moves to PostgreSQL: the log is the same byte for byte, and what was
// open goes on.
func TestMove(t *testing.T) {
	t.Parallel()
	w := setup(t)
	workflow, id := w.request(1)
	server := storetest.Server(t)
	if r := w.operator(1, "copy", "--from", "sqlite:"+w.file(""), "--to", server); !strings.Contains(r.Stderr, "a daemon is running") {
		t.Errorf("beside the daemon: got %s", r.Stderr)
	}
	if code := w.Stop(); code != 0 {
		t.Fatalf("stop: got exit %d; want 0", code)
	}
	if r := w.operator(1, "copy", "--from", "sqlite:"+w.file("")+".no", "--to", server); !strings.Contains(r.Stderr, "there is no database") {
		t.Errorf("from nothing: got %s", r.Stderr)
	}
	before := w.operator(0, "audit", "checkpoint").Stdout
	w.SetEnv("RGW_DATABASE_URL=" + server)
	if r := w.operator(0, "copy", "--from", "sqlite:"+w.file("")); strings.Contains(r.Stderr, "Warning") {
		t.Errorf("with the URL in a variable: got %s; want no warning", r.Stderr)
	}
	shown := strings.Replace(server, "postgres@", "postgres:secretvalue@", 1)
	if r := w.Operator(w.ctx, "", "copy", "--from", shown, "--to", "sqlite:"+w.file("2")); r.Code != 0 || !strings.Contains(r.Stderr, "Warning") || strings.Contains(r.Stderr, "secretvalue") {
		t.Errorf("with a password in a flag: got exit %d, %s; want a warning", r.Code, r.Stderr)
	}
	if after := w.operator(0, "audit", "checkpoint").Stdout; after != before {
		t.Errorf("got the checkpoint\n%s\nwant\n%s", after, before)
	}
	w.must(w.Start(w.ctx))
	w.approve(stage.Ana, id)
	w.must(w.Circle.Succeed(workflow, "request_approval"))
	w.until(func() bool { return w.status(id) == "released" })
	w.operator(0, "backup", filepath.Join(w.Dir, "backup.db"))
	w.SetEnv("RGW_DATABASE_URL=sqlite:" + filepath.Join(w.Dir, "backup.db"))
	w.operator(0, "rebuild", "--check")
}
