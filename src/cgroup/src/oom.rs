//! Being told that a container ran out of memory.
//!
//! v1: an eventfd that is registered in `cgroup.event_control` for `memory.oom_control`. v2: inotify on `memory.events`,
//! and on `cgroup.events` because removing a v2 group raises no event, its last task's end does.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use sys::fs::OFlags;
use sys::watch::Modified;

use crate::error::{Error, Result};
use crate::group::Group;

/// A watch on one container's memory. Poll its descriptor for reading, then ask [`OomWatch::happened`].
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    /// A descriptor of the group's folder.
    group: OwnedFd,
    /// Kills that were there before, or were told already.
    kills: u64,
}

#[derive(Debug)]
enum Source {
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
    match sys::fs::read_text_at(dir, file) {
        Ok(text) => Ok(value(&text, "oom_kill").unwrap_or(0)),
        Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NODEV) => Ok(0),
        Err(error) => Err(error.into()),
    }
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
    let source = if place.is_unified() {
        let folder = place.dir();
        Source::Unified(Modified::watch(&[&format!("{folder}/memory.events"), &format!("{folder}/cgroup.events")])?)
    } else {
        let counter = sys::watch::event_counter()?;
        let control = sys::fs::open_at(dir, "memory.oom_control", OFlags::RDONLY, 0)?;
        let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
        sys::fs::write_value_at(dir, "cgroup.event_control", &line)?;
        Source::Legacy { counter, _control: control }
    };
    let mut watch = OomWatch { source, group: own, kills: 0 };
    watch.kills = watch.kill_count()?.unwrap_or(0);
    Ok(watch)
}

impl OomWatch {
    /// What has happened. Never waits.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn happened(&mut self) -> Result<Oom> {
        let told = match &self.source {
            Source::Legacy { counter, .. } => sys::watch::take_count(counter.as_fd())? > 0,
            Source::Unified(modified) => modified.drain()?,
        };
        let Some(kills) = self.kill_count()? else { return Ok(Oom::Gone) };
        let more = kills > self.kills;
        self.kills = kills;
        Ok(match &self.source {
            // Told before anything is killed, and also where nothing may be killed.
            Source::Legacy { .. } if told => Oom::Happened,
            Source::Legacy { .. } => Oom::Nothing,
            Source::Unified(_) if more => Oom::Happened,
            Source::Unified(_) if told && self.is_unpopulated()? => Oom::Gone,
            Source::Unified(_) => Oom::Nothing,
        })
    }

    /// Processes that the OOM killer has taken so far; `None` once the group is gone.
    fn kill_count(&self) -> Result<Option<u64>> {
        let file = if matches!(self.source, Source::Legacy { .. }) { "memory.oom_control" } else { "memory.events" };
        Ok(self.read(file)?.map(|text| value(&text, "oom_kill").unwrap_or(0)))
    }

    fn is_unpopulated(&self) -> Result<bool> {
        Ok(self.read("cgroup.events")?.is_none_or(|text| value(&text, "populated") == Some(0)))
    }

    fn read(&self, file: &str) -> Result<Option<String>> {
        match sys::fs::read_text_at(self.group.as_fd(), file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NODEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Legacy { counter, .. } => counter.as_fd(),
            Source::Unified(modified) => modified.as_fd(),
        }
    }
}

fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_events_files() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!((value(text, "oom_kill"), value(text, "oom"), value("", "x")), (Some(3), None, None));
    }
}
