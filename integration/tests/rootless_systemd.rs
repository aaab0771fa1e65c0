//! An ordinary user whose own service manager makes the groups, or hands one over: scopes, limits, and what is left.
//!
//! The cases need a machine with a user for tests, and cgroup v2 alone: v1 groups are never given to users.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use integration::host::eventually;
use integration::requires::{Need, skip_without};
use integration::rootless::User;
use integration::sandbox::read_pid;
use integration::{Bundle, Call, Container, Output, Sandbox, case, json};

/// Runs a case as the user of the machine.
#[track_caller]
fn with_manager(body: impl FnOnce(&Sandbox, &User)) {
    case(|sb| {
        if !skip_without(&[Need::V2Alone, Need::Systemd, Need::TestUser, Need::Program("/usr/bin/newuidmap")]) {
            body(sb, &User::of_machine(sb));
        }
    });
}

/// Prepares a program of the machine that the user calls.
fn program(sb: &Sandbox, user: &User, path: &str) -> Call {
    user.call(path, &sb.host_dir("out"))
}

fn slice(sb: &Sandbox) -> String {
    format!("{}-in.slice", sb.name.replace('-', ""))
}

/// A bundle whose unit is `sk-ID.scope` in the test's slice of the user's manager.
fn bundle(sb: &Sandbox, user: &User) -> Bundle {
    let b = user.bundle(sb);
    let path = format!("{}:sk:{}", slice(sb), b.id);
    b.set("/linux/cgroupsPath", json!(path)).sleeper()
}

fn limited(sb: &Sandbox, user: &User) -> Bundle {
    bundle(sb, user)
        .set("/linux/resources/memory", json!({ "limit": 67_108_864 }))
        .set("/linux/resources/pids", json!({ "limit": 20 }))
}

fn unit(id: &str) -> String {
    format!("sk-{id}.scope")
}

fn verb(sb: &Sandbox, verb: &str, b: &Bundle, options: &[&str]) -> Call {
    b.write();
    sb.call(&["--systemd-cgroup", verb, "--bundle"]).arg(&b.dir).args(options).arg(&b.id)
}

fn detached(sb: &Sandbox, b: &Bundle) -> Container {
    let file = sb.dir.join(format!("{}.pid", b.id));
    let output = verb(sb, "run", b, &["--detach", "--pid-file", file.to_str().expect("UTF-8")]).run();
    output.ok();
    Container { id: b.id.clone(), pid: read_pid(&file), output }
}

fn systemctl(sb: &Sandbox, user: &User, args: &[&str]) -> String {
    program(sb, user, "/usr/bin/systemctl").arg("--user").args(args).run().stdout.trim().to_owned()
}

fn property(sb: &Sandbox, user: &User, unit: &str, name: &str) -> String {
    systemctl(sb, user, &["show", "--value", "--property", name, unit])
}

/// What the user's manager still lists of a unit.
fn listed(sb: &Sandbox, user: &User, unit: &str) -> String {
    systemctl(sb, user, &["list-units", "--all", "--no-legend", "--plain", unit])
}

/// The group of a process below the mount point.
fn group(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the groups");
    let path = text.trim().strip_prefix("0::/").unwrap_or_else(|| panic!("{text}")).to_owned();
    Path::new("/sys/fs/cgroup").join(path)
}

fn read(group: &Path, file: &str) -> String {
    let path = group.join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display())).trim().to_owned()
}

