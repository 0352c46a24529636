#!/bin/sh
# Fails unless exactly this workflow and commit is approved.
set -eu

# setup_tailscale leaves the way to the gateway in a file of its own. In BASH_ENV it
# would reach every bash, and so the deploy's command.
# shellcheck disable=SC1091
if [ -r "${HOME:-}/.rack-gateway-tailscale/way" ]; then . "${HOME:-}/.rack-gateway-tailscale/way"; fi
[ -z "$PARAM_GATEWAY_URL" ] || export RACK_GATEWAY_URL="$PARAM_GATEWAY_URL"

set -- --app "$PARAM_APP"
[ -z "$PARAM_ENVIRONMENT" ] || set -- "$@" --environment "$PARAM_ENVIRONMENT"
[ -z "$PARAM_RECEIPT" ] || set -- "$@" --receipt "$PARAM_RECEIPT"
exec rack-gateway deploy-approval verify "$@"
