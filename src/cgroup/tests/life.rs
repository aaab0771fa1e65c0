//! Making, entering, freezing, killing and removing on the real kernel.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cgroup::group::Below;
use cgroup::{Error, Group, GroupPath, Mode, SubGroup, group, layout, path, pressure};
use common::{Fixture, eventually};
use nix::sys::ptrace;
use nix::unistd::Pid;
use runtime_spec::guest_cgroups::GuestCgroups;
use sys::fs::OFlags;

const BOUND: Duration = Duration::from_secs(5);

#[test]
fn probes_what_proc_self_cgroup_lists() {
    needs_v1_root!();
    let proc = sys::ProcFs::open().unwrap();
    let found = layout::probe(&proc).unwrap();
    assert!(found.has("memory") && found.has("devices") && !found.has("nonsense"));
    for hierarchy in found.hierarchies.iter().chain(&found.unified) {
        let procs = format!("{}{}/cgroup.procs", hierarchy.mountpoint, hierarchy.own_path);
        let own = std::process::id().to_string();
        assert!(std::fs::read_to_string(&procs).unwrap().lines().any(|pid| pid == own), "{procs}");
    }
}

#[test]
fn creates_in_every_hierarchy_and_removes_all() {
    needs_v1_root!();
    let fixture = Fixture::new();
    assert!(fixture.places.iter().all(|place| std::path::Path::new(&place.dir()).is_dir()));
    let mut child = fixture.shell("exec sleep 60");
    let pid = i32::try_from(child.id()).unwrap();
    eventually("the child enters", || fixture.group.procs().unwrap() == [pid]);
    let listed = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for place in &fixture.places {
        assert!(listed.lines().any(|line| line.ends_with(&place.path)), "{listed}");
    }
    assert_eq!(fixture.group.kill_all(BOUND, &fixture.proc).unwrap(), []);
    child.wait().unwrap();
    group::remove(&fixture.places, BOUND, &fixture.proc).unwrap();
    for place in &fixture.places {
        assert!(!std::path::Path::new(&place.dir()).exists());
    }
    // Again: nothing there is fine.
    group::remove(&fixture.places, BOUND, &fixture.proc).unwrap();
    assert!(Group::open(&fixture.places).unwrap().is_empty());
}

#[test]
fn a_task_enters_through_the_descriptors() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let attach = fixture.group.open_attach(&[]).unwrap();
    assert_eq!(attach.tasks.first().unwrap().controllers, "memory");
    assert_eq!(attach.tasks.last().unwrap().controllers, "freezer");
    let mut child = enter_and_sleep(&attach);
    let pid = i32::try_from(child.id()).unwrap();
    assert_eq!(fixture.group.procs().unwrap(), [pid]);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A child that writes through our descriptors by `/proc`, as no code of ours may run between fork and exec here.
fn enter_and_sleep(attach: &cgroup::AttachFds) -> std::process::Child {
    let parent = std::process::id();
    let enter = |attach: &cgroup::AttachFd| format!("echo 0 > /proc/{parent}/fd/{}\n", attach.fd.as_raw_fd());
    let enter: String = attach.tasks.iter().map(enter).collect();
    let script = format!("set -e\n{enter}echo in\nexec sleep 60");
    let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"in\n");
    child
}

#[test]
fn refuses_a_group_in_use_and_leaves_nothing() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let mut child = fixture.shell("exec sleep 60");
    eventually("the child enters", || fixture.group.procs().unwrap().len() == 1);
    match Group::create(&fixture.places, Below::Ordinary) {
        Err(Error::NotEmpty { count, .. }) => assert_eq!(count, 1),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the child leaves", || fixture.group.procs().unwrap().is_empty());
    // Once nothing is in it the same group is taken.
    Group::create(&fixture.places, Below::Ordinary).unwrap();
}

#[test]
fn a_failed_create_undoes_what_it_made() {
    needs_v1_root!();
    let proc = sys::ProcFs::open().unwrap();
    let mut places = path::plan(&layout::probe(&proc).unwrap(), Some(&common::unique()), "x").unwrap();
    // The last hierarchy cannot be made: its mount point is no cgroup.
    places.push(GroupPath { mountpoint: "/proc".to_owned(), ..places[0].clone() });
    let error = Group::create(&places, Below::Ordinary).unwrap_err();
    assert!(error.to_string().starts_with("mkdir(\"/proc/skep-test-"), "{error}");
    for place in &places {
        let parent = common::parent_of(place);
        assert!(!std::path::Path::new(&parent).exists(), "{parent}");
    }
}

