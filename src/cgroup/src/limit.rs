//! Limits as data: files, values, the order of both, and why a limit cannot be had.

use std::borrow::Cow;
use std::fmt;

use runtime_spec::model::{CpuLimits, Limit};
use serde::Serialize;

use crate::path::GroupPath;

/// One write to one file of a container's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileWrite {
    /// Controller, which names the hierarchy: `memory`. `cgroup` for files that every v2 group has.
    pub controller: Cow<'static, str>,
    /// File: `memory.limit_in_bytes`.
    pub file: Cow<'static, str>,
    /// What is written, in one `write(2)`.
    pub value: String,
    /// The field of the definition below `linux.resources` that asked for it: `memory.limit`.
    pub field: Cow<'static, str>,
    /// What happens on a kernel that has no such file.
    pub absent: Absent,
}

/// What a missing file means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    /// The limit cannot be had: an error.
    Fails,
    /// Nothing is lost.
    Skipped,
    /// Another file has the same effect.
    Instead {
        /// That file.
        file: &'static str,
        /// The value in its units.
        value: String,
    },
}

/// A field that has no effect on this kind of host, and that runc passes over without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// The field below `linux.resources`.
    pub field: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// All writes for one container, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// What must be written before a task can, or should, enter: cpuset, realtime, net_cls.
    pub attach: Vec<FileWrite>,
    /// All others.
    pub rest: Vec<FileWrite>,
    /// Fields without effect.
    pub ignored: Vec<Ignored>,
}

/// Values of a running group that the order, or the outcome, of writes depends on.
///
/// The default is what the kernel gives to a new group. [`crate::Group::read_current`] reads those of an existing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// v1 `memory.limit_in_bytes`, v2 `memory.max`.
    pub memory_limit: Limit,
    /// v1 `memory.memsw.limit_in_bytes`: memory plus swap. Not used on v2.
    pub memory_and_swap: Limit,
    /// Bytes in use now.
    pub memory_usage: u64,
    /// Whether v1's OOM killer is off.
    pub oom_killer_disabled: bool,
    /// Microseconds of CPU time per period.
    pub quota_us: Limit,
    /// Microseconds.
    pub period_us: u64,
    /// Microseconds.
    pub burst_us: u64,
    /// Whether the group is SCHED_IDLE.
    pub idle: bool,
    /// Microseconds of realtime per period; -1 is unlimited.
    pub realtime_runtime_us: i64,
    /// Microseconds.
    pub realtime_period_us: u64,
}

impl Default for Current {
    fn default() -> Current {
        Current {
            memory_limit: Limit::Max,
            memory_and_swap: Limit::Max,
            memory_usage: 0,
            oom_killer_disabled: false,
            quota_us: Limit::Max,
            period_us: DEFAULT_PERIOD_US,
            burst_us: 0,
            idle: false,
            realtime_runtime_us: 0,
            realtime_period_us: 1_000_000,
        }
    }
}

/// The kernel's default of `cpu.cfs_period_us` and of the second number of `cpu.max`.
pub const DEFAULT_PERIOD_US: u64 = 100_000;

/// What a renderer must know besides the limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The container's groups: their controllers are those that can be limited.
    pub groups: &'a [GroupPath],
    /// The present values.
    pub current: Current,
    /// File and line of each device rule (v1), in order: `("devices.allow", "c 1:3 rwm")`.
    pub device_lines: &'a [(&'static str, String)],
}

impl Context<'_> {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.groups.iter().any(|group| group.has(controller))
    }
}

/// A limit that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// No hierarchy has the controller.
    #[error(
        "cannot set {controller} limit: container could not join or create cgroup: linux.resources.{field} needs the {controller} controller, which this host does not have"
    )]
    NoController {
        /// The field below `linux.resources`.
        field: Cow<'static, str>,
        /// The controller.
        controller: String,
    },
    /// The controller is there, its file is not.
    #[error("cannot set linux.resources.{field}: this kernel has no {file}")]
    NoFile {
        /// The field below `linux.resources`.
        field: Cow<'static, str>,
        /// The file, with its folder.
        file: String,
    },
    /// A number that the kernel would clamp or refuse without telling why.
    #[error("linux.resources.{field}: {reason}")]
    Value {
        /// The field below `linux.resources`.
        field: Cow<'static, str>,
        /// Why.
        reason: String,
    },
    /// A memory limit that is below the usage and that reclaim did not reach.
    #[error("unable to set {what} limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    InUse {
        /// `memory` or `memory+swap`.
        what: &'static str,
        /// The bytes that were asked for.
        limit: String,
        /// Bytes in use.
        usage: u64,
        /// Most bytes that were ever in use.
        peak: u64,
    },
    /// The same, found before anything was written.
    #[error("rejecting {what} limit {limit} <= usage {usage}")]
    BelowUsage {
        /// `memory` or `memory+swap`.
        what: &'static str,
        /// The bytes that were asked for.
        limit: u64,
        /// Bytes in use.
        usage: u64,
    },
    /// `unified` in the definition, on a host whose limits go to v1.
    #[error("invalid configuration: cannot use linux.resources.unified on cgroup v1")]
    UnifiedOnLegacy,
    /// A key of `unified` that is no file name of a controller.
    #[error("unified resource {key:?} {reason}")]
    UnifiedKey {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An ancestor of the group does not hand the controller on (v2).
    #[error("cannot set linux.resources.{field}: {group} does not hand the {controller} controller on: {why}")]
    NotEnabled {
        /// The field below `linux.resources`.
        field: Cow<'static, str>,
        /// The controller.
        controller: String,
        /// The ancestor's folder.
        group: String,
        /// Why not.
        why: String,
    },
    /// The kernel took the request for a partition of CPUs and does not fulfil it.
    #[error("{file} was set to {value:?} and is {state:?}")]
    Partition {
        /// The file, with its folder.
        file: String,
        /// What was asked for.
        value: String,
        /// What the kernel says there is.
        state: String,
    },
    /// The kernel refused the value.
    #[error("cannot set linux.resources.{field}: write {value:?} to {file}{meaning}")]
    Refused {
        /// The field below `linux.resources`.
        field: Cow<'static, str>,
        /// The file, with its folder.
        file: String,
        /// The value.
        value: String,
        /// What that means, in words and parentheses; empty where the errno says it all.
        meaning: &'static str,
        /// What the kernel said.
        #[source]
        source: sys::Error,
    },
}

