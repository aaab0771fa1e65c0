//! Files that tell a container of itself (`/proc/meminfo` and others): whether it gets them, and the process that serves them.
//!
//! The process is of the monitor's program, and so is what it says. It mounts them in the container's own folder before the
//! runtime starts; once the container has its own mounts of them, or has not come about, this one is taken away again.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::VIEWS;
use serde_json::{Value, json};
use sys::Errno;
use sys::mount::UnmountFlags;

use crate::definition::Definition;
use crate::monitor::{self, Answer};
use crate::output::tell;
use crate::places::{CLOSED, Places};
use crate::runs::Run;

/// The folder in the container's own where they are mounted for a moment.
const FOLDER: &str = "view";

/// What the process is called in lists.
const TITLE: &str = "skep-view";

/// Whether a container gets them: one with a limit that they show.
#[must_use]
pub fn is_wanted(definition: &Definition) -> bool {
    let limited = definition.limits.memory.is_some() || definition.limits.millicpus.is_some();
    definition.view && definition.monitor && limited
}

/// Starts the process, and returns where the files are. `None` where they are not wanted, or cannot be had, which is told: a
/// container does not stand still for it.
///
/// # Errors
/// What the kernel says of the folder.
pub fn raise(places: &Places, definition: &Definition, run: &Run, group: &str) -> Result<Option<PathBuf>> {
    if !is_wanted(definition) {
        return Ok(None);
    }
    let name = &definition.name;
    lower(places, name)?;
    let place = place(places, name);
    match fs::create_dir(&place) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => other.with_context(|| format!("cannot make {}", place.display()))?,
    }
    match launch(name, &run.folder(places, name), group, &place) {
        Ok(()) => Ok(Some(place)),
        Err(error) => {
            tell(&format!(
                "note: {name:?} sees the machine's own /proc/meminfo, /proc/stat and /proc/cpuinfo: {error:#}"
            ));
            Ok(None)
        }
    }
}

fn place(places: &Places, name: &str) -> PathBuf {
    places.container(name).join(CLOSED).join(FOLDER)
}

fn launch(name: &str, run: &Path, group: &str, place: &Path) -> Result<()> {
    let program = monitor::program()?;
    let mut command = Command::new(&program);
    command.arg0(TITLE).arg(name).arg(run).args(["--view", group]).arg(place).stdin(Stdio::null());
    match monitor::answer(monitor::spawn(&mut command)?)? {
        Answer::Ok => Ok(()),
        Answer::Failed(Some(said)) => bail!("{said}"),
        Answer::Failed(None) => bail!("{} ended without a word", program.display()),
    }
}

