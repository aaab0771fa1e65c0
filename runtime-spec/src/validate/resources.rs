//! Limits.
//!
//! Values that mean "not set" to the runtimes that callers know, such as 0 for most limits, become `None`.

mod block_io;
mod cpu;
mod memory;

use std::collections::{BTreeMap, BTreeSet};

use super::{check_nul, items, net_devices, quote, required, text};
use crate::finding::{Log, Path};
use crate::model::{DeviceRule, DeviceRuleKind, HugepageLimit, Limit, NetworkLimits, RdmaLimit, Resources};
use crate::oci;

const DEVICES: &str = "config-linux.md, allowed device list";

/// What limits are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new container: what is absent has the kernel's default.
    Create,
    /// A change: what is absent has a value that is not known here.
    Update,
}

/// Judges and lowers `resources`.
pub(super) fn lower(resources: &oci::LinuxResources, purpose: Purpose, at: &Path<'_>, log: &mut Log) -> Resources {
    let silent_memory = oci::Memory::default();
    let memory = resources.memory.as_ref().unwrap_or(&silent_memory);
    let silent_cpu = oci::Cpu::default();
    let cpu = resources.cpu.as_ref().unwrap_or(&silent_cpu);
    let silent_io = oci::BlockIo::default();
    let block_io = resources.block_io.as_ref().unwrap_or(&silent_io);
    Resources {
        devices: devices(items(&resources.devices), &at.key("devices"), log),
        memory: memory::lower(memory, purpose, &at.key("memory"), log),
        cpu: cpu::lower(cpu, &at.key("cpu"), log),
        pids: pids(resources.pids.as_ref(), &at.key("pids"), log),
        block_io: block_io::lower(block_io, &at.key("blockIO"), log),
        hugepages: hugepages(items(&resources.hugepage_limits), &at.key("hugepageLimits"), log),
        network: network(resources.network.as_ref(), &at.key("network"), log),
        rdma: rdma(resources.rdma.as_ref(), &at.key("rdma"), log),
        unified: unified(resources.unified.as_ref(), &at.key("unified"), log),
    }
}

fn devices(list: &[oci::DeviceRule], at: &Path<'_>, log: &mut Log) -> Vec<DeviceRule> {
    list.iter().enumerate().filter_map(|(index, rule)| device_rule(rule, &at.item(index), log)).collect()
}

fn device_rule(rule: &oci::DeviceRule, at: &Path<'_>, log: &mut Log) -> Option<DeviceRule> {
    const KINDS: [(&str, Option<DeviceRuleKind>); 3] =
        [("a", None), ("c", Some(DeviceRuleKind::Char)), ("b", Some(DeviceRuleKind::Block))];
    let allow = required(rule.allow, &at.key("allow"), DEVICES, log);
    let access = text(&rule.access).unwrap_or_default();
    let access_at = at.key("access");
    if access.is_empty() {
        log.error(&access_at, DEVICES, "must have at least one of r, w and m");
    } else if !access.bytes().all(|b| b"rwm".contains(&b)) {
        let what = format_args!("is made of r, w and m; the rest of {} is ignored", quote(access)).to_string();
        log.warn(&access_at, DEVICES, what);
    }
    let kind = super::lookup(&KINDS, text(&rule.kind).unwrap_or("a"), &at.key("type"), DEVICES, log)?;
    Some(DeviceRule {
        allow,
        kind,
        major: device_number(rule.major, &at.key("major"), log),
        minor: device_number(rule.minor, &at.key("minor"), log),
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}

/// A device number; absent and -1 are any.
fn device_number(value: Option<i64>, at: &Path<'_>, log: &mut Log) -> Option<u32> {
    let value = value.filter(|value| *value != -1)?;
    let number = u32::try_from(value).ok();
    if number.is_none() {
        log.error(at, DEVICES, format_args!("must be a device number or -1 for any, not {value}"));
    }
    number
}

fn pids(pids: Option<&oci::Pids>, at: &Path<'_>, log: &mut Log) -> Option<Limit> {
    let value = pids?.limit?;
    if value < -1 {
        let at = at.key("limit");
        log.warn(&at, "config-linux.md, PIDs", format_args!("{value} is taken as -1, which is no limit"));
    }
    Some(u64::try_from(value).map_or(Limit::Max, Limit::Value))
}

fn hugepages(list: &[oci::HugepageLimit], at: &Path<'_>, log: &mut Log) -> Vec<HugepageLimit> {
    const SECTION: &str = "config-linux.md, huge page limits";
    let mut sizes = BTreeSet::new();
    let mut result = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let at = at.item(index);
        let limit = required(entry.limit, &at.key("limit"), SECTION, log);
        let at = at.key("pageSize");
        let Some(size) = text(&entry.page_size) else {
            log.error(&at, SECTION, "is required");
            continue;
        };
        if !is_page_size(size) {
            log.error(&at, SECTION, format_args!("must be a size such as 64KB, 2MB or 1GB, not {}", quote(size)));
        } else if !sizes.insert(size) {
            log.warn(&at, SECTION, format_args!("{size} stands in the list twice; the last one counts"));
        }
        result.push(HugepageLimit { page_size: size.to_owned(), limit });
    }
    result
}

/// Whether a text is a number without leading zero and one of KB, MB and GB.
fn is_page_size(text: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    digits.is_some_and(|d| !d.is_empty() && !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit()))
}

fn network(network: Option<&oci::Network>, at: &Path<'_>, log: &mut Log) -> NetworkLimits {
    const SECTION: &str = "config-linux.md, network";
    let Some(network) = network else { return NetworkLimits::default() };
    let list = at.key("priorities");
    let mut priorities = Vec::new();
    for (index, entry) in items(&network.priorities).iter().enumerate() {
        let at = list.item(index);
        let priority = required(entry.priority, &at.key("priority"), SECTION, log);
        match text(&entry.name) {
            None => log.error(&at.key("name"), SECTION, "is required"),
            Some(name) => {
                net_devices::check_name(name, &at.key("name"), SECTION, log);
                priorities.push((name.to_owned(), priority));
            }
        }
    }
    // Class 0 is what a group without a class has.
    NetworkLimits { class_id: network.class_id.filter(|id| *id != 0), priorities }
}

fn rdma(rdma: Option<&BTreeMap<String, oci::Rdma>>, at: &Path<'_>, log: &mut Log) -> BTreeMap<String, RdmaLimit> {
    const SECTION: &str = "config-linux.md, RDMA";
    let mut result = BTreeMap::new();
    for (device, limit) in rdma.into_iter().flatten() {
        let at = at.key(device);
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c == '\0') {
            log.error(&at, SECTION, format_args!("{} is not a name of a device", quote(device)));
        }
        if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            log.error(&at, SECTION, "must have hcaHandles or hcaObjects");
        }
        let limit = RdmaLimit { hca_handles: limit.hca_handles, hca_objects: limit.hca_objects };
        result.insert(device.clone(), limit);
    }
    result
}

fn unified(unified: Option<&BTreeMap<String, String>>, at: &Path<'_>, log: &mut Log) -> BTreeMap<String, String> {
    const SECTION: &str = "config-linux.md, unified";
    let Some(unified) = unified else { return BTreeMap::new() };
    for (file, value) in unified {
        let at = at.key(file);
        if matches!(file.as_str(), "" | "." | "..") || file.contains(['/', '\0']) {
            log.error(&at, SECTION, format_args!("{} is not a name of one file", quote(file)));
        }
        check_nul(value, &at, SECTION, log);
    }
    unified.clone()
}
