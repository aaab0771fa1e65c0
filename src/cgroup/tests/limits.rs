//! Every limit on the real kernel: by use where it can be used here, and by `update` on a running task.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cgroup::group::Below;
use cgroup::limit::{Context, LimitError};
use cgroup::oom::{self, Oom};
use cgroup::{Error, Group, group, layout, legacy, path, stats};
use common::{Fixture, eventually};
use runtime_spec::model::{HugepageLimit, Limit, Resources, ThrottleDevice, WeightDevice};
use sys::watch::{Until, wait};

const MIB: u64 = 1 << 20;

/// What create and update do.
fn apply(group: &Group, resources: &Resources) -> cgroup::Result<()> {
    let groups: Vec<_> = group.places().cloned().collect();
    let current = group.read_current(resources)?;
    let limits = legacy::writes(resources, &Context { groups: &groups, current, ..Context::default() })?;
    group.apply_attach(&limits.attach)?;
    group.apply(&limits.rest)
}

fn with(set: impl FnOnce(&mut Resources)) -> Resources {
    let mut resources = Resources::default();
    set(&mut resources);
    resources
}

fn value(number: u64) -> Option<Limit> {
    Some(Limit::Value(number))
}

#[test]
fn pids_refuses_a_fork() {
    needs_v1_root!();
    let fixture = Fixture::new();
    apply(&fixture.group, &with(|r| r.pids = value(2))).unwrap();
    // The shell is one, the first sleep the second.
    let script = "sleep 5 & sleep 5 & sleep 5 & exit 3";
    let status = fixture.command(script).status().unwrap();
    assert!(!status.success());
    assert_ne!(fixture.read("pids", "pids.events"), "max 0");
}

#[test]
fn memory_limit_kills_and_tells() {
    needs_v1_root!();
    let fixture = Fixture::new();
    // More for both than for memory, so that memory is what is met first, whether there is swap or not.
    let limits = with(|r| (r.memory.limit, r.memory.swap) = (value(8 * MIB), value(9 * MIB)));
    apply(&fixture.group, &limits).unwrap();
    let mut watch = oom::watch(&fixture.group).unwrap();
    assert_eq!(watch.happened().unwrap(), Oom::Nothing);
    assert!(wait(&[(watch.as_fd(), Until::Readable)], Duration::from_millis(20)).unwrap().is_empty());
    // tail keeps all of a line that never ends.
    let status = fixture.command("head -c 64m /dev/zero | tail").stdout(Stdio::null()).status().unwrap();
    assert!(!status.success());
    assert_eq!(wait(&[(watch.as_fd(), Until::Readable)], Duration::from_secs(5)).unwrap(), [0]);
    assert_eq!(watch.happened().unwrap(), Oom::Happened);
    assert_eq!(watch.happened().unwrap(), Oom::Nothing);
    let stats = stats::read(&fixture.group).unwrap();
    assert!(stats.memory.oom_kills >= 1);
    assert!(stats.memory.usage.failcnt > 0);
    assert!(stats.memory.usage.max_usage <= 8 * MIB && stats.memory.usage.max_usage > 7 * MIB);
    group::remove(&fixture.places, Duration::from_secs(5), &fixture.proc).unwrap();
    assert_eq!(wait(&[(watch.as_fd(), Until::Readable)], Duration::from_secs(5)).unwrap(), [0]);
    assert_eq!(watch.happened().unwrap(), Oom::Gone);
}

