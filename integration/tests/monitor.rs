//! The monitor of a defined container: output, console, how a run ended, restarts, and life after a monitor's death.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{eventually, within};
use integration::requires::Need;
use integration::runtime::wait_pid;
use integration::{Sandbox, case_with, json};
use runtime_spec::monitor::{Event, Request, file};

/// The pid of a container's monitor, from the lock that it holds.
fn monitor(d: &Defined<'_>, name: &str) -> i32 {
    let runs = fs::read_dir(d.folder(name).join("own")).expect("read own").filter_map(Result::ok);
    let pid = |path: &Path| fs::read_to_string(path.join("monitor")).ok()?.trim().parse().ok();
    let pids: Vec<i32> = runs.filter_map(|entry| pid(&entry.path())).collect();
    assert_eq!(pids.len(), 1, "monitors of {name}");
    pids[0]
}

/// Neither the document of a run nor its folder.
#[track_caller]
fn no_run_is_left(d: &Defined<'_>, name: &str) {
    let own: Vec<_> = fs::read_dir(d.folder(name).join("own")).expect("read").filter_map(Result::ok).collect();
    assert!(own.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("run")), "{own:?}");
}

/// Kills a container's monitor and its spare, so that neither sees the other die.
fn kill_both(sb: &Sandbox, name: &str) {
    let both: Vec<i32> = monitors(sb).into_iter().filter(|pid| is_of(*pid, name)).collect();
    assert_eq!(both.len(), 2, "monitor and spare of {name}");
    for signal in [sys::signal::SIGSTOP, sys::signal::SIGKILL] {
        both.iter().for_each(|pid| sys::signal::kill(*pid, signal).expect("kill"));
    }
    assert!(both.iter().all(|pid| wait_pid(*pid, Duration::from_secs(10))));
}

/// Whether a process was called with a name.
fn is_of(pid: i32, name: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == name.as_bytes())
}

fn shell(d: &Defined<'_>, suffix: &str, options: &[&str], script: &str) -> String {
    let name = d.name(suffix);
    d.create(&name, text(&d.base()), options, &["sh", "-c", script]).ok();
    name
}

#[test]
fn the_end_of_a_run_is_put_down() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(
            &d,
            "end",
            &[],
            "case $(cat /how) in code) exit 3;; signal) kill -9 $$;; wait) exec sleep 1000;; esac; sleep 1000",
        );
        let last = || d.listed(&name)["last"].clone();
        assert_eq!(last(), json!(null));
        let how = |how: &str| fs::write(d.base().join("how"), how).expect("write");

        how("code");
        d.call(&["start", &name]).ok();
        assert_eq!(d.call(&["wait", &name]).ok(), "exited with 3");
        assert_eq!(
            (&last()["reason"], &last()["code"], &last()["signal"]),
            (&json!("exited"), &json!(3), &json!(null))
        );
        assert!(last()["cpu"].as_u64().is_some_and(|ns| ns > 0), "{}", last());
        // Nothing of the run is left, with nobody having asked for its removal.
        assert!(sb.call(&["state", &name]).run().fails().contains("does not exist"));
        no_run_is_left(&d, &name);

        how("wait");
        d.call(&["start", &name]).ok();
        sb.call(&["kill", &name, "KILL"]).run().ok();
        assert_eq!(d.call(&["wait", &name]).ok(), "killed by SIGKILL");
        d.call(&["start", &name]).ok();
        d.call(&["stop", "-t", "0", &name]).ok();
        assert_eq!(d.call(&["wait", &name]).ok(), "stopped, killed by SIGKILL");
        assert_eq!(last()["reason"], "stopped");
    });
}

#[test]
fn want_of_memory_is_a_reason() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name =
            shell(&d, "oom", &["--memory", "16M"], "dd if=/dev/zero bs=64M of=/dev/null; exec tail -f /dev/zero");
        d.call(&["start", &name]).ok();
        let told = d.call(&["wait", &name, "--time", "60"]).ok();
        assert!(told.starts_with("out of memory"), "{told}");
        assert!(d.listed(&name)["last"]["oom_kills"].as_u64().is_some_and(|kills| kills > 0));
    });
}

