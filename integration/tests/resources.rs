//! Resource limits on v1 and on v2: what the files say, and what the limits do.

use std::fs;
use std::time::{Duration, Instant};

use integration::group::{self, path_in};
use integration::host::{disk_of, eventually};
use integration::requires::{Need, skip_without};
use integration::{Bundle, Sandbox, Value, case, case_with, json};

/// Starts a container with these resources and compares files of its groups.
fn check_files(resources: Value, files: &[(&str, &str, &str)]) {
    case(|sb| {
        let b = files.iter().fold(sb.bundle(), |b, _| b);
        let b = resources
            .as_object()
            .expect("an object")
            .iter()
            .fold(b, |b, (k, v)| b.set(&format!("/linux/resources/{k}"), v.clone()));
        sb.create(&b.sleeper()).ok();
        let id = format!("{}-c0", sb.name);
        for (controller, file, expected) in files {
            sb.cgroup_is(controller, &id, file, expected);
        }
    });
}

#[test]
fn memory_limits() {
    check_files(
        json!({ "memory": { "limit": 67_108_864, "reservation": 33_554_432 } }),
        &[("memory", "memory.limit_in_bytes", "67108864"), ("memory", "memory.soft_limit_in_bytes", "33554432")],
    );
}

#[test]
fn realtime_bandwidth_is_set_or_the_kernel_has_none() {
    case_with(&[Need::V1("cpu")], |sb| {
        let b =
            sb.bundle().set("/linux/resources/cpu", json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000 }));
        let b = b.sleeper();
        if group::hierarchy("cpu").join("cpu.rt_runtime_us").exists() {
            sb.create(&b).ok();
            sb.cgroup_is("cpu", &b.id, "cpu.rt_runtime_us", "10000");
        } else {
            sb.create(&b).fails_saying("cannot set linux.resources.cpu.realtimePeriod: this kernel has no");
        }
    });
}

#[test]
fn swappiness() {
    if skip_without(&[Need::V1("memory")]) {
        return;
    }
    check_files(json!({ "memory": { "swappiness": 13 } }), &[("memory", "memory.swappiness", "13")]);
}

#[test]
fn memory_and_swap() {
    case_with(&[Need::SwapAccounting], |sb| {
        let b =
            sb.bundle().set("/linux/resources/memory", json!({ "limit": 67_108_864, "swap": 134_217_728 })).sleeper();
        sb.create(&b).ok();
        assert_eq!(sb.cgroup_read("memory", &b.id, "memory.memsw.limit_in_bytes"), "134217728");
    });
}

#[test]
fn a_negative_memory_limit_means_none() {
    check_files(json!({ "memory": { "limit": -1 } }), &[("memory", "memory.limit_in_bytes", "9223372036854771712")]);
}

#[test]
fn the_oom_killer_can_be_disabled() {
    case_with(&[Need::V1("memory")], |sb| {
        let memory = json!({ "limit": 67_108_864, "disableOOMKiller": true });
        let b = sb.bundle().set("/linux/resources/memory", memory).sleeper();
        sb.create(&b).ok();
        assert!(sb.cgroup_read("memory", &b.id, "memory.oom_control").contains("oom_kill_disable 1"));
    });
}

#[test]
fn hierarchical_accounting_is_accepted() {
    if skip_without(&[Need::V1("memory")]) {
        return;
    }
    check_files(
        json!({ "memory": { "limit": 67_108_864, "useHierarchy": true } }),
        &[("memory", "memory.use_hierarchy", "1")],
    );
}

#[test]
fn cpu_limits() {
    check_files(
        json!({ "cpu": { "shares": 321, "quota": 40_000, "period": 80_000 } }),
        &[("cpu", "cpu.shares", "321"), ("cpu", "cpu.cfs_quota_us", "40000"), ("cpu", "cpu.cfs_period_us", "80000")],
    );
}

#[test]
fn a_cpu_quota_of_minus_one_means_none() {
    check_files(json!({ "cpu": { "quota": -1 } }), &[("cpu", "cpu.cfs_quota_us", "-1")]);
}

