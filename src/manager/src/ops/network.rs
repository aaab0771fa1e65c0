//! `network`: managed networks, and what a container has of one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use network::managed::{self, Lease, NewNetwork, PortForward, Store, Subnet, Tools, Wanted};
use network::names::{render_hosts, render_resolv_conf};
use network::{Counters, LinkKind, LinkSpec, render_link};
use runtime_spec::state::State;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{NetworkArgs, NetworkVerb};
use crate::cni;
use crate::definition::{Definition, Network};
use crate::links;
use crate::output::{self, Format, tell};
use crate::places::{Places, Readers, find_program, is_content, read_or_empty, write_for_run};
use crate::run::Manager;
use crate::share;
use crate::size::render_size;

/// Name of a container's link in its network namespace.
const LINK: &str = links::FIRST;

/// Performs one verb.
///
/// # Errors
/// What the network library says.
pub fn network(manager: &Manager, verb: &NetworkVerb) -> Result<()> {
    let store = open(&manager.places)?;
    match verb {
        NetworkVerb::Create(args) => create(&store, args),
        NetworkVerb::List(printed) => list(&store, printed.format()),
        NetworkVerb::Show { name, printed } => show(manager, &store, name, printed.format()),
        NetworkVerb::Remove { names } => super::each(names, |name| {
            let exists = |container: &str| manager.places.container(container).exists();
            Ok(managed::remove(&store, &tools(), name, &exists)?)
        }),
    }
}

pub(crate) fn open(places: &Places) -> Result<Store> {
    Ok(Store::open(places.data.to_str().context("the path of the data folder is not text")?)?)
}

/// The programs for rules of the firewall.
pub(crate) fn tools() -> Tools {
    let [nft, iptables, ip6tables] = ["nft", "iptables", "ip6tables"].map(find_program);
    Tools { nft, iptables, ip6tables }
}

fn create(store: &Store, args: &NetworkArgs) -> Result<()> {
    let new = NewNetwork {
        bridge: args.bridge.clone(),
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        nat: !args.no_nat,
        mtu: args.mtu,
        isolate: !args.no_isolate,
        internal: args.internal,
        ..NewNetwork::new(&args.name)
    };
    let network = managed::create(store, &new).with_context(|| format!("cannot create network {:?}", args.name))?;
    output::write(&format!("{}\n", network.name))
}

/// One network, as `network list --format json` has it.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    bridge: String,
    subnets: Vec<Subnet>,
    nat: bool,
    isolate: bool,
    internal: bool,
    mtu: Option<u32>,
    containers: BTreeMap<String, Entry>,
}

/// What a container has of a network.
#[derive(Debug, Serialize)]
struct Entry {
    addresses: Vec<IpAddr>,
    ports: Vec<PortForward>,
    /// What has passed its link; null when it does not run.
    traffic: Option<Counters>,
}

/// What has passed the link of a process' network namespace, as the process sees it.
fn traffic(pid: u32) -> Result<Option<Counters>> {
    let namespace = match fs::File::open(format!("/proc/{pid}/ns/net")) {
        // It has ended in between.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot open the network namespace of process {pid}"))?,
    };
    let links = network::counters(Some(namespace.as_fd()))?;
    Ok(links.into_iter().find(|(name, _)| name == LINK).map(|(_, counters)| counters))
}

fn row(store: &Store, name: &str) -> Result<Row> {
    let (network, leases) = managed::read(store, name)?;
    let entry = |lease: Lease| {
        let addresses = lease.addresses.iter().map(|address| address.ip).collect();
        (lease.container, Entry { addresses, ports: lease.ports, traffic: None })
    };
    Ok(Row {
        name: network.name,
        bridge: network.bridge,
        subnets: network.subnets,
        nat: network.nat,
        isolate: network.isolate,
        internal: network.internal,
        mtu: network.mtu,
        containers: leases.leases.into_iter().map(entry).collect(),
    })
}

