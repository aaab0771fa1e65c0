//! Behaviour under insult: commands at once, a runtime that is killed midway, and tasks that do not want to die.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use integration::group::freeze;
use integration::host::{alive, eventually, status_field, within};
use integration::race::{ATTACK, Attacker};
use integration::requires::PERL;
use integration::runtime::wait_pid;
use integration::{Bundle, Sandbox, case, case_with, json};

/// How long `delete --force` may take, whatever the container does.
const BOUND: Duration = Duration::from_secs(15);

/// `delete --force` must work within [`BOUND`] and leave neither a process nor a group.
#[track_caller]
fn must_go(sb: &Sandbox, b: &Bundle) {
    let begin = Instant::now();
    sb.call(&["delete", "--force", &b.id]).deadline(BOUND).run().ok();
    assert!(begin.elapsed() < BOUND);
    assert!(!sb.cgroup("pids", &b.id).exists(), "the group is left");
    sb.call(&["state", &b.id]).run().fails();
}

/// A pseudo-random sequence (xorshift), so that a failing moment can be printed and tried again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn a_create_killed_at_any_moment_leaves_what_delete_force_removes() {
    case(|sb| {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
        // As long as a whole create takes here, so that the kills are spread over all of it.
        let whole = {
            let b = sb.bundle().sleeper();
            let begin = Instant::now();
            sb.create(&b).ok();
            let took = begin.elapsed();
            sb.delete_force(&b.id).ok();
            u64::try_from(took.as_micros()).expect("fits") + 1
        };
        let until = Instant::now() + ATTACK;
        while Instant::now() < until {
            let b = sb.bundle().sleeper();
            let moment = Duration::from_micros(dice.below(whole));
            let mut running = sb.verb("create", &b, &[]).spawn();
            std::thread::sleep(moment);
            running.kill();
            drop(running);
            sb.call(&["delete", "--force", &b.id]).deadline(BOUND).run().ok();
            let gone = within(Duration::from_secs(5), || {
                !sb.cgroup("pids", &b.id).exists() && !sb.cgroup("memory", &b.id).exists()
            });
            assert!(gone, "killed after {moment:?}: the group is left");
            let state = sb.root.join(&b.id);
            assert!(!state.exists(), "killed after {moment:?}: {} is left", state.display());
            fs::remove_dir_all(&b.dir).expect("remove the bundle");
        }
    });
}

#[test]
fn a_killed_create_leaves_no_process() {
    case(|sb| {
        for delay in [2, 5, 10, 15, 20, 30] {
            let b = sb.bundle().sleeper();
            let mut running = sb.verb("create", &b, &[]).spawn();
            std::thread::sleep(Duration::from_millis(delay));
            running.kill();
            drop(running);
            sb.delete_force(&b.id).ok();
            let path = b.dir.to_string_lossy().into_owned();
            let mine = || processes_of(&path);
            assert!(within(Duration::from_secs(5), || mine().is_empty()), "after {delay} ms: {:?}", mine());
        }
    });
}

/// Processes whose root or working folder lies below `path`.
fn processes_of(path: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = all.filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok());
    let links = |pid: &i32| {
        ["root", "cwd"].iter().any(|name| {
            fs::read_link(format!("/proc/{pid}/{name}")).is_ok_and(|link| link.to_string_lossy().starts_with(path))
        })
    };
    pids.filter(links).collect()
}

#[test]
fn two_creates_of_one_id_at_once_make_one_container() {
    case(|sb| {
        for _ in 0..5 {
            let b = sb.bundle().sleeper();
            let calls: Vec<_> = (0..3).map(|_| sb.verb("create", &b, &[]).spawn()).collect();
            let outs: Vec<_> = calls.into_iter().map(|c| c.wait(Duration::from_secs(40))).collect();
            let won = outs.iter().filter(|o| o.code == 0).count();
            assert_eq!(won, 1, "{outs:#?}");
            assert_eq!(sb.status(&b.id), "created");
            let procs = sb.cgroup_read("pids", &b.id, "cgroup.procs");
            assert_eq!(procs.lines().count(), 1, "{procs}");
            sb.delete_force(&b.id).ok();
        }
    });
}

