#!/bin/sh
# Joins this job to the tailnet as an ephemeral, tagged node, and waits until the
# gateway answers through it. The background step before this one runs the daemon.
# Keys are handed over in a file, because arguments can be read by every process
# and "tailscale up" repeats them in its errors.
set -eu
umask 077

dir="${HOME:-}/.rack-gateway-tailscale"
key="$dir/key"
url=${PARAM_GATEWAY_URL:-${RACK_GATEWAY_URL:-}}
proxy="socks5h://localhost:$PARAM_PROXY_PORT"

fail() {
  printf 'setup_tailscale: %s\n' "$1" >&2
  exit "${2:-1}"
}

ts() { tailscale --socket="$dir/socket" "$@"; }

# said prints what a program said, without anything that opens a door.
said() { sed -e 's/[th]skey-[^ "]*/[key]/g' -e 's/eyJ[^ "]*/[token]/g' "$1"; }

# last_line is the last line of that.
last_line() { said "$1" | sed '/^ *$/d' | tail -n 1; }

# literal fails where a value is the name of a variable: CircleCI passes
# "NAME: $NAME" below environment: on as it is written.
literal() {
  case $2 in
    '$'*) fail "$1 is the name of a variable, not its value: CircleCI does not expand variables below environment:. Remove that line; a context sets the variable by itself." ;;
  esac
}

preconditions() {
  for program in tailscaled tailscale rack-gateway; do
    command -v "$program" >/dev/null ||
      fail "$program is not in this image: use the ci image of Rack Gateway, or an image of your own with rack-gateway and tailscale 1.90.1 or newer."
  done
  [ -n "$url" ] || fail "RACK_GATEWAY_URL is not set: the job needs the context that holds it, or the parameter gateway_url."
  literal RACK_GATEWAY_URL "$url"
  case $url in
    *"'"* | *'"'* | *' '*) fail "$url is not a URL." ;;
  esac
}

# wait_for_daemon waits until the daemon of the background step answers.
wait_for_daemon() {
  waited=0
  # "status --json" also works while the node is logged out.
  until ts status --json >/dev/null 2>&1; do
    if [ -f "$dir/pid" ] && ! kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
      tail -n 5 "$dir/log" >&2 || true
      fail "tailscaled ended at once; its last words are above. Does something else use port $PARAM_PROXY_PORT (parameter proxy_port)?"
    fi
    [ "$waited" -lt 20 ] || fail "tailscaled does not answer after 20 seconds. setup_tailscale starts it in a background step of its own: was that step left out?"
    sleep 1
    waited=$((waited + 1))
  done
}

# by_secret writes the secret of the OAuth client, or an auth key, into the file.
by_secret() {
  secret=$(printenv "$PARAM_OAUTH_SECRET") || secret=
  [ -n "$secret" ] || fail "$PARAM_OAUTH_SECRET is not set: the job needs the context that holds it, or the parameter client_id to join without a secret."
  literal "$PARAM_OAUTH_SECRET" "$secret"
  case $secret in
    # An OAuth client makes a key for this one node; what the key allows is said here.
    tskey-client-*) secret="$secret?ephemeral=true&preauthorized=true${PARAM_LOGIN_SERVER:+&baseURL=$PARAM_LOGIN_SERVER}" ;;
  esac
  printf '%s' "$secret" >"$key"
}

# by_identity writes CircleCI's OIDC token into the file.
by_identity() {
  audience=${PARAM_AUDIENCE:-api.tailscale.com/$PARAM_CLIENT_ID}
  command -v circleci >/dev/null || fail "there is no program circleci in this job, which mints OIDC tokens: client_id works inside of CircleCI only."
  for pause in 1 2 0; do
    # The answer is now and then empty, although nothing failed.
    if circleci run oidc get --claims "{\"aud\":\"$audience\"}" >"$key" 2>"$dir/oidc" && [ -s "$key" ]; then
      return
    fi
    sleep "$pause"
  done
  answer=$(last_line "$dir/oidc")
  fail "CircleCI gives no OIDC token for the audience $audience (asked 3 times; last answer: ${answer:-an empty one}). Does this job come from a fork, or does the CircleCI server have no OIDC?"
}

