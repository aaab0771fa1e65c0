//! What this host offers of all that a definition may ask for.
//!
//! Everything is looked at or asked for with arguments that the kernel refuses; the little that has to be made (a mount, a
//! user namespace, a device program) is attached to nothing and gone when the question is answered.

use std::os::fd::{AsFd, OwnedFd};

use cgroup::layout::{Layout, Mode};
use runtime_spec::model::{CapSet, IdMapping, NamespaceKind};
use serde::Serialize;
use sys::mount::{AttrChange, Depth, FsContext};
use sys::probe::Call;
use sys::process::Cloned;
use sys::{Errno, ProcFs};

use crate::error::{Error, Result};
use crate::facts::{self, HostFacts};
use crate::host::idmap;
use crate::options::SystemdOptions;

/// The answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Release of the kernel, such as `6.12.41`.
    pub kernel: String,
    /// Effective user id of the caller.
    pub euid: u32,
    /// Whether the caller is inside a user namespace.
    pub in_user_namespace: bool,
    /// Capabilities that the caller lacks, by name.
    pub missing_capabilities: Vec<&'static str>,
    /// Control groups.
    pub cgroup: Cgroups,
    /// Types of namespace that can be made or joined.
    pub namespaces: Vec<&'static str>,
    /// Features of the kernel that the runtime uses, with the release that brought each.
    pub features: Vec<Feature>,
    /// System call filters.
    pub seccomp: Seccomp,
    /// Security modules.
    pub lsm: Lsm,
    /// Types of file system that the kernel has loaded and that need no block device or server.
    pub file_systems: Vec<String>,
    /// The service manager.
    pub systemd: Systemd,
    /// Programs that some features need, and where they are.
    pub programs: Vec<Program>,
}

/// Control groups of the host.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroups {
    /// `legacy`, `hybrid` or `unified`.
    pub mode: Mode,
    /// Controllers that limits can be set with.
    pub controllers: Vec<String>,
    /// Where the hierarchies are mounted.
    pub mountpoints: Vec<String>,
}

/// The service manager that would make groups with `--systemd-cgroup`: the machine's, or the user's own.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Systemd {
    /// Whether systemd has booted the machine and is its first process.
    pub booted: bool,
    /// Whether a user's manager was asked.
    pub user: bool,
    /// Its version, such as 252, where it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Whether it can make groups.
    pub cgroup_driver: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that a kernel may have.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// Its name.
    pub name: &'static str,
    /// The release that brought it.
    pub since: &'static str,
    /// Whether it can be used here.
    pub available: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// System call filters of the host.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Names of actions that the kernel knows.
    pub actions: Vec<&'static str>,
    /// Names of flags that the kernel knows.
    pub flags: Vec<&'static str>,
}

/// Security modules of the host.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lsm {
    /// Those that are active, in the kernel's order; `None` where the list cannot be read (securityfs is not mounted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<Vec<String>>,
    /// Whether AppArmor takes profiles.
    pub apparmor: bool,
    /// Whether SELinux takes labels.
    pub selinux: bool,
    /// Version of the Landlock interface; 0 for none.
    pub landlock_abi: u32,
}

/// A program that may be there.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What for.
    pub purpose: &'static str,
    /// Where it is.
    pub path: Option<String>,
}

/// Programs, and what for.
const PROGRAMS: [(&str, &str); 4] = [
    ("newuidmap", "user ids of rootless containers"),
    ("newgidmap", "group ids of rootless containers"),
    ("criu", "checkpoint and restore"),
    ("ps", "skep ps"),
];

/// SECCOMP_RET_* by the name of the action (include/uapi/linux/seccomp.h).
const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ("SCMP_ACT_ERRNO", 0x0005_0000),
    ("SCMP_ACT_KILL", 0),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_KILL_THREAD", 0),
    ("SCMP_ACT_LOG", 0x7ffc_0000),
    ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
    ("SCMP_ACT_TRACE", 0x7ff0_0000),
    ("SCMP_ACT_TRAP", 0x0003_0000),
];

/// Flags, and those that must stand with them (include/uapi/linux/seccomp.h).
const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32 | sys::seccomp::NEW_LISTENER),
];

/// Calls that are told of; `fsopen` stands for the other two of its kind.
const CALLS: [Call; 12] = [
    Call::Openat2,
    Call::Clone3,
    Call::PidfdOpen,
    Call::PidfdSendSignal,
    Call::CloseRange,
    Call::Faccessat2,
    Call::Fsopen,
    Call::OpenTree,
    Call::MoveMount,
    Call::MountSetattr,
    Call::Keyctl,
    Call::SetMempolicy,
];

