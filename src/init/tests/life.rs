//! The program as it is: what it starts, reaps, passes on and ends with.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

const INIT: &str = env!("CARGO_BIN_EXE_skep-init");

fn run(args: &[&str]) -> Output {
    Command::new(INIT).args(args).stdin(Stdio::null()).output().expect("run skep-init")
}

fn code(args: &[&str]) -> i32 {
    run(args).status.code().expect("it ends by itself")
}

#[test]
fn it_ends_as_its_program_does() {
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["--", "sh", "-c", "exit 7"]), 7);
    assert_eq!(code(&["sh", "-c", "kill -KILL $$"]), 137);
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
    assert_eq!(String::from_utf8_lossy(&run(&["echo", "--", "x"]).stdout), "-- x\n");
}

#[test]
fn what_cannot_run_is_told() {
    assert_eq!(code(&["/no/such/program"]), 127);
    assert_eq!(code(&["/etc/passwd"]), 126);
    assert_eq!(code(&[]), 125);
    let said = run(&["/no/such/program"]).stderr;
    assert!(String::from_utf8_lossy(&said).starts_with("skep-init: cannot run /no/such/program"));
}

/// Starts a script that says when it is ready.
fn start(script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut init = Command::new(INIT)
        .args(["sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run skep-init");
    let mut lines = BufReader::new(init.stdout.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n");
    (init, lines)
}

#[test]
fn signals_are_passed_on() {
    for (signal, number) in [("TERM", 15), ("HUP", 1), ("USR1", 10), ("WINCH", 28), ("RTMIN+3", 37)] {
        let script = format!("trap 'exit {number}' {number}; echo ready; while :; do sleep 0.05; done");
        let (mut init, _lines) = start(&script);
        let pid = init.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("run kill");
        assert!(sent.success(), "{signal}");
        assert_eq!(init.wait().expect("wait").code(), Some(number), "{signal}");
    }
}

#[test]
fn a_signal_that_comes_first_is_passed_on() {
    // Its program is a while in being found.
    for _ in 0..20 {
        let mut init = Command::new(INIT).args(["sh", "-c", "exec sleep 10"]).spawn().expect("run skep-init");
        let pid = init.id().to_string();
        let takes_all = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("SigBlk:\tf"))
        };
        while !takes_all() {}
        let sent = Command::new("kill").args(["-s", "USR1", &pid]).status().expect("run kill");
        assert!(sent.success());
        assert_eq!(init.wait().expect("wait").code(), Some(128 + 10));
    }
}

#[test]
fn the_program_begins_with_no_signal_blocked() {
    let said = run(&["grep", "SigBlk", "/proc/self/status"]).stdout;
    assert_eq!(String::from_utf8_lossy(&said), "SigBlk:\t0000000000000000\n");
}

#[test]
fn orphans_are_reaped() {
    // Each grandchild loses its parent, and ends soon after.
    let script = "for i in 1 2 3 4 5; do (sleep 0.1 & echo $! >&3); done 3>&1 >/dev/null | sort >/dev/null; \
                  echo ready; sleep 0.5; ps -o stat= --ppid $PPID | grep -c ^Z; exit 0";
    let (mut init, mut lines) = start(script);
    let mut zombies = String::new();
    lines.read_line(&mut zombies).expect("read");
    assert_eq!(zombies, "0\n");
    assert_eq!(init.wait().expect("wait").code(), Some(0));
}
