//! The guard against server-side request forgery (OWASP A10:2021): no page, feed or redirect can make this program talk to
//! the machine itself, its network or a cloud's metadata service.
//!
//! Addresses written as numbers never reach a resolver, so they are checked in the URL, at every hop. Names are resolved
//! and filtered in one place, the client's own resolver, so that the address checked is the address connected to.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why an address is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("`{0}` addresses are not fetched: only http and https are")]
    Scheme(String),
    #[error("{0} is on a private or reserved network: allow it with `--allow-net {0}` if it is your own server")]
    Address(String),
    #[error("port {0} is not one of the web: 80, 443 and those from 1024 are")]
    Port(u16),
    #[error("an address with a user name or a password is not fetched")]
    Credentials,
    #[error("the address has no host")]
    NoHost,
}

/// Hosts with ports that are allowed wherever they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    pairs: Vec<(String, u16)>,
}

impl Allowed {
    /// Reads `host:port` pairs; an IPv6 host stands in brackets.
    ///
    /// # Errors
    /// The first text that is no such pair.
    pub fn parse(pairs: &[String]) -> Result<Self, String> {
        let parse = |text: &String| {
            let url = Url::parse(&format!("http://{text}")).map_err(|_| text.clone())?;
            let host =
                url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()).ok_or_else(|| text.clone())?;
            let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port =
                url.port_or_known_default().filter(|_| has_port && url.path() == "/").ok_or_else(|| text.clone())?;
            Ok((host, port))
        };
        Ok(Self { pairs: pairs.iter().map(parse).collect::<Result<_, String>>()? })
    }

    /// Whether the host and port of an address are among the pairs.
    pub(super) fn names(&self, url: &Url) -> bool {
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default();
        self.pairs.iter().any(|(allowed, at)| *allowed == name && Some(*at) == port)
    }

    /// Checks all of an address that can be checked without resolving a name.
    ///
    /// # Errors
    /// Why it is not asked.
    pub fn check(&self, url: &Url) -> Result<(), Denied> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Denied::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Denied::Credentials);
        }
        let host = url.host().ok_or(Denied::NoHost)?;
        let port = url.port_or_known_default().ok_or(Denied::NoHost)?;
        if self.names(url) {
            return Ok(());
        }
        if !(matches!(port, 80 | 443) || port >= 1024) {
            return Err(Denied::Port(port));
        }
        let denied = match host {
            Host::Ipv4(address) => is_denied(IpAddr::V4(address)),
            Host::Ipv6(address) => is_denied(IpAddr::V6(address)),
            // An allowed name resolves unfiltered, so it is good for its allowed ports only.
            Host::Domain(_) => self.has_name(url.host_str().unwrap_or_default()),
        };
        if denied { Err(Denied::Address(format!("{}:{port}", url.host_str().unwrap_or_default()))) } else { Ok(()) }
    }

    fn has_name(&self, name: &str) -> bool {
        self.pairs.iter().any(|(allowed, _)| allowed == name)
    }

    /// The addresses of a name, unless one of them is denied: a name that points inside is not trusted to point outside.
    pub(super) fn filter(&self, name: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Denied> {
        if !self.has_name(name) && addresses.iter().any(|address| is_denied(address.ip())) {
            return Err(Denied::Address(name.to_owned()));
        }
        Ok(addresses)
    }
}

/// What a test answers for a name.
#[cfg(test)]
type Answer = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;

/// Where names are looked up.
#[derive(Clone)]
pub(super) enum Names {
    System,
    /// A test's own answers, which may be others at each question.
    #[cfg(test)]
    Scripted(std::sync::Arc<Answer>),
}

impl Names {
    /// The addresses of a name, unfiltered.
    pub(super) async fn look_up(&self, name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, port)).await?.collect()),
            #[cfg(test)]
            Self::Scripted(answer) => Ok(answer(name).into_iter().map(|address| (address, port).into()).collect()),
        }
    }
}

/// The client's resolver: names are looked up, and the addresses filtered.
pub(super) struct Resolver {
    names: Names,
    allowed: Allowed,
}

impl Resolver {
    pub(super) fn new(names: Names, allowed: Allowed) -> Self {
        Self { names, allowed }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, allowed) = (self.names.clone(), self.allowed.clone());
        Box::pin(async move {
            let found = names.look_up(name.as_str(), 0).await?;
            let addresses: Addrs = Box::new(allowed.filter(name.as_str(), found)?.into_iter());
            Ok(addresses)
        })
    }
}

/// The guard's own error within one of the client's, if it was the guard that stopped a connection.
pub(super) fn denied(error: &reqwest::Error) -> Option<Denied> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(denied) = error.downcast_ref::<Denied>() {
            return Some(denied.clone());
        }
        cause = error.source();
    }
    None
}

/// Whether an address is of a network that is not the public Internet (IANA special-purpose registries, RFC 6890).
pub fn is_denied(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_denied_v4(address),
        IpAddr::V6(address) => is_denied_v6(address),
    }
}

fn is_denied_v4(address: Ipv4Addr) -> bool {
    const NETWORKS: [([u8; 4], u32); 15] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let address = address.to_bits();
    NETWORKS.iter().any(|(network, length)| (address ^ u32::from_be_bytes(*network)) >> (32 - length) == 0)
}

fn is_denied_v6(address: Ipv6Addr) -> bool {
    const NETWORKS: [([u16; 8], u32); 8] = [
        // Unspecified, loopback and the old IPv4-compatible addresses.
        ([0, 0, 0, 0, 0, 0, 0, 0], 96),
        // The local form of NAT64.
        ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
        ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 9),
        ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    ];
    let bits = address.to_bits();
    let inside = |network: [u16; 8], length: u32| (bits ^ Ipv6Addr::from(network).to_bits()) >> (128 - length) == 0;
    let parts = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_denied_v4(Ipv4Addr::new(a, b, c, d))
    };
    NETWORKS.iter().any(|(network, length)| inside(*network, *length))
        // IPv4-mapped and NAT64 carry an IPv4 address at the end, 6to4 after its first part.
        || (inside([0, 0, 0, 0, 0, 0xffff, 0, 0], 96) && embedded(parts[6], parts[7]))
        || (inside([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96) && embedded(parts[6], parts[7]))
        || (parts[0] == 0x2002 && embedded(parts[1], parts[2]))
}

#[cfg(test)]
mod tests;
