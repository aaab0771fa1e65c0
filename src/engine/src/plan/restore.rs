//! The plan of a restore: groups and limits are ours, as for a new container; the processes and their namespaces are
//! CRIU's to bring back.
//!
//! The child becomes CRIU, in a mount namespace of its own where it alone sees the root file system prepared, so that
//! nothing of that is left however it ends.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Mount, MountKind, NamespaceKind, PropagationKind};

use super::{Plan, cgroups, checkpoint, mounts, namespaces, overlay, plan_host_hooks, process, unit};
use crate::criu;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::gate::Gate;
use crate::options::{CreateOptions, RestoreOptions};
use crate::step::{ChildStep, HostStep, RestoreImages, Slot, Source, Within};

/// Plans a restore. `staging` is an empty folder that CRIU's own mount namespace has the root file system mounted on.
///
/// # Errors
/// [`Error::Unsupported`] for what CRIU cannot bring back, and as [`plan_create`](super::plan_create).
pub(crate) fn plan_restore(
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
    restore: &RestoreOptions,
    staging: &str,
) -> Result<Plan> {
    checkpoint::refuse_unsavable(spec)?;
    let mut plan = Plan { id: options.id.clone(), ..Plan::default() };
    cgroups::plan_groups(&mut plan, spec, facts, options)?;
    let (first, second) = match &spec.overlay {
        Some(layers) => overlay::plan_copies(&mut plan, spec, facts, layers)?,
        None => (plan_rootfs(&mut plan, options), plan_rootfs(&mut plan, options)),
    };
    let (joined, inherited) = plan_namespaces(&mut plan, spec)?;
    let binds = plan_bind_sources(&mut plan, spec, options);
    let console = process::plan_console(&mut plan, spec.process.as_ref(), options.console_socket.as_deref());
    let rpc = plan.slot();
    plan.host(HostStep::OpenRpc { slot: rpc });
    let into_cgroup = plan.unit.is_none() && plan.groups.iter().any(cgroup::GroupPath::is_unified);
    let kinds = vec![NamespaceKind::Mount];
    plan.host(HostStep::Spawn { namespaces: kinds, into_cgroup, launcher: None, pid_namespace: None });

    plan.host(HostStep::AwaitGate { gate: Gate::Namespaces });
    unit::plan_start(&mut plan, Vec::new());
    plan.host(HostStep::OpenGate { gate: Gate::Namespaces, slots: Vec::new() });

    plan.child(ChildStep::PassGate { gate: Gate::Namespaces, slots: Vec::new() });
    // A cgroup namespace is the images': CRIU stays in the host's.
    if !plan.groups.is_empty() && !cgroups::is_unified(facts) {
        plan.child(ChildStep::JoinCgroups);
    }
    // What is made in the root file system has the modes that it would have at creation.
    plan.child(ChildStep::SetUmask { mask: 0 });
    // CRIU gives mounts the peers that their sources have, so those of the host are cut off only where none is wanted.
    let peers = wants_peers(spec);
    if !peers {
        plan.child(ChildStep::SetRootPropagation { kind: PropagationKind::Slave, recursive: true });
    }
    plan.child(attach(staging, first, PropagationKind::Private, peers));
    plan_mount_points(&mut plan, spec, &binds);
    plan.child(ChildStep::DetachMounts { path: staging.to_owned() });
    plan.child(attach(staging, second, PropagationKind::Slave, peers));
    let (images, work) = (restore.criu.images.clone(), restore.criu.work.clone());
    plan.child(ChildStep::OpenFolders { images, work });
    plan.child(ChildStep::PassGate { gate: Gate::Rootfs, slots: Vec::new() });
    let keep = inherited.iter().map(|(_, slot)| *slot).collect();
    plan.child(ChildStep::BecomeCriu { program: criu::program(&restore.criu)?.to_owned(), slot: rpc, keep });

    plan.host(HostStep::AwaitGate { gate: Gate::Rootfs });
    cgroups::plan_limits(&mut plan, spec, facts);
    plan.host(HostStep::OpenGate { gate: Gate::Rootfs, slots: Vec::new() });
    let images = RestoreImages {
        options: restore.clone(),
        rpc,
        root: staging.to_owned(),
        rootfs: options.rootfs.clone(),
        mounts: checkpoint::external_mounts(spec, facts, &plan.groups, &options.bundle),
        inherited,
        joined,
        config_file: checkpoint::config_file(spec),
        lsm_profile: lsm_profile(spec, facts, restore),
        console: console.map(|console| console.slot),
        inside: plan_inside(&mut plan, spec, options),
    };
    plan.host(HostStep::RestoreImages(Box::new(images)));
    process::plan_ready(&mut plan, spec, options);
    Ok(plan)
}

fn plan_rootfs(plan: &mut Plan, options: &CreateOptions) -> Slot {
    let slot = plan.slot();
    plan.host_from("/root/path", HostStep::OpenRootfs { path: options.rootfs.clone(), slot, detached: true });
    slot
}

