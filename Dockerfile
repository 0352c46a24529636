# Two images from one file:
#   docker build -t rack-gatewayd .                     the daemon (default target)
#   docker build -t rack-gateway-ci --target ci .       the client, for CI jobs
#
# The base images are arguments, because a tag can be moved: for a build that
# can be repeated, pass each with the digest that you have checked, such as
#   --build-arg GO_IMAGE=golang:1.26.8-bookworm@sha256:…
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG DAEMON_IMAGE=gcr.io/distroless/static-debian12:nonroot
ARG CI_IMAGE=debian:bookworm-slim

FROM ${GO_IMAGE} AS source
# The toolchain is that of the image, never one that is fetched during the build.
ENV GOTOOLCHAIN=local GOFLAGS=-trimpath
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download && go mod verify
COPY . .

FROM source AS client
ARG VERSION=
RUN CGO_ENABLED=0 go build -ldflags "-s -w -X github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli.version=${VERSION}" -o /out/rack-gateway ./cmd/rack-gateway

FROM source AS daemon-build
ARG VERSION=
# SQLite is C: cgo, linked statically, because the final image has no C library.
# netgo and osusergo keep Go's own resolver and user look-up in a static program.
RUN CGO_ENABLED=1 go build -tags sqlite_omit_load_extension,netgo,osusergo \
      -ldflags "-s -w -linkmode external -extldflags \"-static\" -X github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli.version=${VERSION}" \
      -o /out/rack-gatewayd ./cmd/rack-gatewayd \
    && mkdir /out/data

FROM ${CI_IMAGE} AS ci
# What CircleCI wants in a primary container, and nothing else. How the job
# reaches the gateway (such as Tailscale) belongs into an image made from this.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 3434 circleci
COPY --from=client /out/rack-gateway /usr/local/bin/rack-gateway
USER 3434
WORKDIR /home/circleci
CMD ["rack-gateway", "help"]

FROM ${DAEMON_IMAGE} AS daemon
COPY --from=daemon-build /out/rack-gatewayd /rack-gatewayd
COPY --from=daemon-build --chown=65532:65532 /out/data /data
ENV RGW_LISTEN=:8080 \
    RGW_DATABASE_URL=sqlite:/data/rack-gateway.db
USER 65532:65532
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# The image has no shell and no curl: the daemon asks its own /healthz.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 CMD ["/rack-gatewayd", "healthcheck"]
ENTRYPOINT ["/rack-gatewayd"]
CMD ["serve"]
