//! Being told that a container ran out of memory.
//!
//! v1: an eventfd that is registered in `cgroup.event_control` for `memory.oom_control`. v2: inotify on `memory.events`,
//! and on `cgroup.events` because removing a v2 group raises no event, its last task's end does.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use sys::fs::OFlags;
use sys::watch::Modified;

use crate::error::{Error, Result};
use crate::group::Group;
use crate::stats::Source;

/// A watch on one container's memory. Poll its descriptor for reading, then ask [`OomWatch::happened`].
#[derive(Debug)]
pub struct OomWatch {
    signal: Signal,
    /// A descriptor of the group's folder.
    group: OwnedFd,
    /// Kills that were there before, or were told already.
    kills: u64,
}

#[derive(Debug)]
enum Signal {
    /// The event counter, and `memory.oom_control`, which stays open for as long as it is watched.
    Legacy {
        counter: OwnedFd,
        _control: OwnedFd,
    },
    Unified(Modified),
}

/// How many processes of a container, groups below included on v2, the kernel has killed for want of memory. 0 where
/// nobody counts them.
///
/// # Errors
/// [`Error::Sys`].
pub fn kills(group: &Group) -> Result<u64> {
    let Some(place) = group.places().find(|place| place.has("memory")) else { return Ok(0) };
    let Some(dir) = group.dir("memory") else { return Ok(0) };
    let file = if place.is_unified() { "memory.events" } else { "memory.oom_control" };
    Ok(Source { dir }.count(file, "oom_kill")?.unwrap_or(0))
}

/// What has happened since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oom {
    /// Nothing that matters.
    Nothing,
    /// The container ran out of memory.
    Happened,
    /// The container is gone; nothing will happen any more.
    Gone,
}

/// Starts to watch.
///
/// # Errors
/// [`Error::NoGroup`] without a memory controller; [`Error::Sys`].
pub fn watch(group: &Group) -> Result<OomWatch> {
    let no_group = || Error::NoGroup { controller: "memory".to_owned() };
    let place = group.places().find(|place| place.has("memory")).ok_or_else(no_group)?;
    let dir = group.dir("memory").ok_or_else(no_group)?;
    let own = sys::fs::open_at(dir, ".", OFlags::PATH | OFlags::DIRECTORY, 0)?;
    let signal = if place.is_unified() {
        let folder = place.dir();
        Signal::Unified(Modified::watch(&[&format!("{folder}/memory.events"), &format!("{folder}/cgroup.events")])?)
    } else {
        let counter = sys::watch::event_counter()?;
        let control = sys::fs::open_at(dir, "memory.oom_control", OFlags::RDONLY, 0)?;
        let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
        sys::fs::write_value_at(dir, "cgroup.event_control", &line)?;
        Signal::Legacy { counter, _control: control }
    };
    let mut watch = OomWatch { signal, group: own, kills: 0 };
    watch.kills = watch.kill_count()?.unwrap_or(0);
    Ok(watch)
}

impl OomWatch {
    /// What has happened. Never waits.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn happened(&mut self) -> Result<Oom> {
        let told = match &self.signal {
            Signal::Legacy { counter, .. } => sys::watch::take_count(counter.as_fd())? > 0,
            Signal::Unified(modified) => modified.drain()?,
        };
        let Some(kills) = self.kill_count()? else { return Ok(Oom::Gone) };
        let more = kills > self.kills;
        self.kills = kills;
        Ok(match &self.signal {
            // Told before anything is killed, and also where nothing may be killed.
            Signal::Legacy { .. } if told => Oom::Happened,
            Signal::Legacy { .. } => Oom::Nothing,
            Signal::Unified(_) if more => Oom::Happened,
            Signal::Unified(_) if told && self.is_unpopulated()? => Oom::Gone,
            Signal::Unified(_) => Oom::Nothing,
        })
    }

    /// Processes that the OOM killer has taken so far; `None` once the group is gone.
    fn kill_count(&self) -> Result<Option<u64>> {
        let file = if matches!(self.signal, Signal::Legacy { .. }) { "memory.oom_control" } else { "memory.events" };
        self.source().count(file, "oom_kill")
    }

    fn is_unpopulated(&self) -> Result<bool> {
        Ok(self.source().count("cgroup.events", "populated")?.is_none_or(|populated| populated == 0))
    }

    fn source(&self) -> Source<'_> {
        Source { dir: self.group.as_fd() }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.signal {
            Signal::Legacy { counter, .. } => counter.as_fd(),
            Signal::Unified(modified) => modified.as_fd(),
        }
    }
}
