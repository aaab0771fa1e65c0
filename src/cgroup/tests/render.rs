//! The same limits on v1 and on v2, as data.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use cgroup::limit::{Absent, Context, Current, LimitError};
use cgroup::{FileWrite, GroupPath, Limits, legacy, unified};
use runtime_spec::model::{HugepageLimit, Limit, RdmaLimit, Resources, ThrottleDevice, WeightDevice};

const ALL_V1: &[&str] = &[
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio",
    "rdma",
];
const ALL_V2: &[&str] = &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

fn group(hierarchy: u32, controllers: &[&str]) -> Vec<GroupPath> {
    let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
    vec![GroupPath { hierarchy, controllers, mountpoint: "/sys/fs/cgroup".to_owned(), path: "/x".to_owned() }]
}

fn resources(set: impl FnOnce(&mut Resources)) -> Resources {
    let mut resources = Resources::default();
    set(&mut resources);
    resources
}

fn shown(writes: &[FileWrite]) -> Vec<String> {
    let show = |write: &FileWrite| {
        let absent = match &write.absent {
            Absent::Fails => String::new(),
            Absent::Skipped => " if there".to_owned(),
            Absent::Instead { file, value } => format!(" or {file}={value}"),
        };
        format!("{}={}{absent}", write.file, write.value.escape_debug())
    };
    writes.iter().map(show).collect()
}

fn all(limits: &Limits) -> Vec<String> {
    let mut lines = shown(&limits.attach);
    if !lines.is_empty() {
        lines.push("attach".to_owned());
    }
    lines.extend(shown(&limits.rest));
    lines.extend(limits.ignored.iter().map(|ignored| format!("ignored {}", ignored.field)));
    lines
}

fn on_v1(resources: &Resources, current: Current) -> Result<Vec<String>, LimitError> {
    let groups = group(1, ALL_V1);
    legacy::writes(resources, &Context { groups: &groups, current, ..Context::default() }).map(|limits| all(&limits))
}

fn on_v2(resources: &Resources, current: Current) -> Result<Vec<String>, LimitError> {
    let groups = group(0, ALL_V2);
    unified::writes(resources, &Context { groups: &groups, current, ..Context::default() }).map(|limits| all(&limits))
}

/// One set of limits on a new group of either kind.
fn check(set: impl FnOnce(&mut Resources), v1: &[&str], v2: &[&str]) {
    check_from(Current::default(), set, v1, v2);
}

fn check_from(current: Current, set: impl FnOnce(&mut Resources), v1: &[&str], v2: &[&str]) {
    let resources = resources(set);
    assert_eq!(on_v1(&resources, current).unwrap(), v1, "v1");
    assert_eq!(on_v2(&resources, current).unwrap(), v2, "v2");
}

/// One set of limits that neither kind takes.
fn fails(current: Current, set: impl FnOnce(&mut Resources), v1: &str, v2: &str) {
    let resources = resources(set);
    let text = |outcome: Result<Vec<String>, LimitError>| {
        outcome.map_or_else(|error| error.to_string(), |lines| lines.join(" "))
    };
    assert_eq!(text(on_v1(&resources, current)), v1, "v1");
    assert_eq!(text(on_v2(&resources, current)), v2, "v2");
}

fn value(number: u64) -> Option<Limit> {
    Some(Limit::Value(number))
}

#[test]
fn nothing() {
    check(|_| {}, &[], &[]);
}

#[test]
fn zero_means_leave_it() {
    let set = |r: &mut Resources| {
        r.memory.limit = value(0);
        r.memory.reservation = value(0);
        r.memory.swap = value(0);
        r.cpu.shares = Some(0);
        r.cpu.quota_us = value(0);
        r.cpu.period_us = Some(0);
        r.cpu.realtime_runtime_us = Some(0);
        r.cpu.cpus = Some(String::new());
        r.block_io.weight = Some(0);
        r.network.class_id = Some(0);
    };
    check(set, &[], &["ignored cpu.realtimeRuntime", "ignored network.classID"]);
}

#[test]
fn cpu_weight() {
    check(|r| r.cpu.shares = Some(1024), &["cpu.shares=1024"], &["cpu.weight=100"]);
    check(|r| r.cpu.shares = Some(2), &["cpu.shares=2"], &["cpu.weight=1"]);
    check(|r| r.cpu.shares = Some(262_144), &["cpu.shares=262144"], &["cpu.weight=10000"]);
    let low = "linux.resources.cpu.shares: the minimum allowed cpu-shares is 2";
    fails(Current::default(), |r| r.cpu.shares = Some(1), low, "cpu.weight=1");
    let high = "linux.resources.cpu.shares: the maximum allowed cpu-shares is 262144";
    fails(Current::default(), |r| r.cpu.shares = Some(262_145), high, "cpu.weight=10000");
}

