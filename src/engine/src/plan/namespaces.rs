//! Which namespaces the clone makes, which are joined and by whom, and what is set up in them.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{IdMapping, NamespaceKind};
use runtime_spec::validate::sysctl;
use sys::process::CAP_SYS_ADMIN;

use super::{Plan, has_user_namespace, rootless};
use crate::error::Result;
use crate::facts::HostFacts;
use crate::options::{CreateOptions, IdMapHelpers};
use crate::step::{ChildStep, HostStep, IdMaps, Launcher, Slot};
use crate::undo::Undo;

/// Decides on the clone. What one clone cannot do takes a launcher: a user namespace to join (the others are to belong to
/// it), clock offsets (they can only be set before the first process is born), and namespaces of the host to join
/// together with a new user namespace (whose root has no right to join them).
///
/// `maps` are those of a new user namespace; what the launcher does not wait for comes back.
pub(super) fn plan_spawn(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    maps: Option<IdMaps>,
) -> (HostStep, Option<IdMaps>) {
    let mut joined: Vec<(NamespaceKind, Slot)> = Vec::new();
    for (index, namespace) in spec.namespaces.iter().enumerate() {
        if let Some(path) = &namespace.path {
            let slot = plan.slot();
            joined.push((namespace.kind, slot));
            let not_own = is_changed(namespace.kind, spec);
            let step = HostStep::OpenNamespace { kind: namespace.kind, path: path.clone(), not_own, slot };
            plan.host_from(format!("/linux/namespaces/{index}/path"), step);
        }
    }
    let slot_of = |kind| joined.iter().find(|(k, _)| *k == kind).map(|(_, slot)| *slot);
    let user = slot_of(NamespaceKind::User);
    let others: Vec<_> = joined.iter().copied().filter(|(kind, _)| *kind != NamespaceKind::User).collect();
    let launched = user.is_some()
        || !spec.time_offsets.is_empty()
        || (maps.is_some() && !others.is_empty())
        || (slot_of(NamespaceKind::Pid).is_some() && rootless::births_by_launcher(facts));
    let namespaces = cloned_kinds(spec, facts, launched);
    let into_cgroup = plan.unit.is_none() && plan.groups.iter().any(cgroup::GroupPath::is_unified);
    if launched {
        plan.note("a short-lived launcher enters namespaces first: one clone alone cannot do it in the right order");
        let launcher = Launcher {
            // Nobody but the user's own processes can look into it until its ids are mapped.
            hides_first: rootless::hides_first(spec, facts),
            oom_score_adj: spec.process.as_ref().and_then(|p| p.oom_score_adj).filter(|_| !facts.has(CAP_SYS_ADMIN)),
            user_namespace: user,
            expected_maps: (user.is_some() && !(spec.uid_mappings.is_empty() && spec.gid_mappings.is_empty()))
                .then(|| (spec.uid_mappings.clone(), spec.gid_mappings.clone())),
            new_user_namespace: maps,
            join: others,
            time_offsets: spec.time_offsets.clone(),
            new_time_namespace: spec.makes(NamespaceKind::Time),
        };
        return (HostStep::Spawn { namespaces, into_cgroup, launcher: Some(launcher), pid_namespace: None }, None);
    }
    let pid_namespace = slot_of(NamespaceKind::Pid);
    let list: Vec<_> = others.into_iter().filter(|(kind, _)| *kind != NamespaceKind::Pid).collect();
    if !list.is_empty() {
        plan.child_from("/linux/namespaces", ChildStep::JoinNamespaces { list });
    }
    (HostStep::Spawn { namespaces, into_cgroup, launcher: None, pid_namespace }, maps)
}

/// Whether the definition sets something in a namespace of this kind: the host's own would be changed for the host's
/// processes, with the new root, another name or other kernel parameters.
fn is_changed(kind: NamespaceKind, spec: &ContainerSpec) -> bool {
    let named = spec.hostname.is_some() || spec.domainname.is_some();
    kind == NamespaceKind::Mount
        || (kind == NamespaceKind::Uts && named)
        || spec.sysctl.keys().any(|key| sysctl::namespace_of(key) == Some(kind))
}

