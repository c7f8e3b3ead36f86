//! Admits the requests that carry one of the configured API keys as a bearer token.

use hmac::{Hmac, KeyInit as _, Mac as _};
use poem::Request;
use poem::http::{StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use uuid::Uuid;

use super::problem::Problem;

/// The configured keys, as digests under a random key of this process. Neither the result nor the
/// time of a comparison of digests reveals anything about a configured key.
#[derive(Debug)]
pub(super) struct Keys {
    salt: Uuid,
    digests: Vec<Vec<u8>>,
}

impl Keys {
    pub(super) fn new(keys: &[SecretString]) -> Self {
        let salt = Uuid::new_v4();
        let digests = keys.iter().filter_map(|key| {
            let mac = mac(&salt, key.expose_secret().as_bytes())?;
            Some(mac.finalize().into_bytes().to_vec())
        });
        Self {
            digests: digests.collect(),
            salt,
        }
    }

    /// Admits the request, or returns what it lacks. Without keys every request is admitted, because
    /// the service then listens on a loopback address only.
    pub(super) fn admit(&self, request: &Request) -> Result<(), Problem> {
        if self.digests.is_empty() {
            return Ok(());
        }
        let Some(given) = request.headers().get(header::AUTHORIZATION) else {
            return Err(unauthorized("the request has no API key"));
        };
        let token = given
            .as_bytes()
            .split_first_chunk::<7>()
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        let Some((_, token)) = token else {
            return Err(unauthorized(
                "the Authorization header does not use the scheme Bearer",
            ));
        };
        let mut known = false;
        // Every digest is compared, so that the time does not depend on which one matches.
        for digest in &self.digests {
            known |= mac(&self.salt, token).is_some_and(|mac| mac.verify_slice(digest).is_ok());
        }
        if known {
            Ok(())
        } else {
            Err(unauthorized("the API key is not one of those in api.keys"))
        }
    }
}

fn mac(salt: &Uuid, key: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(salt.as_bytes()).ok()?;
    mac.update(key);
    Some(mac)
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        detail,
        "send `Authorization: Bearer <key>` with one of the keys in api.keys",
    )
    .with_header(header::WWW_AUTHENTICATE, "Bearer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn keys() -> Keys {
        Keys::new(&[
            SecretString::from("another key here"),
            SecretString::from(KEY),
        ])
    }

    fn with(value: &str) -> Request {
        Request::builder()
            .header(header::AUTHORIZATION, value)
            .finish()
    }

    #[test]
    fn configured_key_is_admitted_in_either_case_of_the_scheme() {
        assert!(keys().admit(&with(&format!("Bearer {KEY}"))).is_ok());
        assert!(keys().admit(&with(&format!("bearer {KEY}"))).is_ok());
    }

    #[test]
    fn other_credentials_are_refused() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Basic 0123456789abcdef",
        ] {
            assert!(keys().admit(&with(value)).is_err(), "{value:?}");
        }
        assert!(keys().admit(&Request::default()).is_err());
    }

    #[test]
    fn without_keys_every_request_is_admitted() {
        assert!(Keys::new(&[]).admit(&Request::default()).is_ok());
    }
}
