//! Create, start, state, kill, delete, run, list, ps, pause and resume: states, texts and exit codes.

use std::fs;
use std::time::{Duration, Instant};

use integration::host::{alive, eventually};
use integration::requires::Need;
use integration::runtime::wait_pid;
use integration::sandbox::read_pid;
use integration::{case, case_with, json};

#[test]
fn create_leaves_the_program_unstarted() {
    case(|sb| {
        let b = sb.bundle().sh("echo ran");
        let made = sb.create(&b);
        made.ok();
        assert_eq!(sb.status(&b.id), "created");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(made.stdout_now(), "");
    });
}

#[test]
fn start_runs_the_program_and_it_stops() {
    case(|sb| {
        let b = sb.bundle().sh("echo ran");
        let made = sb.create(&b);
        made.ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        assert_eq!(made.stdout_now(), "ran\n");
        sb.delete(&b.id).ok();
    });
}

#[test]
fn state_has_the_fields_of_the_specification() {
    case(|sb| {
        let b = sb.bundle().sleeper().set("/annotations", json!({ "org.example.key": "value" }));
        let c = sb.detached(&b);
        let state = sb.state(&c.id);
        assert_eq!(state["id"], json!(b.id));
        assert_eq!(state["status"], json!("running"));
        assert_eq!(state["pid"], json!(c.pid));
        assert_eq!(state["bundle"], json!(b.dir));
        assert_eq!(state["annotations"]["org.example.key"], json!("value"));
        assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{state}");
    });
}

#[test]
fn state_has_what_go_clients_read_too() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.detached(&b);
        let state = sb.state(&b.id);
        assert_eq!(state["rootfs"], json!(b.rootfs()));
        let created = state["created"].as_str().expect("created");
        assert!(created.ends_with('Z') && created.contains('T'), "{created}");
        assert!(state.get("owner").is_some(), "{state}");
    });
}

#[test]
fn a_stopped_container_has_pid_zero() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        assert_eq!(sb.state(&b.id)["pid"], json!(0));
    });
}

#[test]
fn state_of_nothing_says_does_not_exist() {
    case(|sb| sb.call(&["state", "nobody"]).run().code_is(1).fails_saying("does not exist"));
}

#[test]
fn start_of_nothing_says_does_not_exist() {
    case(|sb| sb.start("nobody").code_is(1).fails_saying("does not exist"));
}

#[test]
fn kill_of_nothing_says_does_not_exist() {
    case(|sb| sb.kill("nobody", "KILL").code_is(1).fails_saying("does not exist"));
}

#[test]
fn delete_of_nothing_says_does_not_exist() {
    case(|sb| sb.delete("nobody").code_is(1).fails_saying("does not exist"));
}

#[test]
fn exec_into_nothing_says_does_not_exist() {
    case(|sb| sb.exec("nobody", &["true"]).fails_saying("does not exist"));
}

#[test]
fn delete_force_of_nothing_is_fine() {
    case(|sb| {
        let out = sb.delete_force("nobody");
        assert_eq!(out.ok(), "");
    });
}

#[test]
fn the_same_id_twice_is_refused() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        sb.create(&b).code_is(1).fails_saying("container with given ID already exists");
        assert_eq!(sb.status(&b.id), "created", "the first is untouched");
    });
}

#[test]
fn a_bad_id_is_refused() {
    case(|sb| {
        for id in ["a/b", "../up", "a b", ".", "..", "a$b"] {
            let mut b = sb.bundle().args(&["true"]);
            b.id = id.to_owned();
            sb.create(&b).code_is(1).fails_saying("invalid container ID format");
        }
    });
}

#[test]
fn an_empty_id_is_refused() {
    case(|sb| {
        let mut b = sb.bundle().args(&["true"]);
        b.id = String::new();
        sb.create(&b).fails();
    });
}

#[test]
fn ids_may_have_dots_dashes_plus_and_underscores() {
    case(|sb| {
        let mut b = sb.bundle().args(&["true"]);
        b.id = format!("{}_x.y-z+1", sb.name);
        sb.create(&b).ok();
        assert_eq!(sb.status(&b.id), "created");
    });
}

