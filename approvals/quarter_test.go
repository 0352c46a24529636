package approvals_test

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/totp"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/rack-gatewayd/reportpage"
)

var (
	quarterRequests = flag.Int("quarter.requests", 150, "how many requests the generated quarter has")
	quarterTimes    = flag.Int("quarter.times", 1, "how many times the ended requests of the quarter are in the database that is kept")
	quarterKeep     = flag.String("quarter.keep", "", "directory for the database of the generated quarter")
)

// quarter is three months of a gateway's life, played by the product itself: every
// event in its log was written by the code that writes it in production.
type quarter struct {
	*world
	t      *testing.T
	random *rand.Rand
	token  approvals.Token
	kinds  map[string][]approvals.Request // the requests by how they were made to end
	n      int
}

// quarterEndings are the ways in which requests end, with how often each happens in
// a thousand. The first one takes the rest.
var quarterEndings = []struct {
	name string
	of   int
	play func(*quarter, approvals.Request)
}{
	{"deployed", 0, func(q *quarter, r approvals.Request) { q.deploys(r, approvals.JobSuccess) }},
	{"deploy failed", 60, func(q *quarter, r approvals.Request) { q.deploys(r, approvals.JobFailed) }},
	{"deploy skipped", 6, func(q *quarter, r approvals.Request) { q.deploys(r, approvals.JobNotRun) }},
	{"released, deploy goes on", 8, func(q *quarter, r approvals.Request) { q.vote(r) }},
	{"rejected", 80, func(q *quarter, r approvals.Request) { q.rejects(r) }},
	{"rejected, then opened", 8, func(q *quarter, r approvals.Request) {
		q.ci.breaks("cancel", &fault{status: 500, times: 1000})
		q.rejects(r)
		q.ci.humanApproves(r.Facts.WorkflowID)
		q.pass(10 * time.Minute)
		q.ci.breaks("cancel", nil)
	}},
	{"nobody decided", 40, func(q *quarter, r approvals.Request) { q.pass(2*time.Hour + time.Minute) }},
	{"superseded", 40, func(q *quarter, r approvals.Request) { q.ask(r.App, "", "dev") }},
	{"withdrawn", 20, func(q *quarter, r approvals.Request) {
		_, err := q.svc.Withdraw(q.ctx, q.token, r.ID, "wrong branch")
		q.must(err)
	}},
	{"gate canceled in CircleCI", 15, func(q *quarter, r approvals.Request) {
		q.ci.do(r.Facts.WorkflowID, func(f *flow) { f.job("hold").Status, f.job("hold").CanceledBy = approvals.JobCanceled, "user-dev" })
		q.pass(time.Minute)
	}},
	{"opened past the gateway", 12, func(q *quarter, r approvals.Request) {
		q.ci.humanApproves(r.Facts.WorkflowID)
		q.pass(time.Minute)
		q.fails(q.asks(r), approvals.CodeNotApproved)
	}},
	{"not used in time", 8, func(q *quarter, r approvals.Request) { q.misses(r) }},
	{"not used in time, retried", 10, func(q *quarter, r approvals.Request) {
		q.misses(r)
		q.ci.breaks("approve", nil)
		q.deploys(r, approvals.JobSuccess)
	}},
	{"emergency release", 6, func(q *quarter, r approvals.Request) {
		q.rest()
		err := q.svc.Decide(q.ctx, approvals.Clicker{Team: team, User: "U03"}, r.ID, approvals.ActionBreakGlass, "the <shop> is down", q.code("U03"))
		q.must(err)
		q.pass(time.Minute)
		q.ci.set(r.Facts.WorkflowID, "deploy", approvals.JobSuccess)
		q.pass(time.Minute)
	}},
	{"not deliverable", 6, func(q *quarter, r approvals.Request) {
		q.ci.breaks("approve", &fault{status: 403, times: 1000})
		q.vote(r)
		q.pass(time.Minute)
		q.ci.breaks("approve", nil)
	}},
}

