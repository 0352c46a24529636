package github_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github"
	"github.com/rack-gateway/rack-gateway-approvals/circleci/github/githubtest"
)

const (
	repo   = "MyOrg/myapp"
	base   = "5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80"
	head   = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	config = "version: 2.1\njobs: {}\n"
	path   = ".circleci/config.yml"
)

func sha(text string) approvals.Digest {
	sum := sha256.Sum256([]byte(text))
	return approvals.Digest(hex.EncodeToString(sum[:]))
}

// hash is the nth commit between base and head.
func hash(n int) string { return fmt.Sprintf("%040x", n) }

// world is a GitHub with a commit that was deployed, three commits since, and their pull request.
type world struct {
	*githubtest.Server
	*github.Client
	url string
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{Server: githubtest.New()}
	w.AddCommit(repo, githubtest.Commit{SHA: base, Message: "Deployed", Author: "Ann", Login: "ann", Files: map[string]string{path: config}})
	w.AddCommit(repo, githubtest.Commit{SHA: hash(1), Parent: base, Message: "Begin\n\nat length", Author: "Alice", Login: "alice"})
	w.AddCommit(repo, githubtest.Commit{SHA: hash(2), Parent: hash(1), Message: "Go on", Author: "Bob", Login: "bob"})
	w.AddCommit(repo, githubtest.Commit{SHA: head, Parent: hash(2), Message: "Fix the invoice rounding", Author: "Alice", Login: "Alice"})
	w.AddPull(repo, githubtest.Pull{Number: 77, Title: "Round invoices", Merged: true, Commits: []string{head}, Reviews: []githubtest.Review{{Login: "bea", State: "APPROVED"}}})
	var stop func()
	w.url, stop = w.Start()
	t.Cleanup(stop)
	w.Client = w.client(t, githubtest.Token)
	return w
}

func (w *world) client(t *testing.T, token string) *github.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := github.New(github.Config{URL: w.url, Token: token, HTTP: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func query() approvals.CommitQuery {
	return approvals.CommitQuery{Repository: repo, Commit: head, Since: base, ConfigPath: path, Config: sha(config)}
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return c
}

func TestCommits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	want := approvals.Commits{
		Count: 3, Authors: []string{"Alice", "bob"}, Everybody: true, Config: approvals.ConfigSame,
		Newest: []approvals.Commit{{Hash: head, Subject: "Fix the invoice rounding", Author: "Alice"}, {Hash: hash(2), Subject: "Go on", Author: "bob"}, {Hash: hash(1), Subject: "Begin", Author: "alice"}},
		Pull:   &approvals.PullRequest{Number: 77, Title: "Round invoices", Review: approvals.ReviewApproved},
	}
	got, err := w.Commits(ctx(t), query())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commits (-want +got):\n%s", diff)
	}
	if calls := w.Calls(); len(calls) != 4 {
		t.Errorf("got the calls %q; want four", calls)
	}
}

// Whom a message names as authors counts as well; of whom it tells no login is unknown.
func TestCoauthors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trailers  string
		authors   []string
		everybody bool
	}{
		"a private address": {"Co-authored-by: Carl <123+carl-gh@users.noreply.github.com>", []string{"alice", "carl-gh"}, true},
		"an older one, in another spelling, that came by Windows": {"co-authored-BY : Carl <Carl-gh@USERS.noreply.github.com>\r", []string{"alice", "Carl-gh"}, true},
		"a bot":                        {"Co-authored-by: bot <1+dependabot[bot]@users.noreply.github.com>", []string{"alice", "dependabot[bot]"}, true},
		"the author again":             {"Co-authored-by: Alice <1+ALICE@users.noreply.github.com>", []string{"alice"}, true},
		"an address of their own":      {"Co-authored-by: Carl <carl@example.org>", []string{"alice"}, false},
		"no address":                   {"Co-authored-by: Carl", []string{"alice"}, false},
		"a look-alike of that address": {"Co-authored-by: Carl <carl@users.noreply.github.com.example.org>", []string{"alice"}, false},
		"two":                          {"Co-authored-by: A <a@users.noreply.github.com>\nSigned-off-by: X <x@example.org>\nCo-authored-by: B <b@example.org>", []string{"alice", "a"}, false},
		"more than are listed":         {strings.Repeat("Co-authored-by: Carl <carl@users.noreply.github.com>\n", 60), []string{"alice", "carl"}, false},
		"only words about it":          {"This is not Co-authored-by: Carl", []string{"alice"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.AddCommit(repo, githubtest.Commit{SHA: hash(20), Parent: head, Message: "Do it\n\nat length\n\n" + tt.trailers, Author: "Alice", Login: "alice"})
			q := query()
			q.Commit, q.Since = hash(20), head
			got, err := w.Commits(ctx(t), q)
			if err != nil || !slices.Equal(got.Authors, tt.authors) || got.Everybody != tt.everybody || got.Newest[0].Subject != "Do it" {
				t.Errorf("got %+v, %v; want %q, all of them: %v", got, err, tt.authors, tt.everybody)
			}
		})
	}
}

