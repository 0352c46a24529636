# Run with the orb, whose scripts must count, as data:
#   go tool -modfile=.ci/policy.mod opa test circleci/policy circleci/orb.yml
package org_test

import data.org

# config is a compiled configuration with one deploy job.
config(use, step) := job(use, {"steps": ["checkout", step]})

job(use, body) := {"_compiled_": {
	"workflows": {"version": 2, "deploy": {"jobs": [
		"test",
		{"approve_deploy_production": {"type": "approval", "requires": ["test"]}},
		{"deploy": use},
	]}},
	"jobs": {
		"test": {"steps": [{"run": {"command": "make test"}}]},
		"deploy": body,
	},
}}

behind_the_gate := {"requires": ["approve_deploy_production"], "context": ["deploy-production"]}

run(command) := {"run": {"command": command}}

accepted(use, step) if count(org.rack_gateway_deploy_asks | org.rack_gateway_deploy_is_gated) == 0 with input as config(use, step)

refused(rule, use, step) if {
	reasons := org[rule] with input as config(use, step)
	count(reasons) > 0
	every reason in reasons { startswith(reason, "deploy.deploy ") }
}

test_the_decision_is_a_hard_failure if {
	org.policy_name == {"rack_gateway_deploy"}
	org.hard_fail == org.enable_rule
	every rule in org.enable_rule { org[rule] }
}

test_deploys_that_ask if {
	every command in [
		"rack-gateway deploy --app myapp -- ./deploy.sh",
		"rack-gateway deploy --app myapp",
		"rack-gateway deploy-approval verify --app myapp",
		"set -e\nrack-gateway deploy-approval verify --app myapp\n./deploy.sh\n",
		"rack-gateway deploy --app myapp \\\n  --environment production -- sh -c 'make deploy | tee log'",
		"rack-gateway deploy --app myapp -- sh -c '\n  make build; make deploy || exit 3\n'",
		"make\nrack-gateway deploy --app=\"$APP\" --receipt receipt.json -- ./deploy.sh -h \"${CIRCLE_SHA1:0:7}\" 2>&1",
		"#!/bin/sh\n\nset -eu\nexport RACK_GATEWAY_ENV=production\nrack-gateway deploy-approval verify --app 'myapp'\n./deploy.sh",
		"#!/usr/bin/env bash\n# Deploys.\nset -euo pipefail\nrack-gateway deploy-approval verify -a \"$APP\" --git-commit=\"$CIRCLE_SHA1\" >receipt.json # first\nset +e\n./deploy.sh",
		"rack-gateway --retry-for 5m deploy --app myapp --keep-token -- ./deploy.sh \"$@\" \"${CIRCLE_TAG#v}\"",
		"rack-gateway deploy-approval verify \\\n  --app myapp \\\n  --retry-for 5m\n./deploy.sh",
	] {
		accepted(behind_the_gate, run(command))
	}
	accepted(behind_the_gate, {"run": "rack-gateway deploy --app myapp"})
}

# Nothing else runs before verify than what joins the tailnet.
test_verify_comes_first if {
	verify := {"run": {"command": "rack-gateway deploy-approval verify --app myapp"}}
	deploy := run("./deploy.sh")
	tailnet := data.commands.setup_tailscale.steps
	every steps in [["checkout", verify, deploy], array.concat(tailnet, ["checkout", verify, deploy])] {
		reasons := org.rack_gateway_deploy_asks with input as job(behind_the_gate, {"steps": steps}) with org.gateway_urls as {"<< parameters.gateway_url >>"}
		count(reasons) == 0
	}
	every body in [
		{"steps": [deploy, verify]},
		{"steps": [{"run": "./deploy.sh"}, verify]},
		{"steps": [{"deploy": {"command": "./deploy.sh"}}, verify]},
		{"steps": [verify, deploy], "shell": "/bin/bash"},
		{"steps": [{"run": object.union(verify.run, {"shell": "/bin/sh -x"})}, deploy]},
		{"steps": [{"run": object.union(verify.run, {"shell": "/bin/bash -eo noexec"})}, deploy]},
		{"steps": [{"run": object.union(verify.run, {"shell": "./sh -e"})}, deploy]},
		{"steps": [run("rack-gateway deploy --app myapp -- ./migrate.sh\n./deploy.sh")], "shell": "/bin/bash --login"},
	] {
		reasons := org.rack_gateway_deploy_asks with input as job(behind_the_gate, body)
		count(reasons) == 1
	}
}

# No step runs after a refusal but what leaves the tailnet.
test_nothing_deploys_after_a_refusal if {
	verify := run("rack-gateway deploy-approval verify --app myapp")
	every when in ["always", "on_fail"] {
		step := {"run": {"name": "Deploy", "command": "./deploy.sh", "when": when}}
		reasons := org.rack_gateway_deploy_asks with input as job(behind_the_gate, {"steps": [verify, step]})
		count(reasons) == 1
	}
	leave := array.concat([verify, {"store_artifacts": {"path": "x", "when": "always"}}], data.commands.leave_tailscale.steps)
	reasons := org.rack_gateway_deploy_asks with input as job(behind_the_gate, {"steps": leave, "shell": "/bin/bash --login -eo pipefail"})
	count(reasons) == 0
}

