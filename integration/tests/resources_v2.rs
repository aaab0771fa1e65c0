//! Limits where cgroup v2 is alone: judged by what they do to the container's processes.
//!
//! What v1 has too is in `resources.rs` and `update.rs`; this is what only v2 has, and what works otherwise there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::group::hierarchy;
use integration::host::eventually;
use integration::requires::{Need, PERL};
use integration::{Bundle, Container, Sandbox, Value, case_with, json};

/// Where v2 has the controllers.
const V2: &[Need] = &[Need::V2Alone];

/// A number from a file of `key number` lines.
#[track_caller]
fn count(sb: &Sandbox, id: &str, file: &str, key: &str) -> u64 {
    let text = sb.cgroup_read("cgroup", id, file);
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).expect("the key");
    line.parse().expect("a number")
}

fn unified(b: Bundle, values: Value) -> Bundle {
    b.set("/linux/resources/unified", values)
}

fn update(sb: &Sandbox, id: &str, resources: &Value) -> integration::Output {
    sb.call(&["update", "--resources", "-", id]).stdin_bytes(resources.to_string().as_bytes()).run()
}

/// A string that doubles until it does not fit; the program is init itself.
const GROW: &[&str] = &["awk", "BEGIN { a = \"x\"; while (length(a) < 200000000) a = a a }"];

#[test]
fn memory_beyond_the_limit_kills_and_the_record_says_so() {
    case_with(V2, |sb| {
        let limit = json!({ "limit": 20_971_520, "swap": 20_971_520 });
        let b = sb.bundle().set("/linux/resources/memory", limit).args(GROW);
        let out = sb.run(&b);
        out.code_is(137);
        assert!(out.stderr.contains("want of memory"), "{out:#?}");
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        assert_eq!(sb.state(&b.id)["oomKills"], json!(1));
        assert!(count(sb, &b.id, "memory.events", "oom_kill") == 1);
    });
}

#[test]
fn a_container_that_was_not_killed_for_memory_says_nothing_of_it() {
    case_with(V2, |sb| {
        let b = sb.bundle().args(&["sh", "-c", "kill -9 $$"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        assert!(sb.state(&b.id).get("oomKills").is_none());
    });
}

/// Swap of the machine's own disk, for the time of a test.
struct Swap<'a> {
    sb: &'a Sandbox,
    file: PathBuf,
}

impl Swap<'_> {
    fn on(sb: &Sandbox) -> Swap<'_> {
        let file = sb.dir.join("swap");
        sb.program("/usr/bin/fallocate").args(["--length", "67108864"]).arg(&file).run().ok();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
        sb.program("/sbin/mkswap").arg(&file).run().ok();
        sb.program("/sbin/swapon").arg(&file).run().ok();
        Swap { sb, file }
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        self.sb.program("/sbin/swapoff").arg(&self.file).run();
    }
}

#[test]
fn memory_beyond_the_limit_is_swapped_up_to_the_limit_of_both() {
    case_with(
        &[Need::V2Alone, Need::OwnMachine, Need::Program("/sbin/swapon"), Need::Program("/usr/bin/fallocate")],
        |sb| {
            let swap = Swap::on(sb);
            let limit = json!({ "limit": 20_971_520, "swap": 41_943_040 });
            let script = "dd if=/dev/zero of=/dev/shm/a bs=1M count=30 2>/dev/null && echo fits; \
                      dd if=/dev/zero of=/dev/shm/b bs=1M count=30 2>/dev/null; echo $?; exec sleep 1000";
            let c = sb.detached(&sb.bundle().set("/linux/resources/memory", limit).sh(script));
            eventually("both have ended", || c.output.stdout_now().lines().count() == 2);
            assert_eq!(c.output.stdout_now(), "fits\n137\n");
            let number = |file| sb.cgroup_read("cgroup", &c.id, file).parse::<u64>().expect("a number");
            assert!((8 << 20..=20 << 20).contains(&number("memory.swap.current")), "{}", number("memory.swap.current"));
            let stats = sb.call(&["events", "--stats", &c.id]).run().json();
            assert_eq!(stats["data"]["memory"]["swap"]["limit"], json!(41_943_040), "{stats}");
            sb.delete_force(&c.id).ok();
            drop(swap);
        },
    );
}

