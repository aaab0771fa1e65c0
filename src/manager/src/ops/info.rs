//! `info`: all that is known of a container: what it is, what it uses, how it last ended.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use runtime_spec::clock;
use runtime_spec::state::State;
use runtime_spec::stats::{Usage, parse_usage};
use serde::Serialize;

use crate::args_running::InfoArgs;
use crate::cgroup_file::Groups;
use crate::definition::{Autostart, Definition, Limits, Network, Restart};
use crate::monitor;
use crate::ops::{list, network};
use crate::output::{self, Format};
use crate::places::now;
use crate::quota::{self, Disk};
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
    /// Those of its definition and of its networks, and those that it has now.
    ipv4: Vec<String>,
    ipv6: Vec<String>,
    /// Ports of the host that lead to it.
    ports: Vec<String>,
    /// Links inside with what has passed them.
    links: Vec<Link>,
    limits: Limits,
    /// What it uses now; null when it does not run.
    usage: Option<Usage>,
    /// Space on disk; null where it has no limit.
    disk: Option<Disk>,
    /// How often its limits were in the way.
    held: Held,
    /// Its group: in cgroup v2, else in the hierarchy that says most; null when it does not run.
    cgroup: Option<String>,
    /// First id of its user namespace on the host, and how many.
    ids: Option<(u32, u32)>,
    restart: Restart,
    restarts: u32,
    /// `running`; `gone` when it has died; null where none belongs.
    monitor: Option<&'static str>,
    /// How it begins with the machine; null where it does not.
    autostart: Option<Autostart>,
    created: String,
    started: Option<String>,
    /// Seconds since then.
    uptime: Option<u64>,
    last: Option<Last>,
    /// Its folder, with the log and the definition.
    folder: String,
}

impl Info {
    /// Its first process; `None` where it does not run.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }
}

/// How often the limits of a container were in the way since it was started; null is what nobody counts.
#[derive(Debug, Default, Serialize)]
struct Held {
    /// Nanoseconds for which it waited for its processor time.
    cpu: Option<u64>,
    /// Processes that were killed for want of memory.
    memory: Option<u64>,
    /// Processes that it could not make.
    pids: Option<u64>,
}

/// A link inside a container.
#[derive(Debug, Serialize)]
struct Link {
    name: String,
    /// With their prefix lengths, those of the link alone included.
    addresses: Vec<String>,
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
    let (links, seen) = match (&definition.network, &state) {
        (Network::Host, _) | (_, None) => Default::default(),
        (_, Some(state)) => links(state)?,
    };
    let mut addresses = network::addresses(places)?.remove(name).unwrap_or_default();
    addresses.extend(crate::links::addresses(&definition.links));
    addresses.extend(seen.into_iter().filter(|seen| !addresses.contains(seen)).collect::<Vec<_>>());
    let text =
        |keep: fn(&IpAddr) -> bool| addresses.iter().filter(|address| keep(address)).map(ToString::to_string).collect();
    let pid = state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0);
    // It may have ended by now.
    let groups = pid.and_then(|pid| Groups::read(places, name, pid).ok());
    let watched = match (&run, &state) {
        (Some(run), Some(_)) if definition.monitor => {
            Some(if monitor::is_there(&run.folder(places, name))? { "running" } else { "gone" })
        }
        _ => None,
    };
    Ok(Info {
        name: name.to_owned(),
        state: state_word(state.as_ref(), run.as_ref()),
        pid,
        from: definition.from.render(),
        command: definition.process.args.clone(),
        hostname: definition.hostname.clone(),
        network: definition.network.render(),
        ipv4: text(IpAddr::is_ipv4),
        ipv6: text(IpAddr::is_ipv6),
        ports: definition.publish.clone(),
        links,
        limits: definition.limits,
        usage: match &state {
            Some(_) => manager.runtime.stats(name)?.map(|stats| parse_usage(&stats)),
            None => None,
        },
        disk: match definition.limits.disk {
            Some(limit) => quota::read(&places.container(name), limit)?,
            None => None,
        },
        held: groups.as_ref().map(read_held).unwrap_or_default(),
        cgroup: groups.as_ref().map(|groups| groups.own_path().to_owned()),
        ids: definition.ids,
        restart: definition.restart,
        restarts: run.as_ref().map_or(0, |run| run.restarts),
        monitor: watched,
        autostart: definition.autostart.clone(),
        created: clock::render_seconds(Duration::from_secs(definition.created)),
        started: state.as_ref().and_then(|state| state.created.clone()),
        uptime: state.as_ref().and_then(|state| list::uptime(state, now())),
        last,
        folder: places.container(name).display().to_string(),
    })
}

/// Looks at what its limits have kept from it. Files that there are not on this host say nothing.
fn read_held(groups: &Groups) -> Held {
    let of = |file: Option<String>, key: &str| parse_field(&file?, key);
    let cpu = groups.read_file("cpu.stat");
    let throttled = of(cpu.clone(), "throttled_usec").map(|micros| micros * 1000);
    Held {
        cpu: throttled.or_else(|| of(cpu, "throttled_time")),
        memory: of(groups.read_file("memory.events"), "oom_kill")
            .or_else(|| of(groups.read_file("memory.oom_control"), "oom_kill")),
        pids: of(groups.read_file("pids.events"), "max"),
    }
}

