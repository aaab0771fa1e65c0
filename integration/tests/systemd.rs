//! The systemd driver: units, properties, devices, and what is left.
//!
//! The cases run where systemd is the first process. On a machine without it the last tests of this file boot it in
//! namespaces, on v1 and on a hybrid layout, and run this very file in there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::booted::{Booted, Layout, SYSTEMD};
use integration::host::eventually;
use integration::requires::{Need, skip_without};
use integration::sandbox::read_pid;
use integration::{Bundle, Call, Container, Output, Sandbox, case, case_with, json};

/// Runs a case where systemd runs the host.
#[track_caller]
fn with_systemd(body: impl FnOnce(&Sandbox)) {
    case_with(&[Need::Systemd], body);
}

/// A slice for one test, two levels deep.
fn slice(sb: &Sandbox) -> String {
    format!("{}-in.slice", sb.name.replace('-', ""))
}

/// A bundle whose unit is `sk-ID.scope` in the test's slice.
fn bundle(sb: &Sandbox) -> Bundle {
    let b = sb.bundle();
    let path = format!("{}:sk:{}", slice(sb), b.id);
    b.set("/linux/cgroupsPath", json!(path)).sleeper()
}

fn unit(id: &str) -> String {
    format!("sk-{id}.scope")
}

fn verb(sb: &Sandbox, verb: &str, b: &Bundle, options: &[&str]) -> Call {
    b.write();
    sb.call(&["--systemd-cgroup", verb, "--bundle"]).arg(&b.dir).args(options).arg(&b.id)
}

fn run(sb: &Sandbox, b: &Bundle) -> Output {
    verb(sb, "run", b, &[]).run()
}

fn detached(sb: &Sandbox, b: &Bundle) -> Container {
    let file = sb.dir.join(format!("{}.pid", b.id));
    let output = verb(sb, "run", b, &["--detach", "--pid-file", file.to_str().expect("UTF-8")]).run();
    output.ok();
    Container { id: b.id.clone(), pid: read_pid(&file), output }
}

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().expect("run systemctl");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit])
}

/// Whether systemd has anything of a unit in memory.
fn is_loaded(unit: &str) -> bool {
    !systemctl(&["list-units", "--all", "--no-legend", "--plain", unit]).is_empty()
}

/// The groups of a process as mount point and path, those in which it is at the top left out.
fn groups(pid: i32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the groups");
    let below = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let mount = match controllers.trim_start_matches("name=") {
            "" if fs::exists("/sys/fs/cgroup/cgroup.controllers").expect("look") => "/sys/fs/cgroup".to_owned(),
            "" => "/sys/fs/cgroup/unified".to_owned(),
            names => format!("/sys/fs/cgroup/{names}"),
        };
        (path != "/").then(|| PathBuf::from(format!("{mount}{path}")))
    };
    text.lines().filter_map(below).collect()
}

/// The content of whichever of these files the groups of a process have.
fn limit(pid: i32, files: &[&str]) -> String {
    let found = groups(pid).into_iter().flat_map(|group| files.iter().map(move |file| group.join(file)));
    let file = found.into_iter().find(|file: &PathBuf| file.exists()).unwrap_or_else(|| panic!("none of {files:?}"));
    fs::read_to_string(file).expect("read a limit").trim().to_owned()
}

const MEMORY: &[&str] = &["memory.max", "memory.limit_in_bytes"];
const QUOTA: &[&str] = &["cpu.max", "cpu.cfs_quota_us"];
const PERIOD: &[&str] = &["cpu.max", "cpu.cfs_period_us"];
const PIDS: &[&str] = &["pids.max"];

fn limited(sb: &Sandbox) -> Bundle {
    bundle(sb)
        .set("/linux/resources/memory", json!({ "limit": 67_108_864 }))
        .set("/linux/resources/cpu", json!({ "shares": 512, "quota": 12_345, "period": 100_000 }))
        .set("/linux/resources/pids", json!({ "limit": 20 }))
}

/// The properties of memory and CPU shares have names of their own on each kind of host.
fn of_both(unit: &str, unified: &str, legacy: &str) -> String {
    let v2 = fs::exists("/sys/fs/cgroup/cgroup.controllers").expect("look");
    property(unit, if v2 { unified } else { legacy })
}

