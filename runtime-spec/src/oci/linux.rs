//! The part for Linux (config-linux.md).

use std::collections::BTreeMap;

use super::{IdMapping, LinuxResources};

object! {
    /// `linux`.
    Linux {
        "uidMappings" uid_mappings: Vec<IdMapping>,
        "gidMappings" gid_mappings: Vec<IdMapping>,
        "sysctl" sysctl: BTreeMap<String, String>,
        "resources" resources: LinuxResources,
        "cgroupsPath" cgroups_path: String,
        "namespaces" namespaces: Vec<Namespace>,
        "devices" devices: Vec<Device>,
        "netDevices" net_devices: BTreeMap<String, NetDevice>,
        "seccomp" seccomp: Seccomp,
        "rootfsPropagation" rootfs_propagation: String,
        "maskedPaths" masked_paths: Vec<String>,
        "readonlyPaths" readonly_paths: Vec<String>,
        "mountLabel" mount_label: String,
        "intelRdt" intel_rdt: IntelRdt,
        "memoryPolicy" memory_policy: MemoryPolicy,
        "personality" personality: Personality,
        "timeOffsets" time_offsets: BTreeMap<String, TimeOffset>,
    }

    /// One namespace.
    Namespace {
        "type" kind: String,
        "path" path: String,
    }

    /// Offset of one clock.
    TimeOffset {
        "secs" secs: i64,
        "nanosecs" nanosecs: u32,
    }

    /// One device node.
    Device {
        "path" path: String,
        "type" kind: String,
        "major" major: i64,
        "minor" minor: i64,
        "fileMode" file_mode: u32,
        "uid" uid: u32,
        "gid" gid: u32,
    }

    /// One network device to move.
    NetDevice {
        "name" name: String,
    }

    /// The system call filter.
    Seccomp {
        "defaultAction" default_action: String,
        "defaultErrnoRet" default_errno_ret: u64,
        "architectures" architectures: Vec<String>,
        "flags" flags: Vec<String>,
        "listenerPath" listener_path: String,
        "listenerMetadata" listener_metadata: String,
        "syscalls" syscalls: Vec<SeccompSyscall>,
    }

    /// One rule of the filter.
    SeccompSyscall {
        "names" names: Vec<String>,
        "action" action: String,
        "errnoRet" errno_ret: u64,
        "args" args: Vec<SeccompArg>,
    }

    /// One condition of a rule.
    SeccompArg {
        "index" index: u64,
        "value" value: u64,
        "valueTwo" value_two: u64,
        "op" op: String,
    }

    /// Intel resource director.
    IntelRdt {
        "closID" clos_id: String,
        "schemata" schemata: Vec<String>,
        "l3CacheSchema" l3_cache_schema: String,
        "memBwSchema" mem_bw_schema: String,
        "enableMonitoring" enable_monitoring: bool,
    }

    /// NUMA memory policy.
    MemoryPolicy {
        "mode" mode: String,
        "nodes" nodes: String,
        "flags" flags: Vec<String>,
    }

    /// Execution domain.
    Personality {
        "domain" domain: String,
        "flags" flags: Vec<String>,
    }
}
