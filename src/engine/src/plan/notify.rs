//! The socket through which the program tells that it is ready, where the caller's supervisor waits for that.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{MountAttr, NamespaceKind, PropagationKind};

use super::Plan;
use super::rootless::Openings;
use crate::facts::HostFacts;
use crate::notify;
use crate::options::CreateOptions;
use crate::step::{BindMount, ChildStep, HostStep, Slot, Source, Within};

/// Whether there is one. A definition that names a socket itself is left alone.
pub(super) fn is_wanted(spec: &ContainerSpec, options: &CreateOptions) -> bool {
    let named = |env: &[String]| env.iter().any(|entry| entry.starts_with("NOTIFY_SOCKET="));
    options.notify.is_some()
        && spec.namespace(NamespaceKind::Mount).is_some()
        && spec.process.as_ref().is_some_and(|process| !named(&process.env))
}

pub(super) fn plan_source(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
    openings: &mut Openings,
) -> Option<Slot> {
    let notify = options.notify.as_ref()?;
    if !is_wanted(spec, options) {
        plan.note("NOTIFY_SOCKET of the caller is not passed on: the definition has its own, or no mount namespace");
        return None;
    }
    let slot = plan.slot();
    plan.note(format!("NOTIFY_SOCKET of the caller: what the program says in {} is passed on", notify::INSIDE));
    plan.host(HostStep::MakeNotifyFolder { path: notify.folder.clone() });
    let source = Source {
        path: notify.folder.clone(),
        within: Within::Host,
        recursive: false,
        nofollow: true,
        copy_symlink: false,
        propagation: Some(PropagationKind::Private),
        slot,
    };
    openings.source(plan, facts, None, source);
    Some(slot)
}

/// After the mounts of the definition, which may have one on `/run`.
pub(super) fn plan_mount(plan: &mut Plan, slot: Option<Slot>) {
    let Some(slot) = slot else { return };
    plan.child(ChildStep::MountBind(BindMount {
        destination: notify::INSIDE.to_owned(),
        slot,
        set: MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC,
        clear: MountAttr::empty(),
        recursive_set: MountAttr::empty(),
        recursive_clear: MountAttr::empty(),
        propagation: Vec::new(),
        nofollow: false,
        links_refused: false,
        on_proc: false,
        copy_symlink: false,
    }));
}