#[test]
fn the_container_is_a_scope_in_its_slice() {
    with_systemd(|sb| {
        let c = detached(sb, &bundle(sb));
        let unit = unit(&c.id);
        assert_eq!(property(&unit, "Slice"), slice(sb));
        assert_eq!(property(&unit, "ActiveState"), "active");
        assert_eq!(property(&unit, "Delegate"), "yes");
        let outer = slice(sb).replace("-in", "");
        let path = format!("/{outer}/{}/{unit}", slice(sb));
        assert_eq!(property(&unit, "ControlGroup"), path);
        let groups = groups(c.pid);
        assert!(!groups.is_empty());
        for group in groups {
            assert!(group.to_str().expect("UTF-8").ends_with(&path), "{}", group.display());
        }
    });
}

#[test]
fn without_a_path_the_unit_has_the_id() {
    with_systemd(|sb| {
        let c = detached(sb, &bundle(sb).set("/linux/cgroupsPath", json!("")));
        let group = groups(c.pid).remove(0);
        let name = group.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
        assert!(name.ends_with(&format!("-{}.scope", c.id)), "{name}");
        assert_eq!(property(&name, "Slice"), "system.slice");
    });
}

/// A name that ends in `.slice` is the unit's own: a slice, which systemd starts no process in.
#[test]
fn a_container_may_be_a_slice_itself() {
    with_systemd(|sb| {
        let (outer, unit) = (slice(sb), slice(sb).replace(".slice", "-own.slice"));
        let b = limited(sb).set("/linux/cgroupsPath", json!(format!("{outer}:ignored:{unit}")));
        let c = detached(sb, &b);
        let path = format!("/{}/{outer}/{unit}", outer.replace("-in", ""));
        assert_eq!(
            (property(&unit, "ControlGroup"), property(&unit, "ActiveState")),
            (path.clone(), "active".to_owned())
        );
        let before = groups(c.pid);
        for group in &before {
            assert!(group.to_str().expect("UTF-8").ends_with(&path), "{}", group.display());
        }
        assert_eq!((property(&unit, "TasksMax"), limit(c.pid, PIDS)), ("20".to_owned(), "20".to_owned()));
        sb.call(&["update", "--pids-limit", "30", &c.id]).run().ok();
        systemctl(&["daemon-reload"]);
        assert_eq!((property(&unit, "TasksMax"), limit(c.pid, PIDS)), ("30".to_owned(), "30".to_owned()));
        let file = sb.dir.join("exec.pid");
        let options = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
        sb.exec_with(&c.id, &options, &["sleep", "1000"]).ok();
        assert_eq!(groups(read_pid(&file)), before);
        sb.delete_force(&c.id).ok();
        assert!(!is_loaded(&unit));
        assert!(before.iter().all(|group| !group.exists()), "{before:?}");
    });
}

#[test]
fn limits_are_told_and_written() {
    with_systemd(|sb| {
        let c = detached(sb, &limited(sb));
        let unit = unit(&c.id);
        assert_eq!(of_both(&unit, "MemoryMax", "MemoryLimit"), "67108864");
        assert_eq!(limit(c.pid, MEMORY), "67108864");
        assert_eq!(property(&unit, "TasksMax"), "20");
        assert_eq!(limit(c.pid, PIDS), "20");
        // systemd keeps whole percents: both have the next one.
        assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "130ms");
        assert!(limit(c.pid, QUOTA).starts_with("13000"), "{}", limit(c.pid, QUOTA));
    });
}

#[test]
fn an_update_is_told_and_written() {
    with_systemd(|sb| {
        let c = detached(sb, &limited(sb));
        sb.call(&["update", "--memory", "83886080", "--pids-limit", "30", "--cpu-quota", "50000", &c.id]).run().ok();
        let unit = unit(&c.id);
        for _ in ["at once", "after a reload"] {
            assert_eq!(of_both(&unit, "MemoryMax", "MemoryLimit"), "83886080");
            assert_eq!(limit(c.pid, MEMORY), "83886080");
            assert_eq!((property(&unit, "TasksMax"), limit(c.pid, PIDS)), ("30".to_owned(), "30".to_owned()));
            assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "500ms");
            assert!(limit(c.pid, QUOTA).starts_with("50000"), "{}", limit(c.pid, QUOTA));
            systemctl(&["daemon-reload"]);
        }
    });
}

