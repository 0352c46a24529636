#!/bin/sh
# Files a deploy approval request for this workflow.
set -eu

# setup_tailscale leaves the way to the gateway in a file of its own. In BASH_ENV it
# would reach every bash, and so the deploy's command.
# shellcheck disable=SC1091
if [ -r "${HOME:-}/.rack-gateway-tailscale/way" ]; then . "${HOME:-}/.rack-gateway-tailscale/way"; fi
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
