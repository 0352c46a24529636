package slacktest_test

import (
	"context"
	"fmt"

	"github.com/slack-go/slack"

	"github.com/rack-gateway/rack-gateway-approvals/bot/slacktest"
)

func Example() {
	s := slacktest.New(slacktest.Config{})
	if err := s.Start(); err != nil {
		panic(err)
	}
	defer s.Close()
	s.SetUser(slacktest.User{ID: "U0ANA", Name: "ana"})
	s.SetChannel(slacktest.Channel{ID: "C0DEPLOYS", Members: []string{s.Config().BotUserID, "U0ANA"}})

	api := slack.New(s.Config().BotToken, slack.OptionAPIURL(s.URL()))
	question := slack.NewTextBlockObject(slack.MarkdownType, "Deploy &lt;!channel&gt;? Ask <@U0ANA>.", false, false)
	_, _, err := api.PostMessageContext(context.Background(), "C0DEPLOYS",
		slack.MsgOptionText("Deploy?", false), slack.MsgOptionBlocks(slack.NewSectionBlock(question, nil, nil)))
	if err != nil {
		panic(err)
	}
	card := s.Messages("C0DEPLOYS")[0]
	fmt.Println(slacktest.Text(card.Blocks))
	fmt.Println(slacktest.LiveMarkup(card))
	// Output:
	// Deploy <!channel>? Ask ⟦<@U0ANA>⟧.
	// [<@U0ANA>]
}