/// A parent that is no slave is made private, so that the host does not see what is attached. A slave has to stay one: CRIU
/// wants sources of mounts that are.
fn attach(staging: &str, slot: Slot, propagation: PropagationKind, private_parent: bool) -> ChildStep {
    ChildStep::AttachRootfs { path: staging.to_owned(), slot, propagation, private_parent }
}

/// Whether a mount of the container is to be a peer of one of the host's.
fn wants_peers(spec: &ContainerSpec) -> bool {
    let mut all = spec.rootfs_propagation.iter().chain(spec.mounts.iter().flat_map(|mount| &mount.propagation));
    all.any(|propagation| propagation.kind == PropagationKind::Shared)
}

type Joined = Vec<(NamespaceKind, String)>;

/// Namespaces to join: those that CRIU joins by path, and the descriptors of the others.
fn plan_namespaces(plan: &mut Plan, spec: &ContainerSpec) -> Result<(Joined, Vec<(NamespaceKind, Slot)>)> {
    let (mut by_path, mut by_slot) = (Vec::new(), Vec::new());
    for (kind, path) in checkpoint::joined(spec) {
        if kind == NamespaceKind::Cgroup {
            return Err(Error::Unsupported("criu cannot restore into a cgroup namespace that is there".to_owned()));
        }
        if checkpoint::is_handed_over(kind) {
            let slot = plan.slot();
            let step = HostStep::OpenNamespace { kind, path, not_own: false, slot };
            plan.host_from("/linux/namespaces", step);
            by_slot.push((kind, slot));
        } else {
            by_path.push((kind, path));
        }
    }
    Ok((by_path, by_slot))
}

/// Binds are mounted while mount points are made, since some may lie on others.
fn plan_bind_sources(plan: &mut Plan, spec: &ContainerSpec, options: &CreateOptions) -> Vec<Option<Slot>> {
    let mut slots = Vec::with_capacity(spec.mounts.len());
    for (index, mount) in spec.mounts.iter().enumerate() {
        let MountKind::Bind { recursive } = mount.kind else {
            slots.push(None);
            continue;
        };
        let slot = plan.slot();
        let source = Source {
            path: mounts::absolute(mount.source.as_deref().unwrap_or_default(), &options.bundle),
            within: Within::Host,
            recursive,
            nofollow: mount.copy_symlink,
            copy_symlink: mount.copy_symlink,
            propagation: Some(PropagationKind::Private),
            slot,
        };
        plan.host_from(format!("/mounts/{index}/source"), HostStep::OpenSource(source));
        slots.push(Some(slot));
    }
    slots
}

/// Makes what the mounts of the definition are mounted on. What lies on another file system of the container's comes back
/// with that one.
fn plan_mount_points(plan: &mut Plan, spec: &ContainerSpec, binds: &[Option<Slot>]) {
    for (index, mount) in spec.mounts.iter().enumerate() {
        if lies_on_filesystem(mount, &spec.mounts[..index]) {
            continue;
        }
        let step = match (&mount.kind, binds[index]) {
            (MountKind::Bind { .. }, Some(slot)) => ChildStep::MountBind(mounts::bind(mount, slot)),
            (MountKind::Filesystem(_), _) => ChildStep::MakeMountPoint { destination: mount.destination.clone() },
            _ => continue,
        };
        plan.child_from(format!("/mounts/{index}"), step);
    }
}

fn lies_on_filesystem(mount: &Mount, earlier: &[Mount]) -> bool {
    earlier.iter().any(|other| {
        let inside = mount.destination.strip_prefix(other.destination.trim_end_matches('/'));
        inside.is_some_and(|rest| rest.starts_with('/'))
            && matches!(other.kind, MountKind::Filesystem(_) | MountKind::Cgroup)
    })
}

/// Links and hooks, while the namespaces are there and nothing runs in them. CRIU brings no network device back.
fn plan_inside(plan: &mut Plan, spec: &ContainerSpec, options: &CreateOptions) -> Vec<crate::step::Planned<HostStep>> {
    let before = plan.host.len();
    if spec.makes(NamespaceKind::Network) {
        plan.host(HostStep::BringLoopbackUp);
        namespaces::plan_links(plan, spec, options);
    }
    plan_host_hooks(plan, spec);
    plan.host.split_off(before)
}

/// The label that the caller gives, else that of the definition where the host has such labels: never the images' alone.
fn lsm_profile(spec: &ContainerSpec, facts: &HostFacts, options: &RestoreOptions) -> Option<String> {
    if let Some(given) = &options.lsm_profile {
        return Some(given.clone());
    }
    let process = spec.process.as_ref()?;
    let apparmor = process.apparmor_profile.as_ref().filter(|_| facts.apparmor).map(|name| format!("apparmor:{name}"));
    apparmor
        .or_else(|| process.selinux_label.as_ref().filter(|_| facts.selinux).map(|label| format!("selinux:{label}")))
}

#[cfg(test)]
mod tests {
    use cgroup::Mode;

    use super::super::tests::{facts, spec};
    use super::*;