#[test]
fn cpu_burst() {
    check_files(
        json!({ "cpu": { "quota": 40_000, "period": 80_000, "burst": 10_000 } }),
        &[("cpu", "cpu.cfs_burst_us", "10000"), ("cpu", "cpu.cfs_quota_us", "40000")],
    );
}

#[test]
fn cpu_idle() {
    check_files(json!({ "cpu": { "idle": 1 } }), &[("cpu", "cpu.idle", "1")]);
}

#[test]
fn cpuset_is_set() {
    check_files(
        json!({ "cpu": { "cpus": "0", "mems": "0" } }),
        &[("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0")],
    );
}

#[test]
fn cpuset_is_the_parents_when_not_said() {
    case_with(&[Need::V1("cpuset")], |sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        let root = integration::host::v1_mount("cpuset").expect("cpuset");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let expected = fs::read_to_string(root.join(file)).expect("read");
            assert_eq!(sb.cgroup_read("cpuset", &b.id, file), expected.trim());
        }
    });
}

#[test]
fn pids_limit() {
    check_files(json!({ "pids": { "limit": 27 } }), &[("pids", "pids.max", "27")]);
}

#[test]
fn a_negative_pids_limit_means_none() {
    check_files(json!({ "pids": { "limit": -1 } }), &[("pids", "pids.max", "max")]);
}

#[test]
fn a_pids_limit_of_zero_is_a_limit() {
    check_files(json!({ "pids": { "limit": 0 } }), &[("pids", "pids.max", "0")]);
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/pids", json!({ "limit": 0 }));
        let out = sb.run(&b.sh("echo alone; true | true; echo more"));
        assert!(out.stdout.starts_with("alone\n") && !out.stdout.contains("more"), "{}", out.stdout);
    });
}

#[test]
fn blkio_throttle_values() {
    case_with(&[Need::BlockDevice], |sb| {
        let (major, minor) = disk_of(&std::env::temp_dir()).expect("a disk");
        let one = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
        let b = sb.bundle().set(
            "/linux/resources/blockIO",
            json!({
                "throttleReadBpsDevice": one(1_000_001), "throttleWriteBpsDevice": one(1_000_002),
                "throttleReadIOPSDevice": one(103), "throttleWriteIOPSDevice": one(104)
            }),
        );
        let b = b.sleeper();
        sb.create(&b).ok();
        for (file, rate) in [("read_bps", 1_000_001), ("write_bps", 1_000_002), ("read_iops", 103), ("write_iops", 104)]
        {
            let text = sb.cgroup_read("blkio", &b.id, &format!("blkio.throttle.{file}_device"));
            assert_eq!(text, format!("{major}:{minor} {rate}"), "{file}");
        }
    });
}

#[test]
fn blkio_weight_value() {
    case_with(&[Need::BlkioWeight], |sb| {
        let b = sb.bundle().set("/linux/resources/blockIO", json!({ "weight": 123 })).sleeper();
        sb.create(&b).ok();
        let group = sb.cgroup("blkio", &b.id);
        let file = if group.join("blkio.weight").exists() { "blkio.weight" } else { "blkio.bfq.weight" };
        assert!(sb.cgroup_read("blkio", &b.id, file).contains("123"));
    });
}

#[test]
fn a_value_that_the_kernel_refuses_is_an_error_and_leaves_nothing() {
    case(|sb| {
        for resources in [json!({ "cpu": { "period": 1 } }), json!({ "cpu": { "cpus": "4000-4001" } })] {
            let (key, value) = resources.as_object().and_then(|o| o.iter().next()).expect("one member");
            let b = sb.bundle().set(&format!("/linux/resources/{key}"), value.clone()).sleeper();
            sb.create(&b).code_is(1).fails();
            assert!(!sb.cgroup("cpu", &b.id).exists(), "the group is left");
        }
    });
}

#[test]
fn an_empty_cgroups_path_gets_a_default() {
    case(|sb| {
        let b = sb.bundle().unset("/linux/cgroupsPath").without_namespace("cgroup").args(&["cat", "/proc/self/cgroup"]);
        let text = sb.run(&b).ok();
        let path = path_in(&text, "pids");
        assert!(path.ends_with(&format!("/{}", b.id)), "{path}");
    });
}