#[test]
fn refuses_a_frozen_group() {
    needs_v1_root!();
    let fixture = Fixture::new();
    std::fs::write(format!("{}/freezer.state", fixture.dir("freezer")), "FROZEN").unwrap();
    let error = Group::create(&fixture.places, Below::Ordinary).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup unexpectedly frozen"), "{error}");
    fixture.group.thaw().unwrap();
}

#[test]
fn made_parents_hand_their_cpuset_on() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("cpuset"));
    let dir = fixture.dir("cpuset");
    let parent = dir.rsplit_once('/').unwrap().0;
    let read = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
    let root = read(&format!("{}/cpuset.cpus", fixture.places[0].mountpoint));
    assert!(!root.is_empty());
    for group in [parent, dir.as_str()] {
        assert_eq!(read(&format!("{group}/cpuset.cpus")), root);
        assert!(!read(&format!("{group}/cpuset.mems")).is_empty());
        assert_eq!(read(&format!("{group}/cgroup.clone_children")), "1");
    }
}

#[test]
fn fills_the_cpuset_below_empty_parents_of_others() {
    needs_v1_root!();
    let proc = sys::ProcFs::open().unwrap();
    let layout = layout::probe(&proc).unwrap();
    let path = common::unique();
    let mut places = path::plan(&layout, Some(&format!("{path}/deep")), "x").unwrap();
    places.retain(|place| place.has("cpuset"));
    // Somebody made the parents by hand: they have no CPUs.
    let parent = common::parent_of(&places[0]);
    std::fs::create_dir_all(&parent).unwrap();
    let made = Group::create(&places, Below::Ordinary).and_then(|group| group.inherit_cpuset().map(|()| group));
    let cpus = std::fs::read_to_string(format!("{}/cpuset.cpus", places[0].dir())).unwrap();
    group::remove(&places, BOUND, &proc).unwrap();
    std::fs::remove_dir(&parent).unwrap();
    std::fs::remove_dir(parent.rsplit_once('/').unwrap().0).unwrap();
    made.unwrap();
    assert!(!cpus.trim().is_empty());
}

#[test]
fn exec_enters_groups_that_the_container_made() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let sub = format!("{}/inner/most", fixture.dir("pids"));
    std::fs::create_dir_all(&sub).unwrap();
    let subs = [SubGroup { controllers: vec!["pids".to_owned()], path: "inner/most".to_owned() }];
    let attach = fixture.group.open_attach(&subs).unwrap();
    let pids = attach.tasks.iter().find(|attach| attach.controllers == "pids").unwrap();
    let path = std::fs::read_link(format!("/proc/self/fd/{}", pids.fd.as_raw_fd())).unwrap();
    assert_eq!(path.to_str().unwrap(), format!("{sub}/tasks"));
    let fails = |controllers: &[&str], path: &str| {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        fixture.group.open_attach(&[SubGroup { controllers, path: path.to_owned() }]).unwrap_err().to_string()
    };
    assert_eq!(fails(&["nonsense"], ""), "the container has no nonsense cgroup");
    assert!(fails(&[], "../..").contains("climbs out"));
    assert!(fails(&[], "not-there").contains("ENOENT"));
}

#[test]
fn freezes_and_thaws_in_both_kinds() {
    needs_v1_root!();
    for unified in [false, true] {
        let fixture = Fixture::choose(|place| place.is_unified() == unified);
        if fixture.places.is_empty() {
            println!("skipped: no unified hierarchy");
            continue;
        }
        let mut child = fixture.shell("while :; do :; done");
        let pid = child.id();
        eventually("it runs", || fixture.group.procs().unwrap().len() == 1);
        assert!(!fixture.group.is_frozen().unwrap());
        fixture.group.freeze(BOUND, &fixture.proc).unwrap();
        assert!(fixture.group.is_frozen().unwrap());
        assert!(Group::open_freezer(&fixture.places).unwrap().is_frozen().unwrap());
        let ticks = cpu_ticks(pid);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(cpu_ticks(pid), ticks, "a frozen task used the CPU (unified: {unified})");
        fixture.group.thaw().unwrap();
        assert!(!fixture.group.is_frozen().unwrap());
        eventually("it runs again", || cpu_ticks(pid) > ticks);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(11).unwrap().parse().unwrap()
}

#[test]
fn frozen_by_a_parent_is_told_apart() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("freezer"));
    let dir = fixture.dir("freezer");
    let parent = format!("{}/freezer.state", dir.rsplit_once('/').unwrap().0);
    std::fs::write(&parent, "FROZEN").unwrap();
    let state = fixture.group.freezer_state().unwrap();
    std::fs::write(&parent, "THAWED").unwrap();
    assert_eq!(state, group::Freezer::FrozenAbove);
}

