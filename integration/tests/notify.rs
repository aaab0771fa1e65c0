//! Readiness (sd_notify(3)): a container tells the supervisor of whoever started the runtime.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use integration::requires::PERL;
use integration::sandbox::read_pid;
use integration::{Bundle, Call, Sandbox, case, case_with, json};
use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands in for systemd.
struct Supervisor {
    socket: UnixDatagram,
    name: String,
}

impl Supervisor {
    fn at(sb: &Sandbox) -> Supervisor {
        let path = sb.dir.join("supervisor");
        let name = path.to_str().expect("UTF-8").to_owned();
        Supervisor::new(UnixDatagram::bind(path).expect("bind"), name)
    }

    fn new(socket: UnixDatagram, name: String) -> Supervisor {
        socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        Supervisor { socket, name }
    }

    /// All lines that come until one begins with `last`.
    fn lines_until(&self, last: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while !lines.iter().any(|line| line.starts_with(last)) {
            let mut buffer = [0; 4096];
            let got = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no {last} after {lines:?}: {e}"));
            lines.extend(String::from_utf8_lossy(&buffer[..got]).lines().map(str::to_owned));
        }
        lines
    }

    fn call(&self, call: Call) -> Call {
        call.env("NOTIFY_SOCKET", &self.name)
    }
}

/// A bundle whose program waits for /data/go, sends each message, prints its variable and goes on.
fn speaking(sb: &Sandbox, messages: &[&str]) -> Bundle {
    telling(sb, messages, "print \"told $ENV{NOTIFY_SOCKET}\\n\"; sleep 1000")
}

/// A bundle whose program waits for /data/go, sends each message, and does this.
fn telling(sb: &Sandbox, messages: &[&str], then: &str) -> Bundle {
    let list: Vec<_> = messages.iter().map(|message| format!("\"{message}\"")).collect();
    let script = format!(
        "use Socket; $| = 1; select undef, undef, undef, 0.01 until -e '/data/go'; \
         socket(S, PF_UNIX, SOCK_DGRAM, 0) && connect(S, sockaddr_un($ENV{{NOTIFY_SOCKET}})) or die \"connect: $!\"; \
         for my $m ({}) {{ send(S, $m, 0) or die \"send: $!\" }} {then}",
        list.join(", ")
    );
    let b = sb.bundle().with_perl().folder("data").bind(&sb.host_dir("data"), "/data", &["bind"]);
    b.args(&["/usr/bin/perl", "-e", &script])
}

fn go(sb: &Sandbox) {
    fs::write(sb.host_dir("data").join("go"), "").expect("write");
}

#[test]
fn a_foreground_run_passes_on_what_the_program_says() {
    case_with(&[PERL], |sb| {
        let supervisor = Supervisor::at(sb);
        let b = speaking(sb, &["STATUS=soon\\nMAINPID=1\\nREADY=1", "FDSTORE=1", "WATCHDOG=1"]);
        go(sb);
        let mut run = supervisor.call(sb.verb("run", &b, &[])).spawn();
        let lines = supervisor.lines_until("MAINPID=");
        assert_eq!(lines, ["STATUS=soon".to_owned(), "READY=1".to_owned(), format!("MAINPID={}", run.pid())]);
        assert_eq!(supervisor.lines_until("WATCHDOG"), ["WATCHDOG=1"]);
        assert!(!run.ended());
        sb.kill(&b.id, "KILL").ok();
        run.wait(PATIENCE).code_is(137);
        assert!(!sb.root.join(&b.id).exists());
    });
}

#[test]
fn a_detached_run_lasts_until_the_program_is_ready() {
    case_with(&[PERL], |sb| {
        let supervisor = Supervisor::at(sb);
        let b = speaking(sb, &["STATUS=soon", "READY=1"]);
        let file = sb.dir.join("pid");
        let mut run = supervisor.call(sb.verb("run", &b, &["-d", "--pid-file", file.to_str().expect("UTF-8")])).spawn();
        integration::host::eventually("it is made", || file.exists());
        sb.wait_status(&b.id, "running");
        assert!(!run.ended(), "it is not ready yet");
        go(sb);
        let lines = supervisor.lines_until("BARRIER=1");
        let pid = read_pid(&file);
        assert_eq!(lines, ["STATUS=soon", "READY=1", &format!("MAINPID={pid}"), "BARRIER=1"]);
        run.wait(PATIENCE).ok();
        assert_eq!(sb.status(&b.id), "running");
    });
}

