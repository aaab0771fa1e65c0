//! What the host is like, probed once per command and read-only.

use std::os::fd::AsFd;

use cgroup::layout::Layout;
use runtime_spec::model::NamespaceKind;
use serde::Serialize;
use sys::process::{CAP_MKNOD, CAP_SYS_ADMIN};

use crate::error::{Error, Result};
use crate::options::SystemdOptions;

/// Everything that [`plan`](crate::plan) decides from, besides the definition and the options.
#[derive(Debug, Clone, Serialize)]
pub struct HostFacts {
    /// Effective user id of the runtime.
    pub euid: u32,
    /// Effective group id of the runtime.
    pub egid: u32,
    /// Effective capabilities of the runtime, as a mask. They are rights in its own user namespace.
    pub capabilities: u64,
    /// Whether the runtime is itself inside a user namespace, where device nodes cannot be made.
    pub in_user_namespace: bool,
    /// Whether the runtime may mount and copy mounts where it is: with CAP_SYS_ADMIN, in a mount namespace that belongs to
    /// its user namespace or one below. Otherwise the container's process has to do it, in its own namespaces.
    pub may_mount: bool,
    /// Whether `setgroups(2)` is switched off in the runtime's user namespace, and so in all that are made below it.
    pub setgroups_denied: bool,
    /// Cgroup hierarchies; none where the host has not mounted any.
    pub cgroups: Layout,
    /// Hierarchies, by the kernel's number, in which the runtime may not make the container's group. Looked at only where
    /// that may be tolerated.
    pub closed_hierarchies: Vec<u32>,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether the runtime itself is under an AppArmor profile, as inside a container.
    pub apparmor_confined: bool,
    /// Whether SELinux is on, with a policy.
    pub selinux: bool,
    /// Version of the Landlock interface; 0 for none.
    pub landlock: u32,
    /// The service manager, where groups are made by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<Systemd>,
}

impl HostFacts {
    /// Whether the runtime has a capability, by its number, in its own user namespace.
    #[must_use]
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Whether the runtime can make device nodes that work.
    #[must_use]
    pub fn makes_nodes(&self) -> bool {
        self.has(CAP_MKNOD) && !self.in_user_namespace
    }

    /// Whether the runtime is an ordinary user, or the root of a user namespace that an ordinary user may have made: then
    /// cgroups may be beyond its reach.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        self.euid != 0 || self.in_user_namespace
    }
}

/// What the service manager that makes groups is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Systemd {
    /// Its version, such as 252.
    pub version: u32,
    /// The group that its units are below, without a trailing slash.
    pub control_group: String,
    /// Whether it is a user's.
    pub user: bool,
    /// Whether it keeps its processes in the unified hierarchy, on a host that has others too.
    pub tracks_unified: bool,
}

/// Looks at the host.
///
/// # Errors
/// When `/proc` or the cgroup hierarchies cannot be read.
pub fn probe(proc: &sys::ProcFs) -> Result<HostFacts> {
    let own = proc.own_thread()?;
    let apparmor = first_byte("/sys/module/apparmor/parameters/enabled") == Some(b'Y');
    let capabilities = sys::process::capget()?;
    let in_user_namespace = !sys::namespace::maps_every_id(&proc.read(&format!("{own}/uid_map"))?);
    let admin = capabilities.has(CAP_SYS_ADMIN);
    Ok(HostFacts {
        euid: sys::process::effective_uid(),
        egid: sys::process::effective_gid(),
        capabilities: capabilities.effective,
        in_user_namespace,
        may_mount: admin && (!in_user_namespace || owns_mounts(proc)?),
        setgroups_denied: in_user_namespace && setgroups_denied(proc)?,
        cgroups: probe_cgroups(proc)?,
        closed_hierarchies: Vec::new(),
        apparmor,
        apparmor_confined: apparmor && is_confined(proc, &own),
        // Whatever keeps the kernel from answering keeps it from taking rules.
        landlock: sys::landlock::abi().unwrap_or(0),
        selinux: matches!(first_byte("/sys/fs/selinux/enforce"), Some(b'0' | b'1')) && has_policy(proc, &own),
        systemd: None,
    })
}

