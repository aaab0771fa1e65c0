//! Saving and restoring with the CRIU of the machine. Containers here close what their caller gave them as standard streams:
//! CRIU cannot save an open file of the host.

use std::path::PathBuf;
use std::time::Duration;

use crate::host::{self, eventually};
use crate::runtime::Kind;
use crate::{Bundle, Call, Output, Sandbox};

/// CRIU is slow where the processor is emulated.
pub const LONG: Duration = Duration::from_secs(120);

/// Counts in a file of memory, so that it is seen whether it goes on from where it was.
pub const COUNTER: &str =
    "exec </dev/null >/dev/null 2>&1; n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.1; done";

/// The folder of the images.
pub fn images(sb: &Sandbox) -> PathBuf {
    sb.host_dir("images")
}

/// What CRIU does with groups: nothing, as it advises itself for cgroup2. runc 1.1 has no word for that.
pub fn groups_mode(sb: &Sandbox) -> [&'static str; 2] {
    ["--manage-cgroups-mode", if sb.runtime.kind == Kind::Runc { "soft" } else { "ignore" }]
}

/// `checkpoint` or `restore` with the usual folders. Groups are left to the runtime.
pub fn criu(sb: &Sandbox, verb: &str, options: &[&str]) -> Call {
    let call = sb.call(&[verb]).args(groups_mode(sb)).arg("--image-path").arg(images(sb));
    call.arg("--work-path").arg(sb.host_dir("work")).deadline(LONG).args(options)
}

/// `checkpoint` with the usual folders; asserts that it worked.
#[track_caller]
pub fn checkpoint(sb: &Sandbox, id: &str, options: &[&str]) {
    criu(sb, "checkpoint", options).arg(id).run().ok();
}

/// `restore` of a bundle with the usual folders.
pub fn restore(sb: &Sandbox, bundle: &Bundle, options: &[&str]) -> Output {
    bundle.write();
    criu(sb, "restore", options).arg("--bundle").arg(&bundle.dir).arg(&bundle.id).run()
}

/// How far the counter of [`COUNTER`] is.
pub fn count(sb: &Sandbox, id: &str) -> u64 {
    sb.exec(id, &["cat", "/dev/shm/n"]).ok().trim().parse().unwrap_or(0)
}

/// Waits until the counter is that far, and says how far it is then.
#[track_caller]
pub fn wait_for_count(sb: &Sandbox, id: &str, least: u64) -> u64 {
    eventually("the counter counts", || count(sb, id) >= least);
    count(sb, id)
}

/// A container that counts.
pub fn counter(sb: &Sandbox) -> Bundle {
    sb.bundle().sh(COUNTER)
}

/// Starts it and waits until it counts; returns how far it is.
pub fn start_counter(sb: &Sandbox, bundle: &Bundle) -> u64 {
    sb.detached(bundle);
    wait_for_count(sb, &bundle.id, 3)
}

/// Asserts that there is no container of this id and no group of it.
#[track_caller]
pub fn nothing_is_left(sb: &Sandbox, bundle: &Bundle) {
    sb.call(&["state", &bundle.id]).run().fails_saying("does not exist");
    let group = |mount: PathBuf| mount.join(&sb.name).join(&bundle.id);
    let left: Vec<_> = host::cgroup_mounts().into_iter().map(group).filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "groups stay: {left:?}");
}
