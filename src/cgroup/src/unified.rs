//! v2: limits to file writes. Pure.
//!
//! The definition is written for v1. What has no counterpart in v2 runc passes over, and so does this, saying so in
//! [`Limits::ignored`]: realtime, net_cls, net_prio, swappiness, the OOM killer's switch, kernel memory, leaf weights.

use runtime_spec::model::{BlockIo, CpuLimits, Limit, MemoryLimits, Resources, ThrottleDevice};

use crate::convert::{blkio_to_io_weight, shares_to_weight};
use crate::legacy::{hugetlb, rdma};
use crate::limit::{
    Absent, Context, FileWrite, Ignored, LimitError, Limits, burst_first, or_max, set, set_number, weight_and_idle,
};

/// Renders all limits of a container for the unified hierarchy, for creation and for `update` alike.
///
/// Spec: runtime-spec 1.3, config-linux.md, "Control groups" and "Unified". Kernel: admin-guide/cgroup-v2.rst.
///
/// # Errors
/// [`LimitError::NoController`] where the hierarchy does not offer the controller of a field that is set,
/// [`LimitError::Value`] for numbers that contradict each other, [`LimitError::BelowUsage`] for a shrink that would kill,
/// [`LimitError::UnifiedKey`].
pub fn writes(resources: &Resources, context: &Context<'_>) -> Result<Limits, LimitError> {
    let mut limits = Limits::default();
    limits.attach.extend(cpuset(&resources.cpu));
    let rest = &mut limits.rest;
    rest.extend(resources.pids.map(|limit| FileWrite::new("pids", "pids.max", or_max(limit), "pids.limit")));
    rest.extend(memory(&resources.memory, context)?);
    rest.extend(io(&resources.block_io));
    rest.extend(cpu(&resources.cpu, context));
    rest.extend(resources.hugepages.iter().flat_map(|page| hugetlb(page, "max")));
    rest.extend(resources.rdma.iter().map(|(device, limit)| rdma(device, *limit)));
    for write in limits.attach.iter().chain(&limits.rest) {
        if !context.has(&write.controller) {
            let (field, controller) = (write.field.clone(), write.controller.clone().into_owned());
            return Err(LimitError::NoController { field, controller });
        }
    }
    // Last, so that it overrides.
    for (key, value) in &resources.unified {
        limits.rest.extend(unified(key, value, context)?);
    }
    refuse_shrink(set(resources.memory.swap), "memory+swap", context)?;
    refuse_shrink(memory_max(resources), "memory", context)?;
    limits.ignored = ignored(resources);
    Ok(limits)
}

fn ignored(resources: &Resources) -> Vec<Ignored> {
    let Resources { memory, cpu, block_io, network, .. } = resources;
    let leaf =
        block_io.leaf_weight.is_some() || block_io.weight_device.iter().any(|device| device.leaf_weight.is_some());
    let table = [
        (memory.swappiness.is_some(), "memory.swappiness", "cgroup v2 has no swappiness per group"),
        (
            memory.disable_oom_killer == Some(true),
            "memory.disableOOMKiller",
            "cgroup v2 cannot turn the OOM killer off",
        ),
        (memory.kernel.is_some(), "memory.kernel", "cgroup v2 counts kernel memory in memory.max"),
        (memory.kernel_tcp.is_some(), "memory.kernelTCP", "cgroup v2 counts TCP buffers in memory.max"),
        (memory.use_hierarchy == Some(false), "memory.useHierarchy", "cgroup v2 always counts hierarchically"),
        (cpu.realtime_runtime_us.is_some(), "cpu.realtimeRuntime", "cgroup v2 has no realtime bandwidth"),
        (cpu.realtime_period_us.is_some(), "cpu.realtimePeriod", "cgroup v2 has no realtime bandwidth"),
        (leaf, "blockIO.leafWeight", "cgroup v2 has no leaf weights"),
        (network.class_id.is_some(), "network.classID", "cgroup v2 has no net_cls controller"),
        (!network.priorities.is_empty(), "network.priorities", "cgroup v2 has no net_prio controller"),
    ];
    table.into_iter().filter(|(on, ..)| *on).map(|(_, field, reason)| Ignored { field, reason }).collect()
}

fn cpuset(cpu: &CpuLimits) -> impl Iterator<Item = FileWrite> {
    let write = |list: &Option<String>, file, field| {
        list.as_ref().filter(|list| !list.is_empty()).map(|list| FileWrite::new("cpuset", file, list, field))
    };
    let cpus = write(&cpu.cpus, "cpuset.cpus", "cpu.cpus");
    cpus.into_iter().chain(write(&cpu.mems, "cpuset.mems", "cpu.mems"))
}

