//! `update` of each limit on a running container, by flags and by JSON, and `events`.

use std::fs;
use std::time::Duration;

use integration::host::{disk_of, eventually, v2_alone};
use integration::requires::Need;
use integration::{Container, Sandbox, Value, case, case_with, json};

fn limited(sb: &Sandbox) -> Container {
    let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 67_108_864 }));
    let b = b.set(
        "/linux/resources/cpu",
        json!({ "shares": 100, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" }),
    );
    sb.detached(&b.set("/linux/resources/pids", json!({ "limit": 20 })).sleeper())
}

/// Updates by these flags and compares files.
fn check_flags(flags: &[&str], files: &[(&str, &str, &str)]) {
    case(|sb| {
        let c = limited(sb);
        sb.call(&["update"]).args(flags).arg(&c.id).run().ok();
        for (controller, file, expected) in files {
            sb.cgroup_is(controller, &c.id, file, expected);
        }
    });
}

/// Updates by JSON on standard input and compares files.
fn check_json(resources: Value, files: &[(&str, &str, &str)]) {
    case(|sb| {
        let c = limited(sb);
        let call = sb.call(&["update", "--resources", "-", &c.id]);
        call.stdin_bytes(resources.to_string().as_bytes()).run().ok();
        for (controller, file, expected) in files {
            sb.cgroup_is(controller, &c.id, file, expected);
        }
    });
}

#[test]
fn memory_by_flag_in_bytes() {
    check_flags(&["--memory", "73400320"], &[("memory", "memory.limit_in_bytes", "73400320")]);
}

#[test]
fn memory_by_flag_with_a_unit() {
    check_flags(&["--memory", "50M"], &[("memory", "memory.limit_in_bytes", "52428800")]);
}

#[test]
fn memory_is_raised_and_swap_with_it() {
    case_with(&[Need::SwapAccounting], |sb| {
        let memory = json!({ "limit": 33_554_432, "swap": 33_554_432 });
        let c = sb.detached(&sb.bundle().set("/linux/resources/memory", memory).sleeper());
        // Whichever of the two is written first must fit the other: up needs swap first, down needs memory first.
        for value in ["67108864", "16777216"] {
            sb.call(&["update", "--memory", value, "--memory-swap", value, &c.id]).run().ok();
            assert_eq!(sb.cgroup_read("memory", &c.id, "memory.limit_in_bytes"), value);
            assert_eq!(sb.cgroup_read("memory", &c.id, "memory.memsw.limit_in_bytes"), value);
        }
    });
}

#[test]
fn memory_without_a_limit() {
    check_flags(&["--memory", "-1"], &[("memory", "memory.limit_in_bytes", "9223372036854771712")]);
}

#[test]
fn memory_reservation() {
    check_flags(
        &["--memory-reservation", "33554432"],
        &[("memory", "memory.soft_limit_in_bytes", "33554432"), ("memory", "memory.limit_in_bytes", "67108864")],
    );
}

#[test]
fn cpu_shares() {
    check_flags(&["--cpu-share", "512"], &[("cpu", "cpu.shares", "512"), ("cpu", "cpu.cfs_quota_us", "50000")]);
}

#[test]
fn cpu_quota_and_period() {
    check_flags(
        &["--cpu-quota", "30000", "--cpu-period", "60000"],
        &[("cpu", "cpu.cfs_quota_us", "30000"), ("cpu", "cpu.cfs_period_us", "60000")],
    );
}

#[test]
fn cpu_quota_alone_keeps_the_period() {
    check_flags(
        &["--cpu-quota", "12345"],
        &[("cpu", "cpu.cfs_quota_us", "12345"), ("cpu", "cpu.cfs_period_us", "100000")],
    );
}

#[test]
fn cpu_without_a_quota() {
    check_flags(&["--cpu-quota", "-1"], &[("cpu", "cpu.cfs_quota_us", "-1")]);
}

#[test]
fn cpu_idle() {
    check_flags(&["--cpu-idle", "1"], &[("cpu", "cpu.idle", "1")]);
}

#[test]
fn cpu_burst() {
    check_flags(&["--cpu-burst", "20000"], &[("cpu", "cpu.cfs_burst_us", "20000")]);
}

#[test]
fn cpuset_by_flag() {
    case_with(&[Need::Cpus(2)], |sb| {
        let c = limited(sb);
        sb.call(&["update", "--cpuset-cpus", "0-1", "--cpuset-mems", "0", &c.id]).run().ok();
        assert_eq!(sb.cgroup_read("cpuset", &c.id, "cpuset.cpus"), "0-1");
        assert_eq!(sb.exec(&c.id, &["nproc"]).ok(), "2");
    });
}

#[test]
fn pids_by_flag() {
    check_flags(&["--pids-limit", "9"], &[("pids", "pids.max", "9")]);
}

#[test]
fn pids_without_a_limit() {
    check_flags(&["--pids-limit", "-1"], &[("pids", "pids.max", "max")]);
}

#[test]
fn several_by_json_on_standard_input() {
    check_json(
        json!({ "memory": { "limit": 83_886_080 }, "cpu": { "shares": 77, "quota": 20_000, "period": 40_000 }, "pids": { "limit": 30 } }),
        &[
            ("memory", "memory.limit_in_bytes", "83886080"),
            ("cpu", "cpu.shares", "77"),
            ("cpu", "cpu.cfs_quota_us", "20000"),
            ("cpu", "cpu.cfs_period_us", "40000"),
            ("pids", "pids.max", "30"),
        ],
    );
}

#[test]
fn what_the_json_leaves_out_stays() {
    check_json(
        json!({ "cpu": { "shares": 77 } }),
        &[
            ("cpu", "cpu.shares", "77"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("pids", "pids.max", "20"),
        ],
    );
}

#[test]
fn by_a_file() {
    case(|sb| {
        let c = limited(sb);
        let file = sb.dir.join("resources.json");
        fs::write(&file, json!({ "pids": { "limit": 15 } }).to_string()).expect("write");
        sb.call(&["update", "-r"]).arg(&file).arg(&c.id).run().ok();
        assert_eq!(sb.cgroup_read("pids", &c.id, "pids.max"), "15");
    });
}

#[test]
fn block_throttle_by_json() {
    case_with(&[Need::BlockDevice], |sb| {
        let (major, minor) = disk_of(&std::env::temp_dir()).expect("a disk");
        let c = limited(sb);
        let limits =
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 2_000_000 }] } });
        let call = sb.call(&["update", "--resources=-", &c.id]).stdin_bytes(limits.to_string().as_bytes());
        call.run().ok();
        let text = sb.cgroup_read("blkio", &c.id, "blkio.throttle.read_bps_device");
        assert_eq!(text, format!("{major}:{minor} 2000000"));
    });
}