// newQuarter plays n requests, evenly over 90 days from the beginning of 2000 on.
func newQuarter(t *testing.T, n int) *quarter {
	w := newWorld(t, quarterSettings)
	q := &quarter{world: w, t: t, random: rand.New(rand.NewPCG(7, 11)), kinds: map[string][]approvals.Request{}}
	for id, name := range map[string]string{"U01": "Ana", "U02": "Béa <b>", "U03": "Chi\u202eko"} {
		_, err := w.admin.AddPerson(w.ctx, id, name, "")
		w.must(err)
	}
	_, err := w.admin.AddPerson(w.ctx, "U04", "Dora", "dev") // who starts pipelines and approves none
	w.must(err)
	_, q.token, err = w.admin.CreateToken(w.ctx, "ci-all", approvals.RoleCICD, nil, 1000*24*time.Hour)
	w.must(err)
	began := time.Now()
	for i := range n {
		q.events(i, n)
		q.play(i)
		// Many fit between two that take long, so that the next one is early again.
		time.Sleep(time.Until(began.Add(90 * 24 * time.Hour / time.Duration(n) * time.Duration(i+1))))
	}
	q.pass(10 * time.Minute)
	q.kinds["waits"] = append(q.kinds["waits"], q.ask("shop", "", "dev"))
	return q
}

const quarterSettings = "RGW_SETTING_BREAK_GLASS=U03 RGW_SETTING_CIRCLECI_AUTO_APPROVE_ON_APPROVAL=true RGW_APP_TOOL_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold RGW_SETTING_PENDING_TTL=2h " +
	"RGW_APP_API_SETTING_VCS_REPO=acme/api RGW_APP_API_ENV_PRODUCTION_SETTING_CIRCLECI_APPROVAL_JOB_NAME=hold RGW_APP_API_SETTING_REQUIRED_APPROVALS=2 " +
	"RGW_APP_TOOL_SETTING_VCS_REPO=acme/tool RGW_APP_TOOL_SETTING_ALLOW_SELF_APPROVAL=true"

// events are what happens at certain requests beside them.
func (q *quarter) events(i, n int) {
	switch i {
	case n / 4:
		q.must(q.admin.Reset(q.ctx, "U02"))
		q.secrets["U02"] = totp.NewSecret()
		q.must(q.admin.Enrol(q.ctx, "U02", q.secrets["U02"], "", approvals.EnrolledByImport))
	case n / 3:
		q.cfg.Settings = parse(q.t, quarterSettings+" REQUIRED_APPROVALS=2")
		q.cfg.Operator = "ana@build-1"
		q.start()
	case n / 2:
		q.cfg.Settings = parse(q.t, quarterSettings)
		q.start()
	}
}

// play makes a request of an app and an ending by chance; the first ones have each
// ending once.
func (q *quarter) play(i int) {
	app, starter := []string{"shop", "api", "tool"}[q.random.IntN(3)], "dev"
	if q.random.IntN(20) == 0 {
		starter = "" // a schedule
	}
	if app == "tool" && q.random.IntN(4) == 0 {
		starter = "login-U01"
	}
	ending := quarterEndings[0]
	if i < len(quarterEndings) {
		ending = quarterEndings[i]
	} else {
		at := q.random.IntN(1000)
		for _, e := range quarterEndings[1:] {
			if at -= e.of; at < 0 {
				ending = e
				break
			}
		}
	}
	r := q.ask(app, q.message(), starter)
	q.kinds[ending.name] = append(q.kinds[ending.name], r)
	ending.play(q, r)
	q.pass(20 * time.Second)
}

func (q *quarter) message() string {
	return []string{"Fix the invoice rounding", "Add a <script>alert(1)</script> to the page\n\nand more below", "Bump dependencies", "",
		"Über\u00adraschung \u202e reversed", strings.Repeat("A long message of a person with much to say. ", 20)}[q.random.IntN(6)]
}

