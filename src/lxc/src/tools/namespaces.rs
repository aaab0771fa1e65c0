//! `lxc-unshare` and `lxc-usernsexec`: a command in namespaces of its own, without a container.
//!
//! This program has one thread, so that it can make the namespaces itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sys::mount::{AttrChange, Depth, FsContext, Propagation};
use sys::process::{Cloned, Exit};

use crate::options::Call;
use crate::output;
use crate::skep::Skep;

const NEWNS: u64 = 0x0002_0000;
const NEWUTS: u64 = 0x0400_0000;
const NEWUSER: u64 = 0x1000_0000;
const NEWNET: u64 = 0x4000_0000;
/// Kinds of namespaces by LXC's names.
const KINDS: [(&str, u64); 8] = [
    ("MOUNT", NEWNS),
    ("PID", 0x2000_0000),
    ("UTSNAME", NEWUTS),
    ("IPC", 0x0800_0000),
    ("USER", NEWUSER),
    ("NETWORK", NEWNET),
    ("CGROUP", 0x0200_0000),
    ("TIME", 0x80),
];
/// What runs where no command is given.
const SHELL: &str = "/bin/sh";

/// Runs a command in new namespaces; 1 where it ends with anything but 0.
pub(super) fn unshare(_skep: &Skep, call: &Call) -> Result<u8> {
    let refuse = |text: &str| {
        call.tell(text);
        Ok(1)
    };
    let user: Option<u32> = match call.get("user").map(str::parse) {
        None => None,
        Some(Ok(user)) => Some(user),
        Some(Err(_)) => return refuse("could not parse command line"),
    };
    let Some(kinds) = parse_kinds(call.get("namespaces").unwrap_or_default()) else {
        return refuse("could not parse command line");
    };
    if call.operands.is_empty() {
        return refuse("A command to execute in the new namespace is required");
    }
    if kinds == 0 {
        return refuse("A namespace to execute command is required");
    }
    for (option, kind, said) in [
        ("ifname", NEWNET, "-i <interfacename> needs -s NETWORK option"),
        ("hostname", NEWUTS, "-H <hostname> needs -s UTSNAME option"),
        ("remount", NEWNS, "-M needs -s MOUNT option"),
    ] {
        if call.has(option) && kinds & kind == 0 {
            return refuse(said);
        }
    }
    let (mut wait, go) = std::io::pipe().context("cannot make a pipe")?;
    match sys::process::clone3(kinds, None)? {
        Cloned::Child => {
            drop(go);
            let mut run = || -> Result<()> {
                wait.read_to_end(&mut Vec::new()).context("cannot wait for the caller")?;
                prepare(call, user.filter(|_| kinds & NEWUSER != 0))?;
                execute(&call.operands)
            };
            if let Err(error) = run() {
                call.tell(&format!("{error:#}"));
            }
            sys::process::exit_now(1)
        }
        Cloned::Parent { pid, .. } => {
            if let Some(user) = user.filter(|_| kinds & NEWUSER != 0) {
                write_map(pid, "uid_map", &[(user, sys::process::effective_uid(), 1)])?;
            }
            for link in call.all("ifname") {
                let moved = Command::new("ip").args(["link", "set", link, "netns", &pid.to_string()]).status();
                if !moved.is_ok_and(|status| status.success()) {
                    call.tell(&format!("Could not move interface \"{link}\" into container {pid}"));
                }
            }
            drop(go);
            if call.has("daemon") {
                return Ok(0);
            }
            Ok(u8::from(sys::process::wait(pid)? != Exit::Code(0)))
        }
    }
}

/// Names with `|` between; `None` where one is unknown.
fn parse_kinds(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let kind = |name: &str| KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    text.split('|').map(|name| kind(name.trim())).try_fold(0, |kinds, kind| Some(kinds | kind?))
}

/// In the new namespaces, before the command.
fn prepare(call: &Call, user: Option<u32>) -> Result<()> {
    if call.has("remount") {
        // What is mounted here stays here.
        let slave = AttrChange { propagation: Some(Propagation::Slave), ..AttrChange::default() };
        sys::mount::set_attr(as_fd(&sys::mount::open_mount("/")?), slave, Depth::Tree)?;
        for (kind, path) in [("proc", "/proc"), ("mqueue", "/dev/mqueue"), ("tmpfs", "/dev/shm")] {
            // LXC passes over what is not there, too.
            let Ok(place) = sys::fs::open_dir(path) else { continue };
            let mount = FsContext::open(kind).and_then(|context| context.mount(0));
            sys::mount::attach(as_fd(&mount.with_context(|| format!("cannot mount {path}"))?), as_fd(&place))?;
        }
    }
    if let Some(name) = call.get("hostname") {
        sys::namespace::set_hostname(name)?;
    }
    user.map_or(Ok(()), sys::process::set_uid).context("cannot become the user")
}

fn as_fd(fd: &std::os::fd::OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

/// Becomes a program; returns only where that fails.
fn execute(command: &[String]) -> Result<()> {
    let [program, args @ ..] = command else { bail!("no command is given") };
    Err(Command::new(program).args(args).exec()).with_context(|| format!("Failed to exec: '{program}'"))
}

/// A range of ids: the first one inside, the first one outside, how many.
type Range = (u32, u32, u32);

/// Ranges of a user namespace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Maps {
    users: Vec<Range>,
    groups: Vec<Range>,
}