#[test]
fn an_oom_group_dies_together() {
    case_with(V2, |sb| {
        let memory = json!({ "limit": 20_971_520, "swap": 20_971_520 });
        let b = unified(sb.bundle().set("/linux/resources/memory", memory), json!({ "memory.oom.group": "1" }));
        // Init uses nothing: without the group it would outlive the other.
        let script = "awk 'BEGIN { a = \"x\"; while (length(a) < 200000000) a = a a }'; sleep 1000";
        let c = sb.detached(&b.sh(script));
        sb.wait_status(&c.id, "stopped");
        assert!(count(sb, &c.id, "memory.events", "oom_group_kill") >= 1);
    });
}

#[test]
fn an_oom_kill_is_an_event() {
    case_with(V2, |sb| {
        let memory = json!({ "limit": 20_971_520, "swap": 20_971_520 });
        let b = sb.bundle().set("/linux/resources/memory", memory).bind(&sb.host_dir("go"), "/go", &[]);
        let script = "while [ ! -e /go/now ]; do sleep 0.05; done; awk 'BEGIN { a = \"x\"; while (length(a) < 200000000) a = a a }'; sleep 1000";
        let c = sb.detached(&b.sh(script));
        let running = sb.call(&["events", "--interval=1h", &c.id]).spawn();
        std::thread::sleep(Duration::from_secs(2));
        fs::write(sb.host_dir("go").join("now"), "").expect("write");
        let is_oom = |line: &str| line.parse().is_ok_and(|e: Value| e["type"] == "oom" && e["id"] == json!(c.id));
        eventually("the event", || running.stdout().lines().any(is_oom));
    });
}

#[test]
fn the_cpu_quota_is_kept_period_by_period() {
    case_with(V2, |sb| {
        let b = sb.bundle().set("/linux/resources/cpu", json!({ "quota": 20_000, "period": 100_000 }));
        let c = sb.detached(&b.args(&["sh", "-c", "while :; do :; done"]));
        let stat = |key| count(sb, &c.id, "cpu.stat", key);
        let (usage, periods) = (stat("usage_usec"), stat("nr_periods"));
        eventually("thirty periods", || stat("nr_periods") >= periods + 30);
        let (used, allowed) = (stat("usage_usec") - usage, (stat("nr_periods") - periods + 1) * 20_000);
        assert!(stat("nr_throttled") > 0);
        assert!(used <= allowed * 12 / 10, "{used} microseconds used of {allowed}");
    });
}