#[test]
fn cpu_bandwidth() {
    let both = |r: &mut Resources| (r.cpu.quota_us, r.cpu.period_us) = (value(5_000), Some(10_000));
    check(both, &["cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000"], &["cpu.max=5000 10000"]);
    check(|r| r.cpu.quota_us = value(5_000), &["cpu.cfs_quota_us=5000"], &["cpu.max=5000"]);
    check(|r| r.cpu.quota_us = Some(Limit::Max), &["cpu.cfs_quota_us=-1"], &["cpu.max=max"]);
    check(|r| r.cpu.period_us = Some(50_000), &["cpu.cfs_period_us=50000"], &["cpu.max=max 50000"]);
}

#[test]
fn a_period_alone_keeps_the_quota() {
    let current = Current { quota_us: Limit::Value(20_000), ..Current::default() };
    check_from(current, |r| r.cpu.period_us = Some(50_000), &["cpu.cfs_period_us=50000"], &["cpu.max=20000 50000"]);
}

#[test]
fn a_lower_period_below_a_parents_limit_goes_last() {
    // 50000/100000 to 3000/10000: the old quota with the new period would be five CPUs.
    let current = Current { quota_us: Limit::Value(50_000), ..Current::default() };
    let set = |r: &mut Resources| (r.cpu.quota_us, r.cpu.period_us) = (value(3_000), Some(10_000));
    check_from(current, set, &["cpu.cfs_quota_us=3000", "cpu.cfs_period_us=10000"], &["cpu.max=3000 10000"]);
}

#[test]
fn burst_is_never_above_the_quota() {
    let raise = |r: &mut Resources| (r.cpu.quota_us, r.cpu.burst_us) = (value(40_000), Some(30_000));
    check(
        raise,
        &["cpu.cfs_quota_us=40000", "cpu.cfs_burst_us=30000 if there"],
        &["cpu.max=40000", "cpu.max.burst=30000"],
    );
    let current = Current { quota_us: Limit::Value(40_000), burst_us: 30_000, ..Current::default() };
    let lower = |r: &mut Resources| (r.cpu.quota_us, r.cpu.burst_us) = (value(10_000), Some(5_000));
    let v1 = ["cpu.cfs_burst_us=5000 if there", "cpu.cfs_quota_us=10000"];
    check_from(current, lower, &v1, &["cpu.max.burst=5000", "cpu.max=10000"]);
    check(|r| r.cpu.burst_us = Some(0), &["cpu.cfs_burst_us=0 if there"], &["cpu.max.burst=0"]);
}

#[test]
fn idle_has_no_weight_of_its_own() {
    let set = |idle| move |r: &mut Resources| (r.cpu.shares, r.cpu.idle) = (Some(1024), Some(idle));
    check(set(1), &["cpu.shares=1024", "cpu.idle=1"], &["cpu.weight=100", "cpu.idle=1"]);
    check(set(0), &["cpu.idle=0", "cpu.shares=1024"], &["cpu.idle=0", "cpu.weight=100"]);
    let idle = Current { idle: true, ..Current::default() };
    let v1 = ["cpu.idle=0", "cpu.shares=1024", "cpu.idle=1"];
    check_from(idle, set(1), &v1, &["cpu.idle=0", "cpu.weight=100", "cpu.idle=1"]);
    check(|r| r.cpu.idle = Some(1), &["cpu.idle=1"], &["cpu.idle=1"]);
}

#[test]
fn realtime() {
    let set = |runtime, period| {
        move |r: &mut Resources| {
            (r.cpu.realtime_runtime_us, r.cpu.realtime_period_us) = (Some(runtime), Some(period));
        }
    };
    let ignored = ["ignored cpu.realtimeRuntime", "ignored cpu.realtimePeriod"];
    check(set(3_000, 10_000), &["cpu.rt_period_us=10000", "cpu.rt_runtime_us=3000", "attach"], &ignored);
    // From 600001/900001: the old runtime does not fit the new period.
    let current = Current { realtime_runtime_us: 600_001, realtime_period_us: 900_001, ..Current::default() };
    check_from(current, set(3_000, 10_000), &["cpu.rt_runtime_us=3000", "cpu.rt_period_us=10000", "attach"], &ignored);
}

