//! What an ordinary user can have, what is done another way for one, and what is refused with a reason.
//!
//! Three rights are told apart, since a runtime that is itself inside a user namespace has some of them: CAP_SYS_ADMIN
//! there ([`HostFacts::has`]), the right to mount where it is ([`HostFacts::may_mount`]), and being root of the machine.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Device, IdMapping, MountKind, NamespaceKind, Process};
use sys::process::{CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_PTRACE};

use super::Plan;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
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
    if !options.links.is_empty() || !spec.net_devices.is_empty() {
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
            if id.is_some_and(|id| IdMapping::host_id_of(id, map).is_none()) {
                return unsupported(&format!(
                    "cannot specify {name}= mount options for unmapped {name} in rootless containers: {option} \
                     (/mounts/{index}/options)"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a process is closed to tracers from its first step. An ordinary user that is to map ids for it could not open
/// its files under `/proc` then. Until that is done only processes of the same user on the host could trace it, and those
/// may trace the runtime as well.
pub(super) fn hides_first(spec: &ContainerSpec, facts: &HostFacts) -> bool {
    facts.has(CAP_SYS_ADMIN) || !spec.makes(NamespaceKind::User)
}

/// Whether a process that waits for its start is open to tracers meanwhile. An ordinary user may enter the namespaces of no
/// process that is closed to them, and so could not `exec` into the container. It is the user that the program will be by
/// then, with nothing of the host left but its memory; who can see it are the user's processes and, in a pid namespace of its
/// own, those of such an `exec` alone.
pub(super) fn shows_while_waiting(spec: &ContainerSpec, facts: &HostFacts, options: &CreateOptions) -> bool {
    options.start_by_other && !facts.has(CAP_SYS_PTRACE) && spec.makes(NamespaceKind::Pid)
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

    /// Plans the opening of the host's node of a device.
    pub(super) fn device(
        &mut self,
        plan: &mut Plan,
        facts: &HostFacts,
        from: Option<&str>,
        device: &Device,
        slot: Slot,
    ) {
        let (device, from) = (device.clone(), from.map(str::to_owned));
        if facts.may_mount {
            plan.host.push(Planned { step: HostStep::OpenDevice { device, slot }, from });
        } else {
            self.by_child.push(Planned { step: ChildStep::OpenDevice { device, slot }, from });
        }
    }

    /// Appends what is the child's, to be done with the caller's own ids, which decide what the caller may reach.
    pub(super) fn plan_by_child(self, plan: &mut Plan) {
        plan.child.extend(self.by_child);
    }
}

#[cfg(test)]
mod tests {
    use cgroup::Mode;

    use super::super::tests::{facts, names};
    use super::super::{Existing, plan_create, plan_exec};
    use super::*;
    use crate::options::ExecOptions;

    /// A user without any capability, to whom all cgroups are closed.
    fn user() -> HostFacts {
        let closed_hierarchies = vec![3];
        HostFacts {
            euid: 1000,
            egid: 1001,
            capabilities: 0,
            may_mount: false,
            closed_hierarchies,
            ..facts(Mode::Legacy)
        }
    }

    /// Root of a user namespace with its own mounts, as a rootless engine starts the runtime.
    fn inside() -> HostFacts {
        HostFacts {
            in_user_namespace: true,
            setgroups_denied: true,
            closed_hierarchies: vec![3],
            ..facts(Mode::Legacy)
        }
    }

    fn spec(change: impl FnOnce(&mut serde_json::Value)) -> ContainerSpec {
        let mut config = serde_json::to_value(runtime_spec::example::rootless(false, 1000, 1001)).unwrap();
        config["process"]["terminal"] = false.into();
        change(&mut config);
        let report = runtime_spec::load(&serde_json::to_vec(&config).unwrap());
        report.spec.unwrap_or_else(|| panic!("{:?}", report.findings))
    }

    fn options() -> CreateOptions {
        let path = |name: &str| Some(format!("/usr/bin/{name}"));
        CreateOptions {
            id: "web1".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            id_map_helpers: IdMapHelpers { newuidmap: path("newuidmap"), newgidmap: path("newgidmap") },
            ..CreateOptions::default()
        }
    }

    fn refused(spec: &ContainerSpec, facts: &HostFacts) -> String {
        plan_create(spec, facts, &options()).unwrap_err().to_string()
    }

    fn position(names: &[&str], name: &str) -> usize {
        names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no step {name} in {names:?}"))
    }

    #[test]
    fn a_users_child_copies_the_mounts_with_the_users_own_id() {
        let plan = plan_create(&spec(|_| {}), &user(), &options()).unwrap();
        assert!(!plan.host.iter().any(|p| matches!(p.step, HostStep::OpenRootfs { .. } | HostStep::OpenSource(_))));
        let names = names(&plan);
        let order =
            ["new_session", "pass_gate", "hide_from_tracers", "open_rootfs", "open_source", "become_namespace_root"];
        assert!(order.is_sorted_by_key(|name| position(&names, name)), "{names:?}");
        assert!(plan.groups.is_empty() && plan.warnings.is_empty(), "{:?}", plan.groups);
    }

    #[test]
    fn a_users_container_that_waits_is_open_to_exec() {
        let shown = |spec: &ContainerSpec, facts: &HostFacts, start_by_other| {
            let plan = plan_create(spec, facts, &CreateOptions { start_by_other, ..options() }).unwrap();
            let names = names(&plan);
            let at = names.iter().position(|name| *name == "show_to_tracers");
            assert!(
                at.is_none_or(|at| at > position(&names, "become_user") && at < position(&names, "set_no_new_privs"))
            );
            at.is_some()
        };
        assert!(shown(&spec(|_| {}), &user(), true));
        assert!(!shown(&spec(|_| {}), &user(), false), "nobody else can start it");
        assert!(!shown(&spec(|_| {}), &facts(Mode::Legacy), true));
        let joined = spec(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.iter_mut().filter(|n| n["type"] == "pid").for_each(|n| n["path"] = "/proc/7/ns/pid".into());
        });
        assert!(!shown(&joined, &user(), true), "others of that namespace would see it");
    }

    #[test]
    fn roots_child_is_closed_to_tracers_first() {
        let plan = plan_create(&spec(|_| {}), &facts(Mode::Legacy), &options()).unwrap();
        assert_eq!(names(&plan)[0], "hide_from_tracers");
        assert!(plan.host.iter().any(|p| matches!(p.step, HostStep::OpenRootfs { .. })));
    }

    #[test]
    fn an_own_id_is_mapped_directly_and_more_by_helpers() {
        let own = id_maps(&spec(|_| {}), &user(), &IdMapHelpers::default()).unwrap();
        assert!(own.newuidmap.is_none() && own.newgidmap.is_none() && own.deny_setgroups);
        let more = spec(|config| {
            let map = serde_json::json!([{ "containerID": 0, "hostID": 100_000, "size": 10 }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        let by_helpers = id_maps(&more, &user(), &options().id_map_helpers).unwrap();
        assert_eq!(by_helpers.newuidmap.as_deref(), Some("/usr/bin/newuidmap"));
        assert_eq!(by_helpers.newgidmap.as_deref(), Some("/usr/bin/newgidmap"));
        assert!(!by_helpers.deny_setgroups);
        let missing = id_maps(&more, &user(), &IdMapHelpers::default()).unwrap_err().to_string();
        assert!(missing.starts_with("newuidmap is not in PATH"), "{missing}");
        let by_root = id_maps(&more, &facts(Mode::Legacy), &IdMapHelpers::default()).unwrap();
        assert!(by_root.newuidmap.is_none() && !by_root.deny_setgroups);
    }

    #[test]
    fn groups_are_refused_to_a_user_and_left_out_inside() {
        let with_groups = spec(|config| config["process"]["user"]["additionalGids"] = serde_json::json!([0]));
        assert!(refused(&with_groups, &user()).starts_with("cannot set any additional groups"));
        let plan = plan_create(&with_groups, &inside(), &options()).unwrap();
        let given = plan.child.iter().find_map(|p| match &p.step {
            ChildStep::BecomeUser { user, .. } => Some(user.additional_gids.clone()),
            _ => None,
        });
        assert_eq!(given, Some(Vec::new()));
        assert!(plan.notes.iter().any(|note| note.starts_with("additionalGids")), "{:?}", plan.notes);
    }

    #[test]
    fn limits_without_a_cgroup_are_refused_and_device_rules_are_not() {
        let limited = spec(|config| config["linux"]["resources"] = serde_json::json!({ "pids": { "limit": 5 } }));
        let text = refused(&limited, &user());
        assert!(text.starts_with("cannot set pids limit: container could not join or create cgroup"), "{text}");
        let rules = serde_json::json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        let denied = spec(|config| config["linux"]["resources"] = rules);
        assert!(plan_create(&denied, &inside(), &options()).is_ok());
    }

    #[test]
    fn without_pid_namespace_and_cgroup_there_is_a_warning() {
        let loose = spec(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
        });
        assert_eq!(plan_create(&loose, &user(), &options()).unwrap().warnings.len(), 1);
    }

    fn launcher_of_exec(facts: &HostFacts) -> Option<Launcher> {
        let spec = spec(|_| {});
        let process = spec.process.clone().unwrap();
        let plan = plan_exec(&spec, &process, facts, "web1", Existing::default(), &ExecOptions::default()).unwrap();
        plan.host.into_iter().find_map(|p| match p.step {
            HostStep::Spawn { launcher, .. } => launcher,
            _ => None,
        })
    }

    #[test]
    fn an_exec_takes_a_launcher_where_the_runtime_cannot_come_back() {
        assert!(launcher_of_exec(&facts(Mode::Legacy)).is_none());
        assert!(launcher_of_exec(&inside()).is_some_and(|launcher| launcher.user_namespace.is_none()));
        assert!(launcher_of_exec(&user()).is_some_and(|launcher| launcher.user_namespace == Some(0)));
    }
}