#[test]
fn limits_of_each_kind_are_set() {
    case_with(V2, |sb| {
        let resources = json!({
            "cpu": { "shares": 1024, "quota": 40_000, "period": 80_000, "burst": 10_000, "cpus": "0", "mems": "0" },
            "memory": { "limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432 },
            "pids": { "limit": 27 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
            "unified": {
                "memory.high": "60000000", "memory.min": "4096", "memory.zswap.max": "0", "cpu.weight.nice": "-3",
                "pids.max": "29", "hugetlb.2MB.rsvd.max": "2097152", "cgroup.max.depth": "9"
            }
        });
        let resources = without_absent(sb, resources);
        let b = sb.bundle().set("/linux/resources", resources.clone()).sleeper();
        sb.create(&b).ok();
        for (file, expected) in [
            ("cpu.max", "40000 80000"),
            ("cpu.max.burst", "10000"),
            ("cpuset.cpus", "0"),
            ("cpuset.mems", "0"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "33554432"),
            ("memory.low", "33554432"),
            ("hugetlb.2MB.max", "4194304"),
        ] {
            assert_eq!(sb.cgroup_read("cgroup", &b.id, file), expected, "{file}");
        }
        for (file, value) in resources["unified"].as_object().expect("an object") {
            let value = value.as_str().expect("a text");
            let expected = if file == "memory.high" { "59998208" } else { value };
            assert_eq!(sb.cgroup_read("cgroup", &b.id, file), expected, "{file}");
        }
    });
}

/// Takes out of `unified` what this kernel has no file for.
fn without_absent(sb: &Sandbox, mut resources: Value) -> Value {
    let probe = hierarchy("cgroup").join(&sb.name);
    fs::create_dir_all(&probe).expect("mkdir");
    let values = resources["unified"].as_object_mut().expect("an object");
    if !probe.join("memory.zswap.max").exists() {
        values.remove("memory.zswap.max");
    }
    resources
}

#[test]
fn the_pids_limit_stops_forks_and_exec_says_why() {
    case_with(V2, |sb| {
        let c = sb.detached(
            &sb.bundle()
                .set("/linux/resources/pids", json!({ "limit": 3 }))
                .sh("sleep 1000 & sleep 1000 & sleep 1000 & wait"),
        );
        eventually("forks failed", || count(sb, &c.id, "pids.events", "max") > 0);
        let out = sb.exec(&c.id, &["true"]);
        if sb.cgroup_read("pids", &c.id, "pids.current") == "3" {
            assert!(out.fails().contains("pids.max"), "{out:#?}");
        }
    });
}

#[test]
fn a_cpuset_confines_before_and_after_an_update() {
    case_with(&[Need::V2Alone, Need::Cpus(2)], |sb| {
        let c = sb.detached(&sb.bundle().set("/linux/resources/cpu", json!({ "cpus": "1" })).sleeper());
        assert_eq!(sb.exec(&c.id, &["nproc"]).ok(), "1");
        sb.call(&["update", "--cpuset-cpus", "0-1", &c.id]).run().ok();
        assert_eq!(sb.exec(&c.id, &["nproc"]).ok(), "2");
    });
}

#[test]
fn a_partition_of_cpus_that_cannot_be_had_is_an_error() {
    case_with(V2, |sb| {
        let b = unified(sb.bundle(), json!({ "cpuset.cpus": "0", "cpuset.cpus.partition": "root" })).sleeper();
        sb.create(&b).fails_saying("root invalid");
        assert!(!sb.cgroup("cgroup", &b.id).exists());
    });
}

#[test]
fn a_disk_limit_gives_its_rate() {
    case_with(&[Need::V2Alone, Need::Loop], |sb| {
        let disk = Disk::attach(sb);
        // Told from inside: starting a container takes long where there is no hardware for virtual machines.
        let seconds = |limited: bool| {
            let rate = json!([{ "major": disk.major, "minor": disk.minor, "rate": 524_288 }]);
            let b = disk.bundle();
            let b = if limited { b.set("/linux/resources/blockIO/throttleWriteBpsDevice", rate) } else { b };
            let write = "dd if=/dev/zero of=/dev/d bs=262144 count=8 oflag=direct 2> /dev/null || exit 1";
            let script = format!("read a _ < /proc/uptime; {write}; read b _ < /proc/uptime; echo $a $b");
            let text = sb.run(&b.sh(&script)).ok();
            let times: Vec<f64> = text.split(' ').map(|time| time.parse().expect("seconds")).collect();
            times[1] - times[0]
        };
        let (free, limited) = (seconds(false), seconds(true));
        // 2 MiB at half a MiB a second; the kernel lets a slice of it pass at once.
        assert!((3.0..7.0).contains(&limited) && free * 1.5 < limited, "{limited} s with the limit, {free} s without");
    });
}

/// Both kinds of limits in one test: the machine has one pool of pages.
#[test]
fn huge_pages_beyond_the_limit_cannot_be_mapped_or_not_be_used() {
    case_with(&[Need::V2Alone, Need::OwnMachine, PERL], |sb| {
        let pages = "/proc/sys/vm/nr_hugepages";
        let before = fs::read_to_string(pages).expect("read");
        fs::write(pages, "8").expect("reserve huge pages");
        // mmap(NULL, length, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB, -1, 0), then a byte of each page.
        let script = "$| = 1; for my $n (2, 3) { my $at = syscall(9, 0, $n * 2097152, 3, 0x40022, -1, 0); \
                      if ($at == -1) { print 'no '; next } print 'yes '; \
                      for (0 .. $n - 1) { unpack 'P1', pack 'Q', $at + $_ * 2097152; print \"$_ \" } \
                      syscall(11, $at, $n * 2097152) }";
        let run = |b: Bundle| sb.run(&b.with_perl().args(&["/usr/bin/perl", "-e", script]));
        let limit = json!([{ "pageSize": "2MB", "limit": 4_194_304 }]);
        let both = run(sb.bundle().set("/linux/resources/hugepageLimits", limit));
        let used = run(unified(sb.bundle(), json!({ "hugetlb.2MB.max": "4194304" })));
        let reserved = run(unified(sb.bundle(), json!({ "hugetlb.2MB.rsvd.max": "2097152" })));
        fs::write(pages, before.trim()).expect("give huge pages back");
        // What is reserved can be used, so the limits of a definition hold at the mapping already.
        assert_eq!(both.ok(), "yes 0 1 no");
        // The use alone: the process that goes beyond it gets SIGBUS.
        assert_eq!((used.stdout.as_str(), used.code), ("yes 0 1 yes 0 1 ", 128 + 7), "{used:#?}");
        assert_eq!(reserved.ok(), "no no");
    });
}

/// A disk of a file that somebody may write to, and its numbers. Detached with the value.
struct Disk<'a> {
    sb: &'a Sandbox,
    path: String,
    major: u64,
    minor: u64,
}

impl Disk<'_> {
    fn attach(sb: &Sandbox) -> Disk<'_> {
        let file = sb.dir.join("disk");
        fs::File::create(&file).and_then(|f| f.set_len(32 << 20)).expect("a file");
        let path = sb.program("/sbin/losetup").args(["-f", "--show"]).arg(&file).run().ok();
        let numbers = sb.program("/usr/bin/stat").args(["-c", "%Hr %Lr", &path]).run().ok();
        let (major, minor) = numbers.split_once(' ').expect("two numbers");
        Disk { sb, path, major: major.parse().expect("major"), minor: minor.parse().expect("minor") }
    }

    /// A bundle that has it as /dev/d.
    fn bundle(&self) -> Bundle {
        let (major, minor) = (self.major, self.minor);
        let device = json!({ "path": "/dev/d", "type": "b", "major": major, "minor": minor, "fileMode": 0o666 });
        let rule = json!({ "allow": true, "type": "b", "major": major, "minor": minor, "access": "rwm" });
        self.sb.bundle().push("/linux/devices", device).push("/linux/resources/devices", rule)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        self.sb.program("/sbin/losetup").args(["-d", &self.path]).run();
    }
}

