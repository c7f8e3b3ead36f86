//! Decides which addresses may be contacted. A name is resolved once, and the client connects only
//! to the addresses that were checked, so that a second DNS answer cannot evade the check.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

#[derive(Clone, Debug)]
pub(super) struct Guard {
    allow: Arc<[IpNet]>,
}

impl Guard {
    pub(super) fn new(allow: Vec<IpNet>) -> Self {
        Self {
            allow: allow.into(),
        }
    }

    /// Returns whether a request to the URL's host may start. Literal addresses are checked here,
    /// because the client does not resolve them; names are checked when they are resolved.
    pub(super) fn permits_host(&self, url: &Url) -> bool {
        match url.host() {
            None => false,
            Some(Host::Domain(_)) => true,
            Some(Host::Ipv4(address)) => self.permits(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.permits(IpAddr::V6(address)),
        }
    }

    pub(super) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow.iter().any(|range| range.contains(&address)) || is_public(address)
    }
}

/// Returns `false` for the special-purpose ranges of the IANA registries (RFC 6890), which no
/// public receiver can have, and for IPv6 forms that embed an IPv4 address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, third, ..] = v6.segments();
            let special = match first {
                0x2001 => second < 0x0200 || second == 0x0db8,
                0x2002 | 0x3fff => true,
                0x2620 => second == 0x004f && third == 0x8000,
                _ => false,
            };
            (0x2000..=0x3fff).contains(&first) && !special
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const AZURE_HOST: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let refused = matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 31, 196, _]
            | [192, 52, 193, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [192, 175, 48, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    );
    !refused && address != AZURE_HOST
}

/// A resolver that returns only checked addresses. One forbidden address refuses the whole answer.
#[derive(Debug)]
pub(super) struct GuardedResolver(pub(super) Guard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let addresses: Vec<SocketAddr> = found.map_err(LookupFailure)?.collect();
            if addresses.iter().any(|address| !guard.permits(address.ip())) {
                return Err(Refusal.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[derive(Debug)]
struct Refusal;

#[derive(Debug)]
struct LookupFailure(std::io::Error);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host name resolves to an address that is not allowed")
    }
}

impl fmt::Display for LookupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host name does not resolve")
    }
}

impl Error for Refusal {}

impl Error for LookupFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

pub(super) fn is_refusal(error: &reqwest::Error) -> bool {
    has_cause::<Refusal>(error)
}

pub(super) fn is_lookup_failure(error: &reqwest::Error) -> bool {
    has_cause::<LookupFailure>(error)
}

fn has_cause<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_ranges_are_refused_in_every_spelling() {
        let guard = Guard::new(Vec::new());
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "[::]",
            "0.0.0.0",
            "169.254.169.254",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[2001:db8::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[::127.0.0.1]",
            "198.18.0.1",
            "192.0.2.1",
        ] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert!(!guard.permits_host(&url), "{host}");
        }
        for host in [
            "93.184.216.34",
            "[2606:2800:220:1::1]",
            "8.8.8.8",
            "172.32.0.1",
        ] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert!(guard.permits_host(&url), "{host}");
        }
    }

    #[test]
    fn only_the_allowed_range_is_permitted() {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(guard.permits("127.0.0.1".parse().unwrap()));
        assert!(guard.permits("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!guard.permits("10.0.0.1".parse().unwrap()));
    }
}
