#!/usr/bin/env bash
# Builds both images of the Dockerfile and tries what is in them:
#   bash .ci/images.sh
# With Docker where its engine runs, else with buildah. Where no registry can be
# reached, Debian's packages make stand-ins for the base images; they are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=v0.0.0-test
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}
left_out() {
  printf 'LEFT OUT: %s\n' "$*"
  exit 0
}

engine=buildah
if docker info >/dev/null 2>&1; then
  engine=docker
  build() { docker build --build-arg "VERSION=$version" "$@" .; }
  run() { docker run --rm "$@"; }
elif command -v buildah >/dev/null && [[ $(id -u) == 0 ]]; then
  build() {
    # This buildah does not know the builder's platform by itself.
    buildah build --layers --isolation chroot --build-arg "VERSION=$version" --build-arg "TARGETARCH=$(go env GOARCH)" "${bases[@]}" "$@" .
  }
  run() {
    local container code=0
    container=$(buildah from --pull-never "$1")
    shift
    buildah run --isolation chroot "$container" -- "$@" || code=$?
    buildah rm "$container" >/dev/null
    return "$code"
  }
else
  left_out 'neither a Docker engine nor buildah is here: the images are not built.'
fi

# stand_in makes an image of a folder.
stand_in() {
  local name=$1 folder=$2 container
  shift 2
  container=$(buildah from scratch)
  buildah add -q "$container" "$folder" / >/dev/null
  buildah config "$@" "$container"
  buildah commit -q "$container" "$name" >/dev/null
  buildah rm "$container" >/dev/null
}

bases=()
ci=localhost/stand-in-debian:bookworm
golang=localhost/stand-in-golang:$(go env GOVERSION)
if [[ $engine == buildah ]] && ! timeout 60 buildah pull -q "$(sed -n 's/^ARG GO_IMAGE=//p' Dockerfile)" >/dev/null 2>&1; then
  echo 'No registry is in reach: using stand-ins for the base images.'
  bases=(--build-arg "GO_IMAGE=$golang" --build-arg "CI_IMAGE=$ci" --build-arg DAEMON_IMAGE=scratch)
  if ! buildah inspect "$golang" >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || left_out 'no registry is in reach, and there is no debootstrap to make base images: the images are not built.'
    debootstrap --variant=minbase bookworm "$work/root" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; fail 'debootstrap'; }
    stand_in "$ci" "$work/root"
    chroot "$work/root" apt-get install -y --no-install-recommends gcc libc6-dev ca-certificates >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; fail 'gcc for the stand-in'; }
    cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/"
    cp -a "$(go env GOROOT)" "$work/root/usr/local/go"
    stand_in "$golang" "$work/root" --env PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env GOPATH=/go
  fi
fi

build -t rack-gateway-ci-test --target ci >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; fail 'the ci image was not built'; }
# Everything that the orb's scripts and CircleCI's check-out call, as the job's user.
# shellcheck disable=SC2016
run rack-gateway-ci-test bash -euo pipefail -c '
  [[ $(id -u) == 3434 && -w $HOME ]]
  rack-gateway version
  tailscale version | head -1
  tailscaled --version | head -1
  git init -q "$HOME/a" && git -C "$HOME/a" -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m x && git clone -q "$HOME/a" "$HOME/b"
  git --version && ssh -V
  for program in timeout printenv tar gzip sed tr cut; do command -v "$program" >/dev/null; done
  [[ -s /etc/ssl/certs/ca-certificates.crt && -s /usr/share/doc/rack-gateway/LICENSE ]]
  grep -q "^=== github.com/spf13/cobra" /usr/share/doc/rack-gateway/NOTICES
  grep -q "^=== tailscale.com v" /usr/share/doc/tailscale/NOTICES
  ! [[ -e /usr/share/perl ]]
' >"$work/tried" 2>&1 || { cat "$work/tried" >&2; fail 'the ci image lacks something'; }
cat "$work/tried"
grep -q "rack-gateway $version" "$work/tried" || fail 'the client in the ci image does not know its version'

build -t rack-gatewayd-test >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; fail 'the image of the daemon was not built'; }
run rack-gatewayd-test /rack-gatewayd version | tee "$work/tried"
grep -q "rack-gatewayd $version" "$work/tried" || fail 'the daemon in its image does not know its version'
