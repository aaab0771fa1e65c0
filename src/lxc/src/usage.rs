//! What a running container uses, and its addresses.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use runtime_spec::stats::{Usage, parse_usage};

use crate::skep::Skep;

/// Asks what a container uses.
///
/// # Errors
/// What `skep` tells.
pub fn read(skep: &Skep, name: &str) -> Result<Usage> {
    let answer = skep.ok(&["events", "--stats", name])?;
    Ok(parse_usage(&serde_json::from_str(&answer).context("cannot read the answer of events")?))
}

/// Renders a number of bytes as LXC does: `572.00 KiB`.
#[must_use]
pub fn render_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => format!("{:.2} {unit}", bytes as f64 / f64::from(1_u32 << shift)),
        None => format!("{bytes} bytes"),
    }
}

/// A link of a container's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name inside.
    pub name: String,
    /// Its addresses that are not of the link alone.
    pub addresses: Vec<IpAddr>,
    /// Bytes that the container has received, and sent.
    pub bytes: (u64, u64),
}

/// The links of a container's network but loopback, by its first process.
///
/// # Errors
/// What the kernel says.
pub fn interfaces(pid: u32) -> Result<Vec<Interface>> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    let all = network::list_addresses(Some(namespace.as_fd()))?;
    let counters = network::counters(Some(namespace.as_fd()))?;
    let interface = |(link, addresses): (network::Link, Vec<network::LinkAddress>)| {
        let global = addresses.iter().map(|address| address.prefix.ip).filter(|ip| !is_local(*ip)).collect();
        let counted = counters.iter().find(|(name, _)| *name == link.name).map(|(_, counters)| counters);
        let bytes = counted.map_or((0, 0), |counters| (counters.rx_bytes, counters.tx_bytes));
        Interface { name: link.name, addresses: global, bytes }
    };
    Ok(all.into_iter().filter(|(link, _)| link.name != "lo").map(interface).collect())
}

fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        let cases = [(0, "0 bytes"), (1023, "1023 bytes"), (585_728, "572.00 KiB"), (3 << 30, "3.00 GiB")];
        for (bytes, expected) in cases {
            assert_eq!(render_bytes(bytes), expected);
        }
    }
}
