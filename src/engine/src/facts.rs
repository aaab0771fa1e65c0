//! What the host is like, probed once per command and read-only.

use cgroup::layout::Layout;
use serde::Serialize;

use crate::error::Result;

/// Everything that [`plan`](crate::plan) decides from, besides the definition and the options.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    /// Effective user id of the runtime.
    pub euid: u32,
    /// Whether the runtime is itself inside a user namespace, where device nodes cannot be made.
    pub in_user_namespace: bool,
    /// Cgroup hierarchies.
    pub cgroups: Layout,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether the runtime itself is under an AppArmor profile, as inside a container.
    pub apparmor_confined: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// Version of the Landlock interface; 0 for none.
    pub landlock: u32,
}

/// Looks at the host.
///
/// # Errors
/// When `/proc` or the cgroup hierarchies cannot be read.
pub fn probe(proc: &sys::ProcFs) -> Result<HostFacts> {
    let own = proc.own_thread()?;
    let apparmor = starts_with("/sys/module/apparmor/parameters/enabled", b'Y');
    Ok(HostFacts {
        euid: sys::process::effective_uid(),
        in_user_namespace: !maps_everything(&proc.read(&format!("{own}/uid_map"))?),
        cgroups: cgroup::layout::probe(proc)?,
        apparmor,
        apparmor_confined: apparmor && is_confined(proc, &own),
        // Whatever keeps the kernel from answering keeps it from taking rules.
        landlock: sys::landlock::abi().unwrap_or(0),
        selinux: starts_with("/sys/fs/selinux/enforce", b'0') || starts_with("/sys/fs/selinux/enforce", b'1'),
    })
}

/// Whether a thread has another label than `unconfined`.
fn is_confined(proc: &sys::ProcFs, thread: &str) -> bool {
    // KERNEL(5.8): before, the one attr/current served whichever module there was.
    ["attr/apparmor/current", "attr/current"]
        .iter()
        .find_map(|file| proc.read(&format!("{thread}/{file}")).ok())
        .is_some_and(|label| !label.trim_end().is_empty() && label.trim_end() != "unconfined")
}

/// Whether an id map is the one of the initial user namespace.
fn maps_everything(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether a file of the kernel begins with a byte. A file that is not there does not: the module is not either.
fn starts_with(path: &str, byte: u8) -> bool {
    use std::os::fd::AsFd;
    sys::fs::open(path, sys::fs::OFlags::RDONLY)
        .and_then(|fd| sys::fs::read_all(fd.as_fd()))
        .is_ok_and(|bytes| bytes.first() == Some(&byte))
}

#[cfg(test)]
mod tests {
    use super::maps_everything;

    #[test]
    fn the_initial_map_is_known() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0     100000      65536\n"));
        assert!(!maps_everything(""));
    }
}
