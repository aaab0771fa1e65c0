//! The top of a definition, and the order in which its parts are judged.

use std::collections::BTreeMap;

use super::{
    check_absolute, check_nul, hooks, items, kernel_text, landlock, lookup, mounts, namespaces, process, quote,
    resources,
};
use super::{devices, memory_policy, net_devices, overlay, rdt, resources::Purpose, seccomp, sysctl, text, version};
use crate::finding::{Log, Path};
use crate::guest_cgroups::{ANNOTATION, GuestCgroups, NAMES};
use crate::model::{ContainerSpec, NamespaceKind, Personality, Propagation, Root};
use crate::oci;
use crate::ttys::{self, Ttys};

/// Longest host and domain name that the kernel takes (__NEW_UTS_LEN, include/uapi/linux/utsname.h).
const UTS_MAX: usize = 64;

/// Judges and lowers the whole definition.
pub(super) fn lower(config: &oci::Config, log: &mut Log) -> ContainerSpec {
    let root = &Path::Root;
    version::check(config.oci_version.as_deref(), &root.key("ociVersion"), log);
    let mut spec = ContainerSpec {
        oci_version: config.oci_version.clone().unwrap_or_default(),
        annotations: annotations(config.annotations.as_ref(), &root.key("annotations"), log),
        root: root_fs(config.root.as_ref(), &root.key("root"), log),
        hooks: hooks::lower(config.hooks.as_ref(), &root.key("hooks"), log),
        ..ContainerSpec::default()
    };
    match &config.process {
        Some(process) => spec.process = Some(process::lower(process, &root.key("process"), log)),
        None => log.warn(
            &root.key("process"),
            "config.md, process",
            "is absent: the container can be created but not started",
        ),
    }
    spec.landlock = landlock::lower(&spec.annotations, &root.key("annotations"), log);
    let silent = oci::Linux::default();
    let linux = config.linux.as_ref().unwrap_or(&silent);
    lower_linux(linux, &root.key("linux"), &mut spec, log);
    spec.guest_cgroups = guest_cgroups(&spec, &root.key("annotations"), log);
    spec.ttys = ttys(&spec, &root.key("annotations"), log);
    spec.overlay = overlay::lower(&spec, &root.key("annotations"), log);
    spec.hostname = uts_name(&config.hostname, &root.key("hostname"), &spec, "config.md, hostname", log);
    spec.domainname = uts_name(&config.domainname, &root.key("domainname"), &spec, "config.md, domainname", log);
    sysctl::check_domainname(&spec, &root.key("domainname"), log);
    let has_user = spec.namespace(NamespaceKind::User).is_some();
    spec.mounts = mounts::lower(items(&config.mounts), has_user, &root.key("mounts"), log);
    namespaces::check_ids(&spec, log);
    spec
}

/// Reads the annotation of [`crate::guest_cgroups`]. The namespaces have to be known.
fn guest_cgroups(spec: &ContainerSpec, at: &Path<'_>, log: &mut Log) -> Option<GuestCgroups> {
    const SECTION: &str = "docs/systems.md, groups";
    let value = spec.annotations.get(ANNOTATION)?;
    let at = &at.key(ANNOTATION);
    if spec.namespace(NamespaceKind::Cgroup).is_none() {
        log.error(at, SECTION, "needs a namespace of type \"cgroup\"");
    }
    let known = NAMES.iter().find(|(name, _)| name == value);
    if known.is_none() {
        log.error(at, SECTION, format_args!("must be \"all\" or \"unified\", not {}", quote(value)));
    }
    known.map(|(_, groups)| *groups)
}

/// Reads the annotation of [`crate::ttys`]. The process and the mounts have to be known.
fn ttys(spec: &ContainerSpec, at: &Path<'_>, log: &mut Log) -> Option<Ttys> {
    const SECTION: &str = "docs/systems.md, terminals";
    let value = spec.annotations.get(ttys::ANNOTATION)?;
    let at = &at.key(ttys::ANNOTATION);
    if !spec.process.as_ref().is_some_and(|process| process.terminal) {
        log.error(at, SECTION, "needs a process with a terminal");
    }
    let known = Ttys::parse(value);
    if known.is_none() {
        let range =
            format_args!("must be \"tty:\" or \"pts:\" and 1 to {}, not {}", ttys::MAX, quote(value)).to_string();
        log.error(at, SECTION, range);
    }
    known
}

