//! Memory limits.

use super::Purpose;
use crate::finding::{Log, Path};
use crate::model::{Limit, MemoryLimits};
use crate::oci;

const SECTION: &str = "config-linux.md, memory";

/// Judges and lowers `memory`.
pub(super) fn lower(memory: &oci::Memory, purpose: Purpose, at: &Path<'_>, log: &mut Log) -> MemoryLimits {
    for (name, value) in [("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)] {
        if value.is_some_and(|value| value > 0) {
            log.warn(&at.key(name), SECTION, "is deprecated; kernels since 5.4 ignore it or refuse it");
        }
    }
    let mut size = |value: Option<i64>, name: &str| bytes(value, &at.key(name), log);
    let limits = MemoryLimits {
        limit: size(memory.limit, "limit"),
        reservation: size(memory.reservation, "reservation"),
        swap: size(memory.swap, "swap"),
        kernel: size(memory.kernel, "kernel"),
        kernel_tcp: size(memory.kernel_tcp, "kernelTCP"),
        swappiness: swappiness(memory.swappiness, &at.key("swappiness"), log),
        disable_oom_killer: memory.disable_oom_killer,
        use_hierarchy: memory.use_hierarchy,
        check_before_update: memory.check_before_update.unwrap_or(false),
    };
    check_swap(&limits, purpose, &at.key("swap"), log);
    limits
}

/// A size in bytes: -1 is no limit, 0 is not set.
fn bytes(value: Option<i64>, at: &Path<'_>, log: &mut Log) -> Option<Limit> {
    match value? {
        0 => None,
        -1 => Some(Limit::Max),
        value => {
            let size = u64::try_from(value).ok().map(Limit::Value);
            if size.is_none() {
                log.error(at, SECTION, format_args!("must be a number of bytes or -1 for no limit, not {value}"));
            }
            size
        }
    }
}

/// 0 to 100. Old callers write -1 for "not set", which their language turns into the highest number.
fn swappiness(value: Option<u64>, at: &Path<'_>, log: &mut Log) -> Option<u64> {
    let value = value.filter(|value| *value != u64::MAX)?;
    if value > 100 {
        log.error(at, SECTION, format_args!("must be from 0 to 100, not {value}"));
    }
    Some(value)
}

/// `swap` counts memory and swap together, so it cannot be below `limit`, and has no meaning without one.
fn check_swap(limits: &MemoryLimits, purpose: Purpose, at: &Path<'_>, log: &mut Log) {
    let Some(Limit::Value(swap)) = limits.swap else { return };
    match limits.limit {
        Some(Limit::Value(limit)) if swap < limit => log.error(
            at,
            SECTION,
            format_args!("{swap} is memory and swap together and cannot be less than the memory limit, {limit}"),
        ),
        Some(Limit::Max) => log.error(at, SECTION, format_args!("{swap} needs a memory limit")),
        None if purpose == Purpose::Create => log.error(at, SECTION, format_args!("{swap} needs a memory limit")),
        _ => {}
    }
}
