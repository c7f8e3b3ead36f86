//! The `api` and `ingestion` sections. They must not know any route.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use secrecy::SecretString;

use super::kind::{self, Kind};
use super::reader::{OptionalSetting, Reader, Setting};

/// Where the HTTP API is served, to whom, and within which limits.
#[derive(Debug, Clone)]
pub struct Api {
    pub listen: SocketAddr,
    /// Every request carries one of these keys. Empty: no key is asked for.
    pub keys: Vec<SecretString>,
    pub body_bytes_max: usize,
    pub request_timeout: Duration,
    pub ingestion_timeout: Duration,
    pub create_missing: bool,
}

impl Api {
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.begin("api", "The HTTP API.");
        let listen = reader.take(Setting {
            path: "api.listen",
            kind: kind::text("an address and a port such as 127.0.0.1:8000", |text| {
                text.parse().ok()
            }),
            default: "127.0.0.1:8000",
            about: "Sets the address and the port of the HTTP API. An address that is not loopback \
                    requires `api.keys`.",
        });
        let keys = reader.take_optional(OptionalSetting {
            path: "api.keys",
            kind: kind::list(0..=usize::MAX, key()).secret(),
            unset: "no keys",
            example: "<output of: openssl rand -hex 24>",
            about: "Lists the keys that clients may send as `Authorization: Bearer <key>`. Without \
                    keys every request is accepted, and the API is served on loopback only.",
        });
        let body_bytes_max = reader.take(Setting {
            path: "api.body_bytes_max",
            kind: kind::size(ByteSize::kib(1)..=ByteSize::kib(512)),
            default: "256KiB",
            about: "Limits the body of a request; a batch may be 16 times as large. A larger body \
                    is refused with status 413.",
        });
        let request_timeout = reader.take(Setting {
            path: "api.request_timeout",
            kind: kind::duration(Duration::from_secs(1)..=Duration::from_mins(5)),
            default: "30s",
            about: "Limits how long the body of a request may take to arrive. The whole request \
                    may take this and `ingestion.timeout`. Slow clients need more; a long limit \
                    lets them hold connections.",
        });
        reader.begin("ingestion", "Events that arrive through the HTTP API.");
        let ingestion_timeout = reader.take(Setting {
            path: "ingestion.timeout",
            kind: kind::duration(Duration::from_millis(100)..=Duration::from_mins(1)),
            default: "5s",
            about: "Limits how long `POST /ingestion` waits until the event is stored. When it is \
                    too short, clients get errors for events that are stored a moment later, and \
                    send them again.",
        });
        let create_missing = reader.take(Setting {
            path: "ingestion.create_missing",
            kind: kind::boolean(),
            default: "false",
            about: "Decides whether an event with `id` and `target_url` creates its subscription \
                    where there is none.",
        });
        let api = Self {
            listen,
            keys: keys.unwrap_or_default(),
            body_bytes_max,
            request_timeout,
            ingestion_timeout,
            create_missing,
        };
        api.check_exposure(reader);
        api
    }

    /// Refuses to be open to a network without a key.
    fn check_exposure(&self, reader: &mut Reader) {
        if !self.keys.is_empty() || self.listen.ip().to_canonical().is_loopback() {
            return;
        }
        let allowed = "a loopback address such as 127.0.0.1:8000, or at least one key in api.keys";
        reader.reject(
            "api.listen",
            format!("{:?}", self.listen),
            allowed.to_owned(),
        );
        if self.create_missing {
            let allowed = "false, or at least one key in api.keys: otherwise anyone who reaches \
                           api.listen could create subscriptions";
            reader.reject(
                "ingestion.create_missing",
                "true".to_owned(),
                allowed.to_owned(),
            );
        }
    }
}

fn key() -> Kind<SecretString> {
    const LENGTH: RangeInclusive<usize> = 16..=256;
    let (min, max) = (LENGTH.start(), LENGTH.end());
    let allowed = format!("{min} to {max} printable ASCII characters without spaces and commas");
    kind::text(allowed, |text| {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
        let is_key = LENGTH.contains(&text.len()) && text.bytes().all(is_plain);
        is_key.then(|| SecretString::from(text))
    })
}