/// Judges and lowers `linux`, namespaces first, because other rules depend on them.
fn lower_linux(linux: &oci::Linux, at: &Path<'_>, spec: &mut ContainerSpec, log: &mut Log) {
    namespaces::lower(linux, at, spec, log);
    spec.devices = devices::lower(items(&linux.devices), &at.key("devices"), log);
    spec.net_devices = net_devices::lower(linux.net_devices.as_ref(), spec, &at.key("netDevices"), log);
    spec.cgroups_path = cgroups_path(&linux.cgroups_path, &at.key("cgroupsPath"), log);
    if let Some(limits) = &linux.resources {
        spec.resources = resources::lower(limits, Purpose::Create, &at.key("resources"), log);
    }
    spec.sysctl = sysctl::lower(linux.sysctl.as_ref(), spec, &at.key("sysctl"), log);
    if let Some(filter) = &linux.seccomp {
        spec.seccomp = seccomp::lower(filter, &at.key("seccomp"), log);
    }
    spec.rootfs_propagation = rootfs_propagation(&linux.rootfs_propagation, &at.key("rootfsPropagation"), log);
    let masked = at.key("maskedPaths");
    spec.masked_paths = covered(&linux.masked_paths, spec, &masked, "config-linux.md, masked paths", log);
    let readonly = at.key("readonlyPaths");
    spec.readonly_paths = covered(&linux.readonly_paths, spec, &readonly, "config-linux.md, readonly paths", log);
    spec.mount_label = kernel_text(&linux.mount_label, &at.key("mountLabel"), "config-linux.md, mount label", log);
    spec.personality = linux.personality.as_ref().and_then(|p| personality(p, &at.key("personality"), log));
    spec.intel_rdt = linux.intel_rdt.as_ref().map(|rdt| rdt::lower(rdt, &at.key("intelRdt"), log));
    spec.memory_policy =
        linux.memory_policy.as_ref().and_then(|policy| memory_policy::lower(policy, &at.key("memoryPolicy"), log));
}

fn annotations(
    annotations: Option<&BTreeMap<String, String>>,
    at: &Path<'_>,
    log: &mut Log,
) -> BTreeMap<String, String> {
    let annotations = annotations.cloned().unwrap_or_default();
    if annotations.contains_key("") {
        log.error(&at.key(""), "config.md, annotations", "must not have an empty key");
    }
    annotations
}

fn root_fs(root: Option<&oci::Root>, at: &Path<'_>, log: &mut Log) -> Root {
    const SECTION: &str = "config.md, root";
    let Some(root) = root else {
        log.error(at, SECTION, "is required");
        return Root::default();
    };
    let path = kernel_text(&root.path, &at.key("path"), SECTION, log);
    if path.is_none() {
        log.error(&at.key("path"), SECTION, "is required and must not be empty");
    }
    Root { path: path.unwrap_or_default(), readonly: root.readonly.unwrap_or(false) }
}

/// Host or domain name: needs a UTS namespace, made or joined, or it would rename the host.
fn uts_name(
    name: &Option<String>,
    at: &Path<'_>,
    spec: &ContainerSpec,
    section: &'static str,
    log: &mut Log,
) -> Option<String> {
    let name = kernel_text(name, at, section, log)?;
    if spec.namespace(NamespaceKind::Uts).is_none() {
        log.error(at, section, format_args!("{} needs a namespace of type \"uts\"", quote(&name)));
    }
    if name.len() > UTS_MAX {
        log.error(at, section, format_args!("{} is longer than {UTS_MAX} bytes", quote(&name)));
    }
    Some(name)
}

/// The path of the cgroup. `..` cannot lead out of the hierarchy: it is resolved as if the start were the root.
fn cgroups_path(path: &Option<String>, at: &Path<'_>, log: &mut Log) -> Option<String> {
    const SECTION: &str = "config-linux.md, cgroups path";
    let path = kernel_text(path, at, SECTION, log)?;
    // `slice:prefix:name` for the systemd driver is not a path.
    if path.contains(':') || !path.split('/').any(|part| part == "..") {
        return Some(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "" | "." => {}
            part => parts.push(part),
        }
    }
    let clean = format!("{}{}", if path.starts_with('/') { "/" } else { "" }, parts.join("/"));
    log.warn(at, SECTION, format_args!("{} has \"..\" and is used as {}", quote(&path), quote(&clean)));
    Some(clean).filter(|path| !path.is_empty())
}

fn rootfs_propagation(value: &Option<String>, at: &Path<'_>, log: &mut Log) -> Option<Propagation> {
    let name = text(value)?;
    lookup(&super::mount_options::PROPAGATION, name, at, "config-linux.md, rootfs mount propagation", log)
}

/// Masked and read-only paths: absolute, and in a mount namespace, made or joined, or the host would see them covered.
fn covered(
    paths: &Option<Vec<String>>,
    spec: &ContainerSpec,
    at: &Path<'_>,
    section: &'static str,
    log: &mut Log,
) -> Vec<String> {
    let paths = items(paths);
    for (index, path) in paths.iter().enumerate() {
        check_absolute(path, &at.item(index), section, log);
    }
    if !paths.is_empty() && spec.namespace(NamespaceKind::Mount).is_none() {
        log.error(at, section, "needs a namespace of type \"mount\"");
    }
    paths.to_vec()
}

fn personality(personality: &oci::Personality, at: &Path<'_>, log: &mut Log) -> Option<Personality> {
    const SECTION: &str = "config-linux.md, personality";
    /// PER_LINUX and PER_LINUX32 (include/uapi/linux/personality.h).
    const DOMAINS: [(&str, u64); 2] = [("LINUX", 0), ("LINUX32", 8)];
    if !items(&personality.flags).is_empty() {
        log.warn(&at.key("flags"), SECTION, "has no supported value and is ignored");
    }
    let Some(name) = text(&personality.domain) else {
        log.error(&at.key("domain"), SECTION, "is required");
        return None;
    };
    check_nul(name, &at.key("domain"), SECTION, log);
    lookup(&DOMAINS, name, &at.key("domain"), SECTION, log).map(|domain| Personality { domain })
}