#[test]
fn a_second_start_is_refused() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        let c = sb.detached(&b);
        sb.start(&c.id).code_is(1).fails_saying("cannot start an already running container");
    });
}

#[test]
fn start_after_the_end_is_refused() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        sb.start(&b.id).code_is(1).fails_saying("cannot start a container that has stopped");
    });
}

#[test]
fn delete_of_a_running_one_is_refused() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let text = format!("cannot delete container {} that is not stopped: running", c.id);
        sb.delete(&c.id).code_is(1).fails_saying(&text);
        assert!(alive(c.pid));
    });
}

#[test]
fn delete_force_of_a_running_one_kills_it() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.delete_force(&c.id).ok();
        assert!(!alive(c.pid));
        sb.call(&["state", &c.id]).run().fails();
    });
}

#[test]
fn delete_tells_what_was_used_when_asked() {
    case_with(&[Need::Skep], |sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let last = sb.call(&["delete", "--force", "--usage", &c.id]).run().json();
        assert_eq!(
            (&last["id"], &last["status"], &last["pid"]),
            (&json!(c.id), &json!("stopped"), &json!(0)),
            "{last}"
        );
        assert!(last["usage"]["cpu"].as_u64().is_some_and(|ns| ns > 0), "{last}");
        assert_eq!(sb.call(&["delete", "--force", "--usage", &c.id]).run().ok(), "");
    });
}

#[test]
fn delete_of_a_created_one_kills_it() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        let pid = sb.state(&b.id)["pid"].as_i64().expect("pid");
        sb.delete(&b.id).ok();
        assert!(!alive(i32::try_from(pid).expect("pid")));
    });
}

#[test]
fn delete_removes_state_and_cgroups() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.detached(&b);
        assert!(sb.cgroup("pids", &b.id).exists());
        sb.delete_force(&b.id).ok();
        assert!(!sb.cgroup("pids", &b.id).exists());
        assert!(!sb.cgroup("memory", &b.id).exists());
        let left = fs::read_dir(&sb.root).map(Iterator::count).unwrap_or_default();
        assert_eq!(left, 0, "state folders are left");
    });
}

#[test]
fn an_id_can_be_used_again_after_delete() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        for _ in 0..3 {
            sb.detached(&b);
            sb.delete_force(&b.id).ok();
        }
    });
}

#[test]
fn kill_sends_term_when_no_signal_is_named() {
    case(|sb| {
        let b = sb.bundle().sh("trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.02; done");
        let c = sb.detached(&b);
        eventually("the trap is set", || c.output.stdout_now().contains("ready"));
        sb.call(&["kill", &c.id]).run().ok();
        sb.wait_status(&c.id, "stopped");
        assert_eq!(c.output.stdout_now(), "ready\nterm\n");
    });
}

#[test]
fn kill_takes_names_with_and_without_sig_and_numbers() {
    case(|sb| {
        let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done";
        let c = sb.detached(&sb.bundle().sh(script));
        eventually("the trap is set", || c.output.stdout_now().contains("ready"));
        for (count, name) in ["USR1", "SIGUSR1", "usr1", "10"].iter().enumerate() {
            sb.kill(&c.id, name).ok();
            eventually(name, || c.output.stdout_now().matches("usr1").count() == count + 1);
        }
    });
}

#[test]
fn kill_with_an_unknown_signal_is_refused() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        for name in ["NOSUCH", "SIG", "-1x"] {
            sb.kill(&c.id, name).fails();
        }
        assert_eq!(sb.status(&c.id), "running");
    });
}

#[test]
fn kill_of_a_stopped_one_says_not_running() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        sb.kill(&b.id, "KILL").code_is(1).fails_saying("container not running");
    });
}

#[test]
fn kill_works_on_a_created_one() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        sb.create(&b).ok();
        sb.kill(&b.id, "KILL").ok();
        sb.wait_status(&b.id, "stopped");
    });
}

#[test]
fn term_ends_one_that_waits_for_its_start() {
    case(|sb| {
        for signal in ["TERM", "INT", "HUP"] {
            let b = sb.bundle().sleeper();
            sb.create(&b).ok();
            sb.kill(&b.id, signal).ok();
            sb.wait_status(&b.id, "stopped");
            sb.delete(&b.id).ok();
        }
    });
}

