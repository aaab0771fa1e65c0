//! Statistics of v1 groups.

use super::parse::{self, Source};
use super::{Blkio, BlkioEntry, Counter, Cpu, Cpuset, Hugetlb, Memory, Pids, Rdma, Stats};
use crate::error::Result;
use crate::group::Group;

/// Nanoseconds of a tick in `cpuacct.stat`: USER_HZ is 100 on every architecture that we build for.
const TICK_NS: u64 = 10_000_000;

pub(super) fn read(group: &Group, stats: &mut Stats) -> Result<()> {
    let source = |controller| group.dir(controller).map(|dir| Source { dir });
    source("cpu").map_or(Ok(()), |source| throttling(source, &mut stats.cpu))?;
    source("cpuacct").map_or(Ok(()), |source| cpuacct(source, &mut stats.cpu))?;
    source("cpuset").map_or(Ok(()), |source| cpuset(source, &mut stats.cpuset))?;
    source("memory").map_or(Ok(()), |source| memory(source, &mut stats.memory))?;
    source("pids").map_or(Ok(()), |source| pids(source, &mut stats.pids))?;
    source("blkio").map_or(Ok(()), |source| blkio(source, &mut stats.blkio))?;
    if let Some(source) = source("hugetlb") {
        for (size, _) in sizes(source)? {
            stats.hugetlb.insert(size.clone(), hugetlb(source, &size)?);
        }
    }
    source("rdma").map_or(Ok(()), |source| rdma(source, stats))
}

fn throttling(source: Source<'_>, cpu: &mut Cpu) -> Result<()> {
    let Some(values) = source.parsed("cpu.stat", parse::key_values)? else { return Ok(()) };
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    (cpu.periods, cpu.throttled_periods) = (value("nr_periods"), value("nr_throttled"));
    cpu.throttled_ns = value("throttled_time");
    Ok(())
}

fn cpuacct(source: Source<'_>, cpu: &mut Cpu) -> Result<()> {
    cpu.total_ns = source.number("cpuacct.usage")?;
    if let Some(values) = source.parsed("cpuacct.stat", parse::key_values)? {
        let ticks = |key: &str| values.get(key).copied().unwrap_or(0).saturating_mul(TICK_NS);
        (cpu.user_ns, cpu.kernel_ns) = (ticks("user"), ticks("system"));
    }
    cpu.percpu_ns = source.parsed("cpuacct.usage_percpu", parse::numbers)?.unwrap_or_default();
    if let Some(lines) = source.parsed("cpuacct.usage_all", usage_all)? {
        (cpu.percpu_user_ns, cpu.percpu_kernel_ns) = lines.into_iter().unzip();
    }
    Ok(())
}

/// A table with the header `cpu user system`.
fn usage_all(text: &str) -> Option<Vec<(u64, u64)>> {
    let mut lines = text.lines();
    if !lines.next()?.starts_with("cpu user system") {
        return None;
    }
    let parse = |line| {
        let values = parse::numbers(line)?;
        Some((*values.get(1)?, *values.get(2)?))
    };
    lines.map(parse).collect()
}

fn cpuset(source: Source<'_>, cpuset: &mut Cpuset) -> Result<()> {
    cpuset.cpus = source.parsed("cpuset.cpus", parse::list)?.unwrap_or_default();
    cpuset.mems = source.parsed("cpuset.mems", parse::list)?.unwrap_or_default();
    cpuset.cpu_exclusive = source.number("cpuset.cpu_exclusive")?;
    cpuset.mem_hardwall = source.number("cpuset.mem_hardwall")?;
    cpuset.mem_exclusive = source.number("cpuset.mem_exclusive")?;
    cpuset.memory_migrate = source.number("cpuset.memory_migrate")?;
    cpuset.memory_spread_page = source.number("cpuset.memory_spread_page")?;
    cpuset.memory_spread_slab = source.number("cpuset.memory_spread_slab")?;
    cpuset.memory_pressure = source.number("cpuset.memory_pressure")?;
    cpuset.sched_load_balance = source.number("cpuset.sched_load_balance")?;
    let level = source.parsed("cpuset.sched_relax_domain_level", |text| text.trim().parse().ok())?;
    cpuset.sched_relax_domain_level = level.unwrap_or(0);
    Ok(())
}

fn memory(source: Source<'_>, memory: &mut Memory) -> Result<()> {
    memory.raw = source.parsed("memory.stat", parse::key_values)?.unwrap_or_default();
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    memory.usage = counter(source, "memory")?;
    memory.swap = counter(source, "memory.memsw")?;
    memory.kernel = counter(source, "memory.kmem")?;
    memory.kernel_tcp = counter(source, "memory.kmem.tcp")?;
    let control = source.parsed("memory.oom_control", parse::key_values)?.unwrap_or_default();
    memory.oom_kills = control.get("oom_kill").copied().unwrap_or(0);
    Ok(())
}

