//! What a container loses when its monitor dies: nothing, as long as the spare lives.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{eventually, within};
use integration::requires::Need;
use integration::runtime::wait_pid;
use integration::{Running, case_with};

/// The monitor of a container by the file of its lock, and its spare.
fn both(d: &Defined<'_>, name: &str) -> (i32, Vec<i32>) {
    let runs = fs::read_dir(d.folder(name).join("own")).expect("read own").filter_map(Result::ok);
    let pid = |path: &Path| fs::read_to_string(path.join("monitor")).ok()?.trim().parse().ok();
    let pids: Vec<i32> = runs.filter_map(|entry| pid(&entry.path())).collect();
    assert_eq!(pids.len(), 1, "monitors of {name}");
    let is_of = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"skep-monitor"))
            && words.next() == Some(name.as_bytes())
            && *pid != pids[0]
    };
    let entries = fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
    (pids[0], entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_of).collect())
}

/// Kills one, and waits until there are two again.
fn kill_one(d: &Defined<'_>, name: &str, pid: i32) {
    sys::signal::kill(pid, sys::signal::SIGKILL).expect("kill");
    assert!(wait_pid(pid, Duration::from_secs(10)), "{pid} lives on");
    eventually("there are a monitor and a spare again", || {
        let (monitor, spares) = both(d, name);
        monitor != pid && Path::new(&format!("/proc/{monitor}")).exists() && spares.len() == 1
    });
}

/// Somebody at the console, whose input is a pipe.
fn join(d: &Defined<'_>, name: &str) -> (Running, OwnedFd) {
    let (theirs, input) = rustix::pipe::pipe().expect("make a pipe");
    (d.prepare(&["console", name]).stdin(theirs).deadline(Duration::from_secs(120)).spawn(), input)
}

fn type_in(input: &OwnedFd, text: &str) {
    rustix::io::write(input, text.as_bytes()).expect("write");
}

/// A shell that answers each line, and counts them.
const ANSWERS: &str = "n=0; while read line; do n=$((n+1)); echo answer $n: $line; [ \"$line\" = end ] && exit 4; done";

#[test]
fn a_terminal_outlives_its_monitors() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("tty");
        d.create(&name, text(&d.base()), &["--tty"], &["sh", "-c", ANSWERS]).ok();
        d.call(&["start", &name]).ok();
        let (joined, input) = join(&d, &name);
        type_in(&input, "one\n");
        eventually("it answers", || joined.stdout().contains("answer 1: one"));
        let pid = d.listed(&name)["pid"].clone();
        for (count, kind) in ["monitor", "spare", "monitor", "spare", "monitor"].into_iter().enumerate() {
            let (monitor, spares) = both(&d, &name);
            assert_eq!(spares.len(), 1);
            kill_one(&d, &name, if kind == "monitor" { monitor } else { spares[0] });
            // Who was joined before is so again, and has not noticed.
            type_in(&input, "again\n");
            let answer = format!("answer {}: again", count + 2);
            assert!(within(Duration::from_secs(20), || joined.stdout().contains(&answer)), "{:?}", joined.stdout());
            assert_eq!(joined.stdout().matches("answer 1:").count(), 1, "shown twice: {:?}", joined.stdout());
        }
        assert_eq!(
            (&d.listed(&name)["pid"], &d.call(&["info", &name, "-o", "json"]).json()["monitor"]),
            (&pid, &"running".into())
        );
        // Who joins now sees what was before.
        let (other, _input) = join(&d, &name);
        eventually("the end of the log is shown", || other.stdout().contains("answer 6: again"));
        type_in(&input, "end\n");
        assert_eq!(d.call(&["wait", &name, "--time", "60"]).ok(), "exited with 4");
        let log = d.log(&name);
        assert_eq!(log.matches("answer").count(), 7, "{log:?}");
        eventually("neither is left", || {
            let entries = fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
            entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).all(|line| {
                let mut words = line.split(|byte| *byte == 0);
                !words.next().is_some_and(|word| word.ends_with(b"skep-monitor"))
                    || words.next() != Some(name.as_bytes())
            })
        });
    });
}

