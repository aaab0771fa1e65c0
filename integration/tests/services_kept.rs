//! `skepd`: services that stay up, whatever is killed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{alive, eventually, within};
use integration::requires::Need;
use integration::runtime::Running;
use integration::{Call, Output, Sandbox, Value, case_with};

/// A supervisor in a sandbox, with a folder of definitions, a store and a socket of its own.
struct Supervisor<'a> {
    sb: &'a Sandbox,
    d: Defined<'a>,
    program: PathBuf,
    state: PathBuf,
    runs: RefCell<Option<Running>>,
}

impl<'a> Supervisor<'a> {
    fn new(sb: &'a Sandbox) -> Supervisor<'a> {
        let program = sb.runtime.path.with_file_name("skepd");
        let state = sb.dir.join("kept");
        Supervisor { sb, d: Defined::new(sb), program, state, runs: RefCell::new(None) }
    }

    fn prepare(&self, args: &[&str]) -> Call {
        let socket = self.sb.dir.join("skepd.sock");
        let call = self.sb.program(text(&self.program)).args(args).env("SKEPD_SOCKET", text(&socket));
        let call = call.env("SKEPD_STATE", text(&self.state)).env("SKEPD_ROOT", text(&self.sb.root));
        let call = call.env("SKEP_DATA", text(&self.d.data)).env("SKEP_PROGRAM", text(&self.sb.runtime.path));
        call.env("SKEPD_SERVICES", text(&self.sb.dir.join("services")))
    }

    /// Starts it, and waits until it answers.
    #[track_caller]
    fn run(&self, options: &[&str]) {
        *self.runs.borrow_mut() = Some(self.prepare(&[&["run"], options].concat()).spawn());
        let answers = || {
            let ended = self.runs.borrow_mut().as_mut().is_some_and(Running::ended);
            assert!(!ended, "{}", self.runs.borrow().as_ref().map(Running::stderr).unwrap_or_default());
            self.svc(&["ls"]).code == 0
        };
        eventually("skepd answers", answers);
    }

    /// SIGKILL.
    fn kill(&self) {
        if let Some(mut running) = self.runs.borrow_mut().take() {
            running.kill();
        }
    }

    /// SIGTERM, and its end.
    #[track_caller]
    fn end(&self) {
        let running = self.runs.borrow_mut().take().expect("it runs");
        sys::signal::kill(running.pid(), sys::signal::SIGTERM).expect("kill");
        running.wait(Duration::from_secs(30)).ok();
    }

    fn svc(&self, args: &[&str]) -> Output {
        self.prepare(&[&["svc"], args].concat()).run()
    }

    fn name(&self, suffix: &str) -> String {
        self.d.name(suffix)
    }

    /// Writes a definition of a service whose replicas run a command of the shell.
    fn write(&self, suffix: &str, script: &str, more: &str) -> PathBuf {
        let name = self.name(suffix);
        let (base, parent) = (self.d.base(), &self.sb.name);
        let definition = format!(
            "name = \"{name}\"\n{more}\n[container]\nfrom = {base:?}\ncommand = [\"sh\", \"-c\", {script:?}]\n\
             options = [\"--cgroup-parent\", \"/{parent}\"]\n[stop]\ntimeout = \"0ms\"\n"
        );
        let path = self.sb.dir.join(format!("{suffix}.toml"));
        fs::write(&path, definition).expect("write a definition");
        path
    }

    #[track_caller]
    fn apply(&self, suffix: &str, script: &str, more: &str) -> String {
        self.svc(&["apply", text(&self.write(suffix, script, more))]).ok();
        self.name(suffix)
    }

    #[track_caller]
    fn status(&self, name: &str) -> Value {
        let output = self.svc(&["status", name, "-o", "json"]);
        serde_json::from_str::<Value>(&output.stdout).expect("JSON")[0].clone()
    }

    #[track_caller]
    fn await_up(&self, name: &str) {
        eventually(&format!("{name} is up"), || self.status(name)["overall"] == "up");
    }

    #[track_caller]
    fn pids(&self, name: &str) -> Vec<i32> {
        let status = self.status(name);
        let replicas = status["replicas"].as_array().expect("a list");
        replicas.iter().filter_map(|replica| replica["pid"].as_i64()).map(|pid| pid as i32).collect()
    }

    /// What was done and has happened, as `what name.index`.
    fn audit(&self) -> Vec<String> {
        let lines = self.svc(&["audit"]).ok();
        lines.lines().map(render).collect()
    }
}

fn render(line: &str) -> String {
    let entry: Value = serde_json::from_str(line).expect("JSON");
    let of = entry["replica"].as_u64().map(|index| format!(".{index}")).unwrap_or_default();
    format!("{} {}{of}", entry["what"].as_str().expect("text"), entry["service"].as_str().expect("text"))
}

fn sigkill(pid: i32) {
    sys::signal::kill(pid, sys::signal::SIGKILL).expect("kill a replica");
}

fn flex(count: u32, more: &str) -> String {
    format!("topology = \"flex\"\nflex = {{ min = 1, target = {count}, max = 40 }}\n{more}")
}

const EAGER: &str = "restart = { immediate = 1000, burst = 1000, window = \"1m\" }";

#[test]
fn sleepers_that_are_killed_come_back() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        s.run(&["--on-exit", "stop"]);
        let name = s.apply("many", "exec sleep 1000", &flex(20, EAGER));
        s.await_up(&name);
        for round in 0..6usize {
            let before = s.pids(&name);
            assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 20);
            let chosen: Vec<i32> = before.iter().skip(round % 3).step_by(3).copied().collect();
            chosen.iter().for_each(|pid| sigkill(*pid));
            eventually("others run", || {
                let now = s.pids(&name);
                s.status(&name)["overall"] == "up" && chosen.iter().all(|pid| !now.contains(pid))
            });
            let kept = before.iter().filter(|pid| !chosen.contains(pid)).all(|pid| s.pids(&name).contains(pid));
            assert!(kept, "others were left alone");
        }
        let last = s.status(&name)["replicas"][0]["last"].clone();
        assert_eq!(last, "killed by SIGKILL");
        s.end();
        let listed: Value = sb.call(&["list", "--format", "json"]).run().json();
        assert_eq!(listed.as_array().map_or(0, Vec::len), 0, "{listed}");
    });
}

