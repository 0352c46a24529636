#!/bin/sh
# Deploys if exactly this workflow and commit is approved.
set -eu

# setup_tailscale leaves the way to the gateway in a file of its own. In BASH_ENV it
# would reach every bash, and so the deploy's command.
# shellcheck disable=SC1091
if [ -r "${HOME:-}/.rack-gateway-tailscale/way" ]; then . "${HOME:-}/.rack-gateway-tailscale/way"; fi
[ -z "$PARAM_GATEWAY_URL" ] || export RACK_GATEWAY_URL="$PARAM_GATEWAY_URL"

set -- --app "$PARAM_APP"
[ -z "$PARAM_ENVIRONMENT" ] || set -- "$@" --environment "$PARAM_ENVIRONMENT"
[ -z "$PARAM_RECEIPT" ] || set -- "$@" --receipt "$PARAM_RECEIPT"
case $PARAM_COMMAND in
  *[![:space:]]*)
    # As in a step of CircleCI, a line that fails ends the deploy.
    if command -v bash >/dev/null; then
      set -- "$@" -- bash -eo pipefail -c "$PARAM_COMMAND"
    else
      set -- "$@" -- sh -ec "$PARAM_COMMAND"
    fi
    ;;
esac
exec rack-gateway deploy "$@"
