//! `checkpoint` and `restore` with the CRIU of the machine, where it works. Containers here close what their caller gave
//! them as standard streams: CRIU cannot save an open file of the host.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::console::FdSocket;
use integration::host::{self, eventually};
use integration::requires::{Need, skip_without};
use integration::{Bundle, Output, Sandbox, case, json};

/// CRIU is slow where the processor is emulated.
const LONG: Duration = Duration::from_secs(120);

/// Counts in a file of memory, so that it is seen whether it goes on from where it was.
const COUNTER: &str =
    "exec </dev/null >/dev/null 2>&1; n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done";

fn images(sb: &Sandbox) -> PathBuf {
    sb.host_dir("images")
}

/// `checkpoint` or `restore` with the usual folders. Groups are left to the runtime, as CRIU itself advises for cgroup2.
fn criu(sb: &Sandbox, verb: &str, options: &[&str]) -> integration::Call {
    let call = sb.call(&[verb, "--manage-cgroups-mode", "ignore", "--image-path"]).arg(images(sb));
    call.arg("--work-path").arg(sb.host_dir("work")).deadline(LONG).args(options)
}

#[track_caller]
fn checkpoint(sb: &Sandbox, id: &str, options: &[&str]) {
    criu(sb, "checkpoint", options).arg(id).run().ok();
}

fn restore(sb: &Sandbox, bundle: &Bundle, options: &[&str]) -> Output {
    bundle.write();
    criu(sb, "restore", options).arg("--bundle").arg(&bundle.dir).arg(&bundle.id).run()
}

fn count(sb: &Sandbox, id: &str) -> u64 {
    sb.exec(id, &["cat", "/dev/shm/n"]).ok().trim().parse().unwrap_or(0)
}

#[track_caller]
fn wait_for_count(sb: &Sandbox, id: &str, least: u64) -> u64 {
    eventually("the counter counts", || count(sb, id) >= least);
    count(sb, id)
}

fn counter(sb: &Sandbox) -> Bundle {
    sb.bundle().sh(COUNTER)
}

fn start_counter(sb: &Sandbox, bundle: &Bundle) -> u64 {
    sb.detached(bundle);
    wait_for_count(sb, &bundle.id, 3)
}

#[test]
fn a_container_goes_on_from_where_it_was() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let b = counter(sb);
        let before = start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        sb.call(&["state", &b.id]).run().fails_saying("does not exist");
        restore(sb, &b, &["-d"]).ok();
        assert_eq!(sb.status(&b.id), "running");
        let after = wait_for_count(sb, &b.id, before + 3);
        assert!(after < before + 1000, "{before} became {after}");
        sb.call(&["pause", &b.id]).run().ok();
        assert_eq!(sb.status(&b.id), "paused");
        sb.call(&["resume", &b.id]).run().ok();
        sb.kill(&b.id, "KILL").ok();
        sb.wait_status(&b.id, "stopped");
        sb.delete(&b.id).ok();
    });
}

#[test]
fn processes_of_an_exec_are_saved_too_also_after_a_restore() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let b = counter(sb);
        start_counter(sb, &b);
        for _ in 0..2 {
            // The second time into a container that was restored itself.
            let pid = sb.exec_sh(&b.id, "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!").ok().trim().to_owned();
            checkpoint(sb, &b.id, &[]);
            restore(sb, &b, &["-d"]).ok();
            assert_eq!(sb.exec(&b.id, &["cat", &format!("/proc/{pid}/cmdline")]).ok(), "sleep\x001000\x00");
        }
    });
}

#[test]
fn a_container_may_be_left_running() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let b = counter(sb);
        let before = start_counter(sb, &b);
        checkpoint(sb, &b.id, &["--leave-running"]);
        assert_eq!(sb.status(&b.id), "running");
        wait_for_count(sb, &b.id, before + 1);
        // Another container from the same images, while the first one runs.
        let other = counter(sb);
        restore(sb, &other, &["-d"]).ok();
        wait_for_count(sb, &other.id, before);
        assert_ne!(sb.state(&b.id)["pid"], sb.state(&other.id)["pid"]);
    });
}

