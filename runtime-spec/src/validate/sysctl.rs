//! Kernel parameters.
//!
//! Most of `/proc/sys` is the whole machine's. Only what a namespace holds, and only if the container has that
//! namespace, can be set.

use std::collections::BTreeMap;

use super::quote;
use crate::finding::{Log, Path};
use crate::model::{ContainerSpec, NamespaceKind};

const SECTION: &str = "config-linux.md, sysctl";

/// The parameters of an IPC namespace besides `fs.mqueue.` (ipc/ipc_sysctl.c).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Judges the parameters and gives each its name with dots as separators.
///
/// In the result a `/` inside a name stands for a dot in a file name: `net.ipv4.conf.eth0/100.rp_filter` is the file
/// `/proc/sys/net/ipv4/conf/eth0.100/rp_filter`, as in sysctl(8).
pub(super) fn lower(
    sysctl: Option<&BTreeMap<String, String>>,
    spec: &ContainerSpec,
    at: &Path<'_>,
    log: &mut Log,
) -> BTreeMap<String, String> {
    let mut result = BTreeMap::new();
    for (written, value) in sysctl.into_iter().flatten() {
        let at = at.key(written);
        let key = with_dots(written);
        if let Err(reason) = check_key(&key, spec) {
            log.error(&at, SECTION, reason);
        }
        if value.contains(['\n', '\0']) {
            log.error(&at, SECTION, format_args!("must be one line, not {}", quote(value)));
        }
        if result.insert(key, value.clone()).is_some() {
            log.error(&at, SECTION, "is set twice, in two ways of writing its name");
        }
    }
    result
}

/// The field and the parameter of the same meaning must agree: whichever is written last would win unseen.
pub(super) fn check_domainname(spec: &ContainerSpec, at: &Path<'_>, log: &mut Log) {
    let (Some(field), Some(parameter)) = (&spec.domainname, spec.sysctl.get("kernel.domainname")) else { return };
    if field != parameter {
        let parameter = quote(parameter);
        log.error(at, SECTION, format_args!("contradicts linux.sysctl[\"kernel.domainname\"], which is {parameter}"));
    }
}

/// The name with dots as separators. The first separator decides which of the two a name uses (sysctl.d(5)).
fn with_dots(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn check_key(key: &str, spec: &ContainerSpec) -> Result<(), String> {
    // As file names: the dots separate, a slash is a dot. `.` and `..` would leave the folder that the rules allow.
    if key.split('.').any(|part| matches!(part, "" | "/" | "//") || part.contains('\0')) {
        return Err("is not a name of a kernel parameter".to_owned());
    }
    if key == "kernel.hostname" {
        return Err("is not allowed: the field \"hostname\" sets it".to_owned());
    }
    let kind = namespace_of(key).ok_or("is not in a namespace: it would change the host")?;
    match spec.namespace(kind) {
        Some(_) => Ok(()),
        None => Err(format!("is of the host unless there is a namespace of type \"{}\"", kind.oci_name())),
    }
}

/// The kind of namespace that holds a parameter, by its name with dots; `None` for what is the whole machine's.
#[must_use]
pub fn namespace_of(key: &str) -> Option<NamespaceKind> {
    match key {
        key if IPC.contains(&key) || key.starts_with("fs.mqueue.") => Some(NamespaceKind::Ipc),
        key if key.starts_with("net.") => Some(NamespaceKind::Network),
        key if key.starts_with("user.") => Some(NamespaceKind::User),
        "kernel.hostname" | "kernel.domainname" => Some(NamespaceKind::Uts),
        _ => None,
    }
}