/// Which hierarchies of these groups are closed to the runtime.
///
/// # Errors
/// What the kernel says, but that access is denied.
pub fn probe_closed(groups: &[cgroup::GroupPath], layout: &Layout) -> Result<Vec<u32>> {
    let mut closed = Vec::new();
    for group in groups {
        if !cgroup::access::may_enter(group, layout)? {
            closed.push(group.hierarchy);
        }
    }
    Ok(closed)
}

/// A host without any hierarchy has an empty layout: that is for the plan to judge.
fn probe_cgroups(proc: &sys::ProcFs) -> Result<Layout> {
    match cgroup::layout::probe(proc) {
        Err(cgroup::Error::NoHierarchy { .. }) => {
            Ok(Layout { mode: cgroup::Mode::Legacy, hierarchies: Vec::new(), unified: None })
        }
        other => Ok(other?),
    }
}

/// Whether the own mount namespace belongs to the own user namespace or to one below. One that was entered by
/// `unshare --user` alone is still in the mount namespace of somebody else.
fn owns_mounts(proc: &sys::ProcFs) -> Result<bool> {
    let mounts = proc.open_own_namespace(NamespaceKind::Mount.proc_name())?;
    match sys::namespace::owner(mounts.as_fd()) {
        // Its owner is outside of what this process may see.
        Err(error) if error.is(sys::Errno::PERM) => Ok(false),
        other => Ok(other.map(|_| true)?),
    }
}

/// Whether `setgroups(2)` is switched off in the user namespace of this process (user_namespaces(7)).
pub(crate) fn setgroups_denied(proc: &sys::ProcFs) -> Result<bool> {
    Ok(proc.read(&format!("{}/setgroups", proc.own_process()?))?.trim() == "deny")
}

/// Whether a thread has another label than `unconfined`.
fn is_confined(proc: &sys::ProcFs, thread: &str) -> bool {
    // KERNEL(5.8): before, the one attr/current served whichever module there was.
    ["attr/apparmor/current", "attr/current"]
        .iter()
        .find_map(|file| proc.read(&format!("{thread}/{file}")).ok())
        .is_some_and(|label| !label.trim_end().is_empty() && label.trim_end() != "unconfined")
}

/// Whether SELinux has a policy. Until one is loaded, all threads have the name of the kernel's first identifier and no label
/// can be had.
fn has_policy(proc: &sys::ProcFs, thread: &str) -> bool {
    proc.read(&format!("{thread}/attr/current")).is_ok_and(|label| label.trim_end_matches(['\0', '\n']) != "kernel")
}

/// Asks the service manager what it is like.
///
/// # Errors
/// [`Error::Unsupported`] where none runs, [`Error::Systemd`] where none answers.
pub fn probe_systemd(options: &SystemdOptions, proc: &sys::ProcFs) -> Result<Systemd> {
    if !options.user && !is_booted_by_systemd() {
        return Err(Error::Unsupported(format!(
            "systemd does not run this host ({RUNNING} is missing), so that it cannot make the container's cgroup"
        )));
    }
    let mut manager = systemd::Manager::connect(&options.endpoints, sys::process::effective_uid())?;
    Ok(Systemd {
        version: manager.version()?,
        control_group: manager.control_group()?,
        user: options.user,
        tracks_unified: proc.read("1/cgroup").is_ok_and(|text| is_in_unified(&text)),
    })
}

/// Where systemd says that it has booted the host: sd_booted(3).
const RUNNING: &str = "/run/systemd/system";

/// Whether systemd is the first process of the host.
pub(crate) fn is_booted_by_systemd() -> bool {
    sys::fs::open_dir(RUNNING).is_ok()
}

/// Whether the first process has a group of its own in the unified hierarchy.
fn is_in_unified(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("0::") && line.ends_with("/init.scope"))
}

/// The first byte of a file of the kernel; `None` where it is not there, since the module is not either.
fn first_byte(path: &str) -> Option<u8> {
    let file = sys::fs::open(path, sys::fs::OFlags::RDONLY).ok()?;
    sys::fs::read_limited(file.as_fd(), 1).ok()?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::is_in_unified;

    #[test]
    fn where_systemd_keeps_its_processes() {
        assert!(is_in_unified("1:name=systemd:/init.scope\n0::/init.scope\n"));
        assert!(!is_in_unified("1:name=systemd:/init.scope\n0::/\n"));
    }
}
