package bot

import (
	"context"
	"time"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

const homeLimit = 10

// publish shows blocks as somebody's App Home. hash is that of the view they see now,
// so that a newer one is never overwritten.
func (b *Bot) publish(ctx context.Context, user, hash string, blocks []slack.Block) {
	publish := slack.PublishViewContextRequest{
		UserID: user,
		View:   slack.HomeTabViewRequest{Type: slack.VTHomeTab, Blocks: slack.Blocks{BlockSet: blocks}},
	}
	if hash != "" {
		publish.Hash = &hash
	}
	err := b.call("views.publish", func() error {
		_, err := b.ws.api.PublishViewContext(ctx, publish)
		return err
	})
	if err != nil && diagnose(err).code != "hash_conflict" {
		b.log.Warn("publish the App Home", "why", explain(err))
	}
}

// homeBlocks are somebody's App Home: my authenticator, what is waiting for me, the last
// decisions.
func (b *Bot) homeBlocks(ctx context.Context, user string) ([]slack.Block, error) {
	if problem := b.outsider(ctx, user); problem != nil {
		return []slack.Block{problem.block()}, nil
	}
	_, me, err := b.whoami(ctx, user)
	if err != nil {
		return nil, err
	}
	blocks := append([]slack.Block{header("My authenticator")}, me...)
	waiting, err := b.waitingFor(ctx, user)
	if err != nil {
		return nil, err
	}
	blocks = append(blocks, slack.NewDividerBlock(), header("Waiting for me"))
	for _, r := range waiting {
		blocks = append(blocks, summary(r).block())
	}
	if len(waiting) == 0 {
		blocks = append(blocks, say("Nothing is waiting for you.").block())
	}
	_, last, err := b.list(ctx, "Last decisions", "There are no decisions yet.", approvals.Filter{Statuses: approvals.ClosedStatuses(), Limit: homeLimit})
	if err != nil {
		return nil, err
	}
	return append(append(blocks, slack.NewDividerBlock()), last...), nil
}

// waitingFor lists the pending requests that the person could approve now.
func (b *Bot) waitingFor(ctx context.Context, user string) ([]approvals.Request, error) {
	pending, err := b.service.Recent(ctx, approvals.Filter{Statuses: []approvals.Status{approvals.Pending}, Limit: 5 * homeLimit})
	if err != nil {
		return nil, err
	}
	var mine []approvals.Request
	who := approvals.Clicker{Team: b.ws.Identity().Team, User: user}
	for _, r := range pending {
		if len(mine) == homeLimit || time.Now().After(r.ExpiresAt()) {
			continue
		}
		if _, err := b.service.MayDecide(ctx, who, r.ID, approvals.ActionApprove); err == nil {
			mine = append(mine, r)
		}
	}
	return mine, nil
}