#[test]
fn a_shrink_below_the_usage_is_refused_with_numbers_and_kills_nobody() {
    needs_v1_root!();
    let fixture = Fixture::new();
    // No swap: what is used cannot go anywhere.
    apply(&fixture.group, &with(|r| (r.memory.limit, r.memory.swap) = (value(128 * MIB), value(128 * MIB)))).unwrap();
    let script = "x=$(head -c 24000000 /dev/zero | tr '\\0' a); sleep 60 & wait";
    let mut child = fixture.shell(script);
    let usage = || stats::read(&fixture.group).unwrap().memory.raw["rss"];
    // The pipeline has ended when there is a sleep.
    let sleeps = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    let settled = || matches!(fixture.group.procs().unwrap().as_slice(), two @ [_, _] if two.iter().any(sleeps));
    eventually("it uses memory", || settled() && usage() > 23_000_000);
    let error = apply(&fixture.group, &with(|r| r.memory.limit = value(4 * MIB))).unwrap_err();
    match &error {
        Error::Limit(LimitError::InUse { limit, usage, peak, .. }) => {
            assert_eq!(limit, &(4 * MIB).to_string());
            assert!(*usage > 4 * MIB && peak >= usage, "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().starts_with("unable to set memory limit to 4194304 (current usage: "), "{error}");
    assert_eq!(fixture.read("memory", "memory.limit_in_bytes"), (128 * MIB).to_string());
    assert_eq!(fixture.group.procs().unwrap().len(), 2);
    fixture.group.kill_all(group::KILL_BOUND, &fixture.proc).unwrap();
    child.wait().unwrap();
}

#[test]
fn cpu_quota_throttles() {
    needs_v1_root!();
    let fixture = Fixture::new();
    apply(&fixture.group, &with(|r| (r.cpu.quota_us, r.cpu.period_us) = (value(2_000), Some(20_000)))).unwrap();
    let mut child = fixture.shell("while :; do :; done");
    eventually("it runs", || stats::read(&fixture.group).unwrap().cpu.total_ns > 0);
    let (start, before) = (Instant::now(), stats::read(&fixture.group).unwrap());
    std::thread::sleep(Duration::from_millis(400));
    let after = stats::read(&fixture.group).unwrap();
    let share = (after.cpu.total_ns - before.cpu.total_ns) as f64 / start.elapsed().as_nanos() as f64;
    // A tenth of a CPU; twice that for what one period may overrun.
    assert!(share < 0.2, "{share}");
    assert!(after.cpu.throttled_periods > 0 && after.cpu.throttled_ns > 0 && after.cpu.periods > 0);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn cpuset_is_where_the_task_runs() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("cpuset"));
    let root = std::fs::read_to_string(format!("{}/cpuset.cpus", fixture.places[0].mountpoint)).unwrap();
    if root.trim() == "0" {
        println!("skipped: needs two CPUs");
        return;
    }
    apply(&fixture.group, &with(|r| r.cpu.cpus = Some("1".to_owned()))).unwrap();
    let mut child = fixture.shell("exec sleep 60");
    eventually("it enters", || fixture.group.procs().unwrap().len() == 1);
    let allowed = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t").map(str::to_owned)).unwrap()
    };
    assert_eq!(allowed(), "1");
    apply(&fixture.group, &with(|r| r.cpu.cpus = Some("0".to_owned()))).unwrap();
    assert_eq!(allowed(), "0");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn device_lines_decide_what_opens() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let groups: Vec<_> = fixture.group.places().cloned().collect();
    let lines = [("devices.deny", "a".to_owned()), ("devices.allow", "c 1:3 rwm".to_owned())];
    let context = Context { groups: &groups, device_lines: &lines, ..Context::default() };
    fixture.group.apply(&legacy::writes(&Resources::default(), &context).unwrap().rest).unwrap();
    let opens = |device: &str| fixture.command(&format!("exec 3< {device}")).status().unwrap().success();
    assert!(opens("/dev/null"));
    assert!(!opens("/dev/zero"));
}

/// One update after the other on the groups of a running task, each with what the kernel then says.
#[test]
fn update_changes_every_field_of_a_running_container() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let mut child = fixture.shell("exec sleep 60");
    eventually("it enters", || fixture.group.procs().unwrap().len() == 1);
    let check = |set: &dyn Fn(&mut Resources), expected: &[(&str, &str, &str)]| {
        let resources = with(|r| set(r));
        apply(&fixture.group, &resources).unwrap_or_else(|error| panic!("{expected:?}: {error}"));
        for (controller, file, value) in expected {
            assert_eq!(fixture.read(controller, file), *value, "{file}");
        }
    };
    check(&|r| r.cpu.shares = Some(100), &[("cpu", "cpu.shares", "100")]);
    check(&|r| r.cpu.shares = Some(200), &[("cpu", "cpu.shares", "200")]);
    check(&|r| r.cpu.idle = Some(1), &[("cpu", "cpu.idle", "1")]);
    check(&|r| (r.cpu.idle, r.cpu.shares) = (Some(1), Some(300)), &[("cpu", "cpu.idle", "1")]);
    check(
        &|r| (r.cpu.idle, r.cpu.shares) = (Some(0), Some(400)),
        &[("cpu", "cpu.idle", "0"), ("cpu", "cpu.shares", "400")],
    );
    let (quota, period, burst) = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us");
    check(&|r| r.cpu.quota_us = value(500_000), &[("cpu", quota, "500000"), ("cpu", period, "100000")]);
    check(&|r| r.cpu.burst_us = Some(400_000), &[("cpu", burst, "400000")]);
    check(
        &|r| (r.cpu.quota_us, r.cpu.burst_us, r.cpu.period_us) = (value(3_000), Some(2_000), Some(10_000)),
        &[("cpu", quota, "3000"), ("cpu", burst, "2000"), ("cpu", period, "10000")],
    );
    check(
        &|r| (r.cpu.quota_us, r.cpu.burst_us, r.cpu.period_us) = (value(900_000), Some(800_000), Some(1_000_000)),
        &[("cpu", quota, "900000"), ("cpu", burst, "800000"), ("cpu", period, "1000000")],
    );
    check(&|r| r.cpu.burst_us = Some(0), &[("cpu", burst, "0")]);
    check(&|r| r.cpu.quota_us = Some(Limit::Max), &[("cpu", quota, "-1"), ("cpu", period, "1000000")]);
    check(&|r| r.cpu.cpus = Some("0".to_owned()), &[("cpuset", "cpuset.cpus", "0")]);
    check(&|r| r.cpu.mems = Some("0".to_owned()), &[("cpuset", "cpuset.mems", "0")]);
    check(&|r| r.pids = value(12_345), &[("pids", "pids.max", "12345")]);
    check(&|r| r.pids = value(0), &[("pids", "pids.max", "0")]);
    check(&|r| r.pids = Some(Limit::Max), &[("pids", "pids.max", "max")]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn update_changes_memory_up_and_down() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let mut child = fixture.shell("exec sleep 60");
    eventually("it enters", || fixture.group.procs().unwrap().len() == 1);
    let read = |file: &str| fixture.read("memory", file);
    let (limit, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    let unlimited = read(limit);
    let set = |memory: Option<u64>, swap: Option<u64>| {
        let limit = |number: u64| if number == u64::MAX { Limit::Max } else { Limit::Value(number * MIB) };
        apply(&fixture.group, &with(|r| (r.memory.limit, r.memory.swap) = (memory.map(limit), swap.map(limit))))
    };
    let mib = |number: u64| (number * MIB).to_string();
    let max = Some(u64::MAX);
    // Up and down, across the old values in both directions.
    for (memory, swap) in [(32, 32), (30, 50), (60, 80), (20, 25), (100, 100), (90, 400)] {
        set(Some(memory), Some(swap)).unwrap();
        assert_eq!((read(limit), read(both)), (mib(memory), mib(swap)));
    }
    set(Some(64), None).unwrap();
    assert_eq!((read(limit), read(both)), (mib(64), mib(400)));
    set(None, Some(96)).unwrap();
    assert_eq!((read(limit), read(both)), (mib(64), mib(96)));
    let error = set(Some(97), None).unwrap_err().to_string();
    assert!(error.contains("set memory.limit and memory.swap together"), "{error}");
    set(None, max).unwrap();
    assert_eq!((read(limit), read(both)), (mib(64), unlimited.clone()));
    set(Some(32), Some(40)).unwrap();
    set(max, None).unwrap();
    assert_eq!((read(limit), read(both)), (unlimited.clone(), unlimited));
    apply(&fixture.group, &with(|r| r.memory.reservation = value(25 * MIB))).unwrap();
    assert_eq!(read("memory.soft_limit_in_bytes"), mib(25));
    for swappiness in [0, 100, 42] {
        apply(&fixture.group, &with(|r| r.memory.swappiness = Some(swappiness))).unwrap();
        assert_eq!(read("memory.swappiness"), swappiness.to_string());
    }
    for disabled in [true, false] {
        apply(&fixture.group, &with(|r| r.memory.disable_oom_killer = Some(disabled))).unwrap();
        assert!(read("memory.oom_control").starts_with(&format!("oom_kill_disable {}", u8::from(disabled))));
    }
    apply(&fixture.group, &with(|r| r.memory.kernel_tcp = value(MIB))).unwrap();
    assert_eq!(read("memory.kmem.tcp.limit_in_bytes"), mib(1));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_parents_quota_is_respected_on_the_way() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("cpu"));
    let dir = fixture.dir("cpu");
    let parent = dir.rsplit_once('/').unwrap().0;
    std::fs::write(format!("{parent}/cpu.cfs_quota_us"), "50000").unwrap();
    let set =
        |quota, period| apply(&fixture.group, &with(|r| (r.cpu.quota_us, r.cpu.period_us) = (value(quota), period)));
    let error = set(60_000, None).unwrap_err();
    assert!(
        matches!(&error, Error::Limit(LimitError::Refused { source, .. }) if source.is(sys::Errno::INVAL)),
        "{error}"
    );
    for (quota, period) in
        [(50_000, 100_000), (3_000, 10_000), (500_000, 1_000_000), (5_000, 10_000), (40_000, 100_000)]
    {
        set(quota, Some(period)).unwrap();
        assert_eq!(fixture.read("cpu", "cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(fixture.read("cpu", "cpu.cfs_period_us"), period.to_string());
    }
}

#[test]
fn realtime_is_lent_to_parents_that_have_none() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("cpu"));
    let dir = fixture.dir("cpu");
    if !std::path::Path::new(&format!("{dir}/cpu.rt_runtime_us")).exists() {
        println!("skipped: the kernel has no realtime groups");
        return;
    }
    let set = |runtime: i64, period: Option<u64>| {
        apply(
            &fixture.group,
            &with(|r| (r.cpu.realtime_runtime_us, r.cpu.realtime_period_us) = (Some(runtime), period)),
        )
    };
    set(20_000, Some(1_000_000)).unwrap();
    let parent = dir.rsplit_once('/').unwrap().0;
    let of_parent = std::fs::read_to_string(format!("{parent}/cpu.rt_runtime_us")).unwrap();
    assert_eq!(of_parent.trim(), "20000");
    assert_eq!(fixture.read("cpu", "cpu.rt_runtime_us"), "20000");
    // A realtime task may enter and run now.
    let status = fixture.command("exec chrt -f 1 true").status().unwrap();
    assert!(status.success());
    for (runtime, period) in [(10_000, 800_000), (100, 10_000), (1_500, 100_000), (15_000, 900_000)] {
        set(runtime, Some(period)).unwrap();
        assert_eq!(fixture.read("cpu", "cpu.rt_runtime_us"), runtime.to_string());
        assert_eq!(fixture.read("cpu", "cpu.rt_period_us"), period.to_string());
    }
    // More than the parent was given is refused: the number is somebody's now.
    let error = set(30_000, Some(1_000_000)).unwrap_err();
    assert!(matches!(error, Error::Limit(LimitError::Refused { .. })), "{error}");
    std::fs::write(format!("{dir}/cpu.rt_runtime_us"), "0").unwrap();
}

/// A file on a disk, and the numbers of that disk; `None` where the build folder is on none.
fn file_on_a_disk() -> Option<(u32, u32, std::path::PathBuf)> {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("skep-test-{}", std::process::id()));
    let bytes = vec![1; usize::try_from(MIB).unwrap()];
    let mut open = std::fs::File::create(&file).unwrap();
    open.write_all(&bytes).unwrap();
    open.sync_all().unwrap();
    let dev = open.metadata().unwrap().dev();
    let mut sysfs = format!("/sys/dev/block/{}:{}", sys::fs::major(dev), sys::fs::minor(dev));
    if std::path::Path::new(&format!("{sysfs}/partition")).exists() {
        sysfs.push_str("/..");
    }
    let Ok(numbers) = std::fs::read_to_string(format!("{sysfs}/dev")) else {
        std::fs::remove_file(&file).unwrap();
        return None;
    };
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    Some((major.parse().unwrap(), minor.parse().unwrap(), file))
}

#[test]
fn block_io_rate_slows_reads_down() {
    needs_v1_root!();
    let Some((major, minor, file)) = file_on_a_disk() else {
        println!("skipped: the build folder is on no disk");
        return;
    };
    let fixture = Fixture::new();
    let set = |rate| {
        let device = vec![ThrottleDevice { major, minor, rate }];
        apply(&fixture.group, &with(|r| r.block_io.throttle_read_bps = device)).unwrap();
    };
    set(MIB);
    assert_eq!(fixture.read("blkio", "blkio.throttle.read_bps_device"), format!("{major}:{minor} {MIB}"));
    let dd = format!("dd if={} of=/dev/null bs=64k count=16 iflag=direct", file.display());
    let start = Instant::now();
    let status = fixture.command(&dd).status().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(status.success());
    assert!(start.elapsed() > Duration::from_millis(600), "{:?}", start.elapsed());
    let stats = stats::read(&fixture.group).unwrap();
    let read = stats.blkio.service_bytes.iter().find(|entry| entry.op == "Read" && entry.major == u64::from(major));
    assert!(read.unwrap().value >= MIB, "{:?}", stats.blkio);
    set(0);
    assert_eq!(fixture.read("blkio", "blkio.throttle.read_bps_device"), "");
    type Field = fn(&mut Resources) -> &mut Vec<ThrottleDevice>;
    let others: [(&str, Field); 3] = [
        ("blkio.throttle.write_bps_device", |r| &mut r.block_io.throttle_write_bps),
        ("blkio.throttle.read_iops_device", |r| &mut r.block_io.throttle_read_iops),
        ("blkio.throttle.write_iops_device", |r| &mut r.block_io.throttle_write_iops),
    ];
    for (file, field) in others {
        for rate in [1_000, 900] {
            let resources = with(|r| field(r).push(ThrottleDevice { major, minor, rate }));
            apply(&fixture.group, &resources).unwrap();
            assert_eq!(fixture.read("blkio", file), format!("{major}:{minor} {rate}"));
        }
    }
}

#[test]
fn bfq_weights_for_all_and_for_one_device() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("blkio"));
    let dir = fixture.dir("blkio");
    if !std::path::Path::new(&format!("{dir}/blkio.bfq.weight")).exists() {
        println!("skipped: the kernel has no BFQ");
        return;
    }
    apply(&fixture.group, &with(|r| r.block_io.weight = Some(333))).unwrap();
    assert_eq!(fixture.read("blkio", "blkio.bfq.weight"), "333");
    let error = apply(&fixture.group, &with(|r| r.block_io.leaf_weight = Some(10))).unwrap_err();
    assert!(error.to_string().contains("this kernel has no"), "{error}");
    let Some(disk) = LoopDisk::with_bfq() else {
        println!("skipped in part: no loop device with BFQ");
        return;
    };
    let (major, minor) = (disk.major, disk.minor);
    for weight in [444, 222] {
        let device = WeightDevice { major, minor, weight: Some(weight), leaf_weight: None };
        apply(&fixture.group, &with(|r| r.block_io.weight_device = vec![device])).unwrap();
        let lines = fixture.read("blkio", "blkio.bfq.weight_device");
        assert!(lines.lines().any(|line| line == format!("{major}:{minor} {weight}")), "{lines}");
    }
}

