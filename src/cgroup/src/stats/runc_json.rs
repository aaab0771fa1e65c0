//! The statistics in the shape that `runc events --stats` prints under `data`, field by field.
//!
//! Source: runc 1.5 `types/events.go`, a format that callers parse. What Go leaves out when empty is left out, and a whole
//! float is printed without a fraction.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::{Blkio, BlkioEntry, Counter, Cpu, Cpuset, Memory, Pressure, PressureLine, Stats};

/// `data` of an event of type `stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Data {
    cpu: CpuData,
    cpuset: CpusetData,
    memory: MemoryData,
    pids: PidsData,
    blkio: BlkioData,
    hugetlb: BTreeMap<String, HugetlbData>,
    /// Filled by whoever manages resctrl groups.
    pub intel_rdt: IntelRdt,
    /// runc prints `null` for every container that it has made from a bundle.
    network_interfaces: Option<()>,
    /// Not in runc: counters that only v2 has, by file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unified: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Intel resource director: what is set and, by node, what is measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdt {
    /// What the cache allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// Cache schema of the root group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// Cache schema of the container's group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// What the bandwidth control allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// Bandwidth schema of the root group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// Bandwidth schema of the container's group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All schemata of the container's group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Memory bandwidth by node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<MbmStats>,
    /// Cache occupancy by node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<CmtStats>,
}

/// `info/L3` of resctrl.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    /// All bits of the cache, hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    /// Fewest bits that a mask must have.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_cbm_bits: u64,
    /// How many groups there can be.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// `info/MB` of resctrl.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BandwidthInfo {
    /// Step, percent.
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_gran: u64,
    /// Whether the scale is linear.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    /// Least bandwidth, percent.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_bandwidth: u64,
    /// How many groups there can be.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// Memory bandwidth of one node, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MbmStats {
    /// To all memory.
    pub mbm_total_bytes: u64,
    /// To the node's own memory.
    pub mbm_local_bytes: u64,
}

