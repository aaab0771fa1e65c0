//! Every choice, made once and written down: `(definition, facts, options) -> Plan`.
//!
//! Pure: nothing is opened and nothing is changed. What `skep plan` prints is the very value that `create`, `run` and
//! `exec` perform. A choice that the definition did not make (a default, a relaxation, a fall-back) is noted.

mod cgroups;
mod devices;
mod exec;
mod mounts;
mod namespaces;
mod process;

use runtime_spec::ContainerSpec;
use runtime_spec::model::NamespaceKind;
use serde::Serialize;

use crate::error::Result;
use crate::facts::HostFacts;
use crate::gate::Gate;
use crate::options::CreateOptions;
use crate::step::{ChildStep, HookPoint, HostStep, Planned, Slot};
use crate::undo::Undo;

pub use exec::plan_exec;

/// What will be done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// The container.
    pub id: String,
    /// Choices that the definition did not make, with their reasons.
    pub notes: Vec<String>,
    /// The container's groups, one per hierarchy.
    pub groups: Vec<cgroup::GroupPath>,
    /// Host side, in order.
    pub host: Vec<Planned<HostStep>>,
    /// Child side, in order.
    pub child: Vec<Planned<ChildStep>>,
    /// What is undone when the container goes, in the order of doing.
    pub undo: Vec<Undo>,
    /// How many descriptors the two sides share.
    pub slots: usize,
    /// The seccomp filter, ready to load.
    #[serde(skip)]
    pub seccomp: Vec<sys::seccomp::FilterInstruction>,
    /// The device program of the unified hierarchy, as bytes.
    #[serde(skip)]
    pub device_program: Vec<u8>,
    /// Limits on their way into steps.
    #[serde(skip)]
    limits: cgroup::Limits,
}

impl Plan {
    fn slot(&mut self) -> Slot {
        self.slots += 1;
        self.slots - 1
    }

    fn host(&mut self, step: HostStep) {
        self.host.push(Planned { step, from: None });
    }

    fn host_from(&mut self, from: impl Into<String>, step: HostStep) {
        self.host.push(Planned { step, from: Some(from.into()) });
    }

    fn child(&mut self, step: ChildStep) {
        self.child.push(Planned { step, from: None });
    }

    fn child_from(&mut self, from: impl Into<String>, step: ChildStep) {
        self.child.push(Planned { step, from: Some(from.into()) });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Whether a step of the child runs hooks at this point.
    #[must_use]
    pub fn child_runs_hooks(&self, wanted: HookPoint) -> bool {
        self.child.iter().any(|p| matches!(&p.step, ChildStep::RunHooks { point, .. } if *point == wanted))
    }
}

/// Plans the creation of a container.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for what this host cannot do, and the errors of the cgroup paths,
/// limits and the seccomp compiler.
pub fn plan_create(spec: &ContainerSpec, facts: &HostFacts, options: &CreateOptions) -> Result<Plan> {
    let mut plan = Plan { id: options.id.clone(), ..Plan::default() };
    cgroups::plan_groups(&mut plan, spec, facts, options)?;
    let rootfs = plan.slot();
    plan.host_from(
        "/root/path",
        HostStep::OpenRootfs {
            path: options.rootfs.clone(),
            slot: rootfs,
            detached: spec.namespace(NamespaceKind::Mount).is_some(),
        },
    );
    plan.child(ChildStep::NewSession);
    let spawn = namespaces::plan_spawn(&mut plan, spec, facts);
    let sources = mounts::plan_sources(&mut plan, spec, facts, options);
    let device_sources = devices::plan_sources(&mut plan, spec, facts);
    let console = process::plan_console(&mut plan, spec.process.as_ref(), options.console_socket.as_deref());
    plan.host(spawn);

    plan.host(HostStep::AwaitGate { gate: Gate::Namespaces });
    namespaces::plan_id_maps(&mut plan, spec);
    process::plan_outside(&mut plan, spec.process.as_ref(), "/process");
    namespaces::plan_links(&mut plan, spec, options);
    let idmapped = mounts::plan_idmaps(&mut plan, spec, &sources);
    plan.host(HostStep::OpenGate { gate: Gate::Namespaces, slots: idmapped.clone() });

    plan.child(ChildStep::PassGate { gate: Gate::Namespaces, slots: idmapped });
    cgroups::plan_join(&mut plan, spec, facts);
    namespaces::plan_inside(&mut plan, spec, options);
    mounts::plan_rootfs(&mut plan, spec, options, rootfs);
    let postponed = mounts::plan_mounts(&mut plan, spec, facts, &sources);
    devices::plan_devices(&mut plan, &device_sources);
    plan.child(ChildStep::PassGate { gate: Gate::Rootfs, slots: Vec::new() });

    plan.host(HostStep::AwaitGate { gate: Gate::Rootfs });
    cgroups::plan_limits(&mut plan);
    process::plan_scheduling(&mut plan, spec);
    if let Some(rdt) = &spec.intel_rdt {
        plan.undo.extend(crate::host::resctrl::groups_of(rdt, &options.id).map(|path| Undo::Resctrl { path }));
        plan.host_from("/linux/intelRdt", HostStep::JoinResctrl { rdt: rdt.clone() });
    }
    plan_host_hooks(&mut plan, spec);
    plan.host(HostStep::OpenGate { gate: Gate::Rootfs, slots: Vec::new() });

    if !spec.hooks.create_container.is_empty() {
        let hooks = spec.hooks.create_container.clone();
        plan.child_from("/hooks/createContainer", ChildStep::RunHooks { point: HookPoint::CreateContainer, hooks });
    }
    mounts::plan_change_root(&mut plan, spec, options);
    mounts::plan_after_root(&mut plan, spec, console, postponed);
    process::plan_inside(&mut plan, spec, facts, options)?;

    plan.host(HostStep::AwaitGate { gate: Gate::Ready });
    process::plan_ready(&mut plan, spec, options);
    Ok(plan)
}

fn plan_host_hooks(plan: &mut Plan, spec: &ContainerSpec) {
    for (point, hooks) in
        [(HookPoint::Prestart, &spec.hooks.prestart), (HookPoint::CreateRuntime, &spec.hooks.create_runtime)]
    {
        if !hooks.is_empty() {
            let step = HostStep::RunHooks { point, hooks: hooks.clone() };
            plan.host_from(format!("/hooks/{}", point.name()), step);
        }
    }
}

/// Whether the container's processes live in a user namespace other than the runtime's.
fn has_user_namespace(spec: &ContainerSpec) -> bool {
    spec.namespace(NamespaceKind::User).is_some()
}
