package reportpage_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/rack-gatewayd/reportpage"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// pageOf is the page of a log in which each text that comes from people or from CI is
// the given one, and each link leads to the address.
func pageOf(t *testing.T, text, address string) *html.Node {
	t.Helper()
	db := storetest.New(t)
	signer, err := approvals.OpenLog(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	log := audit.Log{Service: approvals.New(approvals.Config{Store: db, Signer: signer, Offline: true}), Store: db}
	facts := approvals.Facts{Project: text, Revision: text, Branch: text, Actor: text, StartedBy: text + "2", Trigger: text, Subject: text}
	person := approvals.Actor{Kind: approvals.ActorPerson, ID: "U0ANA"}
	events := []approvals.Event{
		{Type: approvals.EventSettingsChanged, Actor: approvals.Actor{Kind: approvals.ActorOperator, ID: text},
			Settings: []approvals.SettingChange{{App: text, Environment: text, Key: text, From: text, To: text}}},
		{Type: approvals.EventEnrolled, Outcome: text, Data: approvals.Data{"user": text}},
	}
	for id, ending := range map[string]approvals.Event{
		"a": {Type: approvals.EventDeployed, Data: approvals.Data{"detail": text}}, "b": {Type: approvals.EventDeployFailed, Data: approvals.Data{"detail": text}},
		"c": {Type: approvals.EventBypassed, Actor: approvals.Actor{ID: text}}, "d": {Type: approvals.EventUndeliverable, Reason: "forbidden", Data: approvals.Data{"detail": text}},
		"e": {Type: approvals.EventVerifyRefused, Reason: text, Data: approvals.Data{"detail": text}},
	} {
		course := []approvals.Event{
			{Type: approvals.EventRequested, Asked: &approvals.Asked{Number: int64(id[0]), Message: text, Facts: facts}},
			{Type: approvals.EventVoted, Actor: person, MFA: text, Reason: text},
			{Type: approvals.EventBreakGlass, Actor: person, MFA: text, Reason: text},
		}
		if id < "c" {
			course = append(course, approvals.Event{Type: approvals.EventReleased, Actor: approvals.Actor{ID: text}})
		}
		for _, e := range append(course, ending) {
			e.Request, e.App, e.Environment = id, "myapp", text
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b approvals.Event) int { return strings.Compare(a.Request, b.Request) })
	for _, e := range events {
		if err := log.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (approvals.Admin{Store: db}).AddPerson(t.Context(), "U0ANA", text, ""); err != nil {
		t.Fatal(err)
	}
	row := storetest.Request(97, "myapp", "")
	row.ID, row.Slack.Permalink = "a", address
	if err := db.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(&row) }); err != nil {
		t.Fatal(err)
	}
	read, err := log.Report(t.Context(), audit.Report{
		PipelineURL: func(string, int64) string { return address },
		CommitURL:   func(approvals.Facts, string) string { return address },
		Compared: &audit.Comparison{
			Gates: []audit.ReconciledGate{{App: text, Environment: text, Project: text, WorkflowID: text, Gate: text, Status: text, ApprovedBy: text, Request: 1, RequestStatus: approvals.Status(text), Finding: audit.FindingNotOurs}},
			Holes: []audit.Hole{{Project: text, PipelineNumber: 1, WorkflowID: text, Why: text}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	if err := reportpage.Write(&page, read); err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(strings.NewReader(page.String()))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// marks are the elements of a page and the names of their attributes; all is its texts
// and the values of its attributes.
func marks(doc *html.Node) (marks []string, all string) {
	var b strings.Builder
	for n := range doc.Descendants() {
		b.WriteString(n.Data)
		if n.Type == html.TextNode {
			continue
		}
		marks = append(marks, n.Data)
		for _, a := range n.Attr {
			marks = append(marks, " "+a.Key)
			b.WriteString(a.Val)
		}
	}
	return marks, b.String()
}

var sizes = regexp.MustCompile(`^--size: \d+\.\d%$`)

// What comes from people and CI is text and nothing else: the page has the elements and
// attributes that it has with plain words, and what would not show is shown.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	const address = "https://ci.example/1?a=b&c"
	want, all := marks(pageOf(t, "word", address))
	if got := strings.Count(all, "word"); got < 80 {
		t.Errorf("the text stands in %d places; want it everywhere", got)
	}
	for _, text := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title></style><svg onload=alert(1)>`, `' onfocus='alert(1)`, `{{.Now}}`,
		"javascript:alert(1)", "&lt;b&gt;&#x3c;", "--></td></tr></table><base href=//evil.example>", "color:red;--size:9", "\u202egnp.exe", "x\u2066y\u2069\u200f", "a\x00b", "a\xffb",
	} {
		doc := pageOf(t, text, address)
		got, all := marks(doc)
		if !slices.Equal(got, want) {
			t.Errorf("%q: the page has other elements than with plain words", text)
		}
		if strings.ContainsAny(all, "\u202e\u2066\u2069\u200f\x00") {
			t.Errorf("%q: the page holds a character that does not show", text)
		}
		for n := range doc.Descendants() {
			for _, a := range n.Attr {
				switch a.Key {
				case "href":
					if n.Data == "a" && a.Val != address && !strings.HasPrefix(a.Val, "#") {
						t.Errorf("%q: a link leads to %q", text, a.Val)
					}
				case "style":
					if !sizes.MatchString(a.Val) {
						t.Errorf("%q: got the style %q; want a size", text, a.Val)
					}
				case "class", "id", "data-name", "aria-label":
					if strings.Contains(a.Val, text) {
						t.Errorf("%q: it is part of %s", text, a.Key)
					}
				}
			}
		}
	}
}

// Only addresses of the web become links. Of all others the words are left.
func TestAddresses(t *testing.T) {
	t.Parallel()
	links := func(address string) (found []string) {
		doc := pageOf(t, "word", address)
		_, all := marks(doc)
		if strings.Count(all, "card") < 3 || !strings.Contains(all, "pipeline 0") {
			t.Errorf("%q: the page lacks the words of its links", address)
		}
		for n := range doc.Descendants() {
			for _, a := range n.Attr {
				if n.Data == "a" && !strings.HasPrefix(a.Val, "#") {
					found = append(found, a.Val)
				}
			}
		}
		return found
	}
	for address, want := range map[string]string{
		"https://ci.example/a?b=c&d#e": "https://ci.example/a?b=c&d#e", "http://ci.example": "http://ci.example", "HTTPS://ci.example/": "https://ci.example/",
		`https://ci.example/"><b onclick=x>`: "https://ci.example/%22%3E%3Cb%20onclick=x%3E", "https://ci.example/\u202ecod": "https://ci.example/%E2%80%AEcod",
	} {
		got := links(address)
		if len(got) < 10 || slices.ContainsFunc(got, func(a string) bool { return a != want }) {
			t.Errorf("%q: got %d links, %q; want all of them %q", address, len(got), slices.Compact(got), want)
		}
	}
	for _, address := range []string{
		"javascript:alert(1)", "JavaScript://x/%0aalert(1)", " javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,<script>alert(1)</script>", "vbscript:x",
		"otpauth://totp/x?secret=y", "file:///etc/passwd", "//evil.example", "/path", "evil.example", "https:", "https:///x", "https://[", "https://x\x00",
	} {
		if got := links(address); len(got) > 0 {
			t.Errorf("%q: got the link %q; want none", address, got[0])
		}
	}
}
