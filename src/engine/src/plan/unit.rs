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

/// What is told of the unit, on its way into steps.
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
    let mut start =
        property::base(systemd::name::is_slice(&place.unit), &place.slice, &format!("skep container {id}"), kind);
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

/// Adds the write of the period that a group has, where only its quota is changed, or neither.
///
/// With every property that it is told, systemd writes quota and period of the unit's group too. Where there is no quota it
/// takes the default period, whatever `CPUQuotaPeriodUSec` says, and one before version 242 does so always. A quota that is
/// set alone later would be one per another period than the container had.
pub(crate) fn keep_period(limits: &mut cgroup::Limits, kind: Hierarchy, quota: Limit, period_us: u64) {
    let file = match kind {
        Hierarchy::Unified => "cpu.max",
        Hierarchy::Legacy => "cpu.cfs_period_us",
    };
    let written = limits.rest.iter_mut().rfind(|write| write.file == file);
    let value = match (kind, written) {
        (Hierarchy::Unified, Some(write)) if !write.value.trim().contains(' ') => {
            write.value = format!("{} {period_us}", write.value.trim());
            return;
        }
        (_, Some(_)) => return,
        (_, None) if period_us == cgroup::limit::DEFAULT_PERIOD_US => return,
        (Hierarchy::Legacy, None) => period_us.to_string(),
        (Hierarchy::Unified, None) => match quota {
            Limit::Max => format!("max {period_us}"),
            Limit::Value(quota) => format!("{quota} {period_us}"),
        },
    };
    let write = cgroup::FileWrite {
        controller: "cpu".into(),
        file: file.into(),
        value,
        field: "cpu.period".into(),
        absent: cgroup::limit::Absent::Fails,
    };
    // Ahead of a quota of v1, so that there is no moment with the new quota and systemd's period.
    limits.rest.insert(0, write);
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

#[cfg(test)]
mod tests {
    use cgroup::{Hierarchy, Layout, Mode};
    use serde_json::{Value, json};

    use super::super::plan_create;
    use super::*;
    use crate::options::CreateOptions;
    use crate::step::ChildStep;

    fn hierarchy(id: u32, controllers: &[&str], mountpoint: &str) -> Hierarchy {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        Hierarchy { id, controllers, mountpoint: mountpoint.to_owned(), own_path: "/".to_owned() }
    }

    fn layout(mode: Mode) -> Layout {
        let all = ["cpu", "memory", "pids", "cpuset", "devices"];
        match mode {
            Mode::Unified => {
                Layout { mode, hierarchies: Vec::new(), unified: Some(hierarchy(0, &all, "/sys/fs/cgroup")) }
            }
            _ => Layout {
                mode,
                hierarchies: vec![
                    hierarchy(2, &["name=systemd"], "/sys/fs/cgroup/systemd"),
                    hierarchy(1, &all, "/sys/fs/cgroup/all"),
                ],
                unified: (mode == Mode::Hybrid).then(|| hierarchy(0, &[], "/sys/fs/cgroup/unified")),
            },
        }
    }

    fn manager(user: bool) -> Systemd {
        let control_group = if user { "/user.slice/user-7.slice/user@7.service" } else { "" };
        Systemd { version: 252, control_group: control_group.to_owned(), user, tracks_unified: false }
    }

    fn plan(mode: Mode, systemd: Systemd, linux: Value) -> Result<Plan> {
        let mut config = serde_json::to_value(runtime_spec::example::example(false)).unwrap();
        config.as_object_mut().unwrap().remove("hostname");
        for (key, value) in linux.as_object().unwrap() {
            config["linux"][key] = value.clone();
        }
        let spec = runtime_spec::load(&serde_json::to_vec(&config).unwrap()).spec.unwrap();
        let options = CreateOptions {
            id: "web1".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            systemd: Some(SystemdOptions { endpoints: Vec::new(), user: systemd.user }),
            ..CreateOptions::default()
        };
        let facts = HostFacts { cgroups: layout(mode), systemd: Some(systemd), ..super::super::tests::facts(mode) };
        plan_create(&spec, &facts, &options)
    }

    fn names(plan: &Plan) -> Vec<&'static str> {
        plan.host.iter().map(|planned| crate::host::step_name(&planned.step)).collect()
    }

    fn told(plan: &Plan) -> Vec<String> {
        let limits = plan.host.iter().filter_map(|planned| match &planned.step {
            HostStep::SetUnitProperties { properties, .. } => Some(properties),
            _ => None,
        });
        limits.flatten().map(|property| format!("{}={}", property.name, property.value)).collect()
    }

    #[test]
    fn the_unit_is_started_around_the_process_and_limited_before_the_files() {
        for mode in [Mode::Unified, Mode::Legacy] {
            let limits = json!({ "resources": { "pids": { "limit": 5 } } });
            let plan = plan(mode, manager(false), limits).unwrap();
            let names = names(&plan);
            let at =
                |wanted: &str| names.iter().position(|name| *name == wanted).unwrap_or_else(|| panic!("{names:?}"));
            assert!(!names.contains(&"make_cgroups"));
            assert!(at("spawn") < at("await_gate") && at("await_gate") < at("start_unit"));
            assert!(at("start_unit") < at("adopt_cgroups") && at("adopt_cgroups") < at("write_early_limits"));
            assert!(at("write_early_limits") < at("open_gate"));
            assert!(at("set_unit_properties") < at("write_limits"));
            let into = |planned: &crate::step::Planned<HostStep>| matches!(planned.step, HostStep::Spawn { into_cgroup, .. } if into_cgroup);
            assert!(!plan.host.iter().any(into), "the unit does not exist at the clone");
            assert!(told(&plan).contains(&"TasksMax=uint64 5".to_owned()), "{:?}", told(&plan));
        }
    }

    #[test]
    fn the_cgroup_namespace_is_made_once_the_process_is_in_the_unit() {
        let linux = json!({ "namespaces": [{ "type": "mount" }, { "type": "cgroup" }, { "type": "pid" }] });
        let plan = plan(Mode::Unified, manager(false), linux).unwrap();
        let at = |wanted: fn(&ChildStep) -> bool| plan.child.iter().position(|planned| wanted(&planned.step));
        let gate = at(|step| matches!(step, ChildStep::PassGate { .. }));
        let unshare = at(|step| matches!(step, ChildStep::UnshareCgroup));
        assert!(gate < unshare && unshare.is_some());
    }

    #[test]
    fn the_unit_is_undone_before_its_groups() {
        let plan = plan(Mode::Legacy, manager(false), json!({ "cgroupsPath": "a-b.slice:p:n" })).unwrap();
        assert!(matches!(&plan.undo[..], [Undo::Cgroups { .. }, Undo::Unit { unit }] if unit.name == "p-n.scope"));
    }

    #[test]
    fn groups_are_where_the_manager_has_its_units() {
        let check = |mode, systemd, expected: &[&str]| {
            let plan = plan(mode, systemd, json!({ "cgroupsPath": "a-b.slice:p:n" })).unwrap();
            assert_eq!(plan.groups.iter().map(cgroup::GroupPath::dir).collect::<Vec<_>>(), expected);
        };
        let path = "a.slice/a-b.slice/p-n.scope";
        let (named, all) = (format!("/sys/fs/cgroup/systemd/{path}"), format!("/sys/fs/cgroup/all/{path}"));
        check(Mode::Unified, manager(false), &[&format!("/sys/fs/cgroup/{path}")]);
        let own = format!("/sys/fs/cgroup/user.slice/user-7.slice/user@7.service/{path}");
        check(Mode::Unified, manager(true), &[&own]);
        check(Mode::Legacy, manager(false), &[&named, &all]);
        check(Mode::Hybrid, manager(false), &[&named, &all]);
        let tracking = Systemd { tracks_unified: true, ..manager(false) };
        check(Mode::Hybrid, tracking, &[&named, &all, &format!("/sys/fs/cgroup/unified/{path}")]);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |mode, systemd, path: &str, part: &str| {
            let error = plan(mode, systemd, json!({ "cgroupsPath": path })).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(Mode::Legacy, manager(true), "::n", "cgroup v1");
        check(Mode::Unified, manager(false), "/foo", "slice:prefix:name");
    }

    #[test]
    fn a_quota_is_rounded_in_the_file_and_in_the_property() {
        let limits = json!({ "resources": { "cpu": { "quota": 12_345, "period": 100_000 } } });
        for (mode, expected) in [(Mode::Unified, "13000 100000"), (Mode::Legacy, "13000")] {
            let plan = plan(mode, manager(false), limits.clone()).unwrap();
            assert!(told(&plan).contains(&"CPUQuotaPerSecUSec=uint64 130000".to_owned()));
            let written = plan.host.iter().any(|planned| match &planned.step {
                HostStep::WriteLimits { writes } => writes.iter().any(|write| write.value == expected),
                _ => false,
            });
            assert!(written, "{mode:?}");
        }
    }

    #[test]
    fn an_update_keeps_the_period_that_systemd_forgets() {
        use systemd::property::Hierarchy as Kind;
        let check = |kind, (quota, period), given: &[(&'static str, &str)], expected: &[&str]| {
            let write = |(file, value): &(&'static str, &str)| cgroup::FileWrite {
                controller: "cpu".into(),
                file: (*file).into(),
                value: (*value).to_owned(),
                field: "".into(),
                absent: cgroup::limit::Absent::Fails,
            };
            let mut limits = cgroup::Limits { rest: given.iter().map(write).collect(), ..cgroup::Limits::default() };
            keep_period(&mut limits, kind, quota, period);
            let written: Vec<String> =
                limits.rest.iter().map(|write| format!("{}={}", write.file, write.value)).collect();
            assert_eq!(written, expected);
        };
        let (odd, usual) = ((Limit::Max, 900_000), (Limit::Value(5_000), 100_000));
        check(Kind::Unified, odd, &[("cpu.max", "max")], &["cpu.max=max 900000"]);
        check(Kind::Unified, odd, &[("cpu.max", "max 5000")], &["cpu.max=max 5000"]);
        check(Kind::Unified, odd, &[("cpu.weight", "7")], &["cpu.max=max 900000", "cpu.weight=7"]);
        check(Kind::Unified, (Limit::Value(10), 900_000), &[], &["cpu.max=10 900000"]);
        check(Kind::Unified, usual, &[("cpu.weight", "7")], &["cpu.weight=7"]);
        let quota = ("cpu.cfs_quota_us", "-1");
        check(Kind::Legacy, odd, &[quota], &["cpu.cfs_period_us=900000", "cpu.cfs_quota_us=-1"]);
        check(Kind::Legacy, odd, &[("cpu.cfs_period_us", "5000")], &["cpu.cfs_period_us=5000"]);
        check(Kind::Legacy, usual, &[quota], &["cpu.cfs_quota_us=-1"]);
    }

    #[test]
    fn rules_that_systemd_has_no_words_for() {
        let rule = json!({ "allow": true, "type": "c", "minor": 7, "access": "rw" });
        let rules = json!({ "resources": { "devices": [{ "allow": false, "access": "rwm" }, rule] } });
        let unified = plan(Mode::Unified, manager(false), rules.clone()).unwrap();
        assert!(told(&unified).contains(&"DevicePolicy='auto'".to_owned()));
        assert!(!unified.device_program.is_empty());
        let legacy = plan(Mode::Legacy, manager(false), rules).unwrap();
        assert!(told(&legacy).contains(&"DevicePolicy='strict'".to_owned()));
        assert!(legacy.notes.iter().any(|note| note.contains("daemon-reload")), "{:?}", legacy.notes);
    }

    #[test]
    fn a_users_manager_is_not_told_of_devices() {
        let plan = plan(Mode::Unified, manager(true), json!({ "cgroupsPath": "" })).unwrap();
        assert!(!told(&plan).iter().any(|property| property.starts_with("Device")));
        assert!(plan.groups[0].path.ends_with("/user@7.service/user.slice/skep-web1.scope"));
    }
}
