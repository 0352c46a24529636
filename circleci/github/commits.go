package github

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// Bounds of what is taken over.
const (
	perPage    = 100 // GitHub's most
	maxNewest  = 5
	maxAuthors = 50
	maxSubject = 120 // characters
	maxName    = 60  // characters of a login or a name
)

const (
	acceptJSON = "application/vnd.github+json"
	acceptRaw  = "application/vnd.github.raw+json"
)

var (
	repoPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)
	hashPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Commits reads what is new since the last deploy, the pull request, and whether the configuration is the file of the
// commit, side by side.
func (c *Client) Commits(ctx context.Context, q approvals.CommitQuery) (approvals.Commits, error) {
	if !repoPattern.MatchString(q.Repository) || !hashPattern.MatchString(q.Commit) || q.Since != "" && !hashPattern.MatchString(q.Since) {
		return approvals.Commits{}, invalid("read commits", "the repository or a commit cannot be right")
	}
	repo := "/repos/" + q.Repository
	var (
		out    approvals.Commits
		config approvals.ConfigMatch
		pull   *approvals.PullRequest
		failed [3]error
		all    sync.WaitGroup
	)
	all.Go(func() { out, failed[0] = c.changes(ctx, repo, q) })
	all.Go(func() { pull, failed[1] = c.pullRequest(ctx, repo, q.Commit) })
	all.Go(func() { config, failed[2] = c.config(ctx, repo, q) })
	all.Wait()
	if i := slices.IndexFunc(failed[:], temporary); i >= 0 {
		return approvals.Commits{}, failed[i]
	}
	if failed[0] != nil && failed[1] != nil && failed[2] != nil {
		return approvals.Commits{}, failed[0] // the token, or the repository
	}
	out.Pull, out.Config = pull, config
	// Without the commit, a file that is not found may be one that the token may not see.
	if failed[0] != nil && errors.Is(failed[2], errNoFile) {
		out.Config = ""
	}
	return out, nil
}

func temporary(err error) bool {
	e, ok := errors.AsType[*approvals.CIError](err)
	return ok && e.Temporary()
}

// Readable asks whether the token may read the code and the pull requests of a repository (org/repo).
func (c *Client) Readable(ctx context.Context, repository string) error {
	if !repoPattern.MatchString(repository) {
		return invalid("read repository", "the repository cannot be right")
	}
	for _, path := range []string{"/commits?per_page=1", "/pulls?per_page=1"} {
		if err := c.object(ctx, "read repository", "/repos/"+repository+path, &[]json.RawMessage{}); err != nil {
			return err
		}
	}
	return nil
}

// wireCommit is a commit as GitHub lists it.
type wireCommit struct {
	SHA    string `json:"sha"`
	Commit struct {
		Message string `json:"message"`
		Author  struct {
			Name string `json:"name"`
		} `json:"author"`
	} `json:"commit"`
	Author account `json:"author"` // the one behind the author's address
}

// account is null, and has no login, when there is none.
type account struct {
	Login string `json:"login"`
}

func (w wireCommit) login() string { return plain.Line(w.Author.Login, maxName) }

func (w wireCommit) commit() approvals.Commit {
	author := cmp.Or(w.login(), plain.Line(w.Commit.Author.Name, maxName))
	subject, _, _ := strings.Cut(strings.TrimLeft(w.Commit.Message, "\r\n"), "\n")
	return approvals.Commit{Hash: plain.Line(w.SHA, 40), Subject: plain.Line(subject, maxSubject), Author: author}
}

// coauthor is a line that names another author, wherever it stands, and privateAddress
// what GitHub gives to people who keep theirs to themselves: the only one that tells a
// login.
// Source: https://docs.github.com/en/pull-requests/committing-changes-to-your-project/creating-and-editing-commits/creating-a-commit-with-multiple-authors
var (
	coauthor       = regexp.MustCompile(`(?im)^[ \t]*co-authored-by[ \t]*:(.*)$`)
	privateAddress = regexp.MustCompile(`(?i)<(?:[0-9]+\+)?([a-z0-9-]+(?:\[bot\])?)@users\.noreply\.github\.com>\s*$`)
)