fn memory(memory: &MemoryLimits, context: &Context<'_>) -> Result<Vec<FileWrite>, LimitError> {
    let (limit, both) = (set(memory.limit), set(memory.swap));
    let mut writes = Vec::new();
    if let Some(swap) = swap_only(limit, both, context)? {
        // A kernel without swap has no such file; then there is nothing to forbid or to allow.
        let absent = if matches!(swap, Limit::Max | Limit::Value(0)) { Absent::Skipped } else { Absent::Fails };
        writes.push(FileWrite::new("memory", "memory.swap.max", or_max(swap), "memory.swap").absent(absent));
    }
    writes.extend(limit.map(|value| FileWrite::new("memory", "memory.max", or_max(value), "memory.limit")));
    let low = |value| FileWrite::new("memory", "memory.low", or_max(value), "memory.reservation");
    writes.extend(set(memory.reservation).map(low));
    Ok(writes)
}

/// The limit of memory that a group gets: the smallest of the lines of `unified`, which override, else the definition's.
/// `None` where none is asked for, and for what the kernel will refuse.
pub(crate) fn memory_max(resources: &Resources) -> Option<Limit> {
    match resources.unified.get("memory.max") {
        Some(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "max");
            lines.filter_map(parse_bytes).min().map(Limit::Value)
        }
        None => set(resources.memory.limit),
    }
}

/// A number of bytes as the kernel takes it: in C's notation, with a unit of 1024 or none. Kernel: lib/cmdline.c,
/// `memparse`.
fn parse_bytes(text: &str) -> Option<u64> {
    const UNITS: [(char, u32); 6] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50), ('e', 60)];
    let lower = text.to_ascii_lowercase();
    // In a number of base 16 it is a digit.
    let units = if lower.starts_with("0x") { &UNITS[..5] } else { &UNITS };
    let unit = units.iter().find_map(|(unit, shift)| Some((lower.strip_suffix(*unit)?, *shift)));
    let (digits, shift) = unit.unwrap_or((&lower, 0));
    let number = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(hexadecimal), _) => u64::from_str_radix(hexadecimal, 16),
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8),
        _ => digits.parse(),
    };
    number.ok()?.checked_mul(1 << shift)
}

/// A limit below what is in use makes the kernel reclaim for a while and then kill until it fits. On v1 it refuses, with
/// EBUSY, after it tried to reclaim.
fn refuse_shrink(limit: Option<Limit>, what: &'static str, context: &Context<'_>) -> Result<(), LimitError> {
    let usage = context.current.memory_usage;
    match limit {
        Some(Limit::Value(limit)) if limit <= usage => Err(LimitError::BelowUsage { what, limit, usage }),
        _ => Ok(()),
    }
}

/// `memory.swap.max` counts swap alone, `memory.swap` of the definition counts memory and swap.
///
/// Source: crun.1 "cgroup v2" and runc's `ConvertMemorySwapToCgroupV2Value`.
fn swap_only(limit: Option<Limit>, both: Option<Limit>, context: &Context<'_>) -> Result<Option<Limit>, LimitError> {
    let fail = |reason: &str| Err(LimitError::Value { field: "memory.swap".into(), reason: reason.to_owned() });
    match (limit, both) {
        (Some(Limit::Max), None) | (_, Some(Limit::Max)) => Ok(Some(Limit::Max)),
        (_, None) => Ok(None),
        (Some(Limit::Max), Some(swap)) => Ok(Some(swap)),
        (limit, Some(Limit::Value(both))) => match limit.unwrap_or(context.current.memory_limit) {
            Limit::Max => fail("unable to set swap limit without memory limit"),
            Limit::Value(limit) if both < limit => fail("memory+swap limit should be >= memory limit"),
            Limit::Value(limit) => Ok(Some(Limit::Value(both - limit))),
        },
    }
}

fn cpu(cpu: &CpuLimits, context: &Context<'_>) -> Vec<FileWrite> {
    let weight = |shares| FileWrite::new("cpu", "cpu.weight", shares_to_weight(shares), "cpu.shares");
    let mut writes = weight_and_idle(cpu, &context.current, set_number(cpu.shares).map(weight));
    let (quota, period) = (set(cpu.quota_us), set_number(cpu.period_us));
    let max = render_cpu_max(quota, period, context.current.quota_us);
    let max = max
        .map(|value| FileWrite::new("cpu", "cpu.max", value, if quota.is_some() { "cpu.quota" } else { "cpu.period" }));
    let burst = cpu.burst_us.map(|value| FileWrite::new("cpu", "cpu.max.burst", value, "cpu.burst"));
    if burst_first(&context.current, quota) {
        writes.extend(burst.into_iter().chain(max));
    } else {
        writes.extend(max.into_iter().chain(burst));
    }
    writes
}