// ask files a request for a new pipeline whose gate waits.
func (q *quarter) ask(app, message, starter string) approvals.Request {
	q.n++
	revision := fmt.Sprintf("%x", sha1.Sum([]byte{byte(q.n), byte(q.n >> 8)}))
	workflow := q.ci.newFlow(q.n, int64(q.n), approvals.JobOnHold)
	q.ci.do(workflow, func(f *flow) {
		f.facts.Project, f.facts.Actor, f.facts.StartedBy, f.facts.Trigger = "gh/acme/"+app, starter, starter, "webhook"
		if starter == "" {
			f.facts.Trigger = "scheduled_pipeline"
		}
		f.facts.Revision = revision
		f.facts.Subject = "Subject of " + revision[:7]
		f.facts.Config = approvals.Digest(fmt.Sprintf("%064x", q.n/60)) // changes now and then
		f.job("ask").Status = approvals.JobSuccess
	})
	environment := ""
	if app == "api" {
		environment = "production"
	}
	n := approvals.NewRequest{App: app, Environment: environment, GitCommit: revision, WorkflowID: workflow, Message: message}
	r, created, err := q.svc.Request(q.ctx, q.token, n)
	if err != nil || !created {
		q.t.Fatalf("request %d: got %v, %v", q.n, created, err)
	}
	q.rest()
	return r
}

// rest has everything done that is due.
func (q *quarter) rest() {
	if !q.worker.Drain(q.ctx) {
		q.t.Fatal("the work never comes to an end")
	}
	synctest.Wait()
}

// pass lets time go by, with what is due in between.
func (q *quarter) pass(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		time.Sleep(min(time.Until(until), max(d/10, 20*time.Second)))
		q.rest()
	}
}

// vote approves with as many as it takes, each after some minutes.
func (q *quarter) vote(r approvals.Request) {
	users := []string{"U01", "U02", "U03"}
	q.random.Shuffle(3, func(i, j int) { users[i], users[j] = users[j], users[i] })
	if q.random.IntN(3) > 0 && r.App == "tool" {
		users = []string{"U01", "U02", "U03"}
	}
	for i, u := range users {
		if i > 0 && q.get(r).Status != approvals.Pending {
			break
		}
		time.Sleep(time.Duration(30+q.random.ExpFloat64()*300) * time.Second)
		q.rest() // who is who is confirmed again
		err := q.svc.Decide(q.ctx, approvals.Clicker{Team: team, User: u}, r.ID, approvals.ActionApprove, "", q.code(u))
		if why(err) != approvals.RefusedSelf && why(err) != approvals.RefusedNoLogin {
			q.must(err)
		}
		q.rest()
	}
}

func (q *quarter) rejects(r approvals.Request) {
	q.rest()
	err := q.svc.Decide(q.ctx, approvals.Clicker{Team: team, User: "U02"}, r.ID, approvals.ActionReject, "not before the <weekend>", "")
	q.must(err)
	q.rest()
}

func (q *quarter) deploys(r approvals.Request, result approvals.JobStatus) {
	q.vote(r)
	q.pass(30 * time.Second)
	if result == approvals.JobSuccess { // what fails here never asked
		q.must(q.asks(r))
	}
	q.ci.set(r.Facts.WorkflowID, "deploy", result)
	q.pass(time.Minute)
}

// misses approves while CircleCI takes no call, until the window is over.
func (q *quarter) misses(r approvals.Request) {
	q.ci.breaks("approve", &fault{status: 400, times: 1000})
	q.vote(r)
	q.pass(25 * time.Minute)
	q.ci.breaks("approve", nil)
}

// asks is the deploy job's question.
func (q *quarter) asks(r approvals.Request) error {
	_, err := q.svc.Verify(q.ctx, q.token, approvals.NewRequest{App: r.App, Environment: r.Environment, GitCommit: r.Facts.Revision, WorkflowID: r.Facts.WorkflowID})
	return err
}