#[test]
fn start_lasts_until_the_program_is_ready() {
    case_with(&[PERL], |sb| {
        let supervisor = Supervisor::at(sb);
        let b = speaking(sb, &["READY=1"]);
        supervisor.call(sb.verb("create", &b, &[])).run().ok();
        let mut start = supervisor.call(sb.call(&["start", &b.id])).spawn();
        sb.wait_status(&b.id, "running");
        assert!(!start.ended(), "it is not ready yet");
        go(sb);
        let pid = sb.state(&b.id)["pid"].clone();
        assert_eq!(supervisor.lines_until("BARRIER=1"), ["READY=1", &format!("MAINPID={pid}"), "BARRIER=1"]);
        start.wait(PATIENCE).ok();
        sb.delete_force(&b.id).ok();
        assert!(!sb.root.join(&b.id).exists());
    });
}

#[test]
fn what_a_program_says_right_before_its_end_is_heard() {
    case_with(&[PERL], |sb| {
        let supervisor = Supervisor::at(sb);
        let told = ["STATUS=last words", "STATUS=really", "STOPPING=1"];
        let b = telling(sb, &told, "");
        let file = sb.dir.join("pid");
        let options = ["--pid-file", file.to_str().expect("UTF-8")];
        let run = supervisor.call(sb.verb("run", &b, &options)).spawn();
        integration::host::eventually("it is made", || file.exists());
        sb.wait_status(&b.id, "running");
        let runtime = Pid::from_raw(run.pid()).expect("a pid");
        // It sees the messages and the end at once.
        kill_process(runtime, Signal::STOP).expect("stop the runtime");
        go(sb);
        sb.wait_status(&b.id, "stopped");
        kill_process(runtime, Signal::CONT).expect("let the runtime go on");
        run.wait(PATIENCE).ok();
        assert_eq!(supervisor.lines_until("STOPPING"), told);
        let heard = |b: &Bundle, call: Call| {
            let call = supervisor.call(call).spawn();
            assert_eq!(supervisor.lines_until("BARRIER=1")[..2], ["STATUS=soon", "READY=1"]);
            call.wait(PATIENCE).ok();
            sb.delete_force(&b.id).ok();
        };
        let b = telling(sb, &["STATUS=soon", "READY=1"], "");
        heard(&b, sb.verb("run", &b, &["-d"]));
        supervisor.call(sb.verb("create", &b, &[])).run().ok();
        heard(&b, sb.call(&["start", &b.id]));
    });
}

#[test]
fn a_program_that_ends_without_a_word_is_not_waited_for() {
    case(|sb| {
        let supervisor = Supervisor::at(sb);
        let b = sb.bundle().args(&["sleep", "0.2"]);
        supervisor.call(sb.verb("run", &b, &["-d"])).run().ok();
        sb.wait_status(&b.id, "stopped");
    });
}

/// Whoever the program is, the socket is open to it.
#[test]
fn a_user_of_a_user_namespace_can_tell() {
    case_with(&[PERL], |sb| {
        let name = format!("supervisor-{}", sb.name);
        let address = SocketAddr::from_abstract_name(&name).expect("an abstract name");
        let supervisor = Supervisor::new(UnixDatagram::bind_addr(&address).expect("bind"), format!("@{name}"));
        let b = speaking(sb, &["READY=1"]).user_namespace().set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        go(sb);
        let mut run = supervisor.call(sb.verb("run", &b, &[])).spawn();
        assert_eq!(supervisor.lines_until("MAINPID=")[0], "READY=1");
        integration::host::eventually("it prints", || run.stdout().contains("told /run/notify/"));
        run.kill();
        sb.delete_force(&b.id).ok();
    });
}

#[test]
fn without_a_supervisor_nothing_is_mounted() {
    case(|sb| {
        let b = sb.bundle().sh("ls -d /run/notify; echo \"<$NOTIFY_SOCKET>\"");
        assert_eq!(sb.run(&b).stdout.trim(), "<>");
    });
}

#[test]
fn a_definition_with_a_socket_of_its_own_is_left_alone() {
    case(|sb| {
        let supervisor = Supervisor::at(sb);
        let b =
            sb.bundle().push("/process/env", json!("NOTIFY_SOCKET=/own")).sh("ls -d /run/notify; echo $NOTIFY_SOCKET");
        assert_eq!(supervisor.call(sb.verb("run", &b, &[])).run().stdout.trim(), "/own");
    });
}

#[test]
fn a_supervisor_that_is_not_there_is_a_warning() {
    case_with(&[PERL], |sb| {
        let nobody = Path::new("/nonexistent/supervisor").to_str().expect("UTF-8");
        let b = speaking(sb, &["READY=1"]);
        go(sb);
        let mut run = sb.verb("run", &b, &[]).env("NOTIFY_SOCKET", nobody).spawn();
        integration::host::eventually("it says why", || run.stderr().contains("cannot be passed on"));
        integration::host::eventually("it goes on", || run.stdout().contains("told /run/notify/notify.sock"));
        run.kill();
        sb.delete_force(&b.id).ok();
    });
}