/// Cache occupancy of one node, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CmtStats {
    /// Bytes of the last level cache.
    pub llc_occupancy: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct CpuData {
    #[serde(skip_serializing_if = "is_default")]
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_user: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct CpusetData {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct MemoryData {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    #[serde(skip_serializing_if = "is_default")]
    usage: MemoryEntry,
    #[serde(skip_serializing_if = "is_default")]
    swap: MemoryEntry,
    #[serde(skip_serializing_if = "is_default")]
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP", skip_serializing_if = "is_default")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct PidsData {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct BlkioData {
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "Vec::is_empty")]
    service_bytes: Vec<EntryData>,
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    serviced: Vec<EntryData>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    queued: Vec<EntryData>,
    #[serde(rename = "ioServiceTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    service_time: Vec<EntryData>,
    #[serde(rename = "ioWaitTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    wait_time: Vec<EntryData>,
    #[serde(rename = "ioMergedRecursive", skip_serializing_if = "Vec::is_empty")]
    merged: Vec<EntryData>,
    #[serde(rename = "ioTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    time: Vec<EntryData>,
    #[serde(rename = "sectorsRecursive", skip_serializing_if = "Vec::is_empty")]
    sectors: Vec<EntryData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct EntryData {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    op: String,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct HugetlbData {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

/// Pressure as runc prints it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Psi {
    #[serde(skip_serializing_if = "is_default")]
    some: PsiLine,
    #[serde(skip_serializing_if = "is_default")]
    full: PsiLine,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct PsiLine {
    #[serde(serialize_with = "go_float")]
    avg10: f64,
    #[serde(serialize_with = "go_float")]
    avg60: f64,
    #[serde(serialize_with = "go_float")]
    avg300: f64,
    total: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Go prints 0 and 12, not 0.0 and 12.0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn go_float<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    #[expect(clippy::cast_possible_truncation, reason = "whole, and far below 2^53: it is a percentage")]
    if number.fract() == 0.0 && number.abs() < 1e9 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

impl From<Stats> for Data {
    fn from(stats: Stats) -> Data {
        let hugetlb = stats.hugetlb.into_iter().map(|(size, pages)| {
            (size, HugetlbData { usage: pages.usage, max: pages.max_usage, failcnt: pages.failcnt })
        });
        Data {
            cpu: stats.cpu.into(),
            cpuset: stats.cpuset.into(),
            memory: stats.memory.into(),
            pids: PidsData { current: stats.pids.current, limit: stats.pids.limit },
            blkio: stats.blkio.into(),
            hugetlb: hugetlb.collect(),
            intel_rdt: IntelRdt::default(),
            network_interfaces: None,
            unified: stats.unified,
        }
    }
}

impl From<Cpu> for CpuData {
    fn from(cpu: Cpu) -> CpuData {
        CpuData {
            usage: CpuUsage {
                total: cpu.total_ns,
                percpu: cpu.percpu_ns,
                percpu_kernel: cpu.percpu_kernel_ns,
                percpu_user: cpu.percpu_user_ns,
                kernel: cpu.kernel_ns,
                user: cpu.user_ns,
            },
            throttling: Throttling {
                periods: cpu.periods,
                throttled_periods: cpu.throttled_periods,
                throttled_time: cpu.throttled_ns,
            },
            psi: cpu.pressure.map(Psi::from),
        }
    }
}

impl From<Cpuset> for CpusetData {
    fn from(cpuset: Cpuset) -> CpusetData {
        CpusetData {
            cpus: cpuset.cpus,
            cpu_exclusive: cpuset.cpu_exclusive,
            mems: cpuset.mems,
            mem_hardwall: cpuset.mem_hardwall,
            mem_exclusive: cpuset.mem_exclusive,
            memory_migrate: cpuset.memory_migrate,
            memory_spread_page: cpuset.memory_spread_page,
            memory_spread_slab: cpuset.memory_spread_slab,
            memory_pressure: cpuset.memory_pressure,
            sched_load_balance: cpuset.sched_load_balance,
            sched_relax_domain_level: cpuset.sched_relax_domain_level,
        }
    }
}

impl From<Memory> for MemoryData {
    fn from(memory: Memory) -> MemoryData {
        MemoryData {
            cache: memory.cache,
            usage: memory.usage.into(),
            swap: memory.swap.into(),
            kernel: memory.kernel.into(),
            kernel_tcp: memory.kernel_tcp.into(),
            raw: memory.raw,
            psi: memory.pressure.map(Psi::from),
        }
    }
}

impl From<Counter> for MemoryEntry {
    fn from(counter: Counter) -> MemoryEntry {
        MemoryEntry { limit: counter.limit, usage: counter.usage, max: counter.max_usage, failcnt: counter.failcnt }
    }
}

impl From<Blkio> for BlkioData {
    fn from(blkio: Blkio) -> BlkioData {
        let entry =
            |entry: BlkioEntry| EntryData { major: entry.major, minor: entry.minor, op: entry.op, value: entry.value };
        let entries = |list: Vec<BlkioEntry>| list.into_iter().map(entry).collect();
        BlkioData {
            service_bytes: entries(blkio.service_bytes),
            serviced: entries(blkio.serviced),
            queued: entries(blkio.queued),
            service_time: entries(blkio.service_time),
            wait_time: entries(blkio.wait_time),
            merged: entries(blkio.merged),
            time: entries(blkio.time),
            sectors: entries(blkio.sectors),
            psi: blkio.pressure.map(Psi::from),
        }
    }
}

impl From<Pressure> for Psi {
    fn from(pressure: Pressure) -> Psi {
        let line = |line: PressureLine| PsiLine {
            avg10: line.avg10,
            avg60: line.avg60,
            avg300: line.avg300,
            total: line.total,
        };
        Psi { some: line(pressure.some), full: line(pressure.full) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hugetlb, Pids};
    use super::*;

    #[test]
    fn nothing_prints_as_go_prints_nothing() {
        let expected = "{\"cpu\":{\"throttling\":{}},\"cpuset\":{\"cpu_exclusive\":0,\"mem_hardwall\":0,\"mem_exclusive\":0,\
            \"memory_migrate\":0,\"memory_spread_page\":0,\"memory_spread_slab\":0,\"memory_pressure\":0,\
            \"sched_load_balance\":0,\"sched_relax_domain_level\":0},\"memory\":{},\"pids\":{},\"blkio\":{},\
            \"hugetlb\":{},\"intel_rdt\":{},\"network_interfaces\":null}";
        assert_eq!(serde_json::to_string(&Data::from(Stats::default())).unwrap(), expected);
    }

    #[test]
    fn every_field_has_runcs_name_and_place() {
        let counter = Counter { usage: 1, max_usage: 2, failcnt: 3, limit: 4 };
        let entry = |op: &str| vec![BlkioEntry { major: 8, minor: 0, op: op.to_owned(), value: 5 }];
        let line = PressureLine { avg10: 1.5, avg60: 2.0, avg300: 0.0, total: 9 };
        let pressure = Some(Pressure { some: line, full: PressureLine::default() });
        let stats = Stats {
            cpu: Cpu {
                total_ns: 10,
                percpu_ns: vec![4, 6],
                percpu_kernel_ns: vec![1, 2],
                percpu_user_ns: vec![3, 4],
                kernel_ns: 3,
                user_ns: 7,
                periods: 1,
                throttled_periods: 2,
                throttled_ns: 3,
                pressure,
            },
            cpuset: Cpuset { cpus: vec![0, 1], mems: vec![0], sched_relax_domain_level: -1, ..Cpuset::default() },
            memory: Memory {
                cache: 6,
                usage: counter,
                swap: counter,
                kernel: counter,
                kernel_tcp: Counter { limit: 7, ..Counter::default() },
                raw: BTreeMap::from([("cache".to_owned(), 6)]),
                oom_kills: 1,
                pressure,
            },
            pids: Pids { current: 2, limit: 20 },
            blkio: Blkio {
                service_bytes: entry("Read"),
                serviced: entry(""),
                queued: entry("Total"),
                ..Blkio::default()
            },
            hugetlb: BTreeMap::from([("2MB".to_owned(), Hugetlb { usage: 0, max_usage: 8, failcnt: 0 })]),
            rdma: BTreeMap::new(),
            unified: BTreeMap::from([("pids.events".to_owned(), BTreeMap::from([("max".to_owned(), 3)]))]),
        };
        let psi = "\"psi\":{\"some\":{\"avg10\":1.5,\"avg60\":2,\"avg300\":0,\"total\":9}}";
        let entry = "{\"limit\":4,\"usage\":1,\"max\":2,\"failcnt\":3}";
        let expected = format!(
            "{{\"cpu\":{{\"usage\":{{\"total\":10,\"percpu\":[4,6],\"percpu_kernel\":[1,2],\"percpu_user\":[3,4],\
             \"kernel\":3,\"user\":7}},\"throttling\":{{\"periods\":1,\"throttledPeriods\":2,\"throttledTime\":3}},{psi}}},\
             \"cpuset\":{{\"cpus\":[0,1],\"cpu_exclusive\":0,\"mems\":[0],\"mem_hardwall\":0,\"mem_exclusive\":0,\
             \"memory_migrate\":0,\"memory_spread_page\":0,\"memory_spread_slab\":0,\"memory_pressure\":0,\
             \"sched_load_balance\":0,\"sched_relax_domain_level\":-1}},\
             \"memory\":{{\"cache\":6,\"usage\":{entry},\"swap\":{entry},\"kernel\":{entry},\
             \"kernelTCP\":{{\"limit\":7,\"failcnt\":0}},\"raw\":{{\"cache\":6}},{psi}}},\
             \"pids\":{{\"current\":2,\"limit\":20}},\
             \"blkio\":{{\"ioServiceBytesRecursive\":[{{\"major\":8,\"op\":\"Read\",\"value\":5}}],\
             \"ioServicedRecursive\":[{{\"major\":8,\"value\":5}}],\
             \"ioQueueRecursive\":[{{\"major\":8,\"op\":\"Total\",\"value\":5}}]}},\
             \"hugetlb\":{{\"2MB\":{{\"max\":8,\"failcnt\":0}}}},\"intel_rdt\":{{}},\"network_interfaces\":null,\
             \"unified\":{{\"pids.events\":{{\"max\":3}}}}}}"
        );
        assert_eq!(serde_json::to_string(&Data::from(stats)).unwrap(), expected);
    }
}
