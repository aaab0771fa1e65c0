//! Limits (config-linux.md, control groups), which `update` also reads alone.

use std::collections::BTreeMap;

object! {
    /// `linux.resources`.
    LinuxResources {
        "devices" devices: Vec<DeviceRule>,
        "memory" memory: Memory,
        "cpu" cpu: Cpu,
        "pids" pids: Pids,
        "blockIO" block_io: BlockIo,
        "hugepageLimits" hugepage_limits: Vec<HugepageLimit>,
        "network" network: Network,
        "rdma" rdma: BTreeMap<String, Rdma>,
        "unified" unified: BTreeMap<String, String>,
    }

    /// One device access rule.
    DeviceRule {
        "allow" allow: bool,
        "type" kind: String,
        "major" major: i64,
        "minor" minor: i64,
        "access" access: String,
    }

    /// Memory, in bytes.
    Memory {
        "limit" limit: i64,
        "reservation" reservation: i64,
        "swap" swap: i64,
        "kernel" kernel: i64,
        "kernelTCP" kernel_tcp: i64,
        "swappiness" swappiness: u64,
        "disableOOMKiller" disable_oom_killer: bool,
        "useHierarchy" use_hierarchy: bool,
        "checkBeforeUpdate" check_before_update: bool,
    }

    /// CPU time, in microseconds, and CPU sets.
    Cpu {
        "shares" shares: u64,
        "quota" quota: i64,
        "burst" burst: u64,
        "period" period: u64,
        "realtimeRuntime" realtime_runtime: i64,
        "realtimePeriod" realtime_period: u64,
        "cpus" cpus: String,
        "mems" mems: String,
        "idle" idle: i64,
    }

    /// Number of tasks.
    Pids {
        "limit" limit: i64,
    }

    /// Block I/O.
    BlockIo {
        "weight" weight: u16,
        "leafWeight" leaf_weight: u16,
        "weightDevice" weight_device: Vec<WeightDevice>,
        "throttleReadBpsDevice" throttle_read_bps: Vec<ThrottleDevice>,
        "throttleWriteBpsDevice" throttle_write_bps: Vec<ThrottleDevice>,
        "throttleReadIOPSDevice" throttle_read_iops: Vec<ThrottleDevice>,
        "throttleWriteIOPSDevice" throttle_write_iops: Vec<ThrottleDevice>,
    }

    /// Weight of one device.
    WeightDevice {
        "major" major: i64,
        "minor" minor: i64,
        "weight" weight: u16,
        "leafWeight" leaf_weight: u16,
    }

    /// Rate of one device.
    ThrottleDevice {
        "major" major: i64,
        "minor" minor: i64,
        "rate" rate: u64,
    }

    /// Limit of one huge page size.
    HugepageLimit {
        "pageSize" page_size: String,
        "limit" limit: u64,
    }

    /// Network class and priorities.
    Network {
        "classID" class_id: u32,
        "priorities" priorities: Vec<InterfacePriority>,
    }

    /// Priority of one interface.
    InterfacePriority {
        "name" name: String,
        "priority" priority: u32,
    }

    /// Limit of one RDMA device.
    Rdma {
        "hcaHandles" hca_handles: u32,
        "hcaObjects" hca_objects: u32,
    }
}