/// Tasks in a state that makes a kill hard, on v1 alone and with the unified hierarchy.
fn check_kill(what: &str, script: &str, prepare: impl Fn(&Fixture)) {
    for legacy in [true, false] {
        let fixture = Fixture::choose(|place| !legacy || !place.is_unified());
        let mut child = fixture.shell(script);
        eventually("it runs", || !fixture.group.procs().unwrap().is_empty());
        prepare(&fixture);
        let start = Instant::now();
        let left = fixture.group.kill_all(Duration::from_secs(10), &fixture.proc).unwrap();
        let took = start.elapsed();
        assert_eq!(left, [], "{what}, v1 alone: {legacy}");
        assert_eq!(fixture.group.procs().unwrap(), Vec::<i32>::new());
        child.wait().unwrap();
        assert!(took < Duration::from_secs(5), "{what}, v1 alone: {legacy}: {took:?}");
        if let Some(dir) = fixture.places.iter().find(|place| place.has("pids")) {
            assert_eq!(std::fs::read_to_string(format!("{}/pids.max", dir.dir())).unwrap().trim(), "max");
        }
    }
}

#[test]
fn kills_stopped_tasks() {
    needs_v1_root!();
    check_kill("stopped", "sleep 60 & kill -STOP $!; kill -STOP $$", |fixture| {
        eventually("both stopped", || {
            let pids = fixture.group.procs().unwrap();
            pids.len() == 2 && pids.iter().all(|pid| fixture.proc.status(*pid).unwrap().state == 'T')
        });
    });
}

/// Stopped by a tracer outside the container, which stays.
#[test]
fn kills_traced_tasks() {
    needs_v1_root!();
    check_kill("traced", "while :; do :; done", |fixture| {
        let pid = fixture.group.procs().unwrap()[0];
        // This thread stays the tracer until the check is over.
        ptrace::seize(Pid::from_raw(pid), ptrace::Options::empty()).unwrap();
        ptrace::interrupt(Pid::from_raw(pid)).unwrap();
        eventually("it stops", || fixture.proc.status(pid).unwrap().state == 't');
    });
}

/// A tracer that asked to be told of the exit holds the task there, and no signal moves it on: nobody can kill it.
#[test]
fn names_what_will_not_die_and_who_holds_it() {
    needs_v1_root!();
    for legacy in [true, false] {
        let fixture = Fixture::choose(|place| !legacy || !place.is_unified());
        let mut child = fixture.shell("while :; do :; done");
        eventually("it runs", || fixture.group.procs().unwrap().len() == 1);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT).unwrap();
        let start = Instant::now();
        let left = fixture.group.kill_all(Duration::from_millis(300), &fixture.proc).unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(left.len(), 1);
        let (text, tracer) = (left[0].to_string(), left[0].tracer);
        assert!(text.starts_with(&format!("{pid} \"sh\" in state t")) && text.contains(", traced by "), "{text}");
        assert!(tracer.is_some_and(|tracer| tracer > 0));
        ptrace::detach(pid, None).unwrap();
        child.wait().unwrap();
        assert_eq!(fixture.group.kill_all(BOUND, &fixture.proc).unwrap(), []);
    }
}

#[test]
fn kills_what_ignores_every_signal() {
    needs_v1_root!();
    check_kill("ignoring", "trap '' TERM INT HUP QUIT; while :; do sleep 1; done", |_| {});
}

#[test]
fn kills_a_frozen_container() {
    needs_v1_root!();
    check_kill("frozen", "sleep 60 & exec sleep 60", |fixture| {
        eventually("both run", || fixture.group.procs().unwrap().len() == 2);
        fixture.group.freeze(BOUND, &fixture.proc).unwrap();
    });
}

