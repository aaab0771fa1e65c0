//! `lxc.cgroup.*` and `lxc.cgroup2.*`: limits and rules for devices.

use serde_json::{Map, Value, json};

use super::{Around, Layout, Lowered, Lowering};
use crate::lxc::report::{Fate, Report};
use crate::lxc::{Config, Log, Place, Setting};
use crate::model::CapSet;

/// A file of v1 as the field of `linux.resources` that it is, and how its text is read.
const LEGACY: [(&str, &str, &str, Text); 18] = [
    ("memory.limit_in_bytes", "memory", "limit", Text::Bytes),
    ("memory.soft_limit_in_bytes", "memory", "reservation", Text::Bytes),
    ("memory.memsw.limit_in_bytes", "memory", "swap", Text::Bytes),
    ("memory.kmem.limit_in_bytes", "memory", "kernel", Text::Bytes),
    ("memory.kmem.tcp.limit_in_bytes", "memory", "kernelTCP", Text::Bytes),
    ("memory.swappiness", "memory", "swappiness", Text::Number),
    ("memory.oom_control", "memory", "disableOOMKiller", Text::Switch),
    ("memory.use_hierarchy", "memory", "useHierarchy", Text::Switch),
    ("cpu.shares", "cpu", "shares", Text::Number),
    ("cpu.cfs_quota_us", "cpu", "quota", Text::Number),
    ("cpu.cfs_period_us", "cpu", "period", Text::Number),
    ("cpu.cfs_burst_us", "cpu", "burst", Text::Number),
    ("cpu.rt_runtime_us", "cpu", "realtimeRuntime", Text::Number),
    ("cpu.rt_period_us", "cpu", "realtimePeriod", Text::Number),
    ("cpuset.cpus", "cpu", "cpus", Text::Plain),
    ("cpuset.mems", "cpu", "mems", Text::Plain),
    ("pids.max", "pids", "limit", Text::Number),
    ("blkio.weight", "blockIO", "weight", Text::Number),
];

/// Throttles of v1, each a line of `MAJOR:MINOR RATE`.
const THROTTLES: [(&str, &str); 4] = [
    ("blkio.throttle.read_bps_device", "throttleReadBpsDevice"),
    ("blkio.throttle.write_bps_device", "throttleWriteBpsDevice"),
    ("blkio.throttle.read_iops_device", "throttleReadIOPSDevice"),
    ("blkio.throttle.write_iops_device", "throttleWriteIOPSDevice"),
];

/// Files of v2 that mean the same as one of v1, for hosts where v1 has the controller.
const UNIFIED: [(&str, &str, &str, Text); 5] = [
    ("memory.max", "memory", "limit", Text::Bytes),
    ("memory.low", "memory", "reservation", Text::Bytes),
    ("pids.max", "pids", "limit", Text::Number),
    ("cpuset.cpus", "cpu", "cpus", Text::Plain),
    ("cpuset.mems", "cpu", "mems", Text::Plain),
];

/// How a file's text is read.
#[derive(Debug, Clone, Copy)]
enum Text {
    Plain,
    Number,
    Bytes,
    Switch,
}

impl Text {
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Text::Plain => Some(json!(text)),
            Text::Number if text == "max" => Some(json!(-1)),
            Text::Number => text.parse::<i64>().ok().map(|number| json!(number)),
            Text::Bytes if matches!(text, "max" | "-1") => Some(json!(-1)),
            Text::Bytes => parse_bytes(text).map(|number| json!(number)),
            Text::Switch => matches!(text, "0" | "1").then(|| json!(text == "1")),
        }
    }
}

