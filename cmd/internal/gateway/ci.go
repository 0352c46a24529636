package gateway

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// What a CircleCI job knows of itself:
// https://circleci.com/docs/reference/variables/#built-in-environment-variables
const (
	ciCommit   = "CIRCLE_SHA1"
	ciBranch   = "CIRCLE_BRANCH"
	ciTag      = "CIRCLE_TAG"
	ciWorkflow = "CIRCLE_WORKFLOW_ID"
	ciJob      = "CIRCLE_WORKFLOW_JOB_ID"
)

// nothing is how CircleCI renders a pipeline value that is empty.
const nothing = "<nil>"

// given is a flag's value, or the first variable's that is set.
func (c *program) given(value string, variables ...string) string {
	if value = present(value); value != "" {
		return value
	}
	for _, name := range variables {
		if v := present(c.env[name]); v != "" {
			return v
		}
	}
	return ""
}

// environment is the flag's value, or that of the variable.
func (c *program) environment(flag string) (string, error) {
	if flag = present(flag); flag != "" {
		return flag, nil
	}
	value, err := c.setting(envEnvironment)
	return present(value), err
}

func present(value string) string {
	if strings.TrimSpace(value) == nothing {
		return ""
	}
	return value
}

// ref is the branch or the tag. A pipeline has only one of them, so a flag for
// one is not completed by a variable for the other.
func (c *program) ref(branch, tag string) (string, string) {
	branch, tag = present(branch), present(tag)
	if branch != "" || tag != "" {
		return branch, tag
	}
	if tag = c.given("", ciTag); tag != "" {
		return "", tag
	}
	return c.given("", ciBranch), ""
}

// metadata completes --ci-metadata from the job's variables. Keys that it does
// not know are kept.
func (c *program) metadata(text string) (json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if text = strings.TrimSpace(text); present(text) != "" {
		if err := json.Unmarshal([]byte(replaceNothing(text)), &members); err != nil || members == nil {
			return nil, cli.Usage("--ci-metadata is not a JSON object")
		}
	}
	for key, raw := range members {
		if value := string(bytes.TrimSpace(raw)); value == "null" || value == `""` || value == `"<nil>"` || value == `"\u003cnil\u003e"` {
			delete(members, key)
		}
	}
	own := c.given("", ciWorkflow)
	if _, ok := members["workflow_id"]; !ok {
		if own == "" {
			return nil, cli.Usage("the workflow is not known: give --ci-metadata '{\"workflow_id\":\"…\"}', or run in a CircleCI job")
		}
		members["workflow_id"] = encoded(own)
	}
	// This job filed the request only if it is a job of that workflow.
	if _, ok := members["job_id"]; !ok && own != "" && bytes.Equal(members["workflow_id"], encoded(own)) {
		if job := c.given("", ciJob); job != "" {
			members["job_id"] = encoded(job)
		}
	}
	raw, err := json.Marshal(members)
	if err != nil {
		return nil, cli.Usage("--ci-metadata is not a JSON object")
	}
	return raw, nil
}

// replaceNothing puts null where CircleCI left <nil> outside of strings, as in
// {"pipeline_number":<nil>}.
func replaceNothing(text string) string {
	var b strings.Builder
	quoted, escaped := false, false
	for i := 0; i < len(text); i++ {
		ch := text[i]
		switch {
		case escaped:
			escaped = false
		case quoted && ch == '\\':
			escaped = true
		case ch == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(text[i:], nothing):
			b.WriteString("null")
			i += len(nothing) - 1
			continue
		}
		b.WriteByte(ch)
	}
	return b.String()
}

func encoded(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return b
}