func TestOtherCommits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		since string
		want  func(approvals.Commits) bool
	}{
		"never deployed": {"", func(c approvals.Commits) bool {
			return c.Count == 0 && len(c.Newest) == 1 && !c.Everybody && c.Authors[0] == "Alice"
		}},
		"the newest deployed": {head, func(c approvals.Commits) bool { return c.Count == 0 && c.Behind == 0 && len(c.Newest) == 0 }},
		"an unknown commit": {hash(9), func(c approvals.Commits) bool {
			return c.Count == 0 && !c.Everybody && c.Pull != nil && c.Config == approvals.ConfigSame
		}},
		"a step back":    {hash(10), func(c approvals.Commits) bool { return c.Count == 0 && c.Behind == 2 }},
		"another branch": {hash(12), func(c approvals.Commits) bool { return c.Count == 1 && c.Behind == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.AddCommit(repo, githubtest.Commit{SHA: hash(11), Parent: head, Message: "later"})
			w.AddCommit(repo, githubtest.Commit{SHA: hash(10), Parent: hash(11), Message: "later still"})
			w.AddCommit(repo, githubtest.Commit{SHA: hash(12), Parent: hash(2), Message: "aside"})
			q := query()
			q.Since = tt.since
			if got, err := w.Commits(ctx(t), q); err != nil || !tt.want(got) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestManyCommits(t *testing.T) {
	t.Parallel()
	for n, calls := range map[int]int{100: 1, 101: 2, 203: 3, 300: 3, 10_000: 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			q := approvals.CommitQuery{Repository: repo, Commit: w.AddHistory(repo, head, n), Since: head}
			got, err := w.Commits(ctx(t), q)
			if err != nil || got.Count != n || len(got.Newest) != 5 || got.Newest[0].Subject != fmt.Sprintf("Change %d", n) || got.Newest[4].Subject != fmt.Sprintf("Change %d", n-4) {
				t.Fatalf("got %+v, %v; want %d commits, the newest five first", got, err, n)
			}
			if got.Everybody != (n <= 300) || !cmp.Equal(got.Authors, []string{"bob"}) {
				t.Errorf("got authors %q, everybody %v", got.Authors, got.Everybody)
			}
			compared := 0
			for _, c := range w.Calls() {
				if strings.Contains(c, "/compare/") {
					compared++
				}
			}
			if compared != calls {
				t.Errorf("got %d comparisons; want %d", compared, calls)
			}
		})
	}
}

func TestHostileTexts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.AddCommit(repo, githubtest.Commit{SHA: hash(20), Parent: head, Message: "\n<!channel> \x1b[31m" + strings.Repeat("\u202e", 500) + "\nmore", Author: strings.Repeat("x\x00", 100)})
	w.AddPull(repo, githubtest.Pull{Number: 78, Title: strings.Repeat("*a*\n", 200), Commits: []string{hash(20)}})
	got, err := w.Commits(ctx(t), approvals.CommitQuery{Repository: repo, Commit: hash(20), Since: head})
	if err != nil || len(got.Newest) != 1 || got.Everybody || len(got.Authors) != 0 {
		t.Fatalf("got %+v, %v; want one commit of nobody known", got, err)
	}
	for _, text := range []string{got.Newest[0].Subject, got.Newest[0].Author, got.Pull.Title} {
		if utf8.RuneCountInString(text) > 120 || strings.ContainsFunc(text, unicode.IsControl) || text == "" {
			t.Errorf("got %q; want one bounded line", text)
		}
	}
	if !strings.HasPrefix(got.Newest[0].Subject, "<!channel> [31m") {
		t.Errorf("got %q; want the words as they are", got.Newest[0].Subject)
	}
}

