//! The way in, as the runtime goes it: a process with one thread clones a child into the unified group, and the child
//! writes `0` to each v1 `tasks` file. Without the test harness, whose threads forbid both.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use common::Fixture;
use sys::process::{Cloned, Exit};

type Test = (&'static str, fn());

const TESTS: [Test; 2] = [
    ("enters_everything_without_a_pid_being_written", enters_everything_without_a_pid_being_written),
    ("a_cpuset_without_cpus_says_so", a_cpuset_without_cpus_says_so),
];

/// A clone needs a process with one thread, which the usual harness is not. Its command line is served as far as test
/// runners use it: `--list` (with `--ignored`, of which there is none) and names.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given = |option: &str| args.iter().any(|arg| arg == option);
    let named: Vec<&Test> = TESTS.iter().filter(|(name, _)| given(name)).collect();
    let chosen: Vec<&Test> = if named.is_empty() { TESTS.iter().collect() } else { named };
    if given("--ignored") {
        return;
    }
    if given("--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    needs_v1_root!();
    for (name, test) in &chosen {
        test();
        println!("test {name} ... ok");
    }
    let count = chosen.len();
    println!("\ntest result: ok. {count} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
}

fn enters_everything_without_a_pid_being_written() {
    let fixture = Fixture::new();
    let attach = fixture.group.open_attach(&[]).unwrap();
    let (pid, pidfd) = match sys::process::clone3(0, attach.unified.as_ref().map(AsFd::as_fd)).unwrap() {
        Cloned::Child => match attach.enter() {
            Ok(()) => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            Err(_) => sys::process::exit_now(1),
        },
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    common::eventually("it enters all", || {
        let listed = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let by_hierarchy: BTreeMap<u32, &str> = listed
            .lines()
            .filter_map(|line| {
                let (id, rest) = line.split_once(':')?;
                Some((id.parse().ok()?, rest.split_once(':')?.1))
            })
            .collect();
        fixture.places.iter().all(|place| by_hierarchy.get(&place.hierarchy) == Some(&place.path.as_str()))
    });
    assert_eq!(fixture.group.procs().unwrap(), [pid]);
    assert!(fixture.group.kill_all(Duration::from_secs(5), &fixture.proc).unwrap().is_empty());
    assert_eq!(sys::process::wait(pid).unwrap(), Exit::Signal(9));
    drop(pidfd);
}

fn a_cpuset_without_cpus_says_so() {
    let fixture = Fixture::choose(|place| place.has("cpuset"));
    std::fs::write(format!("{}/cpuset.cpus", fixture.dir("cpuset")), "\n").unwrap();
    let attach = fixture.group.open_attach(&[]).unwrap();
    let error = attach.enter().unwrap_err().to_string();
    assert_eq!(error, "write(tasks of cpuset, \"0\"): no space left on device (ENOSPC)");
}
