//! `status NAME`: what a container does just now: its processes by group, its limits against its use, its last words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;
use sys::ProcFs;

use crate::args_running::StatusArgs;
use crate::cgroup_file::{self, Groups};
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
    /// empty where the kernel does not tell, for which it takes cgroup v2, if only beside v1.
    pressure: BTreeMap<String, BTreeMap<String, f64>>,
    /// The same with longer times.
    stalls: BTreeMap<String, BTreeMap<String, Stall>>,
    /// The last lines of its log.
    log: Vec<String>,
}

/// How long something waited: in percent of the last 10, 60 and 300 seconds, and microseconds since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Stall {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
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
    let pids = if info.pid().is_some() { manager.runtime.pids(&args.name)? } else { Vec::new() };
    let stalls = info.pid().map(|pid| read_stalls(manager, &args.name, pid)).unwrap_or_default();
    let tens =
        |kinds: &BTreeMap<String, Stall>| kinds.iter().map(|(kind, stall)| (kind.clone(), stall.avg10)).collect();
    let status = Status {
        processes: read_processes(&ProcFs::open()?, &pids),
        pressure: stalls.iter().map(|(resource, kinds)| (resource.clone(), tens(kinds))).collect(),
        stalls,
        log: last_lines(&follow::log_path(manager, &args.name), args.lines)?,
        info,
    };
    if args.printed.format() != Format::Table {
        return output::print(args.printed.format(), &status, Vec::new);
    }
    let mut text = output::render_table(&info::rows(&status.info));
    if !status.stalls.is_empty() {
        text += "\nWaits, in percent of the last 10, 60 and 300 seconds\n";
        text += &output::render_table(&stall_rows(&status.stalls));
    }
    if !status.processes.is_empty() {
        text += &format!("\nProcesses ({})\n", status.processes.len());
        text += &render_tree(&status.processes);
    }
    if !status.log.is_empty() {
        text += &format!("\nThe last of its log\n{}\n", status.log.join("\n"));
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
        Some(Process { pid: *pid, parent, command, cgroup: cgroup_file::main_path(&groups).to_owned() })
    };
    let mut processes: Vec<Process> = pids.iter().filter_map(read).collect();
    let prefix = common_prefix(&processes);
    for process in &mut processes {
        process.cgroup = process.cgroup[prefix.len()..].trim_start_matches('/').to_owned();
    }
    processes
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

/// What waited, by the files of its group. Those that there are not say nothing.
fn read_stalls(manager: &Manager, name: &str, pid: u32) -> BTreeMap<String, BTreeMap<String, Stall>> {
    let Ok(groups) = Groups::read(&manager.places, name, pid) else { return BTreeMap::new() };
    let read =
        |resource: &str| Some((resource.to_owned(), parse_stalls(&groups.read_file(&format!("{resource}.pressure"))?)));
    ["cpu", "memory", "io"].into_iter().filter_map(read).filter(|(_, kinds)| !kinds.is_empty()).collect()
}

/// Kernel: Documentation/accounting/psi.rst.
fn parse_stalls(text: &str) -> BTreeMap<String, Stall> {
    let parse = |line: &str| {
        let (kind, fields) = line.split_once(' ')?;
        let of = |name: &str| fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let average = |name: &str| of(name)?.parse().ok();
        let stall = Stall {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: of("total")?.parse().ok()?,
        };
        Some((kind.to_owned(), stall))
    };
    text.lines().filter_map(parse).collect()
}

fn stall_rows(stalls: &BTreeMap<String, BTreeMap<String, Stall>>) -> Vec<Vec<String>> {
    let row = |resource: &str, kind: &str, stall: &Stall| {
        let mut row = vec![format!("  {resource}"), kind.to_owned()];
        row.extend([stall.avg10, stall.avg60, stall.avg300].map(|share| format!("{share:.2}")));
        row
    };
    let all = stalls.iter().flat_map(|(resource, kinds)| kinds.iter().map(|(kind, stall)| row(resource, kind, stall)));
    all.collect()
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
        let groups = [process(1, 0, "", "/skep/w/a"), process(2, 1, "", "/skep/w/ab"), process(3, 1, "", "/skep/w")];
        assert_eq!(common_prefix(&groups), "/skep/w");
        let psi = "some avg10=1.50 avg60=0.25 avg300=0.00 total=365\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=28\n";
        let stalls = parse_stalls(psi);
        assert_eq!(stalls["some"], Stall { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 365 });
        assert_eq!(stalls["full"].total, 28);
        let rows = stall_rows(&BTreeMap::from([("cpu".to_owned(), stalls)]));
        assert_eq!(rows[1].join(" "), "  cpu some 1.50 0.25 0.00");
        assert!(parse_stalls("nonsense\nsome avg10=x\n").is_empty());
    }
}
