#!/bin/sh
# Builds Tailscale for CI jobs, at the version of .ci/tailnet.mod:
#   sh .ci/tailnet.sh DIR [hub|symbols]
# One program is both tailscaled and, by a link, tailscale. It has what a node in
# user space needs to join by OAuth or OIDC and to be a proxy, and nothing else,
# which is two fifths of what Tailscale ships. With "hub" it also builds the
# middle of a tailnet for tests; with "symbols" the program keeps its symbols, for
# govulncheck. GOOS and GOARCH are honoured.
set -eu

export CGO_ENABLED=0
mod=.ci/tailnet.mod
version=$(go list -modfile="$mod" -m -f '{{.Version}}' tailscale.com)
tags=$(GOOS='' GOARCH='' go run -modfile="$mod" tailscale.com/cmd/featuretags --min \
  --add=netstack,outboundproxy,oauthkey,identityfederation,cli,dns,logtail,health,ipnbus,useproxy,unixsocketidentity,bakedroots,debug,tailnetlock)
stamp="-X tailscale.com/version.shortStamp=${version#v} -X tailscale.com/version.longStamp=${version#v}"
strip='-s -w'
[ "${2:-}" != symbols ] || strip=
go build -modfile="$mod" -trimpath -tags "$tags" -ldflags "$strip $stamp" -o "$1/tailscaled" tailscale.com/cmd/tailscaled
ln -sf tailscaled "$1/tailscale"
sh .ci/notices.sh -modfile="$mod" -tags "$tags" tailscale.com/cmd/tailscaled >"$1/NOTICES"
if [ "${2:-}" = hub ]; then
  go vet -modfile="$mod" -trimpath -tags "$tags" ./.ci/tailnet
  go build -modfile="$mod" -trimpath -tags "$tags" -ldflags '-s -w' -o "$1/hub" ./.ci/tailnet
fi