#[test]
fn two_starts_at_once_start_one_program() {
    case(|sb| {
        for _ in 0..5 {
            let b = sb.bundle().sh("echo begun; sleep 1000");
            let made = sb.create(&b);
            made.ok();
            let calls: Vec<_> = (0..3).map(|_| sb.call(&["start", &b.id]).spawn()).collect();
            let won = calls.into_iter().map(|c| c.wait(Duration::from_secs(15))).filter(|o| o.code == 0).count();
            assert!(won >= 1);
            eventually("it runs", || made.stdout_now() == "begun\n");
            assert_eq!(sb.status(&b.id), "running");
            sb.delete_force(&b.id).ok();
        }
    });
}

#[test]
fn two_deletes_at_once_both_end_and_nothing_is_left() {
    case(|sb| {
        for _ in 0..5 {
            let b = sb.bundle().sleeper();
            sb.detached(&b);
            let calls: Vec<_> = (0..3).map(|_| sb.call(&["delete", "--force", &b.id]).spawn()).collect();
            let outs: Vec<_> = calls.into_iter().map(|c| c.wait(Duration::from_secs(40))).collect();
            assert!(outs.iter().any(|o| o.code == 0), "{outs:#?}");
            sb.delete_force(&b.id).ok();
            assert!(!sb.cgroup("pids", &b.id).exists());
        }
    });
}

#[test]
fn state_and_list_never_see_half_a_state_file() {
    case(|sb| {
        let (runtime, root) = (sb.runtime.path.clone(), sb.root.clone());
        let b = sb.bundle().sleeper();
        let id = b.id.clone();
        let reader = Attacker::new(move || {
            for verb in [&["list", "--format", "json"][..], &["state", &id]] {
                let out =
                    std::process::Command::new(&runtime).arg("--root").arg(&root).args(verb).output().expect("run");
                let text = String::from_utf8_lossy(&out.stderr).into_owned();
                let fine = out.status.success() || text.contains("does not exist") || text.contains("No such file");
                assert!(fine, "{verb:?}: {text}");
            }
        });
        let until = Instant::now() + ATTACK;
        while Instant::now() < until {
            sb.create(&b).ok();
            sb.start(&b.id).ok();
            sb.delete_force(&b.id).ok();
        }
        assert!(reader.rounds() > 0);
    });
}

#[test]
fn state_kill_and_list_do_not_wait_for_a_hook_that_hangs() {
    case(|sb| {
        let file = sb.dir.join("hook");
        let b = sb.bundle().hook("createRuntime", &format!("echo $$ > {}; exec sleep 1000", file.display())).sleeper();
        let mut running = sb.verb("create", &b, &[]).spawn();
        eventually("the hook runs", || std::fs::read_to_string(&file).is_ok_and(|pid| pid.ends_with('\n')));
        let quick = Duration::from_secs(5);
        let state = sb.call(&["state", &b.id]).deadline(quick).run().json();
        assert_eq!(state["status"], json!("creating"));
        sb.call(&["list"]).deadline(quick).run().ok();
        sb.call(&["delete", "--force", &b.id]).deadline(BOUND).run().ok();
        eventually("the stuck create ends", || running.ended());
        // A hook is a program of the host: it outlives whoever has called it.
        sb.program("/bin/kill").arg(std::fs::read_to_string(&file).expect("read the pid").trim()).run();
    });
}

#[test]
fn a_container_survives_the_death_of_the_runtime_that_watches_it() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        let mut running = sb.verb("run", &b, &[]).spawn();
        eventually("it runs", || sb.call(&["state", &b.id]).run().stdout.contains("\"running\""));
        running.kill();
        assert_eq!(sb.status(&b.id), "running");
        must_go(sb, &b);
    });
}

#[test]
fn the_state_is_whole_after_every_step() {
    case(|sb| {
        let b = sb.bundle().sleeper();
        let parse = || {
            for path in sb.state_files(&b.id) {
                let text = fs::read_to_string(&path).expect("read");
                // One document or several, one behind the other.
                for document in serde_json::Deserializer::from_str(&text).into_iter::<integration::Value>() {
                    document.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                }
            }
        };
        sb.create(&b).ok();
        parse();
        sb.start(&b.id).ok();
        parse();
        sb.call(&["pause", &b.id]).run().ok();
        parse();
        sb.call(&["resume", &b.id]).run().ok();
        sb.call(&["update", "--pids-limit", "50", &b.id]).run().ok();
        parse();
    });
}

