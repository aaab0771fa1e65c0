//! Id mappings: of the container's user namespace, and of mounts that have their own.

use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use runtime_spec::model::IdMapping;
use runtime_spec::model::NamespaceKind;
use sys::ProcFs;
use sys::process::Cloned;

use crate::error::{Error, Result};
use crate::gate::Channel;
use crate::step::IdMaps;

/// Gives a process that has just got a new user namespace its ids.
pub(super) fn map_ids(proc: &ProcFs, pid: i32, maps: &IdMaps) -> Result<()> {
    match &maps.newuidmap {
        Some(helper) => run_helper(helper, pid, &maps.uids, "/etc/subuid")?,
        None => proc.write(&format!("{pid}/uid_map"), &render(&maps.uids))?,
    }
    if maps.deny_setgroups {
        proc.write(&format!("{pid}/setgroups"), "deny")?;
    }
    match &maps.newgidmap {
        Some(helper) => run_helper(helper, pid, &maps.gids, "/etc/subgid"),
        None => Ok(proc.write(&format!("{pid}/gid_map"), &render(&maps.gids))?),
    }
}

/// Runs newuidmap(1) or newgidmap(1): the pid, then three numbers for each range. It is told nothing else.
fn run_helper(path: &str, pid: i32, ranges: &[IdMapping], file: &'static str) -> Result<()> {
    let user = sys::process::effective_uid();
    let is_own = |m: &IdMapping| m.size == 1 && [user, sys::process::effective_gid()].contains(&m.host_id);
    let fail = |reason: String| Error::IdMapHelper {
        helper: path.to_owned(),
        reason,
        file,
        lines: ranges.iter().filter(|m| !is_own(m)).map(|m| format!("\"{user}:{}:{}\"", m.host_id, m.size)).collect(),
    };
    let numbers = ranges.iter().flat_map(|m| [m.container_id, m.host_id, m.size]).map(|n| n.to_string());
    let output = Command::new(path)
        .arg(pid.to_string())
        .args(numbers)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| fail(format!("cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(fail(if said.is_empty() { output.status.to_string() } else { said }))
}

/// Writes both maps of a process that has just got a new user namespace.
fn write_maps(proc: &ProcFs, pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    proc.write(&format!("{pid}/uid_map"), &render(uids))?;
    Ok(proc.write(&format!("{pid}/gid_map"), &render(gids))?)
}

/// One line per range: first id inside, first id outside, how many (user_namespaces(7)). One `write(2)` takes all.
fn render(mappings: &[IdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut text, m| {
        writeln!(text, "{} {} {}", m.container_id, m.host_id, m.size).expect("writing to a string cannot fail");
        text
    })
}

/// A user namespace that exists for its mappings alone: a process holds it until it is open.
pub(crate) fn user_namespace(proc: &ProcFs, uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair()?;
    match sys::process::clone3(NamespaceKind::User.clone_flag(), None)? {
        Cloned::Child => {
            drop(ours);
            let code = i32::from(theirs.wait_for_go().is_err());
            sys::process::exit_now(code)
        }
        Cloned::Parent { pid, .. } => {
            let opened = write_maps(proc, pid, uids, gids).and_then(|()| Ok(proc.open_namespace(pid, "user")?));
            // Dropping both ends lets the holder go, whatever came of it.
            drop(theirs);
            drop(ours);
            sys::process::wait(pid)?;
            opened
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_lines() {
        let maps = [
            IdMapping { container_id: 0, host_id: 100_000, size: 65_536 },
            IdMapping { container_id: 65_536, host_id: 1000, size: 1 },
        ];
        assert_eq!(render(&maps), "0 100000 65536\n65536 1000 1\n");
    }
}
