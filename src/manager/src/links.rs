//! Links of a defined container: what `--link` says, and whether all of it goes together. Parsing is pure.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use network::{Link, LinkAddress, LinkKind, LinkSpec, parse_link};

use crate::definition::Network;

/// Name of the link that a network gives.
pub const FIRST: &str = "eth0";

/// The addresses that others can reach which a process's network namespace has now, whoever gave them; none where the process
/// has ended.
///
/// # Errors
/// What the kernel says.
pub fn read_addresses(pid: u32) -> Result<Vec<IpAddr>> {
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { return Ok(Vec::new()) };
    let all = network::list_addresses(Some(namespace.as_fd())).context("cannot list the addresses of a container")?;
    Ok(reachable(&all).collect())
}

/// Of listed links the addresses that others can reach.
pub fn reachable(listed: &[(Link, Vec<LinkAddress>)]) -> impl Iterator<Item = IpAddr> + '_ {
    listed.iter().flat_map(|(_, addresses)| addresses).map(|address| address.prefix.ip).filter(|ip| !is_local(*ip))
}

fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// Reads the links of a container. One without a name gets the first of `eth0`, `eth1` and so on that is free.
///
/// # Errors
/// What is wrong with a text; two of one name, two default routes of one family, one device twice; links beside the
/// host's own network.
pub fn parse_links(texts: &[String], network: &Network) -> Result<Vec<LinkSpec>> {
    if *network == Network::Host && !texts.is_empty() {
        bail!("--link needs a network of the container's own: --network host has the host's links");
    }
    let mut links = Vec::new();
    for text in texts {
        let spec = parse_link(text).with_context(|| format!("--link {text}"))?;
        let named = text.split([',', ':']).any(|part| part.starts_with("name="));
        links.push((named, spec));
    }
    let mut taken: Vec<String> = links.iter().filter(|(named, _)| *named).map(|(_, spec)| spec.name.clone()).collect();
    if matches!(network, Network::Managed { .. } | Network::Cni { .. }) {
        taken.push(FIRST.to_owned());
    }
    for (_, spec) in links.iter_mut().filter(|(named, _)| !named) {
        let free = (0..).map(|number| format!("eth{number}")).find(|name| !taken.contains(name));
        spec.name = free.context("no name is left for a link")?;
        taken.push(spec.name.clone());
    }
    taken.sort_unstable();
    if let Some(pair) = taken.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("two links are called {:?} inside: give one another name=", pair[0]);
    }
    let links: Vec<LinkSpec> = links.into_iter().map(|(_, spec)| spec).collect();
    validate(&links)?;
    Ok(links)
}

fn validate(links: &[LinkSpec]) -> Result<()> {
    for (position, link) in links.iter().enumerate() {
        let before = &links[..position];
        for gateway in &link.gateways {
            if before.iter().flat_map(|other| &other.gateways).any(|ip| ip.is_ipv4() == gateway.is_ipv4()) {
                bail!("gateway {gateway} of link {:?}: another link has a default route of this family", link.name);
            }
        }
        if let Some(address) = link
            .addresses
            .iter()
            .find(|address| before.iter().flat_map(|other| &other.addresses).any(|other| other.ip == address.ip))
        {
            bail!("address {} is given to two links", address.ip);
        }
        if let LinkKind::Phys { device } = &link.link
            && before.iter().any(|other| matches!(&other.link, LinkKind::Phys { device: other } if other == device))
        {
            bail!("device {device:?} is given to two links");
        }
    }
    Ok(())
}

/// Addresses that links have from the definition.
pub fn addresses(links: &[LinkSpec]) -> impl Iterator<Item = IpAddr> + '_ {
    links.iter().flat_map(|link| &link.addresses).map(|address| address.ip)
}

/// Takes away the links that only one container can have: with addresses, a device or a name of the host. Returns their
/// names.
pub fn take_own(links: &mut Vec<LinkSpec>) -> Vec<String> {
    let is_own = |link: &LinkSpec| {
        let of_host = match &link.link {
            LinkKind::Veth(veth) => veth.host_name.is_some() || !veth.host_addresses.is_empty(),
            LinkKind::Phys { .. } => true,
            _ => false,
        };
        of_host || !link.addresses.is_empty() || link.mac.is_some()
    };
    let (own, shared): (Vec<LinkSpec>, Vec<LinkSpec>) = std::mem::take(links).into_iter().partition(is_own);
    *links = shared;
    own.into_iter().map(|link| link.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed() -> Network {
        Network::Managed { name: "web".to_owned(), addresses: Vec::new(), rates: crate::definition::Rates::default() }
    }

    fn names(texts: &[&str], network: &Network) -> Result<Vec<String>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let links = parse_links(&texts, network).map_err(|error| format!("{error:#}"))?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }

    #[test]
    fn links_without_a_name_get_one_that_is_free() {
        let three = ["veth:bridge=br0", "macvlan:parent=lan,name=eth1", "phys:device=eth9"];
        assert_eq!(names(&three, &Network::None).unwrap(), ["eth0", "eth1", "eth2"]);
        assert_eq!(names(&three, &managed()).unwrap(), ["eth2", "eth1", "eth3"]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let check = |texts: &[&str], network: &Network, expected: &str| {
            let said = names(texts, network).unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        check(&["veth:name=eth0"], &managed(), "two links are called \"eth0\"");
        check(&["veth:name=a", "veth:name=a"], &Network::None, "two links");
        check(&["veth"], &Network::Host, "--network host");
        check(&["tunnel:x=y"], &Network::None, "unknown kind");
        check(&["phys:device=a", "phys:device=a"], &Network::None, "given to two links");
        check(&["veth:address=10.0.0.2/24", "veth:address=10.0.0.2/16"], &Network::None, "given to two links");
        let routed = |third: u8| format!("veth:address=10.0.{third}.2/24,gateway=10.0.{third}.1");
        check(&[&routed(0), &routed(1)], &Network::None, "default route");
    }

    #[test]
    fn a_copy_keeps_links_that_both_can_have() {
        let texts = ["veth:bridge=br0", "veth:bridge=br0,address=10.0.0.2/24", "phys:device=a", "macvlan:parent=lan"];
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let mut links = parse_links(&texts, &Network::None).unwrap();
        assert_eq!(take_own(&mut links), ["eth1", "eth2"]);
        assert_eq!(links.len(), 2);
    }
}
