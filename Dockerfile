# Two images from one file, for amd64 and arm64:
#   docker build -t rack-gatewayd --build-arg VERSION=v1.2.3 .                the daemon (default target)
#   docker build -t rack-gateway-ci --build-arg VERSION=v1.2.3 --target ci .  client and Tailscale, for CI jobs
#
# The base images are arguments, because a tag can be moved: for a build that
# can be repeated, pass each with the digest that you have checked, such as
#   --build-arg GO_IMAGE=docker.io/library/golang:1.26.8-bookworm@sha256:…
ARG GO_IMAGE=docker.io/library/golang:1.26.8-bookworm
ARG DAEMON_IMAGE=gcr.io/distroless/static-debian12:nonroot
ARG CI_IMAGE=docker.io/library/debian:bookworm-slim

# What needs no C is compiled on the builder's own platform for the image's.
FROM --platform=${BUILDPLATFORM} ${GO_IMAGE} AS go
# The toolchain is that of the image, never one that is fetched during the build.
ENV GOTOOLCHAIN=local GOFLAGS="-trimpath -buildvcs=false"
WORKDIR /src

FROM go AS client
ARG TARGETARCH
ARG VERSION=
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    export CGO_ENABLED=0 GOARCH="${TARGETARCH}" \
    && go build -ldflags "-s -w -X github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli.version=${VERSION}" -o /out/rack-gateway ./cmd/rack-gateway \
    && sh .ci/notices.sh ./cmd/rack-gateway >/out/NOTICES

FROM go AS tailscale
ARG TARGETARCH
COPY go.mod ./
COPY .ci .ci
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    export GOARCH="${TARGETARCH}" \
    && mkdir -p /out/bin && sh .ci/tailnet.sh /out/bin && mv /out/bin/NOTICES /out

# SQLite is C: cgo, linked statically, because the final image has no C library.
# netgo and osusergo keep Go's own resolver and user look-up in a static program.
FROM ${GO_IMAGE} AS daemon-build
ENV GOTOOLCHAIN=local GOFLAGS="-trimpath -buildvcs=false"
WORKDIR /src
ARG VERSION=
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    export CGO_ENABLED=1 \
    && go build -tags sqlite_omit_load_extension,netgo,osusergo \
      -ldflags "-s -w -linkmode external -extldflags \"-static\" -X github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli.version=${VERSION}" \
      -o /out/rack-gatewayd ./cmd/rack-gatewayd \
    && sh .ci/notices.sh ./cmd/rack-gatewayd >/out/NOTICES \
    && mkdir /out/data

# Debian's package of git brings perl (47 MB) for commands that no job needs. What
# clones and checks out is taken from it; the libraries are installed below.
FROM ${CI_IMAGE} AS git
RUN cd /tmp && apt-get update && apt-get download git && dpkg-deb -x git_*.deb /git && cd /git/usr/lib/git-core \
    && mkdir -p /out/usr/bin /out/usr/lib/git-core /out/usr/share/git-core/templates /out/usr/share/doc/git \
    && cp -P /git/usr/bin/git /git/usr/bin/git-upload-pack /out/usr/bin/ \
    && ln -s ../../bin/git /out/usr/lib/git-core/git \
    && cp -P git-remote-http git-remote-https git-submodule git-sh-setup git-sh-i18n git-sh-i18n--envsubst /out/usr/lib/git-core/ \
    && cp /git/usr/share/doc/git/copyright /out/usr/share/doc/git/

FROM ${CI_IMAGE} AS ci
ARG VERSION=
LABEL org.opencontainers.image.title="rack-gateway-ci" \
      org.opencontainers.image.description="Client of Rack Gateway, and Tailscale, for CI jobs" \
      org.opencontainers.image.source="https://github.com/rack-gateway/rack-gateway-approvals" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates openssh-client libcurl3-gnutls libexpat1 libpcre2-8-0 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log /var/cache/debconf/* \
    && useradd --create-home --uid 3434 circleci
COPY --from=git /out /
COPY --from=tailscale /out/bin /usr/local/bin
COPY --from=tailscale /out/NOTICES /usr/share/doc/tailscale/NOTICES
COPY --from=client /out/rack-gateway /usr/local/bin/rack-gateway
COPY --from=client /out/NOTICES /src/LICENSE /usr/share/doc/rack-gateway/
USER 3434
WORKDIR /home/circleci
CMD ["rack-gateway", "help"]

FROM ${DAEMON_IMAGE} AS daemon
ARG VERSION=
LABEL org.opencontainers.image.title="rack-gatewayd" \
      org.opencontainers.image.description="Deploy approvals in Slack for CircleCI" \
      org.opencontainers.image.source="https://github.com/rack-gateway/rack-gateway-approvals" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=daemon-build /out/rack-gatewayd /rack-gatewayd
COPY --from=daemon-build --chown=65532:65532 /out/data /data
COPY --from=daemon-build /out/NOTICES /src/LICENSE /usr/share/doc/rack-gateway/
ENV RGW_LISTEN=:8080
USER 65532:65532
# Here the daemon's default means sqlite:/data/rack-gateway.db. As a variable of the
# image it would contradict RGW_DATABASE_URL_FILE.
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# The image has no shell and no curl: the daemon asks its own /healthz, and gives
# up after 5 s by itself, with a sentence.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s --retries=3 CMD ["/rack-gatewayd", "healthcheck"]
ENTRYPOINT ["/rack-gatewayd"]
CMD ["serve"]
