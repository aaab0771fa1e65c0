//! Properties of units, and what they are for the files of a group. Pure.
//!
//! systemd writes the files of a unit's group again whenever it sees fit: at a `daemon-reload`, or when a neighbour
//! changes. What it has no word about it then resets or leaves; what it was told it writes. So each limit that it has a
//! property for is told it, with the value that goes into the file.
//!
//! Source: systemd.resource-control(5), org.freedesktop.systemd1(5), runc's docs/systemd.md, "Resource limits".

use serde::{Deserialize, Serialize};

use crate::value::Value;

/// A property of a unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Property {
    /// Its name on the bus: `CPUQuotaPerSecUSec`, not `CPUQuota`.
    pub name: String,
    /// Its value; printed in GVariant's text format.
    pub value: Value,
}

impl Property {
    /// A property.
    #[must_use]
    pub fn new(name: impl Into<String>, value: Value) -> Property {
        Property { name: name.into(), value }
    }
}

/// `a(sv)`.
pub(crate) fn to_value(properties: &[Property]) -> Value {
    let pair = |Property { name, value }: &Property| {
        Value::Struct(vec![Value::text(name), Value::Variant(Box::new(value.clone()))])
    };
    Value::Array("(sv)".to_owned(), properties.iter().map(pair).collect())
}

/// `AllowedCPUs` and `AllowedMemoryNodes`.
const CPUSET_VERSION: u32 = 244;
/// `CPUQuotaPeriodUSec`.
const QUOTA_PERIOD_VERSION: u32 = 242;
/// `CPUWeight=idle`, on the bus 0.
const IDLE_VERSION: u32 = 252;
/// `OOMPolicy` of scopes.
const OOM_POLICY_VERSION: u32 = 253;
/// `MemoryZSwapMax`.
const ZSWAP_VERSION: u32 = 253;
/// No limit, in every property that is one.
const INFINITY: u64 = u64::MAX;
/// The kernel's period of a quota that is given without one.
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd keeps a quota in percent of a CPU when it writes the unit to disk: 1 % is 10 ms a second.
const PERCENT_US: u64 = 10_000;
/// The largest CPU or node number that is taken: CPU_SETSIZE of systemd's sets is dynamic, the kernel's NR_CPUS is 8192.
const MAX_CPU: usize = 8192;

/// Which kind of hierarchy the files are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hierarchy {
    /// v1.
    Legacy,
    /// v2.
    Unified,
}

/// A new scope or slice, before its limits.
///
/// Accounting is on for every controller, as runc has it, so that a group exists in all of them. A scope is delegated:
/// systemd then neither makes groups below it nor moves its processes.
#[must_use]
pub fn base(is_slice: bool, slice: &str, description: &str, hierarchy: Hierarchy) -> Vec<Property> {
    let on = |name: &str| Property::new(name, Value::Bool(true));
    let mut properties = vec![Property::new("Description", Value::text(description))];
    if is_slice {
        // Where a slice is its name says; this only starts the one around it.
        properties.push(Property::new("Wants", Value::texts([slice])));
    } else {
        properties.push(Property::new("Slice", Value::text(slice)));
        properties.push(on("Delegate"));
    }
    let io = if hierarchy == Hierarchy::Unified { "IOAccounting" } else { "BlockIOAccounting" };
    properties.extend(["CPUAccounting", io, "MemoryAccounting", "TasksAccounting"].map(on));
    properties.push(Property::new("DefaultDependencies", Value::Bool(false)));
    properties
}

/// The processes that a new scope begins with.
#[must_use]
pub fn pids(pid: u32) -> Property {
    Property::new("PIDs", Value::Array("u".to_owned(), vec![Value::U32(pid)]))
}

/// What the kernel does with a whole group that runs out of memory. systemd takes it at the start alone.
#[must_use]
pub fn oom_policy(group: &str, version: u32) -> Option<Property> {
    let policy = match group.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    (version >= OOM_POLICY_VERSION).then(|| Property::new("OOMPolicy", Value::text(policy)))
}