#[test]
fn a_broken_state_does_not_break_list_or_delete_force() {
    case(|sb| {
        let (a, b) = (sb.bundle().sleeper(), sb.bundle().sleeper());
        sb.detached(&a);
        sb.detached(&b);
        for path in sb.state_files(&a.id) {
            fs::write(path, "{ \"half\": ").expect("write");
        }
        sb.tolerate_leftovers();
        let out = sb.call(&["list"]).run();
        assert!(out.stdout.contains(&b.id), "{out:#?}");
    });
}

/// As a machine that went down leaves it where the state folder is on a disk: names without contents.
#[test]
fn a_state_that_a_crash_left_empty_gives_its_id_back() {
    case(|sb| {
        let b = sb.bundle().args(&["echo", "again"]);
        for contents in [&b""[..], &[0; 4096]] {
            let dir = sb.root.join(&b.id);
            fs::create_dir_all(&dir).expect("mkdir");
            fs::write(dir.join("state"), contents).expect("write");
            assert!(!sb.call(&["list"]).run().ok().contains(&b.id));
            sb.call(&["delete", &b.id]).run().ok();
            assert_eq!(sb.run(&b).ok(), "again");
        }
    });
}

#[test]
fn a_container_of_zombies_goes() {
    case(|sb| {
        // The shell as init never reaps what it did not start: orphans stay zombies.
        let b = sb
            .bundle()
            .sh("i=0; while [ $i -lt 30 ]; do (sleep 0.01 &) ; i=$((i+1)); done; echo ready; exec sleep 1000");
        let c = sb.detached(&b);
        eventually("it is ready", || c.output.stdout_now().contains("ready"));
        must_go(sb, &b);
    });
}

#[test]
fn a_frozen_container_goes() {
    case(|sb| {
        let b = sb.bundle().sh("sleep 1000 & sleep 1000 & sleep 1000; true");
        let c = sb.detached(&b);
        freeze(&sb.cgroup("freezer", &c.id), true);
        must_go(sb, &b);
        assert!(!alive(c.pid));
    });
}

#[test]
fn a_frozen_container_without_a_pid_namespace_goes() {
    case(|sb| {
        let b = sb.bundle().without_namespace("pid").sh("sleep 1000 & sleep 1000 & sleep 1000; true");
        let c = sb.detached(&b);
        freeze(&sb.cgroup("freezer", &c.id), true);
        must_go(sb, &b);
        assert!(!alive(c.pid));
    });
}

#[test]
fn stopped_tasks_go() {
    case(|sb| {
        let b = sb.bundle().without_namespace("pid").sh("sleep 1000 & kill -STOP $!; echo ready; kill -STOP $$");
        let c = sb.detached(&b);
        eventually("it is stopped", || status_field(c.pid, "State").is_some_and(|s| s.starts_with('T')));
        must_go(sb, &b);
        assert!(!alive(c.pid));
    });
}

/// Perl: a tracer holds a child in a trace stop. ptrace is call 101 on x86-64: PTRACE_TRACEME 0.
const TRACER: &str = r#"
    if (!fork) { syscall(101, 0, 0, 0, 0); kill "STOP", $$; sleep 1000; exit }
    $| = 1; waitpid(-1, 2); print "traced\n"; sleep 1000;
"#;

#[test]
fn stopped_tracees_go() {
    case_with(&[PERL], |sb| {
        let b = sb.bundle().with_perl().without_namespace("pid").args(&["/usr/bin/perl", "-e", TRACER]);
        let c = sb.detached(&b);
        eventually("the child is traced", || c.output.stdout_now().contains("traced"));
        must_go(sb, &b);
        assert!(!alive(c.pid));
    });
}