#[test]
fn a_supervisor_that_is_killed_adopts_what_runs() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        s.run(&[]);
        let name = s.apply("kept", "exec sleep 1000", &flex(3, ""));
        s.await_up(&name);
        s.svc(&["scale", &name, "4"]).ok();
        s.await_up(&name);
        let before = s.pids(&name);
        s.kill();
        assert!(before.iter().all(|pid| alive(*pid)), "they run without it");
        // One that dies meanwhile is started again.
        sigkill(before[1]);
        s.run(&[]);
        s.await_up(&name);
        let after = s.pids(&name);
        assert_eq!((after.len(), after[0], after[2], after[3]), (4, before[0], before[2], before[3]));
        assert_ne!(after[1], before[1]);
        // The end is one to leave them, too.
        s.end();
        assert!(after.iter().all(|pid| alive(*pid)));
        s.run(&["--on-exit", "stop"]);
        assert_eq!(s.pids(&name), after);
        s.end();
        assert!(within(Duration::from_secs(5), || after.iter().all(|pid| !alive(*pid))));
    });
}

#[test]
fn what_ends_again_and_again_fails_with_its_reason() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        s.run(&["--on-exit", "stop"]);
        let rule = "restart = { immediate = 10, burst = 2, window = \"10m\" }";
        let name = s.apply("loop", "sleep 0.3; exit 3", rule);
        eventually("it has failed", || s.status(&name)["overall"] == "failed");
        let why = s.svc(&["why", &name]).ok();
        assert!(why.contains("exited with 3, after 2 restarts within 10m"), "{why}");
        let starts = || s.audit().iter().filter(|line| **line == format!("start {name}.0")).count();
        assert_eq!(starts(), 3);
        assert_eq!(s.svc(&["status", &name]).code, 1);
        // Neither a kill of skepd nor time makes it start again: somebody has to say so.
        s.kill();
        s.run(&["--on-exit", "stop"]);
        assert_eq!((s.status(&name)["overall"].clone(), starts()), ("failed".into(), 3));
        s.svc(&["clear", &name]).ok();
        eventually("it was started again", || starts() > 3);
        s.svc(&["stop", &name]).ok();
        s.end();
    });
}

#[test]
fn a_rolling_restart_takes_one_after_the_other() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        s.run(&["--on-exit", "stop"]);
        let ready = "ready = { exec = [\"test\", \"-e\", \"/tmp/ready\"], interval = \"50ms\" }";
        let name = s.apply("roll", "sleep 0.2; touch /tmp/ready; exec sleep 1000", &flex(3, ready));
        s.await_up(&name);
        let before = s.pids(&name);
        s.svc(&["restart", &name]).ok();
        eventually("all are others", || {
            s.status(&name)["overall"] == "up" && s.pids(&name).iter().all(|pid| !before.contains(pid))
        });
        // Between two stops the one before was ready again.
        let audit = s.audit();
        let from = audit.iter().position(|line| line.starts_with("restart ")).expect("the command");
        let marks = audit[from..].iter().filter(|line| line.starts_with("stop ") || line.starts_with("ready "));
        let marks: Vec<&str> = marks.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(marks, ["stop", "ready", "stop", "ready", "stop", "ready"]);
        s.svc(&["scale", &name, "1"]).ok();
        eventually("one is left", || s.pids(&name).len() == 1 && s.status(&name)["overall"] == "up");
        s.end();
    });
}