/// Sets a property, in the place of one of that name.
pub fn put(properties: &mut Vec<Property>, property: Property) {
    match properties.iter_mut().find(|other| other.name == property.name) {
        Some(other) => *other = property,
        None => properties.push(property),
    }
}

/// What a quota becomes that systemd can keep: the next whole percent of a CPU, in microseconds per period.
///
/// systemd would cut the rest off when it writes the unit down, and then write the smaller one into the group.
#[must_use]
pub fn round_quota(quota_us: u64, period_us: u64) -> u64 {
    let per_second = quota_per_second(quota_us, period_us);
    let rounded = u128::from(per_second) * u128::from(period_us) / 1_000_000;
    // A whole percent already: dividing twice must not take a microsecond off it.
    u64::try_from(rounded).unwrap_or(INFINITY).max(quota_us)
}

/// Microseconds of CPU time a second, rounded up to a whole percent.
fn quota_per_second(quota_us: u64, period_us: u64) -> u64 {
    let exact = u128::from(quota_us) * 1_000_000 / u128::from(period_us.max(1));
    u64::try_from(exact).unwrap_or(INFINITY - PERCENT_US).next_multiple_of(PERCENT_US)
}

/// The properties that say the same as these writes to files of a group, in order; a later one replaces an earlier.
///
/// `period_us` is the present period, for a quota that is written alone. Files that systemd has no property for are left
/// out, and so are values that it would refuse: both are written to the group all the same.
#[must_use]
pub fn from_files(
    files: &[(&str, &str)],
    hierarchy: Hierarchy,
    (quota_us, period_us): (Option<u64>, u64),
    version: u32,
) -> Vec<Property> {
    let mut properties = Vec::new();
    for (file, value) in files {
        if let Some(property) = one_file(file, value.trim(), version) {
            put(&mut properties, property);
        }
        for property in io_file(file, value.trim()) {
            append(&mut properties, property);
        }
    }
    let quota = match hierarchy {
        Hierarchy::Legacy => legacy_quota(files, (quota_us, period_us)),
        Hierarchy::Unified => files.iter().rev().find(|(file, _)| *file == "cpu.max").and_then(|(_, value)| {
            let mut parts = value.split_ascii_whitespace();
            let quota = parse_limit(parts.next()?)?;
            Some((quota, parts.next().map_or(Some(period_us), |period| period.parse().ok())?))
        }),
    };
    if let Some((quota, period)) = quota {
        if version >= QUOTA_PERIOD_VERSION {
            put(&mut properties, Property::new("CPUQuotaPeriodUSec", Value::U64(period)));
        }
        let per_second = if quota == INFINITY { INFINITY } else { quota_per_second(quota, period) };
        put(&mut properties, Property::new("CPUQuotaPerSecUSec", Value::U64(per_second)));
    }
    properties
}

/// Quota and period are two files, of which one may stay as it is.
fn legacy_quota(files: &[(&str, &str)], (quota_us, period_us): (Option<u64>, u64)) -> Option<(u64, u64)> {
    let last = |name: &str| files.iter().rev().find(|(file, _)| *file == name).map(|(_, value)| *value);
    let (quota, period) = (last("cpu.cfs_quota_us"), last("cpu.cfs_period_us"));
    if quota.is_none() && period.is_none() {
        return None;
    }
    let period = period.map_or(Some(period_us), |period| period.parse().ok())?;
    let period = if period == 0 { DEFAULT_PERIOD_US } else { period };
    Some((quota.map_or(Some(quota_us.unwrap_or(INFINITY)), parse_limit)?, period))
}

/// `max` and `-1` are no limit.
fn parse_limit(text: &str) -> Option<u64> {
    if matches!(text, "max" | "-1") { Some(INFINITY) } else { text.parse().ok() }
}

