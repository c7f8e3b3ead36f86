//! A subscription: who wants which events, and where.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::UnixMillis;
use super::id::SubscriptionId;

/// A subscription as the store has it.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// A name for people, at most 255 characters.
    pub name: Option<String>,
    /// Where its deliveries are sent.
    pub target_url: Url,
    /// Whose events it gets.
    pub tenant: String,
    /// Which types of events it gets; empty: all.
    pub event_types: Vec<String>,
    /// Whether it gets any.
    pub enabled: bool,
    /// Why it was disabled.
    pub disabled_reason: Option<String>,
    /// When.
    pub disabled_at: Option<UnixMillis>,
    /// Raised by each change.
    pub version: i64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was last changed.
    pub updated_at: UnixMillis,
    /// What its deliveries are signed with.
    pub secrets: Vec<SigningSecret>,
}

impl Subscription {
    /// Whether events of this type are wanted.
    pub fn matches(&self, event_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted == event_type)
    }

    /// Where a delivery is sent: the event's own target, if it names one on the subscription's
    /// origin. `None` when it names another origin: a signed body must not be redirected.
    pub fn target(&self, requested: Option<&Url>) -> Option<Url> {
        match requested {
            None => Some(self.target_url.clone()),
            Some(url) if url.origin() == self.target_url.origin() => Some(url.clone()),
            Some(_) => None,
        }
    }
}

/// One of a subscription's signing secrets.
#[derive(Clone, Debug)]
pub struct SigningSecret {
    /// Names it within the subscription.
    pub key_id: String,
    /// The secret.
    pub secret: Secret,
    /// When it stops being used; `None`: never.
    pub expires_at: Option<UnixMillis>,
}

/// A Standard Webhooks secret: 24–64 bytes, written `whsec_` and base64. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// A secret can not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret must be 'whsec_' followed by the base64 of 24–64 bytes")]
pub struct SecretError;

impl Secret {
    const PREFIX: &str = "whsec_";

    /// Reads `whsec_…`.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).ok().ok_or(SecretError)?;
        if (24..=64).contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(SecretError)
        }
    }

    /// A new secret of 32 random bytes, from a generator that is fit for keys.
    pub fn generate() -> Self {
        Self(rand::random::<[u8; 32]>().into())
    }

    /// The text form. To be shown once, when the subscription is made.
    pub fn expose(&self) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(&self.0))
    }

    /// The key.
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
    fn a_secret_round_trips_and_is_never_printed() {
        let secret = Secret::generate();
        assert_eq!(Secret::parse(&secret.expose()).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_short_or_foreign_secret_is_refused() {
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