/// systemd writes the default period for a group without a quota, with whatever property it is told.
#[test]
fn an_update_without_a_quota_keeps_the_period() {
    with_systemd(|sb| {
        let c = detached(sb, &bundle(sb).set("/linux/resources/cpu", json!({ "quota": 450_000, "period": 1_000_000 })));
        let bandwidth = || (limit(c.pid, QUOTA), limit(c.pid, PERIOD));
        let check = |options: &[&str], (quota, period): (&str, &str)| {
            sb.call(&[&["update"], options, &[&c.id]].concat()).run().ok();
            let (first, second) = bandwidth();
            let expected = if second == first { format!("{quota} {period}") } else { quota.replace("max", "-1") };
            assert_eq!(first, expected, "{options:?}");
            assert!(second.ends_with(period), "{options:?}: {second}");
        };
        check(&["--cpu-period", "900000"], ("450000", "900000"));
        check(&["--cpu-quota", "-1"], ("max", "900000"));
        check(&["--pids-limit", "30"], ("max", "900000"));
        check(&["--cpu-quota", "450000"], ("450000", "900000"));
    });
}

/// Opens a device that the default rules do not have, and says whether it may.
const OPEN_KMSG: &str = "if (: > /dev/kmsg) 2>/dev/null; then echo open; else echo denied; fi; echo x > /dev/null";

fn with_kmsg(sb: &Sandbox, allow: bool) -> Bundle {
    let node = json!({ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 438 });
    let rule = json!({ "allow": allow, "type": "c", "major": 1, "minor": 11, "access": "rwm" });
    let b = bundle(sb).set("/linux/devices", json!([node]));
    b.set("/linux/resources/devices", json!([{ "allow": false, "access": "rwm" }, rule]))
}

/// The first process opens the device itself: an exec may be in other groups.
fn device_rules_hold(allow: bool, expected: &str) {
    with_systemd(|sb| {
        let script = format!("{OPEN_KMSG}; while read line; do {OPEN_KMSG}; done < /fifo");
        let b = with_kmsg(sb, allow).writable();
        let fifo = b.rootfs().join("fifo");
        let path = fifo.to_str().expect("UTF-8");
        assert!(Command::new("mkfifo").arg(path).status().expect("run mkfifo").success());
        let c = detached(sb, &b.sh(&script));
        let says = |times: usize| {
            let all = format!("{expected}\n").repeat(times);
            eventually(&format!("{times} times {expected}"), || c.output.stdout_now() == all);
        };
        says(1);
        let mut hold = fs::OpenOptions::new().write(true).open(&fifo).expect("open the FIFO");
        let mut ask = || std::io::Write::write_all(&mut hold, b"\n").expect("ask");
        systemctl(&["daemon-reload"]);
        ask();
        says(2);
        assert_eq!(sb.exec_sh(&c.id, OPEN_KMSG).ok().trim(), expected);
        // Another limit makes systemd write the unit's group again.
        sb.call(&["update", "--pids-limit", "50", &c.id]).run().ok();
        ask();
        says(3);
    });
}

#[test]
fn a_denied_device_stays_denied_after_a_reload() {
    device_rules_hold(false, "denied");
}

#[test]
fn an_allowed_device_stays_allowed_after_a_reload() {
    device_rules_hold(true, "open");
}

#[test]
fn delete_leaves_no_unit() {
    with_systemd(|sb| {
        let c = detached(sb, &limited(sb));
        let groups = groups(c.pid);
        sb.delete_force(&c.id).ok();
        assert!(!is_loaded(&unit(&c.id)));
        for group in groups {
            assert!(!group.exists(), "{} stays", group.display());
        }
    });
}

#[test]
fn a_container_that_ends_leaves_no_unit() {
    with_systemd(|sb| {
        let b = bundle(sb).sh("exit 3");
        run(sb, &b).code_is(3);
        assert!(!is_loaded(&unit(&b.id)));
    });
}