/// The first death of a monitor costs nothing on any kernel: the process becomes the spare's child.
#[test]
fn the_end_is_known_and_the_policy_followed_after_a_monitors_death() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("end");
        let script = "n=$(cat /n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /n; \
                      while [ ! -e /stop$n ]; do sleep 0.02; done; echo run $n; [ $n = 3 ] && exit 0; exit $n";
        d.create(&name, text(&d.base()), &["--restart", "on-failure"], &["sh", "-c", script]).ok();
        let mut following = d.prepare(&["start", "--foreground", &name]).deadline(Duration::from_secs(90)).spawn();
        for run in 1..=3 {
            eventually("it runs", || {
                fs::read_to_string(d.folder(&name).join("own/upper/n")).unwrap_or_default().trim() == run.to_string()
            });
            eventually("it is listed", || d.listed(&name)["state"] == "running");
            let (monitor, _) = both(&d, &name);
            kill_one(&d, &name, monitor);
            sb.exec_sh(&name, &format!("touch /stop{run}")).ok();
            if run == 1 {
                // Of the first run, which it has followed past a death.
                assert!(within(Duration::from_secs(30), || following.ended()), "it goes on");
            }
        }
        assert_eq!(d.call(&["wait", &name, "--time", "60"]).ok(), "exited with 0");
        let ended = following.wait(Duration::from_secs(30));
        ended.code_is(1);
        assert_eq!(ended.stdout_now(), "run 1\n");
        assert_eq!((&d.listed(&name)["last"]["restarts"], d.log(&name).as_str()), (&2.into(), "run 1\nrun 2\nrun 3\n"));
    });
}

/// Input that the container does not read makes him wait who typed it, and nobody else; and none of it is lost.
#[test]
fn who_types_at_a_container_that_does_not_read_waits_alone() {
    case_with(&[Need::Skep], |sb| {
        const LENGTH: usize = 300_000;
        let d = Defined::new(sb);
        let name = d.name("deaf");
        let script = format!(
            "stty raw -echo; echo ready; while [ ! -e /go ]; do echo tick; sleep 0.05; done; head -c {LENGTH} | md5sum"
        );
        d.create(&name, text(&d.base()), &["--tty"], &["sh", "-c", &script]).ok();
        d.call(&["start", &name]).ok();
        eventually("it is deaf", || d.log(&name).contains("tick"));
        let typed = vec![b'x'; LENGTH];
        let mut writer = d.prepare(&["console", &name]).stdin_bytes(&typed).deadline(Duration::from_secs(120)).spawn();
        std::thread::sleep(Duration::from_millis(500));
        assert!(!writer.ended(), "all of it was taken: {:?}", writer.stdout());
        let (other, input) = join(&d, &name);
        let shown = || other.stdout().matches("tick").count();
        assert!(
            within(Duration::from_secs(20), || shown() > 3),
            "nobody listens to the other one: {:?}",
            other.stdout()
        );
        let before = shown();
        eventually("it goes on", || shown() > before);
        drop(input);
        sb.exec_sh(&name, "touch /go").ok();
        let sum = std::process::Command::new("sh")
            .args(["-c", &format!("head -c {LENGTH} /dev/zero | tr '\\0' x | md5sum")])
            .output()
            .expect("run sh");
        let sum = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().expect("a sum").to_owned();
        assert!(within(Duration::from_secs(30), || d.log(&name).contains(&sum)), "{:?}", d.log(&name).lines().last());
        d.call(&["wait", &name, "--time", "30"]).ok();
    });
}

#[test]
fn a_spare_has_little() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("fds");
        d.create(&name, text(&d.base()), &["--tty"], &["sleep", "1000"]).ok();
        d.prepare(&["start", &name]).fd(9, Path::new("/etc/hostname")).run().ok();
        for _ in 0..2 {
            let (monitor, spares) = both(&d, &name);
            // A spare begins with all that its maker has, and has been told what it holds when it has let go of the rest.
            let count = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(usize::MAX, Iterator::count);
            eventually("both have little", || count(monitor) <= 8 && count(spares[0]) == 5);
            kill_one(&d, &name, monitor);
        }
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}
