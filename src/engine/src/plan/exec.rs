//! One more process in a container that is there.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{NamespaceKind, Process};

use super::{Plan, has_user_namespace, process, rootless};
use crate::error::Result;
use crate::facts::HostFacts;
use crate::gate::Gate;
use crate::options::ExecOptions;
use crate::step::{ChildStep, HostStep};
use crate::unit::Unit;

/// What is known of the container that is there.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// Its groups, or those below them that the caller asked for.
    pub groups: Vec<cgroup::GroupPath>,
    /// The unit that they belong to.
    pub unit: Option<Unit>,
    /// Whether it has its creator's session keyring in the place of its own.
    pub callers_keyring: bool,
}

/// Plans an exec: the same gates as a creation, with the namespaces of the container's first process.
///
/// # Errors
/// As [`plan_create`](super::plan_create).
pub fn plan_exec(
    spec: &ContainerSpec,
    process: &Process,
    facts: &HostFacts,
    id: &str,
    existing: Existing,
    options: &ExecOptions,
) -> Result<Plan> {
    let mut plan = Plan { id: id.to_owned(), groups: existing.groups, ..Plan::default() };
    let kinds: Vec<NamespaceKind> = spec.namespaces.iter().map(|n| n.kind).collect();
    let init = plan.slot();
    // A user may move no process from a session into the group of a unit; the service manager may.
    plan.unit = existing.unit.filter(|unit| unit.user);
    let into_cgroup = plan.unit.is_none() && plan.groups.iter().any(cgroup::GroupPath::is_unified);
    let console = process::plan_console(&mut plan, Some(process), options.console_socket.as_deref());
    let launcher = rootless::exec_launcher(&kinds, process, facts, init);
    let user_before = launcher.as_ref().is_some_and(|launcher| launcher.user_namespace.is_some());
    let is_before = |kind| kind == NamespaceKind::Pid || (kind == NamespaceKind::User && user_before);
    let joined: Vec<_> = kinds.iter().copied().filter(|kind| !is_before(*kind)).collect();
    let root = (!kinds.contains(&NamespaceKind::Mount)).then(|| plan.slot());
    if let Some(slot) = root {
        plan.host(HostStep::OpenContainerRoot { slot });
    }
    let pid_namespace = (launcher.is_none() && kinds.contains(&NamespaceKind::Pid)).then_some(init);
    plan.host(HostStep::Spawn { namespaces: Vec::new(), into_cgroup, launcher, pid_namespace });
    plan.child(ChildStep::HideFromTracers);
    plan.child(ChildStep::NewSession);

    plan.host(HostStep::AwaitGate { gate: Gate::Namespaces });
    if let Some(unit) = plan.unit.as_ref().map(|unit| unit.name.clone()) {
        plan.host(HostStep::AttachToUnit { unit });
    }
    process::plan_outside(&mut plan, Some(process), "/process");
    if let Some(cpus) = process.exec_cpu_affinity.as_ref().and_then(|a| a.initial.clone()) {
        plan.host_from("/process/execCPUAffinity/initial", HostStep::SetAffinity { cpus });
    }
    plan.host(HostStep::OpenGate { gate: Gate::Namespaces, slots: Vec::new() });
    plan.child(ChildStep::PassGate { gate: Gate::Namespaces, slots: Vec::new() });

    if !plan.groups.is_empty() && !super::cgroups::is_unified(facts) {
        plan.child(ChildStep::JoinCgroups);
    }
    plan.child(ChildStep::JoinContainer { kinds: joined, slot: init, root });
    if has_user_namespace(spec) {
        plan.child(super::namespaces::become_root(spec));
    }
    if !existing.callers_keyring {
        let label = process::key_label(Some(process), facts);
        plan.child(ChildStep::JoinKeyring { name: format!("_ses.{id}"), existing: true, label });
    }
    plan.child(ChildStep::PassGate { gate: Gate::Rootfs, slots: Vec::new() });

    plan.host(HostStep::AwaitGate { gate: Gate::Rootfs });
    match process.exec_cpu_affinity.as_ref().map(|affinity| (&affinity.initial, &affinity.final_)) {
        Some((_, Some(cpus))) => {
            plan.host_from("/process/execCPUAffinity/final", HostStep::SetAffinity { cpus: cpus.clone() });
        }
        Some((Some(_), None)) => {}
        Some((None, None)) | None => plan.host(HostStep::ResetAffinity),
    }
    process::plan_process_scheduling(&mut plan, process, "/process");
    plan.host(HostStep::OpenGate { gate: Gate::Rootfs, slots: Vec::new() });

    process::plan_terminal(&mut plan, Some(process), console, false, None);
    if let Some(personality) = spec.personality {
        plan.child_from("/linux/personality", ChildStep::SetPersonality { domain: personality.domain });
    }
    if let Some(policy) = &spec.memory_policy {
        plan.child_from("/linux/memoryPolicy", ChildStep::SetMemoryPolicy { policy: policy.clone() });
    }
    process::plan_identity(&mut plan, process, spec, facts, (options.preserve_fds, None))?;
    plan.child(ChildStep::PassGate { gate: Gate::Ready, slots: Vec::new() });
    plan.child(ChildStep::AwaitStart);
    plan.child_from("/process/args", process::execute(process, process.env.clone(), 0));

    plan.host(HostStep::AwaitGate { gate: Gate::Ready });
    plan_after(&mut plan, spec, options);
    Ok(plan)
}

fn plan_after(plan: &mut Plan, spec: &ContainerSpec, options: &ExecOptions) {
    let notifies = plan.child.iter().any(|p| matches!(p.step, ChildStep::LoadSeccomp { notify: true, .. }));
    if let Some(seccomp) = spec.seccomp.as_ref().filter(|_| notifies) {
        plan.host(HostStep::SendSeccompNotify {
            listener: seccomp.listener_path.clone().unwrap_or_default(),
            metadata: seccomp.listener_metadata.clone(),
        });
    }
    if let Some(socket) = &options.pidfd_socket {
        plan.host(HostStep::SendPidfd { socket: socket.clone() });
    }
    if let Some(path) = &options.pid_file {
        plan.host(HostStep::WritePidFile { path: path.clone() });
    }
}
