#!/bin/sh
# Files a deploy approval request for this workflow.
set -eu

# Only bash reads BASH_ENV, in which setup_tailscale leaves the way to the gateway.
# shellcheck disable=SC1090
if [ -z "${BASH_VERSION:-}" ] && [ -r "${BASH_ENV:-}" ]; then . "$BASH_ENV"; fi
[ -z "$PARAM_GATEWAY_URL" ] || export RACK_GATEWAY_URL="$PARAM_GATEWAY_URL"

set -- --app "$PARAM_APP"
[ -z "$PARAM_ENVIRONMENT" ] || set -- "$@" --environment "$PARAM_ENVIRONMENT"
case $PARAM_MESSAGE in
  '') ;;
  *'$'*)
    # CircleCI's own program fills variables in, and runs nothing.
    message=$(circleci env subst "$PARAM_MESSAGE") || message=$PARAM_MESSAGE
    set -- "$@" --message "$message"
    ;;
  *) set -- "$@" --message "$PARAM_MESSAGE" ;;
esac
case $PARAM_WAIT in
  true | 1) set -- "$@" --wait --timeout "$PARAM_WAIT_TIMEOUT" ;;
esac
exec rack-gateway deploy-approval request "$@"
