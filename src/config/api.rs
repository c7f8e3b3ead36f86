//! The `api` and `ingestion` sections: where HTTP is served, to whom, and within which limits.
//! It must not know any route.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::parse;
use super::reader::Reader;

/// The HTTP API.
#[derive(Debug, Clone)]
pub struct Api {
    /// `api.listen`: address and port. Default `127.0.0.1:8000`; other than loopback only with
    /// `api.keys`.
    pub listen: SocketAddr,
    /// `api.keys`: the keys of which every request has to carry one, 16–256 printable ASCII
    /// characters each. Default: none, every request is let in.
    pub keys: Vec<SecretString>,
    /// `api.body_bytes_max`: the largest body of a request, in bytes; a batch may have 16 times
    /// as many. 1KiB–512KiB, default 256KiB.
    pub body_bytes_max: usize,
    /// `api.request_timeout`: how long a whole request may take, 1s–5m, default 30s.
    pub request_timeout: Duration,
    /// `ingestion.timeout`: how long the log may take to acknowledge an event, 100ms–1m,
    /// default 5s.
    pub ingestion_timeout: Duration,
    /// `ingestion.create_missing`: whether an event `{"id", "target_url"}` for a subscription
    /// that does not exist creates it. Default false.
    pub create_missing: bool,
}

impl Api {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let keys = reader.take_secret(
            "api.keys",
            "a list of keys, each 16–256 printable ASCII characters without spaces or commas",
            |value| parse::list_of(value, |key| parse::text(key).filter(|key| is_key(key))),
        );
        let keys_given = keys.is_some();
        let api = Self {
            listen: reader.take(
                "api.listen",
                "an address and a port, such as 127.0.0.1:8000",
                SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
                |value| parse::text(value)?.parse().ok(),
            ),
            keys: keys
                .unwrap_or_default()
                .into_iter()
                .map(SecretString::from)
                .collect(),
            body_bytes_max: reader.take(
                "api.body_bytes_max",
                "a number of bytes, 1KiB–512KiB",
                256 << 10,
                |value| parse::bytes(value, (1 << 10)..=(512 << 10)),
            ),
            request_timeout: reader.take(
                "api.request_timeout",
                "a length of time, 1s–5m",
                Duration::from_secs(30),
                |value| parse::duration(value, Duration::from_secs(1)..=Duration::from_mins(5)),
            ),
            ingestion_timeout: reader.take(
                "ingestion.timeout",
                "a length of time, 100ms–1m",
                Duration::from_secs(5),
                |value| parse::duration(value, Duration::from_millis(100)..=Duration::from_mins(1)),
            ),
            create_missing: reader.take(
                "ingestion.create_missing",
                "true or false",
                false,
                parse::boolean,
            ),
        };
        api.check_exposure(reader, keys_given);
        api
    }

    /// Refuses to be open to a network without a key.
    fn check_exposure(&self, reader: &mut Reader, keys_given: bool) {
        debug_assert!(self.keys.iter().all(|key| !key.expose_secret().is_empty()));
        if !self.keys.is_empty() || self.listen.ip().to_canonical().is_loopback() {
            return;
        }
        let allowed = if keys_given {
            "a loopback address, or at least one key in api.keys: the list is empty"
        } else {
            "a loopback address such as 127.0.0.1:8000, or set api.keys"
        };
        reader.refuse("api.listen", self.listen, allowed);
        if self.create_missing {
            let allowed = "false, or set api.keys: anyone who reaches a public address could \
                           create subscriptions";
            reader.refuse("ingestion.create_missing", true, allowed);
        }
    }
}

fn is_key(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    (16..=256).contains(&text.len()) && text.bytes().all(plain)
}