// The report of a quarter answers what auditors ask of each deploy.
func TestReportOfAQuarter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQuarter(t, *quarterRequests)
		defer q.close()
		log := audit.Log{Service: q.svc, Store: q.db}
		x, err := audit.ParseReport("2000-01-01", "2000-03-31", "")
		q.must(err)
		x.PipelineURL = func(slug string, n int64) string { return fmt.Sprintf("https://ci.example/%s/%d", slug, n) }
		var text bytes.Buffer
		read, err := log.Report(q.ctx, x)
		q.must(err)
		q.must(reportpage.Write(&text, read))
		t.Logf("%d requests, %d events: a page of %d KiB", q.n, read.Checkpoint.Size, text.Len()/1024)
		page, err := html.Parse(bytes.NewReader(text.Bytes()))
		q.must(err)
		loadsNothing(t, page)
		for kind, requests := range q.kinds {
			for _, r := range requests {
				q.answers(page, kind, q.get(r))
			}
		}
		q.figures(page)
		q.evidence(log, page, read.Checkpoint.Size)
		q.period(log)
		if *quarterKeep != "" {
			ended, err := q.svc.Recent(q.ctx, approvals.Filter{})
			q.must(err)
			ended = slices.DeleteFunc(ended, func(r approvals.Request) bool { return r.Status.Open() || r.Status == approvals.Released })
			q.must(approvals.Repeat(q.ctx, q.db, ended, *quarterTimes-1))
			q.must(q.db.Backup(q.ctx, filepath.Join(*quarterKeep, "quarter.db")))
		}
	})
}

// answers looks for what the row of a request must say, whatever way it ended.
func (q *quarter) answers(page *html.Node, kind string, r approvals.Request) {
	row := byID(page, fmt.Sprintf("r%d", r.Number))
	if row == nil {
		q.t.Fatalf("#%d has no row", r.Number)
	}
	said := textOf(row)
	want := []string{r.Facts.Branch, r.Facts.Revision[:12], fmt.Sprintf("pipeline %d", r.Facts.PipelineNumber), string(r.Status), fmt.Sprintf("%d needed", r.Required)}
	if line, _, _ := strings.Cut(cmp.Or(r.Message, r.Facts.Subject), "\n"); line != "" {
		want = append(want, strings.NewReplacer("\u202e", "‹U+202E›", "\u00ad", "‹U+00AD›").Replace(string([]rune(line)[:min(len([]rune(line)), 190)])))
	}
	if starters := r.Facts.Starters(); len(starters) > 0 {
		want = append(want, "started by "+starters[0])
	} else {
		want = append(want, "started by a schedule, triggered by scheduled_pipeline")
	}
	names := map[string]string{"U01": "Ana (U01)", "U02": "Béa <b> (U02)", "U03": "Chi‹U+202E›ko (U03)"}
	verbs := map[approvals.Action]string{approvals.ActionApprove: "approved", approvals.ActionReject: "rejected", approvals.ActionBreakGlass: "released in an emergency"}
	for _, d := range r.Decisions {
		factor := map[string]string{"totp": "with a code (totp)", "": "without a code"}[d.MFA]
		want = append(want, fmt.Sprintf("%s %s %s, %s", names[d.SlackUser], verbs[d.Action], factor, d.At.Format(time.DateTime)))
	}
	if len(r.Decisions) == 0 {
		want = append(want, "Nobody decided.")
	}
	want = append(want, q.course(kind, r)...)
	for _, w := range want {
		if !strings.Contains(said, w) {
			q.t.Errorf("#%d (%s): %q does not say %q", r.Number, kind, said, w)
		}
	}
}

