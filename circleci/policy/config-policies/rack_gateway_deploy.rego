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

enable_rule contains "rack_gateway_deploy_asks"

enable_rule contains "rack_gateway_deploy_is_gated"

hard_fail contains "rack_gateway_deploy_asks"

hard_fail contains "rack_gateway_deploy_is_gated"

rack_gateway_deploy_asks contains reason if {
	some deploy in deploys
	not asks(deploy.job)
	reason := sprintf("%s.%s deploys without asking: it needs a step that runs rack-gateway deploy, or first of all rack-gateway deploy-approval verify", [deploy.workflow, deploy.job])
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
	some step in input._compiled_.jobs[job].steps
	counts(step)
	some line in regex.find_n(sprintf(`(?ms)^[ \t]*(exec[ \t]+)?rack-gateway[ \t]+deploy%s$`, [words]), command(step), -1)
	runs(line)
}

# What comes before verify was not asked for, so nothing may; and its failure must end
# the step.
asks(job) if {
	body := input._compiled_.jobs[job]
	some n, step in body.steps
	counts(step)
	count([before | some i, before in body.steps; i < n; deploying(before)]) == 0
	every shell in [object.get(body, "shell", "sh -e"), object.get(step, ["run", "shell"], "sh -e")] { regex.match(`\s-\w*e`, shell) }
	some line in regex.find_n(sprintf(`(?s)^(%s\n)*[ \t]*(exec[ \t]+)?rack-gateway[ \t]+deploy-approvals?[ \t]+verify%s(\n|$)`, [preparation, words]), command(step), 1)
	runs(line)
}

counts(step) if {
	not step.run.background
	object.get(step, ["run", "when"], "on_success") == "on_success"
}

# runs says whether a call does its work and does not only print its help. What
# comes after -- is the deploy's command.
runs(call) if not regex.match(`[\s'"\\]-['"\\]*-?['"\\]*h`, regex.split(`[ \t]--[ \t]`, call)[0])

deploying(step) if {
	some kind in {"run", "deploy"}
	step[kind]
	not object.get(step, [kind, "name"], "") in before_verify
}

command(step) := replace(step.run, "\\\n", " ") if {
	is_string(step.run)
} else := replace(step.run.command, "\\\n", " ")

# words are arguments in which a shell runs nothing, up to the end of a line that it
# cannot go on from before the call has succeeded. "|| true", "; ./deploy.sh", "&" and
# $(./deploy.sh) are none; what is quoted may hold all but the last.
words := sprintf(`([ \t]+(%s|%s|'[^']*'|"([^"\\$\x60]|%s)*"|>&\d)+)*[ \t]*`, [`[^\s|&;()\\'"$\x60]`, expanded, expanded])

expanded := `\\.|\$[\w@*#?!-]|\$\{[\w@*#?!]`

# preparation is a line that may stand before verify in its step.
preparation := `[ \t]*(#[^\n]*|(\[[^\n|&;()\x60]*\][ \t]*\|\|[ \t]*)?(set[ \t]+-|export[ \t])[^\n|&;()\x60]*|if[ \t]+\[[^\n;()\x60]*;[ \t]*then[ \t]+\.[ \t][^\n|&;()\x60]*;[ \t]*fi)?[ \t]*`
