//! Being told when a container's tasks stall for longer than they should (PSI triggers).
//!
//! Kernel: Documentation/accounting/psi.rst, "Monitoring for pressure thresholds". A trigger lives as long as its
//! descriptor. The unified hierarchy has the files, also where the controllers are elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use sys::Errno;
use sys::fs::OFlags;

use crate::error::{Error, Result};
use crate::group::Group;
use crate::stats::{Pressure, Source, parse_pressure};

/// The span of time over which stalls are counted. Source: kernel/sched/psi.c, `WINDOW_MIN_US` and `WINDOW_MAX_US`.
pub const WINDOW: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);

/// Who lacks CAP_SYS_RESOURCE has windows of whole multiples of this alone, microseconds. Source: kernel/sched/psi.c,
/// `psi_trigger_create`.
const UNPRIVILEGED_US: u128 = 2_000_000;

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A CPU.
    Cpu,
    /// Memory that has to be reclaimed or read back first.
    Memory,
    /// A device.
    Io,
}

impl Resource {
    /// As in the names of the files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Io => "io",
        }
    }

    fn file(self) -> String {
        format!("{}.pressure", self.name())
    }
}

/// How many of the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// At least one stalls.
    Some,
    /// All that could run stall at the same time.
    Full,
}

impl Share {
    /// As in the lines of the files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Share::Some => "some",
            Share::Full => "full",
        }
    }
}

/// Stalls of `stall` or more within `window` are told, at most once per window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// Of what.
    pub resource: Resource,
    /// Of whom.
    pub share: Share,
    /// More than 0, at most the window.
    pub stall: Duration,
    /// Within [`WINDOW`].
    pub window: Duration,
}

/// Why a trigger cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// Outside [`WINDOW`].
    #[error("the window must be from 500ms to 10s")]
    Window,
    /// Zero, or more than the window.
    #[error("the stall must be more than 0 and at most the window")]
    Stall,
}

impl Trigger {
    /// Checks the numbers, which the kernel would refuse with no more than EINVAL.
    ///
    /// # Errors
    /// [`TriggerError`].
    pub fn validate(&self) -> std::result::Result<(), TriggerError> {
        if !WINDOW.contains(&self.window) {
            return Err(TriggerError::Window);
        }
        if self.stall.as_micros() == 0 || self.stall > self.window { Err(TriggerError::Stall) } else { Ok(()) }
    }
}

/// A trigger that is set. Poll its descriptor for urgent data (`sys::watch::Until::Changed`), which also ends the report.
#[derive(Debug)]
pub struct PressureWatch {
    /// What is watched for.
    pub trigger: Trigger,
    file: OwnedFd,
}

/// Sets a trigger on a container.
///
/// # Errors
/// [`Error::NoGroup`] without a unified group, [`Error::Sys`]: ENOENT or EOPNOTSUPP on a kernel without pressure
/// information.
pub fn watch(group: &Group, trigger: Trigger) -> Result<PressureWatch> {
    let dir = group.unified().ok_or_else(|| Error::NoGroup { controller: "unified".to_owned() })?;
    let name = trigger.resource.file();
    let file = sys::fs::open_at(dir, &name, OFlags::RDWR | OFlags::NONBLOCK, 0)?;
    let line = format!("{} {} {}", trigger.share.name(), trigger.stall.as_micros(), trigger.window.as_micros());
    match sys::fs::write_all(file.as_fd(), line.as_bytes()) {
        Err(error) if error.is(Errno::INVAL) && !trigger.window.as_micros().is_multiple_of(UNPRIVILEGED_US) => {
            return Err(Error::PressureWindow { window: trigger.window });
        }
        Err(error) => return Err(sys::Error::new(format!("write({name:?}, {line:?})"), error.errno()).into()),
        Ok(()) => {}
    }
    Ok(PressureWatch { trigger, file })
}

impl PressureWatch {
    /// The pressure now; `None` once the group is gone.
    ///
    /// # Errors
    /// [`Error::Sys`], [`Error::Parse`].
    pub fn read(&self, group: &Group) -> Result<Option<Pressure>> {
        let Some(dir) = group.unified() else { return Ok(None) };
        Source { dir }.parsed(&self.trigger.resource.file(), parse_pressure)
    }
}

impl AsFd for PressureWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_the_kernel_would_refuse() {
        let check = |stall, window, expected| {
            let (stall, window) = (Duration::from_micros(stall), Duration::from_millis(window));
            let trigger = Trigger { resource: Resource::Cpu, share: Share::Some, stall, window };
            assert_eq!(trigger.validate(), expected, "{trigger:?}");
        };
        check(1, 500, Ok(()));
        check(10_000_000, 10_000, Ok(()));
        check(1, 499, Err(TriggerError::Window));
        check(1, 10_001, Err(TriggerError::Window));
        check(0, 1_000, Err(TriggerError::Stall));
        check(1_000_001, 1_000, Err(TriggerError::Stall));
    }
}