#[test]
fn cpuset_comes_before_the_attach() {
    let set = |r: &mut Resources| (r.cpu.cpus, r.cpu.mems) = (Some("0-3,7".to_owned()), Some("0".to_owned()));
    let v1 = ["cpuset.cpus=0-3,7 or cpus=0-3,7", "cpuset.mems=0 or mems=0", "attach"];
    check(set, &v1, &["cpuset.cpus=0-3,7", "cpuset.mems=0", "attach"]);
}

#[test]
fn memory() {
    check(|r| r.memory.limit = value(100), &["memory.limit_in_bytes=100"], &["memory.max=100"]);
    check(|r| r.memory.reservation = value(50), &["memory.soft_limit_in_bytes=50"], &["memory.low=50"]);
    check(|r| r.memory.reservation = Some(Limit::Max), &["memory.soft_limit_in_bytes=-1"], &["memory.low=max"]);
    let both = |limit, swap| move |r: &mut Resources| (r.memory.limit, r.memory.swap) = (limit, swap);
    let v1 = ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300"];
    check(both(value(100), value(300)), &v1, &["memory.swap.max=200", "memory.max=100"]);
    let v1 = ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=100"];
    check(both(value(100), value(100)), &v1, &["memory.swap.max=0 if there", "memory.max=100"]);
    let v1 = ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=-1"];
    check(both(value(100), Some(Limit::Max)), &v1, &["memory.swap.max=max if there", "memory.max=100"]);
}

#[test]
fn no_memory_limit_is_no_limit_on_swap_either() {
    let v1 = ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1 if there"];
    check(|r| r.memory.limit = Some(Limit::Max), &v1, &["memory.swap.max=max if there", "memory.max=max"]);
    // From a limited group, the wider one goes first.
    let current = Current { memory_limit: Limit::Value(100), memory_and_swap: Limit::Value(200), ..Current::default() };
    let v1 = ["memory.memsw.limit_in_bytes=-1 if there", "memory.limit_in_bytes=-1"];
    let v2 = ["memory.swap.max=max if there", "memory.max=max"];
    check_from(current, |r| r.memory.limit = Some(Limit::Max), &v1, &v2);
}

#[test]
fn memory_and_swap_in_the_order_that_fits() {
    let current = Current { memory_limit: Limit::Value(100), memory_and_swap: Limit::Value(200), ..Current::default() };
    let set = |limit, swap| move |r: &mut Resources| (r.memory.limit, r.memory.swap) = (value(limit), value(swap));
    let raise = ["memory.memsw.limit_in_bytes=400", "memory.limit_in_bytes=300"];
    check_from(current, set(300, 400), &raise, &["memory.swap.max=100", "memory.max=300"]);
    let lower = ["memory.limit_in_bytes=50", "memory.memsw.limit_in_bytes=60"];
    check_from(current, set(50, 60), &lower, &["memory.swap.max=10", "memory.max=50"]);
    // Swap alone goes by the limit that is there.
    check_from(current, |r| r.memory.swap = value(150), &["memory.memsw.limit_in_bytes=150"], &["memory.swap.max=50"]);
}

#[test]
fn memory_and_swap_that_contradict() {
    let limited = Current { memory_limit: Limit::Value(100), memory_and_swap: Limit::Value(200), ..Current::default() };
    let start = "linux.resources.memory";
    let reason = |swap, limit| {
        format!("memory+swap limit {swap} is below the memory limit {limit}: set memory.limit and memory.swap together")
    };
    let v1 = format!("{start}.swap: {}", reason("50", "60"));
    let v2 = format!("{start}.swap: memory+swap limit should be >= memory limit");
    fails(limited, |r| (r.memory.limit, r.memory.swap) = (value(60), value(50)), &v1, &v2);
    fails(limited, |r| r.memory.swap = value(50), &format!("{start}.swap: {}", reason("50", "100")), &v2);
    fails(
        limited,
        |r| r.memory.limit = value(300),
        &format!("{start}.limit: {}", reason("200", "300")),
        "memory.max=300",
    );
    let v2 = format!("{start}.swap: unable to set swap limit without memory limit");
    fails(Current::default(), |r| r.memory.swap = value(50), &format!("{start}.swap: {}", reason("50", "-1")), &v2);
}