#[test]
fn a_policy_starts_it_again() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let count = "n=$(cat /n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /n; echo run $n; ";
        // Two failures, then success: that is no failure.
        let name = shell(&d, "fails", &["--restart", "on-failure"], &format!("{count} [ $n -lt 3 ] && exit 1; exit 0"));
        d.call(&["start", &name]).ok();
        assert_eq!(d.call(&["wait", &name, "--time", "60"]).ok(), "exited with 0");
        assert_eq!(d.listed(&name)["last"]["restarts"], 2);
        // One log has all of them.
        assert_eq!(d.log(&name), "run 1\nrun 2\nrun 3\n");

        let name = shell(&d, "always", &["--restart", "always"], count);
        d.call(&["start", &name]).ok();
        eventually("it is started again", || d.log(&name).contains("run 3"));
        // Whatever it does just now, a stop is the end.
        d.call(&["stop", &name]).ok();
        let runs = d.log(&name);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!((d.log(&name), d.listed(&name)["state"].clone()), (runs, json!("stopped")));
        d.call(&["rename", &name, &d.name("other")]).ok();
    });
}

#[test]
fn a_pause_is_a_state_and_ends_with_a_stop() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "pause", &["--restart", "always"], "exit 1");
        d.call(&["start", &name]).ok();
        eventually("the pauses get long", || {
            let entry = d.listed(&name);
            entry["state"] == "restarting" && entry["restarts"].as_u64().is_some_and(|times| times >= 4)
        });
        d.call(&["rename", &name, &d.name("x")]).fails_saying("is about to be started again: stop it first");
        let pid = monitor(&d, &name);
        // Somebody's start does not wait for the pause.
        d.call(&["start", &name]).ok();
        d.call(&["stop", &name]).ok();
        assert!(wait_pid(pid, Duration::from_secs(10)));
        assert_eq!(d.listed(&name)["state"], "stopped");
        d.call(&["destroy", &name]).ok();
    });
}

#[test]
fn a_start_that_fails_by_itself_is_tried_again() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let shared = sb.host_dir("shared");
        let volume = format!("{}:/shared", shared.display());
        let name = shell(&d, "retry", &["--restart", "always", "--volume", &volume], "sleep 0.5");
        d.call(&["start", &name]).ok();
        fs::remove_dir(&shared).expect("remove");
        eventually("the log says why it does not start", || d.log(&name).contains("[skep: cannot start"));
        fs::create_dir(&shared).expect("make");
        eventually("it runs again", || d.listed(&name)["state"] == "running");
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}

#[test]
fn the_log_has_a_bound() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i of a long tale that nobody reads to its end and \
                      that goes on; done";
        let name = shell(&d, "log", &["--log-size", "64K", "--log-files", "2"], script);
        d.call(&["start", &name]).ok();
        d.call(&["wait", &name]).ok();
        let size = |file: &str| fs::metadata(d.folder(&name).join(file)).map(|meta| meta.len());
        for file in ["log", "log.1", "log.2"] {
            assert!(size(file).expect(file) <= 64 << 10, "{file}");
        }
        size("log.3").unwrap_err();
        let last = d.call(&["logs", "-n", "2", &name]).ok();
        assert!(last.lines().count() == 2 && last.contains("\nline 3000 of a long tale"), "{last}");
        // As long as they are kept, who follows sees all of them, however slow.
        let name = shell(&d, "kept", &["--log-size", "16K", "--log-files", "50"], script);
        let all = d.call(&["start", "--foreground", &name]).ok();
        let numbers: Vec<String> = all.lines().filter_map(|line| line.split(' ').nth(1).map(str::to_owned)).collect();
        let expected: Vec<String> = (1..=3000).map(|number: u32| number.to_string()).collect();
        assert!(numbers == expected, "{} lines", numbers.len());
    });
}

