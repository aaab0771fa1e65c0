//! Freezing and thawing, within a bound.
//!
//! v1 has no event: FROZEN is asked for, and each read of `freezer.state` looks whether all tasks have arrived. While
//! tasks keep appearing the state can stay FREEZING for ever, so now and then everything is thawed and asked for again
//! (what the kernel's own document told until it was shortened, and runc measured to help). v2 tells by `cgroup.events`.

use std::time::{Duration, Instant};

use sys::fs::OFlags;
use sys::watch::Until;
use sys::{Errno, ProcFs};

use super::kill::{Survivor, survivors};
use super::procs::{self, is_gone};
use super::{Group, Member};
use crate::error::{Error, Result};
use crate::path::GroupPath;

/// Reads of `freezer.state` between two attempts from the beginning.
const READS_PER_ATTEMPT: u32 = 50;
/// The longest pause between two reads. The first reads come without one: a small group freezes in microseconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// What a container's freezer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezer {
    /// Its tasks run.
    Thawed,
    /// Some tasks have stopped, some not yet.
    Freezing,
    /// All tasks have stopped because the container was frozen.
    Frozen,
    /// All tasks have stopped because a parent was frozen; the container itself was not.
    FrozenAbove,
}

impl Group {
    /// Stops all tasks of the container and returns once they have stopped.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] with the tasks that kept running when `bound` is over; the group is thawed again then, since
    /// half a container must not stay stopped. [`Error::NoGroup`] on a host with neither freezer.
    pub fn freeze(&self, bound: Duration, proc: &ProcFs) -> Result<()> {
        let member = self.freezer()?;
        let outcome =
            if member.place.is_unified() { freeze_unified(member, bound) } else { freeze_legacy(member, bound) };
        match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                thaw(member)?;
                return Err(error.into());
            }
        }
        let tasks = survivors(&self.procs()?, proc).into_iter().filter(Survivor::is_running).collect();
        thaw(member)?;
        Err(Error::NotFrozen { dir: member.place.dir(), after: bound, tasks })
    }

    /// Lets all tasks run again.
    ///
    /// # Errors
    /// [`Error::Sys`], [`Error::NoGroup`].
    pub fn thaw(&self) -> Result<()> {
        Ok(thaw(self.freezer()?)?)
    }

    /// Whether the container is frozen.
    ///
    /// # Errors
    /// [`Error::Sys`]. A host with neither freezer has nothing frozen.
    pub fn freezer_state(&self) -> Result<Freezer> {
        match self.freezer() {
            Ok(member) => state(member),
            Err(Error::NoGroup { .. }) => Ok(Freezer::Thawed),
            Err(error) => Err(error),
        }
    }

    /// Whether the container itself was frozen, completely or not yet.
    ///
    /// # Errors
    /// As [`Group::freezer_state`].
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(matches!(self.freezer_state()?, Freezer::Frozen | Freezer::Freezing))
    }

    /// Opens only the group that [`Group::is_frozen`] asks; `state` and `list` want nothing else.
    ///
    /// # Errors
    /// As [`Group::open`].
    pub fn open_freezer(places: &[GroupPath]) -> Result<Group> {
        let legacy = places.iter().find(|place| place.has("freezer"));
        let asked = legacy.or_else(|| places.iter().find(|place| place.is_unified()));
        Group::open(asked.map_or(&[], std::slice::from_ref))
    }

    /// The v1 freezer where there is one, as runc chooses, else the unified hierarchy.
    pub(super) fn freezer(&self) -> Result<&Member> {
        let member = self.member("freezer").or_else(|| self.unified_member());
        member.ok_or_else(|| Error::NoGroup { controller: "freezer".to_owned() })
    }

    /// Thaws the container and whatever it froze itself below, in both kinds of freezer.
    pub(super) fn thaw_all_below(&self) -> Result<()> {
        let Some(member) = self.member("freezer") else { return Ok(()) };
        procs::walk(std::os::fd::AsFd::as_fd(&member.dir), &mut |group| {
            let state = match sys::fs::read_text_at(group, "freezer.state") {
                Err(error) if is_gone(&error) => return Ok(()),
                other => other?,
            };
            if state.trim() == "THAWED" {
                return Ok(());
            }
            match sys::fs::write_value_at(group, "freezer.state", "THAWED") {
                Err(error) if is_gone(&error) => Ok(()),
                other => other,
            }
        })?;
        Ok(())
    }
}

