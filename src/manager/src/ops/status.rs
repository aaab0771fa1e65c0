//! `status NAME`: what a container does just now: its processes by group, its limits against its use, its last words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use sys::ProcFs;

use crate::args_running::StatusArgs;
use crate::ops::follow;
use crate::ops::info::{self, Info};
use crate::output::{self, Format};
use crate::run::Manager;

/// Last bytes of a log that are looked at for lines.
const LOG_TAIL: u64 = 64 << 10;

/// What `status --format json` has. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Status {
    /// All that `info` has.
    #[serde(flatten)]
    info: Info,
    /// The processes.
    processes: Vec<Process>,
    /// Shares of the last ten seconds in which something waited, in percent: `cpu`, `memory` and `io`, `some` and `full`;
    /// empty where the kernel does not tell (cgroup v1).
    pressure: BTreeMap<String, BTreeMap<String, f64>>,
    /// The last lines of its log.
    log: Vec<String>,
}

/// One process of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Process {
    /// As the host numbers it.
    pid: u32,
    /// Its parent, as the host numbers it.
    parent: u32,
    /// Program and arguments, or its name in brackets.
    command: String,
    /// Its group below the container's.
    cgroup: String,
}

/// Prints it.
///
/// # Errors
/// It is not defined; what the runtime or the kernel says.
pub fn status(manager: &Manager, args: &StatusArgs) -> Result<()> {
    let info = info::read(manager, &args.name)?;
    let alive = manager.runtime.is_alive(&args.name)?;
    let pids = if alive { manager.runtime.pids(&args.name)? } else { Vec::new() };
    let pressure = match alive {
        true => manager.runtime.stats(&args.name)?.map(|stats| parse_pressure(&stats)).unwrap_or_default(),
        false => BTreeMap::new(),
    };
    let status = Status {
        processes: read_processes(&ProcFs::open()?, &pids),
        pressure,
        log: last_lines(&follow::log_path(manager, &args.name), args.lines)?,
        info,
    };
    if args.printed.format() != Format::Table {
        return output::print(args.printed.format(), &status, Vec::new);
    }
    let mut text = output::render_table(&info::rows(&status.info));
    for (resource, shares) in &status.pressure {
        let shares: Vec<String> = shares.iter().map(|(kind, share)| format!("{kind} {share:.2} %")).collect();
        text += &format!("Stalls ({resource}): {}\n", shares.join(", "));
    }
    if !status.processes.is_empty() {
        text += "\nProcesses\n";
        text += &render_tree(&status.processes);
    }
    if !status.log.is_empty() {
        text += &format!("\nLog\n{}\n", status.log.join("\n"));
    }
    output::write(&text)
}

/// Looks at each process. One that ends meanwhile is left out.
fn read_processes(proc: &ProcFs, pids: &[u32]) -> Vec<Process> {
    let read = |pid: &u32| {
        let parent = u32::try_from(proc.status(i32::try_from(*pid).ok()?).ok()?.parent).ok()?;
        let name = proc.read(&format!("{pid}/comm")).ok()?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let command = match arguments.split(|byte| *byte == 0).filter(|part| !part.is_empty()).collect::<Vec<_>>() {
            parts if parts.is_empty() => format!("[{}]", name.trim_end()),
            parts => String::from_utf8_lossy(&parts.join(&b' ')).into_owned(),
        };
        Some(Process { pid: *pid, parent, command, cgroup: parse_group(&groups).to_owned() })
    };
    let mut processes: Vec<Process> = pids.iter().filter_map(read).collect();
    let prefix = common_prefix(&processes);
    for process in &mut processes {
        process.cgroup = process.cgroup[prefix.len()..].trim_start_matches('/').to_owned();
    }
    processes
}

/// The group of a process that says most: v2's, else that of systemd's hierarchy, else the first.
fn parse_group(groups: &str) -> &str {
    let parsed: Vec<(&str, &str)> = groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
        .collect();
    let of = |name: &str| parsed.iter().find(|(controllers, path)| *controllers == name && *path != "/");
    of("").or(of("name=systemd")).or(parsed.first()).map_or("/", |(_, path)| path)
}

