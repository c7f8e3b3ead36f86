//! A subscription: who wants which events, and where they are sent.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::UnixMillis;
use super::id::SubscriptionId;

#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: SubscriptionId,
    /// At most 255 characters.
    pub name: Option<String>,
    pub target_url: Url,
    pub tenant: String,
    /// Empty: events of all types.
    pub event_types: Vec<String>,
    pub enabled: bool,
    pub disabled_reason: Option<String>,
    pub disabled_at: Option<UnixMillis>,
    /// Increased by each change.
    pub version: i64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    pub secrets: Vec<SigningSecret>,
}

impl Subscription {
    /// Returns whether it wants events of this type.
    pub fn matches(&self, event_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted == event_type)
    }

    /// Returns where a delivery is sent: to the URL that the event requests, or else to the
    /// subscription's. `None` if the event requests another origin, because a producer must not
    /// be able to redirect bodies that are signed for this receiver.
    pub fn target(&self, requested: Option<&Url>) -> Option<Url> {
        match requested {
            None => Some(self.target_url.clone()),
            Some(url) if url.origin() == self.target_url.origin() => Some(url.clone()),
            Some(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct SigningSecret {
    /// Unique within the subscription.
    pub key_id: String,
    pub secret: Secret,
    /// `None`: it does not expire.
    pub expires_at: Option<UnixMillis>,
}

/// A Standard Webhooks secret: 24–64 bytes, written as `whsec_` and their base64. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// The text is not a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret must be 'whsec_' followed by the base64 of 24–64 bytes")]
pub struct SecretError;

impl Secret {
    const PREFIX: &str = "whsec_";

    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).ok().ok_or(SecretError)?;
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(SecretError)
        }
    }

    /// Generates a secret of 32 bytes with the thread's cryptographic generator.
    pub fn generate() -> Self {
        Self(rand::random::<[u8; 32]>().into())
    }

    /// Returns the text form, to be shown once when the subscription is created.
    pub fn expose(&self) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(&self.0))
    }

    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_parses_back_and_is_hidden_in_debug() {
        let secret = Secret::generate();
        assert_eq!(Secret::parse(&secret.expose()).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn short_or_foreign_secret_is_refused() {
        for bad in [
            "",
            "whsec_",
            "whsec_AAAA",
            "sk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "whsec_%%",
        ] {
            assert_eq!(Secret::parse(bad), Err(SecretError), "{bad}");
        }
    }
}
