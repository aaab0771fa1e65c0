//! `device`: devices and links of the host in a container that is defined, hot where it runs.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ::network::{LinkKind, LinkRecord, LinkSpec, parse_link};
use anyhow::{Context, Error, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::mount::same;
use super::start::probe_device;
use crate::added::{self, Added, Running};
use crate::args_live::DeviceVerb;
use crate::bundle::device_rule;
use crate::cgroup_file;
use crate::definition::{Definition, Device, Network};
use crate::output::{self, Format, yes_no};
use crate::pending;
use crate::run::Manager;
use crate::validate::validate_inside;

/// One device or link, as JSON has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row {
    /// `device` or `link`.
    kind: &'static str,
    /// Path or name on the host.
    source: String,
    /// Path or name inside.
    inside: String,
    /// Some of `r`, `w` and `m`; null of a link.
    access: Option<String>,
    /// Whether the container has it now.
    active: bool,
    /// Whether it has it at its next start.
    saved: bool,
}

/// `device add | del | ls`.
///
/// # Errors
/// There is no such container or device; the place is taken; what the runtime or the kernel says: then nothing is changed.
pub fn device(manager: &Manager, verb: &DeviceVerb) -> Result<()> {
    match verb {
        DeviceVerb::Add { name, device, inside, access, save, printed } => {
            let inside = inside.as_deref().unwrap_or(device);
            let row = if device.contains('/') {
                add_device(manager, name, (device, inside, access), *save)?
            } else {
                add_link(manager, name, (device, inside), *save)?
            };
            output::print_document(printed.format(), &row)
        }
        DeviceVerb::Del { name, device, save } if device.contains('/') => remove_device(manager, name, device, *save),
        DeviceVerb::Del { name, device, save } => remove_link(manager, name, device, *save),
        DeviceVerb::Ls { name, printed } => list(manager, name, printed.format()),
    }
}

fn add_device(manager: &Manager, name: &str, (source, inside, access): (&str, &str, &str), save: bool) -> Result<Row> {
    validate_inside(inside).map_err(Error::msg)?;
    if access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
        bail!("access {access:?}: want some of r, w and m");
    }
    let source = std::path::absolute(source).context("cannot tell the current folder")?.display().to_string();
    let device = Device { source, destination: inside.to_owned(), access: access.to_owned() };
    let rule = rule(&device)?;
    let _lock = pending::lock(manager, name)?;
    let mut definition = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    if is_there(&definition.devices, inside) || is_there(&added.devices, inside) {
        bail!("container {name:?} has a device of the host on {inside} already: skep device del it first");
    }
    if let Some(running) = &running {
        let before = rules(manager, name, &added)?;
        let now = [&before[..], std::slice::from_ref(&rule)].concat();
        added.device_rules.insert(inside.to_owned(), rule);
        // It may be opened before it can be seen, so that nobody sees it and is refused.
        allow(manager, name, running, &now)?;
        added.rules = Some(now);
        added.devices.push(device.clone());
        let made = manager.runtime.inside(name, &["node", &device.source, inside]).and_then(|()| running.write(&added));
        if let Err(error) = made {
            manager.runtime.set_device_rules(name, &before).context("and its rules for devices stay changed")?;
            return Err(error);
        }
    }
    let saved = save || running.is_none();
    let row = device_row(&device, running.is_some(), saved);
    if saved {
        definition.devices.push(device);
        definition.write(&manager.places.container(name))?;
    }
    Ok(row)
}

fn remove_device(manager: &Manager, name: &str, inside: &str, save: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let mut definition = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    let fits = |device: &&Device| same(&device.destination, inside);
    let Some(device) = added.devices.iter().chain(&definition.devices).find(fits).cloned() else {
        bail!("container {name:?} has no device of the host on {inside}: skep device ls {name} lists what it has");
    };
    if let Some(running) = &running {
        let mut now = rules(manager, name, &added)?;
        // The numbers of a device that was added are known; those of one that was there at the start are what its path has.
        let rule = match added.device_rules.remove(&device.destination) {
            Some(rule) => rule,
            None => rule(&device).with_context(|| {
                format!("cannot tell which rule is that of {inside}; a restart without the device takes it away")
            })?,
        };
        let Some(at) = now.iter().rposition(|known| covers(known, &rule)) else {
            bail!(
                "no rule of container {name:?} is that of {}: it is another device now; a restart takes the old rule away",
                device.source
            );
        };
        now.remove(at);
        manager.runtime.set_device_rules(name, &now)?;
        manager.runtime.inside(name, &["remove-node", inside])?;
        added.rules = Some(now);
        added.devices.retain(|device| !fits(&device));
        running.write(&added)?;
    }
    if save || running.is_none() {
        definition.devices.retain(|device| !fits(&device));
        definition.write(&manager.places.container(name))?;
    }
    Ok(())
}

/// The rule that lets a device be used.
fn rule(device: &Device) -> Result<Value> {
    let (kind, major, minor) = probe_device(device)?;
    Ok(device_rule(kind, major, minor, &device.access))
}

/// Whether two rules are the same, in whatever order their fields stand.
fn covers(one: &Value, other: &Value) -> bool {
    ["allow", "type", "major", "minor", "access"].iter().all(|field| one[*field] == other[*field])
}

/// The rules that hold for a running container.
fn rules(manager: &Manager, name: &str, added: &Added) -> Result<Vec<Value>> {
    if let Some(rules) = &added.rules {
        return Ok(rules.clone());
    }
    let config = cgroup_file::read_config(&manager.places, name)?;
    Ok(config["linux"]["resources"]["devices"].as_array().cloned().unwrap_or_default())
}

