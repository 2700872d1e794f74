//! Blocks of addresses (RFC 4632): whom the proxy trusts to say who the client is.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a block was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// What stands before the `/` is no address.
    #[error("not an IP address before the `/`")]
    Address,
    /// What stands behind the `/` is no length of a prefix.
    #[error("the prefix length is 0 to 32 (IPv4) or 0 to 128 (IPv6)")]
    Prefix,
}

impl Cidr {
    /// Whether `address` lies in the block. An IPv4 address mapped into IPv6 counts as the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(one)) => {
                same_head(u32::from(block).into(), u32::from(one).into(), 32, self.prefix)
            }
            (IpAddr::V6(block), IpAddr::V6(one)) => same_head(u128::from(block), u128::from(one), 128, self.prefix),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
        }
    }
}

/// Who the client is when `peer` sends the fields `forwarded_for` (`X-Forwarded-For`, in their order): seen from our end, the first
/// address that is not `trusted`. What stands further left was written by that client or by somebody it chose.
///
/// Where a trusted one names no address, it is itself as far as we can see; where all are trusted, the first of all is the client.
pub fn client_behind<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[Cidr],
) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|block| block.contains(address));
    let named = forwarded_for.rev().flat_map(|field| field.rsplit(|byte| *byte == b','));
    let mut client = peer;
    for name in named {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = address_of(name) else { break };
        client = address;
    }
    client
}

/// An address, as some write it with its port.
fn address_of(name: &[u8]) -> Option<IpAddr> {
    let name = std::str::from_utf8(name).ok()?.trim_matches([' ', '\t']);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address = bare.parse().or_else(|_| name.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn same_head(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    let differing = a ^ b;
    // A shift by the whole width is not defined.
    differing.checked_shr(u32::from(width - prefix)).unwrap_or(0) == 0
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), |text| text.parse().map_err(|_| CidrError::Prefix))?;
        if prefix > width { Err(CidrError::Prefix) } else { Ok(Cidr { address, prefix }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_its_prefix_says() {
        for (block, address, expect) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "fd12::1", true),
        ] {
            let block: Cidr = block.parse().unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), expect, "{block:?} {address}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/x"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_client_is_the_last_one_named_that_is_not_trusted() {
        let trusted: Vec<Cidr> = ["10.0.0.0/8", "fd00::/8"].iter().map(|block| block.parse().unwrap()).collect();
        for (peer, fields, expect) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.9 ,\t10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6, 10.0.0.3, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.4, 10.0.0.2"], "10.0.0.4"),
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, evil, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.9,"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
        ] {
            let client = client_behind(peer.parse().unwrap(), fields.iter().map(|field| field.as_bytes()), &trusted);
            assert_eq!(client, expect.parse::<IpAddr>().unwrap(), "{peer} {fields:?}");
        }
    }
}