#[test]
fn the_foreground_is_the_containers() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name =
            shell(&d, "fore", &[], "echo to out; echo to err >&2; head -c 300000 /dev/zero | tr '\\0' x; echo; exit 7");
        let output = d.call(&["start", "-F", &name]);
        output.code_is(7);
        let text = output.stdout_now();
        assert!(text.starts_with("to out\nto err\nxxx") && text.len() == 14 + 300_001, "{} bytes", text.len());
        // Another one follows a log that is there.
        let name = shell(&d, "follow", &[], "echo one; sleep 1; echo two");
        d.call(&["start", &name]).ok();
        assert_eq!(d.call(&["logs", "--follow", &name]).ok(), "one\ntwo");
    });
}

#[test]
fn the_foreground_reads_what_its_caller_writes() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "talk", &[], "while read line; do echo \"got $line\"; done; exit 3");
        let (reader, mut writer) = std::io::pipe().expect("make a pipe");
        let talking = d.prepare(&["start", "-F", "--interactive", &name]).stdin(reader).spawn();
        for line in ["one", "two"] {
            writeln!(writer, "{line}").expect("write");
            let answer = format!("got {line}");
            let answers = within(Duration::from_secs(20), || talking.stdout().contains(&answer));
            assert!(answers, "{:?} {:?}", talking.stdout(), talking.stderr());
        }
        drop(writer);
        talking.wait(Duration::from_secs(20)).code_is(3);
        // Nobody else holds what it reads: when it reads no more, whoever writes is told.
        let deaf = shell(&d, "deaf", &[], "exec <&-; echo closed; sleep 1000");
        let (reader, mut writer) = std::io::pipe().expect("make a pipe");
        let hears_nothing = d.prepare(&["start", "-F", "-i", &deaf]).stdin(reader).spawn();
        eventually("it has closed it", || hears_nothing.stdout().contains("closed"));
        assert_eq!(writer.write_all(b"x").expect_err("nobody reads").kind(), std::io::ErrorKind::BrokenPipe);
        d.call(&["stop", "-t", "0", &deaf]).ok();
        hears_nothing.wait(Duration::from_secs(20)).code_is(137);
        // Nothing is read without the option, and a terminal is read in another way.
        d.prepare(&["start", "-F", &name]).stdin_bytes(b"three\n").run().code_is(3);
        assert_eq!(d.log(&name), "");
        d.call(&["start", "-i", &name]).fails_saying("--foreground");
        let name = shell(&d, "typed", &["--tty"], "read line");
        d.call(&["start", "-Fi", &name]).fails_saying("reads its terminal: see skep console");
        assert_eq!(d.listed(&name)["state"], "stopped");
    });
}

/// The container does not notice, its output waits, and another monitor goes on where the first one ended.
#[test]
fn a_container_outlives_its_monitor_and_the_spare() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(
            &d,
            "orphan",
            &[],
            "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.05; done; echo last; exit 4",
        );
        d.call(&["start", &name]).ok();
        let pid = d.listed(&name)["pid"].clone();
        kill_both(sb, &name);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(d.listed(&name)["pid"], pid);
        assert_eq!(d.call(&["info", &name, "-o", "json"]).json()["monitor"], "gone");
        let again = d.call(&["start", &name]);
        again.ok();
        assert!(again.stderr_now().contains("ran without its monitor"), "{again:?}");
        assert_eq!(d.call(&["info", &name, "-o", "json"]).json()["monitor"], "running");
        sb.exec_sh(&name, "touch /stop").ok();
        let told = d.call(&["wait", &name]).ok();
        let lines: Vec<String> = d.log(&name).lines().map(str::to_owned).collect();
        let (last, numbers) = lines.split_last().expect("lines");
        assert_eq!(last, "last");
        let counted: Vec<String> = (1..=numbers.len()).map(|number| number.to_string()).collect();
        assert_eq!(numbers, counted, "something is missing");
        // The new one is no parent of it: what it knows comes from the kernel, from 6.15 on.
        match knows_ends() {
            true => assert_eq!(told, "exited with 4"),
            false => assert_eq!(told, "ended, nobody saw how"),
        }
    });
}

