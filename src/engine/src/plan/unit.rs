//! The unit of a container whose group a service manager makes: its name, its properties, and when which is told.

use runtime_spec::ContainerSpec;
use runtime_spec::model::{DeviceRuleKind, Limit};
use security::devices::RuleSet;
use systemd::Property;
use systemd::property::{self, Device, Hierarchy};

use super::{Plan, cgroups};
use crate::error::{Error, Result};
use crate::facts::{HostFacts, Systemd};
use crate::options::SystemdOptions;
use crate::step::{HostStep, Slot, Source};
use crate::undo::Undo;
use crate::unit::Unit;

/// What is told of limits, once they are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    start: Vec<Property>,
    limits: Vec<Property>,
}

/// Where the unit and its groups are, and all that the service manager is told of it.
pub(super) fn plan_unit(
    plan: &mut Plan,
    spec: &ContainerSpec,
    facts: &HostFacts,
    (systemd, given): (&Systemd, &SystemdOptions),
    id: &str,
) -> Result<()> {
    if systemd.user && !cgroups::is_unified(facts) {
        let reason = "the service manager of a user cannot make cgroups on a host with cgroup v1: v1 groups are never given \
                      to users; use --cgroup-manager=disabled";
        return Err(Error::Unsupported(reason.to_owned()));
    }
    let refuse = |error: systemd::name::NameError| Error::Unsupported(format!("{error} (/linux/cgroupsPath)"));
    let default_slice = if systemd.user { "user.slice" } else { "system.slice" };
    let place = systemd::name::place(spec.cgroups_path.as_deref(), id, default_slice).map_err(refuse)?;
    if spec.cgroups_path.is_none() {
        plan.note(format!("no cgroupsPath: the unit is {} in {}", place.unit, place.slice));
    }
    let hierarchies = facts.cgroups.hierarchies.iter().chain(&facts.cgroups.unified);
    let tracked =
        |hierarchy: &&cgroup::Hierarchy| hierarchy.id != 0 || cgroups::is_unified(facts) || systemd.tracks_unified;
    let group = |hierarchy: &cgroup::Hierarchy| cgroup::GroupPath {
        hierarchy: hierarchy.id,
        controllers: hierarchy.controllers.clone(),
        mountpoint: hierarchy.mountpoint.clone(),
        path: format!("{}{}", systemd.control_group, place.path),
    };
    plan.groups = hierarchies.filter(tracked).map(group).collect();
    cgroups::plan_all_writes(plan, spec, facts)?;

    let kind = hierarchy_of(&plan.groups);
    let mut start = property::base(place.is_slice(), &place.slice, &format!("skep container {id}"), kind);
    for (key, value) in &spec.annotations {
        let Some(key) = key.strip_prefix(property::ANNOTATION) else { continue };
        let given = property::from_annotation(key, value).map_err(|error| Error::Unsupported(error.to_string()))?;
        property::put(&mut start, given);
    }
    if kind == Hierarchy::Legacy {
        // The group of the hierarchy of devices is made now; the rules come with the limits, when mounts are made.
        start.extend(property::device_any(kind));
    }
    let oom_group = spec.resources.unified.get("memory.oom.group");
    start.extend(oom_group.and_then(|value| property::oom_policy(value, systemd.version)));
    let described = start.iter().find(|property| property.name == "Description");
    let description = described.and_then(|property| property.value.as_text()).unwrap_or_default().to_owned();
    let unit = Unit {
        name: place.unit,
        description,
        version: systemd.version,
        user: systemd.user,
        endpoints: given.endpoints.clone(),
    };
    let mut limits = Vec::new();
    if systemd.user {
        plan.note("a user's service manager has no device rules");
    } else {
        let (properties, note) = device_properties(&cgroups::device_set(spec)?, kind, systemd.version);
        limits = properties;
        plan.notes.extend(note.map(str::to_owned));
    }
    round_quotas(&mut plan.limits, &cgroup::Current::default());
    limits.extend(limit_properties(&plan.limits, kind, &cgroup::Current::default(), systemd.version));
    // The unit is stopped before what is left of its groups is removed.
    plan.undo.push(Undo::Cgroups { groups: plan.groups.clone() });
    plan.undo.push(Undo::Unit { unit: unit.clone() });
    plan.unit = Some(unit);
    plan.told = Told { start, limits };
    Ok(())
}

