//! Groups of a test's own in every hierarchy, and tasks in them.

#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cgroup::group::Below;
use cgroup::{Group, GroupPath, Layout, layout, path};
use sys::ProcFs;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Why these tests cannot run here, if they cannot.
pub(crate) fn skip_reason() -> Option<&'static str> {
    if sys::process::effective_uid() != 0 {
        return Some("needs root");
    }
    let layout = ProcFs::open().ok().and_then(|proc| layout::probe(&proc).ok());
    if layout.is_none_or(|layout| layout.mode == cgroup::Mode::Unified) {
        Some("needs a v1 or hybrid host")
    } else {
        None
    }
}

/// Leaves the test with a printed reason where it cannot run.
#[macro_export]
macro_rules! needs_v1_root {
    () => {
        if let Some(reason) = common::skip_reason() {
            println!("skipped: {reason}");
            return;
        }
    };
}

/// A group in every hierarchy, removed with all that is in it, whatever happens.
pub(crate) struct Fixture {
    pub(crate) proc: ProcFs,
    pub(crate) layout: Layout,
    pub(crate) places: Vec<GroupPath>,
    pub(crate) group: Group,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        Fixture::choose(|_| true)
    }

    /// Only in the hierarchies that a test wants.
    pub(crate) fn choose(wanted: impl Fn(&GroupPath) -> bool) -> Fixture {
        let proc = ProcFs::open().unwrap();
        let layout = layout::probe(&proc).unwrap();
        let mut places = path::plan(&layout, Some(&unique()), "unused").unwrap();
        places.retain(wanted);
        let group = Group::create(&places, Below::Ordinary).unwrap();
        group.inherit_cpuset().unwrap();
        Fixture { proc, layout, places, group }
    }

    pub(crate) fn dir(&self, controller: &str) -> String {
        self.places.iter().find(|place| place.has(controller)).unwrap().dir()
    }

    pub(crate) fn read(&self, controller: &str, file: &str) -> String {
        std::fs::read_to_string(format!("{}/{file}", self.dir(controller))).unwrap().trim().to_owned()
    }

    /// A shell in all v1 groups. It enters before it runs the script, and it is the only task of its process.
    pub(crate) fn shell(&self, script: &str) -> Child {
        self.command(script).spawn().unwrap()
    }

    /// A shell in some of the groups.
    pub(crate) fn shell_in(&self, script: &str, wanted: impl Fn(&GroupPath) -> bool) -> Child {
        self.command_in(script, wanted).spawn().unwrap()
    }

    pub(crate) fn command(&self, script: &str) -> Command {
        self.command_in(script, |_| true)
    }

    fn command_in(&self, script: &str, wanted: impl Fn(&GroupPath) -> bool) -> Command {
        // The unified group has no `tasks`; a test may take the slow way in.
        let file = |place: &GroupPath| if place.is_unified() { "cgroup.procs" } else { "tasks" };
        let wanted = self.places.iter().filter(|place| wanted(place));
        let enter: String = wanted.map(|place| format!("echo 0 > {}/{}\n", place.dir(), file(place))).collect();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("set -e\n{enter}set +e\n{script}")]).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let left = self.group.kill_all(Duration::from_secs(10), &self.proc);
        let removed = cgroup::group::remove(&self.places, Duration::from_secs(5), &self.proc);
        let parents = remove_parents(&self.places);
        if !std::thread::panicking() {
            assert_eq!(left.unwrap(), []);
            removed.unwrap();
            parents.unwrap();
        }
    }
}

/// Removes the folders of [`unique`] paths that stay when the groups go.
pub(crate) fn remove_parents(places: &[GroupPath]) -> std::io::Result<()> {
    for place in places {
        match std::fs::remove_dir(parent_of(place)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The folder above a group.
pub(crate) fn parent_of(place: &GroupPath) -> String {
    place.dir().rsplit_once('/').unwrap().0.to_owned()
}

/// A path that no other test has.
pub(crate) fn unique() -> String {
    format!("/skep-test-{}-{}/ct", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for something that another process does.
pub(crate) fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !test() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
