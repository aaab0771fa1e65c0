//! The root file system and everything that is mounted in it.

use runtime_spec::ContainerSpec;
use runtime_spec::guest_cgroups::GuestCgroups;
use runtime_spec::model::{
    Mount, MountAttr, MountIdmap, MountKind, NamespaceKind, Propagation, PropagationKind, SuperFlags,
};

use super::rootless::Openings;
use super::sources::{Copied, copied, of_host};
use super::{Plan, has_user_namespace};
use crate::facts::HostFacts;
use crate::options::CreateOptions;
use crate::step::{
    BindMount, CgroupMount, CgroupView, ChangeRoot, ChildStep, FilesystemMount, HostStep, Slot, Source, Within,
};

/// Slots of the sources, by index of the mount.
#[derive(Debug, Default)]
pub(super) struct Sources {
    binds: Vec<Option<Bind>>,
    cgroups: Vec<Vec<Bind>>,
    /// Copies that can be taken only when the service manager has made the groups.
    later: Vec<(Source, String)>,
}

impl Sources {
    pub(super) fn later(&self) -> Vec<(Source, String)> {
        self.later.clone()
    }
}

/// A mount that shows a copy.
#[derive(Debug)]
struct Bind {
    slot: Slot,
    taken: Taken,
}

/// When a copy is taken, and by whom.
#[derive(Debug)]
enum Taken {
    /// By the host side, before the clone.
    ByHost,
    /// By the child, before it mounts anything.
    ByChild,
    /// By the child, at the mount's turn.
    AtTurn(Source),
}

/// A mount attribute that is set only after the mount has been filled.
#[derive(Debug)]
pub(super) struct Postponed {
    destination: String,
    set: MountAttr,
    from: String,
}

/// Gives each source a slot. The host opens those that the child may not be able to reach, before the clone.
pub(super) fn plan_sources(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
    openings: &mut Openings,
) -> Sources {
    let mut sources = Sources::default();
    for (index, mount) in spec.mounts.iter().enumerate() {
        let mut views = Vec::new();
        let bind = match &mount.kind {
            MountKind::Bind { recursive } => {
                let path = absolute(mount.source.as_deref().unwrap_or_default(), &options.bundle);
                let copied = copied(spec, options, index, &path);
                let source = Source {
                    within: copied.within(),
                    recursive: *recursive,
                    nofollow: mount.src_nofollow || mount.copy_symlink,
                    copy_symlink: mount.copy_symlink,
                    propagation: source_propagation(spec).filter(|_| copied.within() == Within::Host),
                    slot: plan.slot(),
                    path,
                };
                Some(plan_bind_source(plan, facts, openings, source, copied, index))
            }
            MountKind::Filesystem(fstype) if fstype == "sysfs" && sysfs_is_bound(spec, mount) => {
                plan.note(format!(
                    "mounts[{index}]: a copy of the host's /sys, since a new sysfs shows the host's network, which the \
                     user namespace does not own"
                ));
                let source = host_source(spec, SYSFS.to_owned(), true, plan.slot());
                Some(plan_bind_source(plan, facts, openings, source, Copied::Before, index))
            }
            MountKind::Cgroup if !cgroup_view_is_new(spec, facts) => {
                views = plan_cgroup_sources(plan, spec, facts, options, index, openings, &mut sources.later);
                None
            }
            _ => None,
        };
        sources.binds.push(bind);
        sources.cgroups.push(views);
    }
    sources
}

fn plan_bind_source(
    plan: &mut Plan,
    facts: &HostFacts,
    openings: &mut Openings,
    source: Source,
    copied: Copied,
    index: usize,
) -> Bind {
    let slot = source.slot;
    let taken = match copied {
        Copied::Before => {
            openings.source(plan, facts, Some(&format!("/mounts/{index}/source")), source);
            if facts.may_mount { Taken::ByHost } else { Taken::ByChild }
        }
        Copied::AtTurn => Taken::AtTurn(source),
        Copied::Inside(path) => {
            plan.note(format!(
                "mounts[{index}]: the source is {path} of the container, with what is mounted there by then"
            ));
            Taken::AtTurn(Source { path, ..source })
        }
    };
    Bind { slot, taken }
}

