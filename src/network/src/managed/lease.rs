//! Who has which address of a network.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::definition::{Network, Subnet, is_usable, nth};
use super::forward::PortForward;
use crate::address::Prefix;

/// How many addresses are looked at for a free one: all of the largest range that is sensible, 10.0.0.0/8.
const LOOKED_AT: u64 = 1 << 24;

/// All leases of a network, as they are on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// In the order in which they were made.
    pub leases: Vec<Lease>,
    /// The addresses that were given last. The search goes on behind them, so that an address rests before it is another
    /// container's: connections to its last owner end meanwhile.
    #[serde(default)]
    pub last: Vec<IpAddr>,
}

/// What a container has of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The container.
    pub container: String,
    /// One address of each family, with the length of the subnet's prefix.
    pub addresses: Vec<Prefix>,
    /// Ports of the host that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortForward>,
}

/// Addresses that a container is to have; any free ones where none is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// It is another container's.
    #[error("address {address} belongs to container {by:?}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        by: String,
    },
    /// It is the host's.
    #[error("address {0} is the gateway's")]
    Gateway(IpAddr),
    /// It is in no subnet, or its first or last.
    #[error("address {0} is none that a container can have in the network's subnets")]
    Outside(IpAddr),
    /// Two of one family.
    #[error("two addresses of one family")]
    Family,
    /// All are taken.
    #[error("all addresses of {0} are taken")]
    Exhausted(Prefix),
}

/// Finds addresses for a container and enters them. One that has a lease keeps it, unless other addresses are wanted.
///
/// # Errors
/// [`LeaseError`]; nothing was entered then.
pub fn plan_lease(
    network: &Network,
    leases: &mut Leases,
    container: &str,
    wanted: &Wanted,
) -> Result<Lease, LeaseError> {
    let own = leases.leases.iter().position(|lease| lease.container == container);
    if let Some(lease) = own.map(|own| &leases.leases[own]) {
        let has = |ip: &IpAddr| lease.addresses.iter().any(|address| address.ip == *ip);
        if wanted.addresses.iter().all(has) {
            return Ok(lease.clone());
        }
    }
    let others = leases.leases.iter().filter(|lease| lease.container != container);
    let taken: HashSet<IpAddr> = others.flat_map(|lease| lease.addresses.iter().map(|address| address.ip)).collect();
    if let Some(outside) = wanted.addresses.iter().find(|ip| !network.subnets.iter().any(|s| s.subnet.contains(**ip))) {
        return Err(LeaseError::Outside(*outside));
    }
    let mut addresses = Vec::new();
    for subnet in &network.subnets {
        let mut of_family = wanted.addresses.iter().filter(|ip| subnet.subnet.contains(**ip));
        let ip = match (of_family.next(), of_family.next()) {
            (_, Some(_)) => return Err(LeaseError::Family),
            (Some(ip), None) => validate_wanted(subnet, *ip, leases, container)?,
            (None, None) => find_free(subnet, &taken, &leases.last)?,
        };
        addresses.push(Prefix { ip, length: subnet.subnet.length });
    }
    let lease = Lease { container: container.to_owned(), addresses, ports: Vec::new() };
    leases.last = lease.addresses.iter().map(|address| address.ip).collect();
    match own {
        Some(own) => leases.leases[own].addresses.clone_from(&lease.addresses),
        None => leases.leases.push(lease.clone()),
    }
    Ok(lease)
}

fn validate_wanted(subnet: &Subnet, ip: IpAddr, leases: &Leases, container: &str) -> Result<IpAddr, LeaseError> {
    if ip == subnet.gateway {
        return Err(LeaseError::Gateway(ip));
    }
    if !is_usable(subnet.subnet, ip) {
        return Err(LeaseError::Outside(ip));
    }
    let has = |lease: &&Lease| lease.container != container && lease.addresses.iter().any(|address| address.ip == ip);
    match leases.leases.iter().find(has) {
        Some(lease) => Err(LeaseError::Taken { address: ip, by: lease.container.clone() }),
        None => Ok(ip),
    }
}

/// The first free address behind the one that was given last, or from the beginning.
fn find_free(subnet: &Subnet, taken: &HashSet<IpAddr>, last: &[IpAddr]) -> Result<IpAddr, LeaseError> {
    let bits = if subnet.subnet.ip.is_ipv4() { 32 } else { 128 } - u32::from(subnet.subnet.length);
    let size = 1u64.checked_shl(bits).unwrap_or(LOOKED_AT).min(LOOKED_AT);
    let last = last.iter().find(|ip| subnet.subnet.contains(**ip));
    let start = last.map_or(0, |last| distance(subnet.subnet, *last).min(size - 1));
    (start + 1..size)
        .chain(1..=start)
        .map(|distance| nth(subnet.subnet, distance))
        .find(|ip| *ip != subnet.gateway && !taken.contains(ip) && is_usable(subnet.subnet, *ip))
        .ok_or(LeaseError::Exhausted(subnet.subnet))
}

