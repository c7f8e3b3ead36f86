//! The Standard Webhooks signature, version 1: HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::UnixMillis;
use super::id::EventId;
use super::subscription::SigningSecret;

/// The value of `webhook-signature`: one entry for each secret that has not expired.
pub fn sign(
    secrets: &[SigningSecret],
    now_ms: UnixMillis,
    id: &EventId,
    timestamp_s: i64,
    body: &[u8],
) -> String {
    let live = secrets
        .iter()
        .filter(|secret| secret.expires_at.is_none_or(|at| at > now_ms));
    let prefix = format!("{id}.{timestamp_s}.");
    let entries: Vec<String> = live
        .map(|secret| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.secret.key()) else {
                unreachable!("HMAC takes keys of any length")
            };
            mac.update(prefix.as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        })
        .collect();
    entries.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::subscription::Secret;

    fn secret(expires_at: Option<UnixMillis>) -> SigningSecret {
        SigningSecret {
            key_id: "k".into(),
            secret: Secret::generate(),
            expires_at,
        }
    }

    proptest! {
        #[test]
        fn the_reference_library_accepts_every_signature(body in "\\PC{0,200}") {
            let secrets = [secret(None), secret(Some(i64::MAX))];
            let id = EventId::new_v7();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let seconds = i64::try_from(now.as_secs()).unwrap();
            let signature = sign(&secrets, seconds * 1000, &id, seconds, body.as_bytes());
            let mut headers = http_headers(&id, seconds, &signature);
            for secret in &secrets {
                let verifier = standardwebhooks::Webhook::new(&secret.secret.expose()).unwrap();
                prop_assert!(verifier.verify(body.as_bytes(), &headers).is_ok());
            }
            headers.insert("webhook-id", "another".parse().unwrap());
            let verifier = standardwebhooks::Webhook::new(&secrets[0].secret.expose()).unwrap();
            prop_assert!(verifier.verify(body.as_bytes(), &headers).is_err());
        }
    }

    fn http_headers(id: &EventId, seconds: i64, signature: &str) -> reqwest::header::HeaderMap {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("webhook-id", id.as_str().parse().unwrap());
        headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn an_expired_secret_signs_nothing() {
        let id = EventId::new_v7();
        assert_eq!(sign(&[secret(Some(10))], 10, &id, 0, b""), "");
    }
}