#[test]
fn a_scope_that_went_by_itself_is_no_error() {
    with_systemd(|sb| {
        let c = detached(sb, &bundle(sb));
        sb.kill(&c.id, "KILL").ok();
        eventually("systemd has let go of the scope", || !is_loaded(&unit(&c.id)));
        sb.delete(&c.id).ok();
    });
}

#[test]
fn a_killed_container_is_not_left_as_failed() {
    with_systemd(|sb| {
        let c = detached(sb, &bundle(sb));
        sb.call(&["kill", "--all", &c.id, "KILL"]).run().ok();
        sb.wait_status(&c.id, "stopped");
        sb.delete(&c.id).ok();
        assert!(!is_loaded(&unit(&c.id)));
    });
}

#[test]
fn a_failed_creation_leaves_no_unit() {
    with_systemd(|sb| {
        let b = bundle(sb).hook("createRuntime", "exit 7");
        run(sb, &b).fails();
        assert!(!is_loaded(&unit(&b.id)));
    });
}

/// Runs a scope of somebody else with this name.
fn foreign(name: &str, options: &[&str]) -> std::process::Child {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--scope", "--unit", name, "--property=DefaultDependencies=no"]);
    let child = command.args(options).args(["sleep", "1000"]).spawn().expect("run systemd-run");
    eventually("the scope is there", || property(name, "ActiveState") != "inactive");
    child
}

#[test]
fn a_unit_of_somebody_else_is_left_alone() {
    with_systemd(|sb| {
        let b = bundle(sb);
        let mut other = foreign(&unit(&b.id), &[]);
        run(sb, &b).fails();
        assert_eq!(property(&unit(&b.id), "ActiveState"), "active");
        // Ended before it is stopped: on v1 in a namespace, systemd does not learn that a scope is empty.
        other.kill().and_then(|()| other.wait()).expect("end the scope");
        systemctl(&["stop", &unit(&b.id)]);
        systemctl(&["reset-failed", &unit(&b.id)]);
    });
}

/// systemd would move the container's process into it, and its creation never end.
#[test]
fn a_frozen_group_of_the_units_name_is_refused() {
    with_systemd(|sb| {
        let b = bundle(sb);
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (root, file, state) = match unified {
            true => ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
            false => ("/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"]),
        };
        // A sibling's scope tells where the slice is; on v1 the freezer has no group of systemd's.
        let sibling = detached(sb, &bundle(sb));
        let place = groups(sibling.pid).into_iter().find(|dir| dir.starts_with(root)).expect("a group of the sibling");
        let dir = place.parent().expect("a group has a parent").join(unit(&b.id));
        fs::create_dir(&dir).expect("make a group");
        fs::write(dir.join(file), state[0]).expect("freeze it");
        run(sb, &b).fails_saying("container's cgroup unexpectedly frozen");
        assert!(!is_loaded(&unit(&b.id)));
        fs::write(dir.join(file), state[1]).expect("thaw it");
        fs::remove_dir(&dir).expect("it is left alone");
    });
}

#[test]
fn a_failed_unit_of_the_name_is_replaced() {
    with_systemd(|sb| {
        let b = bundle(sb).sh("exit 0");
        let mut other = foreign(&unit(&b.id), &["--property=RuntimeMaxSec=1", "--property=TimeoutStopSec=1"]);
        other.wait().expect("wait for the scope");
        eventually("the scope has failed", || property(&unit(&b.id), "ActiveState") == "failed");
        run(sb, &b).ok();
        assert!(!is_loaded(&unit(&b.id)));
    });
}

#[test]
fn annotations_are_properties() {
    with_systemd(|sb| {
        let b = bundle(sb)
            .set("/annotations/org.systemd.property.TimeoutStopSec", json!("uint64 7"))
            .set("/annotations/org.systemd.property.CollectMode", json!("'inactive-or-failed'"))
            .set("/annotations/org.systemd.property.Description", json!("'a test'"));
        let c = detached(sb, &b);
        let unit = unit(&c.id);
        assert_eq!(property(&unit, "TimeoutStopUSec"), "7s");
        assert_eq!(property(&unit, "CollectMode"), "inactive-or-failed");
        assert_eq!(property(&unit, "Description"), "a test");
    });
}

