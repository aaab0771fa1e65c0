//! Device nodes: the ones that every container has, and those of the definition.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Device, DeviceKind, IdMapping, MountKind, NamespaceKind};

use super::rootless::Openings;
use super::{Plan, has_user_namespace};
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::step::{ChildStep, HostStep, Slot};

/// Path, major, minor. Source: runtime-spec, config-linux.md, default devices.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The nodes to make, with the copy that is mounted where none can be made, and where they come from.
#[derive(Debug, Default)]
pub(super) struct DeviceSources {
    list: Vec<(Device, Option<Slot>, Option<String>)>,
    links: bool,
}

/// In a user namespace no node can be made there. The nodes that every container has are the host's own then; those of the
/// definition are made by the host side where it can, as the definition says, and the host's own otherwise.
///
/// # Errors
/// [`Error::Unsupported`] for an owner that the user namespace does not have.
pub(super) fn plan_sources(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    openings: &mut Openings,
) -> Result<DeviceSources> {
    if !populates_dev(spec) {
        plan.note("/dev is a bind mount or not the container's own: no device nodes are made in it");
        return Ok(DeviceSources::default());
    }
    let bound = has_user_namespace(spec) || !facts.makes_nodes();
    if bound {
        plan.note("device nodes are mounts of the host's: what may not make them works with no others");
    }
    let defaults = DEFAULT_DEVICES
        .iter()
        .filter(|(path, _, _)| !spec.devices.iter().any(|device| device.path == *path))
        .map(|(path, major, minor)| (default_device(path, *major, *minor), None));
    let given = spec.devices.iter().enumerate().map(|(i, d)| (d.clone(), Some(format!("/linux/devices/{i}"))));
    let all: Vec<_> = defaults.chain(given).collect();
    let mut sources = DeviceSources { links: true, ..DeviceSources::default() };
    let mut nodes = Vec::new();
    for (device, from) in all {
        let slot = (bound && device.kind != DeviceKind::Fifo).then(|| plan.slot());
        match (slot, &from) {
            (Some(slot), Some(from)) if facts.makes_nodes() && facts.may_mount && knows_ids(spec) => {
                nodes.push((owned_on_host(&device, spec, from)?, slot));
            }
            (Some(slot), from) => {
                if from.is_some() {
                    plan.note(format!("{}: mode and owner are those of the host's node", device.path));
                }
                openings.device(plan, facts, from.as_deref(), &device, slot);
            }
            (None, _) => {}
        }
        sources.list.push((device, slot, from));
    }
    if !nodes.is_empty() {
        plan.note("device nodes of the definition are made outside the user namespace and mounted");
        let label = spec.mount_label.as_ref().map(|label| format!("context=\"{label}\""));
        plan.host_from("/linux/devices", HostStep::MakeNodes { nodes, label });
    }
    Ok(sources)
}

/// Whether the definition tells what the container's ids are on the host. It need not where a user namespace is joined.
fn knows_ids(spec: &ContainerSpec) -> bool {
    has_user_namespace(spec) && !spec.uid_mappings.is_empty() && !spec.gid_mappings.is_empty()
}

/// The device with its owner as the host knows it.
fn owned_on_host(device: &Device, spec: &ContainerSpec, from: &str) -> Result<Device> {
    let outside = |id: u32, mappings: &[IdMapping], what: &str| {
        IdMapping::host_id_of(id, mappings).ok_or_else(|| {
            let path = &device.path;
            Error::Unsupported(format!("{path}: {what} {id} is not in the user namespace (config.json {from}/{what})"))
        })
    };
    let uid = outside(device.uid, &spec.uid_mappings, "uid")?;
    let gid = outside(device.gid, &spec.gid_mappings, "gid")?;
    Ok(Device { uid, gid, ..device.clone() })
}

/// Paths of the nodes of a definition, the default ones first.
pub(super) fn nodes(spec: &ContainerSpec) -> impl Iterator<Item = String> + '_ {
    let defaults = DEFAULT_DEVICES.iter().map(|(path, ..)| (*path).to_owned());
    let given = spec.devices.iter().map(|device| device.path.clone());
    defaults.filter(|path| !spec.devices.iter().any(|device| device.path == *path)).chain(given)
}

/// Whether the container's `/dev/null` is certain to be the null device.
pub(super) fn has_null(spec: &ContainerSpec) -> bool {
    populates_dev(spec) && !spec.devices.iter().any(|device| device.path == "/dev/null")
}

/// Whether `/dev` is ours to fill: it is not when the definition binds another one there.
fn populates_dev(spec: &ContainerSpec) -> bool {
    let bound = |mount: &runtime_spec::model::Mount| {
        matches!(mount.kind, MountKind::Bind { .. }) && mount.destination.trim_end_matches('/') == "/dev"
    };
    spec.namespace(NamespaceKind::Mount).is_some() && !spec.mounts.iter().any(bound)
}

fn default_device(path: &str, major: u32, minor: u32) -> Device {
    Device { path: path.to_owned(), kind: DeviceKind::Char, major, minor, mode: Some(0o666), uid: 0, gid: 0 }
}

/// Makes the nodes, then the links.
pub(super) fn plan_devices(plan: &mut Plan, sources: &DeviceSources) {
    for (device, bind, from) in &sources.list {
        let step = ChildStep::MakeDevice { device: device.clone(), bind: *bind };
        match from {
            Some(from) => plan.child_from(from.clone(), step),
            None => plan.child(step),
        }
    }
    if sources.links {
        plan.child(ChildStep::MakeDeviceLinks);
    }
}
