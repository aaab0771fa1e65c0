//! What a container uses: read from its groups, typed, and as runc prints it.
//!
//! A file that this kernel does not have, or a controller that the container has no group of, leaves zeros, as runc
//! does: a statistic that is missing must not stop the others.

mod legacy;
mod parse;
pub mod runc_json;
mod unified;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::GroupPath;
use crate::error::Result;
use crate::group::Group;

/// Everything that the groups of one container tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes (v1).
    pub cpuset: Cpuset,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block I/O.
    pub blkio: Blkio,
    /// Huge pages, by size such as `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// RDMA, by device.
    pub rdma: BTreeMap<String, Rdma>,
    /// Counters of v2 that v1 does not have: file, then key and number. See [`UNIFIED_FILES`].
    pub unified: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Files of `key number` lines that only v2 has, and that callers want besides what both have. A key of `io.stat` has the
/// device before it: `8:0.dbytes`.
pub const UNIFIED_FILES: [&str; 11] = [
    "cgroup.events",
    "cgroup.stat",
    "memory.events",
    "memory.events.local",
    "memory.swap.events",
    "pids.events",
    "pids.events.local",
    "misc.current",
    "misc.events",
    "cpu.stat",
    "io.stat",
];

/// CPU time, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// All of it.
    pub total_ns: u64,
    /// By CPU (v1).
    pub percpu_ns: Vec<u64>,
    /// By CPU, in the kernel (v1).
    pub percpu_kernel_ns: Vec<u64>,
    /// By CPU, outside the kernel (v1).
    pub percpu_user_ns: Vec<u64>,
    /// In the kernel.
    pub kernel_ns: u64,
    /// Outside the kernel.
    pub user_ns: u64,
    /// Periods of the quota so far.
    pub periods: u64,
    /// Those in which the group had to wait.
    pub throttled_periods: u64,
    /// How long it had to wait.
    pub throttled_ns: u64,
    /// Stalls (v2).
    pub pressure: Option<Pressure>,
}

/// CPUs and memory nodes (v1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpuset {
    /// CPUs that the group may use.
    pub cpus: Vec<u16>,
    /// Memory nodes that the group may use.
    pub mems: Vec<u16>,
    /// The file of that name.
    pub cpu_exclusive: u64,
    /// The file of that name.
    pub mem_hardwall: u64,
    /// The file of that name.
    pub mem_exclusive: u64,
    /// The file of that name.
    pub memory_migrate: u64,
    /// The file of that name.
    pub memory_spread_page: u64,
    /// The file of that name.
    pub memory_spread_slab: u64,
    /// The file of that name.
    pub memory_pressure: u64,
    /// The file of that name.
    pub sched_load_balance: u64,
    /// The file of that name; -1 is the system's default.
    pub sched_relax_domain_level: i64,
}

/// One counter of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Bytes in use.
    pub usage: u64,
    /// Most bytes that were in use at once.
    pub max_usage: u64,
    /// How often the limit was met (v1).
    pub failcnt: u64,
    /// The limit; `u64::MAX` for none on v2, the kernel's own large number on v1.
    pub limit: u64,
}

/// Memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Of it, page cache.
    pub cache: u64,
    /// Memory.
    pub usage: Counter,
    /// Memory and swap together.
    pub swap: Counter,
    /// Kernel memory (v1).
    pub kernel: Counter,
    /// TCP buffers (v1).
    pub kernel_tcp: Counter,
    /// `memory.stat` as it is.
    pub raw: BTreeMap<String, u64>,
    /// Processes that the OOM killer took from the group.
    pub oom_kills: u64,
    /// Stalls (v2).
    pub pressure: Option<Pressure>,
}

/// Tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be; 0 for any number.
    pub limit: u64,
}

/// One line of a block I/O file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlkioEntry {
    /// Major number of the device.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; empty for files that count without telling what.
    pub op: String,
    /// Bytes, operations, nanoseconds or sectors.
    pub value: u64,
}