# join logs the node in. What will not get better by itself fails at once.
join() {
  hostname=${PARAM_HOSTNAME:-circleci-${CIRCLE_PROJECT_REPONAME:-job}-${CIRCLE_BUILD_NUM:-0}}
  hostname=$(printf '%s' "$hostname" | tr '[:upper:]' '[:lower:]' | tr -c 'a-z0-9-' '-' | cut -c 1-63)
  set -- --reset --accept-dns=false --advertise-tags="$PARAM_TAGS" --hostname="$hostname" --timeout=60s
  [ -z "$PARAM_LOGIN_SERVER" ] || set -- "$@" --login-server="$PARAM_LOGIN_SERVER"
  if [ -n "$PARAM_CLIENT_ID" ]; then
    by_identity
    # Both attributes, because without the first one the node would stay for good.
    set -- "$@" --client-id="$PARAM_CLIENT_ID?ephemeral=true&preauthorized=true" --id-token="file:$key"
  else
    by_secret
    set -- "$@" --auth-key="file:$key"
  fi
  for pause in 2 5 0; do
    # --timeout does not bound the exchange of the key, so timeout does.
    if timeout 90 tailscale --socket="$dir/socket" up "$@" >"$dir/up" 2>&1; then
      echo "This job is in the tailnet as $hostname ($PARAM_TAGS)."
      return
    fi
    case $(cat "$dir/up") in
      *"not permitted"* | *"may not assign"* | *403*)
        fail "Tailscale does not let this credential make a node with $PARAM_TAGS ($(last_line "$dir/up")). It needs the scope auth_keys (write) and exactly these tags." ;;
      *invalid_client* | *"API token invalid"* | *"invalid key"* | *"invalid authkey"* | *"token exchange failed with status 4"*)
        fail "Tailscale refuses the credential ($(last_line "$dir/up")). It names no reason; the page of this credential in the admin console does." ;;
    esac
    sleep "$pause"
  done
  said "$dir/up" >&2
  fail "the node did not join the tailnet in 3 tries; what tailscale said is above."
}

# reach waits for the gateway, and says what is in the way when it stays away.
reach() {
  export RACK_GATEWAY_URL="$url" RACK_GATEWAY_PROXY="$proxy"
  code=0
  rack-gateway check --wait "${PARAM_TIMEOUT}s" || code=$?
  case $code in
    0) return ;;
    10) ;;
    2) fail "this job is in the tailnet, but nothing was sent to the gateway: see above." 2 ;;
    *) fail "this job is in the tailnet, but cannot use the gateway: see above." "$code" ;;
  esac
  node=${url#*://}
  node=${node%%/*}
  node=${node%%:*}
  case $node in
    *[!0-9.]*) node=${node%%.*} ;;
  esac
  ts ip "$node" >"$dir/ip" 2>&1 ||
    fail "no node named $node is visible to $PARAM_TAGS. Is the name right, is it this tailnet, and does the policy let $PARAM_TAGS reach it?" 10
  # Through a relay a ping works, too, and counts.
  ts ping --until-direct=false --c=2 --timeout=3s "$node" >"$dir/ping" 2>&1 ||
    fail "the node $node is in the tailnet, but offline ($(last_line "$dir/ping"))." 10
  fail "the node $node is there, but $url does not answer as the gateway. Does the policy let $PARAM_TAGS reach this port, and does rack-gatewayd listen there?" 10
}

# hand_over tells the way to the orb's commands that follow.
hand_over() { echo "export RACK_GATEWAY_URL='$url' RACK_GATEWAY_PROXY=$proxy" >"$dir/way"; }

preconditions
trap 'rm -f "$key"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
wait_for_daemon
join
reach
hand_over