#[test]
fn a_relative_cgroups_path_lies_below_the_callers_or_the_root() {
    case(|sb| {
        let b = sb.bundle().without_namespace("cgroup");
        let path = format!("{}/rel-{}", sb.name, b.id);
        let b = b.set("/linux/cgroupsPath", json!(path)).args(&["cat", "/proc/self/cgroup"]);
        let text = sb.run(&b).ok();
        let seen = path_in(&text, "pids");
        assert!(seen.ends_with(&path), "{seen}");
    });
}

#[test]
fn a_cgroups_path_cannot_climb_out() {
    case(|sb| {
        let b = sb.bundle().without_namespace("cgroup");
        let path = format!("/../../../{}/{}", sb.name, b.id);
        let b = b.set("/linux/cgroupsPath", json!(path)).sleeper();
        let out = sb.create(&b);
        if out.code == 0 {
            assert!(sb.cgroup("pids", &b.id).exists());
        } else {
            out.fails();
        }
        assert!(!std::path::Path::new("/sys/fs").join(&sb.name).exists());
    });
}

#[test]
fn every_hierarchy_has_the_group() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        let c = sb.detached(&b);
        for controller in ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"]
        {
            let group = sb.cgroup(controller, &b.id);
            let procs = fs::read_to_string(group.join("cgroup.procs")).expect("read");
            assert!(procs.lines().any(|l| l == c.pid.to_string()), "{controller}: {procs:?}");
        }
    });
}

#[test]
fn a_cgroup_that_exists_already_is_used() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/pids", json!({ "limit": 33 })).sleeper();
        fs::create_dir_all(sb.cgroup("pids", &b.id)).expect("mkdir");
        sb.create(&b).ok();
        assert_eq!(sb.cgroup_read("pids", &b.id, "pids.max"), "33");
    });
}

#[test]
fn two_containers_may_share_a_parent() {
    case(|sb| {
        let (a, b) = (sb.bundle().sleeper(), sb.bundle().sleeper());
        sb.detached(&a);
        sb.detached(&b);
        sb.delete_force(&a.id).ok();
        assert!(sb.cgroup("pids", &b.id).exists() && !sb.cgroup("pids", &a.id).exists());
        assert_eq!(sb.status(&b.id), "running");
    });
}

#[test]
fn the_pids_limit_stops_forks() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/pids", json!({ "limit": 8 }));
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo unreached";
        let out = sb.run(&b.sh(script));
        assert!(
            out.stderr.contains("can't fork") || out.stderr.contains("Resource temporarily unavailable"),
            "{out:#?}"
        );
    });
}

/// A script that holds about `mib` MiB of memory as a shell variable's worth of pages, then says so.
fn hold(mib: u32) -> String {
    format!("head -c {}m /dev/zero | tail > /dev/null && echo held", mib)
}

#[test]
fn the_memory_limit_kills() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 20_971_520, "swap": 20_971_520 }));
        let b = b.sh(&format!("({}); echo $?", hold(60)));
        let out = sb.run(&b);
        assert!(!out.stdout.contains("held"), "{out:#?}");
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 209_715_200 })).sh(&hold(60));
        assert_eq!(sb.run(&b).ok(), "held");
    });
}

#[test]
fn a_container_that_is_killed_for_memory_exits_137() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 20_971_520, "swap": 20_971_520 }));
        // The string doubles until it does not fit; the program is init itself.
        let out = sb.run(&b.args(&["awk", "BEGIN { a = \"x\"; while (length(a) < 200000000) a = a a }"]));
        out.code_is(137);
    });
}

