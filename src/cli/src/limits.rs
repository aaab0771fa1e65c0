//! The single limits of `update` as a `linux.resources` object.

use runtime_spec::oci::{BlockIo, Cpu, LinuxResources, Memory, Pids};

use crate::args::command::Limits;

/// Renders limits as the object that `update --resources` would read. A group of limits of which none was given is
/// absent.
#[must_use]
pub fn render_resources(limits: &Limits) -> LinuxResources {
    let memory = Memory {
        limit: limits.memory,
        reservation: limits.memory_reservation,
        // Without a limit on memory one on both together has no use, and the kernel refuses to go the other way.
        swap: limits.memory_swap.or(limits.memory.filter(|limit| *limit == -1)),
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: limits.cpu_shares,
        quota: limits.cpu_quota,
        burst: limits.cpu_burst,
        period: limits.cpu_period,
        realtime_runtime: limits.cpu_rt_runtime,
        realtime_period: limits.cpu_rt_period,
        cpus: limits.cpuset_cpus.clone(),
        mems: limits.cpuset_mems.clone(),
        idle: limits.cpu_idle,
    };
    let block_io = BlockIo { weight: limits.blkio_weight, ..BlockIo::default() };
    let pids = Pids { limit: limits.pids };
    LinuxResources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        block_io: (block_io != BlockIo::default()).then_some(block_io),
        pids: (pids != Pids::default()).then_some(pids),
        ..LinuxResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limits: &Limits, expected: &str) {
        assert_eq!(serde_json::to_string(&render_resources(limits)).expect("JSON"), expected);
    }

    #[test]
    fn only_what_was_given_is_there() {
        check(&Limits::default(), "{}");
        check(&Limits { pids: Some(-1), ..Limits::default() }, r#"{"pids":{"limit":-1}}"#);
        let limits = Limits { cpu_quota: Some(5), cpuset_mems: Some("0".to_owned()), ..Limits::default() };
        check(&limits, r#"{"cpu":{"quota":5,"mems":"0"}}"#);
        check(&Limits { blkio_weight: Some(10), ..Limits::default() }, r#"{"blockIO":{"weight":10}}"#);
    }

    #[test]
    fn no_limit_on_memory_is_none_on_swap_either() {
        let limits = Limits { memory: Some(-1), ..Limits::default() };
        check(&limits, r#"{"memory":{"limit":-1,"swap":-1}}"#);
        let limits = Limits { memory: Some(-1), memory_swap: Some(7), ..Limits::default() };
        check(&limits, r#"{"memory":{"limit":-1,"swap":7}}"#);
        let limits = Limits { memory: Some(7), memory_reservation: Some(6), ..Limits::default() };
        check(&limits, r#"{"memory":{"limit":7,"reservation":6}}"#);
    }
}