/// A loop device of our own, detached at the end.
struct LoopDisk {
    node: String,
    file: std::path::PathBuf,
    major: u32,
    minor: u32,
}

impl LoopDisk {
    fn with_bfq() -> Option<LoopDisk> {
        let file = std::env::temp_dir().join(format!("skep-test-loop-{}", std::process::id()));
        std::fs::File::create(&file).unwrap().set_len(MIB).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().ok()?;
        if !output.status.success() {
            std::fs::remove_file(&file).unwrap();
            return None;
        }
        let node = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let sysfs = format!("/sys/block/{}", node.trim_start_matches("/dev/"));
        let dev = std::fs::read_to_string(format!("{sysfs}/dev")).unwrap();
        let (major, minor) = dev.trim().split_once(':').unwrap();
        let disk = LoopDisk { node, file, major: major.parse().unwrap(), minor: minor.parse().unwrap() };
        std::fs::write(format!("{sysfs}/queue/scheduler"), "bfq").ok().map(|()| disk)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("--detach").arg(&self.node).status();
        std::fs::remove_file(&self.file).unwrap();
        assert!(status.unwrap().success());
    }
}

#[test]
fn a_limit_without_its_controller_names_both() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("memory"));
    let error = apply(&fixture.group, &with(|r| r.pids = value(5))).unwrap_err().to_string();
    assert!(error.starts_with("cannot set pids limit: ") && error.contains("linux.resources.pids.limit"), "{error}");
}