/// The number behind a name, at the beginning of a line.
fn parse_field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// What has passed the links inside with their addresses, and which of these others can reach; none where it has ended in between.
fn links(state: &State) -> Result<(Vec<Link>, Vec<IpAddr>)> {
    let Some(pid) = state.pid else { return Ok(Default::default()) };
    let Ok(namespace) = File::open(format!("/proc/{pid}/ns/net")) else { return Ok(Default::default()) };
    let counted = ::network::counters(Some(namespace.as_fd())).context("cannot count what its links passed")?;
    let listed = ::network::list_addresses(Some(namespace.as_fd())).context("cannot list its addresses")?;
    let addresses = |name: &str| {
        let of_link = listed.iter().filter(|(link, _)| link.name == name).flat_map(|(_, addresses)| addresses);
        of_link.map(|address| address.prefix.to_string()).collect()
    };
    let links = counted.into_iter().map(|(name, counters)| Link {
        addresses: addresses(&name),
        name,
        rx_bytes: counters.rx_bytes,
        tx_bytes: counters.tx_bytes,
        rx_packets: counters.rx_packets,
        tx_packets: counters.tx_packets,
    });
    Ok((links.collect(), crate::links::reachable(&listed).collect()))
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
    let since = info.started.as_ref().zip(info.uptime);
    let since = since.map(|(started, uptime)| format!(" since {started}, {}", list::render_uptime(uptime)));
    add("State", format!("{}{}", info.state, since.unwrap_or_default()));
    add("PID", info.pid.map(|pid| pid.to_string()).unwrap_or_default());
    add("From", info.from.clone());
    add("Command", info.command.join(" "));
    add("Hostname", if info.hostname == info.name { String::new() } else { info.hostname.clone() });
    add("Network", info.network.clone());
    for address in info.ipv4.iter().chain(&info.ipv6) {
        add("IP", address.clone());
    }
    add("Ports", info.ports.join(" "));
    use_rows(info, &mut add);
    for link in &info.links {
        add("Link", format!("{} {}", link.name, link.addresses.join(" ")).trim_end().to_owned());
        add("  received", format!("{} in {} packets", render_size(link.rx_bytes), link.rx_packets));
        add("  sent", format!("{} in {} packets", render_size(link.tx_bytes), link.tx_packets));
    }
    add("Ids", info.ids.map(|(first, count)| format!("{first}:{count}")).unwrap_or_default());
    add("Restarts", if info.restarts > 0 { info.restarts.to_string() } else { String::new() });
    add("Monitor", info.monitor.unwrap_or_default().to_owned());
    add("Autostart", info.autostart.as_ref().map(render_autostart).unwrap_or_default());
    add("Cgroup", info.cgroup.clone().unwrap_or_default());
    add("Created", info.created.clone());
    add("Last run", info.last.as_ref().map(Last::render).unwrap_or_default());
    add("Folder", info.folder.clone());
    rows
}

/// What it uses, of what it may use, and how often that was not enough.
fn use_rows(info: &Info, add: &mut impl FnMut(&str, String)) {
    #[allow(clippy::cast_precision_loss)] // For people.
    let percent = |used: u64, limit: u64| 100.0 * used as f64 / limit.max(1) as f64;
    let of = |used: Option<u64>, limit: Option<u64>| match (used, limit) {
        (Some(used), Some(limit)) => {
            format!("{} of {} ({:.0} %)", render_size(used), render_size(limit), percent(used, limit))
        }
        (Some(used), None) => render_size(used),
        (None, _) => String::new(),
    };
    #[allow(clippy::cast_precision_loss)] // For people: hundredths of a second.
    let seconds = |ns: u64| format!("{:.2} s", ns as f64 / 1e9);
    let held = |count: Option<u64>, text: &dyn Fn(u64) -> String| match count {
        Some(count) if count > 0 => format!(", {}", text(count)),
        _ => String::new(),
    };
    if let Some(usage) = &info.usage {
        let limit = info.limits.millicpus.map(|millis| format!(", limit {}.{:03}", millis / 1000, millis % 1000));
        let waited = held(info.held.cpu, &|ns| format!("waited {} for its quota", seconds(ns)));
        let cpu = usage.cpu.map(|ns| format!("{}{}{waited}", seconds(ns), limit.unwrap_or_default()));
        add("CPU use", cpu.unwrap_or_default());
        let killed = held(info.held.memory, &|count| format!("{count} killed for want of it"));
        let memory = usage.memory.map(|used| of(Some(used), info.limits.memory) + &killed);
        add("Memory use", memory.unwrap_or_default());
        add("Memory peak", of(usage.memory_peak, None));
        add("Kernel memory", of(usage.kernel_memory, None));
        add("Swap", usage.swap.filter(|swap| *swap > 0).map(render_size).unwrap_or_default());
        let refused = held(info.held.pids, &|count| format!("{count} refused"));
        let pids = usage.pids.map(|pids| match info.limits.pids {
            Some(limit) => format!("{pids} of {limit} ({:.0} %){refused}", percent(pids, limit.unsigned_abs())),
            None => pids.to_string(),
        });
        add("Tasks", pids.unwrap_or_default());
        add("Block I/O", of(usage.io, None));
    }
    if info.usage.is_none() {
        let Limits { memory, millicpus, pids, .. } = info.limits;
        let processors = millicpus.map(|millis| format!("{}.{:03} processors", millis / 1000, millis % 1000));
        let limits = [
            memory.map(|bytes| format!("{} of memory", render_size(bytes))),
            processors,
            pids.map(|pids| format!("{pids} tasks")),
        ];
        add("Limits", limits.into_iter().flatten().collect::<Vec<_>>().join(", "));
    }
    add("Disk use", info.disk.map(|disk| of(Some(disk.used), Some(disk.limit))).unwrap_or_default());
}

fn render_autostart(autostart: &Autostart) -> String {
    let list = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!(", {what} {}", names.join(" ")),
    };
    format!("yes, order {}{}{}", autostart.order, list("after", &autostart.after), list("groups", &autostart.groups))
}