// coauthorsOf lists the logins of those whom a message names as authors, too; "" for one of whom it tells no login. The
// API has no field for them. Of very many the rest is somebody without a login.
func coauthorsOf(message string) (logins []string) {
	for i, m := range coauthor.FindAllStringSubmatch(message, maxAuthors+1) {
		if i == maxAuthors {
			return append(logins, "")
		}
		login := ""
		if of := privateAddress.FindStringSubmatch(m[1]); of != nil {
			login = plain.Line(of[1], maxName)
		}
		logins = append(logins, login)
	}
	return logins
}

// comparison is one page of a comparison, oldest commit first.
type comparison struct {
	total, behind int
	commits       []wireCommit
}

// changes lists what is new. Of many commits it reads the first page, which has their number, and the newest.
func (c *Client) changes(ctx context.Context, repo string, q approvals.CommitQuery) (approvals.Commits, error) {
	if q.Since == "" {
		var w wireCommit
		if err := c.object(ctx, "read commit", repo+"/commits/"+q.Commit, &w); err != nil {
			return approvals.Commits{}, err
		}
		out := of([]wireCommit{w})
		out.Everybody = false // of all that is deployed for the first time
		return out, nil
	}
	page := func(n int) (p comparison, err error) {
		path := fmt.Sprintf("%s/compare/%s...%s?per_page=%d&page=%d", repo, q.Since, q.Commit, perPage, n)
		err = c.ask(ctx, "compare commits", path, acceptJSON, p.read)
		return p, err
	}
	first, err := page(1)
	commits, last := first.commits, (first.total+perPage-1)/perPage
	for n := max(2, last-1); n <= last && err == nil; n++ {
		var more comparison
		more, err = page(n)
		commits = append(commits, more.commits...)
	}
	if err != nil {
		return approvals.Commits{}, err
	}
	out := of(commits)
	out.Count, out.Behind, out.Everybody = first.total, first.behind, out.Everybody && first.total == len(commits)
	return out, nil
}

// of sums up commits that are listed oldest first.
func of(commits []wireCommit) approvals.Commits {
	out := approvals.Commits{Everybody: true}
	for _, w := range slices.Backward(commits) {
		if len(out.Newest) < maxNewest {
			out.Newest = append(out.Newest, w.commit())
		}
		for _, login := range append([]string{w.login()}, coauthorsOf(w.Commit.Message)...) {
			wrote(&out, login)
		}
	}
	return out
}

// wrote adds one who wrote a commit; "" is somebody without a login.
func wrote(out *approvals.Commits, login string) {
	known := slices.ContainsFunc(out.Authors, func(a string) bool { return strings.EqualFold(a, login) })
	switch {
	case login == "" || !known && len(out.Authors) == maxAuthors:
		out.Everybody = false
	case !known:
		out.Authors = append(out.Authors, login)
	}
}

// read takes in the parts that count. The changes of all files, which can be many megabytes, come after them.
func (p *comparison) read(_ string, r io.Reader) error {
	parts := map[string]any{"total_commits": &p.total, "behind_by": &p.behind, "commits": &p.commits}
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("no object")
	}
	for len(parts) > 0 {
		name, err := d.Token()
		if err != nil {
			return err
		}
		if name == json.Delim('}') {
			return errors.New("something is missing")
		}
		key, _ := name.(string)
		target, wanted := parts[key]
		if !wanted {
			target = new(json.RawMessage)
		}
		delete(parts, key)
		if err := d.Decode(target); err != nil {
			return err
		}
	}
	if p.total < 0 || p.behind < 0 || len(p.commits) > perPage {
		return errors.New("impossible numbers")
	}
	return nil
}

type wirePull struct {
	Number int     `json:"number"`
	Title  string  `json:"title"`
	Merged *string `json:"merged_at"`
}