#[test]
fn an_annotation_moves_no_process_of_the_host() {
    with_systemd(|sb| {
        let key = "/annotations/org.systemd.property.PIDs";
        let mut other = Command::new("sleep").arg("1000").spawn().expect("run sleep");
        let pid = other.id().cast_signed();
        run(sb, &bundle(sb).set(key, json!(format!("[uint32 {pid}]")))).fails();
        let after = groups(pid);
        other.kill().and_then(|()| other.wait()).expect("end sleep");
        // On v1 systemd itself may move it up or down a slice when a unit beside it begins or ends.
        assert!(
            !after.is_empty() && after.iter().all(|group| group.extension().is_none_or(|kind| kind != "scope")),
            "{after:?}"
        );
    });
}

#[test]
fn a_path_that_names_no_unit_is_refused() {
    with_systemd(|sb| {
        let b = bundle(sb).set("/linux/cgroupsPath", json!("/foo/bar"));
        run(sb, &b).fails_saying("expected cgroupsPath to be of format");
    });
}

#[test]
fn an_exec_is_in_the_groups_of_the_scope() {
    with_systemd(|sb| {
        let c = detached(sb, &bundle(sb));
        let file = sb.dir.join("exec.pid");
        let options = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
        sb.exec_with(&c.id, &options, &["sleep", "1000"]).ok();
        assert_eq!(groups(read_pid(&file)), groups(c.pid));
        let listed = sb.call(&["ps", "--format", "json", &c.id]).run().json();
        assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    });
}

#[test]
fn pause_and_events_work_on_the_scope() {
    with_systemd(|sb| {
        let c = detached(sb, &limited(sb));
        sb.call(&["pause", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "paused");
        sb.call(&["resume", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "running");
        let stats = sb.call(&["events", "--stats", &c.id]).run().json();
        assert_eq!(stats["data"]["pids"]["limit"], json!(20), "{stats}");
        assert_eq!(stats["data"]["memory"]["usage"]["limit"], json!(67_108_864), "{stats}");
    });
}

#[test]
fn the_view_inside_is_that_of_the_scope() {
    with_systemd(|sb| {
        let mount = |b: Bundle, options: &[&str]| b.mount("cgroup", "/sys/fs/cgroup", "cgroup", options);
        let count = "find /sys/fs/cgroup -name cgroup.procs | xargs cat | grep -cx 1";
        let own = mount(bundle(sb).namespace("cgroup", None).sh(count), &["ro", "nosuid", "noexec", "nodev"]);
        let copied = mount(bundle(sb).without_namespace("cgroup").sh(count), &["ro", "nosuid", "noexec", "nodev"]);
        for b in [own, copied] {
            let found: usize = run(sb, &b).ok().trim().parse().expect("a number");
            assert!(found >= 1, "the first process is in no group that is shown");
        }
    });
}

/// Boots systemd beside this machine's, where there is none, and runs the cases above in there.
fn in_a_namespace(layout: Layout) {
    case(|_| {
        let needs = [
            Need::V1("name=systemd"),
            Need::V1("devices"),
            Need::Program(SYSTEMD),
            Need::Program("/usr/bin/dbus-daemon"),
        ];
        // Where it is the first process, the cases have run already.
        if Need::Systemd.is_met() || skip_without(&needs) {
            return;
        }
        let booted = Booted::boot(layout);
        let own = std::env::current_exe().expect("the own path");
        let own = own.to_str().expect("UTF-8");
        let args = ["--test-threads=1", "--skip", "boots_and_runs"];
        let (fine, text) = booted.run(own, &args, &["PATH", "RUNTIME", "TMPDIR"]);
        assert!(fine, "{text}");
        assert!(!text.contains("SKIPPED"), "{text}");
        assert_eq!(booted.failed_units(), "");
    });
}

#[test]
fn boots_and_runs_on_v1() {
    in_a_namespace(Layout::Legacy);
}

#[test]
fn boots_and_runs_on_a_hybrid_layout() {
    in_a_namespace(Layout::Hybrid);
}