/// A number with one of K, M, G and T behind it, as the kernel reads limits (memparse).
fn parse_bytes(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: i64 = text[..digits].parse().ok()?;
    let shift = match &text[digits..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// What `linux.resources` says for one file of a group, by its kernel's name, on a host of this layout.
///
/// # Errors
/// Why no field of config.json can say it.
pub fn plan_resource(file: &str, value: &str, layout: Layout) -> Result<Value, String> {
    let around = Around {
        name: "",
        file: "",
        mount_point: "",
        layout,
        architectures: &[],
        call_name: &|_| None,
        capabilities: CapSet(0),
        apparmor: false,
        selinux: false,
        halt: "",
        variable: &|_| None,
        addresses: &|_| Vec::new(),
    };
    let mut to =
        Lowering { around: &around, lowered: Lowered::default(), report: Report::default(), log: Log::default() };
    let setting = Setting { key: file.to_owned(), value: value.to_owned(), place: Place::default() };
    let mut resources = Map::new();
    match layout {
        Layout::Legacy => lower_legacy(&setting, file, &mut resources, &mut to),
        Layout::Unified => lower_unified(&setting, file, &mut resources, &mut to),
    }
    match to.report.not_possible.first() {
        Some(item) => Err(item.what.clone()),
        None => Ok(Value::Object(resources)),
    }
}

/// Lowers all keys of control groups.
pub(super) fn lower(config: &Config, to: &mut Lowering<'_>) {
    let of = |prefix: &'static str| {
        config.settings.iter().filter_map(move |setting| Some((setting, setting.key.strip_prefix(prefix)?)))
    };
    let mut resources = Map::new();
    let legacy = of("lxc.cgroup.").filter(|(_, file)| !is_place(file));
    for (setting, file) in legacy.filter(|(_, file)| !is_device(file)) {
        lower_legacy(setting, file, &mut resources, to);
    }
    for (setting, file) in of("lxc.cgroup2.").filter(|(_, file)| !is_device(file)) {
        lower_unified(setting, file, &mut resources, to);
    }
    devices(config, &mut resources, to);
    to.merge(json!({ "linux": { "resources": resources } }));
}

/// Keys that stand among the files of controllers and are none.
fn is_place(file: &str) -> bool {
    file == "relative" || file == "dir" || file.starts_with("dir.")
}

fn is_device(file: &str) -> bool {
    matches!(file, "devices.allow" | "devices.deny")
}

fn put(resources: &mut Map<String, Value>, group: &str, field: &str, value: Value) {
    let group = resources.entry(group).or_insert_with(|| json!({}));
    group[field] = value;
}

fn lower_legacy(setting: &Setting, file: &str, resources: &mut Map<String, Value>, to: &mut Lowering<'_>) {
    let value = setting.value.as_str();
    if let Some((_, group, field, text)) = LEGACY.iter().find(|(known, ..)| *known == file) {
        match text.read(value) {
            Some(read) => {
                put(resources, group, field, read);
                to.translated(setting, format!("linux.resources.{group}.{field}"));
            }
            None => to.not_possible(setting, "its value is none that the file takes"),
        }
    } else if let Some((_, field)) = THROTTLES.iter().find(|(known, _)| *known == file) {
        let throttle = parse_throttle(value);
        match throttle {
            Some(throttle) => {
                let block = resources.entry("blockIO").or_insert_with(|| json!({}));
                match block[*field].as_array_mut() {
                    Some(list) => list.push(throttle),
                    None => block[*field] = json!([throttle]),
                }
                to.translated(setting, format!("linux.resources.blockIO.{field}"));
            }
            None => to.not_possible(setting, "its value is not MAJOR:MINOR RATE"),
        }
    } else if let Some(size) = file.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".limit_in_bytes")) {
        match parse_bytes(value) {
            Some(limit) => {
                let list = resources.entry("hugepageLimits").or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(json!({ "pageSize": size, "limit": limit }));
                }
                to.translated(setting, "linux.resources.hugepageLimits");
            }
            None => to.not_possible(setting, "its value is no number of bytes"),
        }
    } else if file == "net_cls.classid" {
        let digits = value.strip_prefix("0x");
        match digits.map_or_else(|| value.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok()) {
            Some(class) => {
                put(resources, "network", "classID", json!(class));
                to.translated(setting, "linux.resources.network.classID");
            }
            None => to.not_possible(setting, "its value is no class"),
        }
    } else if to.around.layout == Layout::Unified {
        to.not_possible(setting, "it is a file of cgroup v1, and this host has v2 alone; LXC passes it over too");
    } else {
        to.not_possible(setting, "config.json has no field for this file");
    }
}

/// `8:0 1048576`.
fn parse_throttle(text: &str) -> Option<Value> {
    let (device, rate) = text.split_once(char::is_whitespace)?;
    let (major, minor) = device.split_once(':')?;
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let rate: u64 = rate.trim().parse().ok()?;
    Some(json!({ "major": number(major)?, "minor": number(minor)?, "rate": rate }))
}