#[test]
fn a_shrink_that_would_kill_is_refused_on_v2() {
    let busy = Current { memory_usage: 500, ..Current::default() };
    let groups = group(0, ALL_V2);
    let outcome = |resources: &Resources| {
        let context = Context { groups: &groups, current: busy, ..Context::default() };
        unified::writes(resources, &context).map(|limits| all(&limits).join(" ")).map_err(|error| error.to_string())
    };
    let refused = Err("rejecting memory limit 500 <= usage 500".to_owned());
    let mut r = resources(|r| r.memory.limit = value(500));
    assert_eq!(outcome(&r), refused);
    r.memory.check_before_update = true;
    assert_eq!(outcome(&r), refused);
    r.memory.swap = value(500);
    assert_eq!(outcome(&r), Err("rejecting memory+swap limit 500 <= usage 500".to_owned()));
    let fits = resources(|r| r.memory.limit = value(501));
    assert_eq!(outcome(&fits), Ok("memory.max=501".to_owned()));
    // A value of `unified` overrides, in whatever notation the kernel takes it.
    let unified = |text: &str| {
        outcome(&resources(|r| {
            r.memory.limit = value(501);
            r.unified.insert("memory.max".to_owned(), text.to_owned());
        }))
    };
    for text in ["500", "0x1f4", " 500\n"] {
        assert_eq!(unified(text), refused, "{text:?}");
    }
    assert_eq!(unified("1K"), Ok("memory.max=501 memory.max=1K".to_owned()));
}

#[test]
fn memory_fields_of_v1() {
    let set = |r: &mut Resources| {
        r.memory.swappiness = Some(0);
        r.memory.disable_oom_killer = Some(true);
        r.memory.kernel = value(100);
        r.memory.kernel_tcp = value(200);
        r.memory.use_hierarchy = Some(false);
    };
    let v1 = [
        "memory.kmem.tcp.limit_in_bytes=200 if there",
        "memory.oom_control=1",
        "memory.swappiness=0",
        "ignored memory.kernel",
        "ignored memory.useHierarchy",
    ];
    let v2 = ["swappiness", "disableOOMKiller", "kernel", "kernelTCP", "useHierarchy"]
        .map(|f| format!("ignored memory.{f}"));
    check(set, &v1, &v2.each_ref().map(String::as_str));
    check(|r| r.memory.disable_oom_killer = Some(false), &[], &[]);
    let off = Current { oom_killer_disabled: true, ..Current::default() };
    check_from(off, |r| r.memory.disable_oom_killer = Some(false), &["memory.oom_control=0"], &[]);
    let reason = "linux.resources.memory.swappiness: invalid memory swappiness value: 101 (valid range is 0-100)";
    fails(Current::default(), |r| r.memory.swappiness = Some(101), reason, "ignored memory.swappiness");
}

#[test]
fn pids() {
    check(|r| r.pids = value(20), &["pids.max=20"], &["pids.max=20"]);
    check(|r| r.pids = value(0), &["pids.max=0"], &["pids.max=0"]);
    check(|r| r.pids = Some(Limit::Max), &["pids.max=max"], &["pids.max=max"]);
}

#[test]
fn block_io_weights() {
    let device = WeightDevice { major: 8, minor: 0, weight: Some(444), leaf_weight: None };
    let set = |r: &mut Resources| (r.block_io.weight, r.block_io.weight_device) = (Some(750), vec![device]);
    let v1 =
        ["blkio.weight=750 or blkio.bfq.weight=750", "blkio.weight_device=8:0 444 or blkio.bfq.weight_device=8:0 444"];
    check(set, &v1, &["io.bfq.weight=750 or io.weight=7475", "io.bfq.weight=8:0 444 or io.weight=8:0 4384"]);
    let leaf = WeightDevice { major: 8, minor: 0, weight: None, leaf_weight: Some(20) };
    let set = |r: &mut Resources| (r.block_io.leaf_weight, r.block_io.weight_device) = (Some(10), vec![leaf]);
    check(set, &["blkio.leaf_weight=10", "blkio.leaf_weight_device=8:0 20"], &["ignored blockIO.leafWeight"]);
}

#[test]
fn block_io_rates() {
    let rate = |rate| vec![ThrottleDevice { major: 8, minor: 16, rate }];
    let set = |r: &mut Resources| {
        r.block_io.throttle_read_bps = rate(1);
        r.block_io.throttle_write_bps = rate(2);
        r.block_io.throttle_read_iops = rate(3);
        r.block_io.throttle_write_iops = rate(0);
    };
    let v1 = [
        "blkio.throttle.read_bps_device=8:16 1",
        "blkio.throttle.write_bps_device=8:16 2",
        "blkio.throttle.read_iops_device=8:16 3",
        "blkio.throttle.write_iops_device=8:16 0",
    ];
    check(set, &v1, &["io.max=8:16 rbps=1", "io.max=8:16 wbps=2", "io.max=8:16 riops=3", "io.max=8:16 wiops=max"]);
}

