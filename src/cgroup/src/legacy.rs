//! v1: limits to file writes. Pure.
//!
//! What runc passes over, this passes over too, and says so in [`Limits::ignored`]: `memory.kernel` (the kernel accepts
//! the write and forgets it since 5.16) and `memory.useHierarchy` (always on since 5.11). `memory.kernelTCP`, which runc
//! drops, is written, because the kernel still enforces it.

use runtime_spec::model::{
    BlockIo, CpuLimits, HugepageLimit, Limit, MemoryLimits, NetworkLimits, RdmaLimit, Resources,
};

use crate::convert::SHARES;
use crate::limit::{
    Absent, Context, FileWrite, First, Ignored, LimitError, Limits, bandwidth_order, burst_first, finite, minus_one,
    or_max, set, set_number, weight_and_idle,
};

/// Renders all limits of a container for v1 hierarchies, for creation and for `update` alike.
///
/// Spec: runtime-spec 1.3, config-linux.md, "Control groups". Kernel: Documentation/admin-guide/cgroup-v1/.
///
/// # Errors
/// [`LimitError::NoController`] where no group has the controller of a field that is set, [`LimitError::Value`] for
/// numbers that contradict each other or the present ones, [`LimitError::UnifiedOnLegacy`].
pub fn writes(resources: &Resources, context: &Context<'_>) -> Result<Limits, LimitError> {
    if !resources.unified.is_empty() {
        return Err(LimitError::UnifiedOnLegacy);
    }
    let mut limits = Limits::default();
    let attach = &mut limits.attach;
    attach.extend(cpuset(&resources.cpu));
    attach.extend(realtime(&resources.cpu, context));
    attach.extend(net_cls(&resources.network));
    let rest = &mut limits.rest;
    rest.extend(context.device_lines.iter().map(|(file, line)| FileWrite::new("devices", file, line, "devices")));
    rest.extend(memory(&resources.memory, context)?);
    rest.extend(cpu(&resources.cpu, context)?);
    rest.extend(resources.pids.map(|limit| FileWrite::new("pids", "pids.max", or_max(limit), "pids.limit")));
    rest.extend(blkio(&resources.block_io));
    rest.extend(resources.hugepages.iter().flat_map(|page| hugetlb(page, "limit_in_bytes")));
    rest.extend(net_prio(&resources.network));
    rest.extend(resources.rdma.iter().map(|(device, limit)| rdma(device, *limit)));
    limits.ignored = ignored(&resources.memory);
    for write in limits.attach.iter().chain(&limits.rest) {
        if !context.has(&write.controller) {
            let (field, controller) = (write.field.clone(), write.controller.clone().into_owned());
            return Err(LimitError::NoController { field, controller });
        }
    }
    Ok(limits)
}

fn ignored(memory: &MemoryLimits) -> Vec<Ignored> {
    let kernel = memory.kernel.map(|_| Ignored {
        field: "memory.kernel",
        reason: "the kernel counts kernel memory in memory.limit and has forgotten this limit since 5.16",
    });
    let hierarchy = memory.use_hierarchy.filter(|on| !on).map(|_| Ignored {
        field: "memory.useHierarchy",
        reason: "the kernel has counted hierarchically without a choice since 5.11",
    });
    kernel.into_iter().chain(hierarchy).collect()
}

fn cpuset(cpu: &CpuLimits) -> impl Iterator<Item = FileWrite> {
    let write = |list: &Option<String>, file, plain, field| {
        let list = list.as_ref().filter(|list| !list.is_empty())?;
        // A cpuset hierarchy that is mounted with `noprefix` has the same files without `cpuset.`.
        let absent = Absent::Instead { file: plain, value: list.clone() };
        Some(FileWrite::new("cpuset", file, list, field).absent(absent))
    };
    let cpus = write(&cpu.cpus, "cpuset.cpus", "cpus", "cpu.cpus");
    let mems = write(&cpu.mems, "cpuset.mems", "mems", "cpu.mems");
    cpus.into_iter().chain(mems)
}

/// Realtime bandwidth, ordered as [`bandwidth_order`] says. A group without it refuses a task that is SCHED_RR already.
fn realtime(cpu: &CpuLimits, context: &Context<'_>) -> Vec<FileWrite> {
    let runtime = cpu.realtime_runtime_us.filter(|runtime| *runtime != 0);
    let period = set_number(cpu.realtime_period_us);
    let current = &context.current;
    // Unlimited realtime (-1) counts as a whole CPU, unlike an unlimited quota, which counts as the parent's.
    let fraction = |runtime: i64, period: u64| (Some(u64::try_from(runtime).unwrap_or(period)), period);
    let old = fraction(current.realtime_runtime_us, current.realtime_period_us);
    let new_period = period.unwrap_or(current.realtime_period_us);
    let new = fraction(runtime.unwrap_or(current.realtime_runtime_us), new_period);
    let period = period.map(|value| FileWrite::new("cpu", "cpu.rt_period_us", value, "cpu.realtimePeriod"));
    let runtime = runtime.map(|value| FileWrite::new("cpu", "cpu.rt_runtime_us", value, "cpu.realtimeRuntime"));
    match bandwidth_order(old, new) {
        First::Period => period.into_iter().chain(runtime).collect(),
        First::Quota => runtime.into_iter().chain(period).collect(),
    }
}

