package bot

import (
	"strconv"
	"strings"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// commit is the subject of the commit, and its pull request.
func (v view) commit(r approvals.Request) line {
	var l line
	if r.Facts.Subject != "" {
		l = say(quoted(r.Facts.Subject, limitMessage))
	}
	pull := pullRequest(r)
	switch {
	case pull == nil:
		return l
	case l == nil:
		return pull
	}
	return say(l, " (", pull, ")")
}

// reviews are the words for how far a review is.
var reviews = map[approvals.Review]string{
	approvals.ReviewApproved: ", approved", approvals.ReviewChanges: ", changes requested", approvals.ReviewMissing: ", not approved",
}

// pullRequest names the pull request, with its title where that says more than the subject of the commit.
func pullRequest(r approvals.Request) line {
	number, said := r.Facts.PullRequest, (*approvals.PullRequest)(nil)
	if r.Commits != nil && r.Commits.Pull != nil {
		said = r.Commits.Pull
		number = strconv.Itoa(said.Number)
	}
	if number == "" {
		return nil
	}
	l := say(link(pullURL(r.Facts, number), "PR #"+number))
	if said == nil {
		return l
	}
	if title, _ := strings.CutSuffix(said.Title, "…"); !strings.Contains(r.Facts.Subject, title) {
		l = say(l, " “", quoted(said.Title, limitMessage), "”")
	}
	return say(l, reviews[said.Review])
}

// changes tells what is new since the last deploy, as far as that is known.
func (v view) changes(r approvals.Request) line {
	if r.Last == nil || r.Last.Revision == "" || r.Last.Revision == r.Facts.Revision {
		return nil
	}
	last := r.Last.Revision
	compare := compareURL(r.Facts, last, r.Facts.Revision)
	since := say(" (", link(CommitURL(r.Facts, last), short(last)), ", ", at(r.Last.At), ")")
	switch {
	case r.Commits != nil && r.Commits.Count > 0:
		return say(link(compare, plural(r.Commits.Count, "commit")), authors(r.Commits), " since the last deploy", since)
	case compare == "":
		return nil
	}
	return say(link(compare, "Changes since the last deploy"), since)
}

// mostAuthors are named; the others are counted.
const mostAuthors = 3

// authors names those who wrote the commits.
func authors(c *approvals.Commits) line {
	var l line
	for i, login := range c.Authors[:min(len(c.Authors), mostAuthors)] {
		switch {
		case i == 0:
			l = say(" by ")
		case i == len(c.Authors)-1 && c.Everybody:
			l = say(l, " and ")
		default:
			l = say(l, ", ")
		}
		l = say(l, name(login))
	}
	switch more := len(c.Authors) - mostAuthors; {
	case len(l) == 0:
		return nil
	case !c.Everybody:
		return say(l, " and others")
	case more > 0:
		return say(l, " and ", more, " more")
	}
	return l
}

// commitList names the newest commits, and links the rest; nil when there are none.
func (v view) commitList(r approvals.Request) []slack.Block {
	if r.Commits == nil || r.Commits.Count == 0 || r.Last == nil {
		return nil
	}
	var l line
	for i, c := range r.Commits.Newest {
		if i > 0 {
			l = say(l, "\n")
		}
		l = say(l, link(CommitURL(r.Facts, c.Hash), short(c.Hash)), " ", quoted(c.Subject, limitMessage))
		if c.Author != "" {
			l = say(l, " (", name(c.Author), ")")
		}
	}
	if more := r.Commits.Count - len(r.Commits.Newest); more > 0 {
		l = say(l, "\n", link(compareURL(r.Facts, r.Last.Revision, r.Facts.Revision), "and "+strconv.Itoa(more)+" more"))
	}
	return []slack.Block{l.block()}
}

// configuration says whether the CI configuration is the file of the commit.
func configuration(c *approvals.Commits) line {
	switch {
	case c == nil:
	case c.Config == approvals.ConfigSame:
		return say(" CI configuration: as in the commit.")
	case c.Config == approvals.ConfigOther:
		return say(" CI configuration: not as in the commit: refused.")
	}
	return nil
}

// commitsRead tells what the code host said after the card was posted.
func (v view) commitsRead(t approvals.Told) (line, []slack.Block) {
	r := t.Request
	r.Commits = t.Event.Commits
	l := say("The code host answered late.", configuration(r.Commits))
	list := v.commitList(r)
	if list != nil {
		l = say(l, " ", plural(r.Commits.Count, "commit"), " since the last deploy:")
	}
	return l, list
}
