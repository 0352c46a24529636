package gateway

import (
	"context"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// target names a request by app and environment: this workflow's.
type target struct {
	app, environment string
}

func (t *target) add(f *pflag.FlagSet) {
	f.StringVarP(&t.app, "app", "a", "", "name of the app: take this workflow's request (CIRCLE_WORKFLOW_ID)")
	f.StringVarP(&t.environment, "environment", "e", "", "environment of that request (RACK_GATEWAY_ENV)")
}

// identifier is the id or number in an argument. People see numbers as #12, so
// that is a number, too.
func identifier(arg string) (string, error) {
	id := strings.TrimPrefix(strings.TrimSpace(arg), "#")
	if id == "" {
		return "", cli.Usage("the id is empty")
	}
	return id, nil
}

// find reads the request that a command is about.
func (c *program) find(ctx context.Context, t target, args []string) (*webhook.Client, webhook.Request, error) {
	none := webhook.Request{}
	workflow := c.given("", ciWorkflow)
	switch {
	case len(args) > 0 && t.app != "":
		return nil, none, cli.Usage("give either an id or --app")
	case len(args) == 0 && t.app == "":
		return nil, none, cli.Usage("give the id of a request, or --app for this workflow's")
	case len(args) == 0 && workflow == "":
		return nil, none, cli.Usage("the workflow is not known outside of a CircleCI job: give the id of a request")
	}
	var id string
	if len(args) > 0 {
		var err error
		if id, err = identifier(args[0]); err != nil {
			return nil, none, err
		}
	}
	client, err := c.connect()
	if err != nil {
		return nil, none, err
	}
	if id != "" {
		r, err := client.Get(ctx, id)
		if err != nil {
			return nil, none, failed(err)
		}
		return client, r, nil
	}
	environment, err := c.environment(t.environment)
	if err != nil {
		return nil, none, err
	}
	if environment == "" {
		environment = approvals.DefaultEnvironment
	}
	page, err := client.List(ctx, webhook.ListQuery{App: t.app, Environment: environment, WorkflowID: workflow, Limit: 1})
	if err != nil {
		return nil, none, failed(err)
	}
	if len(page.Requests) == 0 {
		return nil, none, failed(&webhook.Problem{
			Status: 404, Code: approvals.CodeNotFound,
			Detail: "this workflow has no request for app " + t.app + " in environment " + environment,
		})
	}
	return client, page.Requests[0], nil
}