fn net_cls(network: &NetworkLimits) -> Option<FileWrite> {
    let class = network.class_id.filter(|class| *class != 0)?;
    Some(FileWrite::new("net_cls", "net_cls.classid", class, "network.classID"))
}

fn net_prio(network: &NetworkLimits) -> impl Iterator<Item = FileWrite> {
    network.priorities.iter().map(|(interface, priority)| {
        FileWrite::new("net_prio", "net_prio.ifpriomap", format!("{interface} {priority}"), "network.priorities")
    })
}

fn memory(memory: &MemoryLimits, context: &Context<'_>) -> Result<Vec<FileWrite>, LimitError> {
    let mut writes = memory_and_swap(memory, context)?;
    let soft = |limit| FileWrite::new("memory", "memory.soft_limit_in_bytes", minus_one(limit), "memory.reservation");
    writes.extend(set(memory.reservation).map(soft));
    let tcp = |limit| FileWrite::new("memory", "memory.kmem.tcp.limit_in_bytes", minus_one(limit), "memory.kernelTCP");
    writes.extend(set(memory.kernel_tcp).map(|limit| tcp(limit).absent(Absent::Skipped)));
    let killer = memory.disable_oom_killer.filter(|disabled| *disabled != context.current.oom_killer_disabled);
    let field = "memory.disableOOMKiller";
    writes.extend(killer.map(|disabled| FileWrite::new("memory", "memory.oom_control", u8::from(disabled), field)));
    if let Some(value) = memory.swappiness {
        if value > 100 {
            let reason = format!("invalid memory swappiness value: {value} (valid range is 0-100)");
            return Err(LimitError::Value { field: "memory.swappiness".into(), reason });
        }
        writes.push(FileWrite::new("memory", "memory.swappiness", value, "memory.swappiness"));
    }
    Ok(writes)
}

/// `memory.limit_in_bytes` and `memory.memsw.limit_in_bytes`. The kernel wants limit <= memsw after each write, so the
/// one that makes room goes first.
fn memory_and_swap(memory: &MemoryLimits, context: &Context<'_>) -> Result<Vec<FileWrite>, LimitError> {
    let limit = set(memory.limit);
    let mut swap = set(memory.swap);
    let mut swap_absent = Absent::Fails;
    if limit == Some(Limit::Max) && swap.is_none() {
        // No limit on memory means none on memory and swap together either.
        (swap, swap_absent) = (Some(Limit::Max), Absent::Skipped);
    }
    let current = &context.current;
    let (new_limit, new_swap) = (limit.unwrap_or(current.memory_limit), swap.unwrap_or(current.memory_and_swap));
    if (limit.is_some() || swap.is_some()) && above(new_limit, new_swap) {
        let reason = format!(
            "memory+swap limit {} is below the memory limit {}: set memory.limit and memory.swap together",
            minus_one(new_swap),
            minus_one(new_limit)
        );
        let field = if swap.is_some() { "memory.swap" } else { "memory.limit" };
        return Err(LimitError::Value { field: field.into(), reason });
    }
    let limit = limit.map(|value| FileWrite::new("memory", "memory.limit_in_bytes", minus_one(value), "memory.limit"));
    let swap = swap.map(|value| {
        FileWrite::new("memory", "memory.memsw.limit_in_bytes", minus_one(value), "memory.swap").absent(swap_absent)
    });
    if above(new_limit, current.memory_and_swap) {
        Ok(swap.into_iter().chain(limit).collect())
    } else {
        Ok(limit.into_iter().chain(swap).collect())
    }
}

fn above(left: Limit, right: Limit) -> bool {
    match (left, right) {
        (_, Limit::Max) => false,
        (Limit::Max, Limit::Value(_)) => true,
        (Limit::Value(left), Limit::Value(right)) => left > right,
    }
}