#[test]
fn limits_and_groups_are_those_of_the_bundle_and_not_of_the_images() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let limit = |b: Bundle, limit: u32| b.set("/linux/resources/pids", json!({ "limit": limit }));
        let b = limit(counter(sb), 50);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        let other = limit(counter(sb), 30);
        restore(sb, &other, &["-d"]).ok();
        let pid = sb.state(&other.id)["pid"].as_i64().expect("a pid");
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("read the groups");
        assert!(groups.contains(&format!("/{}", other.id)) && !groups.contains(&format!("/{}\n", b.id)), "{groups}");
        let stats = sb.call(&["events", "--stats", &other.id]).run().json();
        assert_eq!(stats["data"]["pids"]["limit"], 30);
        // Device rules hold: nothing but the default ones can be opened.
        let denied = sb.exec_sh(&other.id, "mknod /dev/shm/kmsg c 1 11; cat /dev/shm/kmsg").fails();
        assert!(denied.contains("not permitted"), "{denied}");
    });
}

#[test]
fn mounts_come_back_and_their_mount_points_are_made() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let (outer, inner) = (sb.host_dir("outer"), sb.host_dir("inner"));
        fs::write(outer.join("a"), "from the outer").expect("write");
        fs::write(inner.join("b"), "from the inner").expect("write");
        let b = counter(sb).writable().folder("real/conf").link("conf", "/real/conf");
        let b = b.set("/linux/maskedPaths", json!(["/proc/uptime"]));
        let b = b.bind(&outer, "/data", &["rw"]).bind(&inner, "/data/deep/er", &["ro"]).bind(&inner, "/conf", &[]);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        fs::remove_dir_all(outer.join("deep")).expect("remove the mount point");
        restore(sb, &b, &["-d"]).ok();
        let said = sb.exec_sh(&b.id, "cat /data/a /data/deep/er/b /real/conf/b; cat /proc/uptime | wc -c").ok();
        assert_eq!(said.trim(), "from the outerfrom the innerfrom the inner0");
        sb.exec_sh(&b.id, "touch /data/deep/er/c").fails_saying("Read-only");
        sb.exec_sh(&b.id, "echo 1 > /proc/sys/kernel/sysrq").fails();
        // Nothing of the preparations shows on the host.
        let left = host::own_mounts().into_iter().filter(|m| m.target.contains(sb.dir.to_str().expect("UTF-8")));
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn a_terminal_comes_back_through_the_console_socket() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let socket = FdSocket::bind(&sb.dir, "tty");
        let b = sb.bundle().set("/process/terminal", json!(true)).sh("while read line; do echo \"got $line\"; done");
        sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run().ok();
        let console = socket.console();
        console.type_in("one\n");
        console.read_until("got one");
        checkpoint(sb, &b.id, &[]);
        let again = FdSocket::bind(&sb.dir, "again");
        restore(sb, &b, &["-d", "--console-socket", again.text()]).ok();
        let console = again.console();
        console.type_in("two\n");
        console.read_until("got two");
    });
}

#[test]
fn a_pipe_is_the_callers_new_one() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let script = "exec >/dev/null 2>&1; while read line; do echo $line >> /dev/shm/lines; done; sleep 1000";
        let b = sb.bundle().sh(script);
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
        let (theirs, ours) = pipe();
        sb.verb("run", &b, &["-d"]).stdin(theirs).run().ok();
        rustix::io::write(&ours, b"first\n").expect("write");
        let lines = || sb.exec(&b.id, &["cat", "/dev/shm/lines"]).stdout_now();
        eventually("the first line is read", || lines() == "first\n");
        checkpoint(sb, &b.id, &[]);
        b.write();
        let (theirs, ours) = pipe();
        criu(sb, "restore", &["-d", "--bundle"]).arg(&b.dir).arg(&b.id).stdin(theirs).run().ok();
        rustix::io::write(&ours, b"second\n").expect("write");
        eventually("the second line is read", || lines() == "first\nsecond\n");
    });
}

#[test]
fn hooks_run_and_the_loopback_device_is_up() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let log = sb.host_dir("hooks").join("log");
        let say = |word: &str| format!("cat > /dev/null; echo {word} >> {}", log.display());
        let b = counter(sb)
            .hook("prestart", &say("prestart"))
            .hook("createRuntime", &say("createRuntime"))
            .hook("poststop", &say("poststop"));
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        assert_eq!(fs::read_to_string(&log).expect("read"), "prestart\ncreateRuntime\npoststop\n");
        fs::remove_file(&log).expect("remove");
        restore(sb, &b, &["-d"]).ok();
        assert_eq!(fs::read_to_string(&log).expect("read"), "prestart\ncreateRuntime\n");
        let state = sb.exec(&b.id, &["ifconfig", "lo"]).ok();
        assert!(state.contains("UP LOOPBACK RUNNING"), "{state}");
    });
}