#[test]
fn weights_of_a_disk_are_those_of_its_scheduler() {
    case_with(&[Need::V2Alone, Need::OwnMachine, Need::Loop, Need::Program("/sbin/modprobe")], |sb| {
        sb.program("/sbin/modprobe").arg("bfq").run().ok();
        let disk = Disk::attach(sb);
        let name = disk.path.trim_start_matches("/dev/");
        fs::write(format!("/sys/block/{name}/queue/scheduler"), "bfq").expect("choose bfq");
        let device = format!("{}:{}", disk.major, disk.minor);
        let weights = json!([{ "major": disk.major, "minor": disk.minor, "weight": 800 }]);
        let b = disk.bundle().set("/linux/resources/blockIO", json!({ "weight": 300, "weightDevice": weights }));
        let c = sb.detached(&b.sleeper());
        assert_eq!(sb.cgroup_read("io", &c.id, "io.bfq.weight"), format!("default 300\n{device} 800"));
        update(sb, &c.id, &json!({ "blockIO": { "weight": 200 } })).ok();
        assert!(sb.cgroup_read("io", &c.id, "io.bfq.weight").starts_with("default 200"));
        sb.delete_force(&c.id).ok();
    });
}

/// Debian's kernels are built without either.
#[test]
fn what_the_kernel_has_no_file_for_is_refused_by_its_name() {
    case_with(&[Need::V2Alone, Need::Loop], |sb| {
        let disk = Disk::attach(sb);
        let target = format!("{}:{} target=10000", disk.major, disk.minor);
        for (file, value) in [("io.latency", target.as_str()), ("memory.zswap.max", "8192")] {
            let b = unified(sb.bundle(), json!({ file: value })).sleeper();
            let out = sb.create(&b);
            if Path::new("/sys/fs/cgroup/system.slice").join(file).exists() {
                out.ok();
                assert_eq!(sb.cgroup_read("cgroup", &b.id, file), value);
            } else {
                out.fails_saying(file);
                assert!(!sb.cgroup("cgroup", &b.id).exists());
            }
        }
    });
}

/// Makes /dev/x as character device 10:229 (fuse: any user may open it), then opens it for reading.
const OPEN_FUSE: &str =
    "mknod /dev/x c 10 229 2>/dev/null; dd if=/dev/x of=/dev/null count=0 2>/dev/null && echo fine || echo no-open";