#[test]
fn bad_values_are_errors_and_change_nothing() {
    case(|sb| {
        let c = limited(sb);
        for flags in [
            ["--memory", "lots"],
            ["--pids-limit", "x"],
            ["--cpu-quota", "x"],
            ["--cpuset-cpus", "900-901"],
            ["--cpu-period", "1"],
        ] {
            sb.call(&["update"]).args(flags).arg(&c.id).run().fails();
        }
        for (controller, file, expected) in [
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("pids", "pids.max", "20"),
            ("cpu", "cpu.cfs_period_us", "100000"),
            ("cpuset", "cpuset.cpus", "0"),
        ] {
            sb.cgroup_is(controller, &c.id, file, expected);
        }
    });
}

#[test]
fn bad_json_is_an_error() {
    case(|sb| {
        let c = limited(sb);
        sb.call(&["update", "--resources", "-", &c.id]).stdin_bytes(b"{ \"cpu\": ").run().fails();
    });
}

#[test]
fn of_nothing_says_does_not_exist() {
    case(|sb| sb.call(&["update", "--pids-limit", "5", "nobody"]).run().code_is(1).fails_saying("does not exist"));
}

#[test]
fn device_rules_are_untouched() {
    case_with(&[Need::V1("devices")], |sb| {
        let c = limited(sb);
        let before = sb.cgroup_read("devices", &c.id, "devices.list");
        sb.call(&["update", "--pids-limit", "11", &c.id]).run().ok();
        assert_eq!(sb.cgroup_read("devices", &c.id, "devices.list"), before);
    });
}

#[test]
fn of_a_paused_container_leaves_it_paused() {
    case(|sb| {
        let c = limited(sb);
        sb.call(&["pause", &c.id]).run().ok();
        sb.call(&["update", "--pids-limit", "11", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "paused");
        assert_eq!(sb.cgroup_read("pids", &c.id, "pids.max"), "11");
        sb.call(&["resume", &c.id]).run().ok();
    });
}

#[test]
fn of_a_created_container_works() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        sb.call(&["update", "--pids-limit", "14", &b.id]).run().ok();
        assert_eq!(sb.cgroup_read("pids", &b.id, "pids.max"), "14");
    });
}

/// A container that uses 40 MiB of shared memory under a limit of 100 MiB.
fn user_of_memory(sb: &Sandbox) -> Container {
    let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 104_857_600, "swap": 104_857_600 }));
    let c = sb.detached(&b.sh("head -c 40m /dev/zero > /dev/shm/f; echo ready; sleep 1000"));
    eventually("it has written", || c.output.stdout_now().contains("ready"));
    c
}