fn one_file(file: &str, value: &str, version: u32) -> Option<Property> {
    let limit = |name: &str| Some(Property::new(name, Value::U64(parse_limit(value)?)));
    let since = |least: u32, property: Option<Property>| property.filter(|_| version >= least);
    match file {
        "memory.limit_in_bytes" => limit("MemoryLimit"),
        "memory.max" => limit("MemoryMax"),
        "memory.high" => limit("MemoryHigh"),
        "memory.low" => limit("MemoryLow"),
        "memory.min" => limit("MemoryMin"),
        "memory.swap.max" => limit("MemorySwapMax"),
        "memory.zswap.max" => since(ZSWAP_VERSION, limit("MemoryZSwapMax")),
        // systemd refuses 0; neither lets the first task fork.
        "pids.max" if value == "0" => Some(Property::new("TasksMax", Value::U64(1))),
        "pids.max" => limit("TasksMax"),
        "cpu.shares" => limit("CPUShares"),
        "cpu.weight" => limit("CPUWeight"),
        "cpu.idle" if value == "1" => since(IDLE_VERSION, Some(Property::new("CPUWeight", Value::U64(0)))),
        "cpuset.cpus" => since(CPUSET_VERSION, cpu_set("AllowedCPUs", value)),
        "cpuset.mems" => since(CPUSET_VERSION, cpu_set("AllowedMemoryNodes", value)),
        "blkio.weight" => limit("BlockIOWeight"),
        "io.weight" => limit_word("IOWeight", value),
        _ => None,
    }
}

/// `io.weight` of the group itself: `100` or `default 100`.
fn limit_word(name: &str, value: &str) -> Option<Property> {
    let number = value.strip_prefix("default ").unwrap_or(value).parse().ok()?;
    Some(Property::new(name, Value::U64(number)))
}

/// A set of CPUs or nodes as systemd takes it: bit 0 of byte 0 is number 0.
fn cpu_set(name: &str, list: &str) -> Option<Property> {
    let mut bytes = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= MAX_CPU {
            return None;
        }
        for number in first..=last {
            if bytes.len() <= number / 8 {
                bytes.resize(number / 8 + 1, 0u8);
            }
            bytes[number / 8] |= 1 << (number % 8);
        }
    }
    (!bytes.is_empty()).then(|| Property::new(name, Value::bytes(bytes)))
}

/// Lines for one device: `8:0 rbps=1000`, `8:0 200`.
fn io_file(file: &str, value: &str) -> Vec<Property> {
    let Some((device, rest)) = value.split_once(' ').filter(|(device, _)| device.contains(':')) else {
        return Vec::new();
    };
    let entry = |name: &str, number: u64| {
        let pair = Value::Struct(vec![Value::text(format!("/dev/block/{device}")), Value::U64(number)]);
        Property::new(name, Value::Array("(st)".to_owned(), vec![pair]))
    };
    match file {
        "io.weight" => rest.trim().parse().ok().map(|weight| entry("IODeviceWeight", weight)).into_iter().collect(),
        "io.max" => rest
            .split_ascii_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(key, number)| {
                let name = match key {
                    "rbps" => "IOReadBandwidthMax",
                    "wbps" => "IOWriteBandwidthMax",
                    "riops" => "IOReadIOPSMax",
                    "wiops" => "IOWriteIOPSMax",
                    _ => return None,
                };
                Some(entry(name, parse_limit(number)?))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Adds the elements of a list to the list that is there.
fn append(properties: &mut Vec<Property>, property: Property) {
    let present = properties.iter_mut().find(|other| other.name == property.name);
    match (present.map(|present| &mut present.value), property.value) {
        (Some(Value::Array(_, list)), Value::Array(_, more)) => list.extend(more),
        (_, value) => properties.push(Property { name: property.name, value }),
    }
}

/// A device that a unit may use, in `DeviceAllow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Character devices; block devices otherwise.
    pub character: bool,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
}

/// Since when `char-136` can be said; before, a group's name of /proc/devices is needed.
const MAJOR_VERSION: u32 = 240;

/// `DevicePolicy` and `DeviceAllow` for a list of what is allowed and how (`rwm`). `None` where systemd has no word for it:
/// a minor number of any major one, or before version 240 a whole major one.
#[must_use]
pub fn device_allow(devices: &[(Device, String)], version: u32) -> Option<Vec<Property>> {
    let mut list = Vec::with_capacity(devices.len());
    for (device, access) in devices {
        let kind = if device.character { "char" } else { "block" };
        let name = match (device.major, device.minor) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) if version >= MAJOR_VERSION => format!("{kind}-{major}"),
            (None, None) => format!("{kind}-*"),
            (Some(_), None) | (None, Some(_)) => return None,
        };
        list.push(Value::Struct(vec![Value::text(name), Value::text(access)]));
    }
    Some(devices_are("strict", list))
}