fn cpu(cpu: &CpuLimits, context: &Context<'_>) -> Result<Vec<FileWrite>, LimitError> {
    let shares = set_number(cpu.shares);
    if let Some(shares) = shares.filter(|shares| !SHARES.contains(shares)) {
        // The kernel clamps in silence.
        let (least, most) = (SHARES.start(), SHARES.end());
        let (what, bound) = if shares < *least { ("minimum", least) } else { ("maximum", most) };
        let reason = format!("the {what} allowed cpu-shares is {bound}");
        return Err(LimitError::Value { field: "cpu.shares".into(), reason });
    }
    let shares = shares.map(|value| FileWrite::new("cpu", "cpu.shares", value, "cpu.shares"));
    let mut writes = weight_and_idle(cpu, &context.current, shares);
    writes.extend(quota_period_burst(cpu, context));
    Ok(writes)
}

fn quota_period_burst(cpu: &CpuLimits, context: &Context<'_>) -> Vec<FileWrite> {
    let (quota, period) = (set(cpu.quota_us), set_number(cpu.period_us));
    let current = &context.current;
    let old = (finite(current.quota_us), current.period_us);
    let new = (finite(quota.unwrap_or(current.quota_us)), period.unwrap_or(current.period_us));
    let burst_is_first = burst_first(current, quota);
    // runc passes over a burst on a kernel before 5.14, which has none.
    let burst =
        cpu.burst_us.map(|value| FileWrite::new("cpu", "cpu.cfs_burst_us", value, "cpu.burst").absent(Absent::Skipped));
    let quota = quota.map(|value| FileWrite::new("cpu", "cpu.cfs_quota_us", minus_one(value), "cpu.quota"));
    let period = period.map(|value| FileWrite::new("cpu", "cpu.cfs_period_us", value, "cpu.period"));
    let (first, second) = match bandwidth_order(old, new) {
        First::Period => (period, quota),
        First::Quota => (quota, period),
    };
    let (before, after) = if burst_is_first { (burst, None) } else { (None, burst) };
    before.into_iter().chain(first).chain(second).chain(after).collect()
}

fn blkio(block: &BlockIo) -> Vec<FileWrite> {
    let mut writes = Vec::new();
    // CFQ had these files up to 5.0, BFQ has them since; whichever the kernel has.
    let weight = |file, bfq, value: String, field| {
        FileWrite::new("blkio", file, &value, field).absent(Absent::Instead { file: bfq, value })
    };
    if let Some(value) = block.weight.filter(|weight| *weight != 0) {
        writes.push(weight("blkio.weight", "blkio.bfq.weight", value.to_string(), "blockIO.weight"));
    }
    if let Some(value) = block.leaf_weight.filter(|weight| *weight != 0) {
        writes.push(FileWrite::new("blkio", "blkio.leaf_weight", value, "blockIO.leafWeight"));
    }
    for device in &block.weight_device {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(value) = device.weight.filter(|weight| *weight != 0) {
            let (file, bfq) = ("blkio.weight_device", "blkio.bfq.weight_device");
            writes.push(weight(file, bfq, line(value), "blockIO.weightDevice"));
        }
        if let Some(value) = device.leaf_weight.filter(|weight| *weight != 0) {
            writes.push(FileWrite::new("blkio", "blkio.leaf_weight_device", line(value), "blockIO.weightDevice"));
        }
    }
    let throttles = [
        (&block.throttle_read_bps, "blkio.throttle.read_bps_device", "blockIO.throttleReadBpsDevice"),
        (&block.throttle_write_bps, "blkio.throttle.write_bps_device", "blockIO.throttleWriteBpsDevice"),
        (&block.throttle_read_iops, "blkio.throttle.read_iops_device", "blockIO.throttleReadIOPSDevice"),
        (&block.throttle_write_iops, "blkio.throttle.write_iops_device", "blockIO.throttleWriteIOPSDevice"),
    ];
    for (devices, file, field) in throttles {
        writes.extend(devices.iter().map(|device| {
            FileWrite::new("blkio", file, format!("{}:{} {}", device.major, device.minor, device.rate), field)
        }));
    }
    writes
}

/// The limit of faults, and the limit of reservations where the kernel has one (5.7): a reservation that fails is an
/// error of mmap, a fault that fails is a SIGBUS.
///
/// `file` is the end of the limit's name, `limit_in_bytes` or `max`.
pub(crate) fn hugetlb(page: &HugepageLimit, file: &str) -> [FileWrite; 2] {
    let write = |middle: &str, absent| FileWrite {
        controller: "hugetlb".into(),
        file: format!("hugetlb.{}.{middle}{file}", page.page_size).into(),
        value: page.limit.to_string(),
        field: "hugepageLimits".into(),
        absent,
    };
    [write("", Absent::Fails), write("rsvd.", Absent::Skipped)]
}

/// `<device> hca_handle=N hca_object=M`, the same on v1 and v2.
pub(crate) fn rdma(device: &str, limit: RdmaLimit) -> FileWrite {
    let mut line = device.to_owned();
    for (key, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    FileWrite::new("rdma", "rdma.max", line, "rdma")
}