/// Whether the kernel keeps how a process ended for who has a pidfd of it.
fn knows_ends() -> bool {
    let mut child = std::process::Command::new("true").spawn().expect("run true");
    let process = sys::process::pidfd_open(i32::try_from(child.id()).expect("a pid")).expect("a pidfd");
    child.wait().expect("wait");
    sys::process::exit_of(process.as_fd()).expect("ask").is_some()
}

/// Who joins a log late may miss the only line that there will be, unless it is told to look once more.
#[test]
fn who_follows_a_log_is_told_to_look_at_once() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "fol", &[], "exec sleep 1000");
        d.call(&["start", &name]).ok();
        let own = fs::read_dir(d.folder(&name).join("own")).expect("read own").filter_map(Result::ok);
        let control = own.map(|entry| entry.path().join(file::CONTROL)).find(|path| path.exists()).expect("a run");
        let socket = sys::socket::connect_messages(text(&control)).expect("connect");
        sys::socket::send(socket.as_fd(), &Request::Follow.render(), &[]).expect("ask");
        let answered = sys::process::poll_readable(&[socket.as_fd()], Some(20_000)).expect("poll")[0].readable;
        assert!(answered, "it says nothing until the container writes");
        let message = sys::socket::receive(socket.as_fd(), 4096).expect("receive");
        assert_eq!(Event::parse(&message.bytes), Some(Event::Output(&[])));
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}

#[test]
fn a_monitor_has_eight_descriptors_and_leaves_its_callers_alone() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        for (suffix, options) in [("fds", &[][..]), ("fdt", &["--tty"][..])] {
            let name = shell(&d, suffix, options, "exec sleep 1000");
            let call = d.prepare(&["start", &name]).fd(9, Path::new("/etc/hostname"));
            call.run().ok();
            let pid = monitor(&d, &name);
            let open = || fs::read_dir(format!("/proc/{pid}/fd")).expect("read fd").filter_map(Result::ok);
            // It gives up its caller's end after its last word.
            eventually("eight descriptors", || open().count() <= 8);
            let open: Vec<_> = open().map(|fd| fs::read_link(fd.path()).expect("read link")).collect();
            assert!(!open.contains(&"/etc/hostname".into()), "{open:?}");
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read status");
            assert!(status.contains("Threads:\t1\n"), "{status}");
            d.call(&["stop", "-t", "0", &name]).ok();
        }
    });
}

#[test]
fn a_console_is_joined_and_left() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name =
            shell(&d, "tty", &["--tty"], "readlink /proc/self/fd/0; read line; echo got $line; read line; exit 6");
        d.call(&["console", &name]).fails_saying("does not run");
        d.call(&["start", &name]).ok();
        // Control-a q: the first one leaves, the container goes on.
        d.prepare(&["console", &name]).stdin_bytes(b"hello\n\x01q").run().ok();
        eventually("it got the line", || d.log(&name).contains("got hello"));
        assert_eq!(d.listed(&name)["state"], "running");
        // The next one sees what was before.
        let ended = d.prepare(&["console", &name]).stdin_bytes(b"\n").run().ok();
        assert!(ended.contains("/dev/") && ended.contains("got hello"), "{ended:?}");
        assert_eq!(d.call(&["wait", &name]).ok(), "exited with 6");
        let plain = shell(&d, "plain", &[], "exec sleep 1000");
        d.call(&["start", &plain]).ok();
        d.call(&["console", &plain]).fails_saying("has no terminal");
        d.call(&["stop", "-t", "0", &plain]).ok();
    });
}

