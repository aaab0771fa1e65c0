//! Terminals: the console socket, sizes, and a foreground terminal.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::time::Duration;

use integration::console::{Console, FdSocket};
use integration::host::eventually;
use integration::{Sandbox, case, json};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal of the host: what a person's terminal is to the runtime.
fn host_terminal() -> (Console, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let name = ptsname(&master, Vec::new()).expect("ptsname").into_string().expect("UTF-8");
    let slave = OpenOptions::new().read(true).write(true).open(&name).expect("open the slave");
    (Console { name, master }, slave.into())
}

fn set_size(console: &Console, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&console.master, size).expect("TIOCSWINSZ");
}

fn socket(sb: &Sandbox) -> FdSocket {
    FdSocket::bind(&sb.dir, "tty")
}

#[test]
fn create_sends_the_master_over_the_console_socket() {
    case(|sb| {
        let socket = socket(sb);
        let b = sb.bundle().set("/process/terminal", json!(true)).sh("tty; read line; echo \"got $line\"");
        sb.verb("create", &b, &["--console-socket", socket.text()]).run().ok();
        let console = socket.console();
        sb.start(&b.id).ok();
        let text = console.read_until("/dev/");
        assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
        console.type_in("word\n");
        console.read_until("got word");
    });
}

#[test]
fn the_terminal_is_controlling_and_init_leads_its_session() {
    case(|sb| {
        let socket = socket(sb);
        let b = sb
            .bundle()
            .set("/process/terminal", json!(true))
            .sh("echo to the tty > /dev/tty; cut -d' ' -f5,6 /proc/$$/stat; echo end");
        sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run().ok();
        let text = socket.console().read_until("end");
        assert!(text.contains("to the tty") && text.contains("1 1"), "{text}");
    });
}

#[test]
fn all_three_streams_are_the_terminal_and_dev_console_is_too() {
    case(|sb| {
        let socket = socket(sb);
        let script =
            "for n in 0 1 2; do [ -t $n ] && echo tty$n; done; stat -c %t:%T -L /proc/self/fd/0 /dev/console; echo end";
        let b = sb.bundle().set("/process/terminal", json!(true)).sh(script);
        sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run().ok();
        let text = socket.console().read_until("end");
        for n in 0..3 {
            assert!(text.contains(&format!("tty{n}")), "{text}");
        }
        assert_eq!(text.matches("88:0").count(), 2, "both are devpts 0: {text}");
    });
}

#[test]
fn the_console_size_of_the_config_is_set() {
    case(|sb| {
        let socket = socket(sb);
        let b = sb.bundle().set("/process/terminal", json!(true)).sh("stty size; echo end");
        let b = b.set("/process/consoleSize", json!({ "height": 31, "width": 117 }));
        sb.verb("create", &b, &["--console-socket", socket.text()]).run().ok();
        let console = socket.console();
        assert_eq!(console.size(), (31, 117));
        sb.start(&b.id).ok();
        assert!(console.read_until("end").contains("31 117"));
    });
}

#[test]
fn the_terminal_belongs_to_the_user_of_the_process() {
    case(|sb| {
        let socket = socket(sb);
        let b =
            sb.bundle().set("/process/terminal", json!(true)).set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let b = b.sh("stat -L -c %u /proc/self/fd/0; echo hi > /dev/tty; echo end");
        sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run().ok();
        let text = socket.console().read_until("end");
        assert!(text.contains("1000") && text.contains("hi"), "{text}");
    });
}

#[test]
fn a_terminal_in_a_user_namespace_works() {
    case(|sb| {
        let socket = socket(sb);
        let b = sb
            .bundle()
            .user_namespace()
            .set("/process/terminal", json!(true))
            .sh("tty; stat -L -c u%u /proc/self/fd/0; echo end");
        sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run().ok();
        let text = socket.console().read_until("end");
        assert!(text.contains("u0"), "{text}");
    });
}

#[test]
fn create_with_a_terminal_needs_a_console_socket() {
    case(|sb| {
        let b = sb.bundle().set("/process/terminal", json!(true));
        sb.create(&b).code_is(1).fails_saying("console socket");
    });
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    case(|sb| {
        let socket = socket(sb);
        let b = sb.bundle().args(&["true"]);
        sb.verb("create", &b, &["--console-socket", socket.text()]).run().code_is(1).fails_saying("console socket");
    });
}

#[test]
fn a_console_socket_that_nobody_listens_on_fails_the_create() {
    case(|sb| {
        let b = sb.bundle().set("/process/terminal", json!(true));
        let path = sb.dir.join("nobody");
        sb.verb("create", &b, &["--console-socket", path.to_str().expect("UTF-8")]).run().code_is(1).fails();
        sb.call(&["state", &b.id]).run().fails();
    });
}

