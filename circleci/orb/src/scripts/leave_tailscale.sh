#!/bin/sh
# Takes this job's node out of the tailnet and ends the daemon. Whatever fails
# here is a note and no failure, because the job has done its work by now.
set -u

dir="${HOME:-}/.rack-gateway-tailscale"
if ! [ -f "$dir/pid" ]; then
  echo "This job is in no tailnet: there is nothing to leave."
  exit 0
fi
if timeout 15 tailscale --socket="$dir/socket" logout >"$dir/logout" 2>&1; then
  echo "The node has left the tailnet."
else
  echo "Note: the node could not log out ($(tail -n 1 "$dir/logout")). It is ephemeral, so the control server removes it, but later."
fi
pid=$(cat "$dir/pid")
kill "$pid" 2>/dev/null
waited=0
while kill -0 "$pid" 2>/dev/null; do
  if [ "$waited" -ge 10 ]; then
    kill -9 "$pid" 2>/dev/null
    break
  fi
  sleep 1
  waited=$((waited + 1))
done
rm -rf "$dir"
exit 0