func TestReviews(t *testing.T) {
	t.Parallel()
	many := make([]githubtest.Review, 100)
	for i := range many {
		many[i] = githubtest.Review{Login: "bea", State: "APPROVED"}
	}
	for name, tt := range map[string]struct {
		reviews []githubtest.Review
		want    approvals.Review
	}{
		"none":               {nil, approvals.ReviewMissing},
		"approved":           {[]githubtest.Review{{Login: "bea", State: "APPROVED"}}, approvals.ReviewApproved},
		"commented":          {[]githubtest.Review{{Login: "bea", State: "COMMENTED"}}, approvals.ReviewMissing},
		"then commented":     {[]githubtest.Review{{Login: "bea", State: "APPROVED"}, {Login: "bea", State: "COMMENTED"}}, approvals.ReviewApproved},
		"dismissed":          {[]githubtest.Review{{Login: "bea", State: "APPROVED"}, {Login: "bea", State: "DISMISSED"}}, approvals.ReviewMissing},
		"changes":            {[]githubtest.Review{{Login: "bea", State: "APPROVED"}, {Login: "carl", State: "CHANGES_REQUESTED"}}, approvals.ReviewChanges},
		"changes, then fine": {[]githubtest.Review{{Login: "bea", State: "CHANGES_REQUESTED"}, {Login: "bea", State: "APPROVED"}}, approvals.ReviewApproved},
		"more than a page":   {many, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.AddCommit(repo, githubtest.Commit{SHA: hash(30), Parent: head})
			w.AddPull(repo, githubtest.Pull{Number: 5, Title: "x", Commits: []string{hash(30)}, Reviews: tt.reviews})
			got, err := w.Commits(ctx(t), approvals.CommitQuery{Repository: repo, Commit: hash(30), Since: head})
			if err != nil || got.Pull == nil || got.Pull.Review != tt.want {
				t.Errorf("got %+v, %v; want %q", got.Pull, err, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		file, ran, path string
		want            approvals.ConfigMatch
	}{
		"the file":              {config, config, path, approvals.ConfigSame},
		"other line ends":       {"version: 2.1\r\njobs: {}\r\n", config, path, approvals.ConfigSame},
		"without the last line": {config + "\n\n", strings.TrimSpace(config), path, approvals.ConfigSame},
		"another":               {config, config + "# more", path, approvals.ConfigOther},
		"blanks within":         {config, "version:  2.1\njobs: {}\n", path, approvals.ConfigOther},
		"no such file":          {config, config, ".circleci/other.yml", approvals.ConfigOther},
		"a directory":           {config, config, ".circleci", approvals.ConfigOther},
		"not known":             {config, "", path, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.AddCommit(repo, githubtest.Commit{SHA: hash(40), Parent: head, Files: map[string]string{path: tt.file}})
			q := approvals.CommitQuery{Repository: repo, Commit: hash(40), Since: head, ConfigPath: tt.path}
			if tt.ran != "" {
				q.Config = sha(tt.ran)
			}
			if got, err := w.Commits(ctx(t), q); err != nil || got.Config != tt.want {
				t.Errorf("got %q, %v; want %q", got.Config, err, tt.want)
			}
		})
	}
}

// What is no answer of GitHub does not say what is in the commit.
func TestSomebodyElseAnswersForTheConfiguration(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]githubtest.Fault{
		"a page":         {Status: 200, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>Sign in</html>"},
		"plain text":     {Status: 200, Header: map[string]string{"Content-Type": "text/plain"}, Body: config},
		"half an answer": {Status: 200, Body: `[{"type": "file`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			fault.Path = "/contents/"
			w.Inject(fault)
			if got, err := w.Commits(ctx(t), query()); err != nil || got.Config != "" || got.Count != 3 {
				t.Errorf("got %+v, %v; want the commits, and nothing said of the configuration", got, err)
			}
		})
	}
	w := setup(t)
	w.Inject(githubtest.Fault{Path: "/contents/", Status: 200, Header: map[string]string{"Content-Type": "application/vnd.github.v3.raw; charset=utf-8"}, Body: config})
	if got, err := w.Commits(ctx(t), query()); err != nil || got.Config != approvals.ConfigSame {
		t.Errorf("got %+v, %v; want the answer of an older server to count", got, err)
	}
}

// What the token may not read stays unknown. A repository that it may not see is an error.
func TestWhatTheTokenMayNotRead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Inject(githubtest.Fault{Path: "/pulls", Count: -1, Status: 403, Body: `{"message":"Resource not accessible by personal access token"}`})
	if got, err := w.Commits(ctx(t), query()); err != nil || got.Pull != nil || got.Count != 3 || got.Config != approvals.ConfigSame {
		t.Errorf("without pull requests: got %+v, %v; want the rest", got, err)
	}
	w = setup(t)
	w.Inject(githubtest.Fault{Path: "/compare/", Count: -1, Status: 404})
	w.Inject(githubtest.Fault{Path: "/contents/", Count: -1, Status: 404})
	if got, err := w.Commits(ctx(t), query()); err != nil || got.Pull == nil || got.Config != "" {
		t.Errorf("without contents: got %+v, %v; want the pull request, and nothing said of the configuration", got, err)
	}
	for name, q := range map[string]struct {
		token string
		repo  string
		want  int
	}{"wrong token": {"wrong", repo, 401}, "unknown repository": {githubtest.Token, "MyOrg/other", 404}} {
		c, query := setup(t), query()
		query.Repository = q.repo
		_, err := c.client(t, q.token).Commits(ctx(t), query)
		var e *approvals.CIError
		if !errors.As(err, &e) || e.Status != q.want || strings.Contains(err.Error(), q.token) {
			t.Errorf("%s: got %v; want %d", name, err, q.want)
		}
	}
}

