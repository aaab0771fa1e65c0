//! `update`: limits of a container that is there.

use runtime_spec::model::Resources;
use runtime_spec::state::Status;
use security::devices;

use super::Context;
use crate::error::{Error, Result};

/// Changes limits. What is silent stays as it is.
///
/// Device rules are applied as the smallest transition from the rules that the group has now, so that nothing that is
/// allowed before and after is denied in between. An empty list leaves them.
///
/// # Errors
/// [`Error::NotRunning`], a limit that the host does not have, a memory limit below the usage.
pub fn update(context: &Context<'_>, id: &str, resources: &Resources) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let _lock = folder.lock()?;
    let record = folder.read_record()?;
    if matches!(folder.status(&record, &context.proc)?, Status::Stopped | Status::Creating) {
        return Err(Error::NotRunning);
    }
    if record.groups.is_empty() {
        return Err(Error::Unsupported("cannot update: the container has no cgroup".to_owned()));
    }
    let group = cgroup::Group::open(&record.groups)?;
    let lines = device_lines(&group, resources)?;
    let limits = cgroup::limit::Context {
        groups: &record.groups,
        current: group.read_current(resources)?,
        device_lines: &lines,
        ..cgroup::limit::Context::default()
    };
    let unified_only = record.groups.iter().all(cgroup::GroupPath::is_unified);
    let render = if unified_only { cgroup::unified::writes } else { cgroup::legacy::writes };
    let writes = render(resources, &limits).map_err(cgroup::Error::from)?;
    for ignored in &writes.ignored {
        context.warn(&format!("linux.resources.{} is ignored: {}", ignored.field, ignored.reason));
    }
    group.apply_attach(&writes.attach)?;
    Ok(group.apply(&writes.rest)?)
}

fn device_lines(group: &cgroup::Group, resources: &Resources) -> Result<Vec<(&'static str, String)>> {
    let Some(dir) = group.dir("devices").filter(|_| !resources.devices.is_empty()) else { return Ok(Vec::new()) };
    let refuse = |error: devices::DeviceError| Error::Unsupported(format!("device rules: {error}"));
    let now = devices::RuleSet::parse_list(&sys::fs::read_text_at(dir, "devices.list")?).map_err(refuse)?;
    let rules: Vec<_> = resources.devices.iter().copied().chain(devices::default_rules()).collect();
    let wanted = devices::emulate(&rules).map_err(refuse)?;
    let lines = devices::transition(&now, &wanted).map_err(refuse)?;
    Ok(lines.into_iter().map(|line| (line.file.name(), line.text)).collect())
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
