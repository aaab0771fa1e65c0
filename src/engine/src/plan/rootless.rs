//! What an ordinary user can have, what is done another way for one, and what is refused with a reason.
//!
//! Three rights are told apart, since a runtime that is itself inside a user namespace has some of them: CAP_SYS_ADMIN
//! there ([`HostFacts::has`]), the right to mount where it is ([`HostFacts::may_mount`]), and being root of the machine.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{IdMapping, MountKind, NamespaceKind, Process};

use super::Plan;
use crate::error::{Error, Result};
use crate::facts::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, HostFacts};
use crate::options::{CreateOptions, IdMapHelpers};
use crate::step::{ChildStep, HostStep, IdMaps, Launcher, Planned, Slot, Source};

/// Refuses what whoever calls cannot have, before anything is made.
pub(super) fn refuse(spec: &ContainerSpec, facts: &HostFacts, options: &CreateOptions) -> Result<()> {
    if facts.has(CAP_SYS_ADMIN) {
        return Ok(());
    }
    if spec.namespace(NamespaceKind::User).is_none() {
        return unsupported("rootless container requires user namespaces (/linux/namespaces)");
    }
    if !options.veths.is_empty() || !spec.net_devices.is_empty() {
        return unsupported(
            "a network device of the host can be given to a container by root only (/linux/netDevices)",
        );
    }
    if spec.intel_rdt.is_some() {
        return unsupported("resctrl groups can be made by root only (/linux/intelRdt)");
    }
    if let Some(index) = spec.mounts.iter().position(|mount| mount.idmap.is_some()) {
        return unsupported(&format!(
            "a mount of the host can be given other ids by root only (/mounts/{index}/uidMappings)"
        ));
    }
    check_mount_ids(spec)
}

fn unsupported(text: &str) -> Result<()> {
    Err(Error::Unsupported(text.to_owned()))
}

/// `uid=` and `gid=` of a file system name ids inside; the kernel says EINVAL for one that is not mapped.
fn check_mount_ids(spec: &ContainerSpec) -> Result<()> {
    if !spec.makes(NamespaceKind::User) {
        return Ok(());
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        if !matches!(mount.kind, MountKind::Filesystem(_)) {
            continue;
        }
        for option in &mount.data {
            let (name, map) = match option.split_once('=') {
                Some(("uid", _)) => ("uid", &spec.uid_mappings),
                Some(("gid", _)) => ("gid", &spec.gid_mappings),
                _ => continue,
            };
            let id = option.split_once('=').and_then(|(_, id)| id.parse::<u32>().ok());
            if id.is_some_and(|id| !maps(map, id)) {
                return unsupported(&format!(
                    "cannot specify {name}= mount options for unmapped {name} in rootless containers: {option} \
                     (/mounts/{index}/options)"
                ));
            }
        }
    }
    Ok(())
}

fn maps(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|range| id >= range.container_id && id - range.container_id < range.size)
}

/// Whether a process is closed to tracers from its first step. An ordinary user that is to map ids for it could not open
/// its files under `/proc` then. Until that is done only processes of the same user on the host could trace it, and those
/// may trace the runtime as well.
pub(super) fn hides_first(spec: &ContainerSpec, facts: &HostFacts) -> bool {
    facts.has(CAP_SYS_ADMIN) || !spec.makes(NamespaceKind::User)
}

/// Who writes the mappings. Without a right the kernel takes one line that maps the caller's own id, and that of a group
/// only after `setgroups` is switched off (user_namespaces(7)); all else is for the helpers.
pub(super) fn id_maps(spec: &ContainerSpec, facts: &HostFacts, helpers: &IdMapHelpers) -> Result<IdMaps> {
    let own_uid = is_own(&spec.uid_mappings, facts.euid);
    let own_gid = is_own(&spec.gid_mappings, facts.egid);
    let helper = |may: bool, path: &Option<String>, name: &str, field: &str| match (may, path) {
        (true, _) => Ok(None),
        (false, Some(path)) => Ok(Some(path.clone())),
        (false, None) => Err(Error::Unsupported(format!(
            "{name} is not in PATH: it is needed to map more than the caller's own id (/linux/{field})"
        ))),
    };
    let deny_setgroups = own_gid && !facts.has(CAP_SETGID);
    Ok(IdMaps {
        uids: spec.uid_mappings.clone(),
        gids: spec.gid_mappings.clone(),
        newuidmap: helper(facts.has(CAP_SETUID) || own_uid, &helpers.newuidmap, "newuidmap", "uidMappings")?,
        newgidmap: helper(facts.has(CAP_SETGID) || own_gid, &helpers.newgidmap, "newgidmap", "gidMappings")?,
        deny_setgroups,
    })
}