#[test]
fn exec_with_tty_sends_its_own_master() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let socket = socket(sb);
        let options = ["--tty", "--detach", "--console-socket", socket.text()];
        sb.exec_with(&c.id, &options, &["sh", "-c", "tty; [ -t 2 ] && echo yes; read x; echo end"]).ok();
        let console = socket.console();
        let text = console.read_until("yes");
        assert!(text.contains("/dev/pts/"), "{text}");
        console.type_in("\n");
        console.read_until("end");
    });
}

#[test]
fn exec_with_a_process_file_has_its_console_size() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let mut process = integration::bundle::default_spec()["process"].clone();
        process["terminal"] = json!(true);
        process["consoleSize"] = json!({ "height": 20, "width": 66 });
        process["args"] = json!(["sh", "-c", "stty size; echo end"]);
        let file = sb.dir.join("process.json");
        std::fs::write(&file, process.to_string()).expect("write");
        let socket = socket(sb);
        let options = ["-d", "--console-socket", socket.text(), "--process", file.to_str().expect("UTF-8")];
        sb.exec_with(&c.id, &options, &[]).ok();
        assert!(socket.console().read_until("end").contains("20 66"));
    });
}

#[test]
fn run_in_the_foreground_with_a_terminal_copies_both_ways() {
    case(|sb| {
        let (terminal, slave) = host_terminal();
        set_size(&terminal, 24, 90);
        let b = sb.bundle().set("/process/terminal", json!(true)).sh("tty; read x; echo \"got $x\"; stty size; exit 4");
        let running = sb.verb("run", &b, &[]).stdin(slave).spawn();
        eventually("it asks", || running.stdout().contains("/dev/"));
        terminal.type_in("typed\r");
        let out = running.wait(Duration::from_secs(20));
        out.code_is(4);
        assert!(out.stdout.contains("got typed") && out.stdout.contains("24 90"), "{out:#?}");
    });
}

#[test]
fn a_resize_reaches_the_container() {
    case(|sb| {
        let (terminal, slave) = host_terminal();
        set_size(&terminal, 24, 80);
        let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done";
        let b = sb.bundle().set("/process/terminal", json!(true)).sh(script);
        let mut running = sb.verb("run", &b, &[]).stdin(slave).spawn();
        eventually("it is ready", || running.stdout().contains("ready"));
        set_size(&terminal, 40, 132);
        let pid = rustix::process::Pid::from_raw(running.pid()).expect("pid");
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("kill");
        eventually("the new size", || running.stdout().contains("40 132"));
        sb.delete_force(&b.id).ok();
        eventually("the runtime ends", || running.ended());
    });
}

#[test]
fn exec_in_the_foreground_with_a_terminal_works() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        let (terminal, slave) = host_terminal();
        let running =
            sb.exec_call(&c.id, &["-t"], &["sh", "-c", "tty; read x; echo \"got $x\"; exit 9"]).stdin(slave).spawn();
        eventually("it has a terminal", || running.stdout().contains("/dev/pts/"));
        terminal.type_in("word\r");
        let out = running.wait(Duration::from_secs(20));
        out.code_is(9);
        assert!(out.stdout.contains("got word"), "{out:#?}");
    });
}

#[test]
fn the_terminal_of_the_caller_is_not_the_containers() {
    case(|sb| {
        let (terminal, slave) = host_terminal();
        let b = sb.bundle().set("/process/terminal", json!(true)).sh("stat -L -c %d:%i /proc/self/fd/0; echo end");
        let running = sb.verb("run", &b, &[]).stdin(slave).spawn();
        let out = running.wait(Duration::from_secs(20));
        use std::os::unix::fs::MetadataExt;
        let own = std::fs::metadata(&terminal.name).expect("stat");
        assert!(!out.ok().contains(&format!("{}:{}", own.dev(), own.ino())), "{out:#?}");
    });
}

/// Its root has no devpts, and there is no mount namespace to mount one in.
#[test]
fn a_terminal_without_a_mount_namespace_is_one_of_the_hosts() {
    case(|sb| {
        let socket = socket(sb);
        let b = sb.bundle().without_namespace("mount").set("/mounts", json!([])).set("/process/terminal", json!(true));
        let b = b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths").set("/root/readonly", json!(false));
        let b = b.set("/process/consoleSize", json!({ "height": 33, "width": 44 }));
        let b = b.sh("test -t 0 && test -t 1 && test -t 2 && stty size; echo end");
        sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run().ok();
        let text = socket.console().read_until("end");
        assert!(text.contains("33 44"), "{text}");
    });
}