#[test]
fn huge_pages_and_rdma() {
    let set = |r: &mut Resources| {
        r.hugepages = vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 4_194_304 }];
        let limit = |handles, objects| RdmaLimit { hca_handles: handles, hca_objects: objects };
        r.rdma = BTreeMap::from([("a".to_owned(), limit(Some(3), Some(4))), ("b".to_owned(), limit(None, Some(5)))]);
    };
    let v1 = [
        "hugetlb.2MB.limit_in_bytes=4194304",
        "hugetlb.2MB.rsvd.limit_in_bytes=4194304 if there",
        "rdma.max=a hca_handle=3 hca_object=4",
        "rdma.max=b hca_object=5",
    ];
    let v2 = ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304 if there", v1[2], v1[3]];
    check(set, &v1, &v2);
}

#[test]
fn network() {
    let set = |r: &mut Resources| {
        r.network.class_id = Some(1_048_577);
        r.network.priorities = vec![("lo".to_owned(), 5)];
    };
    let v1 = ["net_cls.classid=1048577", "attach", "net_prio.ifpriomap=lo 5"];
    check(set, &v1, &["ignored network.classID", "ignored network.priorities"]);
}

#[test]
fn device_lines_come_as_they_are() {
    let groups = group(1, ALL_V1);
    let lines = [("devices.deny", "a".to_owned()), ("devices.allow", "c 1:3 rwm".to_owned())];
    let context = Context { groups: &groups, device_lines: &lines, ..Context::default() };
    let limits = legacy::writes(&Resources::default(), &context).unwrap();
    assert_eq!(all(&limits), ["devices.deny=a", "devices.allow=c 1:3 rwm"]);
}

#[test]
fn unified_needs_v2_and_comes_last() {
    let unified = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let set = |pairs: &'static [(&str, &str)]| {
        move |r: &mut Resources| {
            r.memory.limit = value(100);
            r.unified = unified(pairs);
        }
    };
    let v1 = "invalid configuration: cannot use linux.resources.unified on cgroup v1";
    let check = |pairs: &'static [(&str, &str)], v2: &str| fails(Current::default(), set(pairs), v1, v2);
    check(&[("memory.max", "200"), ("memory.low", "5")], "memory.max=100 memory.low=5 memory.max=200");
    check(&[("io.max", "8:0 rbps=1\n8:16 wiops=2\n")], "memory.max=100 io.max=8:0 rbps=1 io.max=8:16 wiops=2");
    check(&[("cpuset.cpus", "")], "memory.max=100 cpuset.cpus=\\n");
    check(&[("cgroup.max.depth", "3")], "memory.max=100 cgroup.max.depth=3");
    check(&[("irq.pressure", "x")], "memory.max=100 irq.pressure=x");
    check(&[("misc.max", "sev 1")], "memory.max=100 misc.max=sev 1");
    check(&[("../../x.y", "1")], "unified resource \"../../x.y\" must be a file name (no slashes)");
    check(&[("memory", "1")], "unified resource \"memory\" must be in the form CONTROLLER.PARAMETER");
    check(&[("..", "1")], "unified resource \"..\" must be in the form CONTROLLER.PARAMETER");
    check(&[("dmem.max", "1")], "unified resource \"dmem.max\" can't be set: controller \"dmem\" not available");
}

#[test]
fn a_missing_controller_is_named_with_the_field() {
    type Case = (fn(&mut Resources), &'static str, &'static str);
    let cases: [Case; 6] = [
        (|r| r.memory.limit = value(1), "memory", "memory.limit"),
        (|r| r.cpu.cpus = Some("0".to_owned()), "cpuset", "cpu.cpus"),
        (|r| r.cpu.quota_us = value(5000), "cpu", "cpu.quota"),
        (|r| r.pids = value(5), "pids", "pids.limit"),
        (|r| r.network.class_id = Some(5), "net_cls", "network.classID"),
        (|r| r.hugepages = vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 0 }], "hugetlb", "hugepageLimits"),
    ];
    for (set, controller, field) in cases {
        let resources = resources(set);
        let expected = format!(
            "cannot set {controller} limit: container could not join or create cgroup: linux.resources.{field} needs \
             the {controller} controller, which this host does not have"
        );
        let error = legacy::writes(&resources, &Context::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        if controller != "net_cls" {
            assert_eq!(unified::writes(&resources, &Context::default()).unwrap_err().to_string(), expected);
        }
    }
}