func TestReadable(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := w.Readable(ctx(t), repo); err != nil {
		t.Errorf("got %v; want it readable", err)
	}
	for _, name := range []string{"MyOrg/other", "x", "../x"} {
		if err := w.Readable(ctx(t), name); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	w.Inject(githubtest.Fault{Path: "/pulls", Status: 403, Body: `{"message":"Resource not accessible by personal access token"}`})
	if err := w.Readable(ctx(t), repo); err == nil || !strings.Contains(err.Error(), "403 Forbidden") {
		t.Errorf("without pull requests: got %v; want 403", err)
	}
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault githubtest.Fault
		rests bool // the next call is not even made
		after time.Duration
	}{
		"down":            {githubtest.Fault{Drop: true}, true, 0},
		"broken":          {githubtest.Fault{Status: 502, Body: "<html>"}, true, 10 * time.Second},
		"secondary limit": {githubtest.Fault{Status: 403, Header: map[string]string{"Retry-After": "90"}}, true, 90 * time.Second},
		"too many":        {githubtest.Fault{Status: 429}, true, time.Minute},
		"the whole hour": {githubtest.Fault{Status: 403, Header: map[string]string{
			"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(time.Now().Add(30 * time.Minute).Unix()),
		}}, true, 29 * time.Minute},
		"for ever": {githubtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "99999999"}}, true, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			tt.fault.Count = -1
			w.Inject(tt.fault)
			_, err := w.Commits(ctx(t), query())
			var e *approvals.CIError
			if !errors.As(err, &e) || !e.Temporary() || strings.Contains(err.Error(), githubtest.Token) {
				t.Fatalf("got %v; want an error that may go away", err)
			}
			if tt.after > 0 && (e.RetryAfter < tt.after-5*time.Second || e.RetryAfter > tt.after+time.Minute) {
				t.Errorf("got a pause of %v; want %v", e.RetryAfter, tt.after)
			}
			w.ClearFaults()
			before := len(w.Calls())
			if _, err = w.Commits(ctx(t), query()); !errors.As(err, &e) || !e.Temporary() || e.RetryAfter <= 0 {
				t.Errorf("right afterwards: got %v; want to be told how long to wait", err)
			}
			if len(w.Calls()) != before {
				t.Error("GitHub was called although it rests")
			}
		})
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Limit(2, time.Now().Add(20*time.Minute))
	_, err := w.Commits(ctx(t), query())
	var e *approvals.CIError
	if !errors.As(err, &e) || !e.Temporary() || e.RetryAfter < 19*time.Minute {
		t.Fatalf("got %v; want an error until the limit is over", err)
	}
}

