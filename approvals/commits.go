package approvals

import (
	"cmp"
	"context"
	"errors"
	"time"
)

const (
	// codeWait is how long filing a request waits for the code host at the most. After
	// that the card is posted without its word, and completed when it comes.
	codeWait = 800 * time.Millisecond
	// codeTime ends a reading that nobody waits for.
	codeTime = 20 * time.Second
	// codeAgain and codeMost are the pauses after readings that failed.
	codeAgain = 5 * time.Second
	codeMost  = 5 * time.Minute
)

// codeAnswer is what the code host said; nil = nothing in time.
type codeAnswer struct {
	said  *Commits
	asked Rests // what it asked for instead
}

// commitQuery is what to ask about a request; ok is false when nobody can be asked.
func (s *Service) commitQuery(p Policy, f Facts, last *DeployedBefore) (q CommitQuery, ok bool) {
	q = CommitQuery{
		Repository: p.VCSRepo, Commit: f.Revision,
		ConfigPath: cmp.Or(f.ConfigPath, defaultConfigPath), Config: cmp.Or(f.SetupConfig, f.Config),
	}
	if last != nil && last.Revision != f.Revision {
		q.Since = last.Revision
	}
	return q, s.code != nil && p.VCSProvider == "github"
}

// askCommits asks the code host about a commit while a request is filed. It refuses a
// configuration that is not the file of the commit.
func (s *Service) askCommits(ctx context.Context, p Policy, f Facts, last *DeployedBefore) (a codeAnswer, err error) {
	q, ok := s.commitQuery(p, f, last)
	if !ok {
		return a, nil
	}
	soon, cancel := context.WithTimeout(ctx, codeWait)
	defer cancel()
	said, err := s.code.Commits(soon, q)
	switch {
	case err != nil:
		s.log.Debug("ask the code host", "commit", q.Commit, "err", err)
		return codeAnswer{asked: restsOf(err)}, ctx.Err()
	case said.Config == ConfigOther:
		return a, refuse(CodeConfigNotFromCommit, "the pipeline's configuration is not the file %s of its commit. Start a pipeline that takes it from the commit", q.ConfigPath)
	}
	return codeAnswer{said: &said}, nil
}

// addCommits records what the code host said, or has it asked again.
func (s *Service) addCommits(c *Change, r *Request, p Policy, a codeAnswer) error {
	switch _, ok := s.commitQuery(p, r.Facts, r.Last); {
	case !ok:
		return nil
	case a.said != nil:
		return c.happen(r, commitsRead(*r, a.said, false))
	}
	if err := c.rest(FamilyCode, a.asked); err != nil {
		return err
	}
	return c.ask(commitsWork(*r))
}

// commitsRead is what the code host said. late: the card stands without it.
func commitsRead(r Request, said *Commits, late bool) Event {
	e := about(r, EventCommitsRead, Actor{Kind: ActorCodeHost}, "github")
	e.Commits = said
	if late {
		e.Data = Data{"late": "true"}
	}
	return e
}

// readCommits asks the code host about a request that was filed without its word.
func (s *Service) readCommits(ctx context.Context, w Work) Outcome {
	r, err := query(ctx, s.store, func(tx Tx) (Request, error) { return tx.Request(w.Subject) })
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Again(Backoff(w.Attempt, time.Second, 30*time.Second), err)
	}
	p, unknown := s.settings.Lookup(r.App, r.Environment)
	q, ok := s.commitQuery(p, r.Facts, r.Last)
	if err != nil || unknown != nil || !ok || !r.wantsCommits() {
		return Done()
	}
	ctx, cancel := context.WithTimeout(ctx, codeTime)
	defer cancel()
	said, err := s.code.Commits(ctx, q)
	if err != nil {
		out := Again(max(Backoff(w.Attempt, codeAgain, codeMost), min(ciError(err).RetryAfter, time.Hour)), err)
		out.Rests = restsOf(err)
		return out
	}
	out := Done()
	out.Record = func(c *Change) error {
		r, err := c.Request(w.Subject)
		if err != nil || !r.wantsCommits() {
			return err
		}
		if now, _ := s.commitQuery(p, r.Facts, r.Last); now != q {
			return c.ask(commitsWork(r)) // the row said something else then
		}
		if err := c.happen(&r, commitsRead(r, &said, true)); err != nil {
			return err
		}
		// It may end the request, or make votes count no more.
		return c.ask(followWork(r.Facts.WorkflowID, c.Now(), rankUrgent))
	}
	return out
}

// wantsCommits reports whether the code host's word is still missing and of use.
func (r Request) wantsCommits() bool { return r.Status.Open() && r.Commits == nil }