# Whoever writes the configuration does not choose who answers.
test_the_gateway_is_not_chosen_by_the_configuration if {
	every name in ["RACK_GATEWAY_URL", "RACK_GATEWAY_PROXY", "PARAM_GATEWAY_URL", "BASH_ENV", "SHELLOPTS"] {
		mine := {name: "https://mine.example"}
		asking := {"command": "rack-gateway deploy --app myapp"}
		every body in [
			{"environment": mine, "steps": [{"run": asking}]},
			{"docker": [{"image": "x", "environment": mine}], "steps": [{"run": asking}]},
			{"steps": [{"run": object.union(asking, {"environment": mine})}]},
		] {
			reasons := org.rack_gateway_deploy_asks with input as job(behind_the_gate, body)
			count(reasons) == 1
			allowed := org.rack_gateway_deploy_asks with input as job(behind_the_gate, body) with org.gateway_urls as {"https://mine.example"}
			count(allowed) == 0
		}
	}
	accepted(behind_the_gate, {"run": {"command": "rack-gateway deploy --app myapp", "environment": {"PARAM_GATEWAY_URL": ""}}})
}

# The steps of the orb ask, too.
test_the_orb_asks if {
	every command in ["deploy", "verify"] { accepted(behind_the_gate, run(data.commands[command].steps[0].run.command)) }
	not accepted(behind_the_gate, run(data.commands.request.steps[0].run.command))
}

test_deploys_that_do_not_ask if {
	every command in [
		"./deploy.sh",
		"rack-gateway deploy-approval request --app myapp",
		"# rack-gateway deploy --app myapp\n./deploy.sh",
		"echo rack-gateway deploy --app myapp",
		"rack-gateway deploy-approval verify --app myapp || true",
		"rack-gateway deploy-approval verify --app myapp &",
		"rack-gateway deploy-approval verify --app myapp; ./deploy.sh",
		"rack-gateway deployed",
		"rack-gateway deploy --app myapp -- true || ./deploy.sh",
		"rack-gateway deploy --app myapp -- true; ./deploy.sh",
		"rack-gateway deploy --app myapp -- true & ./deploy.sh",
		"rack-gateway deploy --app myapp -- true | ./deploy.sh",
		"rack-gateway deploy --app myapp -- true > >(./deploy.sh)",
		"rack-gateway deploy --app myapp -- echo \"$(./deploy.sh)\"",
		"rack-gateway deploy --app myapp -- echo \"`./deploy.sh`\"",
		"rack-gateway deploy --app myapp -- echo \"${ ./deploy.sh; }\"",
		"rack-gateway deploy --app myapp -- echo $'\\' '; ./deploy.sh '\n'",
		"rack-gateway deploy --app myapp -- 'true' || './deploy.sh'",
		"rack-gateway deploy --app $(./deploy.sh)",
		"rack-gateway deploy --help\n./deploy.sh",
		"rack-gateway deploy --app myapp -h -- true\n./deploy.sh",
		"rack-gateway deploy '--help'\n./deploy.sh",
		"rack-gateway deploy-approval verify --app myapp -h\n./deploy.sh",
		"rack-gateway deploy-approval verify --help\n./deploy.sh",
		"rack-gateway deploy-approval verify --app $(./deploy.sh)",
		"./deploy.sh\nrack-gateway deploy-approval verify --app myapp",
		"[ -z x ] || ./deploy.sh\nrack-gateway deploy-approval verify --app myapp",
		"set -e; ./deploy.sh\nrack-gateway deploy-approval verify --app myapp",
		"set +e\nrack-gateway deploy-approval verify --app myapp\n./deploy.sh",
		"set -u +e\nrack-gateway deploy-approval verify --app myapp\n./deploy.sh",
		"set -n\nrack-gateway deploy-approval verify --app myapp",
		"set -o noexec\nrack-gateway deploy-approval verify --app myapp",
		"if [ 1 ]; then . ./deploy.sh; fi\nrack-gateway deploy-approval verify --app myapp",
		"# \\\n./deploy.sh\nrack-gateway deploy-approval verify --app myapp",
		"#!/bin/sh\nrack-gateway deploy-approval verify --app myapp\n./deploy.sh",
		"#!/bin/cat\nrack-gateway deploy-approval verify --app myapp",
		"export BASH_ENV=x\nrack-gateway deploy-approval verify --app myapp",
		"export RACK_GATEWAY_ENV=\"${X@P}\"\nrack-gateway deploy-approval verify --app myapp",
		"set -- x\nrack-gateway deploy-approval verify --app myapp --help",
		"set -- x\nrack-gateway deploy-approval verify --app myapp -- --help",
		"set -- --help\nrack-gateway deploy-approval verify \"$@\"",
		"set -- --help\nrack-gateway deploy \"$@\"\n./deploy.sh",
		"rack-gateway deploy-approval verify --app myapp $X\n./deploy.sh",
		"rack-gateway deploy-approval verify --app myapp \"$X\"\n./deploy.sh",
		"rack-gateway deploy-approval verify --app $X\n./deploy.sh",
		"rack-gateway deploy-approval verify --app {x,--help}\n./deploy.sh",
		"rack-gateway deploy-approval verify --app *\n./deploy.sh",
		"rack-gateway deploy-approval verify --app myapp <<X || true\nX\n./deploy.sh",
		"rack-gateway deploy --app myapp -- echo \"${X@P}\"",
		"rack-gateway deploy --app myapp -- echo \"${!X}\"",
		"rack-gateway deploy --app myapp -- echo \"${X:Y}\"",
		"export RACK_GATEWAY_URL=https://mine.example\nrack-gateway deploy-approval verify --app myapp",
		"export RACK_GATEWAY_URL=https://mine.example\nrack-gateway deploy --app myapp",
		"export RACK_GATEWAY_PROXY=http://mine.example\nrack-gateway deploy --app myapp",
		"PARAM_GATEWAY_URL=https://mine.example\n[ -z \"$PARAM_GATEWAY_URL\" ] || export RACK_GATEWAY_URL=\"$PARAM_GATEWAY_URL\"\nrack-gateway deploy --app myapp",
		"set -u +e\nrack-gateway deploy --app myapp -- ./migrate.sh\n./deploy.sh",
		"if true; then set +o errexit; fi\nrack-gateway deploy --app myapp -- ./migrate.sh\n./deploy.sh",
		"rack-gateway deploy --app myapp -- \\\n[ -z \"$PARAM_GATEWAY_URL\" ] || export RACK_GATEWAY_URL=\"$PARAM_GATEWAY_URL\"\n./deploy.sh",
	] {
		refused("rack_gateway_deploy_asks", behind_the_gate, run(command))
	}
	every more in [{"when": "always"}, {"when": "on_fail"}, {"background": true}] {
		step := {"run": object.union({"command": "rack-gateway deploy --app myapp"}, more)}
		refused("rack_gateway_deploy_asks", behind_the_gate, step)
	}
}