// A caller that waits no longer says nothing of GitHub.
func TestSlow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.Inject(githubtest.Fault{Path: "/contents/", Delay: time.Minute})
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := w.Commits(soon, query()); err == nil || time.Since(begun) > 10*time.Second {
		t.Fatalf("got %v after %v; want an error at once", err, time.Since(begun))
	}
	if got, err := w.Commits(ctx(t), query()); err != nil || got.Config != approvals.ConfigSame {
		t.Errorf("got %+v, %v; want everything at the second try", got, err)
	}
}

func TestUnusableAnswers(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no JSON":       "<html>",
		"a list":        "[]",
		"too little":    `{"total_commits":3}`,
		"cut off":       `{"total_commits":3,"behind_by":0,"commits":[{"sha":"`,
		"impossible":    `{"total_commits":-1,"behind_by":0,"commits":[]}`,
		"another type":  `{"total_commits":"3","behind_by":0,"commits":[]}`,
		"without end":   `{"files":"` + strings.Repeat("x", 5<<20) + `"}`,
		"too many":      `{"total_commits":101,"behind_by":0,"commits":[` + strings.Repeat("{},", 100) + `{}]}`,
		"nothing of it": ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.Inject(githubtest.Fault{Path: "/compare/", Count: -1, Status: 200, Body: body})
			if got, err := w.Commits(ctx(t), query()); err != nil || got.Count != 0 || got.Everybody || got.Pull == nil {
				t.Errorf("got %+v, %v; want nothing of the commits, and the rest", got, err)
			}
		})
	}
}

func TestInvalidQueries(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, change := range []func(*approvals.CommitQuery){
		func(q *approvals.CommitQuery) { q.Repository = "MyOrg" },
		func(q *approvals.CommitQuery) { q.Repository = "MyOrg/../x" },
		func(q *approvals.CommitQuery) { q.Commit = "main" },
		func(q *approvals.CommitQuery) { q.Since = "../" + base[3:] },
	} {
		q := query()
		change(&q)
		if _, err := w.Commits(ctx(t), q); !errors.Is(err, approvals.ErrCIInvalid) {
			t.Errorf("%+v: got %v; want it refused", q, err)
		}
	}
	q := query()
	q.ConfigPath = "../a b?c#d%2f"
	if got, err := w.Commits(ctx(t), q); err != nil || got.Config != approvals.ConfigOther {
		t.Errorf("an odd path: got %+v, %v; want no such file", got, err)
	}
	for _, bad := range []github.Config{{}, {Token: "a b"}, {Token: "x", URL: "ftp://x"}, {Token: "x", URL: "https://u:p@x"}} {
		if _, err := github.New(bad); err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%+v: got %v; want an error without secrets", bad, err)
		}
	}
	if text := fmt.Sprintf("%v %#v", w.Client, w.Client); strings.Contains(text, githubtest.Token) {
		t.Error("the token shows in a print")
	}
}

func FuzzComparison(f *testing.F) {
	f.Add([]byte(`{"total_commits":1,"behind_by":0,"commits":[{"sha":"ab","commit":{"message":"a\nb","author":{"name":"x"}},"author":{"login":"y"}}],"files":[]}`))
	f.Add([]byte(`{"commits":[{"author":null},{}],"total_commits":2,"behind_by":9}`))
	f.Add([]byte(`{"total_commits":1,"behind_by":0,"commits":[{"commit":{"message":"a\n\nCo-authored-by: b <1+b@users.noreply.github.com>\r\nco-authored-by: c"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := github.ReadComparison(data)
		if err != nil {
			return
		}
		if len(c.Newest) > 5 || len(c.Authors) > 50 {
			t.Fatalf("got %+v", c)
		}
		for _, login := range c.Authors {
			if login == "" || utf8.RuneCountInString(login) > 60 || !utf8.ValidString(login) || strings.ContainsFunc(login, unicode.IsControl) {
				t.Errorf("got the author %q", login)
			}
		}
		for _, n := range c.Newest {
			for _, text := range []string{n.Subject, n.Author, n.Hash} {
				if utf8.RuneCountInString(text) > 120 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
					t.Errorf("got %q", text)
				}
			}
		}
	})
}