impl FileWrite {
    pub(crate) fn new(
        controller: &'static str,
        file: &'static str,
        value: impl fmt::Display,
        field: &'static str,
    ) -> Self {
        FileWrite {
            controller: Cow::Borrowed(controller),
            file: Cow::Borrowed(file),
            value: value.to_string(),
            field: Cow::Borrowed(field),
            absent: Absent::Fails,
        }
    }

    pub(crate) fn absent(mut self, absent: Absent) -> Self {
        self.absent = absent;
        self
    }
}

/// A limit as the `*_in_bytes` files and `cpu.cfs_quota_us` take it: -1 is none.
pub(crate) fn minus_one(limit: Limit) -> String {
    match limit {
        Limit::Max => "-1".to_owned(),
        Limit::Value(value) => value.to_string(),
    }
}

/// A limit as v2 files and `pids.max` take it. 0 is a limit there: no task more (config-linux.md, PIDs).
pub(crate) fn or_max(limit: Limit) -> String {
    match limit {
        Limit::Max => "max".to_owned(),
        Limit::Value(value) => value.to_string(),
    }
}

/// A limit that is set: runc and its callers write 0 for "leave it".
pub(crate) fn set(limit: Option<Limit>) -> Option<Limit> {
    limit.filter(|limit| *limit != Limit::Value(0))
}

/// A number that is set, 0 being "leave it".
pub(crate) fn set_number(number: Option<u64>) -> Option<u64> {
    number.filter(|number| *number != 0)
}

/// Which of two dependent numbers is written first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    Period,
    Quota,
}

/// Orders a change of quota and period so that the step between fits wherever both ends fit.
///
/// The kernel checks quota/period of a group against its parent's on each write, and the two are separate files in v1.
/// The step between has `old quota / new period` or `new quota / old period`. Their product is the product of the old and
/// the new ratio, so the smaller one is never above the larger end. No quota (`None`) fits everywhere.
pub(crate) fn bandwidth_order(old: (Option<u64>, u64), new: (Option<u64>, u64)) -> First {
    match (old, new) {
        ((None, _), _) => First::Period,
        (_, (None, _)) => First::Quota,
        ((Some(old_quota), old_period), (Some(new_quota), new_period)) => {
            let period_first = u128::from(old_quota) * u128::from(old_period);
            let quota_first = u128::from(new_quota) * u128::from(new_period);
            if period_first <= quota_first { First::Period } else { First::Quota }
        }
    }
}

/// Whether the burst goes before the quota: the kernel wants burst <= quota after each write.
pub(crate) fn burst_first(current: &Current, quota: Option<Limit>) -> bool {
    matches!(quota, Some(Limit::Value(quota)) if current.burst_us > quota)
}

/// A bandwidth limit as a fraction for [`bandwidth_order`].
pub(crate) fn finite(limit: Limit) -> Option<u64> {
    match limit {
        Limit::Max => None,
        Limit::Value(value) => Some(value),
    }
}

/// Shares or weight, and `cpu.idle`, in an order that the kernel takes: an idle group has a fixed weight and refuses
/// another (EINVAL), so idle is left first and entered last.
pub(crate) fn weight_and_idle(cpu: &CpuLimits, current: &Current, weight: Option<FileWrite>) -> Vec<FileWrite> {
    let idle = |value: i64| FileWrite::new("cpu", "cpu.idle", value, "cpu.idle");
    match (weight, cpu.idle) {
        (None, None) => Vec::new(),
        (None, Some(value)) => vec![idle(value)],
        (Some(weight), None) => vec![weight],
        (Some(weight), Some(0)) => vec![idle(0), weight],
        (Some(weight), Some(value)) if current.idle => vec![idle(0), weight, idle(value)],
        (Some(weight), Some(value)) => vec![weight, idle(value)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_between_is_never_above_both_ends() {
        let ratio = |quota: u64, period: u64| quota as f64 / period as f64;
        let (quotas, periods) = ([1_000, 3_000, 50_000, 400_000], [1_000, 10_000, 100_000, 1_000_000]);
        for old_quota in quotas {
            for old_period in periods {
                for new_quota in quotas {
                    for new_period in periods {
                        let old = (Some(old_quota), old_period);
                        let between = match bandwidth_order(old, (Some(new_quota), new_period)) {
                            First::Period => ratio(old_quota, new_period),
                            First::Quota => ratio(new_quota, old_period),
                        };
                        let ends = ratio(old_quota, old_period).max(ratio(new_quota, new_period));
                        assert!(between <= ends * 1.000_001, "{old:?} -> {new_quota}/{new_period}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_quota_fits_everywhere() {
        assert_eq!(bandwidth_order((None, 100_000), (Some(50_000), 10_000)), First::Period);
        assert_eq!(bandwidth_order((Some(50_000), 10_000), (None, 100_000)), First::Quota);
    }
}
