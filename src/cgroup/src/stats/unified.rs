//! Statistics of a group in the unified hierarchy.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::legacy::{pids, rdma, sizes};
use super::parse::{self, Source};
use super::{Blkio, BlkioEntry, Counter, Cpu, Hugetlb, Memory, Pressure, Stats, UNIFIED_FILES};
use crate::error::{Error, Result};

pub(super) fn read(dir: BorrowedFd<'_>, stats: &mut Stats) -> Result<()> {
    let source = Source { dir };
    cpu(source, &mut stats.cpu)?;
    memory(source, &mut stats.memory)?;
    io(source, &mut stats.blkio)?;
    if source.text("pids.current")?.is_some() {
        pids(source, &mut stats.pids)?;
    } else {
        // Without the controller, count.
        stats.pids.current = source.text("cgroup.procs")?.map_or(0, |text| text.lines().count() as u64);
    }
    for (size, rsvd) in sizes(source)? {
        let prefix = format!("hugetlb.{size}{}", if rsvd { ".rsvd" } else { "" });
        let events = source.parsed(&format!("hugetlb.{size}.events"), parse::key_values)?.unwrap_or_default();
        let usage = source.number(&format!("{prefix}.current"))?;
        let failcnt = events.get("max").copied().unwrap_or(0);
        stats.hugetlb.insert(size, Hugetlb { usage, max_usage: 0, failcnt });
    }
    for file in UNIFIED_FILES {
        let Some(text) = source.text(file)? else { continue };
        let values = if file == "io.stat" { Some(io_stat(&text)) } else { parse::key_values(&text) };
        let values = values.ok_or_else(|| Error::Parse { file: file.to_owned(), text })?;
        stats.unified.insert(file.to_owned(), values);
    }
    rdma(source, stats)
}

fn io_stat(text: &str) -> BTreeMap<String, u64> {
    let of_device = |(device, values): parse::Keyed<'_>| {
        values.into_iter().map(|(key, value)| (format!("{device}.{key}"), value)).collect::<Vec<_>>()
    };
    parse::keyed(text).into_iter().flat_map(of_device).collect()
}

fn pressure(source: Source<'_>, file: &str) -> Result<Option<Pressure>> {
    source.parsed(file, parse::pressure)
}

fn cpu(source: Source<'_>, cpu: &mut Cpu) -> Result<()> {
    cpu.pressure = pressure(source, "cpu.pressure")?;
    let Some(values) = source.parsed("cpu.stat", parse::key_values)? else { return Ok(()) };
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    cpu.total_ns = nanoseconds("usage_usec");
    cpu.user_ns = nanoseconds("user_usec");
    cpu.kernel_ns = nanoseconds("system_usec");
    (cpu.periods, cpu.throttled_periods) = (value("nr_periods"), value("nr_throttled"));
    cpu.throttled_ns = nanoseconds("throttled_usec");
    Ok(())
}

fn memory(source: Source<'_>, memory: &mut Memory) -> Result<()> {
    memory.pressure = pressure(source, "memory.pressure")?;
    memory.raw = source.parsed("memory.stat", parse::key_values)?.unwrap_or_default();
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    let counter = |prefix: &str| -> Result<Counter> {
        Ok(Counter {
            usage: source.number(&format!("{prefix}.current"))?,
            max_usage: source.number(&format!("{prefix}.peak"))?,
            failcnt: 0,
            limit: source.number(&format!("{prefix}.max"))?,
        })
    };
    memory.usage = counter("memory")?;
    // v2 counts swap alone; what is printed counts both, as on v1. Two peaks do not add up to one.
    let swap = counter("memory.swap")?;
    memory.swap = Counter {
        usage: swap.usage.saturating_add(memory.usage.usage),
        limit: swap.limit.saturating_add(memory.usage.limit),
        ..Counter::default()
    };
    let events = source.parsed("memory.events", parse::key_values)?.unwrap_or_default();
    memory.oom_kills = events.get("oom_kill").copied().unwrap_or(0);
    Ok(())
}

fn io(source: Source<'_>, blkio: &mut Blkio) -> Result<()> {
    blkio.pressure = pressure(source, "io.pressure")?;
    let Some(text) = source.text("io.stat")? else { return Ok(()) };
    for (device, values) in parse::keyed(&text) {
        let Some((major, minor)) = device.split_once(':') else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in values {
            let entry = |op: &str| BlkioEntry { major, minor, op: op.to_owned(), value };
            match key {
                "rbytes" => blkio.service_bytes.push(entry("Read")),
                "wbytes" => blkio.service_bytes.push(entry("Write")),
                "rios" => blkio.serviced.push(entry("Read")),
                "wios" => blkio.serviced.push(entry("Write")),
                _ => {}
            }
        }
    }
    Ok(())
}