/// The line for `cpu.max`, microseconds both. A quota alone keeps the period, a period alone keeps the quota.
fn render_cpu_max(quota: Option<Limit>, period: Option<u64>, current: Limit) -> Option<String> {
    match (quota, period) {
        (None, None) => None,
        (Some(quota), None) => Some(or_max(quota)),
        (quota, Some(period)) => Some(format!("{} {period}", or_max(quota.unwrap_or(current)))),
    }
}

fn io(block: &BlockIo) -> Vec<FileWrite> {
    let mut writes = Vec::new();
    // BFQ takes the definition's own range; io.weight belongs to blk-iocost and has another.
    let weight = |bfq: String, other: String, field| {
        FileWrite::new("io", "io.bfq.weight", bfq, field).absent(Absent::Instead { file: "io.weight", value: other })
    };
    if let Some(value) = block.weight.filter(|weight| *weight != 0) {
        writes.push(weight(value.to_string(), blkio_to_io_weight(value).to_string(), "blockIO.weight"));
    }
    for device in &block.weight_device {
        if let Some(value) = device.weight.filter(|weight| *weight != 0) {
            let line = |weight: u64| format!("{}:{} {weight}", device.major, device.minor);
            writes.push(weight(line(value.into()), line(blkio_to_io_weight(value)), "blockIO.weightDevice"));
        }
    }
    let throttles = [
        (&block.throttle_read_bps, "rbps", "blockIO.throttleReadBpsDevice"),
        (&block.throttle_write_bps, "wbps", "blockIO.throttleWriteBpsDevice"),
        (&block.throttle_read_iops, "riops", "blockIO.throttleReadIOPSDevice"),
        (&block.throttle_write_iops, "wiops", "blockIO.throttleWriteIOPSDevice"),
    ];
    for (devices, key, field) in throttles {
        writes.extend(devices.iter().map(|device| FileWrite::new("io", "io.max", io_max(device, key), field)));
    }
    writes
}

/// One line for `io.max`. A rate of 0 removes the limit, as it does on v1; the kernel would refuse the number.
fn io_max(device: &ThrottleDevice, key: &str) -> String {
    let rate = if device.rate == 0 { Limit::Max } else { Limit::Value(device.rate) };
    format!("{}:{} {key}={}", device.major, device.minor, or_max(rate))
}

/// One write per line of the value, because files such as `io.max` take one device at a time.
fn unified(key: &str, value: &str, context: &Context<'_>) -> Result<Vec<FileWrite>, LimitError> {
    let fail = |reason: String| Err(LimitError::UnifiedKey { key: key.to_owned(), reason });
    if key.contains('/') {
        return fail("must be a file name (no slashes)".to_owned());
    }
    let controller = match key.split_once('.') {
        Some((controller, parameter)) if !controller.is_empty() && !parameter.is_empty() => controller,
        _ => return fail("must be in the form CONTROLLER.PARAMETER".to_owned()),
    };
    // Pressure files belong to the group, not to a controller.
    let of_group = controller == "cgroup" || key.ends_with(".pressure");
    if !of_group && !context.has(controller) {
        return fail(format!("can't be set: controller {controller:?} not available"));
    }
    let write = |line: &str| FileWrite {
        controller: if of_group { "cgroup".into() } else { controller.to_owned().into() },
        file: key.to_owned().into(),
        value: line.to_owned(),
        field: format!("unified.{key}").into(),
        absent: Absent::Fails,
    };
    let lines: Vec<&str> = value.lines().filter(|line| !line.is_empty()).collect();
    // An empty value is a value: it resets cpuset.cpus.
    if lines.is_empty() { Ok(vec![write("\n")]) } else { Ok(lines.into_iter().map(write).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_the_kernel_takes_them() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(parse_bytes(text), expected, "{text:?}");
        check("20971520", Some(20 << 20));
        for text in ["20M", "20m", "20480k", "0x14M", "0x1400000", "024m", "0X14m"] {
            check(text, Some(20 << 20));
        }
        check("1e", Some(1 << 60));
        check("0x1e", Some(30));
        check("0X1E", Some(30));
        check("0", Some(0));
        for text in ["", "M", "max", "1.5G", "-1", "99999999999999999999", "99E", "1 M", "ü"] {
            check(text, None);
        }
    }

    #[test]
    fn the_limit_of_memory_is_that_of_the_last_word() {
        let check = |text: Option<&str>, expected: Option<Limit>| {
            let mut resources = Resources::default();
            resources.memory.limit = Some(Limit::Value(7));
            resources.unified.extend(text.map(|text| ("memory.max".to_owned(), text.to_owned())));
            assert_eq!(memory_max(&resources), expected, "{text:?}");
        };
        check(None, Some(Limit::Value(7)));
        check(Some("1G"), Some(Limit::Value(1 << 30)));
        check(Some("1G\n1M\n"), Some(Limit::Value(1 << 20)));
        check(Some("max"), None);
    }
}
