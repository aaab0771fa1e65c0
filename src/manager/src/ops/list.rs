//! `ls`: what is defined, and what of it runs.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ::network::LinkSpec;
use anyhow::{Context, Result};
use clap::ValueEnum;
use runtime_spec::clock;
use runtime_spec::state::{State, Usage};
use serde::Serialize;

use crate::args_list::{Column, LsArgs, LsFormat};
use crate::copied::Storage;
use crate::definition::{Definition, From, Restart};
use crate::links;
use crate::ops::network;
use crate::output::{self, tell};
use crate::places::{Places, now};
use crate::quota::{self, Disk};
use crate::run::Manager;
use crate::runs::{Last, Run, state_word};
use crate::screen::{self, Event, Plan};
use crate::size::render_size;

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
    /// `host`, a path, or `image:NAME` or `template:NAME`; the bundle of one that is not defined.
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
    /// Whether it is defined; one that is not has been made by an engine.
    defined: bool,
    /// Its template; null where it comes from something else.
    template: Option<String>,
    /// What it uses: processor time in nanoseconds, bytes of memory, tasks; null when it does not run.
    usage: Option<Usage>,
    /// Percent of one processor since the start, with --watch since the last time; null when it does not run.
    cpu_percent: Option<f64>,
    /// Seconds for which it has run; null when it does not.
    uptime: Option<u64>,
    /// Most bytes of memory; null where nothing is said.
    memory_limit: Option<u64>,
}

/// Prints the list, once or again and again. A definition that cannot be read is told.
///
/// # Errors
/// What the runtime says.
pub fn list(manager: &Manager, args: &LsArgs) -> Result<()> {
    let Some(seconds) = args.watch else {
        return output::write(&render(&read(manager, args, &mut None)?, args)?);
    };
    let pause = Duration::from_secs_f64(seconds);
    let (mut last, mut rows) = (None, Vec::new());
    let plan = Plan { plain: false, first: Duration::ZERO, pause, number: None };
    screen::show(plan, |event, lines| {
        match event {
            Event::Time => rows = read(manager, args, &mut last)?,
            Event::Key(_) => return Ok(None),
            Event::Resized => {}
        }
        let text = match args.format {
            // One document a line.
            LsFormat::Json if lines.is_none() => serde_json::to_string(&rows)? + "\n",
            _ => render(&rows, args)?,
        };
        let apart = if lines.is_none() && matches!(args.format, LsFormat::Table | LsFormat::Wide) { "\n" } else { "" };
        Ok(Some(text + apart))
    })
}

/// What was used at a moment before, by name: processor time in nanoseconds.
type Before = Option<(Instant, BTreeMap<String, u64>)>;

/// All rows that are wanted, in their order.
fn read(manager: &Manager, args: &LsArgs, before: &mut Before) -> Result<Vec<Row>> {
    let mut rows = if needs_usage(args) {
        all(manager, &manager.runtime.list_usage()?)?
    } else {
        all(manager, &manager.runtime.list()?)?
    };
    let at = Instant::now();
    for row in &mut rows {
        row.cpu_percent = share(row, before.as_ref(), at);
    }
    if args.watch.is_some() {
        let used = rows.iter().filter_map(|row| Some((row.name.clone(), row.usage?.cpu))).collect();
        *before = Some((at, used));
    }
    rows.retain(|row| args.filter.iter().all(|filter| filter.passes(&cell(row, filter.column, Form::Raw))));
    rows.sort_by(|a, b| {
        let by = compare(a, b, args.sort.column);
        if args.sort.down { by.reverse() } else { by }.then_with(|| a.name.cmp(&b.name))
    });
    Ok(rows)
}

/// Whether anything has to do with what containers use: it costs a look at each one's groups.
fn needs_usage(args: &LsArgs) -> bool {
    let used = |column: Column| matches!(column, Column::Cpu | Column::Mem | Column::Pids);
    let printed = !args.quiet && args.format != LsFormat::Name;
    let shown = args.columns.is_empty() || matches!(args.format, LsFormat::Json | LsFormat::Yaml);
    printed && (shown || args.columns.iter().copied().any(used))
        || used(args.sort.column)
        || args.filter.iter().any(|filter| used(filter.column))
}

