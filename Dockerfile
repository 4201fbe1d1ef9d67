# A small image: the binary on a Debian base, not root.
FROM rust:1-slim-bookworm AS build
# zstd is C code. librdkafka is for the tests only and not built here.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
# Cargo.toml names targets there; Cargo wants to see them even when it does not build them.
COPY tests tests
COPY bench bench
RUN cargo build --release --locked --bin kafka-standby

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/kafka-standby --create-home kafka-standby
COPY --from=build /build/target/release/kafka-standby /usr/local/bin/kafka-standby
USER 10001
WORKDIR /var/lib/kafka-standby
# Where clients connect, the API, and the virtual brokers: as the configuration says; these are the example's.
EXPOSE 9092 9080 9100-9199
# `status` asks the API that the configuration names; it fails when the proxy does not answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["kafka-standby", "status", "--config", "/etc/kafka-standby/config.toml", "--json"]
ENTRYPOINT ["kafka-standby"]
CMD ["serve", "--config", "/etc/kafka-standby/config.toml"]
