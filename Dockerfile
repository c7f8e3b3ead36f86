# The service in an image: built from source, then only the binary and the roots it trusts.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin webhook-delivery

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/webhook-delivery webhook-delivery
COPY --from=build /build/target/release/webhook-delivery /usr/local/bin/
USER webhook-delivery
WORKDIR /var/lib/webhook-delivery
VOLUME /var/lib/webhook-delivery
EXPOSE 8000
ENTRYPOINT ["webhook-delivery"]
