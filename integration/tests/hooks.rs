//! Hooks: order, state on standard input, time limit, environment, failures, and what a hook may do.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use integration::host::alive;
use integration::{Bundle, Sandbox, Value, case, json};

/// The kinds whose hooks the host runs with the host's files.
const OF_THE_HOST: &[&str] = &["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

fn log(sb: &Sandbox) -> PathBuf {
    sb.host_dir("hooks").join("log")
}

fn read(sb: &Sandbox) -> String {
    fs::read_to_string(log(sb)).unwrap_or_default()
}

/// A bundle in which each hook appends its name to the log. startContainer sees the log by a bind mount.
fn logging(sb: &Sandbox) -> Bundle {
    let file = log(sb);
    let dir = file.parent().expect("a folder").to_owned();
    let b = OF_THE_HOST.iter().fold(sb.bundle(), |b, kind| b.hook(kind, &format!("echo {kind} >> {}", file.display())));
    b.bind(&dir, "/hooks", &[]).hook("startContainer", "echo startContainer >> /hooks/log")
}

#[test]
fn run_in_the_order_of_the_life_cycle() {
    case(|sb| {
        let b = logging(sb).sh("echo process >> /hooks/log; sleep 0.3");
        sb.create(&b).ok();
        assert_eq!(read(sb), "prestart\ncreateRuntime\ncreateContainer\n");
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        let text = read(sb);
        let mut after: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(after.remove(0), "startContainer");
        after.sort_unstable();
        assert_eq!(after, ["poststart", "process"]);
        sb.delete(&b.id).ok();
        assert!(read(sb).ends_with("poststop\n"));
    });
}

#[test]
fn start_container_without_an_environment_has_that_of_the_process() {
    case(|sb| {
        let dir = sb.host_dir("hooks");
        let b = sb.bundle().bind(&dir, "/hooks", &[]).set("/process/env", json!(["PATH=/bin", "ONE=two"]));
        let b = b.hook("startContainer", "env > /hooks/bare");
        let own = json!({ "path": "/bin/sh", "args": ["sh", "-c", "/bin/env > /hooks/own"], "env": ["MINE=1"] });
        sb.run(&b.push("/hooks/startContainer", own).args(&["true"])).ok();
        let seen = |name: &str| fs::read_to_string(dir.join(name)).expect("the hook ran");
        for entry in ["PATH=/bin", "ONE=two", "HOME=/root"] {
            assert!(seen("bare").lines().any(|line| line == entry), "{entry}: {}", seen("bare"));
        }
        assert!(seen("own").contains("MINE=1") && !seen("own").contains("ONE="), "{}", seen("own"));
    });
}

#[test]
fn a_failure_names_the_hook_as_callers_look_for_it() {
    case(|sb| {
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
            let out = sb.run(&sb.bundle().hook(kind, "true").hook(kind, "exit 3").args(&["true"]));
            out.fails_saying(&format!("error running {kind} hook #1:"));
        }
    });
}

#[test]
fn poststart_runs_after_the_process_started() {
    case(|sb| {
        let dir = sb.host_dir("hooks");
        let script = format!(
            "for i in 1 2 3 4 5 6 7 8 9 10; do [ -e {0}/begun ] && echo after > {0}/order && exit 0; sleep 0.1; done; echo before > {0}/order",
            dir.display()
        );
        let b = sb.bundle().bind(&dir, "/hooks", &[]).hook("poststart", &script).sh("touch /hooks/begun; sleep 1000");
        sb.detached(&b);
        assert_eq!(fs::read_to_string(dir.join("order")).expect("read"), "after\n");
    });
}

#[test]
fn several_of_one_kind_run_in_the_listed_order() {
    case(|sb| {
        let file = log(sb);
        let b = (0..5).fold(sb.bundle(), |b, n| b.hook("createRuntime", &format!("echo {n} >> {}", file.display())));
        sb.run(&b.args(&["true"])).ok();
        assert_eq!(read(sb), "0\n1\n2\n3\n4\n");
    });
}

