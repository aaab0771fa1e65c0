//! `autostart`: the containers that begin with the machine, in their order, each when those before it are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use runtime_spec::state::State;
use serde::Serialize;

use crate::args_running::AutostartArgs;
use crate::definition::{Autostart, Definition, Ready};
use crate::ops::{start, stop};
use crate::output::{self, tell};
use crate::run::Manager;

/// Between two looks whether a container is ready, which nobody tells.
const LOOK: Duration = Duration::from_millis(50);

/// Starts, stops or lists them.
///
/// # Errors
/// Definitions wait for each other in a circle; some could not be started, or were not ready in time.
pub fn autostart(manager: &Manager, args: &AutostartArgs) -> Result<()> {
    let mut all = BTreeMap::new();
    for name in Definition::names(&manager.places)? {
        match Definition::read(&manager.places, &name) {
            Ok(Some(Definition { autostart: Some(autostart), .. })) if is_chosen(&autostart, &args.group) => {
                all.insert(name, autostart);
            }
            Ok(_) => {}
            Err(error) => tell(&format!("warning: container {name:?} is left out: {error:#}")),
        }
    }
    let mut waves = plan_waves(&all).map_err(anyhow::Error::msg)?;
    if args.list {
        return print(args, &waves, &all);
    }
    if args.stop {
        waves.reverse();
    }
    let mut failed = 0;
    for wave in &waves {
        failed += perform(wave, |name| match args.stop {
            true => stop::stop(manager, name, args.time),
            false => begin(manager, name, &all[name]),
        });
    }
    if failed > 0 {
        bail!("{failed} of {} failed", all.len());
    }
    Ok(())
}

/// Whether it is in one of the groups; without any wanted, whatever groups it is in.
fn is_chosen(autostart: &Autostart, groups: &[String]) -> bool {
    groups.is_empty() || groups.iter().any(|group| autostart.groups.contains(group))
}

/// Puts containers into waves: each comes after those of a lower order, and after those that it names. A name that is not
/// among them is no reason to wait.
fn plan_waves(all: &BTreeMap<String, Autostart>) -> Result<Vec<Vec<String>>, String> {
    let mut left: BTreeSet<&String> = all.keys().collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let waits = |name: &String| {
            let own = &all[name];
            own.after.iter().any(|other| left.contains(other)) || left.iter().any(|other| all[*other].order < own.order)
        };
        let wave: Vec<String> = left.iter().filter(|name| !waits(name)).map(|name| (*name).clone()).collect();
        if wave.is_empty() {
            let names: Vec<&str> = left.iter().map(|name| name.as_str()).collect();
            return Err(format!("these wait for each other, by --after or --order: {}", names.join(", ")));
        }
        left.retain(|name| !wave.contains(name));
        waves.push(wave);
    }
    Ok(waves)
}

