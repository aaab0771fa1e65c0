//! Groups, who joins them when, and the limits.

use cgroup::group::Below;
use runtime_spec::ContainerSpec;
use runtime_spec::guest_cgroups::GuestCgroups;
use runtime_spec::model::{IdMapping, Mount, MountAttr, MountKind, NamespaceKind, Resources};
use security::devices;
use sys::process::CAP_SYS_ADMIN;

use super::Plan;
use crate::error::{Error, Result};
use crate::facts::HostFacts;
use crate::options::CreateOptions;
use crate::step::{ChildStep, HostStep};
use crate::undo::Undo;

/// Where the container's groups are, and what is written before the first process joins them.
pub(super) fn plan_groups(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
) -> Result<()> {
    if options.no_cgroups {
        plan.note("cgroups are left alone: limits do not apply, and kill and pause work on the first process only");
        return Ok(());
    }
    if let (Some(systemd), Some(given)) = (&facts.systemd, &options.systemd) {
        return super::unit::plan_unit(plan, spec, facts, (systemd, given), &options.id);
    }
    if facts.cgroups.hierarchies.is_empty()
        && facts.cgroups.unified.is_none()
        && (has_place(spec) || !is_rootless(facts, options))
    {
        return Err(cgroup::Error::NoHierarchy { root: cgroup::layout::ROOT.to_owned() }.into());
    }
    plan.groups = cgroup::path::plan(&facts.cgroups, spec.cgroups_path.as_deref(), &options.id)?;
    leave_closed(plan, spec, facts)?;
    if plan.groups.is_empty() {
        return Ok(());
    }
    if spec.cgroups_path.is_none() {
        plan.note("no cgroupsPath: the group has the container's id and lies below the runtime's own group");
    }
    plan.undo.push(Undo::Cgroups { groups: plan.groups.clone() });
    plan_all_writes(plan, spec, facts)?;
    let limited = plan.limits.attach.iter().chain(&plan.limits.rest).map(|write| write.controller.as_ref());
    let below = Below::for_limits(limited);
    plan.host_from("/linux/cgroupsPath", HostStep::MakeCgroups { below });
    let guest = spec.guest_is_below() && !is_unified(facts);
    if guest {
        // A group that is made later takes them over; one that is there keeps them from being denied.
        let (rules, rest) = std::mem::take(&mut plan.limits.rest).into_iter().partition(cgroup::group::is_device_rule);
        plan.limits.rest = rest;
        plan.limits.attach.extend::<Vec<_>>(rules);
    }
    let writes = std::mem::take(&mut plan.limits.attach);
    plan.host_from("/linux/resources", HostStep::WriteEarlyLimits { writes });
    if guest {
        plan.note("the container's processes are in v1 groups below those that have its limits");
        let from = format!("/annotations/{}", runtime_spec::guest_cgroups::ANNOTATION);
        plan.host_from(from, HostStep::MakeGuestCgroups);
    }
    Ok(())
}

/// Renders all limits, and notes those that have no effect.
pub(super) fn plan_all_writes(plan: &mut Plan, spec: &ContainerSpec, facts: &HostFacts) -> Result<()> {
    plan.limits = plan_writes(plan, spec, facts)?;
    for ignored in plan.limits.ignored.clone() {
        plan.note(format!("linux.resources.{} is ignored: {}", ignored.field, ignored.reason));
    }
    Ok(())
}

/// Whether a container may go without this group, if it cannot be made: for an ordinary user, as long as the definition
/// names no place for it. `--rootless` says otherwise. The unified hierarchy of a hybrid host limits nothing, and to enter
/// it takes a right on the group that both are below, so an ordinary user always may.
pub(crate) fn is_optional(
    group: &cgroup::GroupPath,
    spec: &ContainerSpec,
    facts: &HostFacts,
    options: &CreateOptions,
) -> bool {
    is_rootless(facts, options) && (!has_place(spec) || (group.is_unified() && !is_unified(facts)))
}