/// The state that a hook of this kind read, for a whole life of a container.
fn state_of(kind: &str, check: impl FnOnce(&Sandbox, &Bundle, Value)) {
    case(|sb| {
        let file = log(sb);
        let dir = file.parent().expect("a folder").to_owned();
        let target = if kind == "startContainer" { "/hooks/log".to_owned() } else { file.display().to_string() };
        let b = sb.bundle().bind(&dir, "/hooks", &[]).set("/annotations", json!({ "org.example.key": "value" }));
        let b = b.hook(kind, &format!("cat > {target}")).sh("sleep 0.2");
        sb.run(&b).ok();
        check(sb, &b, serde_json::from_str(&read(sb)).unwrap_or_else(|e| panic!("not JSON: {e}: {:?}", read(sb))));
    });
}

fn check_state(kind: &str, status: &str) {
    state_of(kind, |_, b, state| {
        assert_eq!(state["id"], json!(b.id));
        assert_eq!(state["bundle"], json!(b.dir));
        assert_eq!(state["status"], json!(status));
        assert_eq!(state["annotations"]["org.example.key"], json!("value"));
        assert!(state["ociVersion"].is_string(), "{state}");
        let pid = state["pid"].as_i64().unwrap_or(0);
        match kind {
            "poststop" => {}
            // Seen from within the container's pid namespace.
            "startContainer" => assert_eq!(pid, 1),
            _ => assert!(pid > 0, "{state}"),
        }
    });
}

#[test]
fn prestart_reads_the_state() {
    check_state("prestart", "creating");
}

#[test]
fn create_runtime_reads_the_state() {
    check_state("createRuntime", "creating");
}

#[test]
fn create_container_reads_the_state() {
    check_state("createContainer", "creating");
}

#[test]
fn start_container_reads_the_state() {
    check_state("startContainer", "created");
}

#[test]
fn poststart_reads_the_state() {
    check_state("poststart", "running");
}

#[test]
fn poststop_reads_the_state() {
    check_state("poststop", "stopped");
}

#[test]
fn the_environment_is_what_the_hook_says() {
    case(|sb| {
        let file = log(sb);
        let script = format!("env > {}", file.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["ONE=1", "TWO=2 3"] });
        let b = sb.bundle().push("/hooks/createRuntime", hook).args(&["true"]);
        sb.verb("run", &b, &[]).env("OF_THE_CALLER", "x").run().ok();
        let text = read(sb);
        assert!(text.contains("ONE=1\n") && text.contains("TWO=2 3\n") && !text.contains("OF_THE_CALLER"), "{text}");
    });
}

#[test]
fn args_are_passed_with_their_own_name() {
    case(|sb| {
        let file = log(sb);
        let script = format!("echo \"$0 $1 $2\" > {}", file.display());
        let hook = json!({ "path": "/bin/sh", "args": ["mysh", "-c", script, "zero", "a b", "c"] });
        sb.run(&sb.bundle().push("/hooks/createRuntime", hook).args(&["true"])).ok();
        assert_eq!(read(sb), "zero a b c\n");
    });
}

#[test]
fn a_hook_without_args_gets_its_path() {
    case(|sb| {
        let file = log(sb);
        let program = sb.dir.join("hook");
        fs::write(&program, format!("#!/bin/sh\necho \"$# $0\" > {}\n", file.display())).expect("write");
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        sb.run(&sb.bundle().push("/hooks/createRuntime", json!({ "path": program })).args(&["true"])).ok();
        assert_eq!(read(sb), format!("0 {}\n", program.display()));
    });
}