fn counter(source: Source<'_>, prefix: &str) -> Result<Counter> {
    let number = |suffix: &str| source.number(&format!("{prefix}.{suffix}"));
    Ok(Counter {
        usage: number("usage_in_bytes")?,
        max_usage: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
        limit: number("limit_in_bytes")?,
    })
}

pub(super) fn pids(source: Source<'_>, pids: &mut Pids) -> Result<()> {
    pids.current = source.number("pids.current")?;
    pids.limit = Some(source.number("pids.max")?).filter(|limit| *limit != u64::MAX).unwrap_or(0);
    Ok(())
}

/// Where each list comes from: the first set whose first file has content. BFQ with its statistics, BFQ, CFQ (before
/// 5.0), throttling with the groups below, throttling.
fn blkio(source: Source<'_>, blkio: &mut Blkio) -> Result<()> {
    for prefix in ["blkio.bfq.", "blkio."] {
        let list = |name: &str| entries(source, &format!("{prefix}{name}_recursive"));
        let sectors = list("sectors")?;
        if sectors.is_empty() {
            continue;
        }
        blkio.sectors = sectors;
        blkio.service_time = list("io_service_time")?;
        blkio.wait_time = list("io_wait_time")?;
        blkio.merged = list("io_merged")?;
        blkio.queued = list("io_queued")?;
        blkio.time = list("time")?;
        blkio.serviced = list("io_serviced")?;
        blkio.service_bytes = list("io_service_bytes")?;
        return Ok(());
    }
    for (prefix, suffix) in [("blkio.bfq.", "_recursive"), ("blkio.throttle.", "_recursive"), ("blkio.throttle.", "")] {
        blkio.serviced = entries(source, &format!("{prefix}io_serviced{suffix}"))?;
        if !blkio.serviced.is_empty() {
            blkio.service_bytes = entries(source, &format!("{prefix}io_service_bytes{suffix}"))?;
            return Ok(());
        }
    }
    Ok(())
}

fn entries(source: Source<'_>, file: &str) -> Result<Vec<BlkioEntry>> {
    Ok(source.parsed(file, parse::blkio)?.unwrap_or_default())
}

/// Page sizes that the group knows, each with whether it counts reservations.
pub(super) fn sizes(source: Source<'_>) -> Result<Vec<(String, bool)>> {
    let names: Vec<String> = sys::fs::list(source.dir, ".")?.into_iter().map(|(name, _)| name).collect();
    let middle = |name: &str, suffix: &str| -> Option<String> {
        Some(name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned())
    };
    let size = |name: &String| middle(name, ".limit_in_bytes").or_else(|| middle(name, ".max"));
    let mut sizes: Vec<(String, bool)> = Vec::new();
    for size in names.iter().filter_map(size).filter(|size| !size.contains('.')) {
        let counts = names.iter().any(|name| name.starts_with(&format!("hugetlb.{size}.rsvd.")));
        sizes.push((size, counts));
    }
    Ok(sizes)
}

fn hugetlb(source: Source<'_>, size: &str) -> Result<Hugetlb> {
    // Reservations where the kernel counts them, as runc prints.
    let rsvd = source.text(&format!("hugetlb.{size}.rsvd.usage_in_bytes"))?.is_some();
    let number = |suffix: &str| source.number(&format!("hugetlb.{size}{}.{suffix}", if rsvd { ".rsvd" } else { "" }));
    Ok(Hugetlb {
        usage: number("usage_in_bytes")?,
        max_usage: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
    })
}

pub(super) fn rdma(source: Source<'_>, stats: &mut Stats) -> Result<()> {
    for (file, limits) in [("rdma.current", false), ("rdma.max", true)] {
        let Some(text) = source.text(file)? else { return Ok(()) };
        for (device, values) in parse::keyed(&text) {
            let entry: &mut Rdma = stats.rdma.entry(device.to_owned()).or_default();
            for (key, value) in values {
                let value = u32::try_from(value).unwrap_or(u32::MAX);
                match (key, limits) {
                    ("hca_handle", false) => entry.handles = value,
                    ("hca_object", false) => entry.objects = value,
                    ("hca_handle", true) => entry.handles_limit = value,
                    ("hca_object", true) => entry.objects_limit = value,
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_each_cpu() {
        assert_eq!(usage_all("cpu user system\n0 1 2\n1 3 4\n"), Some(vec![(1, 2), (3, 4)]));
        assert_eq!(usage_all("cpu system user\n"), None);
        assert_eq!(usage_all("cpu user system\n0 1\n"), None);
    }
}
