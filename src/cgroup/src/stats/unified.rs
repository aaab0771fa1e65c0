//! Statistics of a group in the unified hierarchy.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::legacy::{pids, rdma, sizes};
use super::parse::{self, Source};
use super::{Blkio, BlkioEntry, Counter, Cpu, Hugetlb, Memory, Pressure, Stats, UNIFIED_FILES};
use crate::error::Result;

pub(super) fn read(dir: BorrowedFd<'_>, stats: &mut Stats) -> Result<()> {
    let source = Source { dir };
    for file in UNIFIED_FILES {
        let parse = if file == "io.stat" { io_stat } else { parse::key_values };
        if let Some(values) = source.parsed(file, parse)? {
            stats.unified.insert(file.to_owned(), values);
        }
    }
    let empty = BTreeMap::new();
    let counters = |file: &str| stats.unified.get(file).unwrap_or(&empty);
    cpu(source, counters("cpu.stat"), &mut stats.cpu)?;
    memory(source, counters("memory.events"), &mut stats.memory)?;
    io(source, counters("io.stat"), &mut stats.blkio)?;
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
    rdma(source, stats)
}

/// The numbers of one file by their keys.
type Counters = BTreeMap<String, u64>;

/// A key of `io.stat` gets its device before it.
fn io_stat(text: &str) -> Option<Counters> {
    let of_device = |(device, values): parse::Keyed<'_>| {
        values.into_iter().map(|(key, value)| (format!("{device}.{key}"), value)).collect::<Vec<_>>()
    };
    Some(parse::keyed(text).into_iter().flat_map(of_device).collect())
}

fn pressure(source: Source<'_>, file: &str) -> Result<Option<Pressure>> {
    source.parsed(file, parse::pressure)
}

fn cpu(source: Source<'_>, values: &Counters, cpu: &mut Cpu) -> Result<()> {
    cpu.pressure = pressure(source, "cpu.pressure")?;
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    cpu.total_ns = nanoseconds("usage_usec");
    cpu.user_ns = nanoseconds("user_usec");
    cpu.kernel_ns = nanoseconds("system_usec");
    (cpu.periods, cpu.throttled_periods) = (value("nr_periods"), value("nr_throttled"));
    cpu.throttled_ns = nanoseconds("throttled_usec");
    Ok(())
}

fn memory(source: Source<'_>, events: &Counters, memory: &mut Memory) -> Result<()> {
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
    memory.oom_kills = events.get("oom_kill").copied().unwrap_or(0);
    Ok(())
}

fn io(source: Source<'_>, values: &Counters, blkio: &mut Blkio) -> Result<()> {
    blkio.pressure = pressure(source, "io.pressure")?;
    for (name, &value) in values {
        let Some((device, key)) = name.split_once('.') else { continue };
        let Some((major, minor)) = device.split_once(':') else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        let entry = |op: &str| BlkioEntry { major, minor, op: op.to_owned(), value };
        match key {
            "rbytes" => blkio.service_bytes.push(entry("Read")),
            "wbytes" => blkio.service_bytes.push(entry("Write")),
            "rios" => blkio.serviced.push(entry("Read")),
            "wios" => blkio.serviced.push(entry("Write")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// What is counted and what is passed on as it is come of one reading of each file.
    #[test]
    fn counters_of_a_group() {
        let dir = std::env::temp_dir().join(format!("skep-stats-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let files = [
            ("cpu.stat", "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_bursts 4\n"),
            ("memory.events", "low 0\noom_kill 2\n"),
            ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n259:0 rbytes=6\n"),
            ("cgroup.procs", "7\n8\n"),
        ];
        for (file, text) in files {
            std::fs::write(dir.join(file), text).unwrap();
        }
        let mut stats = Stats::default();
        let opened = sys::fs::open_dir(dir.to_str().unwrap()).unwrap();
        let outcome = read(opened.as_fd(), &mut stats);
        std::fs::remove_dir_all(&dir).unwrap();
        outcome.unwrap();
        assert_eq!((stats.cpu.total_ns, stats.cpu.user_ns, stats.cpu.kernel_ns), (3_000_000, 2_000_000, 1_000_000));
        assert_eq!((stats.memory.oom_kills, stats.pids.current), (2, 2));
        let bytes: Vec<_> =
            stats.blkio.service_bytes.iter().map(|e| (e.major, e.minor, e.op.as_str(), e.value)).collect();
        assert_eq!(bytes, [(259, 0, "Read", 6), (8, 16, "Read", 1), (8, 16, "Write", 2)]);
        assert_eq!(stats.blkio.serviced.len(), 2);
        assert_eq!(stats.unified["cpu.stat"]["nr_bursts"], 4);
        assert_eq!(stats.unified["io.stat"]["8:16.dbytes"], 5);
        assert!(!stats.unified.contains_key("pids.events"));
    }
}
