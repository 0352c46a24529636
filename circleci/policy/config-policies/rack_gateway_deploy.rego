# A config policy for CircleCI: a configuration whose deploy jobs do not ask
# Rack Gateway first is refused before any of its jobs run. See ../README.md.
package org

import future.keywords

# CircleCI wants this rule to be the first one.
policy_name contains "rack_gateway_deploy"

# Settings: approval jobs with such a name are gates of the gateway, and jobs
# with such a context are deploys.
gate_pattern := `^(.*/)?approve_deploy`

deploy_contexts := {"deploy-production"}

# Names of run steps that may stand before rack-gateway deploy-approval verify.
# These are the steps of the orb's setup_tailscale.
before_verify := {"Tailscale's daemon", "Join the tailnet and reach the gateway"}

# Names of run steps that run although a step before them failed, so also after a refusal,
# and that deploy nothing. This is the step of the orb's leave_tailscale.
whatever_happens := {"Leave the tailnet"}

# What a configuration may give as the gateway, such as "https://gateway.example", and as
# the proxy to it. Whoever answers there decides. What a context gives is not judged.
gateway_urls := set()

enable_rule contains "rack_gateway_deploy_asks"

enable_rule contains "rack_gateway_deploy_is_gated"

hard_fail contains "rack_gateway_deploy_asks"

hard_fail contains "rack_gateway_deploy_is_gated"

rack_gateway_deploy_asks contains reason if {
	some deploy in deploys
	not asks(deploy.job)
	reason := sprintf("%s.%s deploys without asking: it needs a step that runs rack-gateway deploy, or first of all rack-gateway deploy-approval verify", [deploy.workflow, deploy.job])
}

rack_gateway_deploy_asks contains reason if {
	some deploy in deploys
	some step in input._compiled_.jobs[deploy.job].steps
	some kind in {"run", "deploy"}
	when := object.get(step, [kind, "when"], "on_success")
	when != "on_success"
	name := object.get(step, [kind, "name"], "")
	not name in whatever_happens
	reason := sprintf("%s.%s may deploy after a refusal: its step %q runs %s, and is not named in whatever_happens of the policy", [deploy.workflow, deploy.job, name, when])
}

# The first three say who answers; the others have a shell run something else than its script.
rack_gateway_deploy_asks contains reason if {
	some deploy in deploys
	walk(input._compiled_.jobs[deploy.job], [path, given])
	name := path[count(path) - 1]
	name in {"RACK_GATEWAY_URL", "RACK_GATEWAY_PROXY", "PARAM_GATEWAY_URL", "BASH_ENV", "SHELLOPTS"}
	not given in (gateway_urls | {""})
	reason := sprintf("%s.%s sets %s, which decides who answers or what a shell runs first, to a value that is not named in gateway_urls of the policy", [deploy.workflow, deploy.job, name])
}

# What is not compiled cannot be judged.
rack_gateway_deploy_asks contains "the configuration was not compiled, so its deploy jobs are unknown" if {
	not input._compiled_
}

rack_gateway_deploy_is_gated contains reason if {
	some deploy in deploys
	not gated(deploy)
	reason := sprintf("%s.%s deploys, but does not require the success of an approval job that matches %s", [deploy.workflow, deploy.job, gate_pattern])
}

# Every job of every workflow, as {workflow, job, use}. A job group that is left after the
# compilation is read like a workflow.
uses contains {"workflow": workflow, "job": job, "use": use} if {
	some section in {"workflows", "job-groups"}
	some workflow, body in input._compiled_[section]
	some entry in body.jobs
	some job, use in uses_of(entry)
}

uses_of(entry) := entry if is_object(entry)

uses_of(entry) := {entry: {}} if is_string(entry)

deploys contains deploy if {
	some deploy in uses
	not is_approval(deploy)
	some name, _ in requires(deploy.use)
	is_gate(deploy.workflow, name)
}

deploys contains deploy if {
	some deploy in uses
	not is_approval(deploy)
	count(contexts(deploy.use) & deploy_contexts) > 0
}

is_approval(deploy) if deploy.use.type == "approval"

is_approval(deploy) if input._compiled_.jobs[deploy.job].type == "approval"

is_gate(workflow, name) if {
	some gate in uses
	gate.workflow == workflow
	gate.job == name
	is_approval(gate)
	regex.match(gate_pattern, name)
}

# gated says whether a job itself requires the success of a gate. One that also
# runs after another end of the gate would deploy what was rejected.
gated(deploy) if {
	some name, status in requires(deploy.use)
	status in {"success", ["success"]}
	is_gate(deploy.workflow, name)
}

# requires are the jobs that a job requires, with the status that it waits for.
requires(use) := object.union_n([entry | some listed in use.requires; entry := required(listed)])

required(listed) := {listed: "success"} if is_string(listed)

required(listed) := listed if is_object(listed)

contexts(use) := {use.context} if {
	is_string(use.context)
} else := {context | some context in use.context}

# asks says whether a step of a job asks the gateway before anything is deployed.
asks(job) if {
	body := input._compiled_.jobs[job]
	some step in body.steps
	stops(body, step)
	some call in regex.find_all_string_submatch_n(deploys_under, script(step), 1)
	not regex.match(spoils, call[1])
}