#[test]
fn a_relative_path_is_refused() {
    case(|sb| {
        let b = sb.bundle().push("/hooks/createRuntime", json!({ "path": "bin/sh", "args": ["sh", "-c", "exit 0"] }));
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn a_hook_that_does_not_exist_is_named() {
    case(|sb| {
        let b = sb.bundle().push("/hooks/createRuntime", json!({ "path": "/no/such/hook" }));
        sb.create(&b).code_is(1).fails_saying("/no/such/hook");
    });
}

/// A failing hook of `create`: the container never starts, nothing is left, and poststop has run.
fn check_failure(kind: &str) {
    case(|sb| {
        let dir = sb.host_dir("hooks");
        let b = sb.bundle().bind(&dir, "/hooks", &[]).hook(kind, "exit 7").sh("touch /hooks/started");
        let b = b.hook("poststop", &format!("touch {}/stopped", dir.display()));
        let out = sb.run(&b);
        let text = out.fails();
        assert!(text.contains("hook") && text.contains("exit status 7"), "{text}");
        assert!(!dir.join("started").exists(), "the process ran");
        assert!(dir.join("stopped").exists(), "poststop did not run");
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn a_failing_prestart_stops_the_create() {
    check_failure("prestart");
}

#[test]
fn a_failing_create_runtime_stops_the_create() {
    check_failure("createRuntime");
}

#[test]
fn a_failing_create_container_stops_the_create() {
    check_failure("createContainer");
}

#[test]
fn a_failing_start_container_stops_the_start() {
    case(|sb| {
        let dir = sb.host_dir("hooks");
        let b = sb.bundle().bind(&dir, "/hooks", &[]).hook("startContainer", "exit 7").sh("touch /hooks/started");
        let out = sb.run(&b);
        assert_ne!(out.code, 0);
        assert!(!dir.join("started").exists(), "the process ran");
    });
}

#[test]
fn a_failing_start_container_is_reported_by_start() {
    case(|sb| {
        let b = sb.bundle().hook("startContainer", "exit 7").args(&["true"]);
        sb.create(&b).ok();
        let text = sb.start(&b.id).fails();
        assert!(text.contains("startContainer") && text.contains("7"), "{text}");
    });
}

#[test]
fn a_failing_poststart_stops_the_container() {
    case(|sb| {
        let b = sb.bundle().hook("poststart", "exit 7").sleeper();
        let out = sb.verb("run", &b, &["--detach"]).run();
        let text = out.fails();
        assert!(text.contains("hook"), "{text}");
        let state = sb.call(&["state", &b.id]).run();
        assert!(state.code != 0 || state.json()["status"] == json!("stopped"), "{state:#?}");
    });
}

/// The specification has the lifecycle go on with the container's end (runtime.md, lifecycle, step 9).
#[test]
fn a_failing_poststart_takes_a_started_container_away() {
    case(|sb| {
        let file = log(sb);
        let b = sb.bundle().hook("poststart", "exit 7").hook("poststop", &format!("echo gone > {}", file.display()));
        let b = b.sleeper();
        sb.create(&b).ok();
        let text = sb.start(&b.id).fails();
        assert!(text.contains("poststart") && text.contains('7'), "{text}");
        sb.call(&["state", &b.id]).run().fails();
        assert_eq!(read(sb), "gone\n");
    });
}

#[test]
fn a_failing_poststop_is_a_warning_and_the_others_run() {
    case(|sb| {
        let file = log(sb);
        let b = sb.bundle().hook("poststop", "exit 7").hook("poststop", &format!("echo second > {}", file.display()));
        let c = sb.detached(&b.sleeper());
        let out = sb.delete_force(&c.id);
        out.ok();
        assert_eq!(read(sb), "second\n");
        sb.call(&["state", &c.id]).run().fails();
    });
}

#[test]
fn later_hooks_of_a_kind_do_not_run_after_a_failure() {
    case(|sb| {
        let file = log(sb);
        let b = sb
            .bundle()
            .hook("createRuntime", "exit 1")
            .hook("createRuntime", &format!("echo no >> {}", file.display()));
        sb.create(&b).code_is(1).fails();
        assert_eq!(read(sb), "");
    });
}

#[test]
fn the_time_limit_kills_the_hook() {
    case(|sb| {
        let pid_file = sb.host_dir("hooks").join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", pid_file.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1 });
        let begin = Instant::now();
        let out = sb.create(&sb.bundle().push("/hooks/createRuntime", hook));
        out.code_is(1).fails();
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
        let pid: i32 = fs::read_to_string(pid_file).expect("read").trim().parse().expect("pid");
        assert!(!alive(pid), "the hook lives on");
    });
}

#[test]
fn a_time_limit_that_is_not_reached_changes_nothing() {
    case(|sb| {
        let file = log(sb);
        let script = format!("echo done > {}", file.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 30 });
        sb.run(&sb.bundle().push("/hooks/prestart", hook).args(&["true"])).ok();
        assert_eq!(read(sb), "done\n");
    });
}

#[test]
fn what_a_hook_says_on_stderr_is_in_the_error() {
    case(|sb| {
        let b = sb.bundle().hook("createRuntime", "echo the reason why >&2; exit 3");
        sb.create(&b).code_is(1).fails_saying("the reason why");
    });
}

#[test]
fn the_error_names_the_kind_of_the_hook_and_its_program() {
    case(|sb| {
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let text = sb.create(&sb.bundle().hook(kind, "exit 3")).fails();
            assert!(text.contains(kind) && text.contains("/bin/sh"), "{text}");
        }
    });
}

#[test]
fn the_long_stderr_of_a_hook_does_not_block() {
    case(|sb| {
        let b = sb.bundle().hook("createRuntime", "yes 'much to say' | head -c 300000 >&2; exit 3");
        sb.create(&b).code_is(1).fails();
        let b = sb.bundle().hook("createRuntime", "yes 'much to say' | head -c 300000; exit 0").args(&["true"]);
        sb.run(&b).ok();
    });
}

#[test]
fn hooks_run_where_the_specification_says() {
    case(|sb| {
        let file = log(sb);
        let dir = file.parent().expect("a folder").to_owned();
        let line = |kind: &str, target: &str| {
            format!("echo {kind} $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/net) >> {target}")
        };
        let path = file.display().to_string();
        let b = sb.bundle().bind(&dir, "/hooks", &[]);
        let b = OF_THE_HOST.iter().fold(b, |b, kind| b.hook(kind, &line(kind, &path)));
        let b = b.hook("startContainer", &line("startContainer", "/hooks/log")).sh("sleep 0.2");
        sb.run(&b).ok();
        let own = |file: &str| {
            fs::read_link(format!("/proc/self/ns/{file}")).expect("readlink").to_string_lossy().into_owned()
        };
        for row in read(sb).lines() {
            let fields: Vec<&str> = row.split(' ').collect();
            let of_the_host = fields[2] == own("net") && fields[1] == own("mnt");
            let expected = matches!(fields[0], "prestart" | "createRuntime" | "poststart" | "poststop");
            assert_eq!(of_the_host, expected, "{row}");
        }
        assert_eq!(read(sb).lines().count(), 6);
    });
}

#[test]
fn create_container_resolves_its_path_on_the_host() {
    case(|sb| {
        let file = log(sb);
        // The rootfs has no such program; the host has.
        let program = sb.dir.join("only-here");
        fs::write(&program, format!("#!/bin/sh\necho ran > {}\n", file.display())).expect("write");
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        sb.run(&sb.bundle().push("/hooks/createContainer", json!({ "path": program })).args(&["true"])).ok();
        assert_eq!(read(sb), "ran\n");
    });
}

#[test]
fn start_container_resolves_its_path_in_the_container() {
    case(|sb| {
        let dir = sb.host_dir("hooks");
        let b = sb.bundle().file("/only-inside", "#!/bin/sh\necho ran > /hooks/log\n", 0o755).bind(&dir, "/hooks", &[]);
        sb.run(&b.push("/hooks/startContainer", json!({ "path": "/only-inside" })).args(&["true"])).ok();
        assert_eq!(read(sb), "ran\n");
    });
}

#[test]
fn a_hook_may_call_state_while_it_runs() {
    case(|sb| {
        let file = log(sb);
        let b = sb.bundle();
        let call = format!(
            "{} --root {} state {} > {} 2>&1",
            sb.runtime.path.display(),
            sb.root.display(),
            b.id,
            file.display()
        );
        let b = b.hook("createRuntime", &call).args(&["true"]);
        let out = sb.verb("run", &b, &[]).deadline(Duration::from_secs(20)).run();
        out.ok();
        let state: Value = serde_json::from_str(&read(sb)).unwrap_or_else(|e| panic!("{e}: {}", read(sb)));
        assert_eq!(state["id"], json!(b.id));
        assert!(state["status"] == json!("creating") || state["status"] == json!("created"), "{state}");
    });
}

#[test]
fn a_hook_can_put_an_interface_into_the_network_namespace() {
    case(|sb| {
        let name = format!("h{}", &sb.name[2..]);
        let script = format!(
            "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -n1); ip link add {name} type veth peer name eth7 netns $pid"
        );
        let b = sb.bundle().push(
            "/hooks/createRuntime",
            json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] }),
        );
        assert!(sb.run(&b.args(&["ls", "/sys/class/net"])).ok().contains("eth7"));
    });
}

#[test]
fn hooks_have_no_stray_descriptors() {
    case(|sb| {
        let file = log(sb);
        let script = format!(
            "exec > {}; for f in /proc/$$/fd/*; do if [ -e $f ]; then echo ${{f##*/}}; fi; done",
            file.display()
        );
        sb.run(&sb.bundle().hook("createRuntime", &script).args(&["true"])).ok();
        assert_eq!(read(sb), "0\n1\n2\n");
    });
}