/// Does the same for all at once, as many at a time as is good. How many failed; each cause is told.
fn perform(names: &[String], work: impl Fn(&str) -> Result<()> + Sync) -> usize {
    let width = std::thread::available_parallelism().map_or(2, |cpus| cpus.get() * 2);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..width.min(names.len()) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if let Err(error) = work(name) {
                        tell(&format!("error: {error:#}"));
                        failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

/// Starts one, unless it runs, and waits until it is ready.
fn begin(manager: &Manager, name: &str, autostart: &Autostart) -> Result<()> {
    if !manager.runtime.is_alive(name)? {
        start::start(manager, name)?;
    }
    let Some(ready) = &autostart.ready else { return Ok(()) };
    let until = Instant::now() + Duration::from_secs(autostart.timeout);
    while !is_ready(manager, name, ready, until)? {
        if Instant::now() >= until {
            bail!("container {name:?} is not ready after {} s: {}", autostart.timeout, ready.render());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether a container does what it is there for.
///
/// # Errors
/// It does not run any more.
fn is_ready(manager: &Manager, name: &str, ready: &Ready, until: Instant) -> Result<bool> {
    match manager.runtime.state(name)?.filter(|state| state.status.is_alive()) {
        Some(state) => shows_ready(manager, &state, ready, until),
        None => bail!("container {name:?} ended before it was ready"),
    }
}

/// The same of one that ran a moment ago: if it has ended since, it is not ready.
///
/// # Errors
/// What the runtime says.
pub(super) fn shows_ready(manager: &Manager, state: &State, ready: &Ready, until: Instant) -> Result<bool> {
    match ready {
        Ready::Tcp(port) => Ok(state.pid.is_some_and(|pid| {
            // Its own view of its network: no connection is made, and it need not be reachable from here.
            ["tcp", "tcp6"].iter().any(|table| {
                fs::read_to_string(format!("/proc/{pid}/net/{table}")).is_ok_and(|table| listens(&table, *port))
            })
        })),
        Ready::Exec(command) => {
            let limit = until.saturating_duration_since(Instant::now());
            manager.runtime.succeeds("exec", &[&state.id, "/bin/sh", "-c", command], limit)
        }
    }
}

/// Whether a table of `/proc/net/tcp` (proc(5)) has a socket that listens on a port.
fn listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTEN)
    })
}

/// One container, as `autostart --list --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    /// Those with the same number are started at once.
    wave: usize,
    order: i32,
    after: &'a [String],
    groups: &'a [String],
    /// `exec:COMMAND` or `tcp:PORT`.
    ready: Option<String>,
}

fn print(args: &AutostartArgs, waves: &[Vec<String>], all: &BTreeMap<String, Autostart>) -> Result<()> {
    let rows: Vec<Row<'_>> = waves
        .iter()
        .enumerate()
        .flat_map(|(wave, names)| names.iter().map(move |name| (wave + 1, name)))
        .map(|(wave, name)| {
            let Autostart { order, after, groups, ready, .. } = &all[name];
            Row { name, wave, order: *order, after, groups, ready: ready.as_ref().map(Ready::render) }
        })
        .collect();
    output::print(args.printed.format(), &rows, || {
        let header = ["WAVE", "NAME", "ORDER", "AFTER", "GROUPS", "READY"].map(str::to_owned).to_vec();
        let cells = |row: &Row<'_>| {
            vec![
                row.wave.to_string(),
                row.name.to_owned(),
                row.order.to_string(),
                row.after.join(","),
                row.groups.join(","),
                row.ready.clone().unwrap_or_default(),
            ]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(entries: &[(&str, i32, &[&str])]) -> BTreeMap<String, Autostart> {
        let entry = |(name, order, after): &(&str, i32, &[&str])| {
            let after = after.iter().map(|name| (*name).to_owned()).collect();
            ((*name).to_owned(), Autostart { order: *order, after, ..Autostart::default() })
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn each_comes_after_what_it_needs() {
        let waves = |entries| plan_waves(&all(entries)).unwrap();
        let plan = waves(&[("web", 0, &["db", "cache"]), ("db", 0, &[]), ("cache", 0, &["db"]), ("log", 0, &["gone"])]);
        assert_eq!(plan, [vec!["db", "log"], vec!["cache"], vec!["web"]]);
        assert_eq!(waves(&[("a", 5, &[]), ("b", -1, &[]), ("c", 5, &[])]), [vec!["b"], vec!["a", "c"]]);
        assert!(waves(&[]).is_empty());
        let error = plan_waves(&all(&[("a", 0, &["b"]), ("b", 0, &["a"]), ("c", 0, &[])])).unwrap_err();
        assert!(error.ends_with("a, b"), "{error}");
        plan_waves(&all(&[("a", 1, &[]), ("b", 0, &["a"])])).unwrap_err();
    }

    #[test]
    fn listeners_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:1538 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:0050 0100007F:9999 01 00000000:00000000\n";
        assert!(listens(table, 5432) && !listens(table, 80) && !listens("", 1));
    }
}