/// Runs a command as root of a new user namespace; its exit code is the result.
pub(super) fn usernsexec(_skep: &Skep, call: &Call) -> Result<u8> {
    let mut maps = Maps::default();
    for text in call.all("map") {
        if parse_map(text, &mut maps).is_none() {
            output::tell(&format!("{}: {text:?}: want [u|g|b]:INSIDE:OUTSIDE:COUNT\n", call.tool));
            return Ok(1);
        }
    }
    if !call.has("map") {
        maps = subordinate_maps()?;
        if maps.users.is_empty() || maps.groups.is_empty() {
            output::tell("Failed to find subuid or subgid allocation\n");
            return Ok(1);
        }
    }
    if call.has("self") {
        // The caller's own ids come behind all others.
        let end = |ranges: &[Range]| ranges.iter().map(|(inside, _, count)| inside + count).max().unwrap_or(0);
        maps.users.push((end(&maps.users), sys::process::effective_uid(), 1));
        maps.groups.push((end(&maps.groups), sys::process::effective_gid(), 1));
    }
    let (mut wait, mut go) = std::io::pipe().context("cannot make a pipe")?;
    match sys::process::clone3(NEWUSER | NEWNS, None)? {
        Cloned::Child => {
            drop(go);
            let mut run = || -> Result<()> {
                let mut word = [0; 1];
                if wait.read(&mut word).context("cannot wait for the caller")? == 0 {
                    return Ok(());
                }
                sys::process::set_groups(&[])?;
                sys::process::set_gid(0)?;
                sys::process::set_uid(0)?;
                let shell = [SHELL.to_owned()];
                execute(if call.operands.is_empty() { &shell } else { &call.operands })
            };
            if let Err(error) = run() {
                call.tell(&format!("{error:#}"));
            }
            sys::process::exit_now(1)
        }
        Cloned::Parent { pid, .. } => {
            let mapped = map_ids(pid, &maps);
            if mapped.is_ok() {
                // Without the byte it ends.
                go.write_all(b"g").context("cannot let it go on")?;
            }
            drop(go);
            let exit = sys::process::wait(pid)?;
            mapped.context("Failed to write id mapping for child process")?;
            match exit {
                Exit::Code(code) => Ok(u8::try_from(code).unwrap_or(1)),
                // As LXC's tool, which reads a code where there is none.
                Exit::Signal(_) => Ok(0),
            }
        }
    }
}

/// Reads `b:0:100000:65536`.
fn parse_map(text: &str, maps: &mut Maps) -> Option<()> {
    let [kind, inside, outside, count] = text.split(':').collect::<Vec<_>>()[..] else { return None };
    let range = (inside.parse().ok()?, outside.parse().ok()?, count.parse().ok()?);
    if matches!(kind, "u" | "b") {
        maps.users.push(range);
    }
    if matches!(kind, "g" | "b") {
        maps.groups.push(range);
    }
    matches!(kind, "u" | "g" | "b").then_some(())
}

/// All that /etc/subuid and /etc/subgid give the caller, from 0 on.
fn subordinate_maps() -> Result<Maps> {
    let uid = sys::process::effective_uid().to_string();
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let is_own = |line: &&str| line.split(':').nth(2) == Some(uid.as_str());
    let name = users.lines().find(is_own).and_then(|line| line.split(':').next()).unwrap_or_default();
    let read = |path: &str| -> Result<Vec<Range>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.with_context(|| format!("cannot read {path}"))?,
        };
        Ok(plan_ranges(&text, name, &uid))
    };
    Ok(Maps { users: read("/etc/subuid")?, groups: read("/etc/subgid")? })
}

/// The ranges of a user in such a file, one behind the other.
fn plan_ranges(text: &str, name: &str, uid: &str) -> Vec<Range> {
    let mut inside = 0;
    let mut ranges = Vec::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.trim().split(':').collect();
        let [owner, first, count] = parts[..] else { continue };
        if let (true, Ok(first), Ok(count)) = (owner == name || owner == uid, first.parse(), count.parse::<u32>()) {
            ranges.push((inside, first, count));
            inside += count;
        }
    }
    ranges
}

/// Root writes the maps itself; others ask newuidmap(1), which knows what they may.
fn map_ids(pid: i32, maps: &Maps) -> Result<()> {
    if sys::process::effective_uid() == 0 {
        write_map(pid, "uid_map", &maps.users)?;
        return write_map(pid, "gid_map", &maps.groups);
    }
    for (program, ranges) in [("newuidmap", &maps.users), ("newgidmap", &maps.groups)] {
        let numbers = ranges.iter().flat_map(|(inside, outside, count)| [inside, outside, count]);
        let status = Command::new(program).arg(pid.to_string()).args(numbers.map(ToString::to_string)).status();
        if !status.with_context(|| format!("cannot run {program}"))?.success() {
            bail!("{program} did not map the ids");
        }
    }
    Ok(())
}

fn write_map(pid: i32, file: &str, ranges: &[Range]) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let text: String = ranges.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect();
    fs::write(&path, text).with_context(|| format!("cannot write {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_lxc_s_names() {
        assert_eq!(parse_kinds("MOUNT|UTSNAME"), Some(NEWNS | NEWUTS));
        assert_eq!((parse_kinds(""), parse_kinds("mount"), parse_kinds("MOUNT,PID")), (Some(0), None, None));
    }

    #[test]
    fn maps_are_read() {
        let mut maps = Maps::default();
        for text in ["b:0:100000:10", "u:10:5:1"] {
            parse_map(text, &mut maps).unwrap();
        }
        assert_eq!(maps, Maps { users: vec![(0, 100_000, 10), (10, 5, 1)], groups: vec![(0, 100_000, 10)] });
        for text in ["", "b:0:1", "x:0:1:2", "b:0:1:x", "b:-1:0:1"] {
            assert!(parse_map(text, &mut maps).is_none(), "{text}");
        }
        let text = "root:100000:65536\nother:1:2\n0:200000:10\nbroken\n";
        assert_eq!(plan_ranges(text, "root", "0"), [(0, 100_000, 65_536), (65_536, 200_000, 10)]);
    }
}
