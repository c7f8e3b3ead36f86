# The service in an image: built from source, then only the binary and the certificate authorities it trusts.
FROM rust:1.95-bookworm AS chef
RUN apt-get update && apt-get install -y --no-install-recommends libssl-dev pkg-config
RUN cargo install cargo-chef --locked --version 0.1.78
WORKDIR /build

# The recipe names the dependencies and nothing else of the source.
FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

# The dependencies are compiled in a layer of their own, so a change of our source does not compile them again.
FROM chef AS build
COPY --from=plan /build/recipe.json .
RUN cargo chef cook --profile dist --locked --package webhook-delivery --recipe-path recipe.json
COPY . .
RUN cargo build --profile dist --locked --bin webhook-delivery

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/webhook-delivery webhook-delivery
COPY --from=build /build/target/dist/webhook-delivery /usr/local/bin/
USER webhook-delivery
WORKDIR /var/lib/webhook-delivery
VOLUME /var/lib/webhook-delivery
EXPOSE 8000
ENTRYPOINT ["webhook-delivery"]