fn distance(range: Prefix, ip: IpAddr) -> u64 {
    let distance = match (range.ip, ip) {
        (IpAddr::V4(first), IpAddr::V4(ip)) => u128::from(u32::from(ip) - u32::from(first)),
        (IpAddr::V6(first), IpAddr::V6(ip)) => u128::from(ip) - u128::from(first),
        _ => 0,
    };
    u64::try_from(distance).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::{NewNetwork, plan_network};

    fn network(subnets: &[&str]) -> Network {
        let subnets = subnets.iter().map(|text| text.parse().unwrap()).collect();
        plan_network(&NewNetwork { subnets, ..NewNetwork::new("lan") }, &[], &[]).unwrap()
    }

    fn take(network: &Network, leases: &mut Leases, container: &str, wanted: &[&str]) -> Result<String, LeaseError> {
        let wanted = Wanted { addresses: wanted.iter().map(|text| text.parse().unwrap()).collect() };
        let lease = plan_lease(network, leases, container, &wanted)?;
        Ok(lease.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn addresses_are_given_in_turn_and_reused_last() {
        let network = network(&["10.1.0.0/29", "fd01::/64"]);
        let mut leases = Leases::default();
        assert_eq!(take(&network, &mut leases, "a", &[]).unwrap(), "10.1.0.2/29 fd01::2/64");
        assert_eq!(take(&network, &mut leases, "b", &[]).unwrap(), "10.1.0.3/29 fd01::3/64");
        assert_eq!(take(&network, &mut leases, "a", &[]).unwrap(), "10.1.0.2/29 fd01::2/64");
        leases.leases.retain(|lease| lease.container != "a");
        assert_eq!(take(&network, &mut leases, "c", &[]).unwrap(), "10.1.0.4/29 fd01::4/64");
        take(&network, &mut leases, "d", &[]).unwrap();
        take(&network, &mut leases, "e", &[]).unwrap();
        assert_eq!(take(&network, &mut leases, "f", &[]).unwrap(), "10.1.0.2/29 fd01::7/64");
        let full = take(&network, &mut leases, "g", &[]);
        assert_eq!(full, Err(LeaseError::Exhausted("10.1.0.0/29".parse().unwrap())));
        assert_eq!(leases.leases.len(), 5);
    }

    #[test]
    fn wanted_addresses() {
        let network = network(&["10.1.0.0/24"]);
        let mut leases = Leases::default();
        assert_eq!(take(&network, &mut leases, "a", &["10.1.0.9"]).unwrap(), "10.1.0.9/24");
        assert_eq!(take(&network, &mut leases, "b", &[]).unwrap(), "10.1.0.10/24");
        let mut check = |wanted: &[&str], expected: &str| {
            assert_eq!(take(&network, &mut leases, "c", wanted).unwrap_err().to_string(), expected);
        };
        check(&["10.1.0.9"], r#"address 10.1.0.9 belongs to container "a""#);
        check(&["10.1.0.1"], "address 10.1.0.1 is the gateway's");
        check(&["10.1.0.255"], "address 10.1.0.255 is none that a container can have in the network's subnets");
        check(&["10.1.1.7"], "address 10.1.1.7 is none that a container can have in the network's subnets");
        check(&["fd00::1"], "address fd00::1 is none that a container can have in the network's subnets");
        check(&["10.1.0.20", "10.1.0.21"], "two addresses of one family");
        assert_eq!(take(&network, &mut leases, "a", &["10.1.0.30"]).unwrap(), "10.1.0.30/24");
        assert_eq!(take(&network, &mut leases, "c", &["10.1.0.9"]).unwrap(), "10.1.0.9/24");
    }

    proptest::proptest! {
        #[test]
        fn nobody_shares_an_address(moves in proptest::collection::vec((0u8..40, 0u8..3, 0u8..32), 0..200)) {
            let network = network(&["10.1.0.0/27"]);
            let mut leases = Leases::default();
            for (container, action, wanted) in moves {
                let container = container.to_string();
                match action {
                    0 => leases.leases.retain(|lease| lease.container != container),
                    1 => drop(take(&network, &mut leases, &container, &[])),
                    _ => drop(take(&network, &mut leases, &container, &[&format!("10.1.0.{wanted}")])),
                }
                let ips: Vec<_> = leases.leases.iter().flat_map(|lease| &lease.addresses).collect();
                let set: HashSet<_> = ips.iter().collect();
                assert_eq!(set.len(), ips.len());
                assert!(!ips.iter().any(|address| ["10.1.0.0/27", "10.1.0.1/27", "10.1.0.31/27"].contains(&address.to_string().as_str())));
            }
        }
    }
}
