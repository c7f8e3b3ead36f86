//! The `egress` section: which addresses may be contacted.

use ipnet::IpNet;

use super::kind;
use super::reader::{OptionalSetting, Reader};

/// Where requests may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Networks that may be contacted although they are not public.
    pub allow: Vec<IpNet>,
}

impl Egress {
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.begin("egress", "The addresses that deliveries may be sent to.");
        let network = kind::text("a network such as 10.0.0.0/8 or fd00::/8", |text| {
            text.parse().ok()
        });
        let allow = reader.take_optional(OptionalSetting {
            path: "egress.allow",
            kind: kind::list(0..=usize::MAX, network),
            unset: "no networks",
            example: "10.0.0.0/8",
            about: "Lists private, loopback or other special networks that may be contacted. \
                    Public addresses are always allowed. Anyone who may create subscriptions can \
                    send requests into these networks.",
        });
        Self {
            allow: allow.unwrap_or_default(),
        }
    }
}