#[test]
fn a_memory_limit_below_the_usage_does_not_kill() {
    case(|sb| {
        let c = user_of_memory(sb);
        sb.call(&["update", "--memory", "20971520", &c.id]).run().fails();
        assert_eq!(sb.status(&c.id), "running");
        assert_eq!(sb.cgroup_read("memory", &c.id, "memory.limit_in_bytes"), "104857600");
    });
}

#[test]
fn the_check_before_an_update_refuses_with_numbers() {
    case(|sb| {
        let c = user_of_memory(sb);
        let limits = json!({ "memory": { "limit": 20_971_520, "checkBeforeUpdate": true } });
        let call = sb.call(&["update", "--resources", "-", &c.id]).stdin_bytes(limits.to_string().as_bytes());
        call.run().fails_saying("20971520");
        assert_eq!(sb.status(&c.id), "running");
    });
}

#[test]
fn stats_have_the_shape_that_clients_read() {
    case(|sb| {
        let c = limited(sb);
        let event = sb.call(&["events", "--stats", &c.id]).run().json();
        assert_eq!(event["type"], json!("stats"));
        assert_eq!(event["id"], json!(c.id));
        let data = &event["data"];
        let of_layout = match v2_alone() {
            Some(_) => ["/memory/raw/anon", "/memory/raw/kernel_stack"],
            None => ["/memory/kernel/usage", "/memory/raw/rss"],
        };
        for pointer in [
            "/cpu/usage/total",
            "/cpu/usage/kernel",
            "/cpu/usage/user",
            "/memory/usage/limit",
            "/memory/usage/usage",
            "/memory/usage/max",
            "/memory/usage/failcnt",
            "/pids/current",
            "/pids/limit",
        ]
        .into_iter()
        .chain(of_layout)
        {
            assert!(data.pointer(pointer).is_some_and(Value::is_u64), "{pointer} in {data}");
        }
        for pointer in ["/cpu/throttling", "/blkio", "/hugetlb", "/intel_rdt"] {
            assert!(data.pointer(pointer).is_some(), "{pointer} in {data}");
        }
        assert_eq!(data["memory"]["usage"]["limit"], json!(67_108_864));
        assert_eq!(data["pids"], json!({ "current": 1, "limit": 20 }));
    });
}

#[test]
fn stats_of_the_processor_count_up() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().args(&["sh", "-c", "while :; do :; done"]));
        let total = || {
            sb.call(&["events", "--stats", &c.id]).run().json()["data"]["cpu"]["usage"]["total"]
                .as_u64()
                .expect("total")
        };
        let first = total();
        std::thread::sleep(Duration::from_millis(200));
        assert!(total() > first);
    });
}

#[test]
fn stats_of_a_stopped_container_are_refused() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        sb.call(&["events", "--stats", &b.id]).run().fails();
    });
}

#[test]
fn the_interval_makes_a_stream_that_ends_with_the_container() {
    case(|sb| {
        let c = limited(sb);
        let running = sb.call(&["events", "--interval=100ms", &c.id]).spawn();
        eventually("three lines", || running.stdout().lines().count() >= 3);
        sb.delete_force(&c.id).ok();
        let out = running.wait(Duration::from_secs(20));
        for line in out.stdout.lines() {
            let event: Value = line.parse().expect("JSON");
            assert_eq!(event["type"], json!("stats"));
        }
    });
}

#[test]
fn a_bad_interval_is_an_error() {
    case(|sb| {
        let c = limited(sb);
        for interval in ["0", "-1s", "soon"] {
            sb.call(&["events", "--interval", interval, &c.id]).run().fails();
        }
    });
}

#[test]
fn an_oom_kill_is_an_event() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 20_971_520, "swap": 20_971_520 }));
        let b = b.bind(&sb.host_dir("go"), "/go", &[]);
        let script =
            "while [ ! -e /go/now ]; do sleep 0.05; done; head -c 60m /dev/zero | tail > /dev/null; sleep 1000";
        let c = sb.detached(&b.sh(script));
        let mut running = sb.call(&["events", "--interval=1h", &c.id]).spawn();
        std::thread::sleep(Duration::from_millis(400));
        assert!(!running.ended());
        fs::write(sb.host_dir("go").join("now"), "").expect("write");
        eventually("the event", || {
            running
                .stdout()
                .lines()
                .any(|l| l.parse().is_ok_and(|e: Value| e["type"] == "oom" && e["id"] == json!(c.id)))
        });
    });
}