#[test]
fn kill_reaches_init_alone() {
    case(|sb| {
        let b = sb.bundle().sh("(trap 'echo child' USR1; echo c; while :; do sleep 0.02; done) & trap 'echo init' USR1; echo i; while :; do sleep 0.02; done");
        let c = sb.detached(&b);
        eventually("both traps are set", || c.output.stdout_now().len() == 4);
        sb.kill(&c.id, "USR1").ok();
        eventually("init has it", || c.output.stdout_now().contains("init"));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!c.output.stdout_now().contains("child"));
    });
}

#[test]
fn kill_all_reaches_every_process() {
    case(|sb| {
        let b = sb.bundle().sh("sleep 1000 & sleep 1000 & echo ready; sleep 1000");
        let c = sb.detached(&b);
        eventually("it runs", || c.output.stdout_now().contains("ready"));
        eventually("three processes", || sb.cgroup_read("pids", &c.id, "cgroup.procs").lines().count() == 3);
        sb.call(&["kill", "--all", &c.id, "KILL"]).run().ok();
        eventually("none is left", || sb.cgroup_read("pids", &c.id, "cgroup.procs").is_empty());
    });
}

#[test]
fn kill_all_works_without_a_pid_namespace_after_init_died() {
    case(|sb| {
        let b = sb.bundle().without_namespace("pid").sh("sleep 1000 & sleep 1000 & echo ready; sleep 1000");
        let c = sb.detached(&b);
        eventually("it runs", || c.output.stdout_now().contains("ready"));
        sb.kill(&c.id, "KILL").ok();
        assert!(wait_pid(c.pid, Duration::from_secs(10)));
        sb.call(&["kill", "--all", &c.id, "KILL"]).run().ok();
        eventually("none is left", || sb.cgroup_read("pids", &c.id, "cgroup.procs").is_empty());
    });
}

#[test]
fn sigkill_without_a_pid_namespace_reaches_who_outlived_init() {
    case(|sb| {
        let b = sb.bundle().without_namespace("pid").sh("sleep 1000 & sleep 1000 & echo ready; sleep 1000");
        let c = sb.detached(&b);
        eventually("it runs", || c.output.stdout_now().contains("ready"));
        sb.kill(&c.id, "TERM").ok();
        assert!(wait_pid(c.pid, Duration::from_secs(10)));
        assert!(!sb.cgroup_read("pids", &c.id, "cgroup.procs").is_empty(), "the others live on");
        sb.kill(&c.id, "TERM").code_is(1).fails_saying("container not running");
        sb.kill(&c.id, "KILL").ok();
        eventually("none is left", || sb.cgroup_read("pids", &c.id, "cgroup.procs").is_empty());
        sb.kill(&c.id, "KILL").code_is(1).fails_saying("container not running");
    });
}

#[test]
fn delete_without_a_pid_namespace_kills_who_is_left() {
    case(|sb| {
        let b = sb.bundle().without_namespace("pid").sh("sleep 1000 & sleep 1000 & echo ready; sleep 1000");
        let c = sb.detached(&b);
        eventually("it runs", || c.output.stdout_now().contains("ready"));
        eventually("all are there", || sb.cgroup_read("pids", &c.id, "cgroup.procs").lines().count() == 3);
        let pids: Vec<i32> = sb.cgroup_read("pids", &c.id, "cgroup.procs").lines().flat_map(str::parse).collect();
        sb.delete_force(&c.id).ok();
        eventually("all are gone", || !pids.iter().any(|pid| alive(*pid)));
    });
}

#[test]
fn the_pid_file_has_digits_only_and_is_made_by_rename() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        let file = sb.dir.join("pid");
        fs::write(&file, "this text is far longer than a pid and must go").expect("write");
        fs::hard_link(&file, sb.dir.join("old")).expect("link");
        sb.verb("create", &b, &["--pid-file", file.to_str().expect("UTF-8")]).run().ok();
        assert_eq!(json!(read_pid(&file)), sb.state(&b.id)["pid"]);
        let old = fs::read_to_string(sb.dir.join("old")).expect("read");
        assert!(old.starts_with("this text"), "the old file was written in place: {old}");
    });
}

