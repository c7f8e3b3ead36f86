//! The Standard Webhooks signature, version 1: HMAC-SHA256 over `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::UnixMillis;
use super::id::EventId;
use super::subscription::{Secret, SigningSecret};

/// Returns the value of `webhook-signature`: one entry for each secret that has not expired.
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
    let timestamp = timestamp_s.to_string();
    let entries: Vec<String> = live
        .map(|secret| {
            let tag = mac(&secret.secret, id.as_str(), &timestamp, body)
                .finalize()
                .into_bytes();
            format!("v1,{}", STANDARD.encode(tag))
        })
        .collect();
    entries.join(" ")
}

/// Returns whether an entry of `signature` was made with this secret. Compares in constant time.
pub fn verify(secret: &Secret, id: &str, timestamp_s: &str, body: &[u8], signature: &str) -> bool {
    let entries = signature
        .split(' ')
        .filter_map(|entry| entry.strip_prefix("v1,"));
    let mut decoded = entries.filter_map(|entry| STANDARD.decode(entry).ok());
    decoded.any(|tag| {
        mac(secret, id, timestamp_s, body)
            .verify_slice(&tag)
            .is_ok()
    })
}

fn mac(secret: &Secret, id: &str, timestamp_s: &str, body: &[u8]) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.key()) else {
        unreachable!("HMAC accepts keys of any length")
    };
    for part in [id.as_bytes(), b".", timestamp_s.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(expires_at: Option<UnixMillis>) -> SigningSecret {
        SigningSecret {
            key_id: "k".into(),
            secret: Secret::generate(),
            expires_at,
        }
    }

    proptest! {
        #[test]
        fn reference_library_accepts_every_signature(body in "\\PC{0,200}") {
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

    fn http_headers(id: &EventId, seconds: i64, signature: &str) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.as_str().parse().unwrap());
        headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn signature_verifies_only_with_its_secret_and_body() {
        let (one, other) = (secret(None), secret(None));
        let id = EventId::new_v7();
        let signature = sign(&[one.clone(), other.clone()], 0, &id, 7, b"body");
        for secret in [&one, &other] {
            assert!(verify(
                &secret.secret,
                id.as_str(),
                "7",
                b"body",
                &signature
            ));
            assert!(!verify(
                &secret.secret,
                id.as_str(),
                "8",
                b"body",
                &signature
            ));
            assert!(!verify(
                &secret.secret,
                id.as_str(),
                "7",
                b"Body",
                &signature
            ));
        }
        assert!(!verify(
            &Secret::generate(),
            id.as_str(),
            "7",
            b"body",
            &signature
        ));
    }

    #[test]
    fn expired_secret_signs_nothing() {
        let id = EventId::new_v7();
        assert_eq!(sign(&[secret(Some(10))], 10, &id, 0, b""), "");
    }

    /// The value was computed with Python's `hmac`.
    #[test]
    fn signature_of_a_known_secret_is_fixed() {
        let secret = Secret::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let secrets = [SigningSecret {
            key_id: "k".into(),
            secret,
            expires_at: None,
        }];
        let id = EventId::parse("evt_1").unwrap();
        assert_eq!(
            sign(&secrets, 0, &id, 1_700_000_000, br#"{"hello":"world"}"#),
            "v1,mgnHsXBhCwOBP5l1CWw9NLqDebRVyQulyT6msKe/X94="
        );
    }
}