// course is what a row says of the release and the deploy.
func (q *quarter) course(kind string, r approvals.Request) []string {
	own := "not their own deploy"
	switch starters := r.Facts.Starters(); {
	case len(starters) == 0:
		own = "not known whose deploy it was"
	case slices.ContainsFunc(r.Decisions, func(d approvals.Decision) bool { return "login-"+d.SlackUser == starters[0] }):
		own = "own deploy"
	}
	released := "Released in CircleCI by bot, " + r.ReleasedAt.Format(time.DateTime)
	switch kind {
	case "deployed", "not used in time, retried", "emergency release":
		asked := "The deploy job asked, and its answer was yes, " + r.Deploy.Asked.Format(time.DateTime)
		if kind == "emergency release" {
			asked = "No deploy job asked the gateway whether this is what was approved"
		}
		return []string{own, released, asked, "Deployed, " + r.ReleasedAt.Format(time.DateTime) + " to " + r.Deploy.FinishedAt.Format(time.DateTime)}
	case "deploy failed":
		return []string{own, released, "Deploy failed, " + r.Deploy.FinishedAt.Format(time.DateTime) + ": job deploy: failed", "No deploy job asked"}
	case "deploy skipped":
		return []string{own, released, "job deploy never ran"}
	case "released, deploy goes on":
		return []string{own, released, "had not ended"}
	case "rejected":
		return []string{"“not before the <weekend>”", "Not released"}
	case "rejected, then opened":
		return []string{"eve opened the gate in CircleCI after the request had ended", "No deploy job asked the gateway"}
	case "opened past the gateway":
		return []string{"Not released here: eve opened the gate in CircleCI", "Somebody asked whether to deploy and was told no once at ", "if that was not the deploy job, find out what was deployed"}
	case "nobody decided", "superseded", "withdrawn", "gate canceled in CircleCI", "not used in time", "not deliverable", "waits":
		return []string{"Not released"}
	}
	q.t.Fatalf("an ending without an answer: %q", kind)
	return nil
}

// figures compares the numbers of the page with what was played.
func (q *quarter) figures(page *html.Node) {
	k := func(kinds ...string) (n int) {
		for _, kind := range kinds {
			n += len(q.kinds[kind])
		}
		return n
	}
	all, err := q.svc.Recent(q.ctx, approvals.Filter{})
	q.must(err)
	other := 0
	for _, r := range all {
		if changed, _ := r.ConfigChanged(); changed {
			other++
		}
	}
	if other < 2 {
		q.t.Errorf("got %d requests with another CI configuration; want some", other)
	}
	for title, want := range map[string]int{
		"Another CI configuration": other,
		"Opened past the gateway":  k("opened past the gateway", "rejected, then opened"), "Emergency releases": k("emergency release"),
		"Deploys that did not ask": k("deploy failed", "emergency release"),
		"Refused verify calls":     k("opened past the gateway"), "Retries": k("not used in time, retried"),
		"Authenticators that were reset, replaced or locked": 1, "Changed settings": 3,
		"People and tokens":            len([]string{"U01", "U02", "U03", "U04"}) + len([]string{"U01", "U02", "U03", "U02 anew"}) + len([]string{"ci", "ci-all"}),
		"Database put back or changed": 0,
	} {
		heading := find(page, func(n *html.Node) bool { return n.Data == "h3" && strings.HasPrefix(textOf(n), title+" ") })
		if heading == nil || textOf(heading) != fmt.Sprintf("%s %d", title, want) {
			q.t.Errorf("got %q; want %s %d", textOf(heading), title, want)
		}
	}
	changed := textOf(byID(page, "exceptions").Parent)
	for _, want := range []string{"shop required_approvals: 1 → 2", "shop required_approvals: 2 → 1", "operator ana@build-1", "the authenticator of Béa <b> (U02) was reset by operator", "Dora (U04) was added by operator without a name, VCS login dev", "the token ci (cicd, for shop) was made", "Chi‹U+202E›ko (U03): “the <shop> is down”"} {
		if !strings.Contains(changed, want) {
			q.t.Errorf("the exceptions do not say %q", want)
		}
	}
	tiles := textOf(find(page, func(n *html.Node) bool { return attr(n, "class") == "tiles" }))
	if want := fmt.Sprintf("%d requests", q.n); !strings.Contains(tiles, want) {
		q.t.Errorf("got the figures %q; want %s", tiles, want)
	}
}