/// A plain copy of something of the host.
fn host_source(spec: &ContainerSpec, path: String, recursive: bool, slot: Slot) -> Source {
    Source {
        path,
        within: Within::Host,
        recursive,
        nofollow: false,
        copy_symlink: false,
        propagation: source_propagation(spec),
        slot,
    }
}

/// A copy of a mount is a peer of the host's mount until told otherwise. It follows the container's root: what the
/// container mounts there may reach the host only where the whole root is shared with it.
fn source_propagation(spec: &ContainerSpec) -> Option<PropagationKind> {
    match spec.rootfs_propagation {
        Some(Propagation { kind: PropagationKind::Shared, .. }) => None,
        Some(Propagation { kind: PropagationKind::Private | PropagationKind::Unbindable, .. }) => {
            Some(PropagationKind::Private)
        }
        _ => Some(PropagationKind::Slave),
    }
}

/// What stands in for a sysfs that is certain to be refused.
pub(super) const SYSFS: &str = "/sys";

/// Whether a new sysfs is certain to be refused: it shows the network namespace, and mounting it takes rights over the
/// owner of that. A new user namespace owns neither the host's nor one that is joined; a user namespace that is joined may
/// own one that is joined with it, but not the host's. Options of the file system itself have no place on a copy.
pub(super) fn sysfs_is_bound(spec: &ContainerSpec, mount: &Mount) -> bool {
    let network = spec.namespace(NamespaceKind::Network);
    let owned = match network {
        None => false,
        Some(_) if spec.makes(NamespaceKind::Network) => true,
        Some(_) => !spec.makes(NamespaceKind::User),
    };
    has_user_namespace(spec) && has_own_mounts(spec) && !owned && mount.data.is_empty()
}

/// Whether the cgroup view is mounted new in the container's cgroup namespace, or copied from the host's folders.
pub(super) fn cgroup_view_is_new(spec: &ContainerSpec, facts: &HostFacts) -> bool {
    spec.namespace(NamespaceKind::Cgroup).is_some() && !facts.in_user_namespace
}

/// The folders of the host that a view of the groups consists of where it is copied, with the name of each hierarchy: the
/// container's groups, and the caller's own where it has none.
pub(super) fn copied_cgroup_views(
    facts: &HostFacts,
    groups: &[cgroup::GroupPath],
) -> impl Iterator<Item = (String, String)> {
    hierarchies(facts).map(|hierarchy| {
        let folder = match groups.iter().find(|group| group.hierarchy == hierarchy.id) {
            Some(group) => group.dir(),
            None => format!("{}{}", hierarchy.mountpoint, hierarchy.own_path),
        };
        (view(hierarchy, None).name, folder)
    })
}

/// Copies of the folders of a view, see [`copied_cgroup_views`].
fn plan_cgroup_sources(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
    index: usize,
    openings: &mut Openings,
    later: &mut Vec<(Source, String)>,
) -> Vec<Bind> {
    let folders: Vec<String> = copied_cgroup_views(facts, &plan.groups).map(|(_, folder)| folder).collect();
    let plan_folder = |path: String| {
        let copied = of_host(spec, options, &path);
        let source = host_source(spec, path, false, plan.slot());
        if plan.unit.is_some() && copied == Copied::Before && facts.may_mount {
            let slot = source.slot;
            later.push((source, format!("/mounts/{index}/source")));
            return Bind { slot, taken: Taken::ByHost };
        }
        plan_bind_source(plan, facts, openings, source, copied, index)
    };
    folders.into_iter().map(plan_folder).collect()
}

/// Mounts whose ids are mapped; returns the slots that go through gate 1, in order.
pub(super) fn plan_idmaps(plan: &mut Plan, spec: &ContainerSpec, sources: &Sources) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (index, mount) in spec.mounts.iter().enumerate() {
        if let (Some(idmap), Some(Bind { slot, taken: Taken::ByHost })) = (&mount.idmap, &sources.binds[index]) {
            slots.push(*slot);
            plan_idmap(plan, idmap, *slot, false, index);
        }
    }
    slots
}

