//! CPU limits.

use super::super::{list, quote, text};
use crate::finding::{Log, Path};
use crate::model::{CpuLimits, Limit};
use crate::oci;

const SECTION: &str = "config-linux.md, CPU";

/// Bounds of the kernel for a period and the least quota, in microseconds (kernel/sched/core.c,
/// `max_cfs_quota_period` and `min_cfs_quota_period`).
const PERIOD_MIN_US: u64 = 1_000;
const PERIOD_MAX_US: u64 = 1_000_000;

/// Bounds of the kernel for shares (kernel/sched/sched.h, MIN_SHARES and MAX_SHARES).
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;

/// Judges and lowers `cpu`.
pub(super) fn lower(cpu: &oci::Cpu, at: &Path<'_>, log: &mut Log) -> CpuLimits {
    let limits = CpuLimits {
        shares: shares(cpu.shares, &at.key("shares"), log),
        quota_us: quota(cpu.quota, &at.key("quota"), log),
        period_us: period(cpu.period, &at.key("period"), log),
        burst_us: cpu.burst,
        realtime_runtime_us: cpu.realtime_runtime.filter(|runtime| *runtime != 0),
        realtime_period_us: cpu.realtime_period.filter(|period| *period != 0),
        cpus: kernel_list(&cpu.cpus, &at.key("cpus"), log),
        mems: kernel_list(&cpu.mems, &at.key("mems"), log),
        idle: cpu.idle,
    };
    if let (Some(burst), Some(Limit::Value(quota))) = (limits.burst_us, limits.quota_us)
        && burst > quota
    {
        log.error(&at.key("burst"), SECTION, format_args!("{burst} must not be more than the quota, {quota}"));
    }
    if let (Some(runtime), Some(period)) = (limits.realtime_runtime_us, limits.realtime_period_us)
        && u64::try_from(runtime).is_ok_and(|runtime| runtime > period)
    {
        let at = at.key("realtimeRuntime");
        log.error(&at, SECTION, format_args!("{runtime} must not be more than the period, {period}"));
    }
    if limits.idle.is_some_and(|idle| !matches!(idle, 0 | 1)) {
        let value = limits.idle.unwrap_or(0);
        log.error(&at.key("idle"), SECTION, format_args!("must be 0 or 1, not {value}"));
    }
    limits
}

fn shares(value: Option<u64>, at: &Path<'_>, log: &mut Log) -> Option<u64> {
    let value = value.filter(|value| *value != 0)?;
    let used = value.clamp(SHARES_MIN, SHARES_MAX);
    if used != value {
        log.warn(at, SECTION, format_args!("{value} is outside of {SHARES_MIN} to {SHARES_MAX}; {used} is used"));
    }
    Some(used)
}

fn quota(value: Option<i64>, at: &Path<'_>, log: &mut Log) -> Option<Limit> {
    let value = value.filter(|value| *value != 0)?;
    let Ok(quota) = u64::try_from(value) else { return Some(Limit::Max) };
    if quota < PERIOD_MIN_US {
        log.error(at, SECTION, format_args!("must be at least {PERIOD_MIN_US} microseconds, not {quota}"));
    }
    Some(Limit::Value(quota))
}

fn period(value: Option<u64>, at: &Path<'_>, log: &mut Log) -> Option<u64> {
    let value = value.filter(|value| *value != 0)?;
    if !(PERIOD_MIN_US..=PERIOD_MAX_US).contains(&value) {
        log.error(
            at,
            SECTION,
            format_args!("must be from {PERIOD_MIN_US} to {PERIOD_MAX_US} microseconds, not {value}"),
        );
    }
    Some(value)
}

fn kernel_list(value: &Option<String>, at: &Path<'_>, log: &mut Log) -> Option<String> {
    let value = text(value)?;
    if !list::may_be_kernel_list(value) {
        log.error(at, SECTION, format_args!("must be a list such as 0-3,7, not {}", quote(value)));
    }
    Some(value.to_owned())
}