fn list(store: &Store, format: Format) -> Result<()> {
    let rows: Vec<Row> =
        managed::list(store)?.iter().map(|network| row(store, &network.name)).collect::<Result<_>>()?;
    output::print(format, &rows, || {
        let header = ["NAME", "BRIDGE", "SUBNETS", "NAT", "CONTAINERS"].map(str::to_owned).to_vec();
        let cells = |row: &Row| {
            let nat = if row.nat { "yes" } else { "no" };
            vec![row.name.clone(), row.bridge.clone(), subnets(row), nat.to_owned(), row.containers.len().to_string()]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}

fn subnets(row: &Row) -> String {
    row.subnets.iter().map(|subnet| subnet.subnet.to_string()).collect::<Vec<_>>().join(",")
}

fn show(manager: &Manager, store: &Store, name: &str, format: Format) -> Result<()> {
    let mut row = row(store, name)?;
    for state in manager.runtime.list()? {
        if let (Some(entry), Some(pid)) = (row.containers.get_mut(&state.id), state.pid.filter(|pid| *pid > 0)) {
            entry.traffic = traffic(pid)?;
        }
    }
    output::print(format, &row, || {
        let line = |key: &str, value: String| vec![format!("{key}:"), value];
        let yes = |on: bool| if on { "yes" } else { "no" }.to_owned();
        let gateways = row.subnets.iter().map(|subnet| subnet.gateway.to_string()).collect::<Vec<_>>().join(",");
        let mut rows = vec![
            line("name", row.name.clone()),
            line("bridge", row.bridge.clone()),
            line("subnets", subnets(&row)),
            line("gateways", gateways),
            line("nat", yes(row.nat)),
            line("isolated", yes(row.isolate)),
            line("internal", yes(row.internal)),
        ];
        for (container, entry) in &row.containers {
            let addresses = entry.addresses.iter().map(ToString::to_string);
            let ports = entry.ports.iter().map(ToString::to_string);
            let passed = entry
                .traffic
                .map(|passed| format!("in {} out {}", render_size(passed.rx_bytes), render_size(passed.tx_bytes)));
            rows.push(line(container, addresses.chain(ports).chain(passed).collect::<Vec<_>>().join(" ")));
        }
        rows
    })
}

/// Checks what a container that is being defined wants of a network.
///
/// # Errors
/// There is no such network, or an address or a port is none.
pub(super) fn check(manager: &Manager, definition: &Definition) -> Result<()> {
    share::check(definition)?;
    let (name, addresses) = match &definition.network {
        Network::Managed { name, addresses, .. } => (name, addresses),
        Network::Cni { .. } => return cni::check(definition),
        _ if definition.publish.is_empty() => return Ok(()),
        _ => bail!("--publish needs --network with a managed network, or one of CNI"),
    };
    cni::forwards(definition)?;
    parse_wanted(addresses)?;
    let (network, _) = managed::read(&open(&manager.places)?, name)?;
    let routed = |v6: bool| network.subnets.iter().any(|subnet| subnet.gateway.is_ipv6() == v6) && !network.internal;
    for link in &definition.links {
        if let Some(gateway) = link.gateways.iter().find(|gateway| routed(gateway.is_ipv6())) {
            bail!("gateway {gateway} of link {:?}: network {name:?} has the default route of this family", link.name);
        }
    }
    Ok(())
}

fn parse_wanted(addresses: &[String]) -> Result<Wanted> {
    let address = |text: &String| text.parse().with_context(|| format!("--ip {text:?} is no address"));
    Ok(Wanted { addresses: addresses.iter().map(address).collect::<Result<_>>()? })
}

/// Gives a container that is being defined its addresses.
///
/// # Errors
/// There is no such network, or no free address.
pub(crate) fn connect(manager: &Manager, definition: &Definition) -> Result<()> {
    if let Network::Managed { name, addresses, .. } = &definition.network {
        managed::lease(&open(&manager.places)?, name, &definition.name, &parse_wanted(addresses)?)?;
    }
    Ok(())
}

/// Leaves what a container has of networks to its new name.
///
/// # Errors
/// What the network library says.
pub(crate) fn rename(manager: &Manager, old: &str, new: &str) -> Result<()> {
    // What it had while it ran, where it ended by itself: the next start makes it under the new name.
    share::leave(manager, old)?;
    cni::undo(&manager.places, old)?;
    if has_networks(&manager.places) {
        managed::rename_lease(&open(&manager.places)?, old, new)?;
    }
    Ok(())
}

/// Takes back what a container of this name has of networks.
///
/// # Errors
/// What the network library says.
pub(crate) fn disconnect(manager: &Manager, name: &str) -> Result<()> {
    share::leave(manager, name)?;
    cni::undo(&manager.places, name)?;
    if has_networks(&manager.places) {
        managed::release(&open(&manager.places)?, &tools(), name)?;
    }
    Ok(())
}

/// Whether there ever was a network: opening the store makes its folder.
fn has_networks(places: &Places) -> bool {
    places.data.join("networks").is_dir()
}

/// Has the network of a container work, and renders the links that it gets at its start.
///
/// # Errors
/// What the network library says; a plugin that cannot take back what an earlier run left.
pub(super) fn raise(manager: &Manager, definition: &Definition) -> Result<Vec<String>> {
    cni::undo(&manager.places, &definition.name)?;
    let mut links: Vec<LinkSpec> = definition.links.clone();
    if let Network::Managed { name, addresses, rates } = &definition.network {
        let store = open(&manager.places)?;
        let network = managed::ensure(&store, &tools(), name)?;
        let lease = managed::lease(&store, name, &definition.name, &parse_wanted(addresses)?)?;
        managed::publish(&store, &tools(), name, &definition.name, &cni::forwards(definition)?)?;
        let mut link = managed::plan_link(&network, &lease, LINK);
        if let LinkKind::Veth(veth) = &mut link.link {
            (veth.egress, veth.ingress) = (rates.egress, rates.ingress);
        }
        links.insert(0, link);
    }
    share::join(manager, definition, &links)?;
    Ok(links.iter().map(render_link).collect())
}

/// Adds to the bundle what the network of a container needs: a hook, or the number of its sockets.
///
/// # Errors
/// Where this program is cannot be told.
pub(super) fn complete(manager: &Manager, definition: &Definition, config: &mut Value) -> Result<()> {
    share::complete(definition, config)?;
    if !matches!(definition.network, Network::Cni { .. }) && !share::needs_process(definition)? {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let hook = json!({
        "path": program,
        "args": ["skep-manager", "--data", manager.places.data, "connect", definition.name],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    });
    // Before those of a template, which may count on the network.
    match config["hooks"]["createRuntime"].as_array_mut() {
        Some(hooks) => hooks.insert(0, hook),
        None => config["hooks"]["createRuntime"] = json!([hook]),
    }
    Ok(())
}

/// `connect`, the hook: what the network of a container needs its first process for.
///
/// # Errors
/// The input is no state of a container; what a plugin or the kernel says.
pub fn connect_process(manager: &Manager, name: &str) -> Result<()> {
    let state: State = serde_json::from_reader(std::io::stdin()).context("cannot read the container's state")?;
    let pid = state.pid.filter(|pid| *pid > 0).context("the container has no process")?;
    let definition = Definition::need(&manager.places, name)?;
    cni::connect(manager, &definition, pid)?;
    share::join_process(manager, &definition, pid)?;
    write_files(manager, &definition, &manager.places.container(name))
}

/// Takes back what a start did, but for the addresses, which belong to the definition.
///
/// # Errors
/// What the network library says.
pub(super) fn lower(manager: &Manager, definition: &Definition) -> Result<()> {
    share::leave(manager, &definition.name)?;
    cni::undo(&manager.places, &definition.name)?;
    if matches!(definition.network, Network::Managed { .. }) && !definition.publish.is_empty() {
        managed::unpublish(&open(&manager.places)?, &tools(), &definition.name)?;
    }
    Ok(())
}

/// The addresses of every container that networks have given it.
///
/// # Errors
/// What the network library says.
pub(super) fn addresses(places: &Places) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let mut all = cni::addresses(places)?;
    if !has_networks(places) {
        return Ok(all);
    }
    let store = open(places)?;
    for network in managed::list(&store)? {
        for lease in managed::read(&store, &network.name)?.1.leases {
            all.entry(lease.container).or_default().extend(lease.addresses.iter().map(|address| address.ip));
        }
    }
    Ok(all)
}

/// Files that a container with a network gets from the host's: their names in the container's folder and their places.
pub(super) const FILES: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// Writes these files.
///
/// # Errors
/// What the kernel says.
pub(super) fn write_files(manager: &Manager, definition: &Definition, folder: &Path) -> Result<()> {
    let host = read_or_empty("/etc/resolv.conf")?;
    let upstream = read_or_empty("/run/systemd/resolve/resolv.conf")?;
    let servers = cni::name_servers(&manager.places, &definition.name)?;
    let resolv_conf = match definition.network {
        Network::Host => host,
        Network::Cni { .. } if !servers.is_empty() => servers.iter().map(|ip| format!("nameserver {ip}\n")).collect(),
        _ => render_resolv_conf(&host, Some(&upstream)),
    };
    let texts = [hosts(manager, definition)?, format!("{}\n", definition.hostname), resolv_conf];
    for ((name, _), text) in FILES.iter().zip(texts) {
        write_in_place(&folder.join(name), &text)?;
    }
    Ok(())
}

/// The text of a container's `/etc/hosts`.
fn hosts(manager: &Manager, definition: &Definition) -> Result<String> {
    let own = [definition.hostname.as_str()];
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut others = Vec::new();
    match &definition.network {
        Network::Managed { name, .. } => {
            let all = managed::read_names(&open(&manager.places)?, &[name])?;
            let (mine, neighbours): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| *name == definition.name);
            addresses.extend(mine.into_iter().flat_map(|(_, addresses)| addresses));
            others = neighbours;
        }
        Network::Cni { .. } => {
            addresses.extend(cni::addresses(&manager.places)?.remove(&definition.name).unwrap_or_default());
        }
        Network::None | Network::Host => {}
    }
    addresses.extend(links::addresses(&definition.links));
    Ok(render_hosts(&own, &addresses, &others))
}

/// Keeps the file that a running container has mounted: a new one under the name would be another.
fn write_in_place(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        // A file that is cut off and written again costs the file system more than all else here.
        if is_content(path, text.as_bytes()) {
            return Ok(());
        }
        return fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
    }
    write_for_run(path, text.as_bytes(), Readers::Everybody)
}

/// Tells the running neighbours of a container, by their `/etc/hosts`, who is in their network. One that cannot be told is
/// no reason for the container to fail: that is said.
pub(super) fn tell_neighbours(manager: &Manager, definition: &Definition) {
    let Network::Managed { name, .. } = &definition.network else { return };
    let neighbours = || -> Result<Vec<String>> {
        let names = managed::read_names(&open(&manager.places)?, &[name])?.into_iter().map(|(name, _)| name);
        let others: Vec<String> = names.filter(|name| *name != definition.name).collect();
        if others.is_empty() {
            return Ok(others);
        }
        let running = manager.runtime.list()?;
        let runs = |name: &String| running.iter().any(|state| state.id == *name && state.status.is_alive());
        Ok(others.into_iter().filter(runs).collect())
    };
    let tell_one = |name: &String| -> Result<()> {
        let path = manager.places.container(name).join(FILES[0].0);
        match Definition::read(&manager.places, name)? {
            Some(neighbour) if path.exists() => write_in_place(&path, &hosts(manager, &neighbour)?),
            _ => Ok(()),
        }
    };
    let told = neighbours().map(|names| {
        for neighbour in names {
            if let Err(error) = tell_one(&neighbour) {
                tell(&format!("warning: /etc/hosts of {neighbour:?} is not up to date: {error:#}"));
            }
        }
    });
    if let Err(error) = told {
        tell(&format!("warning: /etc/hosts in network {name:?} is not up to date: {error:#}"));
    }
}