#[test]
fn the_cpu_quota_slows_down() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/cpu", json!({ "quota": 10_000, "period": 100_000 }));
        let begin = Instant::now();
        let c = sb.detached(&b.args(&["sh", "-c", "while :; do :; done"]));
        std::thread::sleep(Duration::from_millis(1200));
        let used: u64 = sb.cgroup_read("cpuacct", &c.id, "cpuacct.usage").parse().expect("nanoseconds");
        let share = used as f64 / begin.elapsed().as_nanos() as f64;
        assert!(share < 0.3, "a tenth of a processor was allowed, {share:.2} used");
        let stat = sb.cgroup_read("cpu", &c.id, "cpu.stat");
        let throttled = stat.lines().find_map(|l| l.strip_prefix("nr_throttled ")).expect("nr_throttled");
        assert_ne!(throttled, "0", "{stat}");
    });
}

#[test]
fn cpuset_confines() {
    case_with(&[Need::Cpus(2)], |sb| {
        let b = sb.bundle().set("/linux/resources/cpu", json!({ "cpus": "1" }));
        assert_eq!(sb.run(&b.args(&["nproc"])).ok(), "1");
    });
}

#[test]
fn the_block_throttle_slows_writes_down() {
    case_with(&[Need::BlockDevice], |sb| {
        let (major, minor) = disk_of(&std::env::temp_dir()).expect("a disk");
        let dir = sb.host_dir("data");
        let limit = json!({ "throttleWriteBpsDevice": [{ "major": major, "minor": minor, "rate": 1_048_576 }] });
        let b = sb.bundle().bind(&dir, "/data", &[]).set("/linux/resources/blockIO", limit);
        let begin = Instant::now();
        sb.run(&b.sh("dd if=/dev/zero of=/data/f bs=262144 count=8 oflag=direct 2>/dev/null")).ok();
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(1200), "2 MiB at 1 MiB/s took {took:?}");
    });
}

#[test]
fn the_freezer_holds_every_process() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sh("sleep 1000 & sleep 1000; true"));
        sb.call(&["pause", &c.id]).run().ok();
        assert_eq!(sb.cgroup_read("freezer", &c.id, "freezer.state"), "FROZEN");
        sb.call(&["resume", &c.id]).run().ok();
        assert_eq!(sb.cgroup_read("freezer", &c.id, "freezer.state"), "THAWED");
    });
}

#[test]
fn memory_of_the_rootfs_tmpfs_is_charged_to_the_container() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 134_217_728 }));
        let c = sb.detached(&b.sh("head -c 20m /dev/zero > /dev/shm/f; echo done; sleep 1000"));
        eventually("it has written", || c.output.stdout_now().contains("done"));
        let used: u64 = sb.cgroup_read("memory", &c.id, "memory.usage_in_bytes").parse().expect("bytes");
        assert!(used >= 20 << 20, "{used}");
    });
}

/// `true` under a memory limit of so many KiB.
fn tiny(sb: &Sandbox, kib: u64) -> Bundle {
    sb.bundle().set("/linux/resources/memory", json!({ "limit": kib << 10 })).args(&["true"])
}

#[test]
fn a_limit_of_512_kib_starts_true() {
    case(|sb| {
        for _ in 0..5 {
            sb.run(&tiny(sb, 512)).ok();
        }
    });
}

#[test]
fn a_limit_of_8_mib_starts_true() {
    case(|sb| {
        sb.run(&tiny(sb, 8192)).ok();
    });
}

#[test]
fn a_limit_that_is_too_small_is_reported() {
    case(|sb| {
        let b = tiny(sb, 8);
        let out = sb.run(&b);
        out.fails();
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn a_subgroup_of_the_container_is_removed_with_it() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        for controller in ["pids", "memory", "cpu"] {
            fs::create_dir_all(sb.cgroup(controller, &c.id).join("a/b")).expect("mkdir");
        }
        sb.delete_force(&c.id).ok();
        assert!(!sb.cgroup("pids", &c.id).exists() && !sb.cgroup("memory", &c.id).exists());
    });
}

#[test]
fn unified_values_need_a_v2_hierarchy() {
    case_with(&[Need::V1("memory")], |sb| {
        let b = sb.bundle().set("/linux/resources/unified", json!({ "memory.high": "100000000" }));
        let out = sb.create(&b);
        out.code_is(1).fails();
    });
}