#[test]
fn a_relative_pid_file_lies_in_the_callers_folder() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        let here = sb.host_dir("here");
        sb.verb("create", &b, &["--pid-file", "my.pid"]).cwd(&here).run().ok();
        assert!(alive(read_pid(&here.join("my.pid"))));
    });
}

#[test]
fn run_passes_standard_streams_through() {
    case(|sb| {
        let b = sb.bundle().sh("read line; echo \"got $line\"; echo oops >&2");
        let out = sb.verb("run", &b, &[]).stdin_bytes(b"hello\n").run();
        assert_eq!(out.ok(), "got hello");
        assert_eq!(out.stderr, "oops\n");
    });
}

#[test]
fn run_gives_the_exit_code_of_the_program() {
    case(|sb| {
        for code in [0, 1, 7, 255] {
            sb.run(&sb.bundle().sh(&format!("exit {code}"))).code_is(code);
        }
    });
}

#[test]
fn run_gives_128_plus_the_signal() {
    case(|sb| {
        // A shell whose child died of a signal; init itself cannot be killed from within by default actions.
        let b = sb.bundle().without_namespace("pid").sh("kill -TERM $$; sleep 5");
        sb.run(&b).code_is(128 + 15);
        let b = sb.bundle().without_namespace("pid").sh("kill -KILL $$; sleep 5");
        sb.run(&b).code_is(128 + 9);
    });
}

#[test]
fn run_in_the_foreground_deletes_the_container_at_the_end() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.run(&b).ok();
        sb.call(&["state", &b.id]).run().fails();
        assert!(!sb.cgroup("pids", &b.id).exists());
    });
}

#[test]
fn run_keep_leaves_a_stopped_container() {
    case(|sb| {
        let b = sb.bundle().sh("exit 3");
        sb.verb("run", &b, &["--keep"]).run().code_is(3);
        assert_eq!(sb.status(&b.id), "stopped");
        sb.delete(&b.id).ok();
    });
}

#[test]
fn run_detached_returns_while_the_program_runs() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        assert_eq!(sb.status(&c.id), "running");
        assert!(alive(c.pid));
    });
}