/// Whether a hierarchy that is closed to the runtime may be tolerated at all.
pub(crate) fn is_rootless(facts: &HostFacts, options: &CreateOptions) -> bool {
    options.rootless_cgroups.unwrap_or_else(|| facts.is_rootless())
}

fn has_place(spec: &ContainerSpec) -> bool {
    spec.cgroups_path.as_ref().is_some_and(|path| !path.is_empty())
}

/// Leaves out the hierarchies that are closed to the runtime, unless the definition has a limit for one.
fn leave_closed(plan: &mut Plan, spec: &ContainerSpec, facts: &HostFacts) -> Result<()> {
    let is_closed = |group: &cgroup::GroupPath| facts.closed_hierarchies.contains(&group.hierarchy);
    if plan.groups.iter().any(is_closed) {
        refuse_limits_of(is_closed, &plan.groups, spec, facts)?;
    }
    let (closed, open): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.groups).into_iter().partition(is_closed);
    plan.groups = open;
    if plan.groups.is_empty() {
        plan.note("no cgroup may be written: the container stays in the caller's, without limits, pause and events");
        if !spec.makes(NamespaceKind::Pid) {
            plan.warnings.push(
                "a container with neither a cgroup nor a pid namespace of its own: processes that outlive its first one \
                 cannot be found to be killed"
                    .to_owned(),
            );
        }
    } else if !closed.is_empty() {
        let names = closed.iter().map(|group| group.mountpoint.as_str()).collect::<Vec<_>>().join(", ");
        plan.note(format!("no group is made where none may be written: {names}"));
    }
    Ok(())
}

/// Refuses a limit that would go to a closed group.
fn refuse_limits_of(
    is_closed: impl Fn(&cgroup::GroupPath) -> bool,
    groups: &[cgroup::GroupPath],
    spec: &ContainerSpec,
    facts: &HostFacts,
) -> Result<()> {
    let context = cgroup::limit::Context { groups, ..cgroup::limit::Context::default() };
    let limits = render_limits(&spec.resources, is_unified(facts), &context)?;
    for write in limits.attach.iter().chain(&limits.rest) {
        let of = |group: &&cgroup::GroupPath| group.has(&write.controller) || (group.is_unified() && is_unified(facts));
        if let Some(group) = groups.iter().find(of).filter(|group| is_closed(group)) {
            return Err(Error::Unsupported(format!(
                "cannot set {} limit: container could not join or create cgroup: no permission for {} \
                 (rootless needs no limits + no cgrouppath when no permission is granted for cgroups; \
                 /linux/resources/{})",
                write.controller,
                group.dir(),
                write.field.replace('.', "/"),
            )));
        }
    }
    Ok(())
}

/// Limits as writes to v2 where it is the only hierarchy, else to v1.
pub(crate) fn render_limits(
    resources: &Resources,
    unified: bool,
    context: &cgroup::limit::Context<'_>,
) -> Result<cgroup::Limits> {
    let render = if unified { cgroup::unified::writes } else { cgroup::legacy::writes };
    Ok(render(resources, context).map_err(cgroup::Error::from)?)
}

/// All writes, rendered for a group that is new.
fn plan_writes(plan: &mut Plan, spec: &ContainerSpec, facts: &HostFacts) -> Result<cgroup::Limits> {
    let rules = device_set(spec)?;
    let mut device_lines = Vec::new();
    if facts.in_user_namespace || !facts.has(CAP_SYS_ADMIN) {
        plan.note(
            "device rules do not apply: only root of the machine may set them, and no node can be made without it",
        );
    } else if !is_unified(facts) && facts.cgroups.has("devices") {
        device_lines = devices::initial(&rules).into_iter().map(|line| (line.file.name(), line.text)).collect();
    } else if facts.cgroups.unified.is_some() {
        plan.device_program = program_bytes(&rules);
    } else {
        plan.note("this host has no devices controller: device rules do not apply");
    }
    let context = cgroup::limit::Context {
        groups: &plan.groups,
        device_lines: &device_lines,
        ..cgroup::limit::Context::default()
    };
    render_limits(&spec.resources, is_unified(facts), &context)
}