/// The longest folder that all groups are in.
fn common_prefix(processes: &[Process]) -> String {
    let mut groups = processes.iter().map(|process| process.cgroup.split('/').collect::<Vec<_>>());
    let Some(mut common) = groups.next() else { return String::new() };
    for group in groups {
        let same = common.iter().zip(&group).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    common.join("/")
}

/// Groups with their processes below, children below their parents.
fn render_tree(processes: &[Process]) -> String {
    let groups: BTreeSet<&str> = processes.iter().map(|process| process.cgroup.as_str()).collect();
    let mut text = String::new();
    for group in groups {
        let indent = if group.is_empty() { 0 } else { 1 };
        if indent > 0 {
            text += &format!("{group}\n");
        }
        let members: BTreeMap<u32, &Process> =
            processes.iter().filter(|process| process.cgroup == group).map(|process| (process.pid, process)).collect();
        // Without recursion: what a container's processes are each other's children of, the container decides.
        let roots = members.values().rev().filter(|process| !members.contains_key(&process.parent));
        let mut stack: Vec<(usize, &Process)> = roots.map(|process| (indent, *process)).collect();
        while let Some((depth, process)) = stack.pop() {
            text += &format!("{}{} {}\n", "  ".repeat(depth.min(40)), process.pid, shown(&process.command));
            let children = members.values().rev().filter(|child| child.parent == process.pid);
            stack.extend(children.map(|child| (depth + 1, *child)));
        }
    }
    text
}

/// Text of a container's for a terminal: one line, nothing that the terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

fn parse_pressure(stats: &Value) -> BTreeMap<String, BTreeMap<String, f64>> {
    let data = &stats["data"];
    let of = |resource: &str| {
        let psi = &data[resource]["psi"];
        let share = |kind: &str| Some((kind.to_owned(), psi[kind]["avg10"].as_f64()?));
        let shares: BTreeMap<String, f64> = ["some", "full"].into_iter().filter_map(share).collect();
        (!shares.is_empty()).then_some(shares)
    };
    let named = [("cpu", "cpu"), ("memory", "memory"), ("io", "blkio")];
    named.into_iter().filter_map(|(name, key)| Some((name.to_owned(), of(key)?))).collect()
}

fn last_lines(path: &std::path::Path, lines: usize) -> Result<Vec<String>> {
    use std::io::{ErrorKind, Read, Seek, SeekFrom};
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot open {}", path.display()))?,
    };
    let length = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?.len();
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))
        .and_then(|_| file.read_to_end(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| shown(line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, command: &str, cgroup: &str) -> Process {
        Process { pid, parent, command: command.to_owned(), cgroup: cgroup.to_owned() }
    }

    #[test]
    fn children_stand_below_their_parents_and_groups_apart() {
        let all = [
            process(10, 1, "/sbin/init", ""),
            process(20, 10, "journald", "system.slice/journald.service"),
            process(12, 10, "b\x1b[2J", ""),
            process(11, 10, "a", ""),
            process(13, 11, "aa", ""),
        ];
        assert_eq!(
            render_tree(&all),
            "10 /sbin/init\n  11 a\n    13 aa\n  12 b?[2J\nsystem.slice/journald.service\n  20 journald\n"
        );
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(parse_group("3:cpu:/x/y\n1:name=systemd:/s/u\n0::/\n"), "/s/u");
        assert_eq!(parse_group("0::/skep/web1\n"), "/skep/web1");
        assert_eq!(parse_group(""), "/");
        let groups = [process(1, 0, "", "/skep/w/a"), process(2, 1, "", "/skep/w/ab"), process(3, 1, "", "/skep/w")];
        assert_eq!(common_prefix(&groups), "/skep/w");
        let stats = serde_json::json!({ "data": { "cpu": { "psi": { "some": { "avg10": 1.5 } } } } });
        assert_eq!(parse_pressure(&stats)["cpu"]["some"], 1.5);
    }
}