/// Takes the mount away, if it is there. With the last one the process ends.
///
/// # Errors
/// What the kernel says.
pub fn lower(places: &Places, name: &str) -> Result<()> {
    let place = place(places, name);
    let text = place.to_str().context("the folder's name is no text")?;
    loop {
        match sys::mount::unmount(text, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or it is not there.
            Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Their mounts, over what the machine says.
pub fn render_mounts(place: &Path) -> impl Iterator<Item = Value> {
    let options = json!(["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"]);
    VIEWS.iter().map(move |(name, destination)| {
        json!({ "destination": destination, "type": "bind", "source": place.join(name), "options": options })
    })
}

/// What a time namespace takes for clocks that begin with a whole system: `linux.timeOffsets`.
///
/// # Errors
/// The machine's time cannot be read.
pub fn read_offsets(definition: &Definition) -> Result<Option<Value>> {
    // A configuration of LXC may have its own.
    let has_own = !definition.oci["linux"]["timeOffsets"].is_null();
    if definition.system.is_none()
        || !definition.view
        || has_own
        || !Path::new("/proc/self/ns/time_for_children").exists()
    {
        return Ok(None);
    }
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let offsets = fs::read_to_string("/proc/self/timens_offsets").context("cannot read /proc/self/timens_offsets")?;
    if !may_shift_clocks(&status, &offsets) {
        return Ok(None);
    }
    let text = fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let seconds: Option<u64> = text.split('.').next().and_then(|word| word.parse().ok());
    let seconds = seconds.with_context(|| format!("/proc/uptime makes no sense: {text:?}"))?;
    Ok(Some(json!({ "boottime": { "secs": -i64::try_from(seconds)?, "nanosecs": 0 } })))
}

/// Whether clocks can be shifted: it takes CAP_SYS_TIME, which a container has not, and shifts are counted from the machine's own
/// clock, which nobody sees whose clock is shifted.
fn may_shift_clocks(status: &str, offsets: &str) -> bool {
    /// Its number (include/uapi/linux/capability.h).
    const CAP_SYS_TIME: u32 = 25;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    let is_own = offsets.lines().all(|line| line.split_whitespace().skip(1).all(|word| word == "0"));
    effective & (1 << CAP_SYS_TIME) != 0 && is_own
}

/// Processors for a system with a quota: as many as it fills, those that the fewest others have been given. So programs inside
/// that ask for their number (`nproc`) start as many workers as can run. `None` without a quota, or where it fills all.
#[must_use]
pub fn plan_cpus(millicpus: Option<u64>, online: &[usize], given: &[Vec<usize>]) -> Option<String> {
    let wanted = usize::try_from(millicpus?.div_ceil(1000)).ok()?.max(1);
    if wanted >= online.len() {
        return None;
    }
    let mut cpus = online.to_vec();
    cpus.sort_by_key(|cpu| given.iter().filter(|others| others.contains(cpu)).count());
    cpus.truncate(wanted);
    cpus.sort_unstable();
    Some(cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
}

/// Chooses them, where the host can hold a container to some.
///
/// # Errors
/// What the kernel says.
pub fn choose_cpus(places: &Places, definition: &Definition) -> Result<Option<String>> {
    if definition.system.is_none() || !is_wanted(definition) || definition.limits.millicpus.is_none() {
        return Ok(None);
    }
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !unified.split_whitespace().any(|name| name == "cpuset") && !Path::new("/sys/fs/cgroup/cpuset").exists() {
        return Ok(None);
    }
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let online = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let mut given = Vec::new();
    for name in Definition::names(places)? {
        if name == definition.name || Run::read(places, &name)?.is_none() {
            continue;
        }
        let config = fs::read(places.container(&name).join("config.json")).unwrap_or_default();
        let config: Value = serde_json::from_slice(&config).unwrap_or_default();
        given.extend(config["linux"]["resources"]["cpu"]["cpus"].as_str().map(runtime_spec::monitor::parse_cpus));
    }
    Ok(plan_cpus(definition.limits.millicpus, &runtime_spec::monitor::parse_cpus(online), &given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_shifted_from_the_machine_s_own_alone() {
        let own = "monotonic           0         0\nboottime            0         0\n";
        let shifted = "monotonic           0         0\nboottime         -120         0\n";
        let may = |effective: &str, offsets| may_shift_clocks(&format!("Name:\tx\nCapEff:\t{effective}\n"), offsets);
        assert!(may("000001fffeffffff", own));
        assert!(!may("000001fffeffffff", shifted) && !may("00000000a80425fb", own));
    }

    #[test]
    fn processors_are_those_that_the_fewest_have() {
        let plan = |millicpus, given: &[&[usize]]| {
            let given: Vec<Vec<usize>> = given.iter().map(|cpus| cpus.to_vec()).collect();
            plan_cpus(millicpus, &[0, 1, 2, 3], &given)
        };
        assert_eq!(plan(None, &[]), None);
        assert_eq!(plan(Some(500), &[]).as_deref(), Some("0"));
        assert_eq!(plan(Some(1500), &[&[0]]).as_deref(), Some("1,2"));
        assert_eq!(plan(Some(1000), &[&[0, 1], &[2], &[1, 2]]).as_deref(), Some("3"));
        assert_eq!(plan(Some(4000), &[]), None);
    }
}