/// Whether a group that was found is frozen by itself.
pub(super) fn is_frozen(member: &Member) -> Result<bool> {
    if member.place.has("freezer") || member.place.is_unified() {
        return Ok(matches!(state(member)?, Freezer::Frozen | Freezer::Freezing));
    }
    Ok(false)
}

fn thaw(member: &Member) -> sys::Result<()> {
    if member.place.is_unified() { member.write("cgroup.freeze", "0") } else { member.write("freezer.state", "THAWED") }
}

fn state(member: &Member) -> Result<Freezer> {
    let gone_is_thawed = |outcome: Result<Freezer>| match outcome {
        Err(Error::Sys(error)) if is_gone(&error) => Ok(Freezer::Thawed),
        other => other,
    };
    gone_is_thawed(if member.place.is_unified() { unified_state(member) } else { legacy_state(member) })
}

fn legacy_state(member: &Member) -> Result<Freezer> {
    let text = member.read("freezer.state")?;
    match text.trim() {
        "THAWED" => Ok(Freezer::Thawed),
        "FREEZING" => Ok(Freezer::Freezing),
        "FROZEN" if member.read("freezer.self_freezing")?.trim() == "0" => Ok(Freezer::FrozenAbove),
        "FROZEN" => Ok(Freezer::Frozen),
        other => Err(Error::Parse { file: member.path("freezer.state"), text: other.to_owned() }),
    }
}

fn unified_state(member: &Member) -> Result<Freezer> {
    let asked = member.read("cgroup.freeze")?.trim() == "1";
    let arrived = event(&member.read("cgroup.events")?, "frozen");
    Ok(match (asked, arrived) {
        (true, true) => Freezer::Frozen,
        (true, false) => Freezer::Freezing,
        (false, true) => Freezer::FrozenAbove,
        (false, false) => Freezer::Thawed,
    })
}

/// Whether a line of `cgroup.events` says 1.
pub(super) fn event(text: &str, key: &str) -> bool {
    text.lines().any(|line| line.split_once(' ') == Some((key, "1")))
}

/// Whether it froze within the bound.
fn freeze_legacy(member: &Member, bound: Duration) -> sys::Result<bool> {
    let deadline = Instant::now() + bound;
    for attempt in 0_u32.. {
        if attempt > 0 {
            member.write("freezer.state", "THAWED")?;
        }
        member.write("freezer.state", "FROZEN")?;
        for read in 0..READS_PER_ATTEMPT {
            if member.read("freezer.state")?.trim() == "FROZEN" {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let pause = Duration::from_micros(u64::from(read) * 20).min(LONGEST_PAUSE);
            sys::watch::wait(&[], pause)?;
        }
    }
    Ok(false)
}

fn freeze_unified(member: &Member, bound: Duration) -> sys::Result<bool> {
    let deadline = Instant::now() + bound;
    let events = member.open("cgroup.events", OFlags::RDONLY)?;
    member.write("cgroup.freeze", "1")?;
    loop {
        if event(&member.read("cgroup.events")?, "frozen") {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        wait_changed(&events, left)?;
    }
}

/// Waits until a file of the kernel changes, or the time is up. The descriptor is read first, which arms it.
pub(super) fn wait_changed(file: &std::os::fd::OwnedFd, timeout: Duration) -> sys::Result<()> {
    use std::os::fd::AsFd;
    match sys::watch::wait(&[(file.as_fd(), Until::Changed)], timeout) {
        Ok(_) => {}
        Err(error) if error.is(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