/// Has these rules hold, in the groups that the container has made below its own too: v1 gives them nothing that comes later.
fn allow(manager: &Manager, name: &str, running: &Running, rules: &[Value]) -> Result<()> {
    manager.runtime.set_device_rules(name, rules)?;
    let Some(last) = rules.last() else { return Ok(()) };
    let Ok(file) = cgroup_file::find(&manager.places, name, running.pid, "devices.allow") else { return Ok(()) };
    let text = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    let line = format!("{} {}:{} {}", text("type"), last["major"], last["minor"], text("access"));
    let group = file.path.parent().map(Path::to_owned).unwrap_or_default();
    let mut rest = subgroups(&group)?;
    while let Some(group) = rest.pop() {
        rest.extend(subgroups(&group)?);
        match fs::write(group.join("devices.allow"), &line) {
            // It has been removed in between.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => {}
            other => other.with_context(|| format!("cannot allow a device in {}", group.display()))?,
        }
    }
    Ok(())
}

fn subgroups(group: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", group.display()))?,
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.filter(|path| path.is_dir()).collect())
}

fn add_link(manager: &Manager, name: &str, (device, inside): (&str, &str), save: bool) -> Result<Row> {
    let spec = parse_link(&format!("phys:device={device},name={inside}"))?;
    let _lock = pending::lock(manager, name)?;
    let mut definition = Definition::need(&manager.places, name)?;
    if definition.network == Network::Host {
        bail!("container {name:?} has the host's own network: it has {device} already");
    }
    let (running, mut added) = added::look(manager, name)?;
    if definition.links.iter().any(|link| link.name == inside) {
        bail!("container {name:?} has a link {inside:?} in its definition already");
    }
    if let Some(running) = &running {
        let namespace = running.network_namespace()?;
        let moved = ::network::read_device_move(device, Some(inside), namespace.as_fd())?;
        added::move_link(running, &mut added, &moved)?;
    }
    let saved = save || running.is_none();
    if saved {
        definition.links.push(spec);
        definition.write(&manager.places.container(name))?;
    }
    Ok(link_row(device, inside, running.is_some(), saved))
}

fn remove_link(manager: &Manager, name: &str, inside: &str, save: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let mut definition = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    let at = added.links.iter().position(|record| names(record).is_some_and(|(_, name)| name == inside));
    let defined = |link: &LinkSpec| link.name == inside && matches!(link.link, LinkKind::Phys { .. });
    if at.is_none() && !definition.links.iter().any(defined) {
        bail!("container {name:?} has no link of the host called {inside:?}: skep device ls {name} lists what it has");
    }
    match (&running, at) {
        (Some(running), Some(at)) => {
            ::network::undo_link(&added.links[at])?;
            added.links.remove(at);
            running.write(&added)?;
        }
        (Some(_), None) if !save => {
            bail!("link {inside:?} came with the start of container {name:?}: --save keeps it out of the next one")
        }
        _ => {}
    }
    if save || running.is_none() {
        definition.links.retain(|link| !defined(link));
        definition.write(&manager.places.container(name))?;
    }
    Ok(())
}

/// The names of a moved link on the host and inside.
fn names(record: &LinkRecord) -> Option<(&str, &str)> {
    match record {
        LinkRecord::Phys { device: Some(device), .. } => Some((&device.host_name, &device.container_name)),
        _ => None,
    }
}

fn list(manager: &Manager, name: &str, format: Format) -> Result<()> {
    let definition = Definition::need(&manager.places, name)?;
    let (running, added) = added::look(manager, name)?;
    let runs = running.is_some();
    let mut rows: Vec<Row> = definition.devices.iter().map(|device| device_row(device, runs, true)).collect();
    let hot = added.devices.iter().filter(|device| !is_there(&definition.devices, &device.destination));
    rows.extend(hot.map(|device| device_row(device, true, false)));
    let of_host = definition.links.iter().filter_map(|link| match &link.link {
        LinkKind::Phys { device } => Some(link_row(device, &link.name, runs, true)),
        _ => None,
    });
    rows.extend(of_host);
    let is_defined = |inside: &str| definition.links.iter().any(|link| link.name == inside);
    let moved = added.links.iter().filter_map(names).filter(|(_, inside)| !is_defined(inside));
    rows.extend(moved.map(|(device, inside)| link_row(device, inside, true, false)));
    output::print(format, &rows, || {
        let header = ["KIND", "SOURCE", "INSIDE", "ACCESS", "ACTIVE", "SAVED"].map(str::to_owned).to_vec();
        let cells = |row: &Row| {
            let access = row.access.clone().unwrap_or_default();
            let (active, saved) = (yes_no(row.active), yes_no(row.saved));
            vec![row.kind.to_owned(), row.source.clone(), row.inside.clone(), access, active, saved]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}

fn device_row(device: &Device, active: bool, saved: bool) -> Row {
    let (source, inside) = (device.source.clone(), device.destination.clone());
    Row { kind: "device", source, inside, access: Some(device.access.clone()), active, saved }
}

fn link_row(device: &str, inside: &str, active: bool, saved: bool) -> Row {
    Row { kind: "link", source: device.to_owned(), inside: inside.to_owned(), access: None, active, saved }
}

fn is_there(devices: &[Device], inside: &str) -> bool {
    devices.iter().any(|device| same(&device.destination, inside))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_the_same_in_any_order() {
        let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw" });
        let same = json!({ "access": "rw", "minor": 3, "major": 1, "type": "c", "allow": true });
        assert!(covers(&rule, &same));
        assert!(!covers(&rule, &json!({ "allow": true, "type": "c", "major": 1, "minor": 5, "access": "rw" })));
    }
}