// evidence checks the log against the checkpoint that the page shows.
func (q *quarter) evidence(log audit.Log, page *html.Node, size int64) {
	note := find(page, func(n *html.Node) bool { return n.Data == "pre" }).FirstChild.Data
	var export bytes.Buffer
	_, err := log.Export(q.ctx, audit.Export{Format: audit.ExportJSONL}, &export)
	q.must(err)
	report, err := ledger.Verify(&export, ledger.VerifyOptions{Checkpoint: []byte(note), Key: log.VerifierKey()})
	if err != nil || report.Checkpoint.Size != size || report.NotAnchored != 1 {
		q.t.Errorf("got %+v, %v; want the first %d events signed by what the page shows", report, err, size)
	}
}

// period asks for two days of one app: they are days of UTC, and both count whole.
func (q *quarter) period(log audit.Log) {
	x, err := audit.ParseReport("2000-02-01", "2000-02-02", "shop")
	q.must(err)
	read, err := log.Report(q.ctx, x)
	q.must(err)
	var text bytes.Buffer
	q.must(reportpage.Write(&text, read))
	page, err := html.Parse(&text)
	q.must(err)
	all, err := q.svc.Recent(q.ctx, approvals.Filter{})
	q.must(err)
	there := 0
	for _, r := range all {
		day := r.CreatedAt.Format(time.DateOnly)
		want := r.App == "shop" && (day == "2000-02-01" || day == "2000-02-02")
		if got := byID(page, fmt.Sprintf("r%d", r.Number)) != nil; got != want {
			q.t.Errorf("#%d of %s, made %s: got a row: %t; want %t", r.Number, r.App, r.CreatedAt, got, want)
		}
		if want {
			there++
		}
	}
	if said := textOf(page); there == 0 || !strings.Contains(said, "of shop From 1 February 2000 to 2 February 2000, both days included") || strings.Contains(said, "api to production") {
		q.t.Errorf("got %.300q with %d requests; want those of shop on two days", said, there)
	}
	x.App = "nobody"
	if _, err = log.Report(q.ctx, x); code(err) != approvals.CodeAppUnknown {
		q.t.Errorf("of an app without requests: got %v; want %s", err, approvals.CodeAppUnknown)
	}
}

// loadsNothing refuses all that makes a browser ask for something, or run something.
func loadsNothing(t *testing.T, page *html.Node) {
	t.Helper()
	find(page, func(n *html.Node) bool {
		if n.Type == html.ElementNode && slices.Contains([]string{"script", "img", "iframe", "object", "embed", "form", "base"}, n.Data) {
			t.Errorf("the page has a %s", n.Data)
		}
		if n.Data == "style" && (strings.Contains(textOf(n), "url(") || strings.Contains(textOf(n), "@import")) {
			t.Error("the style loads something")
		}
		for _, a := range n.Attr {
			link := n.Data == "a" && a.Key == "href" || n.Data == "link" && a.Val == "data:,"
			loads := a.Key == "style" && strings.Contains(a.Val, "(")
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || loads || a.Key == "href" && !link {
				t.Errorf("the page has %s %s=%q", n.Data, a.Key, a.Val)
			}
		}
		return false
	})
}

// find is the first node, in the order of the page, that is what is looked for.
func find(n *html.Node, is func(*html.Node) bool) *html.Node {
	if is(n) {
		return n
	}
	for c := range n.ChildNodes() {
		if found := find(c, is); found != nil {
			return found
		}
	}
	return nil
}

func byID(page *html.Node, id string) *html.Node {
	return find(page, func(n *html.Node) bool { return attr(n, "id") == id })
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// textOf is what a person reads of a node, with single blanks.
func textOf(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
		if slices.Contains([]string{"div", "li", "p", "td"}, n.Data) {
			b.WriteByte(' ')
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
	}
	if n != nil {
		walk(n)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