fn plan_idmap(plan: &mut Plan, idmap: &MountIdmap, slot: Slot, of_child: bool, index: usize) {
    let step = HostStep::IdmapSource {
        slot,
        of_child,
        recursive: idmap.recursive,
        uids: idmap.uid_mappings.clone(),
        gids: idmap.gid_mappings.clone(),
    };
    plan.host_from(format!("/mounts/{index}/uidMappings"), step);
}

/// What the child copies itself. Only the host may map the ids of a copy: it hands the copy over for that.
fn plan_copy_of_child(plan: &mut Plan, mount: &Mount, copy: &Bind, index: usize) {
    match &copy.taken {
        Taken::ByHost => return,
        Taken::ByChild => {}
        Taken::AtTurn(source) => {
            plan.child_from(format!("/mounts/{index}/source"), ChildStep::OpenSource(source.clone()));
        }
    }
    if let Some(idmap) = &mount.idmap {
        plan_idmap(plan, idmap, copy.slot, true, index);
        plan.child_from(format!("/mounts/{index}/uidMappings"), ChildStep::HandOverSource { slot: copy.slot });
    }
}

/// Propagation of what was inherited, then the root file system where it lies.
pub(super) fn plan_rootfs(plan: &mut Plan, spec: &ContainerSpec, options: &CreateOptions, slot: Slot) {
    if !has_own_mounts(spec) {
        return;
    }
    let propagation = match spec.rootfs_propagation {
        Some(propagation) => propagation,
        None => {
            plan.note("no rootfsPropagation: the root is a recursive slave of the host's mounts");
            Propagation { kind: PropagationKind::Slave, recursive: true }
        }
    };
    plan.child_from(
        "/linux/rootfsPropagation",
        ChildStep::SetRootPropagation { kind: propagation.kind, recursive: propagation.recursive },
    );
    let step = ChildStep::AttachRootfs {
        path: options.rootfs.clone(),
        slot,
        propagation: propagation.kind,
        private_parent: propagation.kind == PropagationKind::Shared || !propagation.recursive,
    };
    plan.child_from("/root/path", step);
}

fn has_own_mounts(spec: &ContainerSpec) -> bool {
    spec.namespace(NamespaceKind::Mount).is_some()
}

/// The mounts of the definition, in order. Returns what is made read-only at the end.
pub(super) fn plan_mounts(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    sources: &Sources,
) -> Vec<Postponed> {
    let mut postponed = Vec::new();
    if !has_own_mounts(spec) {
        if !spec.mounts.is_empty() {
            plan.note("no mount namespace: the mounts of the definition are left out");
        }
        return postponed;
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        let from = format!("/mounts/{index}");
        let source = sources.binds[index].as_ref();
        let views = &sources.cgroups[index];
        for copy in source.into_iter().chain(views) {
            plan_copy_of_child(plan, mount, copy, index);
        }
        let step = match (&mount.kind, source) {
            (_, Some(source)) => ChildStep::MountBind(bind(mount, source.slot)),
            (MountKind::Bind { .. } | MountKind::Missing, None) => continue,
            (MountKind::Cgroup, None) => ChildStep::MountCgroups(cgroup_mount(mount, spec, facts, views)),
            (MountKind::Remount { bind }, None) => remount(mount, *bind),
            (MountKind::Filesystem(fstype), None) => {
                let mut step = filesystem(mount, fstype, spec.mount_label.as_deref());
                if fstype == "tmpfs" && step.attributes.contains(MountAttr::RDONLY) {
                    step.attributes.remove(MountAttr::RDONLY);
                    step.super_flags.remove(SuperFlags::RDONLY);
                    postponed.push(Postponed {
                        destination: mount.destination.clone(),
                        set: MountAttr::RDONLY,
                        from: format!("{from}/options"),
                    });
                }
                ChildStep::MountFilesystem(step)
            }
        };
        plan.child_from(from, step);
    }
    postponed
}