/// hugetlb, net_cls and net_prio, the last two in one hierarchy, mounted where no name tells: in a mount namespace of
/// this test's own, so that the host's folder stays as it is.
#[test]
fn hierarchies_that_are_elsewhere_and_mounted_together() {
    needs_v1_root!();
    let thread = std::thread::spawn(|| {
        sys::namespace::unshare(0x0002_0000).unwrap();
        let run = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
        run(&["--make-rprivate", "/"]);
        let base = std::env::temp_dir().join(format!("skep-test-mounts-{}", std::process::id()));
        let (net, huge) = (base.join("net"), base.join("huge pages"));
        let used_before = has_groups("hugetlb") || has_groups("net_cls");
        for dir in [&net, &huge] {
            std::fs::create_dir_all(dir).unwrap();
        }
        run(&["-t", "cgroup", "-o", "net_cls,net_prio", "x", net.to_str().unwrap()]);
        run(&["-t", "cgroup", "-o", "hugetlb", "x", huge.to_str().unwrap()]);
        let outcome = std::panic::catch_unwind(|| {
            use_odd_hierarchies();
            // The kernel forgets a hierarchy that is unmounted empty; with groups that it is still releasing it stays.
            if !used_before {
                eventually("removed groups are released", || !has_groups("hugetlb") && !has_groups("net_cls"));
            }
        });
        for dir in [&net, &huge] {
            assert!(Command::new("umount").arg(dir).status().unwrap().success());
        }
        std::fs::remove_dir_all(&base).unwrap();
        outcome.unwrap();
    });
    thread.join().unwrap();
}

