//! One container's control groups, read in the words of v1 on either layout, so that the same test runs on both.
//!
//! A definition is written for v1. Where v2 has the same limit under another name or in another unit, its file is read
//! and told as v1 would; what v2 has no counterpart for is asked for by [`crate::requires::Need::V1`] first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host;

/// How v1 says that there is no memory limit: the largest multiple of the page size that fits.
const NO_LIMIT: u64 = 9_223_372_036_854_771_712;

/// The mount point of a v1 controller, or of the v2 hierarchy where it has that controller.
///
/// # Panics
/// When neither has it.
#[track_caller]
pub fn hierarchy(controller: &str) -> PathBuf {
    let found = host::v1_mount(controller).or_else(host::v2_alone);
    found.unwrap_or_else(|| panic!("no hierarchy of {controller}"))
}

/// Reads a file of v1, in `group` of either layout, without the white space around it.
///
/// # Panics
/// When it cannot be read.
#[track_caller]
pub fn read(group: &Path, file: &str) -> String {
    let plain = group.join(file);
    if host::v2_alone().is_none() || plain.exists() {
        return text(&plain);
    }
    let first = |name: &str| word(group, name, 0);
    match file {
        "memory.limit_in_bytes" => limit(&first("memory.max")),
        "memory.soft_limit_in_bytes" => limit(&first("memory.low")),
        "memory.memsw.limit_in_bytes" => limit(&sum(&first("memory.max"), &first("memory.swap.max"))),
        "memory.usage_in_bytes" => first("memory.current"),
        "cpu.cfs_quota_us" => Some(first("cpu.max")).filter(|quota| quota != "max").unwrap_or_else(|| "-1".into()),
        "cpu.cfs_period_us" => word(group, "cpu.max", 1),
        "cpu.cfs_burst_us" => first("cpu.max.burst"),
        "cpuacct.usage" => (number(&stat(group, "usage_usec")) * 1000).to_string(),
        "freezer.state" => if first("cgroup.freeze") == "1" { "FROZEN" } else { "THAWED" }.to_owned(),
        "blkio.throttle.read_bps_device" => throttle(group, "rbps"),
        "blkio.throttle.write_bps_device" => throttle(group, "wbps"),
        "blkio.throttle.read_iops_device" => throttle(group, "riops"),
        "blkio.throttle.write_iops_device" => throttle(group, "wiops"),
        _ => text(&plain),
    }
}

/// Asserts what a file of v1 says. Shares are compared as the weight that stands for them, where the kernel has weights.
#[track_caller]
pub fn check(group: &Path, file: &str, expected: &str) {
    if file == "cpu.shares" && host::v2_alone().is_some() {
        assert_eq!(
            text(&group.join("cpu.weight")),
            weight(number(expected)).to_string(),
            "weight of {expected} shares"
        );
        return;
    }
    assert_eq!(read(group, file), expected, "{file} of {}", group.display());
}

/// `cpu.weight` of a number of shares. runc 1.4: a parabola over log2 through 2 and 1, 1024 and 100, 262144 and 10000.
fn weight(shares: u64) -> u64 {
    let table = [(2, 1), (10, 4), (77, 14), (100, 17), (321, 41), (512, 59), (1024, 100)];
    let found = table.iter().find(|(known, _)| *known == shares);
    found.unwrap_or_else(|| panic!("no known weight of {shares} shares")).1
}

/// The path that a text of `/proc/PID/cgroup` has for a v1 controller, or for v2 where that is the only hierarchy.
///
/// # Panics
/// When there is no line for it.
#[track_caller]
pub fn path_in<'a>(text: &'a str, controller: &str) -> &'a str {
    let wanted = if host::v2_alone().is_some() { "" } else { controller };
    let fields = text.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let found = fields.filter(|fields| fields.len() == 3).find(|fields| fields[1].split(',').any(|c| c == wanted));
    found.unwrap_or_else(|| panic!("no line of {controller} in {text}"))[2]
}

/// Freezes or thaws a group by hand.
///
/// # Panics
/// When it cannot be written.
pub fn freeze(group: &Path, frozen: bool) {
    let (file, words) = match host::v2_alone() {
        Some(_) => ("cgroup.freeze", ["0", "1"]),
        None => ("freezer.state", ["THAWED", "FROZEN"]),
    };
    fs::write(group.join(file), words[usize::from(frozen)]).expect("freeze or thaw");
}

#[track_caller]
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display())).trim().to_owned()
}

#[track_caller]
fn word(group: &Path, file: &str, at: usize) -> String {
    let all = text(&group.join(file));
    all.split_whitespace().nth(at).unwrap_or_else(|| panic!("{file} has {all:?}")).to_owned()
}

#[track_caller]
fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn limit(value: &str) -> String {
    if value == "max" { NO_LIMIT.to_string() } else { value.to_owned() }
}

fn sum(memory: &str, swap: &str) -> String {
    if memory == "max" || swap == "max" { "max".to_owned() } else { (number(memory) + number(swap)).to_string() }
}

#[track_caller]
fn stat(group: &Path, key: &str) -> String {
    let all = text(&group.join("cpu.stat"));
    let value = all.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("cpu.stat has no {key}: {all}")).to_owned()
}

/// Lines of `io.max` (`8:0 rbps=1 wbps=max ...`) as v1 has one file of: `8:0 1`.
fn throttle(group: &Path, key: &str) -> String {
    let all = text(&group.join("io.max"));
    let value = |line: &str| line.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    let lines = all.lines().filter_map(|line| Some((line.split(' ').next()?, value(line)?)));
    lines
        .filter(|(_, value)| value != "max")
        .map(|(device, value)| format!("{device} {value}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_io_max_are_told_as_v1_has_them() {
        let dir = std::env::temp_dir().join(format!("integration-group-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(
            dir.join("io.max"),
            "8:0 rbps=7 wbps=max riops=max wiops=9\n8:16 rbps=8 wbps=max riops=max wiops=max\n",
        )
        .unwrap();
        assert_eq!(throttle(&dir, "rbps"), "8:0 7\n8:16 8");
        assert_eq!(throttle(&dir, "wiops"), "8:0 9");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn limits_are_told_as_v1_has_them() {
        assert_eq!(limit("max"), NO_LIMIT.to_string());
        assert_eq!(limit("5"), "5");
        assert_eq!((sum("5", "6").as_str(), sum("5", "max").as_str()), ("11", "max"));
    }
}