test_deploys_without_a_gate if {
	asking := run("rack-gateway deploy --app myapp")
	every use in [
		{"context": "deploy-production"},
		{"context": ["other", "deploy-production"], "requires": ["test"]},
		# A gate that was rejected lets this one run, too.
		{"requires": [{"approve_deploy_production": ["success", "canceled"]}]},
	] {
		refused("rack_gateway_deploy_is_gated", use, asking)
	}
	every status in ["success", ["success"]] { accepted({"requires": [{"approve_deploy_production": status}]}, asking) }
}

# CircleCI takes the type of a gate below "jobs" as well, also from an orb.
test_gates_that_are_declared_as_jobs if {
	every gate in ["approve_deploy_production", "acme/approve_deploy_production"] {
		compiled := {"_compiled_": {
			"workflows": {"deploy": {"jobs": [gate, {"deploy": {"requires": [gate], "context": "deploy-production"}}]}},
			"jobs": {gate: {"type": "approval"}, "deploy": {"steps": [run("./deploy.sh")]}},
		}}
		count(org.rack_gateway_deploy_asks) == 1 with input as compiled
		count(org.rack_gateway_deploy_is_gated) == 0 with input as compiled
	}
}

# A group that was not taken apart has no step that asks, and what is in it is a deploy
# without a gate.
test_jobs_of_groups if {
	compiled := {"_compiled_": {
		"workflows": {"deploy": {"jobs": [
			{"approve_deploy_production": {"type": "approval"}},
			{"all": {"requires": ["approve_deploy_production"]}},
		]}},
		"job-groups": {"all": {"jobs": ["test", {"deploy": {"requires": ["test"], "context": "deploy-production"}}]}},
		"jobs": {"test": {"steps": [run("make")]}, "deploy": {"steps": [run("rack-gateway deploy --app myapp")]}},
	}}
	{substring(reason, 0, 10) | some reason in org.rack_gateway_deploy_asks} == {"deploy.all"} with input as compiled
	{substring(reason, 0, 10) | some reason in org.rack_gateway_deploy_is_gated} == {"all.deploy"} with input as compiled
}

test_other_jobs_need_nothing if accepted({"requires": ["test"], "context": "other"}, run("make"))

test_without_a_compiled_configuration_nothing_passes if {
	count(org.rack_gateway_deploy_asks) == 1 with input as {"jobs": {}}
}