/// At the first gate: the unit with the process in it, what the manager does not know of, and what an attach needs. Returns
/// the slots of the copies of groups, which could not be taken before.
pub(super) fn plan_start(plan: &mut Plan, views: Vec<(Source, String)>) -> Vec<Slot> {
    let Some(unit) = plan.unit.as_ref().map(|unit| unit.name.clone()) else { return Vec::new() };
    let properties = std::mem::take(&mut plan.told.start);
    plan.host_from("/linux/cgroupsPath", HostStep::StartUnit { unit, properties });
    plan.host_from("/linux/cgroupsPath", HostStep::AdoptCgroups);
    let writes = std::mem::take(&mut plan.limits.attach);
    plan.host_from("/linux/resources", HostStep::WriteEarlyLimits { writes });
    views
        .into_iter()
        .map(|(source, from)| {
            let slot = source.slot;
            plan.host_from(from, HostStep::OpenSource(source));
            slot
        })
        .collect()
}

/// At the second gate, ahead of the files: the same limits.
pub(super) fn plan_properties(plan: &mut Plan) {
    let Some(unit) = plan.unit.as_ref().map(|unit| unit.name.clone()) else { return };
    let properties = std::mem::take(&mut plan.told.limits);
    if !properties.is_empty() {
        plan.host_from("/linux/resources", HostStep::SetUnitProperties { unit, properties });
    }
}

/// Whether limits go to v1 or to v2.
pub(crate) fn hierarchy_of(groups: &[cgroup::GroupPath]) -> Hierarchy {
    if groups.iter().all(cgroup::GroupPath::is_unified) { Hierarchy::Unified } else { Hierarchy::Legacy }
}

/// The properties that say the same as the writes.
pub(crate) fn limit_properties(
    limits: &cgroup::Limits,
    kind: Hierarchy,
    current: &cgroup::Current,
    version: u32,
) -> Vec<Property> {
    let writes = limits.attach.iter().chain(&limits.rest);
    let files: Vec<(&str, &str)> = writes
        .map(|write| match &write.absent {
            // systemd knows the name that every kernel has.
            cgroup::limit::Absent::Instead { file, value } if *file == "io.weight" => (*file, value.as_str()),
            _ => (write.file.as_ref(), write.value.as_str()),
        })
        .collect();
    let quota = match current.quota_us {
        Limit::Max => None,
        Limit::Value(quota) => Some(quota),
    };
    property::from_files(&files, kind, (quota, current.period_us), version)
}

/// Makes a quota what systemd can keep, so that the group's file and the unit's property agree.
pub(crate) fn round_quotas(limits: &mut cgroup::Limits, current: &cgroup::Current) {
    let period_file = limits.rest.iter().rev().find(|write| write.file == "cpu.cfs_period_us");
    let period = period_file.and_then(|write| write.value.parse().ok()).unwrap_or(current.period_us);
    for write in &mut limits.rest {
        match write.file.as_ref() {
            "cpu.cfs_quota_us" => {
                if let Ok(quota) = write.value.parse() {
                    write.value = property::round_quota(quota, period).to_string();
                }
            }
            "cpu.max" => {
                let (quota, rest) = write.value.split_once(' ').unwrap_or((&write.value, ""));
                let period = rest.trim().parse().unwrap_or(current.period_us);
                if let Ok(quota) = quota.parse() {
                    let quota = property::round_quota(quota, period);
                    write.value = format!("{quota} {rest}").trim_end().to_owned();
                }
            }
            _ => {}
        }
    }
}

/// The device rules as properties, and what has to be said of those that cannot be.
///
/// What systemd has no words for is left to our own program on v2, which systemd never touches. v1 has one list for both,
/// and systemd writes it anew at each `daemon-reload`: then it denies everything rather than nothing.
pub(crate) fn device_properties(
    rules: &RuleSet,
    kind: Hierarchy,
    version: u32,
) -> (Vec<Property>, Option<&'static str>) {
    if rules.allows_everything() {
        return (property::device_any(kind), None);
    }
    let list: Vec<(Device, String)> = rules
        .exceptions()
        .map(|exception| {
            let character = exception.kind == DeviceRuleKind::Char;
            let device = Device { character, major: exception.major, minor: exception.minor };
            (device, exception.access.to_string())
        })
        .collect();
    match (property::device_allow(&list, version).filter(|_| !rules.default_allow), kind) {
        (Some(properties), _) => (properties, None),
        (None, Hierarchy::Unified) => (
            property::device_any(kind),
            Some("systemd has no words for these device rules: our own program alone enforces them"),
        ),
        (None, Hierarchy::Legacy) => {
            let note =
                "systemd has no words for these device rules: after a daemon-reload the container can open no device";
            (property::device_none(), Some(note))
        }
    }
}
