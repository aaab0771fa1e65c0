//! The steps that are performed are those that `plan` prints: the names of the printed plan against the debug log.

use std::fs;
use std::path::Path;

use integration::console::FdSocket;
use integration::runtime::Kind;
use integration::{Bundle, Sandbox, Value, case, json};

/// Child steps that the trace leaves out on purpose: after the seccomp filter nothing but the documented calls is made,
/// and after the last gate nobody listens. `pass_gate` is left out at the gate `ready` only.
const UNTOLD: [&str; 4] = ["load_seccomp", "set_capabilities", "await_start", "execute"];

fn is_told(step: &Value) -> bool {
    let name = step["step"].as_str().expect("a step has a name");
    let last_gate = name == "pass_gate" && step["gate"] == "ready";
    let start_hooks = name == "run_hooks" && step["point"] == "startContainer";
    !UNTOLD.contains(&name) && !last_gate && !start_hooks
}

fn names(steps: &Value, keep: impl Fn(&Value) -> bool) -> Vec<String> {
    let list = steps.as_array().expect("a list of steps");
    list.iter().filter(|step| keep(step)).map(|step| step["step"].as_str().expect("a name").to_owned()).collect()
}

/// The names after `prefix` in the messages of a JSON log.
fn told(log: &Path, prefix: &str) -> Vec<String> {
    let text = fs::read_to_string(log).expect("read the log");
    let messages = text.lines().map(|line| line.parse::<Value>().expect("a line of the log is JSON"));
    messages.filter_map(|m| Some(m["msg"].as_str()?.strip_prefix(prefix)?.to_owned())).collect()
}

/// Plans a bundle, creates it with these options and the debug log, and compares.
#[track_caller]
fn check(sb: &Sandbox, b: &Bundle, options: &[&str], wanted: &[&str]) {
    if sb.runtime.kind != Kind::Skep {
        return;
    }
    b.write();
    let plan = sb.call(&["plan", "--json", "--bundle"]).arg(&b.dir).arg(&b.id).run().json();
    let log = sb.dir.join(format!("{}.log", b.id));
    let call = sb.call(&["--debug", "--log-format", "json", "--log"]).arg(&log).args(["create", "--bundle"]);
    call.arg(&b.dir).args(options).arg(&b.id).run().ok();
    sb.start(&b.id).ok();
    let (host, child) = (names(&plan["host"], |_| true), names(&plan["child"], is_told));
    assert_eq!(told(&log, "host step "), host, "host side");
    assert_eq!(told(&log, "child step "), child, "child side");
    for name in wanted {
        assert!(host.iter().chain(&child).any(|step| step == name), "{name} is not in the plan");
    }
}

#[test]
fn of_the_default_bundle() {
    case(|sb| check(sb, &sb.bundle().sleeper(), &[], &["make_cgroups", "attach_rootfs", "mask_paths", "become_user"]));
}

#[test]
fn of_a_user_namespace() {
    case(|sb| check(sb, &sb.bundle().user_namespace().sleeper(), &[], &["map_ids", "become_namespace_root"]));
}

#[test]
fn of_hooks_at_every_point() {
    case(|sb| {
        let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"];
        let b = kinds.iter().fold(sb.bundle().sleeper(), |b, kind| b.hook(kind, ":"));
        check(sb, &b, &[], &["run_hooks"]);
    });
}

#[test]
fn of_joined_namespaces_with_a_launcher() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().user_namespace().sleeper());
        let path = |file: &str| format!("/proc/{}/ns/{file}", holder.pid);
        let b = sb.bundle().user_namespace().unset("/linux/uidMappings").unset("/linux/gidMappings");
        let b = b.namespace("user", Some(&path("user"))).namespace("pid", Some(&path("pid"))).unset("/hostname");
        let b = b.namespace("network", Some(&path("net"))).namespace("uts", Some(&path("uts")));
        check(sb, &b.sleeper(), &[], &["open_namespace"]);
        let b = sb.bundle().namespace("time", None);
        let b = b.set("/linux/timeOffsets", json!({ "boottime": { "secs": 1000 } })).sleeper();
        check(sb, &b, &[], &["spawn"]);
    });
}

#[test]
fn of_joined_namespaces_without_a_launcher() {
    case(|sb| {
        let holder = sb.detached(&sb.bundle().sleeper());
        let path = |file: &str| format!("/proc/{}/ns/{file}", holder.pid);
        let b = sb.bundle().namespace("network", Some(&path("net"))).namespace("pid", Some(&path("pid")));
        check(sb, &b.sleeper(), &[], &["open_namespace", "join_namespaces"]);
    });
}

#[test]
fn of_a_terminal() {
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "console");
        let b = sb.bundle().set("/process/terminal", json!(true)).sleeper();
        check(sb, &b, &["--console-socket", socket.text()], &["open_console", "make_terminal"]);
        assert_eq!(socket.receive().fds.len(), 1);
    });
}

#[test]
fn of_filter_limits_mounts_and_kernel_parameters() {
    case(|sb| {
        let data = sb.host_dir("data");
        let rule = json!({ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" });
        let b = sb.bundle().bind(&data, "/mnt", &["ro"]).sleeper();
        let b = b.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
        let b = b.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
        let b = b.set("/linux/resources/pids", json!({ "limit": 50 })).set("/process/oomScoreAdj", json!(500));
        check(sb, &b, &[], &["mount_bind", "write_sysctls", "write_limits", "set_oom_score_adj", "open_source"]);
    });
}

#[test]
fn of_sources_inside_mapped_ids_and_device_nodes() {
    case(|sb| {
        let data = sb.host_dir("data");
        let b = sb.bundle().folder("/again").user_namespace().without_namespace("network").bind(&data, "/mnt", &[]);
        let inside = b.rootfs().join("mnt");
        let node = json!({ "path": "/dev/x", "type": "c", "major": 1, "minor": 5 });
        let b = b.bind(&inside, "/again", &["idmap"]).set("/linux/devices", json!([node])).sleeper();
        check(sb, &b, &[], &["idmap_source", "hand_over_source", "make_nodes", "open_device"]);
    });
}