/// Everything is allowed.
///
/// On v1 by a list all the same: a unit without one has no group in the hierarchy of devices, and systemd moves its
/// processes into the group of the slice, where rules that come later do not reach them.
#[must_use]
pub fn device_any(hierarchy: Hierarchy) -> Vec<Property> {
    let all = |kind: &str| Value::Struct(vec![Value::text(format!("{kind}-*")), Value::text("rwm")]);
    match hierarchy {
        Hierarchy::Unified => devices_are("auto", Vec::new()),
        Hierarchy::Legacy => devices_are("strict", vec![all("char"), all("block")]),
    }
}

/// Nothing is allowed.
#[must_use]
pub fn device_none() -> Vec<Property> {
    devices_are("strict", Vec::new())
}

/// An empty list first: systemd adds to the list that a unit has.
fn devices_are(policy: &str, list: Vec<Value>) -> Vec<Property> {
    let allow = |list: Vec<Value>| Property::new("DeviceAllow", Value::Array("(ss)".to_owned(), list));
    let mut properties = vec![allow(Vec::new()), Property::new("DevicePolicy", Value::text(policy))];
    if !list.is_empty() {
        properties.push(allow(list));
    }
    properties
}

/// Prefix of annotations that are properties.
pub const ANNOTATION: &str = "org.systemd.property.";

/// Properties that no annotation sets: they would move processes of the host, or this container, elsewhere, or hand the
/// group to somebody else.
const RESERVED: [&str; 6] = ["PIDs", "PIDFDs", "Slice", "Controller", "Delegate", "DelegateControllers"];

