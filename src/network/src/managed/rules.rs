//! The nftables rules of all networks as one text.
//!
//! ```text
//! table inet skep
//!   guard        before all   nobody but the host itself speaks to its 127.0.0.0/8
//!   forwarded    filter       replies and published ports pass; networks are kept apart; nobody outside reaches in
//!   prerouting   nat          ports of the host lead to containers, for who comes from outside or from a container
//!   local        nat          the same for the host's own programs, on 127.0.0.1 too
//!   outgoing     nat          masquerading; also where a container reaches its own network by a port of the host
//! ```
//! The whole table is replaced in one transaction: add, delete, add. Connections that exist are not touched by that.

use std::net::IpAddr;

use super::definition::Network;
use super::forward::PortForward;
use super::lease::Leases;

/// Bridges of docker, which lets whoever it has not heard of reach every port of its containers (until version 28).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Docker {
    /// Those that its rules name.
    pub bridges: Vec<String>,
    /// Other bridges of the host whose names begin as docker's do.
    pub spared: Vec<String>,
}

/// What the names begin with that docker makes for bridges of networks.
pub const DOCKER_PREFIX: &str = "br-";

/// Renders the transaction that puts all rules in place; without a network, the one that takes the table away.
/// `docker` is there where docker is.
///
/// nft 1.0.6 and later: a line for each statement, also behind closing braces.
#[must_use]
pub fn render_rules(table: &str, all: &[(Network, Leases)], docker: Option<&Docker>) -> String {
    let mut text = format!("table inet {table}\ndelete table inet {table}\n");
    if all.is_empty() {
        return text;
    }
    let networks: Vec<&Network> = all.iter().map(|(network, _)| network).collect();
    let forwards = collect_forwards(all);
    push(&mut text, 0, &format!("table inet {table} {{"));
    push(&mut text, 1, "set bridges {");
    push(&mut text, 2, "type ifname");
    let bridges: Vec<String> = networks.iter().map(|network| format!("{:?}", network.bridge)).collect();
    push(&mut text, 2, &format!("elements = {{ {} }}", bridges.join(", ")));
    push(&mut text, 1, "}");
    for map in &MAPS {
        render_map(&mut text, map, &forwards);
    }
    render_guard(&mut text);
    render_forwarded(&mut text, &networks, docker);
    render_lookups(&mut text, "prerouting", "dstnat", &forwards);
    render_lookups(&mut text, "output", "-100", &forwards);
    render_outgoing(&mut text, &networks);
    push(&mut text, 0, "}");
    text
}

fn push(text: &mut String, depth: usize, line: &str) {
    text.extend(std::iter::repeat_n('\t', depth));
    text.push_str(line);
    text.push('\n');
}

/// A map from ports of the host to containers.
struct Map {
    name: &'static str,
    v6: bool,
    /// Whether the host's address is part of the key.
    at: bool,
}

const MAPS: [Map; 4] = [
    Map { name: "published4", v6: false, at: false },
    Map { name: "published6", v6: true, at: false },
    Map { name: "published4_at", v6: false, at: true },
    Map { name: "published6_at", v6: true, at: true },
];

/// A forward with the address that it leads to.
struct Target<'a> {
    forward: &'a PortForward,
    to: IpAddr,
}

/// One entry for each family that a forward has.
fn collect_forwards(all: &[(Network, Leases)]) -> Vec<Target<'_>> {
    let mut targets = Vec::new();
    for lease in all.iter().flat_map(|(_, leases)| &leases.leases) {
        for forward in &lease.ports {
            let of_family = |ip: &IpAddr| forward.address.is_none_or(|host| host.is_ipv4() == ip.is_ipv4());
            let ips = lease.addresses.iter().map(|prefix| prefix.ip).filter(of_family);
            targets.extend(ips.map(|to| Target { forward, to }));
        }
    }
    targets
}

fn has(map: &Map, target: &Target<'_>) -> bool {
    target.to.is_ipv6() == map.v6 && target.forward.address.is_some() == map.at
}

