//! `ls`: what is defined, and what of it runs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ::network::LinkSpec;
use anyhow::Result;
use runtime_spec::clock;
use runtime_spec::state::State;
use serde::Serialize;

use crate::args::LsArgs;
use crate::copied::Storage;
use crate::definition::{Definition, Restart};
use crate::links;
use crate::ops::network;
use crate::output::{self, tell};
use crate::places::Places;
use crate::quota::{self, Disk};
use crate::run::Manager;
use crate::runs::{Last, Run, state_word};

/// One container, as `ls --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row {
    /// The container's name.
    name: String,
    /// `stopped`, `created`, `running`, `paused`, or `restarting`: it has ended, and waits to be started again.
    state: &'static str,
    /// Its first process as the host numbers it; null when it has none.
    pid: Option<u32>,
    /// Its addresses.
    ipv4: Vec<String>,
    /// Its addresses.
    ipv6: Vec<String>,
    /// `none`, `host`, the name of a network or `cni:NAME`.
    network: String,
    /// Its links besides.
    links: Vec<LinkSpec>,
    /// `host`, a path, or `image:NAME` or `template:NAME`.
    from: String,
    /// Program and arguments.
    command: Vec<String>,
    /// When it was defined, RFC 3339.
    created: String,
    /// When it was started, RFC 3339; null when it does not run.
    started: Option<String>,
    /// What happens when it ends by itself.
    restart: Restart,
    /// How often that happened since somebody asked for a start.
    restarts: u32,
    /// How its last run ended; null when it has had none.
    last: Option<Last>,
    /// The configuration of LXC that it comes from; null where it comes from none.
    lxc_config: Option<String>,
    /// `overlay` or `copy`.
    storage: Storage,
    /// Bytes that its changes may take on disk and do take; null without --disk-size.
    disk: Option<Disk>,
}

/// Prints the list. A definition that cannot be read is told.
///
/// # Errors
/// What the runtime says.
pub fn list(manager: &Manager, args: &LsArgs) -> Result<()> {
    let states = manager.runtime.list()?;
    let states: BTreeMap<&str, &State> = states.iter().map(|state| (state.id.as_str(), state)).collect();
    let addresses = network::addresses(&manager.places)?;
    let mut rows = Vec::new();
    for name in Definition::names(&manager.places)? {
        // It may have been destroyed in between.
        let definition = match Definition::read(&manager.places, &name) {
            Ok(Some(definition)) => definition,
            Ok(None) => continue,
            Err(error) => {
                tell(&format!("warning: container {name:?} is not listed: {error:#}"));
                continue;
            }
        };
        let addresses = addresses.get(&name).map(Vec::as_slice).unwrap_or_default();
        let (run, last) = (Run::read(&manager.places, &name)?, Last::read(&manager.places, &name)?);
        let mut row = row(&definition, states.get(name.as_str()).copied(), addresses, run.as_ref(), last);
        if let Some(limit) = definition.limits.disk {
            row.disk = read_disk(&manager.places, &name, limit)?;
        }
        if args.filter.iter().all(|(field, value)| field_of(&row, field) == value) {
            rows.push(row);
        }
    }
    if args.quiet {
        return output::write(&rows.iter().map(|row| format!("{}\n", row.name)).collect::<String>());
    }
    output::print(args.printed.format(), &rows, || table(&rows))
}

/// What a container takes on disk; nothing for one that is gone by now.
fn read_disk(places: &Places, name: &str, limit: u64) -> Result<Option<Disk>> {
    let folder = places.container(name);
    match quota::read(&folder, limit) {
        Err(_) if !folder.exists() => Ok(None),
        other => other,
    }
}

fn row(
    definition: &Definition,
    state: Option<&State>,
    addresses: &[IpAddr],
    run: Option<&Run>,
    last: Option<Last>,
) -> Row {
    let alive = state.filter(|state| state.status.is_alive());
    let addresses: Vec<IpAddr> = addresses.iter().copied().chain(links::addresses(&definition.links)).collect();
    Row {
        name: definition.name.clone(),
        state: state_word(alive, run),
        pid: alive.and_then(|state| state.pid),
        ipv4: addresses.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect(),
        ipv6: addresses.iter().filter(|ip| ip.is_ipv6()).map(ToString::to_string).collect(),
        network: definition.network.render(),
        links: definition.links.clone(),
        from: definition.from.render(),
        command: definition.process.args.clone(),
        created: clock::render_seconds(Duration::from_secs(definition.created)),
        started: alive.and_then(|state| state.created.clone()),
        restart: definition.restart,
        restarts: run.map_or(0, |run| run.restarts),
        last,
        lxc_config: definition.lxc.as_ref().map(|kept| kept.file.clone()),
        storage: definition.storage,
        disk: None,
    }
}

fn field_of<'a>(row: &'a Row, field: &str) -> &'a str {
    match field {
        "name" => &row.name,
        "state" => row.state,
        "from" => &row.from,
        _ => &row.network,
    }
}

fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let header = ["NAME", "STATE", "PID", "IPV4", "IPV6", "FROM", "COMMAND"].map(str::to_owned).to_vec();
    let cells = |row: &Row| {
        vec![
            row.name.clone(),
            row.state.to_owned(),
            row.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            row.ipv4.join(","),
            row.ipv6.join(","),
            row.from.clone(),
            row.command.join(" "),
        ]
    };
    std::iter::once(header).chain(rows.iter().map(cells)).collect()
}
