//! What this runtime understands, whatever the host can do (features.md, features-linux.md).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::validate::{HOOK_POINTS, memory_policy, mount_options, seccomp};
use crate::{capabilities, guest_cgroups, landlock, model::NamespaceKind, overlay, ttys};

/// The features document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Oldest `ociVersion` that is taken.
    pub oci_version_min: &'static str,
    /// Newest `ociVersion` that is fully understood.
    pub oci_version_max: String,
    /// Points at which hooks run.
    pub hooks: Vec<&'static str>,
    /// Mount options that are not the file system's own.
    pub mount_options: Vec<&'static str>,
    /// The part for Linux.
    pub linux: Linux,
    /// Free keys and values about the runtime. Empty here: whoever prints the document knows its own version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Annotations of a definition that change what the runtime does; a final dot makes it a prefix.
    pub potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// The part for Linux.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// Types of namespace.
    pub namespaces: Vec<&'static str>,
    /// Names of capabilities.
    pub capabilities: Vec<&'static str>,
    /// Control groups.
    pub cgroup: Cgroup,
    /// System call filters.
    pub seccomp: Seccomp,
    /// AppArmor profiles.
    pub apparmor: Enabled,
    /// SELinux labels.
    pub selinux: Enabled,
    /// Intel resource director.
    pub intel_rdt: IntelRdt,
    /// NUMA memory policies.
    pub memory_policy: MemoryPolicy,
    /// Mounts with features of their own.
    pub mount_extensions: MountExtensions,
    /// Moving network devices.
    pub net_devices: Enabled,
}

/// A feature that is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Whether it is there.
    pub enabled: bool,
}

/// Control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroup {
    /// The layout of version 1.
    pub v1: bool,
    /// The layout of version 2.
    pub v2: bool,
    /// systemd as the manager of the machine.
    pub systemd: bool,
    /// systemd as the manager of a user.
    pub systemd_user: bool,
    /// The RDMA controller.
    pub rdma: bool,
}

/// System call filters.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Whether filters are there.
    pub enabled: bool,
    /// Names of actions.
    pub actions: Vec<&'static str>,
    /// Names of comparisons.
    pub operators: Vec<&'static str>,
    /// Names of architectures whose system calls are known by number.
    pub archs: Vec<&'static str>,
    /// Names of flags.
    pub known_flags: Vec<&'static str>,
    /// Names of flags that can be set.
    pub supported_flags: Vec<&'static str>,
}

/// Intel resource director.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IntelRdt {
    /// Whether it is there.
    pub enabled: bool,
    /// The field `schemata`.
    pub schemata: bool,
    /// The field `enableMonitoring`.
    pub monitoring: bool,
}

/// NUMA memory policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoryPolicy {
    /// Names of modes.
    pub modes: Vec<&'static str>,
    /// Names of flags.
    pub flags: Vec<&'static str>,
}

/// Mounts with features of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MountExtensions {
    /// Mounts with mapped ids.
    pub idmap: Enabled,
}

/// The features of this runtime. `annotations` is for the caller to fill.
#[must_use]
pub fn features() -> Features {
    let mut namespaces = NamespaceKind::ALL.map(NamespaceKind::oci_name).to_vec();
    namespaces.sort_unstable();
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: crate::version(),
        hooks: HOOK_POINTS.to_vec(),
        mount_options: names(&mount_options::OPTIONS),
        linux: Linux {
            namespaces,
            capabilities: capabilities::NAMES.to_vec(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: seccomp_features(),
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy { modes: names(&memory_policy::MODES), flags: names(&memory_policy::FLAGS) },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            net_devices: Enabled { enabled: true },
        },
        annotations: BTreeMap::new(),
        potentially_unsafe_config_annotations: vec![
            guest_cgroups::ANNOTATION,
            landlock::ANNOTATION,
            overlay::ANNOTATION,
            ttys::ANNOTATION,
            "org.criu.config",
            "org.systemd.property.",
        ],
    }
}

fn seccomp_features() -> Seccomp {
    let flags = names(&seccomp::FLAGS);
    let archs = seccomp::ARCHITECTURES.iter().filter(|(_, has_table)| *has_table).map(|(name, _)| *name).collect();
    Seccomp {
        enabled: true,
        actions: names(&seccomp::ACTIONS),
        operators: names(&seccomp::OPERATORS),
        archs,
        known_flags: flags.clone(),
        supported_flags: flags,
    }
}

fn names<T>(table: &'static [(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}
