//! Network devices that move into the container.

use std::collections::{BTreeMap, BTreeSet};

use super::{quote, text};
use crate::finding::{Log, Path};
use crate::model::{ContainerSpec, NamespaceKind, NetDevice};
use crate::oci;

const SECTION: &str = "config-linux.md, network devices";

/// Judges and lowers `netDevices`.
pub(super) fn lower(
    devices: Option<&BTreeMap<String, oci::NetDevice>>,
    spec: &ContainerSpec,
    at: &Path<'_>,
    log: &mut Log,
) -> Vec<NetDevice> {
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Vec::new() };
    if spec.namespace(NamespaceKind::Network).is_none() {
        log.error(at, SECTION, "needs a namespace of type \"network\"");
    }
    let mut taken = BTreeSet::new();
    let mut result = Vec::with_capacity(devices.len());
    for (host_name, device) in devices {
        let at = at.key(host_name);
        let name_at = at.key("name");
        let given = text(&device.name);
        check_name(host_name, &at, SECTION, log);
        let name = given.unwrap_or(host_name);
        if given.is_some() {
            check_name(name, &name_at, SECTION, log);
        }
        // A template such as `eth%d` names a different device each time.
        if !taken.insert(name) && !name.contains("%d") {
            log.error(&name_at, SECTION, format_args!("{} is the name of another device too", quote(name)));
        }
        result.push(NetDevice { host_name: host_name.clone(), name: name.to_owned() });
    }
    result
}

/// Refuses what the kernel refuses as the name of a network device (net/core/dev.c, `dev_valid_name`).
pub(super) fn check_name(name: &str, at: &Path<'_>, section: &'static str, log: &mut Log) {
    /// IFNAMSIZ is 16 with the final NUL.
    const MAX: usize = 15;
    let space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    if name.is_empty() || name == "." || name == ".." || name.contains(|c: char| c == '/' || c == ':' || space(c)) {
        log.error(at, section, format_args!("{} is not a name of a network device", quote(name)));
    } else if name.len() > MAX {
        log.error(at, section, format_args!("{} is longer than {MAX} bytes", quote(name)));
    }
    super::check_nul(name, at, section, log);
}
