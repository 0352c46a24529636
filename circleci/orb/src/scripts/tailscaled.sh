#!/bin/sh
# Runs Tailscale's daemon in user space, without root and without a tun device,
# for as long as the job lasts. This is a background step, whose failure nobody
# sees: setup_tailscale.sh waits for the daemon and says what went wrong.
set -eu
umask 077

dir="${HOME:-}/.rack-gateway-tailscale"
if [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
  echo "The daemon runs already."
  exit 0
fi
rm -rf "$dir"
mkdir "$dir"
echo "$$" >"$dir/pid"
# The state is kept in memory, which also makes the node ephemeral.
exec tailscaled --tun=userspace-networking --state=mem: --socket="$dir/socket" \
  --socks5-server="localhost:$PARAM_PROXY_PORT" --no-logs-no-support >"$dir/log" 2>&1