/// The kinds that the clone makes. A launcher has made the user and time namespaces already.
fn cloned_kinds(spec: &ContainerSpec, facts: &HostFacts, launched: bool) -> Vec<NamespaceKind> {
    spec.namespaces
        .iter()
        .filter(|n| n.path.is_none())
        .map(|n| n.kind)
        .filter(|kind| match kind {
            NamespaceKind::Cgroup => super::cgroups::clone_makes_cgroup_namespace(facts),
            NamespaceKind::User | NamespaceKind::Time => !launched,
            _ => true,
        })
        .collect()
}

/// Mappings of a new user namespace, where one is made.
pub(super) fn plan_id_maps(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    helpers: &IdMapHelpers,
) -> Result<Option<IdMaps>> {
    if !spec.makes(NamespaceKind::User) {
        return Ok(None);
    }
    let maps = rootless::id_maps(spec, facts, helpers)?;
    for helper in maps.newuidmap.iter().chain(&maps.newgidmap) {
        plan.note(format!("{helper} maps the ids: without a right the kernel lets a user map its own alone"));
    }
    Ok(Some(maps))
}

/// Root of the user namespace, or the process's user where the definition maps no root: files need an owner that exists.
pub(super) fn become_root(spec: &ContainerSpec) -> ChildStep {
    let (uid, gid) = root_ids(spec);
    ChildStep::BecomeNamespaceRoot { uid, gid }
}

/// User and group that stand for root in the container's user namespace: those of its process where 0 is not mapped.
pub(crate) fn root_ids(spec: &ContainerSpec) -> (u32, u32) {
    let root_or = |map: &[IdMapping], id: u32| {
        let mapped = map.is_empty() || IdMapping::host_id_of(0, map).is_some();
        if mapped { 0 } else { id }
    };
    let (uid, gid) = spec.process.as_ref().map_or((0, 0), |process| (process.user.uid, process.user.gid));
    (root_or(&spec.uid_mappings, uid), root_or(&spec.gid_mappings, gid))
}

/// Network devices that come from the host.
pub(super) fn plan_links(plan: &mut Plan, spec: &ContainerSpec, options: &CreateOptions) {
    for device in &spec.net_devices {
        let from = format!("/linux/netDevices/{}", device.host_name.replace('~', "~0").replace('/', "~1"));
        plan.host_from(from, HostStep::MoveNetDevice { device: device.clone() });
    }
    let joined = spec.namespace(NamespaceKind::Network).and_then(|namespace| namespace.path.as_deref());
    for link in &options.links {
        let record = network::plan_record(link, &options.id, joined);
        plan.undo.push(Undo::Link { link: record.clone() });
        plan.host(HostStep::MakeLink { link: Box::new(link.clone()), record });
    }
}

/// What the child sets up in its namespaces before it mounts.
pub(super) fn plan_inside(plan: &mut Plan, spec: &ContainerSpec, facts: &HostFacts, options: &CreateOptions) {
    if has_user_namespace(spec) {
        plan.child_from("/linux/uidMappings", become_root(spec));
    }
    if !options.no_new_keyring {
        let label = super::process::key_label(spec.process.as_ref(), facts);
        plan.child(ChildStep::JoinKeyring { name: format!("_ses.{}", options.id), existing: false, label });
    }
    if spec.makes(NamespaceKind::Network) {
        plan.child(ChildStep::LoopbackUp);
    }
    if let Some(name) = &spec.hostname {
        plan.child_from("/hostname", ChildStep::SetHostname { name: name.clone() });
    }
    if let Some(name) = &spec.domainname {
        plan.child_from("/domainname", ChildStep::SetDomainname { name: name.clone() });
    }
}