/// Percent of one processor since the last look, else since the start; `None` for one that does not run.
fn share(row: &Row, before: Option<&(Instant, BTreeMap<String, u64>)>, at: Instant) -> Option<f64> {
    let used = row.usage?.cpu;
    let (spent, seconds) = match before.and_then(|(then, used)| Some((then, used.get(&row.name)?))) {
        Some((then, last)) => (used.saturating_sub(*last), at.duration_since(*then).as_secs_f64()),
        None => (used, row.uptime? as f64),
    };
    // One that was started within this second has run for most of one at most.
    let share = spent as f64 / 1e9 / seconds.max(1.0) * 100.0;
    Some((share * 10.0).round() / 10.0)
}

fn all(manager: &Manager, states: &[State]) -> Result<Vec<Row>> {
    let mut states: BTreeMap<&str, &State> = states.iter().map(|state| (state.id.as_str(), state)).collect();
    let addresses = network::addresses(&manager.places)?;
    let now = now();
    let mut rows = Vec::new();
    for name in Definition::names(&manager.places)? {
        let state = states.remove(name.as_str());
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
        let mut row = row(&definition, state, addresses, run.as_ref(), last, now);
        if let Some(limit) = definition.limits.disk {
            row.disk = read_disk(&manager.places, &name, limit)?;
        }
        // Nobody here has given it any: it may have asked another one, by DHCP for example.
        if let (Some(pid), false, true) =
            (row.pid, definition.links.is_empty(), row.ipv4.is_empty() && row.ipv6.is_empty())
        {
            let (ipv4, ipv6): (Vec<_>, Vec<_>) = links::read_addresses(pid)?.into_iter().partition(IpAddr::is_ipv4);
            [row.ipv4, row.ipv6] = [ipv4, ipv6].map(|ips| ips.iter().map(ToString::to_string).collect());
        }
        rows.push(row);
    }
    // What is left has no definition: engines have made it.
    rows.extend(states.into_values().map(|state| row_of_engine(state, now)));
    Ok(rows)
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
    now: u64,
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
        defined: true,
        template: match &definition.from {
            From::Template { name } => Some(name.clone()),
            _ => None,
        },
        usage: alive.and_then(|state| state.usage),
        cpu_percent: None,
        uptime: alive.and_then(|state| uptime(state, now)),
        memory_limit: definition.limits.memory,
    }
}

/// A container that an engine has made: what its state says.
fn row_of_engine(state: &State, now: u64) -> Row {
    let alive = Some(state).filter(|state| state.status.is_alive());
    Row {
        name: state.id.clone(),
        state: state.status.name(),
        pid: alive.and_then(|state| state.pid),
        ipv4: Vec::new(),
        ipv6: Vec::new(),
        network: String::new(),
        links: Vec::new(),
        from: state.bundle.clone(),
        command: Vec::new(),
        created: state.created.clone().unwrap_or_default(),
        started: alive.and_then(|state| state.created.clone()),
        restart: Restart::No,
        restarts: 0,
        last: None,
        lxc_config: None,
        storage: Storage::Overlay,
        disk: None,
        defined: false,
        template: None,
        usage: alive.and_then(|state| state.usage),
        cpu_percent: None,
        uptime: alive.and_then(|state| uptime(state, now)),
        memory_limit: None,
    }
}

pub(super) fn uptime(state: &State, now: u64) -> Option<u64> {
    clock::parse_seconds(state.created.as_deref()?).map(|begin| now.saturating_sub(begin))
}

/// How a cell is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For people.
    Shown,
    /// Bytes, seconds.
    Raw,
}

/// One cell; empty where there is nothing to say.
fn cell(row: &Row, column: Column, form: Form) -> String {
    let number = |value: Option<u64>, shown: fn(u64) -> String| match form {
        Form::Shown => value.map(shown).unwrap_or_default(),
        Form::Raw => value.map(|value| value.to_string()).unwrap_or_default(),
    };
    let usage = row.usage.as_ref();
    match column {
        Column::Name => row.name.clone(),
        Column::State => row.state.to_owned(),
        Column::Ipv4 => row.ipv4.join(","),
        Column::Ipv6 => row.ipv6.join(","),
        Column::Cpu => row.cpu_percent.map(|share| format!("{share:.1}")).unwrap_or_default(),
        Column::Mem => number(usage.map(|usage| usage.memory), render_size),
        Column::Pids => number(usage.map(|usage| usage.pids), |pids| pids.to_string()),
        Column::Uptime => number(row.uptime, render_uptime),
        Column::Template => row.template.clone().unwrap_or_default(),
        Column::Pid => row.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        Column::From => row.from.clone(),
        Column::Command => row.command.join(" "),
        Column::Network => row.network.clone(),
        Column::Restart => word(row.restart),
        Column::Restarts => row.restarts.to_string(),
        Column::Limit => number(row.memory_limit, render_size),
        Column::Created => row.created.clone(),
        Column::Links => row.links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(","),
        Column::Storage => word(row.storage),
        Column::Defined => row.defined.to_string(),
    }
}

fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// By number where there is one; what has nothing comes first.
fn compare(a: &Row, b: &Row, column: Column) -> Ordering {
    let addresses = |texts: &[String]| texts.first().and_then(|text| text.parse::<IpAddr>().ok());
    match column {
        Column::Cpu => a.cpu_percent.unwrap_or(-1.0).total_cmp(&b.cpu_percent.unwrap_or(-1.0)),
        Column::Mem => a.usage.map(|usage| usage.memory).cmp(&b.usage.map(|usage| usage.memory)),
        Column::Pids => a.usage.map(|usage| usage.pids).cmp(&b.usage.map(|usage| usage.pids)),
        Column::Uptime => a.uptime.cmp(&b.uptime),
        Column::Pid => a.pid.cmp(&b.pid),
        Column::Restarts => a.restarts.cmp(&b.restarts),
        Column::Limit => a.memory_limit.cmp(&b.memory_limit),
        Column::Ipv4 => addresses(&a.ipv4).cmp(&addresses(&b.ipv4)),
        Column::Ipv6 => addresses(&a.ipv6).cmp(&addresses(&b.ipv6)),
        other => cell(a, other, Form::Raw).cmp(&cell(b, other, Form::Raw)),
    }
}

fn render(rows: &[Row], args: &LsArgs) -> Result<String> {
    let format = if args.quiet { LsFormat::Name } else { args.format };
    let columns: Vec<Column> = match format {
        _ if !args.columns.is_empty() => args.columns.clone(),
        LsFormat::Wide => Column::USUAL.into_iter().chain(Column::WIDE).collect(),
        _ => Column::USUAL.to_vec(),
    };
    let cells = |form: Form| {
        let header = |column: &Column| match form {
            Form::Shown => column.name().to_uppercase(),
            Form::Raw => column.name(),
        };
        let header = columns.iter().map(header).collect();
        let row = |row: &Row| columns.iter().map(|column| cell(row, *column, form)).collect();
        std::iter::once(header).chain(rows.iter().map(row)).collect::<Vec<Vec<String>>>()
    };
    Ok(match format {
        LsFormat::Name => rows.iter().map(|row| format!("{}\n", row.name)).collect(),
        LsFormat::Json => serde_json::to_string_pretty(rows).context("cannot render JSON")? + "\n",
        LsFormat::Yaml => output::render_yaml(&serde_json::to_value(rows).context("cannot render YAML")?),
        LsFormat::Csv => output::render_csv(&cells(Form::Raw)),
        LsFormat::Table | LsFormat::Wide => output::render_table(&cells(Form::Shown)),
    })
}

/// Seconds with the two greatest units: `3d 4h`, `5m 12s`.
pub(super) fn render_uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cpu: u64, uptime: u64) -> Row {
        let state = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.3.0", "id": name, "pid": 1, "status": "running", "bundle": "/b",
            "created": "1970-01-01T00:00:00Z", "usage": { "cpu": cpu, "memoryPeak": 0, "memory": 1 << 20, "pids": 2 },
        }));
        row_of_engine(&state.unwrap(), uptime)
    }

    #[test]
    fn shares_are_of_the_time_since_the_start_or_the_last_look() {
        let a = row("a", 5_000_000_000, 10);
        assert_eq!(share(&a, None, Instant::now()), Some(50.0));
        let at = Instant::now();
        let before = (at, BTreeMap::from([("a".to_owned(), 4_000_000_000)]));
        assert_eq!(share(&a, Some(&before), at + Duration::from_secs(4)), Some(25.0));
        assert_eq!(share(&row("new", 1_000_000_000, 0), Some(&before), at), Some(100.0));
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let (a, b) = (row("a", 0, 9), row("b", 0, 10));
        assert_eq!(compare(&a, &b, Column::Uptime), Ordering::Less);
        assert_eq!(
            (cell(&b, Column::Mem, Form::Raw), cell(&b, Column::Mem, Form::Shown)),
            ("1048576".into(), "1.00 MiB".into())
        );
        for (seconds, text) in [(59, "59s"), (61, "1m 1s"), (7200, "2h 0m"), (90_000, "1d 1h")] {
            assert_eq!(render_uptime(seconds), text);
        }
    }
}