#[test]
fn the_container_is_a_scope_of_the_users_manager() {
    with_manager(|sb, user| {
        let c = detached(sb, &limited(sb, user));
        let unit = unit(&c.id);
        let outer = slice(sb).replace("-in", "");
        let manager = format!("/user.slice/user-{0}.slice/user@{0}.service", user.uid);
        let place = group(c.pid);
        assert_eq!(
            place.to_str().expect("UTF-8"),
            format!("/sys/fs/cgroup{manager}/{outer}/{}/{unit}", slice(sb)),
            "the group"
        );
        assert_eq!((read(&place, "memory.max").as_str(), read(&place, "pids.max").as_str()), ("67108864", "20"));
        let told = |name: &str| property(sb, user, &unit, name);
        assert_eq!((told("MemoryMax").as_str(), told("TasksMax").as_str()), ("67108864", "20"));
        assert_eq!((told("Delegate").as_str(), told("ActiveState").as_str()), ("yes", "active"));
        // The machine's manager knows nothing of it.
        let machine = sb.program("/usr/bin/systemctl").args(["list-units", "--all", "--no-legend", &unit]).run().ok();
        assert_eq!(machine, "");
        sb.delete_force(&c.id).ok();
        assert!(!place.exists(), "the group stays");
        assert_eq!(listed(sb, user, &unit), "");
    });
}

#[test]
fn without_a_path_the_scope_is_in_the_users_slice() {
    with_manager(|sb, user| {
        let c = detached(sb, &user.bundle(sb).sleeper());
        let place = group(c.pid);
        let name = place.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        assert!(name.ends_with(&format!("-{}.scope", c.id)), "{name}");
        assert_eq!(property(sb, user, &name, "Slice"), "user.slice");
        sb.delete_force(&c.id).ok();
        assert_eq!(listed(sb, user, &name), "");
    });
}