/// Looks at the host. `find` tells where a program is.
///
/// # Errors
/// When `/proc` or the cgroup hierarchies cannot be read.
pub fn probe(proc: &ProcFs, systemd: &SystemdOptions, find: impl Fn(&str) -> Option<String>) -> Result<Offer> {
    let facts = facts::probe(proc)?;
    let of_call = |call: Call| {
        let (name, since) = call.origin();
        feature(name, since, known(sys::probe::refusal(call)))
    };
    let mut features: Vec<Feature> = CALLS.into_iter().map(of_call).collect();
    features.extend(made(proc, &facts));
    Ok(Offer {
        kernel: proc.read("sys/kernel/osrelease")?.trim().to_owned(),
        euid: facts.euid,
        in_user_namespace: facts.in_user_namespace,
        missing_capabilities: CapSet(CapSet::ALL.0 & !facts.capabilities).names().collect(),
        cgroup: cgroups(&facts.cgroups),
        namespaces: namespaces(proc)?,
        features,
        seccomp: seccomp(),
        lsm: lsm(&facts),
        file_systems: file_systems(&proc.read("filesystems")?),
        systemd: probe_systemd(proc, systemd),
        programs: PROGRAMS.iter().map(|&(name, purpose)| Program { name, purpose, path: find(name) }).collect(),
    })
}

fn feature(name: &'static str, since: &'static str, found: Result<()>) -> Feature {
    let reason = found.err().map(|error| error.chain().join(": "));
    Feature { name, since, available: reason.is_none(), reason }
}

/// A refusal for the arguments, and not for the call, means that the kernel knows the call.
fn known(refusal: Option<Errno>) -> Result<()> {
    match refusal {
        Some(errno @ (Errno::NOSYS | Errno::PERM)) => Err(reason(errno)),
        _ => Ok(()),
    }
}

fn reason(errno: Errno) -> Error {
    Error::Unsupported(sys::error::Reason(errno).to_string())
}

/// Features that show only when something is made.
fn made(proc: &ProcFs, facts: &HostFacts) -> Vec<Feature> {
    let into_cgroup = match sys::probe::clone_into_cgroup_refusal() {
        Some(Errno::INVAL) | None => Ok(()),
        Some(errno) => Err(reason(errno)),
    };
    let notify = match sys::probe::seccomp_flags_refusal(sys::seccomp::NEW_LISTENER) {
        Some(Errno::FAULT) | None => Ok(()),
        Some(errno) => Err(reason(errno)),
    };
    let with_map = |mount: Result<OwnedFd>| mount.and_then(|mount| map_ids_of(proc, &mount));
    vec![
        feature("clone3 into a cgroup", "5.7", into_cgroup),
        feature("new user namespace", "3.8", new_user_namespace()),
        feature("idmapped mount of tmpfs", "6.3", with_map(new_tmpfs())),
        feature("idmapped mount of the root file system", "5.12", with_map(copy_of_root())),
        feature("seccomp notify", "5.0", notify),
        feature("cgroup device program", "4.15", device_program()),
        feature("cgroup.kill", "5.14", unified_file(&facts.cgroups, "cgroup.kill")),
        feature("cgroup.freeze", "5.2", unified_file(&facts.cgroups, "cgroup.freeze")),
        feature("resctrl", "4.10", mounted_resctrl()),
    ]
}

fn new_user_namespace() -> Result<()> {
    match sys::process::clone3(NamespaceKind::User.clone_flag(), None)? {
        Cloned::Child => sys::process::exit_now(0),
        Cloned::Parent { pid, .. } => Ok(sys::process::wait(pid).map(drop)?),
    }
}

fn new_tmpfs() -> Result<OwnedFd> {
    Ok(FsContext::open("tmpfs")?.mount(0)?)
}

fn copy_of_root() -> Result<OwnedFd> {
    Ok(sys::mount::clone_path("/", Depth::One, false)?)
}

/// Maps the ids of a mount that is attached to nothing.
fn map_ids_of(proc: &ProcFs, mount: &OwnedFd) -> Result<()> {
    let range = [IdMapping { container_id: 0, host_id: sys::process::effective_uid(), size: 1 }];
    let userns = idmap::user_namespace(proc, &range, &range)?;
    let change = AttrChange { idmap: Some(userns.as_fd()), ..AttrChange::default() };
    Ok(sys::mount::set_attr(mount.as_fd(), change, Depth::One)?)
}

