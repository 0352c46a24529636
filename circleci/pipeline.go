package circleci

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// addPipeline reads what the pipeline, its values and its configuration say of a workflow.
func (c *Client) addPipeline(ctx context.Context, f *approvals.Facts, pipelineID string) error {
	var (
		p      wirePipeline
		values wireValues
		config wireConfig
		failed [2]error
		all    sync.WaitGroup
	)
	ref := id{"pipeline id", pipelineID}
	all.Go(func() {
		failed[0] = c.object(ctx, get("pipeline", "read pipeline", "/pipeline/%s", ref), &p, pipelineID)
	})
	all.Go(func() {
		failed[1] = c.read(ctx, get("values", "read pipeline values", "/pipeline/%s/values", ref), &values)
	})
	all.Go(func() {
		k := get("config", "read pipeline configuration", "/pipeline/%s/config", ref)
		k.most = maxConfig
		if err := c.read(ctx, k, &config); err != nil {
			config = wireConfig{} // it is not known
		}
	})
	all.Wait()
	if err := cmp.Or(failed[0], failed[1]); err != nil {
		return err
	}
	f.PipelineID, f.PipelineNumber = p.ID, p.Number
	if err := addCommit(f, p, values); err != nil {
		return err
	}
	return addTrigger(f, p, values, config)
}

// addCommit takes over which commit of which repository it is.
func addCommit(f *approvals.Facts, p wirePipeline, values wireValues) error {
	v, doing := p.VCS, "read pipeline"
	f.Revision, f.Branch, f.Tag, f.Origin, f.Target = v.Revision, v.Branch, v.Tag, v.OriginURL, v.TargetURL
	if v.Revision == "" {
		// Pipelines of the GitHub App, GitLab and Bitbucket Data Center have no such part. Their values name the commit,
		// and the repositories if at all.
		doing = "read pipeline values"
		f.Revision, f.Branch, f.Tag = values.of("git.revision"), values.of("git.branch"), values.of("git.tag")
		f.Origin, f.Target = values.of("git.origin_repo_url"), cmp.Or(values.of("git.target_repo_url"), values.of("git.repo_url"))
	}
	f.Subject = plain.Line(cmp.Or(v.Commit.Subject, values.of("git.commit.subject")), maxSubject)
	f.PullRequest = pullRequest(v.ReviewID, values)
	return check(doing,
		bounded("the revision", f.Revision, maxWord), bounded("the branch", f.Branch, maxRef), bounded("the tag", f.Tag, maxRef),
		bounded("the URL of the origin", f.Origin, maxURL), bounded("the URL of the target", f.Target, maxURL),
	)
}

// addTrigger takes over how the pipeline came to run, and with what.
func addTrigger(f *approvals.Facts, p wirePipeline, values wireValues, config wireConfig) error {
	f.Trigger, f.Event, f.Actor = p.Trigger.Type, values.of("event.name"), p.Trigger.Actor.Login
	f.ActorID = values.of("event.circleci_actor_id")
	f.ConfigSource, f.ConfigRevision = values.of("config_source"), values.of("config.sha")
	f.ConfigRepository, f.ConfigPath = values.of("config.repository.url"), values.of("config.file_path")
	f.Config, f.SetupConfig = approvals.DigestOf(config.Source), approvals.DigestOf(config.Setup)
	f.Parameters = parameters(given(p, values), config)
	return check("read pipeline",
		bounded("the trigger", f.Trigger, maxWord), bounded("the event", f.Event, maxWord),
		bounded("the login of the actor", f.Actor, maxLogin), bounded("the user id of the actor", f.ActorID, maxWord),
		bounded("the source of the configuration", f.ConfigSource, maxWord), bounded("the revision of the configuration", f.ConfigRevision, maxWord),
		bounded("the repository of the configuration", f.ConfigRepository, maxName), bounded("the path of the configuration", f.ConfigPath, maxName),
	)
}

var pullURL = regexp.MustCompile(`/(?:pull|pull-requests|merge_requests)/([0-9]{1,9})/?$`)

// pullRequest is the number of the pull request that the pipeline is for; it is empty where CircleCI names none.
func pullRequest(review string, values wireValues) string {
	number := cmp.Or(values.of("event.github.pull_request.number"), review)
	if m := pullURL.FindStringSubmatch(values.of("event.context.github.pr_url")); m != nil {
		number = cmp.Or(number, m[1])
	}
	return wholeNumber.FindString(number)
}

var wholeNumber = regexp.MustCompile(`^[0-9]{1,9}$`)

// given are all parameters of a pipeline. Its values may name the defaults, too.
func given(p wirePipeline, values wireValues) map[string]string {
	all := map[string]string{}
	maps.Copy(all, p.TriggerParameters)
	for name, value := range values {
		if name, ok := strings.CutPrefix(name, "pipeline.parameters."); ok {
			all[name] = value
		}
	}
	return all
}

// parameters tells those that are the default from the others. While the configuration is not known, none is known to be
// the default.
func parameters(given map[string]string, config wireConfig) *approvals.Parameters {
	source, setup := defaults(config.Source), defaults(config.Setup)
	return approvals.NewParameters(given, func(name, value string) bool {
		usual, ok := source[name]
		begun, also := setup[name]
		return ok && value == usual || also && value == begun
	})
}

// defaults reads the defaults of the pipeline parameters that a configuration declares. It walks the nodes: decoding
// a mapping compares each of its keys with all others, which takes minutes for a hostile configuration.
// Source: https://circleci.com/docs/reference/configuration-reference/#parameters
func defaults(source string) map[string]string {
	var document yaml.Node
	if len(source) > maxParsed {
		return nil // they are not known
	}
	if yaml.Unmarshal([]byte(source), &document) != nil || len(document.Content) == 0 {
		return nil
	}
	found := map[string]string{}
	for name, parameter := range mapping(member(document.Content[0], "parameters")) {
		if usual := member(parameter, "default"); usual != nil && usual.Kind == yaml.ScalarNode {
			found[name] = usual.Value
		}
	}
	return found
}

// mapping yields the members of a mapping, and none of another node.
func mapping(n *yaml.Node) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		if n == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, n.Content[i+1]) {
				return
			}
		}
	}
}

// member finds a member of a mapping, nil when there is none.
func member(n *yaml.Node, name string) *yaml.Node {
	for key, value := range mapping(n) {
		if key == name {
			return value
		}
	}
	return nil
}
