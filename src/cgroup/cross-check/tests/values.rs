//! The same limits by this crate and by cgroups-rs, compared file by file on the real kernel (v1, as root).

use std::time::Duration;

use cgroup::group::Below;
use cgroup::limit::Context;
use cgroup::{Group, GroupPath, group, layout, legacy, path};
use cgroups_rs::fs::cgroup_builder::CgroupBuilder;
use cgroups_rs::fs::{MaxValue, hierarchies};
use runtime_spec::model::{Limit, Resources, ThrottleDevice};

const MIB: u64 = 1 << 20;
/// All files that either of the two writes for the limits below.
const FILES: &[(&str, &str)] = &[
    ("cpu", "cpu.shares"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("cpuset", "cpuset.cpus"),
    ("cpuset", "cpuset.mems"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "memory.soft_limit_in_bytes"),
    ("memory", "memory.kmem.tcp.limit_in_bytes"),
    ("memory", "memory.swappiness"),
    ("pids", "pids.max"),
    ("blkio", "blkio.throttle.read_bps_device"),
    ("blkio", "blkio.throttle.write_bps_device"),
    ("blkio", "blkio.throttle.read_iops_device"),
    ("blkio", "blkio.throttle.write_iops_device"),
];

fn values(places: &[GroupPath]) -> Vec<(&'static str, String)> {
    let read = |&(controller, file): &(&str, &'static str)| {
        let place = places.iter().find(|place| place.has(controller)).unwrap();
        (file, std::fs::read_to_string(format!("{}/{file}", place.dir())).unwrap())
    };
    FILES.iter().map(read).collect()
}

/// A block device that can be throttled.
fn disk() -> (u32, u32) {
    let entries = std::fs::read_dir("/sys/block").unwrap();
    let numbers = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path().join("dev")).unwrap()).min().unwrap();
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn ours(places: &[GroupPath]) -> Vec<(&'static str, String)> {
    let (major, minor) = disk();
    let rate = |rate| vec![ThrottleDevice { major, minor, rate }];
    let mut resources = Resources { pids: Some(Limit::Value(99)), ..Resources::default() };
    let value = |number| Some(Limit::Value(number));
    resources.cpu.shares = Some(333);
    (resources.cpu.quota_us, resources.cpu.period_us) = (value(50_000), Some(200_000));
    (resources.cpu.cpus, resources.cpu.mems) = (Some("0".to_owned()), Some("0".to_owned()));
    (resources.memory.limit, resources.memory.swap) = (value(64 * MIB), value(96 * MIB));
    (resources.memory.reservation, resources.memory.kernel_tcp) = (value(32 * MIB), value(8 * MIB));
    resources.memory.swappiness = Some(7);
    resources.block_io.throttle_read_bps = rate(MIB);
    resources.block_io.throttle_write_bps = rate(2 * MIB);
    resources.block_io.throttle_read_iops = rate(100);
    resources.block_io.throttle_write_iops = rate(200);
    let group = Group::create(places, Below::Ordinary).unwrap();
    let limits = legacy::writes(&resources, &Context { groups: places, ..Context::default() }).unwrap();
    group.apply_attach(&limits.attach).unwrap();
    group.apply(&limits.rest).unwrap();
    values(places)
}

fn theirs(name: &str, places: &[GroupPath]) -> Vec<(&'static str, String)> {
    let (major, minor) = disk();
    let (major, minor) = (u64::from(major), u64::from(minor));
    let mib = |number: u64| i64::try_from(number * MIB).unwrap();
    let group = CgroupBuilder::new(name)
        .cpu()
        .shares(333)
        .period(200_000)
        .quota(50_000)
        .cpus("0".to_owned())
        .mems("0".to_owned())
        .done()
        .memory()
        .memory_hard_limit(mib(64))
        .memory_swap_limit(mib(96))
        .memory_soft_limit(mib(32))
        .kernel_tcp_memory_limit(mib(8))
        .swappiness(7)
        .done()
        .pid()
        .maximum_number_of_processes(MaxValue::Value(99))
        .done()
        .blkio()
        .throttle_bps()
        .read(major, minor, MIB)
        .write(major, minor, 2 * MIB)
        .throttle_iops()
        .read(major, minor, 100)
        .write(major, minor, 200)
        .done()
        .build(hierarchies::auto())
        .unwrap();
    let seen = values(places);
    group.delete().unwrap();
    seen
}

#[test]
fn both_write_the_same() {
    if sys::process::effective_uid() != 0 {
        println!("skipped: needs root");
        return;
    }
    let proc = sys::ProcFs::open().unwrap();
    let layout = layout::probe(&proc).unwrap();
    if layout.mode == cgroup::Mode::Unified {
        println!("skipped: needs a v1 or hybrid host");
        return;
    }
    let plan = |name: &str| path::plan(&layout, Some(&format!("/{name}")), "x").unwrap();
    let (our_name, their_name) = (format!("skep-ours-{}", std::process::id()), format!("skep-theirs-{}", std::process::id()));
    let outcome = std::panic::catch_unwind(|| (ours(&plan(&our_name)), theirs(&their_name, &plan(&their_name))));
    for name in [our_name, their_name] {
        group::remove(&plan(&name), Duration::from_secs(5), &proc).unwrap();
    }
    let (ours, theirs) = outcome.unwrap();
    assert_eq!(ours, theirs);
    assert!(ours.iter().all(|(_, value)| !value.trim().is_empty()), "{ours:?}");
}