/// Loads a program that allows everything, and lets go of it.
fn device_program() -> Result<()> {
    /// `r0 = 1; exit` (include/uapi/linux/bpf.h).
    const ALLOW: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    Ok(sys::bpf::load_device_program(&ALLOW).map(drop)?)
}

/// Looks for a file in a group of the unified hierarchy that is not its top, which has few of them.
fn unified_file(layout: &Layout, file: &str) -> Result<()> {
    let Some(unified) = &layout.unified else {
        return Err(Error::Unsupported("cgroup v2 is not mounted".to_owned()));
    };
    let own = format!("{}{}", unified.mountpoint, unified.own_path);
    let dir = sys::fs::open_dir(&own)?;
    let folders = sys::fs::list(dir.as_fd(), ".")?;
    let below = folders.iter().find(|(_, kind)| *kind == sys::fs::FileType::Directory);
    let group = match below {
        _ if unified.own_path != "/" => own,
        Some((name, _)) => format!("{own}/{name}"),
        None => return Err(Error::Unsupported("there is no group to look at".to_owned())),
    };
    let dir = sys::fs::open_dir(&group)?;
    Ok(sys::fs::stat_at(dir.as_fd(), file).map(drop)?)
}

fn mounted_resctrl() -> Result<()> {
    Ok(sys::fs::open_dir("/sys/fs/resctrl/info").map(drop)?)
}

fn cgroups(layout: &Layout) -> Cgroups {
    let all = || layout.hierarchies.iter().chain(&layout.unified);
    Cgroups {
        mode: layout.mode,
        controllers: all().flat_map(|hierarchy| hierarchy.controllers.clone()).collect(),
        mountpoints: all().map(|hierarchy| hierarchy.mountpoint.clone()).collect(),
    }
}

/// Kinds that the kernel shows of this process.
fn namespaces(proc: &ProcFs) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for kind in NamespaceKind::ALL {
        match proc.open_own_namespace(kind.proc_name()) {
            Ok(_) => found.push(kind.oci_name()),
            Err(error) if error.is(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn seccomp() -> Seccomp {
    let action = |&(name, number): &(&'static str, u32)| {
        sys::probe::seccomp_action(number).is_ok_and(|known| known).then_some(name)
    };
    let flag = |&(name, bits): &(&'static str, u64)| {
        (sys::probe::seccomp_flags_refusal(bits) == Some(Errno::FAULT)).then_some(name)
    };
    Seccomp { actions: ACTIONS.iter().filter_map(action).collect(), flags: FLAGS.iter().filter_map(flag).collect() }
}

fn lsm(facts: &HostFacts) -> Lsm {
    let list = sys::fs::read_text_at(sys::fs::CWD, "/sys/kernel/security/lsm");
    Lsm {
        // A host that does not show the list is told apart from one whose list is empty.
        active: list.ok().map(|list| list.trim().split(',').map(str::to_owned).collect()),
        apparmor: facts.apparmor,
        selinux: facts.selinux,
        landlock_abi: facts.landlock,
    }
}

/// The lines of `/proc/filesystems` with `nodev`, and no others: what lies on a block device says little of containers.
fn file_systems(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_prefix("nodev\t")).map(str::to_owned).collect()
}

/// A service manager that does not answer is one that no group can be had from.
fn probe_systemd(proc: &ProcFs, options: &SystemdOptions) -> Systemd {
    let found = facts::probe_systemd(options, proc);
    let reason = found.as_ref().err().map(|error| error.chain().join(": "));
    Systemd {
        booted: facts::is_booted_by_systemd(),
        user: options.user,
        version: found.ok().map(|found| found.version),
        cgroup_driver: reason.is_none(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_what_the_features_document_names() {
        let features = runtime_spec::features::features().linux.seccomp;
        assert_eq!(ACTIONS.map(|(name, _)| name).as_slice(), features.actions);
        assert_eq!(FLAGS.map(|(name, _)| name).as_slice(), features.known_flags);
    }

    #[test]
    fn file_systems_without_a_device() {
        assert_eq!(file_systems("nodev\tproc\n\text4\nnodev\toverlay\n"), ["proc", "overlay"]);
    }

    #[test]
    fn a_refusal_tells_why() {
        assert!(known(Some(Errno::INVAL)).is_ok());
        let text = |errno| feature("x", "1.0", known(Some(errno))).reason.unwrap();
        assert_eq!(text(Errno::NOSYS), "function not implemented (ENOSYS)");
        assert_eq!(text(Errno::PERM), "operation not permitted (EPERM)");
    }
}
