//! `device`: devices and links of the host in a container that is defined, hot where it runs.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ::network::{LinkKind, LinkRecord, LinkSpec, parse_link};
use anyhow::{Context, Error, Result, bail};
use serde::Serialize;
use serde_json::Value;
use sys::fs::{FileType, OFlags};

use super::checkconfig;
use super::mount::keep;
use super::start::probe_device;
use crate::added::{self, Added, Running};
use crate::args_live::DeviceVerb;
use crate::bundle::device_rule;
use crate::cgroup_file;
use crate::definition::{Definition, Device, Network, validate_device};
use crate::mounted::same;
use crate::output::{self, Format, yes_no};
use crate::pending;
use crate::run::Manager;

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
    let source = std::path::absolute(source).context("cannot tell the current folder")?.display().to_string();
    let device = Device { source, destination: inside.to_owned(), access: access.to_owned() };
    validate_device(&device).map_err(Error::msg)?;
    let rule = rule(&device)?;
    let _lock = pending::lock(manager, name)?;
    let before = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    let defined = before.devices.iter().find(|known| same(&known.destination, inside));
    let is_removed = running.is_some() && added.removed_devices.iter().any(|known| same(known, inside));
    if is_there(&added.devices, inside) || (defined.is_some() && !is_removed) {
        bail!("container {name:?} has a device of the host on {inside} already: skep device del it first");
    }
    let saved = save || running.is_none() || defined == Some(&device);
    let mut after = before.clone();
    match defined {
        Some(defined) if *defined == device => {}
        Some(defined) if saved => bail!(
            "the definition of container {name:?} has {} on {inside}: skep device del --save takes it away first",
            defined.source
        ),
        _ if saved => after.devices.push(device.clone()),
        _ => {}
    }
    checkconfig::refuse_new(manager, Some(&before), &after)?;
    if let Some(running) = &running {
        let noted = added.clone();
        let old = rules(manager, name, &added)?;
        let now = [&old[..], std::slice::from_ref(&rule)].concat();
        added.device_rules.insert(inside.to_owned(), rule);
        added.rules = Some(now.clone());
        if defined == Some(&device) {
            added.removed_devices.retain(|known| !same(known, inside));
        } else {
            added.devices.push(device.clone());
        }
        let was_there = look_inside(running, inside)?.is_some();
        // It may be opened before it can be seen, so that nobody sees it and is refused.
        let made = allow(manager, name, running, &now)
            .and_then(|()| manager.runtime.inside(name, &["node", &device.source, inside]))
            .and_then(|()| running.write(&added))
            .and_then(|()| keep(manager, &before, &after));
        if let Err(error) = made {
            manager.runtime.set_device_rules(name, &old).context("and its rules for devices stay changed")?;
            if !was_there {
                manager.runtime.inside(name, &["remove-node", inside]).context("and its node stays")?;
            }
            running.write(&noted)?;
            return Err(error);
        }
    } else {
        keep(manager, &before, &after)?;
    }
    Ok(device_row(&device, running.is_some(), saved))
}

fn remove_device(manager: &Manager, name: &str, inside: &str, save: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let before = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    let fits = |device: &&Device| same(&device.destination, inside);
    let Some(device) = added.devices.iter().chain(&before.devices).find(fits).cloned() else {
        bail!("container {name:?} has no device of the host on {inside}: skep device ls {name} lists what it has");
    };
    let was_added = added.devices.iter().any(|device| fits(&device));
    let is_removed = !was_added && added.removed_devices.iter().any(|known| same(known, inside));
    if is_removed && !save {
        bail!("{inside} was taken away from container {name:?} already: --save keeps it out of its next start");
    }
    if let Some(running) = running.as_ref().filter(|_| !is_removed) {
        forbid(manager, name, running, &mut added, &device)?;
        added.devices.retain(|device| !fits(&device));
        if is_there(&before.devices, inside) {
            added.removed_devices.insert(device.destination.clone());
        }
        running.write(&added)?;
    }
    if save || running.is_none() {
        let mut after = before.clone();
        after.devices.retain(|device| !fits(&device));
        keep(manager, &before, &after)?;
    }
    Ok(())
}