#[test]
fn kills_in_groups_that_the_container_made_and_froze() {
    needs_v1_root!();
    check_kill("nested", "exec sleep 60", |fixture| {
        let inner = format!("{}/inner", fixture.dir("freezer"));
        std::fs::create_dir(&inner).unwrap();
        let pid = fixture.group.procs().unwrap()[0];
        std::fs::write(format!("{inner}/tasks"), pid.to_string()).unwrap();
        std::fs::write(format!("{inner}/freezer.state"), "FROZEN").unwrap();
    });
}

#[test]
fn kills_a_fork_bomb() {
    needs_v1_root!();
    // Every task makes two and ends. The pids limit keeps the machine usable, and is what a container would have.
    let bomb = "f() { f & f & }; f; while :; do f; done";
    check_kill("fork bomb", bomb, |fixture| {
        std::thread::sleep(Duration::from_millis(100));
        assert!(!fixture.group.procs().unwrap().is_empty());
    });
}

#[test]
fn kills_a_fork_bomb_without_a_pids_controller() {
    needs_v1_root!();
    let fixture = Fixture::choose(|place| place.has("freezer") || place.has("memory"));
    let mut child = fixture.shell("ulimit -u 400; f() { sleep 0.01 & sleep 0.01 & }; while :; do f; f; wait; done");
    eventually("it runs", || fixture.group.procs().unwrap().len() > 1);
    assert_eq!(fixture.group.kill_all(Duration::from_secs(10), &fixture.proc).unwrap(), []);
    child.wait().unwrap();
}

/// A process that somebody put into the v1 groups only.
#[test]
fn sigkill_reaches_what_is_not_in_the_unified_group() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let mut inside = fixture.shell("exec sleep 60");
    let mut stray = fixture.shell_in("exec sleep 60", |place| !place.is_unified());
    eventually("both run", || fixture.group.procs().unwrap().len() == 2);
    assert_eq!(fixture.group.signal_all(9, &fixture.proc).unwrap(), 2);
    assert!(!inside.wait().unwrap().success() && !stray.wait().unwrap().success());
}

#[test]
fn signals_every_process_once() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let script =
        "trap 'exit 7' USR1; (trap 'exit 0' USR1; while :; do sleep 0.05; done) & while :; do sleep 0.05; done";
    let mut child = fixture.shell(script);
    eventually("both run", || fixture.group.procs().unwrap().len() >= 3);
    std::thread::sleep(Duration::from_millis(50));
    assert!(fixture.group.signal_all(10, &fixture.proc).unwrap() >= 2);
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(!fixture.group.is_frozen().unwrap());
    eventually("all end", || fixture.group.procs().unwrap().is_empty());
}

#[test]
fn removes_groups_that_the_container_made() {
    needs_v1_root!();
    let fixture = Fixture::new();
    for place in &fixture.places {
        std::fs::create_dir_all(format!("{}/a/b", place.dir())).unwrap();
        std::fs::create_dir_all(format!("{}/c", place.dir())).unwrap();
    }
    group::remove(&fixture.places, BOUND, &fixture.proc).unwrap();
    assert!(fixture.places.iter().all(|place| !std::path::Path::new(&place.dir()).exists()));
}

#[test]
fn remove_waits_for_the_end_of_a_task() {
    needs_v1_root!();
    for unified in [false, true] {
        let fixture = Fixture::choose(|place| place.is_unified() == unified);
        if fixture.places.is_empty() {
            continue;
        }
        let mut child = fixture.shell("sleep 0.3");
        eventually("it runs", || !fixture.group.procs().unwrap().is_empty());
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        group::remove(&fixture.places, BOUND, &fixture.proc).unwrap();
        reaper.join().unwrap();
    }
}

/// Whether the only process has come to run a program.
fn is_running(fixture: &Fixture, program: &str) -> bool {
    let pids = fixture.group.procs().unwrap();
    pids.len() == 1 && std::fs::read_to_string(format!("/proc/{}/comm", pids[0])).unwrap().trim() == program
}