#[test]
fn limits_change_and_stay_after_a_reload() {
    with_manager(|sb, user| {
        let c = detached(sb, &limited(sb, user));
        sb.call(&["update", "--memory", "83886080", "--pids-limit", "30", &c.id]).run().ok();
        for _ in ["at once", "after a reload"] {
            let place = group(c.pid);
            assert_eq!((read(&place, "memory.max").as_str(), read(&place, "pids.max").as_str()), ("83886080", "30"));
            assert_eq!(property(sb, user, &unit(&c.id), "MemoryMax"), "83886080");
            systemctl(sb, user, &["daemon-reload"]);
        }
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn an_exec_pause_and_figures_are_those_of_the_scope() {
    with_manager(|sb, user| {
        let c = detached(sb, &limited(sb, user));
        let file = sb.dir.join("exec.pid");
        let options = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
        sb.exec_with(&c.id, &options, &["sleep", "1000"]).ok();
        assert_eq!(group(read_pid(&file)), group(c.pid));
        let listed = sb.call(&["ps", "--format", "json", &c.id]).run().json();
        assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
        sb.call(&["pause", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "paused");
        sb.call(&["resume", &c.id]).run().ok();
        let stats = sb.call(&["events", "--stats", &c.id]).run().json();
        assert_eq!(stats["data"]["pids"]["limit"], json!(20), "{stats}");
        sb.delete_force(&c.id).ok();
    });
}

#[test]
fn nothing_is_left_of_what_ends_or_never_began() {
    with_manager(|sb, user| {
        let ends = bundle(sb, user).sh("exit 3");
        verb(sb, "run", &ends, &[]).run().code_is(3);
        let fails = bundle(sb, user).hook("createRuntime", "exit 7");
        verb(sb, "run", &fails, &[]).run().fails();
        let killed = detached(sb, &bundle(sb, user));
        sb.kill(&killed.id, "KILL").ok();
        sb.wait_status(&killed.id, "stopped");
        sb.delete(&killed.id).ok();
        for id in [&ends.id, &fails.id, &killed.id] {
            assert_eq!(listed(sb, user, &unit(id)), "", "{id}");
        }
    });
}

/// What `docs/rootless.md` advises: the runtime makes a group beside its own, in what the manager has handed over.
#[test]
fn a_scope_that_is_handed_over_has_limits() {
    with_manager(|sb, user| {
        let limits = json!({ "pids": { "limit": 20 }, "memory": { "limit": 50_000_000 } });
        let b = user.bundle(sb).set("/linux/resources", limits).sleeper();
        b.write();
        let file = sb.dir.join("pid");
        let scope = format!("{}-given.scope", sb.name.replace('-', ""));
        let mut running = program(sb, user, "/usr/bin/systemd-run")
            .args(["--user", "--scope", "--quiet", "--unit", &scope, "-p", "Delegate=yes"])
            .arg(&user.program)
            .arg("--root")
            .arg(&sb.root)
            .args(["run", "--pid-file"])
            .arg(&file)
            .arg("--bundle")
            .arg(&b.dir)
            .arg(&b.id)
            .spawn();
        eventually("it runs", || running.ended() || fs::read_to_string(&file).is_ok_and(|text| !text.is_empty()));
        assert!(!running.ended(), "{}", running.stderr());
        sb.wait_status(&b.id, "running");
        let place = group(read_pid(&file));
        let text = place.to_str().expect("UTF-8");
        assert!(text.contains(&format!("/user@{}.service/", user.uid)) && text.ends_with(&b.id), "{text}");
        assert_eq!((read(&place, "pids.max").as_str(), read(&place, "memory.max").as_str()), ("20", "49999872"));
        sb.kill(&b.id, "KILL").ok();
        running.wait(integration::runtime::DEADLINE).code_is(137);
        assert!(!place.exists(), "the group stays");
        eventually("the scope is gone", || listed(sb, user, &scope).is_empty());
    });
}

/// Prepares podman with a storage of the user's own below the sandbox.
fn podman(sb: &Sandbox, user: &User, manager: &str, args: &[&str]) -> Output {
    let path = |name: &str| sb.dir.join("home").join(name);
    let call = program(sb, user, "/usr/bin/podman").arg("--root").arg(path("graph")).arg("--runroot").arg(path("run"));
    let call = call.arg("--tmpdir").arg(path("tmp")).arg("--runtime").arg(&user.program);
    call.args(["--cgroup-manager", manager, "--events-backend", "file", "--storage-driver", "vfs"]).args(args).run()
}

/// A user's calls of podman share the memory of their locks; two that make it at a time fail.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn podman_of_the_user(manager: &'static str) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    with_manager(|sb, user| {
        if skip_without(&[Need::Program("/usr/bin/podman")]) {
            return;
        }
        let b = user.bundle(sb);
        let (rootfs, name) = (b.rootfs(), format!("{}-{manager}", sb.name));
        let start = |options: &[&str], script: &str| {
            let image = ["--rootfs", rootfs.to_str().expect("UTF-8"), "sh", "-c", script];
            podman(sb, user, manager, &[&["run", "--network=none"], options, &image].concat())
        };
        let mut limits = vec!["--rm", "--cgroupns=private"];
        let mut expected = "max\nmax";
        // Without a manager the container stays in the caller's group, which is not the user's.
        if manager == "systemd" {
            limits.extend(["--memory=64m", "--pids-limit=20"]);
            expected = "67108864\n20";
        }
        let script = "id -u; cat /proc/self/uid_map | wc -l; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";
        let said = start(&limits, script).ok();
        assert!(said.starts_with("0\n2\n"), "{said}");
        assert!(manager != "systemd" || said.ends_with(expected), "{said}");
        start(&["-d", &format!("--name={name}")], "trap 'exit 9' TERM; while :; do sleep 0.2; done").ok();
        let inside = podman(sb, user, manager, &["exec", &name, "sh", "-c", "echo inside; exit 3"]);
        assert_eq!(inside.code_is(3).stdout.trim(), "inside");
        podman(sb, user, manager, &["stop", "--time=20", &name]).ok();
        let code = podman(sb, user, manager, &["inspect", "--format", "{{.State.ExitCode}}", &name]).ok();
        assert_eq!(code, "9");
        podman(sb, user, manager, &["rm", "--force", "--time=0", &name]).ok();
        eventually("no unit is left", || listed(sb, user, "libpod-*").is_empty());
        // Its files are of subordinate ids.
        program(sb, user, "/usr/bin/podman").args(["unshare", "rm", "-rf"]).arg(sb.dir.join("home/graph")).run().ok();
    });
}

#[test]
fn podman_of_the_user_by_systemd() {
    podman_of_the_user("systemd");
}

#[test]
fn podman_of_the_user_by_cgroupfs() {
    podman_of_the_user("cgroupfs");
}