/// Takes a device away: its rule, then its node. What the container has put over the node stays, and is told.
fn forbid(manager: &Manager, name: &str, running: &Running, added: &mut Added, device: &Device) -> Result<()> {
    let inside = &device.destination;
    let old = rules(manager, name, added)?;
    // The numbers of a device that was added are known; those of one that was there at the start are what its path has.
    let rule = match added.device_rules.remove(inside) {
        Some(rule) => rule,
        None => rule(device).with_context(|| {
            format!("cannot tell which rule is that of {inside}; a restart without the device takes it away")
        })?,
    };
    let Some(at) = old.iter().rposition(|known| covers(known, &rule)) else {
        bail!(
            "no rule of container {name:?} is that of {}: it is another device now; a restart takes the old rule away",
            device.source
        );
    };
    let is_other = match look_inside(running, inside)? {
        None => false,
        Some(Inside::Device(major, minor)) => rule["major"] != major || rule["minor"] != minor,
        Some(Inside::Other) => true,
    };
    if is_other {
        bail!(
            "what is on {inside} in container {name:?} is not {}: the container has put something of its own there, which it has \
             to take away first",
            device.source
        );
    }
    let mut now = old.clone();
    now.remove(at);
    manager.runtime.set_device_rules(name, &now)?;
    if let Err(error) = manager.runtime.inside(name, &["remove-node", inside]) {
        manager.runtime.set_device_rules(name, &old).context("and its rule for the device is gone")?;
        return Err(error);
    }
    added.rules = Some(now);
    Ok(())
}

/// What is at a place of a container.
#[derive(Debug, PartialEq, Eq)]
enum Inside {
    /// A device with these numbers.
    Device(u32, u32),
    /// Anything else.
    Other,
}

/// Looks at a place of a container; `None` where nothing is.
fn look_inside(running: &Running, inside: &str) -> Result<Option<Inside>> {
    let root = sys::fs::open(&format!("/proc/{}/root", running.pid), OFlags::PATH | OFlags::DIRECTORY)?;
    let place = match sys::fs::open_in_root(root.as_fd(), inside, OFlags::PATH) {
        Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    let stat = sys::fs::stat(place.as_fd())?;
    Ok(Some(match sys::fs::file_type(&stat) {
        FileType::CharacterDevice | FileType::BlockDevice => {
            Inside::Device(sys::fs::major(stat.st_rdev), sys::fs::minor(stat.st_rdev))
        }
        _ => Inside::Other,
    }))
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
    let before = Definition::need(&manager.places, name)?;
    let mut definition = before.clone();
    if definition.network == Network::Host {
        bail!("container {name:?} has the host's own network: it has {device} already");
    }
    let (running, mut added) = added::look(manager, name)?;
    if definition.links.iter().any(|link| link.name == inside) {
        bail!("container {name:?} has a link {inside:?} in its definition already");
    }
    let saved = save || running.is_none();
    if saved {
        definition.links.push(spec);
        checkconfig::refuse_new(manager, Some(&before), &definition)?;
    }
    if let Some(running) = &running {
        let namespace = running.network_namespace()?;
        let moved = ::network::read_device_move(device, Some(inside), namespace.as_fd())?;
        added::move_link(running, &mut added, &moved)?;
    }
    keep(manager, &before, &definition)?;
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
    let is_removed = |device: &Device| added.removed_devices.iter().any(|known| same(known, &device.destination));
    let defined = |device: &Device| device_row(device, runs && !is_removed(device), true);
    let mut rows: Vec<Row> = definition.devices.iter().map(defined).collect();
    let hot = added.devices.iter().filter(|device| !definition.devices.contains(device));
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