/// Whether a v1 hierarchy has more than the one group that every one has.
fn has_groups(controller: &str) -> bool {
    let table = std::fs::read_to_string("/proc/cgroups").unwrap();
    let line = table.lines().map(|line| line.split('\t').collect::<Vec<_>>()).find(|words| words[0] == controller);
    // Those that are mounted nowhere are counted with the v2 hierarchy, whose number is 0.
    line.is_some_and(|words| words[1] != "0" && words[2] != "1")
}

fn use_odd_hierarchies() {
    let proc = sys::ProcFs::open().unwrap();
    let found = layout::probe(&proc).unwrap();
    let net = found.find("net_cls").unwrap();
    assert_eq!(net.controllers, ["net_cls", "net_prio"]);
    assert!(net.mountpoint.ends_with("/net"));
    assert!(found.find("hugetlb").unwrap().mountpoint.ends_with("/huge pages"));
    let mut places = path::plan(&found, Some(&common::unique()), "x").unwrap();
    places.retain(|place| place.has("net_cls") || place.has("hugetlb"));
    let group = Group::create(&places, Below::Ordinary).unwrap();
    let resources = with(|r| {
        r.network.class_id = Some(1_048_577);
        r.network.priorities = vec![("lo".to_owned(), 5)];
        r.hugepages = vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 2 * MIB }];
    });
    let applied = apply(&group, &resources);
    let read = |controller: &str, file: &str| {
        let dir = places.iter().find(|place| place.has(controller)).unwrap().dir();
        std::fs::read_to_string(format!("{dir}/{file}")).unwrap().trim().to_owned()
    };
    let seen = [
        read("net_cls", "net_cls.classid"),
        read("hugetlb", "hugetlb.2MB.limit_in_bytes"),
        read("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes"),
    ];
    let priorities = read("net_prio", "net_prio.ifpriomap");
    let pages = stats::read(&group).unwrap().hugetlb;
    group::remove(&places, Duration::from_secs(5), &proc).unwrap();
    common::remove_parents(&places).unwrap();
    applied.unwrap();
    assert_eq!(seen, ["1048577", "2097152", "2097152"]);
    assert!(priorities.lines().any(|line| line == "lo 5"), "{priorities}");
    assert_eq!(pages.keys().collect::<Vec<_>>(), ["1GB", "2MB"]);
}