#[test]
fn a_hook_that_fails_leaves_no_container() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let b = counter(sb);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        let b = b.hook("createRuntime", "echo no luck >&2; exit 7");
        restore(sb, &b, &["-d"]).fails_saying("no luck");
        nothing_is_left(sb, &b);
    });
}

#[test]
fn in_the_foreground_the_exit_status_is_that_of_the_container() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let b =
            sb.bundle().sh("exec </dev/null >/dev/null 2>&1; while [ ! -e /dev/shm/end ]; do sleep 0.1; done; exit 7");
        sb.detached(&b);
        checkpoint(sb, &b.id, &[]);
        b.write();
        let running = criu(sb, "restore", &["--bundle"]).arg(&b.dir).arg(&b.id).spawn();
        assert!(host::within(LONG, || sb.exec(&b.id, &["touch", "/dev/shm/end"]).code == 0), "it runs");
        running.wait(LONG).code_is(7);
        nothing_is_left(sb, &b);
    });
}

#[test]
fn what_cannot_be_saved_runs_on() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        // Its standard streams are files of the host.
        let b = sb.bundle().sh("n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done");
        let before = start_counter(sb, &b);
        let said = criu(sb, "checkpoint", &[]).arg(&b.id).run().fails();
        assert!(said.contains("Error (criu/") && said.contains("dump.log"), "{said}");
        assert_eq!(sb.status(&b.id), "running");
        wait_for_count(sb, &b.id, before + 1);
    });
}

#[test]
fn images_that_are_broken_leave_no_container() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let b = counter(sb);
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        fs::write(images(sb).join("pstree.img"), "no tree").expect("write");
        let said = restore(sb, &b, &["-d"]).fails();
        assert!(said.contains("Error (criu/") && said.contains("restore.log"), "{said}");
        nothing_is_left(sb, &b);
    });
}

#[test]
fn memory_that_was_saved_before_is_not_saved_again() {
    if skip_without(&[Need::Criu, Need::DirtyTracking]) {
        return;
    }
    case(|sb| {
        let b = counter(sb);
        let before = start_counter(sb, &b);
        let early = sb.host_dir("early");
        sb.call(&["checkpoint", "--pre-dump", "--image-path"]).arg(&early).arg(&b.id).deadline(LONG).run().ok();
        assert_eq!(sb.status(&b.id), "running");
        checkpoint(sb, &b.id, &["--parent-path", "../early"]);
        assert!(images(sb).join("parent").exists());
        restore(sb, &b, &["-d"]).ok();
        wait_for_count(sb, &b.id, before + 1);
    });
}

#[test]
fn a_joined_network_namespace_is_joined_again() {
    if skip_without(&[Need::Criu]) {
        return;
    }
    case(|sb| {
        let holder = sb.program("/usr/bin/unshare").args(["--net", "sleep", "1000"]).spawn();
        let path = format!("/proc/{}/ns/net", holder.pid());
        let own = fs::read_link("/proc/self/ns/net").expect("readlink");
        eventually("it has its own network", || fs::read_link(&path).is_ok_and(|link| link != own));
        let wanted = fs::read_link(&path).expect("readlink");
        let b = counter(sb).namespace("network", Some(&path));
        start_counter(sb, &b);
        checkpoint(sb, &b.id, &[]);
        restore(sb, &b, &["-d"]).ok();
        let pid = &sb.state(&b.id)["pid"];
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/net")).expect("readlink"), wanted);
    });
}

#[track_caller]
fn nothing_is_left(sb: &Sandbox, bundle: &Bundle) {
    sb.call(&["state", &bundle.id]).run().fails_saying("does not exist");
    let group = |mount: PathBuf| mount.join(&sb.name).join(&bundle.id);
    let left: Vec<_> = host::cgroup_mounts().into_iter().map(group).filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "groups stay: {left:?}");
}