/// An init that opens its console only now and then finds it open, and in time.
#[test]
fn a_terminal_that_nobody_has_open_does_not_hang_up() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let script = "exec < /dev/null > /dev/null 2>&1; for i in 1 2 3 4 5; do sleep 0.1; echo $i > /dev/console; done; sleep 1000";
        let name = shell(&d, "hup", &["--tty"], script);
        d.call(&["start", &name]).ok();
        let (pid, before) = (monitor(&d, &name), std::time::Instant::now());
        eventually("all are written", || d.log(&name).contains('5'));
        assert_eq!(d.log(&name).replace('\r', ""), "1\n2\n3\n4\n5\n");
        // A terminal that hangs up makes whoever polls it run in circles.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read stat");
        let ticks: u64 = stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
        assert!(ticks <= 10, "{ticks} ticks in {:?}", before.elapsed());
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}

#[test]
fn processes_are_run_and_frozen_by_name() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        fs::write(d.base().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv/web:/bin/sh\n")
            .expect("write");
        let name = shell(&d, "attach", &[], "exec sleep 1000");
        d.call(&["attach", &name, "--", "true"]).fails_saying("does not run");
        d.call(&["freeze", &name]).fails_saying("does not run");
        d.call(&["start", &name]).ok();
        let script = "id -u; id -g; echo $HOME; pwd; echo $COLOUR; exit 9";
        let output =
            d.call(&["attach", "--user", "web", "--env", "COLOUR=blue", "-w", "/tmp", &name, "--", "sh", "-c", script]);
        output.code_is(9);
        assert_eq!(output.stdout_now(), "33\n44\n/srv/web\n/tmp\nblue\n");
        // A shell without a word.
        assert_eq!(d.prepare(&["attach", &name]).stdin_bytes(b"echo $((6 * 7))\n").run().ok(), "42");
        d.call(&["freeze", &name]).ok();
        assert_eq!(d.listed(&name)["state"], "paused");
        d.call(&["unfreeze", &name]).ok();
        let info = d.call(&["info", &name, "-o", "json"]).json();
        assert_eq!((&info["state"], &info["pid"]), (&json!("running"), &sb.state(&name)["pid"]));
        assert!(info["usage"]["pids"] == 1 && info["usage"]["cpu"].as_u64().is_some_and(|ns| ns > 0), "{info}");
        let text = d.call(&["info", &name]).ok();
        for expected in ["Name:", "State:", "PID:", "CPU use:", "Memory use:", "Monitor:"] {
            assert!(text.contains(expected), "{text}");
        }
        let before = d.listed(&name)["pid"].clone();
        d.call(&["restart", "-t", "0", &name]).ok();
        assert_ne!(d.listed(&name)["pid"], before);
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}

#[test]
fn what_containers_do_is_shown() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let script = "echo one; echo two; while :; do :; done & exec sleep 1000";
        let name = shell(&d, "busy", &["--memory", "64M", "--pids", "9"], script);
        let idle = shell(&d, "idle", &[], "exec sleep 1000");
        d.call(&["start", &name, &idle]).ok();
        eventually("it has written", || d.log(&name).contains("two"));
        let status = d.call(&["status", &name, "-o", "json", "--lines", "1"]).json();
        assert_eq!((&status["state"], &status["log"]), (&json!("running"), &json!(["two"])));
        let processes = status["processes"].as_array().expect("processes");
        assert_eq!(processes.len(), 2);
        assert!(processes.iter().any(|process| process["parent"] == status["pid"]), "{status}");
        let text = d.call(&["status", &name]).ok();
        let first = format!("\n{} sleep 1000\n  ", status["pid"]);
        assert!(text.contains(&first) && text.ends_with("one\ntwo") && text.contains(" of 64.0 MiB"), "{text}");

        let top = d.call(&["top", "--batch", "--number", "1", "--delay", "0.2"]).ok();
        let lines: Vec<&str> = top.lines().collect();
        // The busy one comes first, and uses most of a processor.
        assert!(lines[1].starts_with(&name) && lines[2].starts_with(&idle), "{top}");
        assert!(lines[3].starts_with("2 containers:") && lines[3].ends_with("3 tasks"), "{top}");
        let entry = sb.call(&["list", "--format", "json", "--usage"]).run().json();
        assert!(entry[0]["usage"]["pids"].as_u64().is_some() && entry[0]["usage"]["memory"] != 0, "{entry}");
        assert!(sb.call(&["list", "--format", "json"]).run().json()[0].get("usage").is_none());
        d.call(&["stop", "-t", "0", &name, &idle]).ok();
        assert_eq!(d.call(&["status", &name, "-o", "json"]).json()["processes"], json!([]));
        d.call(&["top", "--delay", "0"]).fails_saying("want seconds");
    });
}