#[test]
fn a_fork_bomb_goes() {
    case(|sb| {
        let b = sb.bundle().set("/linux/resources/pids", json!({ "limit": 60 }));
        let b = b.sh("while :; do (while :; do (sleep 0.01 &) 2>/dev/null; done &) 2>/dev/null; sleep 0.05; done");
        let c = sb.detached(&b);
        let count = || sb.cgroup_read("pids", &c.id, "pids.current").parse::<u32>().unwrap_or(0);
        eventually("it bombs", || count() > 30);
        must_go(sb, &b);
    });
}

#[test]
fn a_fork_bomb_without_a_pid_namespace_goes() {
    case(|sb| {
        let b = sb.bundle().without_namespace("pid").set("/linux/resources/pids", json!({ "limit": 40 }));
        let b = b.sh("f() { while :; do sleep 0.01 & done 2>/dev/null; }; f & f & f & while :; do sleep 0.01; done");
        let c = sb.detached(&b);
        let count = || sb.cgroup_read("pids", &c.id, "pids.current").parse::<u32>().unwrap_or(0);
        eventually("it bombs", || count() > 20);
        must_go(sb, &b);
    });
}

#[test]
fn init_that_ignores_every_signal_goes() {
    case(|sb| {
        let b = sb.bundle().sh("trap '' HUP INT TERM QUIT USR1 USR2; echo ready; while :; do sleep 1; done");
        let c = sb.detached(&b);
        eventually("it is ready", || c.output.stdout_now().contains("ready"));
        sb.kill(&c.id, "TERM").ok();
        std::thread::sleep(Duration::from_millis(100));
        assert!(alive(c.pid));
        must_go(sb, &b);
    });
}

#[test]
fn many_containers_at_once_all_work() {
    case(|sb| {
        let bundles: Vec<_> = (0..10).map(|n| sb.bundle().sh(&format!("echo {n}"))).collect();
        let calls: Vec<_> = bundles.iter().map(|b| sb.verb("run", b, &[]).spawn()).collect();
        for (n, running) in calls.into_iter().enumerate() {
            assert_eq!(running.wait(Duration::from_secs(40)).ok(), n.to_string());
        }
    });
}

#[test]
fn a_pid_that_was_given_to_another_process_is_not_killed() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        sb.create(&b).ok();
        let pid = sb.state(&b.id)["pid"].as_i64().and_then(|p| i32::try_from(p).ok()).expect("pid");
        sb.start(&b.id).ok();
        assert!(wait_pid(pid, Duration::from_secs(10)));
        // With the process gone its number may be taken by anybody: the state must say stopped at once.
        sb.wait_status(&b.id, "stopped");
        sb.kill(&b.id, "KILL").fails();
    });
}

#[test]
fn a_root_folder_that_cannot_be_made_is_an_error() {
    case(|sb| {
        let file = sb.dir.join("file");
        fs::write(&file, "").expect("write");
        let b = sb.bundle().sleeper();
        b.write();
        let runtime = sb.program(sb.runtime.path.to_str().expect("UTF-8"));
        runtime.arg("--root").arg(file.join("below")).args(["create", "--bundle"]).arg(&b.dir).arg(&b.id).run().fails();
    });
}

#[test]
fn closed_standard_streams_are_no_problem() {
    case(|sb| {
        let b = sb.bundle().args(&["true"]);
        b.write();
        let line = format!(
            "exec {} --root {} run --bundle {} {} <&- >&- 2>&-",
            sb.runtime.path.display(),
            sb.root.display(),
            b.dir.display(),
            b.id
        );
        sb.program("/bin/sh").args(["-c", &line]).run().code_is(0);
    });
}

#[test]
fn a_deleted_working_folder_is_no_problem_for_an_absolute_bundle() {
    case(|sb| {
        let b = sb.bundle().sh("echo fine");
        b.write();
        let gone: PathBuf = sb.host_dir("gone");
        let line = format!(
            "cd {0} && rmdir {0} && exec {1} --root {2} run --bundle {3} {4}",
            gone.display(),
            sb.runtime.path.display(),
            sb.root.display(),
            b.dir.display(),
            b.id
        );
        let out = sb.program("/bin/sh").args(["-c", &line]).run();
        assert!(out.code == 0 || out.stderr.contains("no such file or directory"), "{out:#?}");
    });
}
