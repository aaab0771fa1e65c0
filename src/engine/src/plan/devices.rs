//! Device nodes: the ones that every container has, and those of the definition.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Device, DeviceKind, MountKind, NamespaceKind, PropagationKind};

use super::rootless::Openings;
use super::{Plan, has_user_namespace};
use crate::facts::HostFacts;
use crate::step::{ChildStep, Slot, Source};

/// Path, major, minor. Source: runtime-spec, config-linux.md, default devices.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The nodes to make, with the host's node where one has to be bound, and where they come from.
#[derive(Debug, Default)]
pub(super) struct DeviceSources {
    list: Vec<(Device, Option<Slot>, Option<String>)>,
    links: bool,
}

/// In a user namespace no node can be made, so the host's is opened to be bound.
pub(super) fn plan_sources(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    openings: &mut Openings,
) -> DeviceSources {
    if !populates_dev(spec) {
        plan.note("/dev is a bind mount or not the container's own: no device nodes are made in it");
        return DeviceSources::default();
    }
    let bound = has_user_namespace(spec) || facts.in_user_namespace;
    if bound {
        plan.note("device nodes are bind mounts of the host's: a user namespace cannot make them");
    }
    let defaults = DEFAULT_DEVICES
        .iter()
        .filter(|(path, _, _)| !spec.devices.iter().any(|device| device.path == *path))
        .map(|(path, major, minor)| (default_device(path, *major, *minor), None));
    let given = spec.devices.iter().enumerate().map(|(i, d)| (d.clone(), Some(format!("/linux/devices/{i}"))));
    let all: Vec<_> = defaults.chain(given).collect();
    let mut sources = DeviceSources { links: true, ..DeviceSources::default() };
    for (device, from) in all {
        let slot = (bound && device.kind != DeviceKind::Fifo).then(|| {
            let slot = plan.slot();
            let source = Source {
                path: device.path.clone(),
                recursive: false,
                nofollow: false,
                copy_symlink: false,
                propagation: PropagationKind::Private,
                slot,
            };
            openings.source(plan, facts, from.as_deref(), source);
            slot
        });
        sources.list.push((device, slot, from));
    }
    sources
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