#[test]
fn the_doctor_looks_at_all() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let findings = d.call(&["doctor", "-o", "json"]).json();
        let verdict = |subject: &str| {
            let of = |finding: &&integration::Value| finding["subject"] == subject;
            findings.as_array().expect("a list").iter().find(of).map(|finding| finding["verdict"].clone())
        };
        for subject in ["user", "cgroups", "overlay", "skep-monitor", "data folder"] {
            assert_eq!(verdict(subject), Some(json!("good")), "{subject} in {findings}");
        }
        let shown = |options: &[&str]| d.call(&[&["doctor"], options].concat()).ok().lines().count();
        assert!(shown(&["--all"]) > shown(&[]));
    });
}

#[test]
fn containers_begin_with_the_machine_in_their_order() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let shared = sb.host_dir("shared");
        let volume = format!("{}:/shared", shared.display());
        let define = |suffix: &str, options: &[&str], script: &str| {
            let options = [&["--volume", &volume, "--autostart"], options].concat();
            shell(&d, suffix, &options, &format!("{script}; exec sleep 1000"))
        };
        let (db, web) = (d.name("db"), d.name("web"));
        define("db", &["--ready", "exec:test -e /shared/ready"], "sleep 0.7; touch /shared/ready");
        define("web", &["--after", &db, "--group", "front"], "test -e /shared/ready && touch /shared/in-order");
        let late = define("late", &["--order", "5", "--group", "front", "--group", "x"], "true");
        let other = shell(&d, "other", &[], "exec sleep 1000");
        let rows = d.call(&["autostart", "--list", "-o", "json"]).json();
        let waves: Vec<_> = rows.as_array().expect("a list").iter().map(|row| (&row["wave"], &row["name"])).collect();
        assert_eq!(waves, [(&json!(1), &json!(db)), (&json!(2), &json!(web)), (&json!(3), &json!(late))]);

        let state = |name: &str| d.listed(name)["state"].clone();
        d.call(&["autostart"]).ok();
        eventually("the second one came after the first was ready", || shared.join("in-order").exists());
        assert_eq!(
            [state(&db), state(&web), state(&late), state(&other)],
            ["running", "running", "running", "stopped"]
        );
        // What runs stays.
        let pid = d.listed(&db)["pid"].clone();
        d.call(&["autostart"]).ok();
        assert_eq!(d.listed(&db)["pid"], pid);
        d.call(&["autostart", "--stop", "--group", "front", "--time", "0"]).ok();
        assert_eq!([state(&db), state(&web), state(&late)], ["running", "stopped", "stopped"]);
        d.call(&["autostart", "--stop", "--time", "0"]).ok();

        let options = ["--ready", "tcp:1", "--ready-timeout", "1", "--order", "-1"];
        let never = define("never", &options, "true");
        let output = d.call(&["autostart", "--group", "x"]);
        output.ok();
        d.call(&["autostart", "--stop", "--time", "0"]).ok();
        let failed = d.call(&["autostart"]);
        assert!(failed.fails().contains("1 of 4 failed"), "{failed:?}");
        assert!(failed.stderr_now().contains("is not ready after 1 s: tcp:1"), "{failed:?}");
        assert_eq!([state(&never), state(&late)], ["running", "running"]);
        d.call(&["autostart", "--stop", "--time", "0"]).ok();
        d.create(&d.name("bad"), text(&d.base()), &["--ready", "tcp:5"], &["true"]).fails_saying("--autostart");
    });
}