fn is_own(map: &[IdMapping], id: u32) -> bool {
    matches!(map, [IdMapping { host_id, size: 1, .. }] if *host_id == id)
}

/// Whether the container's process may leave and take supplementary groups.
fn setgroups_denied(spec: &ContainerSpec, facts: &HostFacts) -> bool {
    let own_map = spec.makes(NamespaceKind::User) && is_own(&spec.gid_mappings, facts.egid);
    facts.setgroups_denied || (own_map && !facts.has(CAP_SETGID))
}

/// Whether the runtime itself cannot go into a pid namespace for a birth and come back: inside a user namespace it has no
/// right in its own pid namespace, which belongs to somebody outside, and an ordinary user has none in any.
pub(super) fn births_by_launcher(facts: &HostFacts) -> bool {
    facts.in_user_namespace || !facts.has(CAP_SYS_ADMIN)
}

/// The launcher of an exec, where one is needed. `init` is the slot of the container's first process. An ordinary user has
/// rights in the container's namespaces once it is in the user namespace that owns them.
pub(super) fn exec_launcher(
    kinds: &[NamespaceKind],
    process: &Process,
    facts: &HostFacts,
    init: Slot,
) -> Option<Launcher> {
    let user = kinds.contains(&NamespaceKind::User) && !facts.has(CAP_SYS_ADMIN);
    let pid = kinds.contains(&NamespaceKind::Pid) && births_by_launcher(facts);
    (user || pid).then(|| Launcher {
        user_namespace: user.then_some(init),
        join: pid.then_some((NamespaceKind::Pid, init)).into_iter().collect(),
        hides_first: true,
        oom_score_adj: process.oom_score_adj.filter(|_| user),
        ..Launcher::default()
    })
}

/// The supplementary groups that the process gets. Where groups cannot be set an ordinary user is told so; the root of a
/// user namespace, for whom an engine filled in the groups of an image, goes without, as in runc and crun.
pub(super) fn additional_gids(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    wanted: &[u32],
) -> Result<Vec<u32>> {
    if wanted.is_empty() || !setgroups_denied(spec, facts) {
        return Ok(wanted.to_vec());
    }
    if !facts.has(CAP_SYS_ADMIN) {
        return Err(Error::Unsupported(
            "cannot set any additional groups in a rootless container: setgroups(2) is switched off where a user maps its \
             own group alone (/process/user/additionalGids)"
                .to_owned(),
        ));
    }
    plan.note("additionalGids are left out: setgroups(2) is switched off in the runtime's user namespace");
    Ok(Vec::new())
}

/// What the child opens in its own mount namespace because the host side may not.
#[derive(Debug, Default)]
pub(super) struct Openings {
    by_child: Vec<Planned<ChildStep>>,
}

impl Openings {
    /// Plans the opening of the root file system.
    pub(super) fn rootfs(&mut self, plan: &mut Plan, facts: &HostFacts, path: &str, detached: bool, slot: Slot) {
        let (path, from) = (path.to_owned(), "/root/path");
        if facts.may_mount || !detached {
            plan.host_from(from, HostStep::OpenRootfs { path, slot, detached });
        } else {
            plan.note("mounts are copied by the container's process: the runtime may not mount where it is");
            self.by_child.push(Planned { step: ChildStep::OpenRootfs { path, slot }, from: Some(from.to_owned()) });
        }
    }

    /// Plans the opening of the source of a mount.
    pub(super) fn source(&mut self, plan: &mut Plan, facts: &HostFacts, from: Option<&str>, source: Source) {
        let from = from.map(str::to_owned);
        if facts.may_mount {
            plan.host.push(Planned { step: HostStep::OpenSource(source), from });
        } else {
            self.by_child.push(Planned { step: ChildStep::OpenSource(source), from });
        }
    }

    /// Appends what is the child's, to be done with the caller's own ids, which decide what the caller may reach.
    pub(super) fn plan_by_child(self, plan: &mut Plan) {
        plan.child.extend(self.by_child);
    }
}