# What comes before verify was not asked for, so nothing may.
asks(job) if {
	body := input._compiled_.jobs[job]
	some n, step in body.steps
	stops(body, step)
	every before in array.slice(body.steps, 0, n) { not deploying(before) }
	regex.match(verifies, script(step))
}

# stops says whether a job ends where a line of a step fails.
stops(body, step) if {
	not step.run.background
	object.get(step, ["run", "when"], "on_success") == "on_success"
	shell := object.get(step, ["run", "shell"], object.get(body, "shell", "sh -e"))
	regex.match(`^((/usr)?/bin/)?(ba|da)?sh([ \t]+(--login|-[eluxo]+|pipefail))*$`, shell)
	regex.match(`[ \t]-\w*e`, shell)

	# A script that names its own shell has to set -e by itself.
	regex.match(`^(#!(/usr)?/bin/(env[ \t]+)?(ba)?sh[ \t]*\n(#[^\n]*\n|\n)*set[ \t]+-[ux]*e|#[^!]|[^#])`, script(step))
}

deploying(step) if {
	some kind in {"run", "deploy"}
	step[kind]
	not object.get(step, [kind, "name"], "") in before_verify
}

# script is what a step runs, with "|" in place of each line of the orb's: such a line
# stands alone in no script that works.
script(step) := concat("\n", [marked(line) | some line in split(command(step), "\n")])

marked(line) := "|" if {
	trim(line, " \t") in orb_lines
} else := line

command(step) := step.run if {
	is_string(step.run)
} else := step.run.command

# The lines of the orb's scripts that set up its call.
orb_lines := {
	`if [ -r "${HOME:-}/.rack-gateway-tailscale/way" ]; then . "${HOME:-}/.rack-gateway-tailscale/way"; fi`,
	`[ -z "$PARAM_GATEWAY_URL" ] || export RACK_GATEWAY_URL="$PARAM_GATEWAY_URL"`,
	`set -- --app "$PARAM_APP"`,
	`[ -z "$PARAM_ENVIRONMENT" ] || set -- "$@" --environment "$PARAM_ENVIRONMENT"`,
	`[ -z "$PARAM_RECEIPT" ] || set -- "$@" --receipt "$PARAM_RECEIPT"`,
	`set -- "$@" -- bash -eo pipefail -c "$PARAM_COMMAND"`,
	`set -- "$@" -- sh -ec "$PARAM_COMMAND"`,
}

# verifies finds a call of verify with at most lines before it that run nothing.
verifies := sprintf(`(?s)^((\||[ \t]*(#[^\n]*|set(%s-([eux]+|[eux]*o%spipefail))+|export%sRACK_GATEWAY_ENV=%s)?[ \t]*)\n)*%s%sdeploy-approvals?%s%sverify%s%s`, [blank, blank, blank, value, program, blank, flags, blank, arguments, end])

# deploys_under finds a call of deploy, and captures what comes before it.
deploys_under := sprintf(`(?s)^(.*?\n|)%s%sdeploy%s(%s--%s)?%s`, [program, blank, arguments, blank, words, end])

# spoils finds in what comes before a call that a failure does not end the script, that
# "$@" is another than the orb's, or that another gateway answers.
spoils := `(^|[^\w-])set([ \t]+[\w-]+)*[ \t]+(--|\+)|(RACK|PARAM)_GATEWAY_(URL|PROXY)=`

program := sprintf(`[ \t]*(exec%s)?rack-gateway%s`, [blank, flags])

# flags all take a value, so that none of them is --help.
flags := sprintf(`(%s((--(app|environment|git-commit|workflow-id|receipt|output|retry-for)(=|%s)|-[aeo]%s)%s|--keep-token(=\w+)?))*`, [blank, blank, blank, value])

arguments := sprintf(`(%s|%s"\$@")`, [flags, blank])

# value is one word, in which a shell runs nothing and finds no second word.
value := sprintf(`([^\s|&;()<>{}*?\[\]\\'"$\x60]|\\[^\n]|'[^'\n]*'|"([^"\\$\x60\n]|%s)*")+`, [expanded])

# words are arguments in which a shell runs nothing, up to the end of a line that it
# cannot go on from before the call has succeeded. "|| true", "; ./deploy.sh", "&" and
# $(./deploy.sh) are none; what is quoted may hold all but the last.
words := sprintf(`(%s([^\s|&;()\\'"$\x60]|%s|'[^']*'|"([^"\\$\x60]|%s)*"|>&\d)+)*`, [blank, more, more])

more := sprintf(`%s|\$[@*#?!-]`, [expanded])

# expanded is a variable, or a part of one, that no other variable is evaluated for.
expanded := `\\.|\$\w|\$\{\w+((:\d+)+|(:?[?+-]|##?|%%?|//?)[\w.:/*-]*)?\}`

end := sprintf(`([ \t]+[12]?(>&[12]|>>?[ \t]*%s))*([ \t]+#[^\n]*|[ \t]*)(\n|$)`, [value])

blank := `([ \t]|\\\n)+`