/// The program of a unified group, as the kernel takes it.
pub(crate) fn program_bytes(rules: &devices::RuleSet) -> Vec<u8> {
    devices::program(rules).iter().flat_map(|insn| insn.to_bytes()).collect()
}

/// Whether cgroup2 is the only hierarchy.
pub(super) fn is_unified(facts: &HostFacts) -> bool {
    facts.cgroups.mode == cgroup::Mode::Unified
}

/// The child joins its groups, then makes a cgroup namespace with them as its root.
pub(super) fn plan_join(plan: &mut Plan, spec: &ContainerSpec, facts: &HostFacts) {
    if !plan.groups.is_empty() && !is_unified(facts) {
        plan.child(ChildStep::JoinCgroups);
    }
    if spec.makes(NamespaceKind::Cgroup) && !clone_makes_cgroup_namespace(facts) {
        plan.child_from("/linux/namespaces", ChildStep::UnshareCgroup);
    }
}

/// Whether the clone itself can make the cgroup namespace: only where it also places the child into its group.
pub(super) fn clone_makes_cgroup_namespace(facts: &HostFacts) -> bool {
    // A unit is made around a process that is there.
    is_unified(facts) && facts.systemd.is_none()
}

/// Device rules first, then all other limits; then the group is the container's, where it may be.
pub(super) fn plan_limits(plan: &mut Plan, spec: &ContainerSpec, facts: &HostFacts) {
    if plan.groups.is_empty() {
        return;
    }
    super::unit::plan_properties(plan);
    if !plan.device_program.is_empty() {
        let instructions = plan.device_program.len() / 8;
        plan.host_from("/linux/resources/devices", HostStep::AttachDeviceProgram { instructions });
    }
    let writes = std::mem::take(&mut plan.limits.rest);
    plan.host_from("/linux/resources", HostStep::WriteLimits { writes });
    let Some(uid) = delegate(spec) else { return };
    if is_unified(facts) || spec.guest_cgroups == Some(GuestCgroups::Unified) {
        plan.note(format!("the container's cgroup is given to user {uid}, who may make groups below it"));
        plan.host_from("/linux/cgroupsPath", HostStep::DelegateCgroup { uid, which: GuestCgroups::Unified });
    } else if spec.guest_cgroups == Some(GuestCgroups::All) {
        plan.note(format!("each of the container's cgroups is given to user {uid}, who may make groups below them"));
        let from = format!("/annotations/{}", runtime_spec::guest_cgroups::ANNOTATION);
        plan.host_from(from, HostStep::DelegateCgroup { uid, which: GuestCgroups::All });
    }
}

/// The user on the host that gets the container's group: the one that the process runs as, if and only if the container
/// has a cgroup namespace of its own and the group is mounted read-write where everybody looks for it.
///
/// Spec: runtime-spec 1.3, config-linux.md, "Cgroup ownership".
fn delegate(spec: &ContainerSpec) -> Option<u32> {
    let read_write = |mount: &Mount| {
        mount.kind == MountKind::Cgroup
            && mount.source.as_deref() == Some("cgroup")
            && mount.destination == cgroup::layout::ROOT
            && !mount.set.contains(MountAttr::RDONLY)
    };
    if !spec.makes(NamespaceKind::Cgroup) || !spec.mounts.iter().any(read_write) {
        return None;
    }
    let user = spec.process.as_ref().map_or(0, |process| process.user.uid);
    if spec.namespace(NamespaceKind::User).is_none() {
        // Root has the group already.
        return Some(user).filter(|uid| *uid != 0);
    }
    IdMapping::host_id_of(user, &spec.uid_mappings)
}

/// The rules of the definition, then those that every container gets, as one set.
pub(crate) fn device_set(spec: &ContainerSpec) -> Result<devices::RuleSet> {
    let rules: Vec<_> = spec.resources.devices.iter().copied().chain(devices::default_rules()).collect();
    devices::emulate(&rules)
        .map_err(|error| Error::Unsupported(format!("linux.resources.devices: {error} (/linux/resources/devices)")))
}