#[test]
fn a_definition_is_changed_by_key_and_in_an_editor() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "conf", &["--memory", "64M"], "exec sleep 1000");
        let get = |key: &str| d.call(&["config", "get", &name, key]).ok();
        assert_eq!((get("memory"), get("cpus"), get("env.COLOUR")), ("67108864".into(), String::new(), String::new()));
        d.call(&["start", &name]).ok();
        // Limits hold at once.
        d.call(&["config", "set", &name, "memory=32M", "pids=7", "cpus=0.5"]).ok();
        let limit = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        sb.cgroup_is("memory", &name, limit, "33554432");
        let later = d.call(&["config", "set", &name, "env.COLOUR=blue=green", "hostname=other", "restart=on-failure"]);
        later.ok();
        assert!(later.stderr_now().contains("env.COLOUR, hostname of container"), "{later:?}");
        assert!(sb.exec_sh(&name, "hostname").ok() != "other");
        d.call(&["restart", "-t", "0", &name]).ok();
        assert_eq!(
            sb.exec_sh(&name, "hostname; tr '\\0' '\\n' < /proc/1/environ | grep COLOUR").ok(),
            "other\nCOLOUR=blue=green"
        );
        d.call(&["config", "unset", &name, "memory", "env.COLOUR"]).ok();
        assert_eq!((get("memory"), get("env.COLOUR"), get("pids")), (String::new(), String::new(), "7".into()));

        // All or nothing.
        for (entries, said) in [
            (&["pids=3", "memory=x"][..], "cannot set memory"),
            (&["colour=blue"], "there is no key"),
            (&["pids"], "want KEY=VALUE"),
            (&["command=sh"], "want a list"),
            (&["autostart.order=3"], "set autostart=true before"),
        ] {
            d.call(&[&["config", "set", &name], entries].concat()).fails_saying(said);
        }
        assert_eq!(get("pids"), "7");
        d.call(&["config", "set", &name, "autostart=true", "autostart.order=3", "autostart.after=a, b"]).ok();
        let all = d.call(&["config", "get", &name, "-o", "json"]).json();
        assert_eq!((&all["autostart.order"], &all["autostart.after"]), (&json!(3), &json!(["a", "b"])));
        d.call(&["stop", "-t", "0", &name]).ok();

        d.edit(&name, "sed -i 's/^hostname = .*/hostname = \"edited\"/'").ok();
        assert_eq!(get("hostname"), "edited");
        for (script, said) in [
            ("sed -i 's/^hostname = .*/hostname = \"not a name\"/'", "what you wrote is in"),
            ("sed -i 's/^name = .*/name = \"x\"/'", "skep rename gives it another name"),
            ("sed -i 's/^hostname/hosthame/'", "this is no definition"),
            ("false", "ended with"),
        ] {
            d.edit(&name, script).fails_saying(said);
        }
        assert_eq!(get("hostname"), "edited");
        d.call(&["start", &name]).ok();
        d.call(&["stop", "-t", "0", &name]).ok();
    });
}

#[test]
fn waiting_has_a_bound_and_two_directions() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "wait", &[], "exec sleep 1000");
        let late = d.call(&["wait", &name, "running", "--time", "0"]);
        late.fails_saying("is not running in time");
        let mut waiting = d.prepare(&["wait", &name, "RUNNING"]).spawn();
        assert!(!waiting.ended());
        d.call(&["start", &name]).ok();
        waiting.wait(Duration::from_secs(20)).ok();
        d.call(&["wait", &name, "stopped", "--time", "0"]).fails_saying("is not stopped in time");
        let waiting = d.prepare(&["wait", &name]).spawn();
        d.call(&["stop", "-t", "0", &name]).ok();
        assert_eq!(waiting.wait(Duration::from_secs(20)).ok(), "stopped, killed by SIGKILL");
    });
}

