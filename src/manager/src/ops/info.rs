//! `info`: all that is known of a container: what it is, what it uses, how it last ended.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use runtime_spec::clock;
use runtime_spec::state::State;
use runtime_spec::stats::{Usage, parse_usage};
use serde::Serialize;

use crate::args_running::InfoArgs;
use crate::definition::{Definition, Limits, Network, Restart};
use crate::monitor;
use crate::ops::network;
use crate::output::{self, Format};
use crate::run::Manager;
use crate::runs::{Last, Run, state_word};
use crate::size::render_size;

/// One container, as `info --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    name: String,
    /// As in `ls`.
    state: &'static str,
    /// Its first process as the host numbers it.
    pid: Option<u32>,
    from: String,
    command: Vec<String>,
    hostname: String,
    network: String,
    ipv4: Vec<String>,
    ipv6: Vec<String>,
    /// Links inside with what has passed them.
    links: Vec<Link>,
    limits: Limits,
    /// What it uses now; null when it does not run.
    usage: Option<Usage>,
    /// First id of its user namespace on the host, and how many.
    ids: Option<(u32, u32)>,
    restart: Restart,
    restarts: u32,
    /// `running`; `gone` when it has died; null where none belongs.
    monitor: Option<&'static str>,
    created: String,
    started: Option<String>,
    last: Option<Last>,
    /// Its folder, with the log and the definition.
    folder: String,
}

/// A link inside a container.
#[derive(Debug, Serialize)]
struct Link {
    name: String,
    rx_bytes: u64,
    tx_bytes: u64,
    rx_packets: u64,
    tx_packets: u64,
}

/// Prints it for each name.
///
/// # Errors
/// One is not defined; what the runtime or the kernel says.
pub fn info(manager: &Manager, args: &InfoArgs) -> Result<()> {
    let infos = args.names.iter().map(|name| read(manager, name)).collect::<Result<Vec<_>>>()?;
    if args.printed.format() != Format::Table {
        return match &infos[..] {
            [one] => output::print(args.printed.format(), one, Vec::new),
            all => output::print(args.printed.format(), &all, Vec::new),
        };
    }
    let texts: Vec<String> = infos.iter().map(|info| output::render_table(&rows(info))).collect();
    output::write(&texts.join("\n"))
}

/// All that is known of a container.
pub(super) fn read(manager: &Manager, name: &str) -> Result<Info> {
    let places = &manager.places;
    let definition = Definition::need(places, name)?;
    let state = manager.runtime.state(name)?.filter(|state| state.status.is_alive());
    let (run, last) = (Run::read(places, name)?, Last::read(places, name)?);
    let mut addresses = network::addresses(places)?.remove(name).unwrap_or_default();
    addresses.extend(crate::links::addresses(&definition.links));
    let text = |keep: fn(&std::net::IpAddr) -> bool| {
        addresses.iter().filter(|address| keep(address)).map(ToString::to_string).collect()
    };
    let watched = match (&run, &state) {
        (Some(run), Some(_)) if definition.monitor => {
            Some(if monitor::is_there(&run.folder(places, name))? { "running" } else { "gone" })
        }
        _ => None,
    };
    Ok(Info {
        name: name.to_owned(),
        state: state_word(state.as_ref(), run.as_ref()),
        pid: state.as_ref().and_then(|state| state.pid),
        from: definition.from.render(),
        command: definition.process.args.clone(),
        hostname: definition.hostname.clone(),
        network: definition.network.render(),
        ipv4: text(std::net::IpAddr::is_ipv4),
        ipv6: text(std::net::IpAddr::is_ipv6),
        links: match (&definition.network, &state) {
            (Network::Host, _) | (_, None) => Vec::new(),
            (_, Some(state)) => links(state)?,
        },
        limits: definition.limits,
        usage: match &state {
            Some(_) => manager.runtime.stats(name)?.map(|stats| parse_usage(&stats)),
            None => None,
        },
        ids: definition.ids,
        restart: definition.restart,
        restarts: run.as_ref().map_or(0, |run| run.restarts),
        monitor: watched,
        created: clock::render_seconds(Duration::from_secs(definition.created)),
        started: state.as_ref().and_then(|state| state.created.clone()),
        last,
        folder: places.container(name).display().to_string(),
    })
}

/// What has passed the links inside; none where it has ended in between.
fn links(state: &State) -> Result<Vec<Link>> {
    let Some(pid) = state.pid else { return Ok(Vec::new()) };
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { return Ok(Vec::new()) };
    let counted = ::network::counters(Some(namespace.as_fd())).context("cannot count what its links passed")?;
    Ok(counted
        .into_iter()
        .map(|(name, counters)| Link {
            name,
            rx_bytes: counters.rx_bytes,
            tx_bytes: counters.tx_bytes,
            rx_packets: counters.rx_packets,
            tx_packets: counters.tx_packets,
        })
        .collect())
}

/// The same for people.
pub(super) fn rows(info: &Info) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |key: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![format!("{key}:"), value]);
        }
    };
    add("Name", info.name.clone());
    add("State", info.state.to_owned());
    add("PID", info.pid.map(|pid| pid.to_string()).unwrap_or_default());
    add("From", info.from.clone());
    add("Command", info.command.join(" "));
    add("Network", info.network.clone());
    for address in info.ipv4.iter().chain(&info.ipv6) {
        add("IP", address.clone());
    }
    if let Some(usage) = &info.usage {
        let of = |used: Option<u64>, limit: Option<u64>| match (used, limit) {
            (Some(used), Some(limit)) => format!("{} of {}", render_size(used), render_size(limit)),
            (Some(used), None) => render_size(used),
            (None, _) => String::new(),
        };
        #[allow(clippy::cast_precision_loss)] // For people: hundredths of a second.
        let seconds = |ns: u64| format!("{:.2} s", ns as f64 / 1e9);
        let limit = info.limits.millicpus.map(|millis| format!(", limit {}.{:03}", millis / 1000, millis % 1000));
        add("CPU use", usage.cpu.map(|ns| seconds(ns) + &limit.unwrap_or_default()).unwrap_or_default());
        add("Memory use", of(usage.memory, info.limits.memory));
        add("Memory peak", of(usage.memory_peak, None));
        add("Kernel memory", of(usage.kernel_memory, None));
        let pids = usage.pids.map(|pids| match info.limits.pids {
            Some(limit) => format!("{pids} of {limit}"),
            None => pids.to_string(),
        });
        add("Tasks", pids.unwrap_or_default());
        add("Block I/O", of(usage.io, None));
    }
    for link in &info.links {
        add("Link", link.name.clone());
        add("  received", format!("{} in {} packets", render_size(link.rx_bytes), link.rx_packets));
        add("  sent", format!("{} in {} packets", render_size(link.tx_bytes), link.tx_packets));
    }
    add("Ids", info.ids.map(|(first, count)| format!("{first}:{count}")).unwrap_or_default());
    add("Restarts", if info.restarts > 0 { info.restarts.to_string() } else { String::new() });
    add("Monitor", info.monitor.unwrap_or_default().to_owned());
    add("Created", info.created.clone());
    add("Started", info.started.clone().unwrap_or_default());
    add("Last run", info.last.as_ref().map(Last::render).unwrap_or_default());
    add("Folder", info.folder.clone());
    rows
}