fn propagation(mount: &Mount) -> Vec<(PropagationKind, bool)> {
    mount.propagation.iter().map(|p| (p.kind, p.recursive)).collect()
}

/// What stands in for a file system has its attributes all over, and its care about where it goes.
pub(super) fn bind(mount: &Mount, slot: Slot) -> BindMount {
    let stands_in = matches!(mount.kind, MountKind::Filesystem(_));
    BindMount {
        destination: mount.destination.clone(),
        slot,
        set: mount.set,
        clear: mount.clear,
        recursive_set: if stands_in { mount.recursive_set | mount.set } else { mount.recursive_set },
        recursive_clear: mount.recursive_clear,
        propagation: propagation(mount),
        nofollow: mount.dest_nofollow,
        links_refused: stands_in,
        on_proc: may_cover_proc(&mount.destination),
        copy_symlink: mount.copy_symlink,
    }
}

fn remount(mount: &Mount, bind: bool) -> ChildStep {
    ChildStep::Remount {
        destination: mount.destination.clone(),
        set: mount.set,
        clear: mount.clear,
        super_set: if bind { SuperFlags::empty() } else { mount.super_set },
        super_clear: if bind { SuperFlags::empty() } else { mount.super_clear },
        data: if bind { Vec::new() } else { mount.data.clone() },
    }
}

fn filesystem(mount: &Mount, fstype: &str, label: Option<&str>) -> FilesystemMount {
    let mut data = mount.data.clone();
    if let Some(label) = label.filter(|_| takes_label(fstype)) {
        data.push(format!("context=\"{label}\""));
    }
    FilesystemMount {
        destination: mount.destination.clone(),
        fstype: fstype.to_owned(),
        source: mount.source.clone().unwrap_or_else(|| fstype.to_owned()),
        attributes: mount.set,
        recursive: mount.recursive_set,
        super_flags: mount.super_set,
        data,
        propagation: propagation(mount),
        copy_up: mount.tmpcopyup,
        nofollow: mount.dest_nofollow || matches!(fstype, "proc" | "sysfs"),
        on_proc: fstype == "proc" || may_cover_proc(&mount.destination),
    }
}

/// Files of `/proc` that only tell and may be covered (lxcfs does it). Anything else there takes part in security:
/// labels, kernel parameters, the files of processes.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Whether a definition may mount on this path of a procfs.
fn may_cover_proc(destination: &str) -> bool {
    COVERABLE.contains(&destination)
}