#[test]
fn statistics_tell_what_happened() {
    needs_v1_root!();
    let fixture = Fixture::new();
    apply(&fixture.group, &with(|r| r.pids = value(100))).unwrap();
    let mut child = fixture.shell("x=$(head -c 4000000 /dev/zero | tr '\\0' a); i=0; while :; do i=$((i+1)); done");
    eventually("it has run", || stats::read(&fixture.group).unwrap().cpu.user_ns > 50_000_000);
    let stats = stats::read(&fixture.group).unwrap();
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 100));
    assert!(stats.cpu.total_ns >= 50_000_000);
    assert_eq!(stats.cpu.percpu_ns.len(), stats.cpu.percpu_user_ns.len());
    assert!(stats.cpu.percpu_ns.iter().sum::<u64>() > 40_000_000);
    assert!(!stats.cpuset.cpus.is_empty() && !stats.cpuset.mems.is_empty());
    assert!(stats.memory.usage.usage > 3_000_000 && stats.memory.usage.max_usage >= stats.memory.usage.usage);
    assert!(stats.memory.swap.limit > 0 && stats.memory.kernel.usage > 0);
    assert!(stats.memory.raw["rss"] > 3_000_000);
    let json = serde_json::to_value(stats::runc_json::Data::from(stats)).unwrap();
    assert_eq!(json["pids"], serde_json::json!({"current": 1, "limit": 100}));
    assert!(json["memory"]["raw"]["total_rss"].as_u64().unwrap() > 3_000_000);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_unified_group_has_cpu_time_and_pressure() {
    needs_v1_root!();
    let fixture = Fixture::choose(cgroup::GroupPath::is_unified);
    if fixture.places.is_empty() {
        println!("skipped: no unified hierarchy");
        return;
    }
    let mut child = fixture.shell("while :; do :; done");
    eventually("it has run", || stats::read(&fixture.group).unwrap().cpu.total_ns > 50_000_000);
    let stats = stats::read(&fixture.group).unwrap();
    assert_eq!(stats.pids.current, 1);
    assert!(stats.cpu.user_ns > 0);
    assert!(stats.cpu.pressure.is_some() && stats.memory.pressure.is_some() && stats.blkio.pressure.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}