fn render_map(text: &mut String, map: &Map, targets: &[Target<'_>]) {
    let family = if map.v6 { "ipv6_addr" } else { "ipv4_addr" };
    let key = if map.at { format!("{family} . ") } else { String::new() };
    let mut elements = Vec::new();
    for Target { forward, to } in targets.iter().filter(|target| has(map, target)) {
        let host = forward.address.map(|ip| format!("{ip} . ")).unwrap_or_default();
        for step in 0..forward.count {
            let (from, port) = (forward.host_port + step, forward.container_port + step);
            elements.push(format!("{host}{} . {from} : {to} . {port}", forward.protocol.name()));
        }
    }
    if elements.is_empty() {
        return;
    }
    push(text, 1, &format!("map {} {{", map.name));
    push(text, 2, &format!("type {key}inet_proto . inet_service : {family} . inet_service"));
    push(text, 2, &format!("elements = {{ {} }}", elements.join(", ")));
    push(text, 1, "}");
}

fn render_guard(text: &mut String) {
    push(text, 1, "chain guard {");
    push(text, 2, "type filter hook prerouting priority raw; policy accept;");
    // From the wire too: a port of 127.0.0.1 is translated before routing could refuse the address.
    push(text, 2, "iifname != \"lo\" ip daddr 127.0.0.0/8 drop");
    push(text, 2, "iifname @bridges ip saddr 127.0.0.0/8 drop");
    push(text, 1, "}");
}

fn render_forwarded(text: &mut String, networks: &[&Network], docker: Option<&Docker>) {
    push(text, 1, "chain forwarded {");
    push(text, 2, "type filter hook forward priority filter; policy accept;");
    let mut drop = |rule: String| push(text, 2, &format!("{rule} drop"));
    // Before what is accepted: a published port of another network is no way out either.
    for Network { bridge, .. } in networks.iter().filter(|network| network.internal) {
        drop(format!("iifname {bridge:?} oifname != {bridge:?}"));
        drop(format!("oifname {bridge:?} iifname != {bridge:?}"));
    }
    push(text, 2, "ct state established,related accept");
    push(text, 2, "ct status dnat accept");
    let mut drop = |rule: String| push(text, 2, &format!("{rule} drop"));
    for Network { bridge, isolate, nat, .. } in networks.iter().filter(|network| !network.internal) {
        if *isolate {
            drop(format!("iifname {bridge:?} oifname @bridges oifname != {bridge:?}"));
            drop(format!("oifname {bridge:?} iifname @bridges iifname != {bridge:?}"));
            // Published ports of docker's have passed above: they are translated.
            for other in docker.iter().flat_map(|docker| &docker.bridges) {
                drop(format!("iifname {bridge:?} oifname {other:?}"));
            }
            if let Some(Docker { spared, .. }) = docker {
                let names: Vec<String> = spared.iter().map(|name| format!("{name:?}")).collect();
                let but =
                    if names.is_empty() { String::new() } else { format!(" oifname != {{ {} }}", names.join(", ")) };
                // Also those that are made later.
                drop(format!("iifname {bridge:?} oifname \"{DOCKER_PREFIX}*\"{but}"));
            }
        }
        if *nat {
            drop(format!("oifname {bridge:?} iifname != @bridges"));
        }
    }
    push(text, 1, "}");
}

fn render_lookups(text: &mut String, hook: &str, priority: &str, targets: &[Target<'_>]) {
    let maps: Vec<&Map> = MAPS.iter().filter(|map| targets.iter().any(|target| has(map, target))).collect();
    if maps.is_empty() {
        return;
    }
    push(text, 1, &format!("chain {} {{", if hook == "output" { "local" } else { hook }));
    push(text, 2, &format!("type nat hook {hook} priority {priority}; policy accept;"));
    // What is published on one address wins over what is published on all: both may not have a port, but the order is
    // that of the narrower first all the same.
    for map in maps.iter().rev() {
        let (protocol, daddr) = if map.v6 { ("ip6", "ip6 daddr") } else { ("ip", "ip daddr") };
        let family = if map.v6 { "ipv6" } else { "ipv4" };
        let key = if map.at { format!("{daddr} . ") } else { String::new() };
        // From ::1 the kernel lets nothing out; without translation it is refused at once rather than lost.
        let not_loopback = if map.v6 && hook == "output" { "ip6 daddr != ::1 " } else { "" };
        let local = if map.at { "" } else { "fib daddr type local " };
        push(
            text,
            2,
            &format!(
                "meta nfproto {family} {not_loopback}{local}dnat {protocol} to {key}meta l4proto . th dport map @{}",
                map.name
            ),
        );
    }
    push(text, 1, "}");
}

fn render_outgoing(text: &mut String, networks: &[&Network]) {
    push(text, 1, "chain outgoing {");
    push(text, 2, "type nat hook postrouting priority srcnat; policy accept;");
    for network in networks {
        let name = &network.bridge;
        for subnet in &network.subnets {
            let (family, range) = (if subnet.gateway.is_ipv4() { "ip" } else { "ip6" }, subnet.subnet);
            // Else the answer would go straight to the neighbour, from an address that it did not ask.
            push(text, 2, &format!("oifname {name:?} {family} saddr {range} ct status dnat masquerade"));
            if network.nat && !network.internal {
                push(text, 2, &format!("oifname != @bridges oifname != \"lo\" {family} saddr {range} masquerade"));
            }
        }
        push(text, 2, &format!("oifname {name:?} ip saddr 127.0.0.0/8 masquerade"));
    }
    push(text, 1, "}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::{NewNetwork, Wanted, plan_lease, plan_network};

    fn network(name: &str, subnets: &[&str]) -> Network {
        let subnets = subnets.iter().map(|text| text.parse().unwrap()).collect();
        plan_network(&NewNetwork { subnets, ..NewNetwork::new(name) }, &[], &[]).unwrap()
    }

    fn with(network: Network, containers: &[(&str, &[&str])]) -> (Network, Leases) {
        let mut leases = Leases::default();
        for (container, ports) in containers {
            plan_lease(&network, &mut leases, container, &Wanted::default()).unwrap();
            let lease = leases.leases.last_mut().unwrap();
            lease.ports = ports.iter().map(|text| text.parse().unwrap()).collect();
        }
        (network, leases)
    }

    #[test]
    fn nothing_is_left_without_a_network() {
        assert_eq!(render_rules("skep", &[], None), "table inet skep\ndelete table inet skep\n");
    }

    #[test]
    fn two_networks_with_ports() {
        let lan = with(
            network("lan", &["10.90.0.0/24", "fd01::/64"]),
            &[("web", &["8080:80", "127.0.0.1:53-54:53-54/udp", "[fd09::1]:8081:81"]), ("db", &[])],
        );
        let dmz = with(Network { isolate: false, ..network("dmz", &["10.91.0.0/24"]) }, &[("mail", &["25:25"])]);
        assert_eq!(render_rules("skep", &[dmz, lan], None), include_str!("rules/two-networks.nft"));
    }

    #[test]
    fn a_port_of_loopback_is_out_of_reach_of_neighbours() {
        let text =
            render_rules("skep", &[with(network("lan", &["10.90.0.0/24"]), &[("web", &["127.0.0.1:80:80"])])], None);
        let guard = text.split("chain guard {").nth(1).unwrap().split('}').next().unwrap();
        assert!(guard.contains("priority raw;") && guard.contains("iifname != \"lo\" ip daddr 127.0.0.0/8 drop"));
    }

    #[test]
    fn containers_of_docker_are_reached_by_published_ports_alone() {
        let [lan, open] = ["lan", "open"]
            .map(|name| network(name, if name == "lan" { &["10.90.0.0/24"] } else { &["10.91.0.0/24"] }));
        let open = Network { isolate: false, ..open };
        let mut docker = Docker { bridges: vec!["docker0".into()], spared: Vec::new() };
        let rules =
            |docker: &Docker| render_rules("skep-1", &[with(lan.clone(), &[]), with(open.clone(), &[])], Some(docker));
        let text = rules(&docker);
        let of_docker: Vec<&str> =
            text.lines().filter(|line| line.contains("docker0") || line.contains("br-")).collect();
        assert_eq!(
            of_docker,
            ["\t\tiifname \"skep-lan\" oifname \"docker0\" drop", "\t\tiifname \"skep-lan\" oifname \"br-*\" drop"]
        );
        assert!(text.starts_with("table inet skep-1\n"));
        docker.spared = vec!["br-lan".into(), "br-wan".into()];
        assert!(rules(&docker).contains("oifname \"br-*\" oifname != { \"br-lan\", \"br-wan\" } drop"));
    }

    #[test]
    fn inside_alone_and_without_nat() {
        let inside = Network { internal: true, ..network("inside", &["10.92.0.0/24"]) };
        let plain = Network { nat: false, ..network("plain", &["10.93.0.0/24"]) };
        assert_eq!(
            render_rules("skep", &[with(inside, &[]), with(plain, &[])], None),
            include_str!("rules/inside-and-plain.nft")
        );
    }
}