    fn plan(spec: &ContainerSpec, mode: Mode, restore: &RestoreOptions) -> Result<Plan> {
        let options = CreateOptions {
            id: "web1".to_owned(),
            bundle: "/b".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            ..CreateOptions::default()
        };
        let mut restore = restore.clone();
        restore.criu.program = Some("/usr/sbin/criu".to_owned());
        plan_restore(spec, &facts(mode), &options, &restore, "/run/skep/web1")
    }

    fn images(plan: &Plan) -> &RestoreImages {
        plan.host
            .iter()
            .find_map(|planned| match &planned.step {
                HostStep::RestoreImages(images) => Some(&**images),
                _ => None,
            })
            .unwrap()
    }

    fn example(linux: serde_json::Value) -> ContainerSpec {
        spec(serde_json::json!({}), linux)
    }

    #[test]
    fn our_limits_come_before_the_images() {
        let plan = plan(&example(serde_json::json!({})), Mode::Unified, &RestoreOptions::default()).unwrap();
        let names: Vec<_> = plan.host.iter().map(|planned| crate::host::step_name(&planned.step)).collect();
        let at = |name| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{name} in {names:?}"));
        assert!(at("make_cgroups") < at("spawn"));
        assert!(at("attach_device_program") < at("restore_images"));
        assert!(at("write_limits") < at("restore_images"));
        assert!(at("restore_images") < at("record_created"));
        let names: Vec<_> = plan.child.iter().map(|planned| crate::child::step_name(&planned.step)).collect();
        assert_eq!(names.last(), Some(&"become_criu"));
    }

    #[test]
    fn what_is_attached_stays_within_the_child() {
        let mut spec = example(serde_json::json!({}));
        let steps = |spec: &ContainerSpec| {
            let plan = plan(spec, Mode::Unified, &RestoreOptions::default()).unwrap();
            let slave = plan.child.iter().any(|planned| matches!(planned.step, ChildStep::SetRootPropagation { .. }));
            let is_private = |step: &ChildStep| matches!(step, ChildStep::AttachRootfs { private_parent: true, .. });
            (slave, plan.child.iter().filter(|planned| is_private(&planned.step)).count())
        };
        assert_eq!(steps(&spec), (true, 0));
        let shared = runtime_spec::model::Propagation { kind: PropagationKind::Shared, recursive: true };
        spec.mounts[0].propagation.push(shared);
        assert_eq!(steps(&spec), (false, 2));
    }

    #[test]
    fn the_definition_decides_on_the_label() {
        let confined = spec(serde_json::json!({ "apparmorProfile": "web" }), serde_json::json!({}));
        let label =
            |restore: &RestoreOptions| images(&plan(&confined, Mode::Unified, restore).unwrap()).lsm_profile.clone();
        assert_eq!(label(&RestoreOptions::default()).as_deref(), Some("apparmor:web"));
        let given = RestoreOptions { lsm_profile: Some("selinux:x".to_owned()), ..RestoreOptions::default() };
        assert_eq!(label(&given).as_deref(), Some("selinux:x"));
    }

    #[test]
    fn joined_namespaces_go_by_descriptor_or_by_path() {
        let namespaces = serde_json::json!([
            { "type": "mount" }, { "type": "network", "path": "/run/netns/a" }, { "type": "ipc", "path": "/proc/7/ns/ipc" },
        ]);
        let spec = example(serde_json::json!({ "namespaces": namespaces }));
        let planned = plan(&spec, Mode::Unified, &RestoreOptions::default()).unwrap();
        let images = images(&planned);
        assert_eq!(images.joined, [(NamespaceKind::Ipc, "/proc/7/ns/ipc".to_owned())]);
        let (kind, slot) = images.inherited[0];
        assert_eq!(kind, NamespaceKind::Network);
        assert!(images.inside.is_empty(), "a joined network has its devices");
        let kept = planned
            .child
            .iter()
            .any(|planned| matches!(&planned.step, ChildStep::BecomeCriu { keep, .. } if *keep == [slot]));
        assert!(kept);
        let namespaces = serde_json::json!([{ "type": "mount" }, { "type": "cgroup", "path": "/proc/7/ns/cgroup" }]);
        let spec = example(serde_json::json!({ "namespaces": namespaces }));
        let refused = plan(&spec, Mode::Unified, &RestoreOptions::default()).unwrap_err().to_string();
        assert!(refused.contains("cgroup"), "{refused}");
    }

    #[test]
    fn what_lies_on_a_filesystem_comes_back_with_it() {
        let on = |path: &str, kind: MountKind| Mount { destination: path.to_owned(), kind, ..Mount::default() };
        let mounts =
            [on("/dev", MountKind::Filesystem("tmpfs".to_owned())), on("/data", MountKind::Bind { recursive: false })];
        let check = |path: &str| lies_on_filesystem(&on(path, MountKind::Bind { recursive: false }), &mounts);
        assert!(check("/dev/shm"));
        assert!(!check("/device"));
        assert!(!check("/data/nested"), "a bind is mounted, and what is missing in it is made");
    }
}