#[test]
fn remove_tells_what_is_in_the_way() {
    needs_v1_root!();
    let fixture = Fixture::new();
    let mut child = fixture.shell("exec sleep 60");
    eventually("it runs", || is_running(&fixture, "sleep"));
    let error = group::remove(&fixture.places, Duration::from_millis(50), &fixture.proc).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("EBUSY") && text.contains("\"sleep\" in state S"), "{text}");
    let Error::Remove(failures) = error else { panic!("{text}") };
    assert_eq!(failures.len(), fixture.places.len());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn gives_the_unified_group_away() {
    needs_v1_root!();
    let fixture = Fixture::new();
    if fixture.layout.mode != Mode::Hybrid {
        println!("skipped: no unified hierarchy");
        return;
    }
    fixture.group.delegate(12_345, GuestCgroups::Unified).unwrap();
    let owner = |path: String| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    let unified = fixture.places.iter().find(|place| place.is_unified()).unwrap().dir();
    assert_eq!(owner(unified.clone()), 12_345);
    assert_eq!(owner(format!("{unified}/cgroup.procs")), 12_345);
    assert_eq!(owner(format!("{unified}/cgroup.kill")), 0);
    assert_eq!(owner(fixture.dir("memory")), 0);
    // A whole system gets those of v1, too, and no file that limits it.
    fixture.group.delegate(12_345, GuestCgroups::All).unwrap();
    let memory = fixture.dir("memory");
    for file in ["", "/tasks", "/cgroup.procs"] {
        assert_eq!(owner(format!("{memory}{file}")), 12_345, "{file}");
    }
    assert_eq!(owner(format!("{memory}/memory.limit_in_bytes")), 0);
    assert_eq!(owner(format!("{}/devices.allow", fixture.dir("devices"))), 0);
}

/// Deeper than a path can be long and than there are descriptors. (The kernel takes long to make so many.)
#[test]
fn groups_nested_without_end_are_listed_killed_and_removed() {
    needs_v1_root!();
    let fixture = Fixture::choose(GroupPath::is_unified);
    if fixture.places.is_empty() {
        println!("skipped: no unified hierarchy");
        return;
    }
    let top = fixture.places[0].dir();
    let mut lowest = sys::fs::open_dir(&top).unwrap();
    for _ in 0..1100 {
        sys::fs::mkdir_at(lowest.as_fd(), "nested", 0o755).unwrap();
        lowest = sys::fs::open_at(lowest.as_fd(), "nested", OFlags::PATH | OFlags::DIRECTORY, 0).unwrap();
    }
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    sys::fs::write_value_at(lowest.as_fd(), "cgroup.procs", &child.id().to_string()).unwrap();
    drop(lowest);
    assert_eq!(fixture.group.procs().unwrap(), [i32::try_from(child.id()).unwrap()]);
    assert!(fixture.group.open_group_of(child.id().try_into().unwrap()).unwrap().is_some());
    // The child is this test's own, which has to reap it.
    child.kill().unwrap();
    child.wait().unwrap();
    group::remove(&fixture.places, Duration::from_secs(5), &fixture.proc).unwrap();
    assert!(!std::path::Path::new(&top).exists());
}

#[test]
fn stalls_are_told() {
    needs_v1_root!();
    let fixture = Fixture::choose(GroupPath::is_unified);
    if fixture.places.is_empty() || !std::path::Path::new("/proc/pressure").exists() {
        println!("skipped: no unified hierarchy, or no pressure information");
        return;
    }
    let trigger = pressure::Trigger {
        resource: pressure::Resource::Cpu,
        share: pressure::Share::Some,
        stall: Duration::from_millis(1),
        window: Duration::from_secs(2),
    };
    let watch = pressure::watch(&fixture.group, trigger).unwrap();
    let ready = |time| sys::watch::wait(&[(watch.as_fd(), sys::watch::Until::Changed)], time).unwrap();
    assert!(ready(Duration::from_millis(200)).is_empty(), "nobody stalls");
    // Two programs on one CPU: one waits.
    let shells: Vec<_> = (0..2).map(|_| fixture.shell("exec taskset -c 0 sh -c 'while :; do :; done'")).collect();
    assert_eq!(ready(Duration::from_secs(10)), [0]);
    let total = watch.read(&fixture.group).unwrap().unwrap().some.total;
    assert!(total >= 1_000, "{total} microseconds");
    fixture.group.kill_all(BOUND, &fixture.proc).unwrap();
    for mut shell in shells {
        shell.wait().unwrap();
    }
}