#[test]
fn run_forwards_signals_to_the_container() {
    case(|sb| {
        let b = sb.bundle().sh("trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.02; done");
        let running = sb.verb("run", &b, &[]).spawn();
        eventually("it is ready", || running.stdout().contains("ready"));
        let pid = rustix::process::Pid::from_raw(running.pid()).expect("pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        let out = running.wait(Duration::from_secs(20));
        out.code_is(5);
        assert!(out.stdout.contains("term"), "{out:#?}");
    });
}

#[test]
fn the_bundle_is_the_current_folder_by_default() {
    case(|sb| {
        let b = sb.bundle().sh("echo here");
        b.write();
        assert_eq!(sb.call(&["run", &b.id]).cwd(&b.dir).run().ok(), "here");
    });
}

#[test]
fn a_missing_bundle_is_an_error() {
    case(|sb| {
        sb.call(&["create", "--bundle", "/nonexistent-bundle", "x"])
            .run()
            .code_is(1)
            .fails_saying("no such file or directory");
    });
}

#[test]
fn a_bundle_without_a_config_names_it() {
    case(|sb| {
        let dir = sb.host_dir("empty");
        sb.call(&["create", "--bundle"]).arg(&dir).arg("x").run().code_is(1).fails_saying("config.json");
    });
}

#[test]
fn a_broken_config_is_an_error_and_leaves_nothing() {
    case(|sb| {
        let b = sb.bundle();
        fs::write(b.dir.join("config.json"), "{ \"ociVersion\": ").expect("write");
        sb.call(&["create", "--bundle"]).arg(&b.dir).arg(&b.id).run().code_is(1).fails();
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn unknown_members_of_the_config_are_ignored() {
    case(|sb| {
        let b =
            sb.bundle().sh("echo fine").set("/org.example", json!({ "a": 1 })).set("/linux/futureField", json!([1]));
        assert_eq!(sb.run(&b).ok(), "fine");
    });
}

#[test]
fn a_missing_rootfs_is_an_error_and_leaves_nothing() {
    case(|sb| {
        let b = sb.bundle().set("/root/path", json!("missing"));
        sb.create(&b).code_is(1).fails();
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn the_rootfs_may_be_absolute() {
    case(|sb| {
        let b = sb.bundle().sh("echo abs");
        let path = json!(b.rootfs());
        assert_eq!(sb.run(&b.set("/root/path", path)).ok(), "abs");
    });
}

#[test]
fn a_program_that_is_missing_is_reported_by_run() {
    case(|sb| {
        let b = sb.bundle().args(&["/no/such/program"]);
        let out = sb.run(&b);
        out.fails_saying("no such file or directory");
        assert!(out.stderr.contains("/no/such/program"), "{out:#?}");
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn a_program_that_is_not_in_path_is_reported_by_run() {
    case(|sb| {
        let out = sb.run(&sb.bundle().args(&["nosuchprogram"]));
        out.fails_saying("executable file not found in $PATH");
        assert!(out.stderr.contains("nosuchprogram"), "{out:#?}");
    });
}

#[test]
fn a_program_that_may_not_be_executed_is_reported_by_run() {
    case(|sb| {
        let b = sb.bundle().file("/bin/plain", "no program", 0o644).args(&["/bin/plain"]);
        sb.run(&b).fails_saying("permission denied");
    });
}

#[test]
fn a_folder_as_program_is_permission_denied_or_a_directory() {
    case(|sb| {
        let text = sb.run(&sb.bundle().args(&["/tmp"])).fails();
        assert!(text.contains("permission denied") || text.contains("is a directory"), "{text}");
    });
}

#[test]
fn a_missing_interpreter_is_no_such_file() {
    case(|sb| {
        let b = sb.bundle().file("/bin/script", "#!/no/interpreter\n", 0o755).args(&["/bin/script"]);
        let text = [sb.run(&b).fails(), String::new()].concat();
        assert!(text.contains("no such file or directory"), "{text}");
    });
}

#[test]
fn a_script_without_an_interpreter_line_is_an_exec_format_error() {
    case(|sb| {
        let b = sb.bundle().file("/bin/script", "echo hi\n", 0o755).args(&["/bin/script"]);
        sb.run(&b).fails_saying("exec format error");
    });
}

#[test]
fn an_exec_failure_after_create_reaches_create_or_start() {
    case(|sb| {
        // The file is there and passes every look; the kernel alone refuses it.
        let b = sb.bundle().file("/bin/script", "#!/no/interpreter\n", 0o755).args(&["/bin/script"]);
        let created = sb.create(&b);
        let text = if created.code == 0 { sb.start(&b.id).fails() } else { created.fails() };
        assert!(text.contains("no such file or directory"), "{text}");
    });
}

#[test]
fn args_must_not_be_empty() {
    case(|sb| {
        sb.create(&sb.bundle().args(&[])).code_is(1).fails();
        sb.create(&sb.bundle().unset("/process/args")).code_is(1).fails();
    });
}

#[test]
fn the_path_of_the_config_finds_the_program() {
    case(|sb| {
        let b = sb.bundle().file("/opt/hello", "#!/bin/sh\necho found\n", 0o755);
        let b = b.set("/process/env", json!(["PATH=/opt:/bin"])).args(&["hello"]);
        assert_eq!(sb.run(&b).ok(), "found");
    });
}

#[test]
fn pause_and_resume_change_the_state() {
    case(|sb| {
        let b = sb.bundle().sh("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done");
        let c = sb.detached(&b);
        sb.call(&["pause", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "paused");
        let before = c.output.stdout_now();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(c.output.stdout_now(), before, "it went on while paused");
        sb.call(&["resume", &c.id]).run().ok();
        assert_eq!(sb.status(&c.id), "running");
        eventually("it goes on", || c.output.stdout_now().len() > before.len());
    });
}

#[test]
fn pause_twice_and_resume_of_a_running_one_are_refused() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["resume", &c.id]).run().code_is(1).fails_saying("container not paused");
        sb.call(&["pause", &c.id]).run().ok();
        sb.call(&["pause", &c.id]).run().code_is(1).fails();
        sb.call(&["resume", &c.id]).run().ok();
    });
}

#[test]
fn pause_of_a_stopped_one_is_refused() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        sb.start(&b.id).ok();
        sb.wait_status(&b.id, "stopped");
        sb.call(&["pause", &b.id]).run().code_is(1).fails_saying("container not running");
    });
}

#[test]
fn kill_of_a_paused_one_works_once_resumed() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["pause", &c.id]).run().ok();
        sb.kill(&c.id, "KILL").ok();
        sb.call(&["resume", &c.id]).run();
        sb.wait_status(&c.id, "stopped");
    });
}

