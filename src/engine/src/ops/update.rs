//! `update`: limits of a container that is there.

use std::time::Duration;

use cgroup::group::{DeviceProgram, Own, Placed};
use runtime_spec::model::Resources;
use runtime_spec::state::Status;
use security::devices;
use systemd::property::Hierarchy;

use super::{Context, spec_of};
use crate::error::{Error, Result};
use crate::plan::{cgroups, unit};
use crate::state::{Folder, Record};
use crate::unit::Unit;

/// How long memory may be reclaimed before a limit below the usage is refused.
const RECLAIM_BOUND: Duration = Duration::from_secs(10);

/// Changes limits. What is silent stays as it is.
///
/// Device rules are applied as the smallest transition from the rules that the group has now (v1), or by exchanging the
/// container's own program in one call (v2), so that nothing that is allowed before and after is denied in between, and
/// nothing is allowed that neither allows. An empty list leaves them.
///
/// # Errors
/// [`Error::NotRunning`], a limit that the host does not have, a memory limit below the usage.
pub fn update(context: &Context<'_>, id: &str, resources: &Resources) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let _lock = folder.lock()?;
    let (record, config) = folder.read()?;
    if matches!(folder.status(&record, &context.proc)?, Status::Stopped | Status::Creating) {
        return Err(Error::NotRunning);
    }
    if record.groups.is_empty() {
        return Err(Error::Unsupported("cannot update: the container has no cgroup".to_owned()));
    }
    let group = cgroup::Group::open_all(&record.groups)?;
    let lines = device_lines(&group, resources)?;
    group.reclaim_memory(resources, RECLAIM_BOUND)?;
    let current = group.read_current(resources)?;
    let limits = cgroup::limit::Context { groups: &record.groups, current, device_lines: &lines };
    let unified_only = record.groups.iter().all(cgroup::GroupPath::is_unified);
    let render = |limits: &cgroup::limit::Context<'_>| cgroups::render_limits(resources, unified_only, limits);
    let mut writes = render(&limits)?;
    for ignored in &writes.ignored {
        context.warn(&format!("linux.resources.{} is ignored: {}", ignored.field, ignored.reason));
    }
    if let Some(unit) = record.unit() {
        // Before it is told anything: it then writes quota and period itself.
        let bandwidth = group.read_bandwidth()?;
        tell_manager(context, unit, (&record.groups, &group), resources, &mut writes, &current)?;
        // It has written its own list of devices by now, which the lines are to start from.
        let lines = device_lines(&group, resources)?;
        writes.rest = render(&cgroup::limit::Context { device_lines: &lines, ..limits })?.rest;
        unit::round_quotas(&mut writes, &current);
        if let Some((quota, period_us)) = bandwidth {
            unit::keep_period(&mut writes, unit::hierarchy_of(&record.groups), quota, period_us);
        }
    }
    group.apply_attach(&writes.attach)?;
    group.apply(&writes.rest)?;
    if !resources.devices.is_empty() {
        if group.dir("devices").is_none() {
            put_device_program(context, &folder, record, &config, (&group, resources))?;
        } else if record.unit().is_none() && spec_of(id, &config)?.guest_is_below() {
            group.apply_guest_devices(&writes.rest)?;
        }
    }
    Ok(())
}

/// The rules that the container shall have, with those that every container gets.
fn wanted_rules(resources: &Resources) -> Result<devices::RuleSet> {
    let rules: Vec<_> = resources.devices.iter().copied().chain(devices::default_rules()).collect();
    devices::emulate(&rules).map_err(refuse_rules)
}

fn refuse_rules(error: devices::DeviceError) -> Error {
    Error::Unsupported(format!("device rules: {error}"))
}

/// Tells the service manager first: what it says no to is not written either.
fn tell_manager(
    context: &Context<'_>,
    unit: &Unit,
    (groups, group): (&[cgroup::GroupPath], &cgroup::Group),
    resources: &Resources,
    writes: &mut cgroup::Limits,
    current: &cgroup::Current,
) -> Result<()> {
    let kind = unit::hierarchy_of(groups);
    unit::round_quotas(writes, current);
    let mut properties = unit::limit_properties(writes, kind, current, unit.version);
    let devices = !resources.devices.is_empty() && !unit.user;
    if devices {
        let (told, note) = unit::device_properties(&wanted_rules(resources)?, kind, unit.version);
        properties.extend(told);
        note.into_iter().for_each(|note| context.warn(note));
    }
    let mut manager = unit.connect()?;
    // On v1 systemd denies everything before it allows what is on its list: nobody may open a device in between.
    let freeze = devices && kind == Hierarchy::Legacy && !group.is_frozen()?;
    if freeze {
        group.freeze(cgroup::group::KILL_BOUND, &context.proc)?;
    }
    let told = manager.set_unit_properties(&unit.name, &properties);
    if freeze {
        group.thaw()?;
    }
    told.map_err(|error| Error::from(error).in_step(format!("set properties of unit {}", unit.name)))
}

fn device_lines(group: &cgroup::Group, resources: &Resources) -> Result<Vec<(&'static str, String)>> {
    let Some(dir) = group.dir("devices").filter(|_| !resources.devices.is_empty()) else { return Ok(Vec::new()) };
    let now = sys::fs::read_text_at(dir, "devices.list")?;
    let now = devices::RuleSet::parse_list(&now).map_err(refuse_rules)?;
    let lines = devices::transition(&now, &wanted_rules(resources)?).map_err(refuse_rules)?;
    Ok(lines.into_iter().map(|line| (line.file.name(), line.text)).collect())
}

/// Exchanges the device program. Both ids are on disk while it is done, so that a runtime which is killed here loses none.
fn put_device_program(
    context: &Context<'_>,
    folder: &Folder,
    mut record: Record,
    config: &[u8],
    (group, resources): (&cgroup::Group, &Resources),
) -> Result<()> {
    let bytes = cgroups::program_bytes(&wanted_rules(resources)?);
    let program = DeviceProgram::load(&bytes)?;
    let had = !record.device_programs.is_empty();
    record.device_programs.push(program.id());
    folder.write(&record, config)?;
    if let Placed::Added { others } = group.put_device_program(&program, Own::Ids(&record.device_programs))?
        && had
    {
        context.warn(&format!(
            "somebody has taken the container's device program off its cgroup; it has one again, beside {others} of others"
        ));
    }
    record.device_programs = vec![program.id()];
    folder.write(&record, config)
}

/// Changes the resctrl schemata of a container.
///
/// # Errors
/// [`Error::Unsupported`] for a container without `intelRdt` in its definition.
pub fn update_resctrl(
    context: &Context<'_>,
    id: &str,
    (l3_cache, memory_bandwidth): (Option<&str>, Option<&str>),
) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let _lock = folder.lock()?;
    let (_, config) = folder.read()?;
    let mut rdt = super::spec_of(id, &config)?
        .intel_rdt
        .ok_or_else(|| Error::Unsupported("cannot update schemata: the container has no intelRdt".to_owned()))?;
    rdt.l3_cache_schema = l3_cache.map(str::to_owned);
    rdt.mem_bw_schema = memory_bandwidth.map(str::to_owned);
    rdt.schemata.clear();
    crate::host::resctrl::write_schemata(crate::host::resctrl::ROOT, &rdt, id)
}
