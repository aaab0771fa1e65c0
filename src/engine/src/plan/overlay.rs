//! A root file system of layers: what the host side mounts in the place of the folder.

use runtime_spec::ContainerSpec;
use runtime_spec::overlay::Overlay;

use super::Plan;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::step::{HostStep, OverlayRoot, Slot};

/// Where the layers stand.
pub(super) const FROM: &str = "/annotations/io.skep.overlay";

/// Mounts the layers. Their ids may follow the container's user namespace, which then has to have its mappings: `mapped` says
/// whether it has by now. The others are mounted before anything else, while groups and the child are made. The first gate
/// waits for either.
///
/// # Errors
/// [`Error::Unsupported`] for a caller that may not mount, and for a joined user namespace of unknown mappings.
pub(super) fn plan_root(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    slot: Slot,
    mapped: bool,
) -> Result<()> {
    match &spec.overlay {
        Some(overlay) if overlay.idmap == mapped => plan_mount(plan, spec, facts, overlay, (slot, None)),
        _ => Ok(()),
    }
}

fn plan_mount(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    overlay: &Overlay,
    (slot, copy): (Slot, Option<Slot>),
) -> Result<()> {
    if !facts.may_mount {
        return Err(Error::Unsupported(format!(
            "layers of a root file system can be mounted by root only, or by the root of a user namespace ({FROM})"
        )));
    }
    let first = |map: &[runtime_spec::model::IdMapping]| {
        map.iter().find(|range| range.container_id == 0 && range.size > 0).map(|range| range.host_id)
    };
    let owner = match (overlay.idmap, first(&spec.uid_mappings), first(&spec.gid_mappings)) {
        (false, ..) => None,
        (true, Some(uid), Some(gid)) => Some((uid, gid)),
        (true, ..) => {
            return Err(Error::Unsupported(format!(
                "layers that follow the container's ids need mappings of its root ({FROM}, /linux/uidMappings, \
                 /linux/gidMappings)"
            )));
        }
    };
    let root = OverlayRoot { layers: overlay.clone(), owner, label: spec.mount_label.clone(), slot, copy };
    plan.host_from(FROM, HostStep::MountOverlay(Box::new(root)));
    Ok(())
}

/// Mounts the layers for a restore, before there is a process of the container: once, and a copy of that mount, as a folder
/// would be opened twice.
///
/// # Errors
/// [`Error::Unsupported`] for a caller that may not mount.
pub(super) fn plan_copies(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    overlay: &Overlay,
) -> Result<(Slot, Slot)> {
    let (first, second) = (plan.slot(), plan.slot());
    plan_mount(plan, spec, facts, overlay, (first, Some(second)))?;
    Ok((first, second))
}

#[cfg(test)]
mod tests {
    use super::super::plan_create;
    use super::super::tests::facts;
    use super::*;
    use crate::gate::Gate;
    use crate::options::CreateOptions;

    fn plan(layers: &serde_json::Value, linux: &serde_json::Value, may_mount: bool) -> Result<Plan> {
        let mut config = serde_json::to_value(runtime_spec::example::example(false)).unwrap();
        config["annotations"] = serde_json::json!({ "io.skep.overlay": layers.to_string() });
        if let Some(namespaces) = linux.as_object() {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
            // Id 1 is mapped in every case here.
            config["process"]["user"] = serde_json::json!({ "uid": 1, "gid": 1 });
            for (key, value) in namespaces {
                config["linux"][key] = value.clone();
            }
        }
        let report = runtime_spec::load(&serde_json::to_vec(&config).unwrap());
        let spec = report.spec.unwrap_or_else(|| panic!("{:?}", report.findings));
        let options = CreateOptions { id: "web1".to_owned(), rootfs: "/b/r".to_owned(), ..CreateOptions::default() };
        let facts = HostFacts { may_mount, ..facts(cgroup::Mode::Legacy) };
        plan_create(&spec, &facts, &options)
    }

    fn map(host_id: u32) -> serde_json::Value {
        serde_json::json!([{ "containerID": 0, "hostID": host_id, "size": 65536 }])
    }

    #[test]
    fn layers_take_the_place_of_the_folder_once_ids_are_mapped() {
        let linux = serde_json::json!({ "uidMappings": map(100_000), "gidMappings": map(200_000) });
        let plan = plan(&serde_json::json!({ "lower": ["/a"], "idmap": true }), &linux, true).unwrap();
        let host = |wanted: fn(&HostStep) -> bool| plan.host.iter().position(|planned| wanted(&planned.step)).unwrap();
        assert!(!plan.host.iter().any(|planned| matches!(planned.step, HostStep::OpenRootfs { .. })));
        let mount = host(|step| matches!(step, HostStep::MountOverlay(_)));
        assert!(host(|step| matches!(step, HostStep::MapIds(_))) < mount);
        let HostStep::MountOverlay(root) = &plan.host[mount].step else { unreachable!() };
        assert_eq!(root.owner, Some((100_000, 200_000)));
        let open = host(|step| matches!(step, HostStep::OpenGate { gate: Gate::Namespaces, .. }));
        let HostStep::OpenGate { slots, .. } = &plan.host[open].step else { unreachable!() };
        assert!(mount < open && slots.contains(&root.slot));
    }

    #[test]
    fn layers_with_ids_of_their_own_are_mounted_while_the_rest_is_made() {
        let plan = plan(&serde_json::json!({ "lower": ["/a"] }), &serde_json::Value::Null, true).unwrap();
        let steps: Vec<_> = plan.host.iter().map(|planned| &planned.step).collect();
        assert!(matches!(steps[0], HostStep::MountOverlay(_)), "{:?}", steps[0]);
        assert_eq!(steps.iter().filter(|step| matches!(step, HostStep::MountOverlay(_))).count(), 1);
    }

    #[test]
    fn layers_that_cannot_be_mounted_are_refused() {
        let refused = |layers: serde_json::Value, linux, may_mount| plan(&layers, &linux, may_mount).unwrap_err();
        let error = refused(serde_json::json!({ "lower": ["/a"] }), serde_json::Value::Null, false);
        assert!(error.to_string().contains("by root only"), "{error}");
        let other = serde_json::json!([{ "containerID": 1, "hostID": 7, "size": 1 }]);
        let linux = serde_json::json!({ "uidMappings": other.clone(), "gidMappings": other });
        let error = refused(serde_json::json!({ "lower": ["/a"], "idmap": true }), linux, true);
        assert!(error.to_string().contains("need mappings of its root"), "{error}");
    }
}