type wireReview struct {
	State string  `json:"state"`
	User  account `json:"user"`
}

// pullRequest finds the pull request of a commit: the one that brought it to its branch, else the newest.
func (c *Client) pullRequest(ctx context.Context, repo, commit string) (*approvals.PullRequest, error) {
	var pulls []wirePull
	if err := c.object(ctx, "find the pull request", repo+"/commits/"+commit+"/pulls", &pulls); err != nil {
		return nil, err
	}
	var found wirePull
	for _, p := range pulls {
		if p.Merged != nil || found.Merged == nil && p.Number > found.Number {
			found = p
		}
	}
	if found.Number < 1 {
		return nil, nil
	}
	out := &approvals.PullRequest{Number: found.Number, Title: plain.Line(found.Title, maxSubject)}
	path := fmt.Sprintf("%s/pulls/%d/reviews?per_page=%d", repo, found.Number, perPage)
	var reviews []wireReview
	err := c.object(ctx, "read reviews", path, &reviews)
	if temporary(err) {
		return nil, err
	}
	if err == nil {
		out.Review = reviewOf(reviews)
	}
	return out, nil
}

// reviewOf sums up reviews, oldest first: the newest word of each reviewer counts, and a comment is none. Of a list that
// may go on, nothing is known.
func reviewOf(reviews []wireReview) approvals.Review {
	if len(reviews) == perPage {
		return ""
	}
	state := map[string]string{}
	for _, r := range reviews {
		if r.User.Login != "" && slices.Contains([]string{"APPROVED", "CHANGES_REQUESTED", "DISMISSED"}, r.State) {
			state[r.User.Login] = r.State
		}
	}
	words := slices.Collect(maps.Values(state))
	switch {
	case slices.Contains(words, "CHANGES_REQUESTED"):
		return approvals.ReviewChanges
	case slices.Contains(words, "APPROVED"):
		return approvals.ReviewApproved
	}
	return approvals.ReviewMissing
}

// errNoFile marks a commit without the file.
var errNoFile = errors.New("no such file")

// config compares the pipeline's configuration with the file of the commit.
func (c *Client) config(ctx context.Context, repo string, q approvals.CommitQuery) (approvals.ConfigMatch, error) {
	if q.Config == "" {
		return "", nil
	}
	path := repo + "/contents/" + (&url.URL{Path: strings.TrimPrefix(q.ConfigPath, "/")}).EscapedPath() + "?ref=" + q.Commit
	var file digests
	err := c.ask(ctx, "read the CI configuration", path, acceptRaw, file.read)
	switch e, _ := errors.AsType[*approvals.CIError](err); {
	case e != nil && e.Status == http.StatusNotFound:
		return approvals.ConfigOther, errNoFile
	case err != nil:
		return "", err
	case slices.Contains(file, q.Config):
		return approvals.ConfigSame, nil
	}
	return approvals.ConfigOther, nil
}

// digests name a file in all forms that differ only in line ends and in blanks at its end. What is no file, such as
// a directory, is told as JSON and has none.
// Source: https://docs.github.com/en/rest/repos/contents#get-repository-content
type digests []approvals.Digest

func (d *digests) read(mediaType string, r io.Reader) error {
	if mediaType == "application/json" {
		return json.NewDecoder(r).Decode(&json.RawMessage{})
	}
	// GitHub Enterprise Server has the version in it: application/vnd.github.v3.raw.
	if !strings.HasPrefix(mediaType, "application/vnd.github.") || !strings.Contains(mediaType, "raw") {
		return errors.New("somebody else answers")
	}
	file, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	unix := bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n"))
	for _, text := range [][]byte{file, unix} {
		short := bytes.TrimRight(text, " \t\r\n")
		for _, form := range [][]byte{text, short, append(slices.Clone(short), '\n')} {
			*d = append(*d, approvals.DigestOf(string(form)))
		}
	}
	return nil
}