#[test]
fn delete_force_of_a_paused_one_works() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["pause", &c.id]).run().ok();
        sb.delete_force(&c.id).ok();
        assert!(!alive(c.pid));
    });
}

#[test]
fn exec_into_a_paused_one_is_refused() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        sb.call(&["pause", &c.id]).run().ok();
        let out = sb.exec_call(&c.id, &[], &["true"]).deadline(Duration::from_secs(10)).run();
        let text = out.fails();
        assert!(text.contains("paused"), "{text}");
    });
}

#[test]
fn list_prints_a_table_with_a_header() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let text = sb.call(&["list"]).run().ok();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().expect("a header").split_whitespace().collect();
        assert_eq!(header, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        let row: Vec<&str> = lines.next().expect("a row").split_whitespace().collect();
        assert_eq!(row[..3], [c.id.as_str(), &c.pid.to_string(), "running"]);
        assert_eq!(lines.next(), None);
    });
}

#[test]
fn list_of_nothing_still_has_the_header() {
    case(|sb| {
        let text = sb.call(&["list"]).run().ok();
        assert_eq!(text.lines().count(), 1, "{text}");
        let list = sb.call(&["list", "--format", "json"]).run().json();
        assert!(list.is_null() || list == json!([]), "{list}");
    });
}

#[test]
fn list_json_has_every_container() {
    case(|sb| {
        let (a, b) = (sb.bundle().sleeper(), sb.bundle().sleeper());
        sb.detached(&a);
        sb.create(&b).ok();
        let list = sb.call(&["list", "--format=json"]).run().json();
        let mut seen: Vec<_> =
            list.as_array().expect("array").iter().map(|c| (c["id"].clone(), c["status"].clone())).collect();
        seen.sort_by_key(|(id, _)| id.to_string());
        assert_eq!(seen, [(json!(a.id), json!("running")), (json!(b.id), json!("created"))]);
    });
}

#[test]
fn list_quiet_prints_ids() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        assert_eq!(sb.call(&["list", "-q"]).run().ok(), c.id);
    });
}

#[test]
fn ps_json_prints_host_pids() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sh("sleep 1000 & sleep 1000; true"));
        eventually("three processes", || sb.cgroup_read("pids", &c.id, "cgroup.procs").lines().count() == 3);
        let pids = sb.call(&["ps", "--format", "json", &c.id]).run().json();
        let pids = pids.as_array().expect("array");
        assert!(pids.contains(&json!(c.pid)) && pids.len() == 3, "{pids:?}");
    });
}

#[test]
fn ps_prints_the_table_of_ps_for_these_pids() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let text = sb.call(&["ps", &c.id]).run().ok();
        assert!(text.lines().next().is_some_and(|l| l.contains("PID") && l.contains("CMD")), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(&c.pid.to_string()) && text.contains("sleep 1000"), "{text}");
    });
}

#[test]
fn ps_passes_options_on_to_ps() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let text = sb.call(&["ps", &c.id, "-e", "-o", "pid,comm"]).run().ok();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(rows[1].contains(&c.pid.to_string()) && rows[1].contains("sleep"), "{text}");
    });
}

#[test]
fn a_container_outlives_the_shell_that_made_it_and_delete_is_quick() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let begin = Instant::now();
        sb.delete_force(&c.id).ok();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    });
}