#[test]
fn device_rules_change_with_an_update() {
    case_with(V2, |sb| {
        let b = sb.bundle().capabilities(&["CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]).sleeper();
        let c = sb.detached(&b);
        let dir = fs::File::open(sb.cgroup("cgroup", &c.id)).expect("open");
        let programs = || {
            let fd = std::os::fd::AsFd::as_fd(&dir);
            sys::bpf::query_device_programs(fd).expect("query").ids
        };
        let first = programs();
        assert_eq!((sb.exec_sh(&c.id, OPEN_FUSE).ok().as_str(), first.len()), ("no-open", 1));
        let fuse = json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" });
        let none = json!({ "allow": false, "access": "rwm" });
        update(sb, &c.id, &json!({ "devices": [none, fuse] })).ok();
        let second = programs();
        assert_eq!((sb.exec_sh(&c.id, OPEN_FUSE).ok().as_str(), second.len()), ("fine", 1));
        assert_ne!(first, second);
        // Another limit leaves the rules alone.
        sb.call(&["update", "--pids-limit", "20", &c.id]).run().ok();
        assert_eq!(programs(), second);
        update(sb, &c.id, &json!({ "devices": [none] })).ok();
        assert_eq!((sb.exec_sh(&c.id, OPEN_FUSE).ok().as_str(), programs().len()), ("no-open", 1));
    });
}

/// 40 MiB of page cache, or of shared memory, under a limit of 100 MiB.
fn user_of_memory(sb: &Sandbox, file: &str) -> Container {
    let memory = json!({ "limit": 104_857_600, "swap": 104_857_600 });
    let b = sb.bundle().writable().set("/linux/resources/memory", memory);
    let c = sb.detached(&b.sh(&format!("dd if=/dev/zero of={file} bs=1M count=40; sync; echo ready; sleep 1000")));
    eventually("it has written", || c.output.stdout_now().contains("ready"));
    c
}

#[test]
fn a_smaller_memory_limit_makes_room_first() {
    case_with(V2, |sb| {
        let c = user_of_memory(sb, "/file");
        sb.call(&["update", "--memory", "20971520", &c.id]).run().ok();
        assert_eq!(sb.cgroup_read("memory", &c.id, "memory.max"), "20971520");
        assert_eq!((sb.status(&c.id).as_str(), count(sb, &c.id, "memory.events", "oom_kill")), ("running", 0));
    });
}

#[test]
fn a_memory_limit_below_what_cannot_be_reclaimed_is_refused() {
    case_with(V2, |sb| {
        let c = user_of_memory(sb, "/dev/shm/f");
        sb.call(&["update", "--memory", "20971520", &c.id]).run().fails_saying("20971520");
        for notation in ["20971520", "20M"] {
            update(sb, &c.id, &json!({ "unified": { "memory.max": notation } })).fails_saying("20971520");
        }
        assert_eq!(sb.cgroup_read("memory", &c.id, "memory.max"), "104857600");
        assert_eq!((sb.status(&c.id).as_str(), count(sb, &c.id, "memory.events", "oom_kill")), ("running", 0));
    });
}

#[test]
fn keys_of_unified_that_make_no_sense_are_errors() {
    case_with(V2, |sb| {
        for (values, said) in [
            (json!({ "memory/high": "1" }), "memory/high"),
            (json!({ "nonsense": "1" }), "CONTROLLER.PARAMETER"),
            (json!({ "foo.bar": "1" }), "not available"),
            (json!({ "memory.nonsense": "1" }), "memory.nonsense"),
            (json!({ "misc.max": "nonsense 1" }), "misc.capacity"),
            (json!({ "rdma.max": "none0 hca_handle=2" }), "rdma.max"),
        ] {
            let b = unified(sb.bundle(), values).sleeper();
            sb.create(&b).fails_saying(said);
        }
    });
}

#[test]
fn stalls_are_events() {
    case_with(V2, |sb| {
        let b = sb.bundle().set("/linux/resources/cpu", json!({ "quota": 10_000, "period": 100_000 }));
        let c = sb.detached(&b.sh("while :; do :; done"));
        let running = sb.call(&["events", "--interval=1h", "--pressure", "cpu:some:10ms/1s", &c.id]).spawn();
        eventually("the event", || running.stdout().contains("\"type\":\"pressure\""));
        let event: Value = running.stdout().lines().next().expect("a line").parse().expect("JSON");
        assert_eq!((&event["data"]["resource"], &event["data"]["window"]), (&json!("cpu"), &json!(1_000_000)));
        assert!(event.pointer("/data/psi/some/total").is_some_and(Value::is_u64), "{event}");
    });
}

#[test]
fn stats_have_what_only_v2_counts() {
    case_with(V2, |sb| {
        let b = sb.bundle().set("/linux/resources/memory", json!({ "limit": 67_108_864 })).sleeper();
        let c = sb.detached(&b.set("/linux/resources/pids", json!({ "limit": 20 })));
        let event = sb.call(&["events", "--stats", &c.id]).run().json();
        let data = &event["data"];
        for pointer in [
            "/cpu/usage/total",
            "/cpu/psi",
            "/memory/usage/usage",
            "/memory/raw/anon",
            "/memory/psi",
            "/blkio/psi",
            "/hugetlb/2MB/failcnt",
            "/unified/memory.events/oom_kill",
            "/unified/pids.events/max",
            "/unified/cgroup.events/populated",
        ] {
            assert!(data.pointer(pointer).is_some(), "{pointer} in {data}");
        }
        assert_eq!(data["memory"]["usage"]["limit"], json!(67_108_864));
        assert_eq!(data["pids"], json!({ "current": 1, "limit": 20 }));
    });
}
