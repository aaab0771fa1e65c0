//! What a refused write means to people.

use std::os::fd::AsFd;

use sys::Errno;
use sys::fs::OFlags;

use super::{Member, procs};
use crate::limit::{FileWrite, LimitError};

/// Why the kernel lets no process begin in a group of the unified hierarchy, in words.
#[must_use]
pub fn why_no_process(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::AGAIN => Some("pids.max of the group or of one above it is reached, or the user's number of processes"),
        Errno::BUSY => Some("it hands controllers on to groups below it (cgroup.subtree_control) and takes no process"),
        Errno::OPNOTSUPP => Some("it lies below a threaded group and is not threaded itself (cgroup.type)"),
        Errno::NODEV => Some("it was removed"),
        Errno::ACCESS => Some("this user may not move processes from its own group to there"),
        _ => None,
    }
}

/// What a failed write of a limit means to people.
pub(super) fn explain(member: &Member, write: &FileWrite, error: sys::Error) -> LimitError {
    let field = write.field.clone();
    if error.is(Errno::NOENT) {
        let controller = write.controller.as_ref();
        if let Some((group, why)) = member.not_enabled(controller) {
            return LimitError::NotEnabled { field, controller: controller.to_owned(), group, why };
        }
        return LimitError::NoFile { field, file: member.path(&write.file) };
    }
    let (what, prefix) = match write.file.as_ref() {
        "memory.limit_in_bytes" => ("memory", "memory"),
        "memory.memsw.limit_in_bytes" => ("memory+swap", "memory.memsw"),
        _ => ("", ""),
    };
    let number = |suffix: &str| member.number(&format!("{prefix}.{suffix}")).ok().flatten();
    if let (true, false, Some(usage), Some(peak)) =
        (error.is(Errno::BUSY), what.is_empty(), number("usage_in_bytes"), number("max_usage_in_bytes"))
    {
        return LimitError::InUse { what, limit: write.value.clone(), usage, peak };
    }
    let meaning = if member.place.is_unified() { meaning(&write.file, error.errno()) } else { "" };
    LimitError::Refused { field, file: member.path(&write.file), value: write.value.clone(), meaning, source: error }
}

/// Why the kernel refuses a value of a v2 file, in words. Kernel: admin-guide/cgroup-v2.rst.
fn meaning(file: &str, errno: Errno) -> &'static str {
    match (file, errno) {
        ("cpu.max", Errno::INVAL) => " (quota and period are microseconds: at least 1000, the period at most 1000000)",
        ("cpu.max.burst", Errno::INVAL) => " (the burst may not be above the quota)",
        ("cpu.weight" | "cpu.weight.nice", Errno::INVAL) => " (an idle group, cpu.idle 1, has a fixed weight)",
        ("cpuset.cpus" | "cpuset.cpus.exclusive", Errno::INVAL | Errno::RANGE) => " (no list of CPUs of this host)",
        ("cpuset.mems", Errno::INVAL | Errno::RANGE) => " (no list of memory nodes of this host)",
        ("io.max" | "io.weight" | "io.bfq.weight" | "io.latency" | "io.cost.qos", Errno::NODEV) => {
            " (no whole block device has this number; what is on a partition is limited by its disk)"
        }
        ("rdma.max", Errno::NODEV) => " (no such RDMA device)",
        ("misc.max", Errno::INVAL) => " (no such resource: misc.capacity of the topmost group lists them)",
        ("cgroup.subtree_control", Errno::BUSY) => {
            " (the group has processes of its own, so it cannot hand controllers on)"
        }
        ("cgroup.type", Errno::OPNOTSUPP) => " (a group with domain controllers cannot become threaded)",
        (_, Errno::OPNOTSUPP) => " (the group is threaded, or the device does not support it)",
        _ => "",
    }
}

impl Member {
    /// The ancestor that does not hand a controller on, and why; `None` where all do.
    fn not_enabled(&self, controller: &str) -> Option<(String, String)> {
        if !self.place.is_unified() || controller == "cgroup" {
            return None;
        }
        let have = self.read("cgroup.controllers").ok()?;
        if have.split_ascii_whitespace().any(|name| name == controller) {
            return None;
        }
        let mount = sys::fs::open_dir(&self.place.mountpoint).ok()?;
        for parent in std::iter::once(".").chain(self.place.parents()) {
            let group = sys::fs::open_beneath(mount.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY).ok()?;
            let handed = sys::fs::read_text_at(group.as_fd(), "cgroup.subtree_control").ok()?;
            if handed.split_ascii_whitespace().any(|name| name == controller) {
                continue;
            }
            // Asking once more tells the reason.
            let asked = sys::fs::write_value_at(group.as_fd(), "cgroup.subtree_control", &format!("+{controller}"));
            let why = match asked {
                Ok(()) => "it was only enabled now".to_owned(),
                Err(error) => reason(&error, &group),
            };
            let path = if parent == "." { "" } else { parent };
            return Some((format!("{}/{path}", self.place.mountpoint), why));
        }
        None
    }
}

/// Why a group does not hand a controller on.
fn reason(error: &sys::Error, group: &std::os::fd::OwnedFd) -> String {
    match error.errno() {
        Errno::BUSY => {
            let count = procs::in_group(group.as_fd()).map_or(0, |pids| pids.len());
            format!("it has {count} process(es) of its own, which must move to a group below it first")
        }
        Errno::OPNOTSUPP => {
            "it is threaded, or in a threaded tree, where only cpu, cpuset, perf_event and pids work".to_owned()
        }
        Errno::INVAL => {
            "the controller cannot be enabled now; for cpu, realtime tasks have to leave the groups first".to_owned()
        }
        Errno::PERM | Errno::ACCESS | Errno::ROFS => "this user may not change it: it is not delegated".to_owned(),
        Errno::NOENT => "it does not have the controller itself".to_owned(),
        _ => error.to_string(),
    }
}