#[test]
fn services_start_and_stop_in_their_order() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        s.run(&["--on-exit", "stop"]);
        let db = s.name("db");
        let web = s.apply("web", "exec sleep 1000", &format!("depends = [{db:?}]"));
        assert!(s.svc(&["why", &web]).ok().contains("not defined"));
        s.apply("db", "exec sleep 1000", "");
        s.await_up(&web);
        s.svc(&["stop", &db]).fails_saying("stop that first");
        s.svc(&["freeze", &web]).ok();
        let before = s.pids(&web);
        sigkill(before[0]);
        eventually("it is down", || s.status(&web)["replicas"][0]["phase"] == "down");
        s.svc(&["thaw", &web]).ok();
        s.await_up(&web);
        s.end();
        let audit: Vec<String> = s.prepare(&["export"]).run().ok().lines().filter_map(audit_line).collect();
        let stops: Vec<&String> = audit.iter().filter(|line| line.starts_with("stop")).collect();
        let of = |what: &str, name: &str| format!("{what} {name}.0");
        let expected = [of("stop", &web), of("stopped", &web), of("stop", &db), of("stopped", &db)];
        assert_eq!(stops, expected.iter().collect::<Vec<_>>());
    });
}

/// A line of an export, if it is one of the audit log.
fn audit_line(line: &str) -> Option<String> {
    let change: Value = serde_json::from_str(line).expect("JSON");
    change.get("audit").map(|entry| render(&entry.to_string()))
}

#[test]
fn a_full_disk_keeps_what_runs_and_refuses_what_is_new() {
    case_with(&[Need::Skep, Need::Root], |sb| {
        let s = Supervisor::new(sb);
        fs::create_dir(&s.state).expect("make a folder");
        mount_tmpfs(&s.state, "size=4m");
        s.run(&["--on-exit", "stop"]);
        let name = s.apply("full", "exec sleep 1000", &flex(2, EAGER));
        s.await_up(&name);
        let ballast = s.state.join("ballast");
        let filled = sb.program("dd").args(["if=/dev/zero", &format!("of={}", text(&ballast)), "bs=4k"]).run();
        filled.fails();

        let (mut refused, mut scale) = (false, 2);
        // The file has room of its own for a while.
        for number in 0..3000 {
            scale = 2 + number % 2;
            let output = s.svc(&["scale", &name, &scale.to_string()]);
            if output.code != 0 {
                assert!(output.fails().contains("nothing was changed"), "{}", output.fails());
                refused = true;
                break;
            }
        }
        assert!(refused, "a full disk was never told");
        assert_eq!(s.status(&name)["scale"], 5 - scale, "what was refused has not happened");
        eventually("it is up", || s.status(&name)["overall"] == "up");
        let before = s.pids(&name);
        sigkill(before[0]);
        eventually("another runs", || s.status(&name)["overall"] == "up" && s.pids(&name)[0] != before[0]);

        fs::remove_file(&ballast).expect("remove the ballast");
        s.svc(&["scale", &name, "2"]).ok();
        s.end();
        rustix::mount::unmount(&s.state, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    });
}

fn mount_tmpfs(at: &Path, options: &str) {
    let options = std::ffi::CString::new(options).expect("no nul");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", at, "tmpfs", flags, options.as_c_str()).expect("mount a tmpfs");
}

#[test]
fn what_was_answered_survives_a_kill_at_any_moment() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        s.run(&["--on-exit", "stop"]);
        let name = s.apply("posted", "exec sleep 1000", &flex(1, EAGER));
        s.await_up(&name);
        let mut scale = 1;
        for round in 0..12u32 {
            let wanted = ["2", "3", "1"][round as usize % 3];
            let calls: Vec<Running> = (0..2).map(|_| s.prepare(&["svc", "scale", &name, wanted]).spawn()).collect();
            std::thread::sleep(Duration::from_millis(u64::from(round * 7 % 40)));
            s.kill();
            let codes: Vec<i32> = calls.into_iter().map(|call| call.wait(Duration::from_secs(10)).code).collect();
            s.run(&["--on-exit", "stop"]);
            let now = s.status(&name)["scale"].as_u64().expect("a number");
            let asked: u64 = wanted.parse().expect("a number");
            assert!(
                now == asked || (now == scale && !codes.contains(&0)),
                "{now}: was {scale}, {wanted} got {codes:?}"
            );
            scale = now;
        }
        s.await_up(&name);
        let pids = s.pids(&name);
        assert_eq!(pids.len() as u64, scale);
        let listed: Value = sb.call(&["list", "--format", "json"]).run().json();
        let running: Vec<i64> = listed.as_array().expect("a list").iter().filter_map(|c| c["pid"].as_i64()).collect();
        assert_eq!(running.len() as u64, scale, "{listed}");
        s.end();
    });
}

#[test]
fn a_definition_that_makes_no_sense_is_refused_whole() {
    case_with(&[Need::Skep], |sb| {
        let s = Supervisor::new(sb);
        let path = s.write("bad", "true", "topology = \"ring\"\ncolour = 1");
        let told = s.prepare(&["check", text(&path)]).run();
        assert_eq!(told.code, 1);
        for finding in ["topology: \"ring\" is none", "colour: is no key that is known here"] {
            assert!(told.stdout.contains(finding), "{}", told.stdout);
        }
        s.run(&[]);
        assert!(s.svc(&["apply", text(&path)]).fails().contains("colour"));
        assert_eq!(s.svc(&["ls", "-o", "json"]).ok().trim(), "[]");
        s.end();
    });
}