/// Why an annotation is no property.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// No property has such a name.
    #[error("annotation {ANNOTATION}{0} name incorrect: want three or more Latin letters")]
    Name(String),
    /// Not to be set from outside.
    #[error("annotation {ANNOTATION}{0} is not allowed: the runtime itself sets {0}")]
    Reserved(String),
    /// The value is no value.
    #[error("annotation {ANNOTATION}{name}={text} value parse error: {reason}")]
    Value {
        /// The property.
        name: String,
        /// The annotation's text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The property that an annotation asks for; `key` is what follows [`ANNOTATION`].
///
/// A name that systemd's documents end in `Sec` is on the bus one in microseconds, `USec`, and the number is multiplied.
///
/// # Errors
/// [`AnnotationError`].
pub fn from_annotation(key: &str, text: &str) -> Result<Property, AnnotationError> {
    if key.len() < 3 || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(AnnotationError::Name(key.to_owned()));
    }
    if RESERVED.contains(&key) {
        return Err(AnnotationError::Reserved(key.to_owned()));
    }
    let bad = |reason: String| AnnotationError::Value { name: key.to_owned(), text: text.to_owned(), reason };
    let value = crate::gvariant::parse(text).map_err(|error| bad(error.to_string()))?;
    match key.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        Some(stem) => {
            let micros = microseconds(&value).ok_or_else(|| bad("want a number of seconds".to_owned()))?;
            Ok(Property::new(format!("{stem}USec"), Value::U64(micros)))
        }
        None => Ok(Property::new(key, value)),
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    const MICROS: u64 = 1_000_000;
    let whole = match *value {
        Value::Byte(n) => u64::from(n),
        Value::U16(n) => u64::from(n),
        Value::U32(n) => u64::from(n),
        Value::U64(n) => n,
        Value::I16(n) => u64::try_from(n).ok()?,
        Value::I32(n) => u64::try_from(n).ok()?,
        Value::I64(n) => u64::try_from(n).ok()?,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        Value::Double(n) if (0.0..1e12).contains(&n) => return Some((n * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(properties: &[Property]) -> Vec<String> {
        properties.iter().map(|property| format!("{}={}", property.name, property.value)).collect()
    }

    #[track_caller]
    fn check(hierarchy: Hierarchy, version: u32, files: &[(&str, &str)], expected: &[&str]) {
        assert_eq!(text(&from_files(files, hierarchy, (None, 100_000), version)), expected);
    }

    #[test]
    fn v1_files() {
        let legacy = |files: &[(&str, &str)], expected: &[&str]| check(Hierarchy::Legacy, 252, files, expected);
        legacy(
            &[
                ("memory.limit_in_bytes", "1000"),
                ("memory.memsw.limit_in_bytes", "2000"),
                ("cpu.shares", "512"),
                ("pids.max", "0"),
                ("blkio.weight", "300"),
                ("cpuset.cpus", "0,8-9"),
                ("hugetlb.2MB.limit_in_bytes", "0"),
            ],
            &[
                "MemoryLimit=uint64 1000",
                "CPUShares=uint64 512",
                "TasksMax=uint64 1",
                "BlockIOWeight=uint64 300",
                "AllowedCPUs=[byte 1, byte 3]",
            ],
        );
        let both: &[&str] = &["CPUQuotaPeriodUSec=uint64 50000", "CPUQuotaPerSecUSec=uint64 500000"];
        legacy(&[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "25000")], both);
        let none: &[&str] = &["CPUQuotaPeriodUSec=uint64 100000", "CPUQuotaPerSecUSec=uint64 18446744073709551615"];
        legacy(&[("cpu.cfs_quota_us", "-1")], none);
        let kept = from_files(&[("cpu.cfs_period_us", "50000")], Hierarchy::Legacy, (Some(25_000), 100_000), 252);
        assert_eq!(text(&kept), both);
    }

    #[test]
    fn v2_files() {
        let unified = |files: &[(&str, &str)], expected: &[&str]| check(Hierarchy::Unified, 252, files, expected);
        unified(
            &[
                ("memory.max", "max"),
                ("memory.low", "5"),
                ("memory.swap.max", "0"),
                ("cpu.weight", "100"),
                ("cpu.idle", "1"),
                ("memory.zswap.max", "5"),
                ("memory.oom.group", "1"),
            ],
            &[
                "MemoryMax=uint64 18446744073709551615",
                "MemoryLow=uint64 5",
                "MemorySwapMax=uint64 0",
                "CPUWeight=uint64 0",
            ],
        );
        unified(
            &[("cpu.max", "max 5000")],
            &["CPUQuotaPeriodUSec=uint64 5000", "CPUQuotaPerSecUSec=uint64 18446744073709551615"],
        );
        unified(&[("pids.max", "7"), ("pids.max", "9")], &["TasksMax=uint64 9"]);
        unified(
            &[("io.weight", "default 50"), ("io.weight", "8:0 70")],
            &["IOWeight=uint64 50", "IODeviceWeight=[('/dev/block/8:0', uint64 70)]"],
        );
        unified(
            &[("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=max wiops=3")],
            &[
                "IOReadBandwidthMax=[('/dev/block/8:0', uint64 1), ('/dev/block/8:16', uint64 18446744073709551615)]",
                "IOWriteIOPSMax=[('/dev/block/8:16', uint64 3)]",
            ],
        );
    }

    #[test]
    fn an_older_systemd_is_not_told_what_it_does_not_know() {
        let files = [("cpuset.cpus", "0"), ("cpu.idle", "1"), ("cpu.max", "1000 10000")];
        check(Hierarchy::Unified, 241, &files, &["CPUQuotaPerSecUSec=uint64 100000"]);
        assert_eq!(oom_policy("1", 252), None);
        assert_eq!(oom_policy("1", 253), Some(Property::new("OOMPolicy", Value::text("kill"))));
    }

    #[test]
    fn values_that_systemd_would_refuse_are_left_to_the_kernel() {
        check(Hierarchy::Unified, 252, &[("cpuset.cpus", "x"), ("cpuset.mems", ""), ("memory.max", "1G")], &[]);
        check(Hierarchy::Unified, 252, &[("cpuset.cpus", "3-1"), ("cpuset.mems", "0-99999999999")], &[]);
        check(Hierarchy::Unified, 252, &[("cpu.max", "x y"), ("io.max", "8:0 rbps=x")], &[]);
    }

    #[test]
    fn quotas_are_whole_percents() {
        for (quota, period, expected) in
            [(50_000, 100_000, 50_000), (12_345, 100_000, 13_000), (1_000, 100_000, 1_000), (3_333, 10_000, 3_400)]
        {
            assert_eq!(round_quota(quota, period), expected, "{quota}/{period}");
        }
        // A period that a percent is no whole microsecond of.
        assert!(round_quota(1_001, 1_001) >= 1_001);
    }

    #[test]
    fn devices() {
        let device = |character, major, minor| (Device { character, major, minor }, "rw".to_owned());
        let list = [device(true, Some(1), Some(3)), device(true, Some(136), None), device(false, None, None)];
        let expected = [
            "DeviceAllow=@a(ss) []",
            "DevicePolicy='strict'",
            "DeviceAllow=[('/dev/char/1:3', 'rw'), ('char-136', 'rw'), ('block-*', 'rw')]",
        ];
        assert_eq!(text(&device_allow(&list, 252).unwrap()), expected);
        assert_eq!(device_allow(&list, 239), None);
        assert_eq!(device_allow(&[device(true, None, Some(3))], 252), None);
        let none = "DeviceAllow=@a(ss) []";
        assert_eq!(text(&device_any(Hierarchy::Unified)), [none, "DevicePolicy='auto'"]);
        let all = "DeviceAllow=[('char-*', 'rwm'), ('block-*', 'rwm')]";
        assert_eq!(text(&device_any(Hierarchy::Legacy)), [none, "DevicePolicy='strict'", all]);
    }

    #[test]
    fn annotations() {
        let check = |key: &str, value: &str, expected: &str| {
            assert_eq!(text(&[from_annotation(key, value).unwrap()]), [expected]);
        };
        check("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec=uint64 123456789");
        check("CollectMode", "'inactive-or-failed'", "CollectMode='inactive-or-failed'");
        check("TimeoutStopSec", "int32 2", "TimeoutStopUSec=uint64 2000000");
        check("RuntimeMaxSec", "1.5", "RuntimeMaxUSec=uint64 1500000");
        let refused = |key: &str, value: &str, part: &str| {
            let error = from_annotation(key, value).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused("a", "1", "name incorrect");
        refused("Exec-Stop", "1", "name incorrect");
        refused("PIDs", "[uint32 1]", "not allowed");
        refused("TimeoutStopSec", "'x'", "number of seconds");
        refused("TimeoutStopSec", "-1", "number of seconds");
        refused("CollectMode", "inactive", "parse error");
    }

    #[test]
    fn a_scope_is_delegated_and_a_slice_is_not() {
        let expected = [
            "Description='d'",
            "Slice='a.slice'",
            "Delegate=true",
            "CPUAccounting=true",
            "BlockIOAccounting=true",
            "MemoryAccounting=true",
            "TasksAccounting=true",
            "DefaultDependencies=false",
        ];
        assert_eq!(text(&base(false, "a.slice", "d", Hierarchy::Legacy)), expected);
        let slice = text(&base(true, "a.slice", "d", Hierarchy::Unified));
        assert!(slice.contains(&"Wants=['a.slice']".to_owned()) && slice.contains(&"IOAccounting=true".to_owned()));
        assert!(!slice.contains(&"Delegate=true".to_owned()));
    }
}