fn lower_unified(setting: &Setting, file: &str, resources: &mut Map<String, Value>, to: &mut Lowering<'_>) {
    let value = setting.value.as_str();
    if to.around.layout == Layout::Unified {
        let unified = resources.entry("unified").or_insert_with(|| json!({}));
        unified[file] = json!(value);
        to.translated(setting, format!("linux.resources.unified[{file:?}]"));
        return;
    }
    let taken = |group: &str, field: &str| resources.get(group).is_some_and(|group| !group[field].is_null());
    if let Some((_, group, field, text)) = UNIFIED.iter().find(|(known, ..)| *known == file) {
        if taken(group, field) {
            to.approximated(setting, "the key of cgroup v1 that says the same counts: v1 has the controllers here");
        } else if let Some(read) = text.read(value) {
            put(resources, group, field, read);
            to.approximated(setting, format!("linux.resources.{group}.{field}: v1 has the controllers here"));
        } else {
            to.not_possible(setting, "its value has no counterpart in cgroup v1, which has the controllers here");
        }
    } else if let Some((quota, period)) = Some(value).filter(|_| file == "cpu.max").and_then(parse_cpu_max) {
        if taken("cpu", "quota") {
            to.approximated(setting, "the key of cgroup v1 that says the same counts: v1 has the controllers here");
        } else {
            put(resources, "cpu", "quota", json!(quota));
            put(resources, "cpu", "period", json!(period));
            to.approximated(setting, "linux.resources.cpu.quota and period: v1 has the controllers here");
        }
    } else {
        to.not_possible(setting, "it is a file of cgroup v2, and v1 has the controllers here; LXC passes it over too");
    }
}

/// `max`, `50000` or `50000 100000`: microseconds.
fn parse_cpu_max(text: &str) -> Option<(i64, u64)> {
    /// The kernel's own period in microseconds.
    const PERIOD_US: u64 = 100_000;
    let mut parts = text.split_whitespace();
    let quota = match parts.next()? {
        "max" => -1,
        number => number.parse().ok()?,
    };
    Some((quota, parts.next().map_or(Some(PERIOD_US), |period| period.parse().ok())?))
}

/// Rules for devices: those of the layout that the host has, or else those of the other one.
fn devices(config: &Config, resources: &mut Map<String, Value>, to: &mut Lowering<'_>) {
    let of = |prefix: &'static str| {
        let is_rule = move |setting: &&Setting| setting.key.strip_prefix(prefix).is_some_and(is_device);
        config.settings.iter().filter(is_rule).collect::<Vec<_>>()
    };
    let (legacy, unified) = (of("lxc.cgroup."), of("lxc.cgroup2."));
    let prefer_unified = to.around.layout == Layout::Unified;
    let (first, second) = if prefer_unified { (unified, legacy) } else { (legacy, unified) };
    let (used, other) = if first.is_empty() { (second, first) } else { (first, second) };
    // LXC has no rules of its own: what is not denied is allowed.
    let mut rules = vec![json!({ "allow": true, "access": "rwm" })];
    for setting in used {
        match parse_rule(&setting.value, setting.key.ends_with("allow")) {
            Some(rule) => {
                rules.push(rule);
                to.translated(setting, "linux.resources.devices");
            }
            None => to.not_possible(setting, "it is no rule for devices such as c 1:3 rwm"),
        }
    }
    for setting in other {
        to.note(Fate::Translated, setting, "the rules of the other version of cgroups, which are used here");
    }
    resources.insert("devices".to_owned(), json!(rules));
}

/// `a`, or `c 1:3 rwm` with `*` for any number.
fn parse_rule(text: &str, allow: bool) -> Option<Value> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    match parts.as_slice() {
        ["a", ..] => Some(json!({ "allow": allow, "access": "rwm" })),
        [kind @ ("b" | "c"), numbers, access] if access.chars().all(|c| "rwm".contains(c)) => {
            let (major, minor) = numbers.split_once(':')?;
            let mut rule = json!({ "allow": allow, "type": kind, "access": access });
            for (name, number) in [("major", major), ("minor", minor)] {
                if number != "*" {
                    rule[name] = json!(number.parse::<u32>().ok()?);
                }
            }
            Some(rule)
        }
        _ => None,
    }
}
