//! What is around a container that is saved and restored: its terminal, hooks, networks, and those who wait for it.

use std::fs;

use integration::console::FdSocket;
use integration::criu::{LONG, checkpoint, counter, criu, nothing_is_left, restore, start_counter, wait_for_count};
use integration::host::{self, eventually};
use integration::requires::Need;
use integration::{case_with, json};

#[test]
fn a_container_may_be_left_running() {
    case_with(&[Need::Criu], |sb| {
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
fn a_terminal_comes_back_through_the_console_socket() {
    case_with(&[Need::Criu], |sb| {
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
fn hooks_run_and_the_loopback_device_is_up() {
    case_with(&[Need::Criu], |sb| {
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
    case_with(&[Need::Criu], |sb| {
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
    case_with(&[Need::Criu], |sb| {
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
fn a_joined_network_namespace_is_joined_again() {
    case_with(&[Need::Criu], |sb| {
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