#[test]
fn without_a_monitor_there_is_no_process() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "bare", &["--no-monitor"], "echo on; exec sleep 1000");
        d.call(&["start", &name]).ok();
        let runs: Vec<_> = fs::read_dir(d.folder(&name).join("own")).expect("read").filter_map(Result::ok).collect();
        assert!(runs.iter().all(|run| !run.path().join("monitor").exists()), "{runs:?}");
        assert_eq!(d.call(&["info", &name, "-o", "json"]).json()["monitor"], json!(null));
        eventually("its log is written", || d.log(&name) == "on\n");
        d.call(&["start", "-F", &name]).fails_saying("has no monitor");
        let waiting = d.prepare(&["wait", &name]).spawn();
        sb.call(&["kill", &name, "KILL"]).run().ok();
        assert_eq!(waiting.wait(Duration::from_secs(20)).ok(), "ended, nobody saw how");
        for option in ["--tty", "--restart=always"] {
            let other = d.name("other");
            d.create(&other, text(&d.base()), &["--no-monitor", option], &["true"])
                .fails_saying("--no-monitor goes neither");
        }
    });
}

/// Nobody else concludes a run whose monitor has died.
#[test]
fn a_wait_ends_though_the_monitor_has_died() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "lost", &["--restart", "always"], "exec sleep 1000");
        d.call(&["start", &name]).ok();
        kill_both(sb, &name);
        sb.call(&["kill", &name, "KILL"]).run().ok();
        assert_eq!(d.call(&["wait", &name, "--time", "60"]).ok(), "ended, nobody saw how");
        assert_eq!(d.listed(&name)["state"], "stopped");
        // One that waits to be started again and whose monitor dies is stopped, too.
        let name = shell(&d, "pause", &["--restart", "always"], "exit 1");
        d.call(&["start", &name]).ok();
        eventually("the pauses get long", || d.listed(&name)["restarts"].as_u64().is_some_and(|times| times >= 5));
        // The spare goes a moment after the pause has been noted.
        kill_all(sb);
        d.call(&["wait", &name, "--time", "60"]).ok();
        assert_eq!(d.listed(&name)["state"], "stopped");
    });
}

/// Kills the monitors and spares of all containers.
fn kill_all(sb: &Sandbox) {
    for pid in monitors(sb) {
        // It may have ended just now.
        drop(sys::signal::kill(pid, sys::signal::SIGKILL));
    }
}

/// Whoever dies at whatever moment: in the end nothing runs twice, nothing is left, and every verb works.
#[test]
fn deaths_at_any_moment_leave_order() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = shell(&d, "chaos", &["--restart", "always"], "sleep 0.2; exit 1");
        for round in 0..24u64 {
            let verb = ["start", "stop", "restart"][usize::try_from(round % 3).expect("small")];
            let mut running = d.prepare(&[verb, &name]).spawn();
            std::thread::sleep(Duration::from_millis(round * 7 % 60));
            if round % 2 == 0 {
                running.kill();
            } else {
                kill_all(sb);
            }
            drop(running.wait(Duration::from_secs(60)));
        }
        d.call(&["stop", "-t", "0", &name]).ok();
        assert_eq!(d.listed(&name)["state"], "stopped");
        eventually("no monitor is left", || monitors(sb).is_empty());
        d.call(&["start", &name]).ok();
        d.call(&["stop", "-t", "0", &name]).ok();
        no_run_is_left(&d, &name);
        d.call(&["destroy", &name]).ok();
    });
}

/// Monitors whose folder is in the sandbox.
fn monitors(sb: &Sandbox) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("skep-monitor\0") && line.contains(text(&sb.dir))
    };
    let entries = fs::read_dir("/proc").expect("read /proc").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}
