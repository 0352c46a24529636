#!/bin/sh
# Deploys if exactly this workflow and commit is approved.
set -eu

# Only bash reads BASH_ENV, in which setup_tailscale leaves the way to the gateway.
# shellcheck disable=SC1090
if [ -z "${BASH_VERSION:-}" ] && [ -r "${BASH_ENV:-}" ]; then . "$BASH_ENV"; fi
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