/// Block I/O, groups below included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Blkio {
    /// Bytes.
    pub service_bytes: Vec<BlkioEntry>,
    /// Operations.
    pub serviced: Vec<BlkioEntry>,
    /// Operations that wait.
    pub queued: Vec<BlkioEntry>,
    /// Nanoseconds of work.
    pub service_time: Vec<BlkioEntry>,
    /// Nanoseconds of waiting.
    pub wait_time: Vec<BlkioEntry>,
    /// Operations that were merged.
    pub merged: Vec<BlkioEntry>,
    /// Disk time.
    pub time: Vec<BlkioEntry>,
    /// Sectors.
    pub sectors: Vec<BlkioEntry>,
    /// Stalls (v2).
    pub pressure: Option<Pressure>,
}

/// Huge pages of one size, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hugetlb {
    /// In use or reserved.
    pub usage: u64,
    /// The most so far (v1).
    pub max_usage: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Use and limit of one RDMA device; `u32::MAX` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rdma {
    /// Handles in use.
    pub handles: u32,
    /// Objects in use.
    pub objects: u32,
    /// Handles that may be in use.
    pub handles_limit: u32,
    /// Objects that may be in use.
    pub objects_limit: u32,
}

/// Share of time in which tasks stalled, percent over 10, 60 and 300 seconds, and in all, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PressureLine {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last 60 seconds.
    pub avg60: f64,
    /// Percent of the last 300 seconds.
    pub avg300: f64,
    /// Microseconds since the group was made.
    pub total: u64,
}

/// Pressure stall information. Kernel: Documentation/accounting/psi.rst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some task stalled.
    pub some: PressureLine,
    /// All tasks stalled.
    pub full: PressureLine,
}

pub(crate) use parse::{Source, pressure as parse_pressure};

/// What a container uses, in the few numbers that a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time so far, nanoseconds.
    pub cpu_ns: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Most bytes of memory at once; 0 where the kernel does not tell (v2 before 5.19).
    pub memory_peak: u64,
    /// Tasks.
    pub pids: u64,
}

/// Reads what a container uses: four files, whatever the number of its processes.
///
/// # Errors
/// As [`read`].
pub fn usage(places: &[GroupPath]) -> Result<Usage> {
    let sole = places.iter().all(GroupPath::is_unified);
    // By whole paths: a list reads those of hundreds, and hierarchy and group would be two more files to open for each.
    let source = Source { dir: sys::fs::CWD };
    let path = |controller: &str, file: &str| {
        let place = places.iter().find(|place| sole || place.has(controller));
        place.map(|place| format!("{}/{file}", place.dir()))
    };
    let number = |controller, file| path(controller, file).map_or(Ok(0), |path| source.number(&path));
    let cpu_ns = match path("cpuacct", "cpu.stat").filter(|_| sole) {
        Some(path) => source.count(&path, "usage_usec")?.unwrap_or(0).saturating_mul(1000),
        None => number("cpuacct", "cpuacct.usage")?,
    };
    let (now, most) =
        if sole { ("memory.current", "memory.peak") } else { ("memory.usage_in_bytes", "memory.max_usage_in_bytes") };
    Ok(Usage {
        cpu_ns,
        memory: number("memory", now)?,
        memory_peak: number("memory", most)?,
        pids: number("pids", "pids.current")?,
    })
}

/// Reads all statistics of a container.
///
/// # Errors
/// [`crate::Error::Sys`] for what the kernel says, except that a file is not there; [`crate::Error::Parse`].
pub fn read(group: &Group) -> Result<Stats> {
    let mut stats = Stats::default();
    let sole = group.places().all(crate::GroupPath::is_unified);
    match group.unified().filter(|_| sole) {
        Some(dir) => unified::read(dir, &mut stats)?,
        None => legacy::read(group, &mut stats)?,
    }
    Ok(stats)
}