/// The kernel's own file systems label themselves.
fn takes_label(fstype: &str) -> bool {
    !matches!(fstype, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
}

fn cgroup_mount(mount: &Mount, spec: &ContainerSpec, facts: &HostFacts, copies: &[Bind]) -> CgroupMount {
    let namespaced = cgroup_view_is_new(spec, facts);
    // Copies come in the order of the hierarchies.
    let mut slots = copies.iter().map(|copy| copy.slot);
    let unified_only = super::cgroups::is_unified(facts) || spec.guest_cgroups == Some(GuestCgroups::Unified);
    let mut views: Vec<CgroupView> = hierarchies(facts).map(|hierarchy| view(hierarchy, slots.next())).collect();
    if unified_only {
        views.retain(|view| view.options.is_empty());
    }
    CgroupMount {
        destination: mount.destination.clone(),
        attributes: mount.set,
        unified_only,
        namespaced,
        views,
        propagation: propagation(mount),
    }
}

/// Every mounted hierarchy, in the order in which groups are planned.
fn hierarchies(facts: &HostFacts) -> impl Iterator<Item = &cgroup::Hierarchy> {
    facts.cgroups.hierarchies.iter().chain(&facts.cgroups.unified)
}

/// What a hierarchy is called and mounted with. Controllers that share one are reached by their own names through links.
fn view(hierarchy: &cgroup::Hierarchy, slot: Option<Slot>) -> CgroupView {
    let name = hierarchy.mountpoint.rsplit('/').next().unwrap_or_default().to_owned();
    let controllers = &hierarchy.controllers;
    let options = match (hierarchy.id, controllers.as_slice()) {
        (0, _) => Vec::new(),
        (_, [named]) if named.starts_with("name=") => vec!["none".to_owned(), named.clone()],
        _ => controllers.clone(),
    };
    let shared = hierarchy.id != 0 && controllers.len() > 1;
    let links = controllers.iter().filter(|c| shared && **c != name).cloned().collect();
    CgroupView { name, options, links, slot }
}

/// How the root is changed.
pub(super) fn plan_change_root(plan: &mut Plan, spec: &ContainerSpec, options: &CreateOptions) {
    let how = match (has_own_mounts(spec), options.no_pivot) {
        (false, _) => ChangeRoot::Chroot,
        (true, false) => ChangeRoot::Pivot,
        (true, true) => ChangeRoot::Move,
    };
    plan.child(ChildStep::ChangeRoot { how });
    if let Some(propagation) = spec.rootfs_propagation.filter(|_| has_own_mounts(spec)) {
        plan.child_from(
            "/linux/rootfsPropagation",
            ChildStep::SetRootPropagation { kind: propagation.kind, recursive: propagation.recursive },
        );
    }
}

/// What is done in the new root: terminal, kernel parameters, read-only parts, hidden paths.
pub(super) fn plan_after_root(
    plan: &mut Plan,
    spec: &ContainerSpec,
    console: Option<super::process::Console>,
    postponed: Vec<Postponed>,
) {
    let own = has_own_mounts(spec);
    super::process::plan_terminal(plan, spec.process.as_ref(), console, own, spec.ttys.filter(|_| own));
    if super::devices::has_null(spec) && spec.process.as_ref().is_some_and(|process| !process.terminal) {
        plan.child(ChildStep::ReopenNull);
    }
    if let Some(process) = spec.process.as_ref().filter(|p| !p.cwd.is_empty() && p.cwd != "/") {
        plan.child_from("/process/cwd", ChildStep::MakeWorkingFolder { path: process.cwd.clone() });
    }
    for later in postponed {
        let step = ChildStep::SetMountAttributes { destination: later.destination, set: later.set };
        plan.child_from(later.from, step);
    }
    if spec.root.readonly && has_own_mounts(spec) {
        let step = ChildStep::SetMountAttributes { destination: "/".to_owned(), set: MountAttr::RDONLY };
        plan.child_from("/root/readonly", step);
    }
    if !spec.sysctl.is_empty() {
        let values = spec.sysctl.iter().map(|(key, value)| (sysctl_path(key), value.clone())).collect();
        plan.child_from("/linux/sysctl", ChildStep::WriteSysctls { values });
    }
    if !spec.readonly_paths.is_empty() && has_own_mounts(spec) {
        plan.child_from("/linux/readonlyPaths", ChildStep::ProtectPaths { paths: unique(&spec.readonly_paths) });
    }
    if !spec.masked_paths.is_empty() && has_own_mounts(spec) {
        let label = spec.mount_label.as_ref().map(|label| format!("context=\"{label}\""));
        plan.child_from("/linux/maskedPaths", ChildStep::MaskPaths { paths: unique(&spec.masked_paths), label });
    }
}

/// A path that is named twice is covered once.
fn unique(paths: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(paths.len());
    for path in paths {
        if !kept.contains(path) {
            kept.push(path.clone());
        }
    }
    kept
}

/// `net.ipv4.ip_forward` is `net/ipv4/ip_forward`. A key that has slashes already keeps its dots, which may then be part
/// of a name (`net/ipv4/conf/eth0.1/forwarding`).
fn sysctl_path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'/' => key.to_owned(),
        _ => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    }
}

pub(super) fn absolute(path: &str, base: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", base.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_keys_of_both_kinds() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("hostname"), "hostname");
    }

    #[test]
    fn relative_sources_are_below_the_bundle() {
        assert_eq!(absolute("data", "/b/"), "/b/data");
        assert_eq!(absolute("/data", "/b"), "/data");
    }
}
